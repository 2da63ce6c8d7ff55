//! Keys that sign: one in this process, or any other signer of digests.

use alloy_primitives::{Address, B256, eip191_hash_message};
use async_trait::async_trait;
use x402_types::Fault;

use crate::signature::Signature;

#[cfg(any(feature = "key", feature = "libsecp256k1"))]
mod local;
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
pub use local::{Key, KeyError};

/// A signer of digests by the key of an account without code.
///
/// [`Key`] holds the private key in this process. With the feature `alloy-signer` every signer of alloy is one, too.
#[async_trait]
pub trait Sign: Send + Sync {
    /// Returns the account of the key.
    fn address(&self) -> Address;

    /// Signs a digest.
    ///
    /// # Errors
    /// The signer failed, or its response is not a signature.
    async fn sign(&self, digest: B256) -> Result<Signature, Fault>;

    /// Signs a message, wrapped as [EIP-191](https://eips.ethereum.org/EIPS/eip-191) requires.
    ///
    /// # Errors
    /// The signer failed, or its response is not a signature.
    async fn sign_message(&self, message: &[u8]) -> Result<Signature, Fault> {
        self.sign(eip191_hash_message(message)).await
    }
}

#[cfg(feature = "alloy-signer")]
#[async_trait]
impl<S: alloy_signer::Signer + Send + Sync> Sign for S {
    fn address(&self) -> Address {
        alloy_signer::Signer::address(self)
    }

    async fn sign(&self, digest: B256) -> Result<Signature, Fault> {
        read(self.sign_hash(&digest).await)
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Signature, Fault> {
        read(alloy_signer::Signer::sign_message(self, message).await)
    }
}

#[cfg(feature = "alloy-signer")]
fn read(signed: alloy_signer::Result<alloy_primitives::Signature>) -> Result<Signature, Fault> {
    let signed = signed.map_err(|why| Fault::unreachable("the signer", why))?;
    Signature::try_from(signed).map_err(|why| Fault::unreachable("the signer", why))
}
