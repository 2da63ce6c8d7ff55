//! [ERC-1271](https://eips.ethereum.org/EIPS/eip-1271) signatures of a Kernel, and
//! [ERC-6492](https://eips.ethereum.org/EIPS/eip-6492) around those of one that is not deployed.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, b256};
use alloy_sol_types::{SolValue, sol};

sol! {
    struct Wrapped {
        address factory;
        bytes factoryData;
        bytes signature;
    }
}

/// The last 32 bytes of a signature by ERC-6492.
const MAGIC: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");

/// Who signed for a Kernel. The signature is over [`wrapped_digest`](super::wrapped_digest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSignature {
    /// `0x00 ‖ signature`: the root validator.
    Root(Bytes),
    /// `0x01 ‖ validator ‖ signature`: an installed validator.
    Validator(Address, Bytes),
    /// `0x02 ‖ permissionId ‖ …`: a session key. It answers even after its expiry, so it is no owner's consent.
    Permission(FixedBytes<4>, Bytes),
}

/// A signature for an account that its factory makes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// The factory. Only allow-listed ones are called: their code is the signer's.
    pub factory: Address,
    /// What it is called with.
    pub factory_data: Bytes,
    /// What the account is asked about.
    pub signature: Bytes,
}

impl KernelSignature {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Root(signature) => [&[0][..], signature].concat().into(),
            Self::Validator(address, signature) => [&[1][..], address.as_slice(), signature].concat().into(),
            Self::Permission(id, signature) => [&[2][..], id.as_slice(), signature].concat().into(),
        }
    }

    /// Reads the bytes; `None` is a bare signature, which a Kernel reverts on, or another kind.
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

impl Counterfactual {
    /// `abi.encode(factory, factoryData, signature) ‖ 0x6492…`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wrapped = Wrapped {
            factory: self.factory,
            factoryData: self.factory_data.clone(),
            signature: self.signature.clone(),
        };
        [&wrapped.abi_encode_params()[..], MAGIC.as_slice()].concat().into()
    }

    /// Reads the bytes; `None` where they do not end with the magic or are not what [`encode`](Self::encode) writes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wrapped = Wrapped::abi_decode_params(bytes.strip_suffix(MAGIC.as_slice())?).ok()?;
        let read = Self { factory: wrapped.factory, factory_data: wrapped.factoryData, signature: wrapped.signature };
        (*read.encode() == *bytes).then_some(read)
    }
}
