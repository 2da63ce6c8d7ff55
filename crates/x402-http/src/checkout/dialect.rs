//! What a dialect is: one way to write payments, verdicts and receipts.

use core::cell::OnceCell;
use core::fmt;
use std::sync::Arc;

use serde::Deserialize;
use x402_codec::{DecodeError, Limits, body, json};
use x402_facilitator_core::AskFacilitator;
use x402_types::{Claim, ErrorReason, Members, Offer, PaymentPayload, Rejection, Terms, Version, v2};

use super::SellerError;

/// One way to write payments, verdicts and receipts: x402 of one version, or what a scheme's own documents say.
///
/// A seller's dialects are asked one after the other whether a payment is theirs. What one of them reads is a [`Claim`];
/// what follows is the same for all of them.
pub trait Dialect: Send + Sync {
    /// The dialect's name, for logs.
    fn name(&self) -> &'static str;

    /// Reads a payment that is written in this dialect, and finds the offer that it was made for. `None` for a payment
    /// of another dialect.
    ///
    /// The rejection of a payment has the dialect's own code.
    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>>;

    /// The dialect's code for what the parts that serve every dialect refuse.
    fn code(&self, reason: ErrorReason) -> ErrorReason {
        reason
    }

    /// The details of a refusal that a facilitator's answer carries beside the members of x402.
    fn details(&self, rest: &Members) -> Members {
        #[derive(Deserialize)]
        struct ErrorMember {
            #[serde(default)]
            details: Members,
        }
        let error = rest.get("error").and_then(|error| error.read::<ErrorMember>().ok());
        error.map(|error| error.details).unwrap_or_default()
    }

    /// Names the request that a payment is for, where one payment is good for many requests. `None`: the payment is for
    /// one request, which its bytes name.
    ///
    /// `name` is the payer's own name for the request.
    ///
    /// # Errors
    /// The payment cannot be read, or no name can be made.
    fn request_name(&self, claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
        let _ = (claim, name);
        Ok(None)
    }

    /// How a facilitator over HTTP is asked about a payment; `None` for x402's own requests.
    fn form(&self) -> Option<Arc<dyn AskFacilitator>> {
        None
    }

    /// The version in which a facilitator must list an offer so that it can be paid in this dialect; `None` where the
    /// dialect does not pay for it, or leaves that to another.
    fn kind_of(&self, terms: &Terms) -> Option<Version> {
        let _ = terms;
        None
    }

    /// Checks that these offers can stand side by side in this dialect.
    ///
    /// # Errors
    /// They cannot.
    fn check(&self, offers: &[Offer]) -> Result<(), SellerError> {
        let _ = offers;
        Ok(())
    }

    /// Adds to a 402 document what this dialect wants to find in it.
    fn declare(&self, offers: &[Offer], document: &mut v2::PaymentRequired) {
        let _ = (offers, document);
    }
}

/// A payment that was read: the offer that it is for, and the claim.
#[derive(Debug, Clone)]
pub struct ReadPayment {
    /// The offer that it is for, by its place in the list.
    pub offer: usize,
    /// What the payment claims to fulfil, and by what. The terms are the server's own, never the payer's echo of them.
    pub claim: Claim,
    /// The payment's text for the facilitator, where that is not the payer's own.
    pub forwarded: Option<String>,
}

/// A payment's text, which is read once for all dialects that look at it.
pub struct RawPayment<'t> {
    json: &'t str,
    limits: &'t Limits,
    x402: OnceCell<Result<Box<PaymentPayload>, DecodeError>>,
}

impl<'t> RawPayment<'t> {
    pub(super) const fn new(json: &'t str, limits: &'t Limits) -> Self {
        Self { json, limits, x402: OnceCell::new() }
    }

    /// The text.
    #[must_use]
    pub const fn json(&self) -> &'t str {
        self.json
    }

    /// Reads the text as any type, strictly and within the seller's limits.
    ///
    /// # Errors
    /// The text is no JSON, or not of that type.
    pub fn read<T: Deserialize<'t>>(&self) -> Result<T, DecodeError> {
        json::from_str(self.json, self.limits)
    }

    /// The payment as x402 of version 1 or 2 reads it.
    ///
    /// # Errors
    /// It is neither.
    pub fn as_x402(&self) -> Result<&PaymentPayload, &DecodeError> {
        self.x402.get_or_init(|| body::payment(self.json, self.limits)).as_deref()
    }

    /// Moves the payment out, as x402 of version 1 or 2 reads it.
    ///
    /// # Errors
    /// It is neither.
    pub fn take_x402(&mut self) -> Result<Box<PaymentPayload>, DecodeError> {
        self.x402.take().unwrap_or_else(|| body::payment(self.json, self.limits))
    }
}

impl fmt::Debug for RawPayment<'_> {
    /// Leaves the payment out: whoever reads a log could present it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPayment").field("length", &self.json.len()).finish_non_exhaustive()
    }
}

/// The first offer that a payment fits, and whether it fits another one too.
#[must_use]
pub fn fitting(offers: &[Offer], fits: impl Fn(&Terms) -> bool) -> Option<(usize, bool)> {
    let mut places = offers.iter().enumerate().filter(|(_, offer)| fits(&offer.terms)).map(|(place, _)| place);
    let first = places.next()?;
    Some((first, places.next().is_some()))
}
