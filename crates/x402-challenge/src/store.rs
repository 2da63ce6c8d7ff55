//! The durable state of a server: issued challenges, used nonces, used proofs, entitlements, meters, refunds.

use core::fmt;

use async_trait::async_trait;
use x402_types::challenge::{Challenge, ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use crate::meter::{Added, MeterState, Metered};
use crate::refund::{Refund, RefundStanding};
use crate::{Entitlement, TokenHash};

/// A challenge that was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    /// The challenge as it was sent.
    pub challenge: Challenge,
    /// The time at which it was issued.
    pub issued_at: UnixSeconds,
    /// The last second in which it can be paid.
    pub expires_at: UnixSeconds,
    /// The last second in which it is kept as paid: its expiry and twice the skew.
    pub keep_until: UnixSeconds,
}

/// The state of a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeState {
    /// The challenge is not paid, and no payment of it was begun.
    Open,
    /// A payment of the challenge is being verified.
    Held {
        /// The payment that is being verified.
        by: PaymentDigest,
        /// The last second of its hold.
        until: UnixSeconds,
    },
    /// A payment of the challenge was begun, and its result is unknown: only that payment may continue.
    Begun {
        /// The payment that was begun.
        by: PaymentDigest,
    },
    /// The challenge is paid.
    Paid {
        /// The fence of the hold that was confirmed.
        fence: u64,
    },
}

/// The identity of a payment including its proof: SHA-256. See [`payment_digest`](crate::payment_digest).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentDigest(pub [u8; 32]);

impl fmt::Display for PaymentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PaymentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A payment that is about to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentAttempt {
    /// The challenge to be paid.
    pub id: ChallengeId,
    /// The nonce of the payment.
    pub nonce: Nonce,
    /// The identity of the payment.
    pub digest: PaymentDigest,
    /// The last second in which this attempt blocks the same payment.
    pub until: UnixSeconds,
    /// The last second in which this payment blocks others, and may be resumed. It is counted from the first attempt: a
    /// later one does not extend it.
    pub resume_until: UnixSeconds,
}

/// One request's exclusive hold on a challenge, while its proof is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeHold {
    /// The challenge that is held.
    pub id: ChallengeId,
    /// The nonce of the payment.
    pub nonce: Nonce,
    /// A number that grows with each hold on the challenge: a hold that was replaced cannot be confirmed.
    pub fence: u64,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The challenge and the nonce are held for this request.
    Held(ChallengeHold),
    /// The challenge and the nonce are held for a payment that was begun before: its money may have moved.
    Resumed(ChallengeHold),
    /// The same payment is being verified.
    Running {
        /// The last second of its hold.
        until: UnixSeconds,
    },
    /// The challenge is paid or another payment of it was begun, or the nonce is another payment's.
    Taken,
    /// The challenge does not exist.
    Unknown,
}

/// The data that is stored with a payment, in one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Confirmation {
    /// The fact that the proof establishes only once.
    pub proof: Option<ProofKey>,
    /// The amount that can be refunded: what was paid, or zero for a metered payment.
    pub refundable: AtomicAmount,
    /// The entitlement that the payment grants beyond its own response.
    pub entitlement: Option<Entitlement>,
    /// The meter that the payment opens.
    pub meter: Option<Metered>,
}

/// A fact that a proof establishes only once: a transaction hash, a payment hash, an authorization's nonce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProofKey(pub Box<str>);

/// The result of a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The challenge is paid, its nonce and its proof are used, the entitlement exists.
    Paid,
    /// The proof was used before. Nothing was changed.
    ProofUsed,
    /// The hold expired and was replaced, or it was released. Nothing was changed.
    Lost,
}

/// The result of presenting an entitlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The entitlement is valid for this request.
    Good {
        /// The number of remaining uses, if they are counted.
        left: Option<u32>,
    },
    /// The entitlement is unknown, revoked, expired, used up, or for another resource. The caller does not learn which.
    Refused,
}

/// The rows, behind one trait. The conformance suite (feature `conformance`) tests the rules of a store:
/// - a result that a method returned as `Ok` survives a crash of the process;
/// - each method is one transaction: of concurrent calls one wins, and none sees half of another.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores a challenge. Returns `false` if its id exists already; then nothing was changed.
    ///
    /// # Errors
    /// The store failed.
    async fn issue(&self, issued: Issued) -> Result<bool, Fault>;

    /// Returns the challenge of an id and its state at `now`: a hold after its last second is `Begun`, and `Open` after
    /// the last second in which it could be resumed.
    ///
    /// # Errors
    /// The store failed.
    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault>;

    /// Returns whether a payment with this nonce was granted, or was begun and may still continue at `now`.
    ///
    /// # Errors
    /// The store failed.
    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault>;

    /// Holds challenge and nonce together for a payment, if both are free at `now`, or if the same payment was begun
    /// before and no request is processing it. The payment's digest is durable before this method returns, so that its
    /// effects can be found whatever happens next.
    ///
    /// # Errors
    /// The store failed; challenge and nonce may be held.
    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault>;

    /// Turns a hold into a payment, with all of its data or not at all. An expired hold that no other replaced still
    /// counts. The challenge is kept as paid until its `keep_until`, and until the end of its hold.
    ///
    /// # Errors
    /// The store failed; the challenge may be paid.
    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault>;

    /// Ends a hold whose result is unknown: only the same payment may continue, at once. Does nothing if the hold is
    /// already gone.
    ///
    /// # Errors
    /// The store failed; the hold expires by itself.
    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault>;

    /// Ends a hold of which nothing moved: the challenge is open and the nonce is free. Does nothing if the hold is
    /// already gone.
    ///
    /// # Errors
    /// The store failed; the hold expires by itself.
    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault>;

    /// Stores an entitlement that no challenge grants, and returns `true`. If one with this token exists, even if it is over,
    /// it ends at the later of both times, nothing else of it changes, and the result is `false`.
    ///
    /// # Errors
    /// The store failed; the entitlement may exist.
    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault>;

    /// Uses an entitlement once at `now` for a resource.
    ///
    /// # Errors
    /// The store failed; a use may have been counted.
    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault>;

    /// Returns what [`Self::spend`] would find, and counts nothing.
    ///
    /// # Errors
    /// The store failed.
    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault>;

    /// Returns one use of an entitlement, which was spent for a request that was not served. Does nothing if uses are
    /// not counted, or if the entitlement is gone. Each use is returned at most once, by the request that spent it.
    ///
    /// # Errors
    /// The store failed; the use may be returned.
    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault>;

    /// Revokes an entitlement. Returns `false` if it is unknown.
    ///
    /// # Errors
    /// The store failed; the entitlement may be revoked.
    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault>;

    /// Adds usage to an open meter, never beyond its maximum.
    ///
    /// # Errors
    /// The store failed; the usage may be recorded.
    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault>;

    /// Closes an open meter, which fixes the amount to settle, and returns it. A meter that is already closed is
    /// returned unchanged. Returns `None` if the meter does not exist.
    ///
    /// # Errors
    /// The store failed; the meter may be closed.
    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault>;

    /// Stores how the settlement of a closed meter ended. Does nothing if it ended before.
    ///
    /// # Errors
    /// The store failed; the end may be stored.
    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault>;

    /// Ends an open meter as refused, so that nothing of it is ever settled. Does nothing if it was closed before.
    ///
    /// # Errors
    /// The store failed; the meter may be ended.
    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault>;

    /// Lists the meters that need further work and were last changed before this second, the oldest first, up to a
    /// limit.
    ///
    /// # Errors
    /// The store failed.
    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault>;

    /// Stores a refund, if a payment of at least this amount exists for its proof and no other refund does.
    ///
    /// # Errors
    /// The store failed; the refund may be stored.
    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault>;

    /// Stores that a refund was made, or removes it because it was refused. A refund that was made is kept.
    ///
    /// # Errors
    /// The store failed; the result may be stored.
    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault>;

    /// Forgets open challenges that expired before `now`, begun ones after `resume_until`, paid ones with their nonces
    /// after `keep_until` together with their finished meters, and expired entitlements. Returns the number of rows.
    /// Keys of proofs and refunds are never forgotten, nor are unsettled meters.
    ///
    /// # Errors
    /// The store failed.
    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault>;
}
