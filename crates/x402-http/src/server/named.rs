//! Requests that an extension names: one name is for one payment, and the same payment under its name is the same
//! request.
//!
//! A name is claimed like a payment, in the same grant store under a key of its own, and is kept as long as the payment.

use sha2::{Digest, Sha256};
use x402_facilitator_core::Presented;
use x402_types::PaymentKey;
use x402_types::extension::RequestName;

use super::flow::hex;

/// A request with a name from an extension.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The key of the name in the grant store.
    pub(super) key: PaymentKey,
    /// The name of the extension, for messages.
    pub(super) extension: Box<str>,
    /// The identifier of the request in stores and at the facilitator. It binds the name to the bytes of the payment, the
    /// method and the URL, so that everything else under the name is another request.
    pub(super) request: String,
}

impl Named {
    pub(super) fn new(name: &RequestName, method: &str, presented: &Presented) -> Self {
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
        let mut request = of("x402-http named request v1");
        for part in [method, " ", &presented.resource.url, "\n", &presented.raw] {
            request.update(part);
        }
        Self { key: PaymentKey::from_bytes(&key), extension: name.extension.clone(), request: hex(request) }
    }
}
