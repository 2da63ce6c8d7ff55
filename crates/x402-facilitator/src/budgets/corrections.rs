//! The corrections of what payments are counted with, beside the settlement and never before it. One that is lost leaves a
//! payment counted with what was reserved for it: a budget may be too careful until its day ends, never too generous.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use x402_store::budgets::Measure;
use x402_types::{AtomicAmount, PaymentKey};

use super::NetworkBudgets;

/// The most corrections that wait.
const WAITING: usize = 4_096;

/// The amount of a payment that has its end, in place of what was reserved for it.
#[derive(Debug)]
pub(crate) struct Correction {
    pub(crate) payment: PaymentKey,
    pub(crate) measure: Measure,
    pub(crate) amount: AtomicAmount,
}

/// The noting half. Without budgets nothing is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct CorrectionQueue(Option<Sender<Correction>>);

/// The storing half: a task runs it.
#[derive(Debug)]
pub(crate) struct Corrections(Receiver<Correction>);

/// Makes the two halves.
pub(crate) fn corrections() -> (CorrectionQueue, Corrections) {
    let (queue, waiting) = channel(WAITING);
    (CorrectionQueue(Some(queue)), Corrections(waiting))
}

impl CorrectionQueue {
    /// Notes what a payment was, without waiting.
    pub(crate) fn note(&self, payment: &PaymentKey, measure: Measure, amount: AtomicAmount) {
        let Some(queue) = self.0.as_ref().filter(|queue| !queue.is_closed()) else { return };
        if queue.try_send(Correction { payment: payment.clone(), measure, amount }).is_err() {
            tracing::warn!(key = %payment, "a budget keeps what was reserved for a payment: too many wait");
        }
    }
}

impl Corrections {
    /// Stores corrections until `stop` is set, and then those that wait.
    pub(crate) async fn run(mut self, budgets: Arc<NetworkBudgets>, mut stop: watch::Receiver<bool>) {
        loop {
            let next = tokio::select! {
                biased;
                next = self.0.recv() => next,
                _ = stop.wait_for(|stop| *stop) => self.0.try_recv().ok(),
            };
            let Some(correction) = next else { return };
            if let Err(fault) = budgets.correct(&correction).await {
                tracing::warn!(key = %correction.payment, %fault, "a budget keeps what was reserved for a payment");
            }
        }
    }
}
