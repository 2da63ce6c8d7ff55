//! The signature of a sign-in:
//! [sign-in-with-x](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md), "Verify Signature".

use core::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, eip191_hash_message};
use async_trait::async_trait;
use x402_evm::chain::{At, BatchRead, ReadChain};
use x402_evm::signature::{Signature, recover};
use x402_evm::wallet::{Signer, Signers};
use x402_types::{ChainId, Fault, Refusal, Rejection};

use super::{MALFORMED_SIGNATURE, SIGNATURE, SignIn, SignInAccount, VERIFIER};
use crate::keys::PublicKey;

/// The way in which an account of an EVM chain has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignedBy {
    /// The account's key has signed, which is the same one on every EVM chain.
    Key,
    /// The account's code has agreed, which is on one chain.
    Code,
}

/// Verifies signatures of accounts of EVM chains.
#[async_trait]
pub trait VerifyAccount: Send + Sync + fmt::Debug {
    /// Returns how the account has signed the digest, or `None` if it has not.
    ///
    /// # Errors
    /// The chain could not be read.
    async fn verify_account(
        &self,
        chain: ChainId,
        account: Address,
        digest: B256,
        signature: &[u8],
    ) -> Result<Option<SignedBy>, Fault>;
}

/// Accepts signatures of keys, without a chain. An account that is a contract cannot sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeysAlone;

#[async_trait]
impl VerifyAccount for KeysAlone {
    async fn verify_account(
        &self,
        _: ChainId,
        account: Address,
        digest: B256,
        signature: &[u8],
    ) -> Result<Option<SignedBy>, Fault> {
        let signer = Signature::from_bytes(signature).ok().and_then(|signature| recover(digest, &signature).ok());
        Ok((signer == Some(account)).then_some(SignedBy::Key))
    }
}

/// Accepts signatures of keys and, on the chains that it reads, of contracts: EIP-1271, EIP-6492, and EIP-7702.
///
/// On such a chain the code at the account's address decides: with code, only the code. On every other chain only keys sign.
#[derive(Clone)]
pub struct OnChains {
    chains: Vec<Arc<dyn ReadChain>>,
    signers: Signers,
}

impl OnChains {
    /// Creates a verifier without chains that accepts these signers: [`Signers::any`], with the factories of wallets that are
    /// not deployed yet.
    #[must_use]
    pub const fn new(signers: Signers) -> Self {
        Self { chains: Vec::new(), signers }
    }

    /// Reads accounts on this chain.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn ReadChain>) -> Self {
        self.chains.push(chain);
        self
    }
}

impl fmt::Debug for OnChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains: Vec<_> = self.chains.iter().map(|chain| chain.network()).collect();
        f.debug_struct("OnChains").field("chains", &chains).field("signers", &self.signers).finish()
    }
}

#[async_trait]
impl VerifyAccount for OnChains {
    async fn verify_account(
        &self,
        chain: ChainId,
        account: Address,
        digest: B256,
        signature: &[u8],
    ) -> Result<Option<SignedBy>, Fault> {
        let Some(reader) = self.chains.iter().find(|reader| reader.network() == chain) else {
            return KeysAlone.verify_account(chain, account, digest, signature).await;
        };
        let Ok(unverified) = self.signers.read(account, digest, &Bytes::copy_from_slice(signature)) else {
            return Ok(None);
        };
        let (reads, query) = unverified.ask(BatchRead::new());
        let answers = reader.run(&reads, At::Latest).await?;
        Ok(match query.verdict(&answers)?.signer() {
            Ok(Signer::Key) => Some(SignedBy::Key),
            Ok(Signer::Contract | Signer::Undeployed) => Some(SignedBy::Code),
            Err(_) => None,
        })
    }
}

impl SignIn {
    /// Verifies the signature over the message of these fields.
    ///
    /// # Errors
    /// [`SIGNATURE`] if the account has not signed, [`VERIFIER`] as the code of a fault of the verifier.
    pub async fn verify(&self, accounts: &dyn VerifyAccount) -> Result<SignedBy, Refusal> {
        let message = self.fields.message(&self.account);
        let signed = match self.account {
            SignInAccount::Ed25519(key) => {
                let signature: [u8; 64] = self
                    .signature
                    .as_slice()
                    .try_into()
                    .map_err(|_| Rejection::new(MALFORMED_SIGNATURE).because("signature: expected 64 bytes"))?;
                let good = !is_small_order(&key) && PublicKey::Ed25519(key).verifies(message.as_bytes(), &signature);
                good.then_some(SignedBy::Key)
            }
            SignInAccount::Evm(account) => {
                let digest = eip191_hash_message(message.as_bytes());
                let chain = self.fields.chain_id;
                accounts.verify_account(chain, account, digest, &self.signature).await.map_err(|fault| {
                    Refusal::Fault(Fault::unreachable("the verifier of sign-ins", format_args!("{VERIFIER}: {fault}")))
                })?
            }
        };
        let refused = || Rejection::new(SIGNATURE).because("signature: the account has not signed this message");
        signed.ok_or_else(|| refused().into())
    }
}

/// Returns whether a key is one of the points of small order, under which one signature verifies many messages.
/// RFC 8032 §5.1.7 leaves the choice; the encodings are those of [the eight
/// points](https://eprint.iacr.org/2020/1244), with those that are not reduced.
fn is_small_order(key: &[u8; 32]) -> bool {
    const POINTS: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut unsigned = *key;
    if let Some(last) = unsigned.last_mut() {
        *last &= 0x7f;
    }
    let text = alloy_primitives::hex::encode(unsigned);
    POINTS.contains(&text.as_str())
}
