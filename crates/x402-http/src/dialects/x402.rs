//! x402 of [version 2](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md) and of [version
//! 1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v1.md).

use x402_codec::DecodeError;
use x402_types::{Claim, ErrorReason, Offer, PaymentPayload, Rejection, Terms, Version};

use crate::checkout::{Dialect, RawPayment, ReadPayment, SellerError, fitting};

/// x402 of version 2. It also refuses payments that no other dialect recognises.
#[derive(Debug, Clone, Copy)]
pub struct X402V2;

/// x402 of version 1: entries of the scheme `exact` on networks with a legacy name.
#[derive(Debug, Clone, Copy)]
pub struct X402V1;

impl Dialect for X402V2 {
    fn name(&self) -> &'static str {
        "x402 v2"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        Some(match payment.take_x402() {
            Ok(payment) if payment.version() == Version::V2 => claim(payment, offers),
            Ok(_) => Err(Rejection::new(ErrorReason::INVALID_X402_VERSION).because("version 2 is served here")),
            Err(error) => Err(unreadable(&error)),
        })
    }

    fn kind_of(&self, _: &Terms) -> Option<Version> {
        Some(Version::V2)
    }
}

impl Dialect for X402V1 {
    fn name(&self) -> &'static str {
        "x402 v1"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        payment.as_x402().is_ok_and(|payment| payment.version() == Version::V1).then(|| {
            let payment = payment.take_x402().map_err(|error| unreadable(&error))?;
            claim(payment, offers)
        })
    }

    fn kind_of(&self, terms: &Terms) -> Option<Version> {
        terms.is_known_to_v1().then_some(Version::V1)
    }

    fn objection(&self, offers: &[Offer]) -> Option<&'static str> {
        let none = !offers.iter().any(|offer| offer.terms.is_known_to_v1());
        none.then_some(
            "no entry is `exact` by EIP-3009 on a network that version 1 has a name for, so that the 402 has a body of \
             version 2, and no payment of version 1 fits",
        )
    }

    /// Checks that no two entries have the same scheme and network, since a payment of version 1 names nothing else.
    fn check(&self, offers: &[Offer]) -> Result<(), SellerError> {
        let mut known = offers.iter().enumerate().filter(|(_, offer)| offer.terms.is_known_to_v1());
        let alike = known.find_map(|(second, offer)| {
            let alike = |other: &Offer| {
                other.terms.is_known_to_v1()
                    && other.terms.scheme == offer.terms.scheme
                    && other.terms.network == offer.terms.network
            };
            offers.iter().take(second).position(alike).map(|first| (first, second))
        });
        match alike {
            Some((first, second)) => Err(SellerError::AlikeInV1 { first, second }),
            None => Ok(()),
        }
    }
}

/// Returns `invalid_payload` for a payment of which any part cannot be read.
pub(super) fn unreadable(error: &DecodeError) -> Rejection {
    Rejection::new(ErrorReason::INVALID_PAYLOAD).because(error.to_string())
}

fn claim(payment: Box<PaymentPayload>, offers: &[Offer]) -> Result<ReadPayment, Rejection> {
    let unfit = || {
        Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS)
            .because("the payment is for none of the entries of `accepts`")
    };
    let (place, _) = fitting(offers, |terms| payment.is_for(terms)).ok_or_else(unfit)?;
    let offer = offers.get(place).ok_or_else(unfit)?;
    // The server's own entry, in the payer's version.
    let terms = offer.terms.clone().with_version(payment.version());
    Ok(ReadPayment { offer: place, claim: Claim::new(terms, *payment), forwarded: None })
}

#[cfg(feature = "server")]
mod http {
    use std::sync::Arc;

    use ::http::HeaderMap;
    use x402_codec::{EncodeError, body};
    use x402_types::v2::{PaymentRequired, PaymentRequirements, SettleResponse};
    use x402_types::{Entry, ErrorReason, PaymentRequired as Document, Terms, Version};

    use super::{X402V1, X402V2};
    use crate::server::{HttpDialect, Seller, write_receipt};

    impl HttpDialect for X402V2 {}

    impl HttpDialect for X402V1 {
        fn write_receipt(&self, headers: &mut HeaderMap, receipt: &SettleResponse) {
            write_receipt(headers, Version::V1, &self.in_own_words(receipt.clone()));
        }

        fn in_own_words(&self, receipt: SettleResponse) -> SettleResponse {
            let error_reason = receipt.error_reason.map(|code| code.in_version(Version::V1));
            SettleResponse { error_reason, ..receipt }
        }

        /// Returns the document as version 1 writes it, with the entries that clients of version 1 know: published ones
        /// refuse all entries for one foreign one. `None` if no entry is left.
        fn required_body(&self, document: &PaymentRequired) -> Result<Option<Vec<u8>>, EncodeError> {
            let known = |entry: &&Entry<PaymentRequirements>| {
                entry.known().is_some_and(|entry| Terms::from(entry).is_known_to_v1())
            };
            let accepts: Vec<_> = document.accepts.iter().filter(known).cloned().collect();
            if accepts.is_empty() {
                return Ok(None);
            }
            // A code of version 2 is written in version 1's words; a text stays one.
            let error = document.error.as_deref().map(ErrorReason::from_wire);
            let error = error.filter(|code| !code.as_str().contains(char::is_whitespace));
            let error = error.map(|code| code.in_version(Version::V1).to_string()).or_else(|| document.error.clone());
            let known = PaymentRequired { accepts, error, ..document.clone() };
            body::write(&Document::V2(known).to_v1()).map(Some)
        }
    }

    impl Seller {
        /// Serves also version 1: 402 bodies of version 1 in addition to the version 2 header, and payments in
        /// `X-PAYMENT`.
        #[must_use]
        pub fn with_v1(self) -> Self {
            self.with_dialect(Arc::new(X402V1))
        }
    }
}
