//! The mechanism: the meaning of a scheme, for the facilitator.

use async_trait::async_trait;
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, ChainId, Claim, ErrorReason, Fault, Members, PaymentKey, Refusal, Rejection, SchemeName, UnixSeconds,
};

use crate::{LaneId, OnceKey, Parcel, Payment, Receipt, Step, StepName, StepProof, TxId};

/// The maximum number of parcels of a step, whatever its scheme. A payer's contract can distinguish a transaction from
/// its simulation and revert only in the former: each parcel may cost a transaction without effect.
pub const MAX_PARCELS: usize = 3;

/// The meaning of a scheme. A mechanism knows no account nonce, no fee, no transaction and no way to send.
#[async_trait]
pub trait Mechanism: Send + Sync {
    /// Returns the kinds of payment served. A claim is routed here by version, scheme and network and, if several
    /// mechanisms serve one kind, by [`Mechanism::is_own`].
    fn kinds(&self) -> Vec<SupportedKind>;

    /// Returns the method by which this mechanism moves money, as claims name it: `eip3009`, `permit2`. A mechanism
    /// with `None` takes every claim for its kinds, and no other mechanism can serve one of them.
    fn method(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether a claim for one of its kinds belongs to this mechanism, by the claim alone:
    /// `extra.assetTransferMethod`, the payload's shape. The method decides where several mechanisms serve the kind,
    /// and exactly one of them must return `true`. The result for one claim must always be the same, since stored
    /// claims are routed by it, too.
    fn is_own(&self, _claim: &Claim) -> bool {
        true
    }

    /// Returns whether the settled amount may be below the authorized one; [`AmountRule::Equal`] by default. All
    /// mechanisms of a scheme must have the same rule.
    fn amount_rule(&self) -> AmountRule {
        AmountRule::Equal
    }

    /// Returns the members that a server may leave out of an entry of version 2 for one of these kinds, for the entry's
    /// asset, or if it names none, for the usual one of the network. `None` means that no payment for such an entry
    /// would be settled, or that the server must write the whole entry itself.
    fn entry_defaults(&self, _network: ChainId, _asset: Option<&str>) -> Option<EntryDefaults> {
        None
    }

    /// Returns whether the far side keeps an authorization from being settled twice, whatever the ledger knows: a nonce of a
    /// token, a permit. After the ledger was restored from an older copy, the payments of a mechanism with `false` are held
    /// back ([`Settlement::set_quarantine`](crate::Settlement::set_quarantine)).
    fn has_nonce_on_chain(&self) -> bool;

    /// Returns all lanes that may carry payments of this mechanism, whatever the claim. An empty list, the default,
    /// means every lane on the networks of its kinds.
    fn lanes(&self) -> Vec<LaneId> {
        Vec::new()
    }

    /// Derives the identity of the authorization from the claim alone: a retry finds its row before verification could
    /// report its own nonce as used.
    /// # Errors
    /// The payload cannot be parsed as the scheme's.
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection>;

    /// Returns the payer, as the scheme writes it, from a key that [`Mechanism::key`] derived, for refusals before the
    /// payment was verified. `None` means that the key does not contain it.
    fn payer(&self, _key: &PaymentKey) -> Option<String> {
        None
    }

    /// Verifies a payment by reads only. Names the payer and the lanes that may carry the payment (`upto`: the signer
    /// in its witness).
    /// # Errors
    /// The payment is invalid, or could not be checked.
    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal>;

    /// Returns the maximum number of parcels of a step of this scheme, if it is lower than [`MAX_PARCELS`]: each may
    /// cost a transaction. A step that had them all waits for its observation, and ends with its authorization.
    fn max_parcels(&self) -> usize {
        MAX_PARCELS
    }

    /// Plans what comes next, given the steps so far. The method reads and may sign a parcel, but sends nothing, and
    /// may be called again.
    ///
    /// After an `Unaccounted` step it must return `Do` with the same name and once key, or `Wait`: bytes were sent, so
    /// a read proves nothing. A `Do` beyond [`Mechanism::max_parcels`] counts as `Wait`, so returning it must cost
    /// nothing. A payment that only waits is planned at growing intervals, and after a while its unaccounted steps
    /// rarely.
    /// # Errors
    /// The plan could not be determined; the call will be repeated.
    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault>;

    /// Decides the step's outcome from a single final block, considering every parcel ever created for it; `sent` are
    /// all transactions that ever carried it. There is no `now`: only the block's own time proves a deadline.
    /// # Errors
    /// The outcome could not be determined; the call will be repeated.
    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault>;
}

/// The verdict on a valid payment: what the core must know to have it settled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The payer, as the scheme writes it.
    pub payer: String,
    /// The lanes that may carry it. The core chooses one that a rail serves.
    pub lanes: Vec<LaneId>,
    /// The time until which the row must be kept: the authorization has no further effect, and that is final.
    pub keep_until: UnixSeconds,
    /// The parcels that the payment will need, as far as verification knows them. A lane whose rail would not sign one of
    /// them ([`Rail::check_parcel`](crate::Rail::check_parcel)) does not take the payment.
    pub parcels: Vec<Parcel>,
}

impl Verdict {
    /// Makes the verdict on a valid payment of its payer, the lanes that may carry it, and the time until which its row
    /// must be kept.
    #[must_use]
    pub const fn new(payer: String, lanes: Vec<LaneId>, keep_until: UnixSeconds) -> Self {
        Self { payer, lanes, keep_until, parcels: Vec::new() }
    }

    /// Adds the parcels that the payment will need, each as it would be sent now.
    #[must_use]
    pub fn with_parcels(mut self, parcels: impl IntoIterator<Item = Parcel>) -> Self {
        self.parcels.extend(parcels);
        self
    }
}

/// The members that a server may leave out of an entry of `accepts`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EntryDefaults {
    /// The scheme of the entry.
    pub scheme: SchemeName,
    /// The asset, as the scheme writes it.
    pub asset: String,
    /// Members of `extra`.
    pub extra: Members,
}

impl EntryDefaults {
    /// Creates the members of an entry of this scheme with this asset.
    #[must_use]
    pub const fn new(scheme: SchemeName, asset: String, extra: Members) -> Self {
        Self { scheme, asset, extra }
    }
}

/// The next step of a payment.
#[derive(Debug, Clone, PartialEq)]
pub enum NextStep {
    /// A new step, or another attempt at a step that did not land.
    Do {
        /// The name of the step's action.
        name: StepName,
        /// The key that lets the step happen only once.
        once_key: OnceKey,
        /// A resource that the step needs exclusively while it is open: no other step that needs it, of any payment,
        /// runs meanwhile.
        exclusive: Option<OnceKey>,
        /// The action to carry out.
        parcel: Parcel,
    },
    /// Nothing is to be done before this time.
    Wait(UnixSeconds),
    /// The payment is settled.
    Settled(Receipt),
    /// The payment can never be settled, or nothing was ever sent.
    Failed(ErrorReason),
    /// The payment can never be settled: a third party's transaction spent the authorization.
    Spent {
        /// The reason for the caller.
        reason: ErrorReason,
        /// The third party's transaction.
        transaction: TxId,
    },
}

/// The outcome of a step according to a final block.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Undecided. A reverted transaction alone is pending: the authorization is still valid.
    Pending,
    /// The step happened.
    Proven(StepProof),
    /// The step can never happen any more: cancelled, expired by a final block's own time, nonce used by something
    /// else.
    Dead(ErrorReason),
}
