//! The store in memory keeps the rules of every store, and of parallel claims one wins.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use core::future::poll_fn;
use core::task::Poll;
use std::sync::Arc;

use async_trait::async_trait;
use x402_challenge::conformance::{Subject, run};
use x402_challenge::{
    Added, ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Entitlement, Issued, MemoryStore,
    MeterState, Metered, PaymentAttempt, Refund, RefundStanding, Spent, Store, TokenHash,
};
use x402_types::challenge::{ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

mod common;
use common::block_on;

struct InMemory;

#[async_trait]
impl Subject for InMemory {
    async fn empty(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::default())
    }

    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

#[test]
fn memory_conforms() {
    assert_eq!(block_on(run(&InMemory)), Ok(()));
}

/// A store that breaks one rule.
struct Faulty {
    inner: MemoryStore,
    bug: Bug,
}

#[derive(Debug, Clone, Copy)]
enum Bug {
    /// Claims look at nothing, as a check that is not one with its write.
    ClaimsTwice,
    /// The replay cache is keyed by nonce alone, so that a new one reopens a challenge.
    NonceReopens,
    /// Every challenge has nonces of its own.
    NonceAgain,
    /// A proof pays any number of challenges.
    ProofAgain,
    /// What a payment grants is written by itself, before the payment is.
    GrantsFirst,
    /// Paid challenges are forgotten with the open ones.
    ForgetsEarly,
    /// A revoked token goes on.
    NeverRevokes,
    /// A failed proof keeps its challenge.
    KeepsHold,
    /// A payment whose server died leaves its challenge to any other.
    OpensAgain,
    /// A payment whose server died is never taken up.
    NeverResumes,
    /// A payment whose outcome is unknown waits for the end of its hold.
    SuspendKeeps,
    /// A payment whose outcome is unknown leaves its challenge to any other.
    SuspendFrees,
    /// A token that is there is new again.
    GrantsAnew,
    /// A look at an entitlement uses it.
    LookCounts,
    /// A use does not come back.
    NeverGivesBack,
    /// A meter counts beyond its maximum.
    NoMaximum,
    /// A meter that is waived is left to be settled.
    WaiveCloses,
    /// A payment is paid back as often as that is asked for.
    RefundsAgain,
    /// A check, a wait, and then the write, as one who asks a database twice.
    ChecksThenWrites,
}

#[async_trait]
impl Store for Faulty {
    async fn issue(&self, issued: Issued) -> Result<bool, Fault> {
        self.inner.issue(issued).await
    }

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault> {
        self.inner.find(id, now).await
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        self.inner.seen(nonce, now).await
    }

    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault> {
        let seen = self.inner.seen(&attempt.nonce, now).await?;
        if matches!(self.bug, Bug::ChecksThenWrites) {
            let open = matches!(self.inner.find(&attempt.id, now).await?, Some((_, ChallengeState::Open)));
            wait().await;
            if open && !seen {
                let fence = match self.inner.claim(attempt, now).await? {
                    ClaimOutcome::Held(hold) => hold.fence,
                    _ => 1,
                };
                return Ok(ClaimOutcome::Held(ChallengeHold {
                    id: attempt.id.clone(),
                    nonce: attempt.nonce.clone(),
                    fence,
                }));
            }
        }
        let standing = self.inner.find(&attempt.id, now).await?.map(|(_, standing)| standing);
        let claimed = self.inner.claim(attempt, now).await?;
        let hold = ChallengeHold { id: attempt.id.clone(), nonce: attempt.nonce.clone(), fence: 1 };
        match (self.bug, &claimed) {
            (Bug::ClaimsTwice, ClaimOutcome::Running { .. }) => Ok(ClaimOutcome::Resumed(hold)),
            (Bug::NonceReopens, ClaimOutcome::Taken) if !seen => Ok(ClaimOutcome::Held(hold)),
            (Bug::NonceAgain, ClaimOutcome::Taken) if standing == Some(ChallengeState::Open) => {
                Ok(ClaimOutcome::Held(hold))
            }
            (Bug::OpensAgain, ClaimOutcome::Taken) if matches!(standing, Some(ChallengeState::Begun { .. })) => {
                Ok(ClaimOutcome::Held(hold))
            }
            (Bug::NeverResumes, ClaimOutcome::Resumed(_)) => Ok(ClaimOutcome::Taken),
            _ => Ok(claimed),
        }
    }

    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault> {
        let unproven = Confirmation { proof: None, ..with.clone() };
        match (self.bug, self.inner.confirm(hold, with).await?) {
            (Bug::ProofAgain, Confirmed::ProofUsed) => self.inner.confirm(hold, unproven).await,
            (Bug::GrantsFirst, Confirmed::ProofUsed) => {
                self.inner.confirm(hold, unproven).await?;
                Ok(Confirmed::ProofUsed)
            }
            (_, confirmed) => Ok(confirmed),
        }
    }

    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        match self.bug {
            Bug::SuspendKeeps => Ok(()),
            Bug::SuspendFrees => self.inner.release(hold).await,
            _ => self.inner.suspend(hold).await,
        }
    }

    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        if matches!(self.bug, Bug::KeepsHold) { Ok(()) } else { self.inner.release(hold).await }
    }

    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault> {
        let is_new = self.inner.grant(entitlement).await?;
        Ok(is_new || matches!(self.bug, Bug::GrantsAnew))
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        self.inner.spend(token, resource, now).await
    }

    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        match self.bug {
            Bug::LookCounts => self.inner.spend(token, resource, now).await,
            _ => self.inner.look(token, resource, now).await,
        }
    }

    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        if matches!(self.bug, Bug::NeverGivesBack) { Ok(()) } else { self.inner.give_back(token).await }
    }

    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        match self.bug {
            Bug::WaiveCloses => self.inner.close_meter(id, now).await.map(drop),
            _ => self.inner.waive_meter(id, now).await,
        }
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        if matches!(self.bug, Bug::NeverRevokes) { Ok(true) } else { self.inner.revoke(token).await }
    }

    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault> {
        match (self.bug, self.inner.add_use(id, amount, now).await?) {
            (Bug::NoMaximum, Added::Full { .. }) => Ok(Added::Used(amount)),
            (_, added) => Ok(added),
        }
    }

    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault> {
        self.inner.close_meter(id, now).await
    }

    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault> {
        self.inner.end_meter(id, end).await
    }

    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault> {
        self.inner.open_meters(before, limit).await
    }

    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault> {
        match (self.bug, self.inner.begin_refund(refund).await?) {
            (Bug::RefundsAgain, RefundStanding::Other | RefundStanding::Done { .. }) => Ok(RefundStanding::Begun),
            (_, standing) => Ok(standing),
        }
    }

    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault> {
        self.inner.end_refund(refund, receipt).await
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        let early = if matches!(self.bug, Bug::ForgetsEarly) { now.plus(120) } else { now };
        self.inner.forget(early).await
    }
}

/// Not done at its first poll.
async fn wait() {
    let mut waited = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if core::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

struct WithBug(Bug);

#[async_trait]
impl Subject for WithBug {
    async fn empty(&self) -> Arc<dyn Store> {
        Arc::new(Faulty { inner: MemoryStore::default(), bug: self.0 })
    }

    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

#[test]
fn every_bug_put_in_is_found() {
    for (bug, rule) in [
        (Bug::ClaimsTwice, "a claim keeps every other out"),
        (Bug::NonceReopens, "a claim keeps every other out"),
        (Bug::NonceAgain, "a nonce is used once over all challenges"),
        (Bug::ProofAgain, "a proof is used once, and a second use changes nothing"),
        (Bug::GrantsFirst, "a proof is used once, and a second use changes nothing"),
        (Bug::ForgetsEarly, "a payment whose hold ran out is taken up by itself, and pays once"),
        (Bug::NeverRevokes, "a revoked entitlement is refused"),
        (Bug::KeepsHold, "what is given back is free again"),
        (Bug::OpensAgain, "a payment whose hold ran out keeps others out"),
        (Bug::NeverResumes, "a payment whose hold ran out is taken up by itself, and pays once"),
        (Bug::SuspendKeeps, "a suspended payment is taken up at once, by itself alone"),
        (Bug::SuspendFrees, "a suspended payment is taken up at once, by itself alone"),
        (Bug::ChecksThenWrites, "of claims at once one wins"),
        (Bug::GrantsAnew, "an entitlement is granted once under its token"),
        (Bug::LookCounts, "a look at an entitlement counts nothing"),
        (Bug::NeverGivesBack, "a use is given back to an entitlement that stands"),
        (Bug::NoMaximum, "a meter counts to its maximum and no further"),
        (Bug::WaiveCloses, "a meter that is waived is never settled"),
        (Bug::RefundsAgain, "a payment is paid back once"),
    ] {
        assert_eq!(block_on(run(&WithBug(bug))).unwrap_err().rule, rule, "{bug:?}");
    }
}
