//! Payments out of a plan: the [x402 Smart Accounts
//! Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts) of versions 0.3 and 0.2, whose refusals have
//! the codes of its §7.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use x402_codec::{base64, body, nvm as codec};
use x402_facilitator_core::{AskFacilitator, PaymentRequest};
use x402_types::nvm::{
    AccessToken, Code, FacilitatorRequest, Payload, PaymentPayload, PaymentRequired, Receipt, Requirements,
    StatementVersion, is_payment,
};
use x402_types::v2::{self, SettleResponse};
use x402_types::{Claim, Entry, ErrorReason, Fault, Members, Offer, RawJson, Rejection, SchemeName, Version};

use crate::checkout::{Dialect, RawPayment, ReadPayment, fitting};
use crate::digest::hex;

/// Version 0.3 of the extension. A payment that claims to be of the extension and is of neither version is refused
/// here.
#[derive(Debug, Clone, Copy)]
pub struct Nvm03;

/// Version 0.2 of the extension: the payment names no plan, so the plan must be the only one offered.
#[derive(Debug, Clone, Copy)]
pub struct Nvm02;

impl Dialect for Nvm03 {
    fn name(&self) -> &'static str {
        "nvm v0.3"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        match payment_of(payment)? {
            Ok(PaymentPayload::V02(_)) => None,
            Ok(payment) => Some(claim(payment, offers)),
            Err(rejection) => Some(Err(rejection)),
        }
    }

    fn code(&self, reason: ErrorReason) -> ErrorReason {
        Code::translate(reason)
    }

    fn request_name(&self, claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
        request_name(claim, name)
    }

    fn form(&self) -> Option<Arc<dyn AskFacilitator>> {
        Some(Arc::new(AskForPlan))
    }

    /// Adds `extensions`, which Smart Accounts §3.3 requires: "empty object `{}` for x402 spec alignment".
    fn declare(&self, offers: &[Offer], document: &mut v2::PaymentRequired) {
        if document.extensions.is_empty()
            && offers.iter().any(|offer| offer.terms.scheme == SchemeName::NVM_ERC4337)
            && let Ok(none) = RawJson::of(&Members::new())
        {
            document.rest.insert("extensions", none);
        }
    }
}

impl Dialect for Nvm02 {
    fn name(&self) -> &'static str {
        "nvm v0.2"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        // A payment that x402 reads has `accepted`, or is of version 1.
        if payment.as_x402().is_ok() {
            return None;
        }
        match payment_of(payment)? {
            Ok(payment @ PaymentPayload::V02(_)) => Some(claim(payment, offers)),
            _ => None,
        }
    }

    fn code(&self, reason: ErrorReason) -> ErrorReason {
        Code::translate(reason)
    }

    fn request_name(&self, claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
        request_name(claim, name)
    }

    fn form(&self) -> Option<Arc<dyn AskFacilitator>> {
        Some(Arc::new(AskForPlan))
    }
}

/// Reads a payment that is of the extension, or claims to be; `None` for any other.
fn payment_of(payment: &RawPayment<'_>) -> Option<Result<PaymentPayload, Rejection>> {
    // Most payments are not of this extension: they are parsed once.
    if payment.as_x402().is_ok_and(|payment| !codec::may_be_one(payment)) {
        return None;
    }
    let raw: RawJson = payment.read().ok()?;
    is_payment(&raw).then(|| PaymentPayload::from_raw(&raw))
}

fn claim(payment: PaymentPayload, offers: &[Offer]) -> Result<ReadPayment, Rejection> {
    // "Then the codes of §7 apply."
    let unfit = || Code::InvalidPayload.because("the payment is for none of the entries of `accepts`");
    let (place, several) = fitting(offers, |terms| payment.is_for(terms)).ok_or_else(unfit)?;
    if several && matches!(payment, PaymentPayload::V02(_)) {
        return Err(Code::InvalidPayload.because("several plans are offered"));
    }
    let offer = offers.get(place).ok_or_else(unfit)?;
    let terms = offer.terms.clone().with_version(Version::V2);
    Ok(ReadPayment { offer: place, claim: payment.into_claim(terms), forwarded: None })
}

/// Returns the name of a request that is paid by a statement of version 2, which is a bearer token for many requests:
/// the payer names each by `Idempotency-Key`, so that it can be repeated; without it every request is a new one. A
/// statement of version 3 is for one request.
fn request_name(claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
    let payload = Payload::from_raw(&claim.payload)?;
    if payload.authorization().version() == StatementVersion::V3 {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    hash.update(b"x402-http bearer request v1");
    match name.filter(|name| (1..=255).contains(&name.len())) {
        Some(name) => {
            hash.update(payload.signature());
            hash.update(name);
        }
        None => {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|_| Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))?;
            hash.update(random);
        }
    }
    Ok(Some(hex(hash)))
}

/// The requests of a server to a facilitator for a payment out of a plan: Smart Accounts Extension, steps 6 and 22.
#[derive(Debug)]
struct AskForPlan;

impl AskFacilitator for AskForPlan {
    fn request_body(&self, request: &PaymentRequest) -> Result<Vec<u8>, Fault> {
        let token = base64::encode(request.raw.as_bytes());
        body::write(&facilitator_request(request, token)?).map_err(Fault::broken)
    }

    /// Returns the receipt with both names of its transaction, whichever the facilitator wrote.
    fn settle_response(&self, response: SettleResponse) -> Result<SettleResponse, Fault> {
        Receipt::from_response(&response)
            .map(SettleResponse::from)
            .map_err(|error| Fault::unreachable("facilitator", format_args!("a receipt that cannot be read: {error}")))
    }
}

/// Returns the request of `/verify` and `/settle`: the payer's token beside the server's own entry.
fn facilitator_request(request: &PaymentRequest, token: String) -> Result<FacilitatorRequest, Fault> {
    let terms = &request.claim.terms;
    Ok(FacilitatorRequest {
        payment_required: PaymentRequired {
            error: None,
            resource: (*request.resource).clone(),
            accepts: vec![Entry::Known(Requirements::try_from(terms).map_err(Fault::broken)?)],
            extensions: Members::new(),
            rest: Members::new(),
        },
        token: AccessToken::Base64(token),
        max_amount: Some(terms.amount),
        agent_request_id: request.verified_as.clone(),
        rest: Members::new(),
    })
}

#[cfg(feature = "server")]
mod http {
    use ::http::HeaderMap;
    use x402_codec::header;
    use x402_codec::nvm::QUERY_RESPONSE;
    use x402_types::Version;
    use x402_types::v2::SettleResponse;

    use super::{Nvm02, Nvm03};
    use crate::server::{HttpDialect, write_receipt};

    impl HttpDialect for Nvm03 {}

    impl HttpDialect for Nvm02 {
        /// Adds the receipt in `QUERY-RESPONSE` too, where clients of version 0.2 look for it.
        fn write_receipt(&self, headers: &mut HeaderMap, receipt: &SettleResponse) {
            write_receipt(headers, Version::V2, receipt);
            if let Some(value) = headers.get(&header::PAYMENT_RESPONSE).cloned() {
                headers.insert(&QUERY_RESPONSE, value);
            }
        }
    }
}
