//! [ERC-1271](https://eips.ethereum.org/EIPS/eip-1271) signatures of a Kernel.

use alloy_primitives::{Address, Bytes, FixedBytes};

/// A Kernel's signature, by the kind of its signer. It covers [`wrapped_digest`](super::wrapped_digest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSignature {
    /// `0x00 ‖ signature`: the root validator signed.
    Root(Bytes),
    /// `0x01 ‖ validator ‖ signature`: an installed validator signed.
    Validator(Address, Bytes),
    /// `0x02 ‖ permissionId ‖ …`: a session key signed. It is accepted even after its expiry, and therefore does not
    /// express the owner's consent.
    Permission(FixedBytes<4>, Bytes),
}

impl KernelSignature {
    /// Encodes the signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Root(signature) => [&[0][..], signature].concat().into(),
            Self::Validator(address, signature) => [&[1][..], address.as_slice(), signature].concat().into(),
            Self::Permission(id, signature) => [&[2][..], id.as_slice(), signature].concat().into(),
        }
    }

    /// Decodes a signature; returns `None` for a bare signature, on which a Kernel reverts, and for other kinds.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            0 => Some(Self::Root(Bytes::copy_from_slice(rest))),
            1 => {
                let (address, signature) = rest.split_first_chunk::<20>()?;
                Some(Self::Validator(address.into(), Bytes::copy_from_slice(signature)))
            }
            2 => {
                let (id, signature) = rest.split_first_chunk::<4>()?;
                Some(Self::Permission(id.into(), Bytes::copy_from_slice(signature)))
            }
            _ => None,
        }
    }
}
