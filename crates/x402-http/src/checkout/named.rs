//! Requests that an extension names: one name is for one payment, and the same payment under its name is the same
//! request.
//!
//! A name is claimed like a payment, in the same grant store under a key of its own, and is kept as long as the payment.

use sha2::{Digest, Sha256};
use x402_types::extension::{RequestName, Required};
use x402_types::{ErrorReason, Offer, PaymentKey, Refusal, Rejection};

use super::{Checkout, Declined, Dialect, IncidentStep, PaymentIn, Received};
use crate::digest::hex;

/// A request with a name from an extension.
pub(super) struct Named {
    /// The key of the name in the grant store.
    pub(super) key: PaymentKey,
    /// The name of the extension, for messages.
    extension: Box<str>,
    /// The identifier of the request in stores and at the facilitator. It binds the name to the bytes of the payment, the
    /// method and the URL, so that everything else under the name is another request.
    pub(super) request: String,
}

impl Named {
    fn new(name: RequestName, exact: &str) -> Self {
        let of = |domain: &str| {
            let mut hash = Sha256::new();
            for part in [domain, &name.extension, &name.name] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash
        };
        // The kind 0 is no kind of authorization.
        let mut key = vec![0];
        key.extend_from_slice(&of("x402-http request name v1").finalize());
        let request = hex(of("x402-http named request v1").chain_update(exact));
        Self { key: PaymentKey::from_bytes(&key), request, extension: name.extension }
    }

    /// Returns the refusal of another payment under the name.
    pub(super) fn taken(&self) -> Declined {
        let why = format!("{}: it names another payment", self.extension);
        Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(why).into()
    }
}

/// Hashes all of a payment that a name is bound to: the method, the URL and the bytes.
pub(super) fn exact(payment: &PaymentIn<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [payment.method, " ", &payment.resource.url, "\n", &payment.raw] {
        hash.update(part);
    }
    hex(hash)
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Compares the echo of extensions in a payment with the declarations of the 402 document.
    pub(super) fn compare_echo(&self, received: &Received<'_, D>, offers: &[Offer]) -> Result<(), Rejection> {
        let request = &received.matched.request;
        let declared = self.extensions.declared(&Required::new(&request.resource, offers, self.moment()));
        self.extensions.compare(&declared, &request.claim)
    }
}

impl<D: Dialect + ?Sized> Received<'_, D> {
    /// Passes the payment to the extensions. A name that one of them gives must be free, or this request's own.
    pub(super) async fn named(&self) -> Result<Option<Named>, Declined> {
        let Some(exact) = &self.matched.exact else { return Ok(None) };
        let name = self.checkout.extensions.on_claim(&self.matched.request.claim).await;
        let name = name.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => rejection.into(),
            Refusal::Fault(fault) => self.unavailable(IncidentStep::Extension, fault),
        })?;
        let Some(named) = name.map(|name| Named::new(name, exact)) else { return Ok(None) };
        let known = self.checkout.grants.look(&named.key).await;
        match known.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))? {
            Some(known) if known.request != named.request => Err(named.taken()),
            _ => Ok(Some(named)),
        }
    }
}
