//! The client's half: signs one EIP-3009 authorization for the terms.

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use x402_types::{
    ErrorReason, EvmAddress, Fault, MadePayment, MakePayment, Refusal, Rejection, SigningContext, Terms, UnixSeconds,
    Version,
};

use super::terms::{self, Asked};
use crate::eip3009::{Authorization, Payload};
use crate::key::Sign;
use crate::token::Tokens;

/// Signs for an account: with the account's own key, or with any signature that a smart account accepts by EIP-1271.
///
/// Every [`Sign`] implements it. For a smart account it returns the bytes that the account's `isValidSignature` accepts
/// for the digest, wrapped by EIP-6492 if the account is not deployed yet.
#[async_trait]
pub trait SignAs: Send + Sync {
    /// Returns the account.
    fn account(&self) -> Address;

    /// Signs an EIP-712 digest for the account.
    /// # Errors
    /// The signer did not respond, or its response is not a signature.
    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault>;
}

#[async_trait]
impl<S: Sign> SignAs for S {
    fn account(&self) -> Address {
        self.address()
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        Ok(self.sign(digest).await?.to_bytes().into())
    }
}

/// Pays `exact` with a [`Key`](crate::key::Key), with any other [`Sign`], or for a smart account with a [`SignAs`].
///
/// It signs for known tokens, under their known domain. [`Payer::with_any_token`] makes it sign also for others, under
/// the domain that the server states.
pub struct Payer<S> {
    signer: S,
    tokens: Tokens,
    any_token: bool,
}

impl<S: SignAs> core::fmt::Debug for Payer<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Payer").field("address", &self.signer.account()).finish_non_exhaustive()
    }
}

impl<S: SignAs> Payer<S> {
    /// Creates a payer in the default assets.
    #[must_use]
    pub fn new(signer: S) -> Self {
        Self { signer, tokens: Tokens::default(), any_token: false }
    }

    /// Pays only in these tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Pays also in unknown tokens: only the server's statement then determines name and version.
    #[must_use]
    pub fn with_any_token(mut self) -> Self {
        self.any_token = true;
        self
    }

    /// Returns the payer's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.account()
    }

    fn prepare(&self, terms: &Terms) -> Result<Asked, Rejection> {
        let chain = terms.network.evm_chain();
        let chain =
            chain.map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        terms::read(terms, chain, |asset| match self.tokens.find(terms.network, asset) {
            None if !self.any_token => Err("asset: not a token that this client knows"),
            token => Ok(token),
        })
    }
}

#[async_trait]
impl<S: SignAs> MakePayment for Payer<S> {
    fn can_pay(&self, terms: &Terms) -> bool {
        self.prepare(terms).is_ok()
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        self.prepare(terms).err()
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let Asked { token, pay_to, domain } = self.prepare(terms)?;
        let authorization = Authorization {
            from: self.signer.account(),
            to: pay_to,
            value: terms.amount,
            // Clients of version 1 allow for a clock that is ten minutes slow, those of version 2 for any clock.
            valid_after: match terms.version {
                Version::V1 => UnixSeconds(context.now.0.saturating_sub(600)),
                Version::V2 => UnixSeconds(0),
            },
            valid_before: context.now.plus(terms.max_timeout_seconds.get()),
            nonce: context.entropy.into(),
        };
        let signature = self.signer.sign_digest(authorization.digest(domain.separator)).await?;
        let payload = Payload { authorization, signature };
        Ok(MadePayment::new(
            payload.to_json(),
            EvmAddress::from(authorization.from).to_string(),
            authorization.key(terms.network, token),
            authorization.valid_before,
        ))
    }
}
