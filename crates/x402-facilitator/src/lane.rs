//! The worker of one lane: it takes the lease, calls the settlement machine step by step, and waits to be woken.
//!
//! It keeps no state that a restart would miss: all pending work is in the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use x402_facilitator_core::{LaneId, Lease, Progress};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::backoff;
use crate::clock::now;
use crate::engine::Engine;

/// The number of payments worked on at once.
const AT_ONCE: usize = 256;
/// The longest pause of the lane without an event.
const IDLE: Duration = Duration::from_millis(500);
/// The first pause after another writer was faster.
const YIELD: Duration = Duration::from_millis(10);

enum Done {
    Advanced(PaymentKey, Result<Progress, Fault>),
    Carried(Result<Progress, Fault>),
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The state of a payment that is worked on, or that failed.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    working: bool,
    /// The number of consecutive failures.
    failures: u32,
    /// The time before which it is not tried again.
    until: Option<Instant>,
}

impl Turn {
    fn is_free(&self, at: Instant) -> bool {
        !self.working && self.until.is_none_or(|until| until <= at)
    }
}

/// The worker of one lane.
pub(crate) struct Lane {
    engine: Arc<Engine>,
    id: LaneId,
    lease: Option<(Lease, Instant)>,
    running: FuturesUnordered<Work>,
    /// The payments that are worked on, or that failed at the last attempt.
    turns: BTreeMap<PaymentKey, Turn>,
    carrying: bool,
    /// Whether there may be something to carry.
    wanted: bool,
    carry_from: Instant,
    /// The number of consecutive failures to carry.
    carry_failures: u32,
}

impl Lane {
    pub(crate) fn new(engine: Arc<Engine>, id: LaneId) -> Self {
        Self {
            engine,
            id,
            lease: None,
            running: FuturesUnordered::new(),
            turns: BTreeMap::new(),
            carrying: false,
            wanted: true,
            carry_from: Instant::now(),
            carry_failures: 0,
        }
    }

    /// Works until `stop` is set and nothing of the lane is unfinished.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut claims = self.engine.claims();
        let mut blocks = self.engine.blocks();
        let mut nonces = self.engine.nonces();
        let mut block = true;
        let mut failures = 0_u32;
        let mut rounds_from = Instant::now();
        loop {
            let at = Instant::now();
            // The running work continues while the ledger is left alone.
            if rounds_from <= at {
                match self.round(block, at).await {
                    Ok(open) if *stop.borrow() && !open && self.running.is_empty() => return,
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
                Some(done) = self.running.next(), if !self.running.is_empty() => self.note(done, Instant::now()),
                _ = claims.changed() => {}
                _ = blocks.changed() => { block = true; self.wanted = true; }
                _ = nonces.changed() => self.wanted = true,
                _ = stop.changed() => {}
                () = tokio::time::sleep(IDLE) => self.wanted = true,
                () = tokio::time::sleep_until(rest_over.into()) => {}
            }
        }
    }

    /// Starts the work that is due. Returns whether the lane has unfinished payments.
    async fn round(&mut self, block: bool, at: Instant) -> Result<bool, Fault> {
        let Some(lease) = self.hold().await? else { return Ok(true) };
        let time = now();
        // A new block is examined at once, whatever the pace.
        let horizon = if block { UnixSeconds(time.0.saturating_add(self.engine.pace().poll)) } else { time };
        let working = self.turns.values().filter(|turn| turn.working).count();
        // The delayed payments are also due, and for the longest time: that many more are read, so that the others have
        // their turn.
        let most = AT_ONCE.saturating_add(self.turns.len());
        let due = self.engine.ledger().due(&self.id, horizon, most).await?;
        self.forget_turns(&due, most);
        let free = due.into_iter().filter(|key| self.turns.get(key).is_none_or(|turn| turn.is_free(at)));
        for key in free.take(AT_ONCE.saturating_sub(working)).collect::<Vec<_>>() {
            self.turns.entry(key.clone()).or_default().working = true;
            let (engine, lease) = (Arc::clone(&self.engine), lease.clone());
            self.running.push(Box::pin(async move {
                let done = engine.settlement().advance(&lease, &key, now()).await;
                Done::Advanced(key, done)
            }));
        }
        if self.wanted && !self.carrying && self.carry_from <= at {
            (self.wanted, self.carrying) = (false, true);
            let engine = Arc::clone(&self.engine);
            self.running.push(Box::pin(async move { Done::Carried(engine.settlement().carry(&lease, now()).await) }));
        }
        let open = !self.engine.ledger().due(&self.id, UnixSeconds(u64::MAX), 1).await?.is_empty();
        self.engine.note_unfinished(&self.id, open);
        Ok(open)
    }

    /// Drops the payments that are no longer due although all due ones were read: another process finished them.
    fn forget_turns(&mut self, due: &[PaymentKey], most: usize) {
        if due.len() < most && self.turns.len() > due.len() {
            let due: BTreeSet<&PaymentKey> = due.iter().collect();
            self.turns.retain(|key, turn| turn.working || due.contains(key));
        }
    }

    /// Takes the lease, or renews it after a third of its time.
    async fn hold(&mut self) -> Result<Option<Lease>, Fault> {
        let seconds = self.engine.lease_seconds();
        if let Some((lease, since)) = &self.lease
            && since.elapsed() < Duration::from_secs(seconds) / 3
        {
            return Ok(Some(lease.clone()));
        }
        let asked = Instant::now();
        let lease = self.engine.ledger().lease(&self.id, self.engine.settlement().owner(), seconds).await?;
        self.lease = lease.clone().map(|lease| (lease, asked));
        Ok(lease)
    }

    /// Returns the time at which the next delayed payment may be tried again.
    fn next_rest_over(&self, at: Instant) -> Instant {
        if self.lease.is_none() {
            // Another process has the lane: nothing is tried here before it is free.
            return at + IDLE;
        }
        let carry = (self.wanted && !self.carrying).then_some(self.carry_from);
        let rests = self.turns.values().filter(|turn| !turn.working).filter_map(|turn| turn.until);
        // A payment without a delay waits for a free place, not for a time.
        rests.filter(|until| *until > at).chain(carry).min().unwrap_or_else(|| at + IDLE)
    }

    fn note(&mut self, done: Done, at: Instant) {
        match done {
            Done::Advanced(key, progress) => {
                self.noted(&progress);
                let failures = self.turns.get(&key).map_or(0, |turn| turn.failures).saturating_add(1);
                let Some(rest) = rest(&progress, failures) else {
                    self.turns.remove(&key);
                    if progress == Ok(Progress::Moved) {
                        // A payment that has moved is carried at once, whatever else failed.
                        self.carry_from = at;
                    }
                    return;
                };
                if let Err(fault) = &progress {
                    tracing::warn!(lane = %self.id, %key, %fault, failures, ?rest, "a payment will be tried again");
                }
                self.turns.insert(key, Turn { working: false, failures, until: Some(at + rest) });
            }
            Done::Carried(progress) => {
                self.noted(&progress);
                self.carrying = false;
                self.carry_failures = self.carry_failures.saturating_add(1);
                let Some(rest) = rest(&progress, self.carry_failures) else {
                    self.carry_failures = 0;
                    return;
                };
                if let Err(fault) = &progress {
                    let failures = self.carry_failures;
                    tracing::warn!(lane = %self.id, %fault, failures, ?rest, "transactions will be tried again");
                }
                self.wanted = true;
                self.carry_from = at + rest;
            }
        }
    }

    fn noted(&mut self, progress: &Result<Progress, Fault>) {
        match progress {
            Ok(Progress::Moved) => {
                self.wanted = true;
                self.engine.moved();
            }
            // Another process may have the lane: the lease is checked before anything else is tried.
            Ok(Progress::Overtaken) => self.lease = None,
            Ok(Progress::Idle) | Err(_) => {}
        }
    }
}

/// Returns the delay after consecutive failures, or after another writer was faster; `None` after a success.
fn rest(progress: &Result<Progress, Fault>, failures: u32) -> Option<Duration> {
    match progress {
        Ok(Progress::Idle | Progress::Moved) => None,
        Ok(Progress::Overtaken) => Some(backoff::rest(YIELD, failures)),
        Err(_) => Some(backoff::rest(backoff::FIRST, failures)),
    }
}

#[cfg(test)]
mod tests;
