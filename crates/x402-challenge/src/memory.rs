//! The store in memory: for tests, examples and one process. What it holds ends with the process.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::challenge::{ChallengeId, Nonce, ResourceName};
use x402_types::{Fault, UnixSeconds};

use crate::store::{Claimed, Confirmed, Hold, Issued, ProofKey, Spent, Standing, Store};
use crate::{Entitlement, TokenHash};

/// A store in memory, of at most so many challenges: anybody can ask for one without paying.
pub struct MemoryStore {
    most: usize,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    challenges: BTreeMap<ChallengeId, Row>,
    /// The challenge that a nonce is held or used with. A row here is as good as that challenge's hold.
    nonces: BTreeMap<Nonce, ChallengeId>,
    proofs: BTreeSet<ProofKey>,
    entitlements: BTreeMap<TokenHash, Entitlement>,
}

struct Row {
    issued: Issued,
    fence: u64,
    state: State,
}

enum State {
    Open,
    Held { nonce: Nonce, until: UnixSeconds },
    Paid { nonce: Nonce },
}

impl Row {
    fn standing(&self, now: UnixSeconds) -> Standing {
        match &self.state {
            State::Held { until, .. } if *until >= now => Standing::Held,
            State::Open | State::Held { .. } => Standing::Open,
            State::Paid { .. } => Standing::Paid,
        }
    }

    fn is_held_by(&self, hold: &Hold) -> bool {
        self.fence == hold.fence && matches!(&self.state, State::Held { nonce, .. } if *nonce == hold.nonce)
    }
}

impl Rows {
    fn taken(&self, nonce: &Nonce, now: UnixSeconds) -> bool {
        let row = self.nonces.get(nonce).and_then(|id| self.challenges.get(id));
        row.is_some_and(|row| row.standing(now) != Standing::Open)
    }

    fn forget(&mut self, now: UnixSeconds) -> usize {
        let before = self.challenges.len() + self.entitlements.len();
        let Self { challenges, nonces, entitlements, .. } = self;
        challenges.retain(|_, row| match row.standing(now) {
            Standing::Open => row.issued.expires_at >= now,
            Standing::Held => true,
            Standing::Paid => row.issued.keep_until >= now,
        });
        nonces.retain(|nonce, id| {
            challenges.get(id).is_some_and(|row| match &row.state {
                State::Open => false,
                State::Held { nonce: held, .. } | State::Paid { nonce: held } => held == nonce,
            })
        });
        entitlements.retain(|_, entitlement| entitlement.expires_at > now);
        before.saturating_sub(self.challenges.len() + self.entitlements.len())
    }
}

impl MemoryStore {
    /// How many challenges [`MemoryStore::default`] holds.
    pub const MOST: usize = 100_000;

    /// An empty store of at most so many challenges. When full it forgets what is over, and then refuses more.
    #[must_use]
    pub fn with_capacity(most: usize) -> Self {
        Self { most, rows: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Every method checks before it changes anything, and what changes rows cannot panic.
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

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, Standing)>, Fault> {
        Ok(self.rows().challenges.get(id).map(|row| (row.issued.clone(), row.standing(now))))
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        Ok(self.rows().taken(nonce, now))
    }

    async fn claim(
        &self,
        id: &ChallengeId,
        nonce: &Nonce,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Claimed, Fault> {
        let mut rows = self.rows();
        let nonce_taken = rows.taken(nonce, now);
        let Some(row) = rows.challenges.get_mut(id) else { return Ok(Claimed::Unknown) };
        if nonce_taken || row.standing(now) != Standing::Open {
            return Ok(Claimed::Taken);
        }
        row.fence = row.fence.saturating_add(1);
        let hold = Hold { id: id.clone(), nonce: nonce.clone(), fence: row.fence };
        let before = core::mem::replace(&mut row.state, State::Held { nonce: nonce.clone(), until });
        if let State::Held { nonce: old, .. } = before
            && rows.nonces.get(&old) == Some(id)
        {
            rows.nonces.remove(&old);
        }
        // Whoever held this nonce for another challenge ran out, and must not be confirmed with it any more.
        if let Some(other) = rows.nonces.insert(nonce.clone(), id.clone())
            && other != *id
            && let Some(row) = rows.challenges.get_mut(&other)
            && matches!(&row.state, State::Held { nonce: held, .. } if held == nonce)
        {
            row.state = State::Open;
        }
        Ok(Claimed::Held(hold))
    }

    async fn confirm(
        &self,
        hold: &Hold,
        proof: Option<&ProofKey>,
        entitlement: Option<Entitlement>,
    ) -> Result<Confirmed, Fault> {
        let mut rows = self.rows();
        if !rows.challenges.get(&hold.id).is_some_and(|row| row.is_held_by(hold)) {
            return Ok(Confirmed::Lost);
        }
        if proof.is_some_and(|key| rows.proofs.contains(key)) {
            return Ok(Confirmed::ProofUsed);
        }
        if let Some(row) = rows.challenges.get_mut(&hold.id) {
            row.state = State::Paid { nonce: hold.nonce.clone() };
        }
        if let Some(key) = proof {
            rows.proofs.insert(key.clone());
        }
        if let Some(entitlement) = entitlement {
            rows.entitlements.insert(entitlement.token, entitlement);
        }
        Ok(Confirmed::Paid)
    }

    async fn release(&self, hold: &Hold) -> Result<(), Fault> {
        let mut rows = self.rows();
        if let Some(row) = rows.challenges.get_mut(&hold.id)
            && row.is_held_by(hold)
        {
            row.state = State::Open;
            rows.nonces.remove(&hold.nonce);
        }
        Ok(())
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        let mut rows = self.rows();
        let Some(entitlement) = rows.entitlements.get_mut(token) else { return Ok(Spent::Refused) };
        Ok(entitlement.spend(resource, now))
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        Ok(self.rows().entitlements.remove(token).is_some())
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        Ok(self.rows().forget(now))
    }
}
