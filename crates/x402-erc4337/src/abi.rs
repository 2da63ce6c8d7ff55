//! [Contract ABI](https://docs.soliditylang.org/en/latest/abi-spec.html) as its encoders write it, each part behind
//! the one before: "strict mode" there.

use alloy_sol_types::abi::AbiDecoderConfig;

/// How nested arrays of strangers are read. Where offsets may point anywhere, every element of an array can be the same
/// array: 32 kB name a gigabyte, all of it allocated before the bytes are compared with what would be written.
pub(crate) const STRICT: AbiDecoderConfig = AbiDecoderConfig::new().strict(true);
