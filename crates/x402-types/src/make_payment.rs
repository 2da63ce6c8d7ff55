//! The client's role: a scheme that can pay. It names only wire types.

use async_trait::async_trait;

use crate::{Members, PaymentKey, RawJson, Refusal, Rejection, Terms, UnixSeconds};

/// What making a payment may depend on, beside the terms. Time and randomness are arguments.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// Now.
    pub now: UnixSeconds,
    /// Fresh random bytes, which `exact` has as the nonce: 32, or better those of [`payment_entropy`].
    pub entropy: [u8; 32],
    /// The URL that is requested.
    pub url: &'a str,
    /// The method that is used.
    pub method: &'a str,
}

/// Entropy of a payment out of random bytes: the first 24, and 8 zero bytes behind them.
///
/// Every token with EIP-3009 takes such a nonce. OpenZeppelin's `ERC20TransferAuthorization` reads a nonce as a key of
/// 24 bytes and a counter of 8, which is 0 for a fresh key, and takes no other.
#[must_use]
pub fn payment_entropy(random: [u8; 32]) -> [u8; 32] {
    let mut entropy = random;
    if let Some(counter) = entropy.last_chunk_mut::<8>() {
        *counter = [0; 8];
    }
    entropy
}

/// A payment, ready to be put into a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MadePayment {
    /// What the scheme defines.
    pub payload: RawJson,
    /// Members to add to the echoed entry's `extra`.
    pub extra: Members,
    /// Who pays.
    pub payer: String,
    /// The authorization's identity.
    pub key: PaymentKey,
    /// When it stops being valid.
    pub valid_until: UnixSeconds,
}

impl MadePayment {
    /// A payment without additions to the entry.
    #[must_use]
    pub const fn new(payload: RawJson, payer: String, key: PaymentKey, valid_until: UnixSeconds) -> Self {
        Self { payload, extra: Members::new(), payer, key, valid_until }
    }
}

/// A scheme that can pay.
#[async_trait]
pub trait MakePayment: Send + Sync {
    /// Whether these terms can be paid: scheme, network, transfer method, flow. Asks nobody.
    fn can_pay(&self, terms: &Terms) -> bool;

    /// Why these terms cannot be paid, with the member that stands in the way. `None` where they can be, or where the
    /// scheme has nothing to say of them.
    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        let _ = terms;
        None
    }

    /// Signs one payment for the terms.
    ///
    /// # Errors
    /// `Rejection` for terms that cannot be paid, `Fault` for a signer that fails.
    async fn make_payment(&self, terms: &Terms, occasion: &Occasion<'_>) -> Result<MadePayment, Refusal>;
}

#[async_trait]
impl<M: MakePayment + ?Sized> MakePayment for std::sync::Arc<M> {
    fn can_pay(&self, terms: &Terms) -> bool {
        (**self).can_pay(terms)
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        (**self).objection(terms)
    }

    async fn make_payment(&self, terms: &Terms, occasion: &Occasion<'_>) -> Result<MadePayment, Refusal> {
        (**self).make_payment(terms, occasion).await
    }
}
