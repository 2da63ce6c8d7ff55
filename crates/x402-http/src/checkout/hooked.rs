//! The hooks of a seller: where a payment calls them.

use std::sync::Arc;

use x402_types::hooks::{Cancellation, HookedPayment, Hooks, PaymentEvent};
use x402_types::v2::SettleResponse;
use x402_types::{Fault, Refusal, Rejection};

use super::{Checkout, Declined, Dialect, IncidentStep, Received};

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Sets the hooks: functions that are called around verification and settlement.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = Arc::new(hooks);
        self
    }
}

impl<D: Dialect + ?Sized> Received<'_, D> {
    /// Returns the payment as hooks get it, if there are any.
    pub(super) fn hooked(&self) -> Option<HookedPayment> {
        let request = &self.matched.request;
        (!self.checkout.hooks.is_empty()).then(|| HookedPayment::new(&request.claim, Some(&request.resource)))
    }

    /// Calls the hooks before verification.
    pub(super) async fn before_verify(&self) -> Result<(), Declined> {
        let Some(payment) = self.hooked() else { return Ok(()) };
        let Err(refusal) = self.checkout.hooks.before_verify(&payment).await else { return Ok(()) };
        self.observe(&payment, &PaymentEvent::NotVerified { refusal: &refusal });
        Err(self.refused(refusal))
    }

    /// Calls the hooks before settlement.
    pub(super) async fn before_settle(&self) -> Result<(), Declined> {
        let Some(payment) = self.hooked() else { return Ok(()) };
        let refused = self.checkout.hooks.before_settle(&payment).await;
        refused.map_err(|refusal| self.refused(refusal))
    }

    /// Reports to the observers that the payment was verified.
    pub(super) fn observe_verified(&self, payer: Option<&str>) {
        if let Some(payment) = self.hooked() {
            self.observe(&payment, &PaymentEvent::Verified { payer });
        }
    }

    /// Reports to the observers that the payment was refused, and returns the refusal.
    pub(super) fn observe_rejected(&self, rejection: Rejection) -> Rejection {
        if let Some(payment) = self.hooked() {
            let refusal = Refusal::Rejection(rejection.clone());
            self.observe(&payment, &PaymentEvent::NotVerified { refusal: &refusal });
        }
        rejection
    }

    /// Passes an event to the observers.
    pub(super) fn observe(&self, payment: &HookedPayment, event: &PaymentEvent<'_>) {
        if let Err(fault) = self.checkout.hooks.observe(payment, event) {
            self.report(IncidentStep::Hook, &fault);
        }
    }

    fn refused(&self, refusal: Refusal) -> Declined {
        match refusal {
            Refusal::Rejection(rejection) => rejection.into(),
            Refusal::Fault(fault) => self.unavailable(IncidentStep::Hook, fault),
        }
    }
}

/// The watch over a payment whose key is claimed: the observers learn how its request ended, also of one that is
/// dropped.
pub(super) struct Watch(Option<Box<Watched>>);

struct Watched {
    hooks: Arc<Hooks>,
    payment: HookedPayment,
    stage: Stage,
}

/// The stage of a request, which may be dropped in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The work is done, or will be.
    Working { settled: bool },
    /// The settlement is requested.
    Settling,
    /// The end was reported.
    Over,
}

impl Watch {
    /// Begins to watch a payment before its work is done.
    pub(super) fn begin<D: Dialect + ?Sized>(received: &Received<'_, D>) -> Self {
        Self(received.hooked().map(|payment| {
            let hooks = Arc::clone(&received.checkout.hooks);
            Box::new(Watched { hooks, payment, stage: Stage::Working { settled: false } })
        }))
    }

    /// Notes that the settlement is requested now.
    pub(super) fn settling<D: Dialect + ?Sized>(&mut self, received: &Received<'_, D>) {
        if let (Some(watched), Some(payment)) = (self.0.as_mut(), received.hooked()) {
            (watched.payment, watched.stage) = (payment, Stage::Settling);
        }
    }

    /// Reports that the payment was settled. Work follows, or the answer.
    pub(super) fn settled(&mut self, receipt: &SettleResponse) {
        self.tell(&PaymentEvent::Settled { receipt }, Stage::Working { settled: true });
    }

    /// Reports that the settlement failed.
    pub(super) fn not_settled(&mut self, receipt: &SettleResponse) {
        self.tell(&PaymentEvent::NotSettled { receipt }, Stage::Over);
    }

    /// Reports that the result is unknown.
    pub(super) fn unknown(&mut self, fault: Option<&Fault>) {
        self.tell(&PaymentEvent::Unknown { fault }, Stage::Over);
    }

    /// Reports that the request ended without a paid answer.
    pub(super) fn cancel(&mut self, why: Cancellation) {
        if let Some(Stage::Working { settled }) = self.0.as_ref().map(|watched| watched.stage) {
            self.tell(&PaymentEvent::Canceled { why, settled }, Stage::Over);
        }
    }

    /// Notes that the answer leaves.
    pub(super) fn over(&mut self) {
        if let Some(watched) = self.0.as_mut() {
            watched.stage = Stage::Over;
        }
    }

    fn tell(&mut self, event: &PaymentEvent<'_>, next: Stage) {
        let Some(watched) = self.0.as_mut() else { return };
        watched.stage = next;
        // The panic of an observer is printed by the process; the payment goes on.
        let _ = watched.hooks.observe(&watched.payment, event);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        match self.0.as_ref().map(|watched| watched.stage) {
            Some(Stage::Working { .. }) => self.cancel(Cancellation::Dropped),
            Some(Stage::Settling) => self.unknown(None),
            Some(Stage::Over) | None => {}
        }
    }
}
