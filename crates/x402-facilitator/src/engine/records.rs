//! Settled payments on their way to the extensions that record them.
//!
//! Between the moment that a success is stored as answered and its answer nothing may wait or fail, so that a record is
//! written by a task beside the requests. A full queue loses records, never answers.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use x402_types::extension::{Extensions, SettledClaim};
use x402_types::v2::SettleResponse;
use x402_types::{Claim, UnixSeconds};

/// The most records that wait.
const QUEUE: usize = 1_024;

/// A settled payment that is to be recorded.
#[derive(Debug)]
struct Record {
    claim: Claim,
    receipt: SettleResponse,
    now: UnixSeconds,
}

/// The queue of records.
#[derive(Debug)]
pub(super) struct Records {
    queue: Sender<Record>,
    waiting: Mutex<Option<Waiting>>,
}

/// The end of the queue at which records are taken.
#[derive(Debug)]
pub(super) struct Waiting(Receiver<Record>);

impl Default for Records {
    fn default() -> Self {
        let (queue, waiting) = channel(QUEUE);
        Self { queue, waiting: Mutex::new(Some(Waiting(waiting))) }
    }
}

impl Records {
    /// Hands a settled payment over, without waiting.
    pub(super) fn add(&self, claim: &Claim, receipt: &SettleResponse, now: UnixSeconds) {
        let record = Record { claim: claim.clone(), receipt: receipt.clone(), now };
        if self.queue.try_send(record).is_err() {
            let (network, transaction) = (&receipt.network, &receipt.transaction);
            tracing::warn!(%network, %transaction, "a settled payment was not recorded by the extensions: too many wait");
        }
    }

    /// Takes the other end, which exists once.
    pub(super) fn take(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Waiting {
    /// Records payments until `stop` is set, and then those that wait.
    pub(super) async fn run(mut self, extensions: &Extensions, mut stop: watch::Receiver<bool>) {
        loop {
            let next = tokio::select! {
                biased;
                next = self.0.recv() => next,
                _ = stop.wait_for(|stop| *stop) => self.0.try_recv().ok(),
            };
            let Some(Record { claim, receipt, now }) = next else { return };
            let settled = SettledClaim::new(&claim, claim.resource.as_ref(), &receipt, now);
            if let Err(fault) = extensions.on_settled(&settled).await {
                let (network, transaction) = (&receipt.network, &receipt.transaction);
                tracing::warn!(%network, %transaction, %fault, "an extension did not record a settled payment");
            }
        }
    }
}
