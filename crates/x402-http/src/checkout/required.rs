//! The 402 document: the offers for a resource, and the reason why a payment was refused.

use x402_types::extension::Required;
use x402_types::v2::{self, ResourceInfo};
use x402_types::{Members, Offer, RawJson, Rejection, Version};

use super::{Checkout, Dialect};

const LONGEST_MESSAGE: usize = 200;

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Returns the 402 document in version 2. `error` is a machine code alone; `errorMessage` is for people.
    #[must_use]
    pub fn payment_required(
        &self,
        offers: &[Offer],
        resource: ResourceInfo,
        rejection: Option<&Rejection>,
    ) -> v2::PaymentRequired {
        let mut rest = Members::new();
        if let Some(message) = rejection.and_then(|rejection| rejection.message.as_deref()) {
            // The message comes from a peer, and the header has a limited length.
            let shown = message.char_indices().nth(LONGEST_MESSAGE).and_then(|(end, _)| message.get(..end));
            rest.insert_text("errorMessage", shown.unwrap_or(message));
        }
        if let Some(details) = rejection.map(|rejection| &rejection.details).filter(|details| !details.is_empty())
            && let Ok(details) = RawJson::of(details)
        {
            rest.insert("details", details);
        }
        let extensions = self.extensions.declared(&Required::new(&resource, offers, self.moment()));
        let mut document = v2::PaymentRequired {
            x402_version: Version::V2,
            error: Some(
                rejection.map_or_else(|| "Payment required".to_owned(), |rejection| rejection.reason.to_string()),
            ),
            resource: Some(resource),
            accepts: offers.iter().map(|offer| offer.terms.to_entry()).collect(),
            extensions,
            rest,
        };
        for dialect in &*self.dialects {
            dialect.declare(offers, &mut document);
        }
        document
    }
}
