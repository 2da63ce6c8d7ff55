//! [Contract ABI](https://docs.soliditylang.org/en/latest/abi-spec.html) in the only form that encoders produce, each
//! part directly after the one before: the "strict mode" of that document.

use alloy_sol_types::abi::AbiDecoderConfig;

/// The decoder for nested arrays from untrusted sources. If offsets may point anywhere, every element of an array can
/// be the same array: 32 kB describe a gigabyte, all of it allocated before the bytes are compared with their canonical
/// encoding.
pub(crate) const STRICT: AbiDecoderConfig = AbiDecoderConfig::new().strict(true);
