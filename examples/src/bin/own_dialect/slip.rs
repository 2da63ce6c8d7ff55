//! The dialect `slip`: a payment is the number of an entry and what its scheme signs, in a header of its own.
//!
//! `Payment-Slip: {"entry": 0, "payload": {...}}`; the 402 lists the entries as a plain array, and the receipt is the
//! transaction in `Payment-Slip-Receipt`. Everything else (grants, settlement, what is unknown) is the layer's, and a
//! facilitator gets the payment as x402 of version 2 writes it.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use x402_http::checkout::{Dialect, RawPayment, ReadPayment};
use x402_http::server::HttpDialect;
use x402_types::v2::{PaymentRequired, SettleResponse};
use x402_types::{Claim, ErrorReason, Offer, RawJson, Rejection};

pub(crate) static SLIP: HeaderName = HeaderName::from_static("payment-slip");
pub(crate) static RECEIPT: HeaderName = HeaderName::from_static("payment-slip-receipt");

/// A payment of this dialect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Slip {
    pub(crate) entry: usize,
    pub(crate) payload: RawJson,
}

/// The dialect.
#[derive(Debug)]
pub(crate) struct Slips;

fn refuse(why: impl Into<Box<str>>) -> Rejection {
    Rejection::new(ErrorReason::INVALID_PAYLOAD).because(why)
}

impl Dialect for Slips {
    fn name(&self) -> &'static str {
        "slip"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        let slip: Slip = payment.read().ok()?;
        let Some(offer) = offers.get(slip.entry) else { return Some(Err(refuse("entry: nothing is offered there"))) };
        let claim = Claim::of_payload(offer.terms.clone(), slip.payload);
        let forwarded = RawJson::of(&claim.to_payment()).map(|payment| Some(payment.as_str().to_owned()));
        let read = |forwarded| ReadPayment { offer: slip.entry, claim, forwarded };
        Some(forwarded.map(read).map_err(|error| refuse(error.to_string())))
    }
}

impl HttpDialect for Slips {
    fn headers(&self) -> &[HeaderName] {
        core::slice::from_ref(&SLIP)
    }

    fn payment_text(&self, headers: &HeaderMap, limits: &x402_codec::Limits) -> Option<Result<String, Rejection>> {
        let value = headers.get(&SLIP)?.to_str();
        Some(match value {
            Ok(text) if text.len() <= limits.header => Ok(text.to_owned()),
            _ => Err(refuse("Payment-Slip: too long, or no text")),
        })
    }

    fn write_receipt(&self, headers: &mut HeaderMap, receipt: &SettleResponse) {
        let text = if receipt.success { receipt.transaction.as_str() } else { "not paid" };
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(&RECEIPT, value);
        }
    }

    fn required_body(&self, document: &PaymentRequired) -> Result<Option<Vec<u8>>, x402_codec::EncodeError> {
        x402_codec::body::write(&document.accepts).map(Some)
    }
}
