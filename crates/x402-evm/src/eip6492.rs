//! [EIP-6492](https://eips.ethereum.org/EIPS/eip-6492): a signature for an account that is not deployed yet.

use alloy_primitives::{Address, B256, Bytes, b256};
use alloy_sol_types::{SolValue, sol};

sol! {
    struct Wrapped {
        address factory;
        bytes factoryData;
        bytes signature;
    }
}

/// The last 32 bytes of every such signature.
pub const MAGIC: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");

/// A signature for an account that its factory must create first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// The factory. Only allow-listed factories are called: the signer chooses the code.
    pub factory: Address,
    /// The calldata of the factory.
    pub factory_data: Bytes,
    /// The signature for the account.
    pub signature: Bytes,
}

impl Counterfactual {
    /// Returns whether bytes end as such a signature does.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.ends_with(MAGIC.as_slice())
    }

    /// Encodes `abi.encode(factory, factoryData, signature) ‖ 0x6492…`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wrapped = Wrapped {
            factory: self.factory,
            factoryData: self.factory_data.clone(),
            signature: self.signature.clone(),
        };
        [&wrapped.abi_encode_params()[..], MAGIC.as_slice()].concat().into()
    }

    /// Decodes the bytes; returns `None` if they do not end with the magic or are not what [`encode`](Self::encode)
    /// produces.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wrapped = Wrapped::abi_decode_params(bytes.strip_suffix(MAGIC.as_slice())?).ok()?;
        let read = Self { factory: wrapped.factory, factory_data: wrapped.factoryData, signature: wrapped.signature };
        (*read.encode() == *bytes).then_some(read)
    }
}
