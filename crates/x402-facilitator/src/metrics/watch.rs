//! The observer of the settlement machine: counters, one span for each payment, and notices for those that wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Span;
use x402_facilitator_core::{Happening, Observer, Payment};
use x402_store::budgets::Measure;
use x402_types::{AtomicAmount, PaymentKey, UnixSeconds};

use super::gas::GasReads;
use super::{Metrics, names};
use crate::budgets::CorrectionQueue;

/// The most spans that are kept: another process may bring payments to their end that were claimed here.
const MOST_SPANS: usize = 8_192;

/// The observer. Its events neither block nor fail.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    metrics: Metrics,
    /// The spans of the open payments, each from its claim to its answer. A payment that a former process claimed gets
    /// one with its first event here.
    spans: Mutex<BTreeMap<PaymentKey, Span>>,
    gas: GasReads,
    corrections: CorrectionQueue,
}

impl Watch {
    pub(crate) fn new(metrics: Metrics, gas: GasReads, corrections: CorrectionQueue) -> Self {
        Self { metrics, spans: Mutex::default(), gas, corrections }
    }

    fn spans(&self) -> MutexGuard<'_, BTreeMap<PaymentKey, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn span(&self, payment: &Payment) -> Span {
        let mut spans = self.spans();
        if spans.len() >= MOST_SPANS && !spans.contains_key(&payment.key) {
            spans.pop_first();
        }
        spans.entry(payment.key.clone()).or_insert_with(|| span(payment)).clone()
    }

    fn answered(&self, payment: &Payment, age: Option<u64>) {
        let terms = &payment.claim.terms;
        let (network, scheme) = (terms.network.as_str(), terms.scheme.as_str());
        let span = self.span(payment);
        self.spans().remove(&payment.key);
        if let Some(age) = age {
            self.metrics.observe(&names::PAYMENT_SECONDS, &[network], Duration::from_secs(age));
        }
        match &payment.answer {
            Some(Ok(receipt)) => {
                self.metrics.add(&names::ANSWERED, &[network, scheme, "settled"], 1);
                let amount = receipt.amount.as_ref().unwrap_or(&terms.amount);
                if *amount != terms.amount {
                    self.corrections.note(&payment.key, Measure::Money, *amount);
                }
                let amount = amount.to_string().parse().unwrap_or(u128::MAX);
                self.metrics.add(&names::SETTLED_VALUE, &[network, &terms.asset], amount);
                let transaction = receipt.transaction.as_ref();
                if let Some(transaction) = transaction {
                    self.gas.note_settled(&payment.key, terms.network, &terms.asset, transaction);
                }
                let transaction = transaction.map(tracing::field::display);
                span.in_scope(|| tracing::info!(transaction, seconds = age, "settled"));
            }
            Some(Err(reason)) => {
                self.metrics.add(&names::ANSWERED, &[network, scheme, "failed"], 1);
                self.corrections.note(&payment.key, Measure::Money, AtomicAmount::ZERO);
                // A payment that never had an account nonce cost nothing. A transaction that moved nothing may have cost
                // what was reserved.
                if payment.steps.iter().all(|step| step.carriers.is_empty()) {
                    self.corrections.note(&payment.key, Measure::Gas, AtomicAmount::ZERO);
                }
                span.in_scope(|| tracing::info!(%reason, seconds = age, "failed"));
            }
            None => {}
        }
    }
}

fn span(payment: &Payment) -> Span {
    let terms = &payment.claim.terms;
    tracing::error_span!(
        "payment",
        key = %payment.key,
        scheme = %terms.scheme,
        network = %terms.network,
        lane = %payment.lane,
        caller = %payment.claim.identity.caller,
    )
}

impl Observer for Watch {
    fn notice(&self, happening: &Happening<'_>, now: UnixSeconds) {
        let metrics = &self.metrics;
        match *happening {
            Happening::Refused { claim, rejection } => {
                let terms = &claim.terms;
                let reason = rejection.reason.as_str();
                metrics.add(&names::REFUSED, &[terms.network.as_str(), terms.scheme.as_str(), reason], 1);
            }
            Happening::Claimed { payment } => {
                let terms = &payment.claim.terms;
                let caller = &payment.claim.identity.caller;
                metrics.add(&names::CLAIMED, &[terms.network.as_str(), terms.scheme.as_str(), caller], 1);
                self.span(payment).in_scope(|| tracing::debug!("claimed"));
            }
            Happening::Planned { payment, step } => {
                self.span(payment).in_scope(|| tracing::debug!(step = %step.name, "planned"));
            }
            Happening::Stored { slot, attempt } => {
                let kind = if slot.attempts.len() > 1 { "replacement" } else { "first" };
                metrics.add(&names::ATTEMPTS, &[slot.id.lane.as_str(), kind], 1);
                let spans = self.spans();
                for span in slot.payments.iter().filter_map(|key| spans.get(key)) {
                    span.in_scope(|| tracing::debug!(tx = %attempt.tx, nonce = slot.id.nonce, "stored"));
                }
            }
            Happening::Sent { slot, attempt } => {
                metrics.add(&names::SENT, &[slot.id.lane.as_str()], 1);
                self.gas.note_sent(&attempt.tx, slot.payments.len());
                let spans = self.spans();
                for span in slot.payments.iter().filter_map(|key| spans.get(key)) {
                    span.in_scope(|| tracing::debug!(tx = %attempt.tx, nonce = slot.id.nonce, "sent"));
                }
            }
            Happening::Landed { payment, step } => {
                self.span(payment).in_scope(|| tracing::debug!(step = %step.name, state = ?step.state, "landed"));
            }
            Happening::Answered { payment } => self.answered(payment, happening.age(now)),
            Happening::Faulted { during, fault } => {
                metrics.add(&names::FAULTS, &[during.as_str(), fault.kind().as_str()], 1);
            }
            _ => {}
        }
    }
}
