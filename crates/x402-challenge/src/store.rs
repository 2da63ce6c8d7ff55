//! What a server must remember: challenges issued, nonces used, proofs used, entitlements, meters, refunds.

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
    /// When.
    pub issued_at: UnixSeconds,
    /// The last second in which it can be paid.
    pub expires_at: UnixSeconds,
    /// Until when it stays known as paid: its expiry and twice the skew.
    pub keep_until: UnixSeconds,
}

/// Whether a challenge was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not paid, and no payment of it was begun.
    Open,
    /// A payment of it is being verified.
    Held {
        /// Which.
        by: PaymentDigest,
        /// The last second of its hold.
        until: UnixSeconds,
    },
    /// A payment of it was begun and came to no end that is known: it alone may go on.
    Begun {
        /// Which.
        by: PaymentDigest,
    },
    /// Paid.
    Paid {
        /// The hold that was confirmed.
        fence: u64,
    },
}

/// The exact payment, proof and all: SHA-256. See [`payment_digest`](crate::payment_digest).
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

/// A payment that asks to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The challenge that it pays.
    pub id: ChallengeId,
    /// Its nonce.
    pub nonce: Nonce,
    /// Which payment it is.
    pub digest: PaymentDigest,
    /// The last second in which it keeps the same payment out.
    pub until: UnixSeconds,
    /// The last second in which it keeps other payments out, and may be taken up again. Counted from the first
    /// attempt: a later one moves it no further.
    pub resume_until: UnixSeconds,
}

/// One request's hold on a challenge, while its proof is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The challenge.
    pub id: ChallengeId,
    /// The payment's nonce.
    pub nonce: Nonce,
    /// Counted up with each hold on the challenge: one that was replaced cannot be confirmed.
    pub fence: u64,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The challenge and the nonce are held for this request.
    Held(Hold),
    /// The same, of a payment that was begun before: what it moves may have moved.
    Resumed(Hold),
    /// This very payment is being verified.
    Running {
        /// The last second of its hold.
        until: UnixSeconds,
    },
    /// The challenge is paid or another payment of it was begun, or the nonce is another payment's.
    Taken,
    /// The challenge is not there.
    Unknown,
}

/// What stands with a payment, written in one transaction with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Confirmation {
    /// What its proof proved once and for all.
    pub proof: Option<ProofKey>,
    /// How much of it can be paid back: what was paid, and nothing where it is metered.
    pub refundable: AtomicAmount,
    /// What it grants beyond its own answer.
    pub entitlement: Option<Entitlement>,
    /// The meter that it opens.
    pub meter: Option<Metered>,
}

/// What a proof proves once only: a transaction hash, a payment hash, an authorization's nonce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProofKey(pub Box<str>);

/// What a confirmation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The challenge is paid, its nonce and its proof are used, the entitlement is there.
    Paid,
    /// The proof was used before. Nothing was changed.
    ProofUsed,
    /// The hold ran out and another took its place, or it was given back. Nothing was changed.
    Lost,
}

/// What presenting an entitlement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It is good for this request; so many are left where they are counted.
    Good {
        /// What is left.
        left: Option<u32>,
    },
    /// Not known, revoked, expired, used up, or for another resource: the caller learns no more than that.
    Refused,
}

/// The rows, behind one trait. The rules that a store keeps, tested by the conformance suite (feature `conformance`):
/// - what a method answered with `Ok` survives a crash of the process;
/// - each method is one transaction: of parallel calls one wins, and none sees half of another.
#[async_trait]
pub trait Store: Send + Sync {
    /// Remembers a challenge. `false`: its id is taken, and nothing was changed.
    ///
    /// # Errors
    /// The store failed.
    async fn issue(&self, issued: Issued) -> Result<bool, Fault>;

    /// The challenge of an id and its standing at `now`: a hold after its last second is `Begun`, and after the last
    /// second in which it could be taken up again `Open`.
    ///
    /// # Errors
    /// The store failed.
    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, Standing)>, Fault>;

    /// Whether a payment with this nonce was granted, or was begun and may still go on at `now`.
    ///
    /// # Errors
    /// The store failed.
    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault>;

    /// Holds challenge and nonce together for a payment, if both are free at `now`, or if this very payment was begun
    /// before and nobody is at it. The payment's digest is durable before this answers: what it moves can then be
    /// looked for, whatever happens.
    ///
    /// # Errors
    /// The store failed; they may be held.
    async fn claim(&self, attempt: &Attempt, now: UnixSeconds) -> Result<Claimed, Fault>;

    /// Makes a hold a payment: all of it or nothing. A hold that ran out and that no other replaced still counts.
    /// The challenge stays known as paid to its `keep_until`, and to the end of its hold.
    ///
    /// # Errors
    /// The store failed; it may be paid.
    async fn confirm(&self, hold: &Hold, with: Confirmation) -> Result<Confirmed, Fault>;

    /// The outcome is not known: ends the hold, and the same payment alone may go on at once. Nothing where it is not
    /// held any more.
    ///
    /// # Errors
    /// The store failed; it runs out by itself.
    async fn suspend(&self, hold: &Hold) -> Result<(), Fault>;

    /// Nothing moved: the challenge is open and the nonce is free. Nothing where it is not held any more.
    ///
    /// # Errors
    /// The store failed; it runs out by itself.
    async fn release(&self, hold: &Hold) -> Result<(), Fault>;

    /// Uses an entitlement once at `now` for a resource.
    ///
    /// # Errors
    /// The store failed; a use may have been counted.
    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault>;

    /// Revokes an entitlement. `false`: it is not known.
    ///
    /// # Errors
    /// The store failed; it may be revoked.
    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault>;

    /// Adds to an open meter, never beyond its maximum.
    ///
    /// # Errors
    /// The store failed; it may be counted.
    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault>;

    /// Closes an open meter, so that what is to be settled stands, and answers it as it then is. One that was closed
    /// before is answered as it is; `None`: there is no such meter.
    ///
    /// # Errors
    /// The store failed; it may be closed.
    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault>;

    /// Writes down how the settlement of a closed meter ended. Nothing where it ended before.
    ///
    /// # Errors
    /// The store failed; it may be written.
    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault>;

    /// The meters that are not over and were last changed before this second, the oldest first, at most so many.
    ///
    /// # Errors
    /// The store failed.
    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault>;

    /// Writes a refund down, if a payment of at least so much stands with its proof and no other refund does.
    ///
    /// # Errors
    /// The store failed; it may be written.
    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault>;

    /// Writes down that a refund was made, or that it was refused: then it never stood. One that was made stays.
    ///
    /// # Errors
    /// The store failed; it may be written.
    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault>;

    /// Forgets open challenges that expired before `now`, those that were begun after `resume_until`, paid ones with
    /// their nonces after `keep_until`, meters that are over with them, and entitlements that expired. Answers how many
    /// rows. Keys of proofs and refunds are never forgotten, nor is a meter that is not settled.
    ///
    /// # Errors
    /// The store failed.
    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault>;
}
