//! The client's role: a scheme that makes payments. This module names only wire types.

use async_trait::async_trait;

use crate::{AmountRule, ErrorReason, Members, PaymentKey, RawJson, Refusal, Rejection, Terms, UnixSeconds};

/// The inputs of a payment other than its terms. Time and randomness are arguments, so that a scheme needs neither a
/// clock nor a random number generator.
#[derive(Debug, Clone, Copy)]
pub struct SigningContext<'a> {
    /// The current time.
    pub now: UnixSeconds,
    /// Fresh random bytes, which `exact` uses as the nonce: any 32 bytes, or better those of [`payment_entropy`].
    pub entropy: [u8; 32],
    /// The URL of the request that is paid.
    pub url: &'a str,
    /// The HTTP method of the request that is paid.
    pub method: &'a str,
}

/// Turns random bytes into the entropy of a payment: the first 24 bytes, followed by 8 zero bytes.
///
/// Every token with EIP-3009 accepts such a nonce. OpenZeppelin's `ERC20TransferAuthorization` interprets a nonce as a
/// key of 24 bytes and a counter of 8, which is 0 for a fresh key, and accepts no other.
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
    /// The scheme's payload.
    pub payload: RawJson,
    /// Members to add to the `extra` of the echoed entry.
    pub extra: Members,
    /// The payer's account.
    pub payer: String,
    /// The identity of the authorization.
    pub key: PaymentKey,
    /// The time at which the payment expires.
    pub valid_until: UnixSeconds,
    /// Whether less than the amount of the terms may be settled.
    pub amount_rule: AmountRule,
}

impl MadePayment {
    /// Creates a payment without additions to the entry.
    #[must_use]
    pub const fn new(payload: RawJson, payer: String, key: PaymentKey, valid_until: UnixSeconds) -> Self {
        Self { payload, extra: Members::new(), payer, key, valid_until, amount_rule: AmountRule::Equal }
    }

    /// Marks a payment of which at most the amount of the terms is settled, so that a budget keeps what the receipt reports.
    #[must_use]
    pub const fn with_settlement_at_most(mut self) -> Self {
        self.amount_rule = AmountRule::AtMost;
        self
    }
}

/// A scheme that can make payments.
#[async_trait]
pub trait MakePayment: Send + Sync {
    /// Returns whether these terms can be paid: scheme, network, transfer method, flow. The method does no I/O.
    fn can_pay(&self, terms: &Terms) -> bool;

    /// Explains why these terms cannot be paid, naming the member at fault. Returns `None` if they can be paid, or if
    /// they are not this scheme's.
    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        let _ = terms;
        None
    }

    /// Signs one payment for the terms.
    ///
    /// # Errors
    /// `Rejection` for terms that cannot be paid, `Fault` for a signer that fails.
    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal>;

    /// Removes the cause for which a server refused a payment for the terms before it settled anything, such as a missing
    /// allowance, and returns whether the same payment can be sent again. The client calls the method once for a payment.
    /// The refusal is the server's statement, and may be false.
    ///
    /// # Errors
    /// `Rejection` for terms that are not paid after all, `Fault` where the remedy fails or its result is not known in time.
    async fn remedy(&self, terms: &Terms, refused: &ErrorReason) -> Result<bool, Refusal> {
        let _ = (terms, refused);
        Ok(false)
    }
}

#[async_trait]
impl<M: MakePayment + ?Sized> MakePayment for std::sync::Arc<M> {
    fn can_pay(&self, terms: &Terms) -> bool {
        (**self).can_pay(terms)
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        (**self).objection(terms)
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        (**self).make_payment(terms, context).await
    }

    async fn remedy(&self, terms: &Terms, refused: &ErrorReason) -> Result<bool, Refusal> {
        (**self).remedy(terms, refused).await
    }
}
