//! The worker of one lane: it takes the lease, calls the settlement machine step by step, and waits to be woken.
//!
//! It keeps no state that a restart would miss: all pending work is in the ledger. The results that arrive while a commit
//! runs are stored together by the next one.

mod agenda;

use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use x402_facilitator_core::{Carried, LaneId, Lease, PaymentDraft, Progress, Stage, StoredDrafts};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use self::agenda::Agenda;
use crate::backoff;
use crate::clock::now;
use crate::engine::{Engine, Gathering};

/// The number of payments worked on at once.
const AT_ONCE: usize = 256;
/// The longest pause of the lane without an event, and the interval of its looks for payments that it does not know.
const IDLE: Duration = Duration::from_millis(500);
/// The shortest time between two looks at everything in flight: where blocks are faster, several are examined at once.
const BLOCK: Duration = Duration::from_millis(50);
/// The shortest time between two rounds that carry no new payment.
const ROUND: Duration = Duration::from_millis(20);
/// The first pause after another writer was faster.
const YIELD: Duration = Duration::from_millis(10);

enum Done {
    Drafted(PaymentKey, Result<Option<Box<PaymentDraft>>, Fault>),
    Stored(StoredDrafts),
    Carried(Carried),
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The worker of one lane.
pub(crate) struct Lane {
    engine: Arc<Engine>,
    id: LaneId,
    lease: Option<(Lease, Instant)>,
    /// The fence of the lease under which the agenda was read.
    fence: Option<u64>,
    running: FuturesUnordered<Work>,
    agenda: Agenda,
    /// The time of the next look for payments that are not on the agenda.
    look_from: Instant,
    /// Whether a block was not examined yet, and the time from which it is.
    block: bool,
    block_from: Instant,
    /// The drafts to store.
    drafts: Vec<PaymentDraft>,
    storing: bool,
    /// The drafts that wait for a slot.
    ready: Vec<PaymentDraft>,
    carrying: bool,
    /// Whether there may be something to carry beside them.
    wanted: bool,
    carry_from: Instant,
    gathering: Gathering,
    /// The time from which a round without new payments is carried.
    wanted_from: Instant,
    /// The number of consecutive failures to carry.
    carry_failures: u32,
}

impl Lane {
    pub(crate) fn new(engine: Arc<Engine>, id: LaneId) -> Self {
        Self {
            gathering: engine.gathering(&id),
            engine,
            id,
            lease: None,
            fence: None,
            running: FuturesUnordered::new(),
            agenda: Agenda::default(),
            look_from: Instant::now(),
            block: false,
            block_from: Instant::now(),
            drafts: Vec::new(),
            storing: false,
            ready: Vec::new(),
            carrying: false,
            wanted: true,
            carry_from: Instant::now(),
            wanted_from: Instant::now(),
            carry_failures: 0,
        }
    }

    /// Works until `stop` is set and nothing of the lane is unfinished.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let engine = Arc::clone(&self.engine);
        let mut blocks = engine.blocks();
        let mut nonces = engine.nonces();
        let mut block = true;
        let mut failures = 0_u32;
        let mut rounds_from = Instant::now();
        loop {
            let at = Instant::now();
            // The running work continues while the ledger is left alone.
            if rounds_from <= at {
                match self.round(block, at).await {
                    Ok(open) if *stop.borrow() && !open && self.running.is_empty() => return self.give_back().await,
                    // Nothing is carried here: another process has the lane and finishes it.
                    Ok(_) if *stop.borrow() && self.lease.is_none() && self.running.is_empty() => return,
                    Ok(_) => (block, failures) = (false, 0),
                    Err(fault) => {
                        failures = failures.saturating_add(1);
                        tracing::warn!(lane = %self.id, %fault, failures, "the ledger does not answer");
                        rounds_from = at + backoff::rest(backoff::FIRST, failures);
                    }
                }
            }
            let rest_over = self.next_rest_over(at).max(rounds_from);
            tokio::select! {
                Some(done) = self.running.next(), if !self.running.is_empty() => self.note_all(done, Instant::now()),
                () = engine.claimed(&self.id) => {}
                _ = blocks.changed() => block = true,
                _ = nonces.changed() => self.wanted = true,
                _ = stop.changed() => {}
                () = tokio::time::sleep(IDLE) => self.wanted = true,
                () = tokio::time::sleep_until(rest_over) => {}
            }
        }
    }

    /// Starts the work that is due. Returns whether the lane has unfinished payments.
    async fn round(&mut self, block: bool, at: Instant) -> Result<bool, Fault> {
        let Some(lease) = self.hold().await? else {
            // Another process has the lane, and finds what is claimed here.
            self.engine.take_claims(&self.id);
            self.forget();
            return Ok(true);
        };
        self.look(&lease, at).await?;
        let claims = self.engine.take_claims(&self.id);
        if !claims.is_empty() {
            self.engine.note_taken_on(&self.id);
        }
        for key in claims {
            self.agenda.add(key, at);
        }
        self.block |= block;
        if self.block && self.block_from <= at {
            // A new block is examined at once, whatever the pace.
            (self.block, self.block_from) = (false, at + BLOCK);
            self.agenda.hurry(at, at + Duration::from_secs(self.engine.pace().poll));
        }
        while self.agenda.drafting() < AT_ONCE
            && let Some(key) = self.agenda.take(at)
        {
            let engine = Arc::clone(&self.engine);
            self.running.push(Box::pin(async move {
                let draft = engine.settlement().draft(&key, now()).await;
                Done::Drafted(key, draft.map(|draft| draft.map(Box::new)))
            }));
        }
        if !self.storing && !self.drafts.is_empty() {
            self.storing = true;
            let (engine, lease, drafts) = (Arc::clone(&self.engine), lease.clone(), std::mem::take(&mut self.drafts));
            let stored = async move { Done::Stored(engine.settlement().store(&lease, drafts, now()).await) };
            self.running.push(Box::pin(stored));
        }
        if self.next_carry().is_some_and(|from| from <= at) {
            (self.wanted, self.carrying, self.wanted_from) = (false, true, at + ROUND);
            let (engine, drafts) = (Arc::clone(&self.engine), std::mem::take(&mut self.ready));
            let carried = async move { Done::Carried(engine.settlement().carry_drafts(&lease, drafts, now()).await) };
            self.running.push(Box::pin(carried));
        }
        let open = !self.agenda.is_empty();
        self.engine.note_unfinished(&self.id, open);
        Ok(open)
    }

    /// Reads which payments are open: all of them under a new lease, and then those that the lane does not know, which
    /// other processes claimed.
    async fn look(&mut self, lease: &Lease, at: Instant) -> Result<(), Fault> {
        let taken = self.fence != Some(lease.fence);
        if !taken && at < self.look_from {
            return Ok(());
        }
        let (horizon, most) = if taken {
            self.forget();
            (UnixSeconds(u64::MAX), usize::MAX)
        } else {
            // The known payments may be due for the longest time.
            (now(), AT_ONCE.saturating_add(self.agenda.len()))
        };
        for key in self.engine.ledger().due(&self.id, horizon, most).await? {
            if !self.agenda.knows(&key) {
                self.agenda.add(key, at);
            }
        }
        (self.fence, self.look_from) = (Some(lease.fence), at + IDLE);
        Ok(())
    }

    /// Forgets what was read under a lease. The calls that run end without effect on the agenda.
    fn forget(&mut self) {
        self.agenda.clear();
        self.drafts.clear();
        self.ready.clear();
        self.fence = None;
    }

    /// Takes the lease, or renews it after a third of its time, unless this process has its share of the lanes without
    /// this one.
    async fn hold(&mut self) -> Result<Option<Lease>, Fault> {
        let seconds = self.engine.lease_seconds();
        if self.lease.is_some() && !self.engine.shares().keeps(&self.id) {
            tracing::info!(lane = %self.id, "the lane is left to another process");
            self.give_back().await;
        }
        if !self.engine.shares().has_room(&self.id) {
            self.lease = None;
            return Ok(None);
        }
        if let Some((lease, since)) = &self.lease
            && since.elapsed() < Duration::from_secs(seconds) / 3
        {
            return Ok(Some(lease.clone()));
        }
        let asked = Instant::now();
        let lease = self.ask_for_lease(seconds).await?;
        self.lease = lease.clone().map(|lease| (lease, asked));
        match &lease {
            Some(_) => self.engine.shares().takes(&self.id),
            None => self.engine.shares().leaves(&self.id),
        }
        Ok(lease)
    }

    /// Takes or renews the lease. The running work goes on meanwhile: a slow ledger would end a transaction that waits.
    async fn ask_for_lease(&mut self, seconds: u64) -> Result<Option<Lease>, Fault> {
        let (engine, id) = (Arc::clone(&self.engine), self.id.clone());
        let mut lease = pin!(async { engine.ledger().lease(&id, engine.settlement().owner(), seconds).await });
        loop {
            tokio::select! {
                lease = &mut lease => return lease,
                Some(done) = self.running.next(), if !self.running.is_empty() => self.note_all(done, Instant::now()),
            }
        }
    }

    /// Gives the lease back, so that another process need not wait for its end.
    async fn give_back(&mut self) {
        if self.lease.take().is_some()
            && let Err(fault) = self.engine.ledger().lease(&self.id, self.engine.settlement().owner(), 0).await
        {
            tracing::debug!(lane = %self.id, %fault, "the lease ends by the clock");
        }
    }

    /// Returns the time at which the next delayed payment may be tried again.
    fn next_rest_over(&self, at: Instant) -> Instant {
        if self.lease.is_none() {
            // Another process has the lane: nothing is tried here before it is free.
            return at + IDLE;
        }
        let carry = self.next_carry();
        let block = self.block.then_some(self.block_from);
        // A payment without a delay waits for a free place, not for a time.
        let rest = self.agenda.next().filter(|until| *until > at);
        [rest, carry, block, Some(at + IDLE)].into_iter().flatten().min().unwrap_or(at + IDLE)
    }

    /// Returns the time of the next round, if there may be something to carry and none runs.
    fn next_carry(&self) -> Option<Instant> {
        match (self.carrying, self.ready.is_empty(), self.wanted) {
            (true, ..) | (false, true, false) => None,
            (false, false, _) => Some(self.carry_from),
            (false, true, true) => Some(self.carry_from.max(self.wanted_from)),
        }
    }

    /// Notes a result, and all others that are there already: they are stored together.
    fn note_all(&mut self, done: Done, at: Instant) {
        self.note(done, at);
        while let Some(Some(done)) = self.running.next().now_or_never() {
            self.note(done, at);
        }
    }

    fn note(&mut self, done: Done, at: Instant) {
        match done {
            Done::Drafted(key, Ok(Some(draft))) if draft.is_unchanged() => match draft.stage() {
                Stage::Open(due) => self.agenda.rest_undrafted(key, instant(due, at), 0),
                Stage::Answered | Stage::Overtaken => self.agenda.remove(&key),
            },
            Done::Drafted(key, Ok(Some(draft))) => {
                if !self.agenda.knows(&key) {
                    return;
                }
                self.agenda.drafted(&key);
                if draft.is_ready() {
                    self.ready.push(*draft);
                    // A ready payment is carried at once, or once others had the time to join it, whatever else failed.
                    let Gathering { pause, most } = self.gathering;
                    let from = if self.ready.len() < most { at + pause } else { at };
                    self.carry_from = if self.ready.len() == 1 { from } else { self.carry_from.min(from) };
                } else {
                    self.drafts.push(*draft);
                }
            }
            Done::Drafted(key, Ok(None)) => self.ended(&key),
            Done::Drafted(key, Err(fault)) => {
                self.agenda.drafted(&key);
                self.failed(key, &fault, at);
            }
            Done::Stored(stored) => {
                self.storing = false;
                self.note_stored(stored, at);
            }
            Done::Carried(Carried { lane, drafts }) => {
                self.carrying = false;
                self.note_stored(drafts, at);
                self.note_carried(&lane, at);
            }
        }
    }

    fn note_stored(&mut self, stored: StoredDrafts, at: Instant) {
        for (key, stage) in stored {
            match stage {
                Ok(Stage::Answered) => self.ended(&key),
                Ok(Stage::Open(due)) => self.agenda.rest(key, instant(due, at), 0),
                Ok(Stage::Overtaken) => {
                    // Another process may have the lane: the lease is checked before anything else is tried.
                    self.lease = None;
                    let failures = self.agenda.failures_after(&key);
                    self.agenda.rest(key, at + backoff::rest(YIELD, failures), failures);
                }
                Err(fault) => self.failed(key, &fault, at),
            }
        }
    }

    /// Wakes those that wait for a payment: it has its answer.
    fn ended(&mut self, key: &PaymentKey) {
        self.agenda.remove(key);
        self.engine.waiters().wake(key);
    }

    fn failed(&mut self, key: PaymentKey, fault: &Fault, at: Instant) {
        let failures = self.agenda.failures_after(&key);
        let rest = backoff::rest(backoff::FIRST, failures);
        tracing::warn!(lane = %self.id, %key, %fault, failures, ?rest, "a payment will be tried again");
        self.agenda.rest(key, at + rest, failures);
    }

    fn note_carried(&mut self, progress: &Result<Progress, Fault>, at: Instant) {
        self.carry_failures = self.carry_failures.saturating_add(1);
        let failures = self.carry_failures;
        let rest = match progress {
            Ok(Progress::Idle | Progress::Moved) => {
                self.carry_failures = 0;
                return;
            }
            Ok(Progress::Overtaken) => {
                self.lease = None;
                backoff::rest(YIELD, failures)
            }
            Err(fault) => {
                let rest = backoff::rest(backoff::FIRST, failures);
                tracing::warn!(lane = %self.id, %fault, failures, ?rest, "transactions will be tried again");
                rest
            }
        };
        self.wanted = true;
        self.carry_from = at + rest;
    }
}

/// Converts a time of the ledger: `at` is this moment.
fn instant(due: UnixSeconds, at: Instant) -> Instant {
    at + Duration::from_secs(due.0.saturating_sub(now().0))
}

#[cfg(test)]
mod tests;
