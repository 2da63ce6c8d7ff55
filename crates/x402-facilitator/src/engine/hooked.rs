//! The hooks of a facilitator: functions of the process that embeds it, around verification and settlement.

use x402_facilitator_core::Outcome;
use x402_types::hooks::{HookedPayment, Hooks, PaymentEvent};
use x402_types::{Claim, Refusal};

use super::Engine;

impl Engine {
    /// Sets the hooks. Those before a settlement are called for a payment that has no row yet. The observers learn what the
    /// requests are answered; an [observer of the machine](x402_facilitator_core::Observer) learns what happens between
    /// them.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Returns a payment as hooks get it, if there are any.
    pub(super) fn hooked(&self, claim: &Claim) -> Option<HookedPayment> {
        (!self.hooks.is_empty()).then(|| HookedPayment::new(claim, claim.resource.as_ref()))
    }

    /// Calls the hooks before verification.
    pub(super) async fn before_verify(&self, payment: &HookedPayment) -> Result<(), Refusal> {
        self.hooks.before_verify(payment).await
    }

    /// Calls the hooks before settlement, unless the payment has a row: that one is finished, or has its answer.
    pub(super) async fn before_settle(&self, payment: &HookedPayment) -> Result<(), Refusal> {
        let claimed = match self.settlement.key(&payment.claim) {
            Ok(key) => self.settlement.payment(&key).await?.is_some(),
            // A claim without a key is refused by the machine.
            Err(_) => true,
        };
        if claimed { Ok(()) } else { self.hooks.before_settle(payment).await }
    }

    /// Passes an event to the observers.
    pub(super) fn observe(&self, payment: &HookedPayment, event: &PaymentEvent<'_>) {
        if let Err(fault) = self.hooks.observe(payment, event) {
            let network = payment.claim.terms.network;
            tracing::warn!(%network, %fault, "an observer of payments failed");
        }
    }

    /// Passes the answer of a request for settlement to the observers.
    pub(super) fn observe_answer(&self, payment: &HookedPayment, answer: Result<&Outcome, &Refusal>) {
        let told = |outcome: &Outcome| {
            let receipt = outcome.to_response(&payment.claim.terms);
            match outcome {
                Outcome::Settled { .. } => self.observe(payment, &PaymentEvent::Settled { receipt: &receipt }),
                Outcome::Pending { .. } => self.observe(payment, &PaymentEvent::Unknown { fault: None }),
                _ => self.observe(payment, &PaymentEvent::NotSettled { receipt: &receipt }),
            }
        };
        match answer {
            Ok(outcome) => told(outcome),
            Err(refusal @ Refusal::Rejection(_)) => self.observe(payment, &PaymentEvent::NotVerified { refusal }),
            Err(Refusal::Fault(fault)) => self.observe(payment, &PaymentEvent::Unknown { fault: Some(fault) }),
        }
    }
}
