//! What a server must remember: challenges issued, nonces used, proofs used, entitlements.

use async_trait::async_trait;
use x402_types::challenge::{Challenge, ChallengeId, Nonce, ResourceName};
use x402_types::{Fault, UnixSeconds};

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
    /// Not paid, and nobody is at it.
    Open,
    /// A payment of it is being verified.
    Held,
    /// Paid.
    Paid,
}

/// One request's hold on a challenge, while its proof is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The challenge.
    pub id: ChallengeId,
    /// The payment's nonce.
    pub nonce: Nonce,
    /// Counted up with each hold on the challenge: one that ran out cannot be confirmed.
    pub fence: u64,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The challenge and the nonce are held for this request.
    Held(Hold),
    /// The challenge is paid or held, or the nonce is used or held.
    Taken,
    /// The challenge is not there.
    Unknown,
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
    /// The hold ran out and another took its place. Nothing was changed.
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

    /// The challenge of an id and its standing; a hold that ran out before `now` is none.
    ///
    /// # Errors
    /// The store failed.
    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, Standing)>, Fault>;

    /// Whether a payment with this nonce was granted, or is being verified at `now`.
    ///
    /// # Errors
    /// The store failed.
    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault>;

    /// Holds challenge and nonce together until `until`, if both are free at `now`.
    ///
    /// # Errors
    /// The store failed; they may be held until then.
    async fn claim(
        &self,
        id: &ChallengeId,
        nonce: &Nonce,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Claimed, Fault>;

    /// Makes a hold a payment: all of it or nothing. A hold that ran out and that no other replaced still counts.
    ///
    /// # Errors
    /// The store failed; it may be paid.
    async fn confirm(
        &self,
        hold: &Hold,
        proof: Option<&ProofKey>,
        entitlement: Option<Entitlement>,
    ) -> Result<Confirmed, Fault>;

    /// Gives a hold back: the challenge is open and the nonce is free. Nothing where it is not held any more.
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

    /// Forgets open challenges that expired before `now`, paid ones with their nonces after `keep_until`, and
    /// entitlements that expired. Answers how many rows. Keys of proofs are never forgotten.
    ///
    /// # Errors
    /// The store failed.
    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault>;
}
