//! The stores of a facilitator for cards: delegations with their counters, the books of credits, and the handles of cards.

use async_trait::async_trait;
use x402_types::nvm::PlanId;
use x402_types::{Fault, UnixSeconds};

use crate::{Cents, Delegation, DelegationId, NotCounted};

/// The name of a payment in the stores and at the processor: the SHA-256 of its key.
pub type PaymentHash = [u8; 32];

/// The delegations with their counters. Every method is one transaction.
#[async_trait]
pub trait Delegations: Send + Sync {
    /// Stores a new delegation, and returns whether its owner's card is enrolled and not removed; otherwise nothing is
    /// stored.
    ///
    /// # Errors
    /// The store failed; the delegation may be there.
    async fn create(&self, delegation: Delegation) -> Result<bool, Fault>;

    /// Reads a delegation.
    ///
    /// # Errors
    /// The store failed.
    async fn read(&self, id: &DelegationId) -> Result<Option<Delegation>, Fault>;

    /// Lists a user's delegations, the oldest first.
    ///
    /// # Errors
    /// The store failed.
    async fn list(&self, owner: &str) -> Result<Vec<Delegation>, Fault>;

    /// Revokes a delegation of this owner, and returns whether there is one. The first revocation stays.
    ///
    /// # Errors
    /// The store failed; the delegation may be revoked.
    async fn revoke(&self, id: &DelegationId, owner: &str, now: UnixSeconds) -> Result<bool, Fault>;

    /// Counts a charge of a payment. The first answer, also a refusal, stays the answer for this payment.
    ///
    /// # Errors
    /// The store failed; the charge may be counted.
    async fn reserve(&self, charge: NewCharge, now: UnixSeconds) -> Result<CardCharge, Fault>;

    /// Takes a payment's counted charge back, once, and adds what became of it.
    ///
    /// # Errors
    /// The store failed; the charge may be taken back.
    async fn release(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault>;

    /// Adds what became of a payment's charge. The counter stays.
    ///
    /// # Errors
    /// The store failed; it may be added.
    async fn record(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault>;

    /// Reads the charge of a payment.
    ///
    /// # Errors
    /// The store failed.
    async fn charge(&self, payment: &PaymentHash) -> Result<Option<CardCharge>, Fault>;

    /// Lists the charges of a delegation, the oldest first.
    ///
    /// # Errors
    /// The store failed.
    async fn charges(&self, id: &DelegationId) -> Result<Vec<CardCharge>, Fault>;
}

/// A charge to be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCharge {
    /// The payment's name.
    pub payment: PaymentHash,
    /// The delegation's id.
    pub delegation: DelegationId,
    /// The amount in cents.
    pub cents: Cents,
}

/// A charge in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CardCharge {
    /// The payment's name.
    pub payment: PaymentHash,
    /// The delegation's id.
    pub delegation: DelegationId,
    /// The amount in cents.
    pub cents: Cents,
    /// Whether the counter includes it.
    pub state: ChargeState,
    /// The result, as far as it is known. No decision is made by it.
    pub end: Option<ChargeEnd>,
    /// The time at which it was counted or refused.
    pub at: UnixSeconds,
}

impl CardCharge {
    /// Makes a charge with what the store decided.
    #[must_use]
    pub fn new(new: NewCharge, state: ChargeState, at: UnixSeconds) -> Self {
        let NewCharge { payment, delegation, cents } = new;
        Self { payment, delegation, cents, state, end: None, at }
    }
}

/// Whether the counter includes a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeState {
    /// The counter includes it.
    Counted,
    /// The delegation did not allow it, and the counter never included it.
    Refused(NotCounted),
    /// The counter included it, and no longer does.
    Released,
}

/// The end of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChargeEnd {
    /// The result of the charge.
    pub result: ChargeResult,
    /// The intent at the processor.
    pub intent: Option<String>,
    /// The refund at the processor.
    pub refund: Option<String>,
    /// The code of the failure.
    pub failure: Option<String>,
}

impl ChargeEnd {
    /// Makes a result with the intent that it is about.
    #[must_use]
    pub const fn new(result: ChargeResult, intent: Option<String>) -> Self {
        Self { result, intent, refund: None, failure: None }
    }
}

/// The result of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeResult {
    /// The card was charged.
    Succeeded,
    /// The card was not charged.
    Failed,
    /// The charge was refunded.
    Refunded,
    /// The charge must be paid back by an operator: the processor refused the refund.
    Owed,
}

impl ChargeResult {
    /// Returns the word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
            Self::Owed => "owed",
        }
    }

    /// Returns the result with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Refunded, Self::Owed].into_iter().find(|result| result.as_str() == word)
    }
}

/// The books of credits. A move acts once for its id, and its result can be read afterwards.
#[async_trait]
pub trait Books: Send + Sync {
    /// Returns the credits of a holder.
    ///
    /// # Errors
    /// The books could not be read.
    async fn credits(&self, plan: PlanId, holder: &str) -> Result<u64, Fault>;

    /// Moves credits, unless a move with this id was decided before.
    ///
    /// # Errors
    /// Whether the move was made is unknown.
    async fn post(&self, entry: &CreditMove) -> Result<(), Fault>;

    /// Returns whether the move with this id was made (`true`) or refused for good; `None` if the books know none.
    ///
    /// # Errors
    /// The books could not be read.
    async fn posted(&self, id: &str) -> Result<Option<bool>, Fault>;
}

/// A move of credits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreditMove {
    /// The id, by which it is made once.
    pub id: String,
    /// The plan's id.
    pub plan: PlanId,
    /// The holder of the credits.
    pub holder: String,
    /// The number of credits.
    pub credits: u64,
    /// The direction of the move.
    pub kind: MoveKind,
}

impl CreditMove {
    /// Creates a move.
    #[must_use]
    pub const fn new(id: String, plan: PlanId, holder: String, credits: u64, kind: MoveKind) -> Self {
        Self { id, plan, holder, credits, kind }
    }
}

/// The direction of a move of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveKind {
    /// Bought credits are added.
    Mint,
    /// Used credits are taken; refused for good if there are too few.
    Burn,
}

/// The handles of enrolled cards.
#[async_trait]
pub trait Cards: Send + Sync {
    /// Returns the customer at the processor of a user.
    ///
    /// # Errors
    /// The store failed.
    async fn customer(&self, user: &str) -> Result<Option<String>, Fault>;

    /// Stores the customer of a user, unless there is one, and returns the one that is there.
    ///
    /// # Errors
    /// The store failed; the customer may be there.
    async fn put_customer(&self, user: &str, customer: &str) -> Result<String, Fault>;

    /// Stores an enrolled card; a removed one stays removed.
    ///
    /// # Errors
    /// The store failed; the card may be there.
    async fn enrol(&self, card: Card) -> Result<(), Fault>;

    /// Reads a card of a user.
    ///
    /// # Errors
    /// The store failed.
    async fn card(&self, user: &str, method: &str) -> Result<Option<Card>, Fault>;

    /// Lists a user's cards, the oldest first.
    ///
    /// # Errors
    /// The store failed.
    async fn cards(&self, user: &str) -> Result<Vec<Card>, Fault>;

    /// Removes a user's card and revokes its delegations, in one transaction; returns whether there is such a card.
    ///
    /// # Errors
    /// The store failed; the card may be removed.
    async fn remove(&self, user: &str, method: &str, now: UnixSeconds) -> Result<bool, Fault>;
}

/// The handle of a card. There is no member for a number, a security code or an expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Card {
    /// The user that enrolled it.
    pub user: String,
    /// The customer at the processor.
    pub customer: String,
    /// The payment method at the processor.
    pub method: String,
    /// The brand, for display.
    pub brand: String,
    /// The last four digits, for display.
    pub last4: String,
    /// Whether its user removed it.
    pub removed: bool,
}

impl Card {
    /// Makes the handle of a card that its user enrolled.
    #[must_use]
    pub fn new(user: &str, customer: &str, method: &str, brand: &str, last4: &str) -> Self {
        let text = str::to_owned;
        Self {
            user: text(user),
            customer: text(customer),
            method: text(method),
            brand: text(brand),
            last4: text(last4),
            removed: false,
        }
    }
}
