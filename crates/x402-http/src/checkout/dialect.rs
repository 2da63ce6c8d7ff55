//! The trait of a dialect, which is one way to write payments, verdicts and receipts.

use core::cell::OnceCell;
use core::fmt;
use std::sync::Arc;

use serde::Deserialize;
use x402_codec::{DecodeError, Limits, body, json};
use x402_facilitator_core::AskFacilitator;
use x402_types::{Claim, ErrorReason, Members, Offer, PaymentPayload, Rejection, Terms, Version, v2};

use super::SellerError;

/// One way to write payments, verdicts and receipts: x402 of one version, or the form that a scheme's own
/// documents define.
///
/// A seller offers each payment to its dialects one after the other. The first dialect that recognises it reads it into
/// a [`Claim`]; the rest is the same for all of them.
pub trait Dialect: Send + Sync {
    /// Returns the dialect's name, for logs.
    fn name(&self) -> &'static str;

    /// Parses a payment of this dialect, and finds the offer that it was made for. Returns `None` for a payment of
    /// another dialect.
    ///
    /// The rejection of a payment has the dialect's own code.
    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>>;

    /// Returns the dialect's code for a refusal by the parts that serve every dialect.
    fn code(&self, reason: ErrorReason) -> ErrorReason {
        reason
    }

    /// Returns the details of a refusal that a facilitator's answer carries beside the members of x402.
    fn details(&self, rest: &Members) -> Members {
        #[derive(Deserialize)]
        struct ErrorMember {
            #[serde(default)]
            details: Members,
        }
        let error = rest.get("error").and_then(|error| error.read::<ErrorMember>().ok());
        error.map(|error| error.details).unwrap_or_default()
    }

    /// Returns the name of the request that a payment is for, if one payment is valid for many requests. `None` means
    /// that the payment is for one request, which its bytes identify.
    ///
    /// `name` is the payer's own name for the request.
    /// # Errors
    /// The payment cannot be parsed, or no name can be derived.
    fn request_name(&self, claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
        let _ = (claim, name);
        Ok(None)
    }

    /// Returns the form of the requests to a facilitator over HTTP; `None` for x402's own requests.
    fn form(&self) -> Option<Arc<dyn AskFacilitator>> {
        None
    }

    /// Returns the version in which a facilitator must list an offer so that it can be paid in this dialect; `None` if
    /// the dialect does not pay for it, or leaves that to another dialect.
    fn kind_of(&self, terms: &Terms) -> Option<Version> {
        let _ = terms;
        None
    }

    /// Checks that a payment of this dialect identifies one of these offers.
    ///
    /// # Errors
    /// The offers cannot be combined.
    fn check(&self, offers: &[Offer]) -> Result<(), SellerError> {
        let _ = offers;
        Ok(())
    }

    /// Returns why none of these offers can be paid in this dialect. The seller, which chose the dialect, receives it as an
    /// incident at start; the offers are still sold in the other dialects.
    fn objection(&self, offers: &[Offer]) -> Option<&'static str> {
        let _ = offers;
        None
    }

    /// Adds this dialect's members to a 402 document.
    fn declare(&self, offers: &[Offer], document: &mut v2::PaymentRequired) {
        let _ = (offers, document);
    }
}

/// A parsed payment: the offer that it is for, and the claim.
#[derive(Debug, Clone)]
pub struct ReadPayment {
    /// The index of the offer in the list.
    pub offer: usize,
    /// The terms that the payment claims to fulfil, and its payload. The terms are the server's own, never the payer's
    /// echo of them.
    pub claim: Claim,
    /// The payment's text for the facilitator, if it differs from the payer's own.
    pub forwarded: Option<String>,
}

/// A payment's text, which is parsed once for all dialects that inspect it.
pub struct RawPayment<'t> {
    json: &'t str,
    limits: &'t Limits,
    x402: OnceCell<Result<Box<PaymentPayload>, DecodeError>>,
}

impl<'t> RawPayment<'t> {
    pub(super) const fn new(json: &'t str, limits: &'t Limits) -> Self {
        Self { json, limits, x402: OnceCell::new() }
    }

    /// Returns the payment's text.
    #[must_use]
    pub const fn json(&self) -> &'t str {
        self.json
    }

    /// Parses the text as any type, strictly and within the seller's limits.
    /// # Errors
    /// The text is not JSON, or not of that type.
    pub fn read<T: Deserialize<'t>>(&self) -> Result<T, DecodeError> {
        json::from_str(self.json, self.limits)
    }

    /// Returns the payment as x402 of version 1 or 2 reads it.
    ///
    /// # Errors
    /// The text is neither.
    pub fn as_x402(&self) -> Result<&PaymentPayload, &DecodeError> {
        self.x402.get_or_init(|| body::payment(self.json, self.limits)).as_deref()
    }

    /// Takes the payment, as x402 of version 1 or 2 parses it.
    /// # Errors
    /// The text is neither.
    pub fn take_x402(&mut self) -> Result<Box<PaymentPayload>, DecodeError> {
        self.x402.take().unwrap_or_else(|| body::payment(self.json, self.limits))
    }
}

impl fmt::Debug for RawPayment<'_> {
    /// Omits the payment: any reader of a log could present it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPayment").field("length", &self.json.len()).finish_non_exhaustive()
    }
}

/// Returns the first offer that a payment fits, and whether it fits another one too.
#[must_use]
pub fn fitting(offers: &[Offer], fits: impl Fn(&Terms) -> bool) -> Option<(usize, bool)> {
    let mut places = offers.iter().enumerate().filter(|(_, offer)| fits(&offer.terms)).map(|(place, _)| place);
    let first = places.next()?;
    Some((first, places.next().is_some()))
}
