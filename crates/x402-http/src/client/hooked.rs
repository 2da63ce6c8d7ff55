//! The hooks of a client: where a payment calls them.

use http::{HeaderName, HeaderValue};
use x402_codec::header;
use x402_types::hooks::{HookedPurchase, PurchaseEvent};
use x402_types::{PaymentPayload, Refusal, Terms};

use super::flight::{Purchase, Signed};
use super::outcome::Outcome;
use super::payer::NotSigned;
use super::{PayError, Payer, Receipt};

impl Payer {
    /// Calls the hooks before a payment of these terms.
    pub(super) async fn before_payment(&self, terms: &Terms, purchase: &Purchase) -> Result<(), PayError> {
        if self.hooks.is_empty() {
            return Ok(());
        }
        let purchase = hooked(Some(terms.clone()), purchase);
        self.hooks.before_payment(&purchase).await.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => PayError::Hook(rejection),
            Refusal::Fault(fault) => fault.into(),
        })
    }

    /// Passes to the observers whether a payment of these terms was signed.
    pub(super) fn observe_signed(&self, terms: &Terms, purchase: &Purchase, signed: &Result<Signed, NotSigned>) {
        if self.hooks.is_empty() {
            return;
        }
        let event = match signed {
            Ok(signed) => PurchaseEvent::Signed { valid_until: signed.valid_until },
            Err(NotSigned::Entry(why)) => PurchaseEvent::NotSigned { why },
            Err(NotSigned::Whole(why)) => PurchaseEvent::NotSigned { why },
        };
        self.observe(&hooked(Some(terms.clone()), purchase), &event);
    }

    /// Passes the answer of a payment to the observers. A refusal of one that was sent `before` with an unknown result proves
    /// nothing about that result.
    pub(super) fn observe_outcome(
        &self,
        purchase: &Purchase,
        header: &(HeaderName, HeaderValue),
        outcome: &Outcome,
        before: bool,
    ) {
        if self.hooks.is_empty() {
            return;
        }
        let receipt = |receipt: &Option<Receipt>| receipt.as_ref().map(|Receipt(receipt)| receipt.clone());
        let (receipt, made) = match outcome {
            Outcome::Paid(known) => (receipt(known), Some(true)),
            Outcome::Unserved(Receipt(known)) => (Some(known.clone()), Some(true)),
            Outcome::Refused(known) if !before => (receipt(known), Some(false)),
            Outcome::Refused(known) | Outcome::Denied(known) => (receipt(known), None),
            Outcome::Pending(known, _) | Outcome::Open(known) => (receipt(known), None),
        };
        let receipt = receipt.as_ref();
        let event = match made {
            Some(true) => PurchaseEvent::Paid { receipt },
            Some(false) => PurchaseEvent::Refused { receipt },
            None => PurchaseEvent::Unknown { receipt },
        };
        self.observe(&self.presented(purchase, header), &event);
    }

    /// Reports to the observers that the transport failed with a payment under way.
    pub(super) fn observe_unknown(&self, purchase: &Purchase, header: &(HeaderName, HeaderValue)) {
        if !self.hooks.is_empty() {
            self.observe(&self.presented(purchase, header), &PurchaseEvent::Unknown { receipt: None });
        }
    }

    /// Describes a payment that is presented, by the terms that it accepts.
    fn presented(&self, purchase: &Purchase, (name, value): &(HeaderName, HeaderValue)) -> HookedPurchase {
        let payment = (*name == header::PAYMENT_SIGNATURE).then(|| header::decode(value.as_bytes(), &self.limits));
        match payment {
            Some(Ok(PaymentPayload::V2(payment))) => hooked(Some(payment.accepted.into()), purchase),
            _ => hooked(None, purchase),
        }
    }

    fn observe(&self, purchase: &HookedPurchase, event: &PurchaseEvent<'_>) {
        // The panic of an observer is printed by the process; the payment goes on.
        let _ = self.hooks.observe(purchase, event);
    }
}

fn hooked(terms: Option<Terms>, purchase: &Purchase) -> HookedPurchase {
    HookedPurchase::new(terms, purchase.url.as_str(), purchase.method.as_str())
}
