//! What a scheme means.

use async_trait::async_trait;
use x402_types::v2::SupportedKind;
use x402_types::{AmountRule, Claim, ErrorReason, Fault, PaymentKey, Refusal, Rejection, UnixSeconds};

use crate::{LaneId, OnceKey, Parcel, Payment, Receipt, Step, StepName, StepProof, TxId};

/// How many parcels a step may have at most, whatever its scheme says. A payer's contract can tell a transaction from
/// its simulation and revert in the one alone: each parcel may cost a transaction that does nothing.
pub const MAX_PARCELS: usize = 3;

/// What a scheme means. It knows no account nonce, no fee, no transaction and no way to send.
#[async_trait]
pub trait Mechanism: Send + Sync {
    /// The kinds of payment served. A claim is routed here by version, scheme and network, and where several mechanisms
    /// serve one kind, by [`Mechanism::is_own`].
    fn kinds(&self) -> Vec<SupportedKind>;

    /// Which of its scheme's ways to move money this mechanism is, as claims name it: `eip3009`, `permit2`. `None`: it
    /// takes every claim for its kinds, and no other mechanism can serve one of them.
    fn method(&self) -> Option<&'static str> {
        None
    }

    /// Whether a claim for one of its kinds is its own, by what the claim alone says: `extra.assetTransferMethod`, the
    /// payload's shape. It is asked where several mechanisms serve the kind, and exactly one of them must say so; for one
    /// claim the answer is always the same, for stored claims are routed by it too.
    fn is_own(&self, _claim: &Claim) -> bool {
        true
    }

    /// Whether what is settled may be below what was authorized: [`AmountRule::Equal`] unless the scheme says otherwise.
    /// All mechanisms of a scheme say the same.
    fn amount_rule(&self) -> AmountRule {
        AmountRule::Equal
    }

    /// Identity of the authorization, from the claim alone: a retry finds its row before verification could call
    /// its own nonce "used".
    ///
    /// # Errors
    /// The payload cannot be read as the scheme's.
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection>;

    /// Who pays, as the scheme writes it, of a key that [`Mechanism::key`] made: for refusals before the payment was
    /// verified. `None`: the key does not say.
    fn payer(&self, _key: &PaymentKey) -> Option<String> {
        None
    }

    /// Reads only. Names the payer and the lanes that may carry it (`upto`: the signer in its witness).
    ///
    /// # Errors
    /// The payment is not good, or it could not be checked.
    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal>;

    /// How many parcels a step of this scheme may have, where that is fewer than [`MAX_PARCELS`]: each may cost a
    /// transaction. A step that had them waits for what is observed of it, and ends with its authorization.
    fn max_parcels(&self) -> usize {
        MAX_PARCELS
    }

    /// What comes next, given the steps so far. Reads, may sign a parcel, sends nothing, may be asked again.
    ///
    /// After an `Unaccounted` step only `Do` with the same name and once key, or `Wait`: bytes have left, a read proves
    /// nothing. A `Do` beyond [`Mechanism::max_parcels`] counts as `Wait`, so it must cost nothing to answer. A payment
    /// that only waits is planned ever less often, an unaccounted step of it hardly ever after a while.
    ///
    /// # Errors
    /// It could not be found out; it will be asked again.
    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault>;

    /// What ONE final block says of this step, over every parcel it ever had; `sent` is everything it ever
    /// travelled in. No `now`: only the block's own time proves a deadline.
    ///
    /// # Errors
    /// It could not be found out; it will be asked again.
    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault>;
}

/// A payment is good: what the core must know to have it settled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Who pays, as the scheme writes it.
    pub payer: String,
    /// The lanes that may carry it. The core takes one that a rail serves.
    pub lanes: Vec<LaneId>,
    /// How long the row must be kept: until the authorization can do nothing any more, and finality.
    pub keep_until: UnixSeconds,
}

impl Verdict {
    /// A good payment: who pays, the lanes that may carry it, and how long its row must be kept.
    #[must_use]
    pub const fn new(payer: String, lanes: Vec<LaneId>, keep_until: UnixSeconds) -> Self {
        Self { payer, lanes, keep_until }
    }
}

/// What comes next for a payment.
#[derive(Debug, Clone, PartialEq)]
pub enum NextStep {
    /// A step, or a step that did not land once more.
    Do {
        /// What it does.
        name: StepName,
        /// What lets it happen once.
        once_key: OnceKey,
        /// What it needs for itself while it is open: nothing else that needs it, of any payment, goes on beside it.
        exclusive: Option<OnceKey>,
        /// How it is done.
        parcel: Parcel,
    },
    /// Nothing before that time.
    Wait(UnixSeconds),
    /// It is done.
    Settled(Receipt),
    /// It can never be done, or nothing ever left.
    Failed(ErrorReason),
    /// It can never be done: a transaction that is not ours spent the authorization.
    Spent {
        /// What is told of it.
        reason: ErrorReason,
        /// The transaction.
        transaction: TxId,
    },
}

/// What a final block says of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Nothing yet. A reverted transaction alone is this: the authorization is still good.
    Pending,
    /// It happened.
    Proven(StepProof),
    /// It can never happen any more: cancelled, expired by a final block's own time, nonce taken by something else.
    Dead(ErrorReason),
}
