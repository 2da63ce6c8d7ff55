//! The store in memory: for tests, examples and a single process. Its content is lost when the process ends.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::challenge::{ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use crate::meter::{Added, MeterState, Metered};
use crate::refund::{Refund, RefundStanding};
use crate::store::{
    ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Issued, PaymentAttempt, PaymentDigest,
    ProofKey, Spent, Store,
};
use crate::{Entitlement, TokenHash};

/// A store in memory with a maximum number of challenges, since a client can request one without paying.
pub struct MemoryStore {
    most: usize,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    challenges: BTreeMap<ChallengeId, Row>,
    /// The challenge with which a nonce is held or used. A row here is valid as long as that challenge's hold is.
    nonces: BTreeMap<Nonce, ChallengeId>,
    /// The amount that can be refunded.
    proofs: BTreeMap<ProofKey, AtomicAmount>,
    meters: BTreeMap<ChallengeId, Metered>,
    /// The refund, and its receipt once it was made.
    refunds: BTreeMap<ProofKey, (Refund, Option<Box<str>>)>,
    entitlements: BTreeMap<TokenHash, Entitlement>,
}

struct Row {
    issued: Issued,
    fence: u64,
    state: State,
}

enum State {
    Open,
    Held(Held),
    Paid { nonce: Nonce, keep_until: UnixSeconds },
}

struct Held {
    nonce: Nonce,
    digest: PaymentDigest,
    until: UnixSeconds,
    resume_until: UnixSeconds,
}

impl Row {
    fn standing(&self, now: UnixSeconds) -> ChallengeState {
        match &self.state {
            State::Held(held) if held.until >= now => ChallengeState::Held { by: held.digest, until: held.until },
            State::Held(held) if held.resume_until >= now => ChallengeState::Begun { by: held.digest },
            State::Open | State::Held(_) => ChallengeState::Open,
            State::Paid { .. } => ChallengeState::Paid { fence: self.fence },
        }
    }

    fn held_by(&mut self, hold: &ChallengeHold) -> Option<&mut Held> {
        match &mut self.state {
            State::Held(held) if self.fence == hold.fence && held.nonce == hold.nonce => Some(held),
            _ => None,
        }
    }

    const fn next_hold(&mut self, id: ChallengeId, nonce: Nonce) -> ChallengeHold {
        self.fence = self.fence.saturating_add(1);
        ChallengeHold { id, nonce, fence: self.fence }
    }
}

impl Rows {
    fn taken(&self, nonce: &Nonce, now: UnixSeconds) -> bool {
        let row = self.nonces.get(nonce).and_then(|id| self.challenges.get(id));
        row.is_some_and(|row| row.standing(now) != ChallengeState::Open)
    }

    /// Holds an open challenge, and frees the nonces of lapsed attempts.
    fn hold(&mut self, attempt: &PaymentAttempt) -> ClaimOutcome {
        let PaymentAttempt { id, nonce, digest, until, resume_until } = attempt.clone();
        let Some(row) = self.challenges.get_mut(&id) else { return ClaimOutcome::Unknown };
        let hold = row.next_hold(id.clone(), nonce.clone());
        let held = State::Held(Held { nonce: nonce.clone(), digest, until, resume_until });
        if let State::Held(old) = core::mem::replace(&mut row.state, held)
            && self.nonces.get(&old.nonce) == Some(&id)
        {
            self.nonces.remove(&old.nonce);
        }
        // The attempt that held this nonce for another challenge has lapsed, and must no longer be confirmed with it.
        if let Some(other) = self.nonces.insert(nonce.clone(), id.clone())
            && other != id
            && let Some(row) = self.challenges.get_mut(&other)
            && matches!(&row.state, State::Held(held) if held.nonce == nonce)
        {
            row.state = State::Open;
        }
        ClaimOutcome::Held(hold)
    }

    fn forget(&mut self, now: UnixSeconds) -> usize {
        let before = self.challenges.len() + self.entitlements.len() + self.meters.len();
        let Self { challenges, nonces, entitlements, meters, .. } = self;
        challenges.retain(|_, row| match (row.standing(now), &row.state) {
            (ChallengeState::Paid { .. }, State::Paid { keep_until, .. }) => *keep_until >= now,
            (ChallengeState::Open, _) => row.issued.expires_at >= now,
            _ => true,
        });
        nonces.retain(|nonce, id| {
            challenges.get(id).is_some_and(|row| match &row.state {
                State::Open => false,
                State::Held(Held { nonce: held, .. }) | State::Paid { nonce: held, .. } => held == nonce,
            })
        });
        entitlements.retain(|_, entitlement| entitlement.expires_at > now);
        meters.retain(|_, meter| !meter.state.is_over() || meter.issued.keep_until >= now);
        before.saturating_sub(self.challenges.len() + self.entitlements.len() + self.meters.len())
    }
}

impl MemoryStore {
    /// The capacity of [`MemoryStore::default`].
    pub const MOST: usize = 100_000;

    /// Creates an empty store with this capacity. A full store first forgets expired rows, then refuses new ones.
    #[must_use]
    pub fn with_capacity(most: usize) -> Self {
        Self { most, rows: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // A poisoned lock is harmless: every method checks before it changes anything, and the changes themselves
        // cannot panic.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_capacity(Self::MOST)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        f.debug_struct("MemoryStore")
            .field("challenges", &rows.challenges.len())
            .field("entitlements", &rows.entitlements.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn issue(&self, issued: Issued) -> Result<bool, Fault> {
        let mut rows = self.rows();
        let id = issued.challenge.challenge_id.clone();
        if rows.challenges.contains_key(&id) {
            return Ok(false);
        }
        if rows.challenges.len() >= self.most {
            rows.forget(issued.issued_at);
        }
        if rows.challenges.len() >= self.most {
            return Err(Fault::store("no room for another challenge"));
        }
        rows.challenges.insert(id, Row { issued, fence: 0, state: State::Open });
        Ok(true)
    }

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault> {
        Ok(self.rows().challenges.get(id).map(|row| (row.issued.clone(), row.standing(now))))
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        Ok(self.rows().taken(nonce, now))
    }

    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault> {
        let mut rows = self.rows();
        let nonce_taken = rows.taken(&attempt.nonce, now);
        let Some(row) = rows.challenges.get_mut(&attempt.id) else { return Ok(ClaimOutcome::Unknown) };
        Ok(match row.standing(now) {
            ChallengeState::Open if !nonce_taken => rows.hold(attempt),
            ChallengeState::Held { by, until } if by == attempt.digest => ClaimOutcome::Running { until },
            ChallengeState::Begun { by } if by == attempt.digest => {
                if let State::Held(held) = &mut row.state {
                    held.until = attempt.until;
                }
                ClaimOutcome::Resumed(row.next_hold(attempt.id.clone(), attempt.nonce.clone()))
            }
            _ => ClaimOutcome::Taken,
        })
    }

    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault> {
        let mut rows = self.rows();
        let used = with.proof.as_ref().is_some_and(|key| rows.proofs.contains_key(key));
        let Some(row) = rows.challenges.get_mut(&hold.id) else { return Ok(Confirmed::Lost) };
        let keep_until = row.issued.keep_until;
        let Some(held) = row.held_by(hold) else { return Ok(Confirmed::Lost) };
        if used {
            return Ok(Confirmed::ProofUsed);
        }
        let keep_until = keep_until.max(held.until);
        row.state = State::Paid { nonce: hold.nonce.clone(), keep_until };
        rows.proofs.extend(with.proof.map(|key| (key, with.refundable)));
        rows.meters.extend(with.meter.map(|meter| (hold.id.clone(), meter)));
        if let Some(entitlement) = with.entitlement {
            rows.entitlements.insert(entitlement.token, entitlement);
        }
        Ok(Confirmed::Paid)
    }

    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        if let Some(held) = self.rows().challenges.get_mut(&hold.id).and_then(|row| row.held_by(hold)) {
            held.until = UnixSeconds(0);
        }
        Ok(())
    }

    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        let mut rows = self.rows();
        if let Some(row) = rows.challenges.get_mut(&hold.id)
            && row.held_by(hold).is_some()
        {
            row.state = State::Open;
            rows.nonces.remove(&hold.nonce);
        }
        Ok(())
    }

    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault> {
        let mut rows = self.rows();
        if let Some(known) = rows.entitlements.get_mut(&entitlement.token) {
            known.expires_at = known.expires_at.max(entitlement.expires_at);
            return Ok(false);
        }
        if rows.entitlements.len() >= self.most {
            return Err(Fault::store("no room for another entitlement"));
        }
        rows.entitlements.insert(entitlement.token, entitlement.clone());
        Ok(true)
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        let mut rows = self.rows();
        let Some(entitlement) = rows.entitlements.get_mut(token) else { return Ok(Spent::Refused) };
        Ok(entitlement.spend(resource, now))
    }

    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        Ok(self.rows().entitlements.get(token).map_or(Spent::Refused, |entitlement| entitlement.look(resource, now)))
    }

    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        if let Some(entitlement) = self.rows().entitlements.get_mut(token) {
            entitlement.give_back();
        }
        Ok(())
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        Ok(self.rows().entitlements.remove(token).is_some())
    }

    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault> {
        Ok(self.rows().meters.get_mut(id).map_or(Added::Unknown, |meter| meter.add(amount, now)))
    }

    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault> {
        let mut rows = self.rows();
        let Some(meter) = rows.meters.get_mut(id) else { return Ok(None) };
        if meter.state == MeterState::Open {
            meter.state = MeterState::Closed;
            meter.touched_at = now;
        }
        Ok(Some(meter.clone()))
    }

    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault> {
        if let Some(meter) = self.rows().meters.get_mut(id)
            && meter.state == MeterState::Closed
        {
            meter.state = end;
        }
        Ok(())
    }

    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        if let Some(meter) = self.rows().meters.get_mut(id)
            && meter.state == MeterState::Open
        {
            meter.state = MeterState::Refused;
            meter.touched_at = now;
        }
        Ok(())
    }

    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault> {
        let rows = self.rows();
        let open = |meter: &&Metered| !meter.state.is_over() && meter.touched_at < before;
        let mut meters: Vec<&Metered> = rows.meters.values().filter(open).collect();
        meters.sort_by_key(|meter| meter.touched_at);
        Ok(meters.into_iter().take(limit).map(|meter| meter.issued.challenge.challenge_id.clone()).collect())
    }

    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault> {
        let mut rows = self.rows();
        if !rows.proofs.get(&refund.proof).is_some_and(|paid| refund.amount <= *paid && !refund.amount.is_zero()) {
            return Ok(RefundStanding::Unpaid);
        }
        let (stands, receipt) = rows.refunds.entry(refund.proof.clone()).or_insert_with(|| (refund.clone(), None));
        Ok(match receipt {
            _ if stands != refund => RefundStanding::Other,
            Some(receipt) => RefundStanding::Done { receipt: receipt.clone() },
            None => RefundStanding::Begun,
        })
    }

    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault> {
        let mut rows = self.rows();
        if rows.refunds.get(&refund.proof).is_some_and(|(stands, made)| stands != refund || made.is_some()) {
            return Ok(());
        }
        match receipt {
            Some(receipt) => drop(rows.refunds.insert(refund.proof.clone(), (refund.clone(), Some(receipt.into())))),
            None => drop(rows.refunds.remove(&refund.proof)),
        }
        Ok(())
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        Ok(self.rows().forget(now))
    }
}
