//! Versions 1 and 2: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! 200 for verdicts, 400 with `isValid` or `success` `false` and a code for what cannot be decoded or routed,
//! 409 for a payment of another request or a name of another payment, 413 over size, 503 where the fault is ours.

use axum::http::StatusCode;
use axum::response::Response;
use sha2::{Digest, Sha256};
use x402_codec::{DecodeErrorKind, body};
use x402_types::{Claim, ErrorReason, Fault, Identity, Rejection, Terms, VerifyRequest};

use super::names::payment;
use super::{Api, NAMES_ANOTHER, Received, Refused, json, key_of, unavailable};
use crate::engine::{invalid, refused, undecided};

/// A claim that was read, and its caller's name for it.
struct Read {
    claim: Claim,
    payment: [u8; 32],
    name: Option<String>,
}

impl Api {
    fn claim(&self, received: Received) -> Result<Read, Refused> {
        let Received { caller, headers, body } = received;
        let request = body::verify_request(&body, &self.limits).map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Refused::TooLarge,
            _ => Refused::Unreadable(error.into()),
        })?;
        let name = key_of(&headers).map(|name| name.map(str::to_owned));
        let identity = name.clone().and_then(|name| request_id(name.as_deref(), &request));
        let terms = Terms::try_from(request.payment_requirements)
            .map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        let terms = terms.map_err(Refused::Unreadable)?;
        // The server has compared them; a facilitator that trusts it would settle what was never offered.
        if !request.payment_payload.is_for(&terms) {
            return Err(Refused::Unreadable(
                Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS)
                    .because("paymentPayload.accepted: expected the entry in paymentRequirements"),
            ));
        }
        let identity = Identity { caller, request: identity.map_err(Refused::Unreadable)? };
        let mut claim = Claim::new(terms, request.payment_payload);
        claim.identity = identity;
        // Somebody here serves the terms and can read the payload; what it says is for the verdict.
        let key = self.engine.settlement().key(&claim).map_err(Refused::Unreadable)?;
        Ok(Read { claim, payment: payment(&key), name: name.unwrap_or_default() })
    }
}

/// `Idempotency-Key`, or the hash of the canonical body.
fn request_id(name: Option<&str>, request: &VerifyRequest) -> Result<String, Rejection> {
    if let Some(name) = name {
        return Ok(format!("key:{name}"));
    }
    // Members in alphabetical order, numbers and strings in one spelling: white space and order do not count.
    // Without it two requests could pass for one, so there is no default.
    let canonical = serde_json::to_value(request)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?
        .to_string();
    Ok(format!("body:{}", alloy_primitives::hex::encode(Sha256::digest(canonical.as_bytes()))))
}

/// 409: the name is another payment's.
fn taken() -> Rejection {
    Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(NAMES_ANOTHER)
}

pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let Read { claim, payment, name } = match api.claim(received) {
        Ok(read) => read,
        Err(refused) => return refused.answer(invalid),
    };
    let name = name.as_deref().map(|name| (claim.identity.caller.as_str(), name));
    let fault = |fault: Fault| unavailable(&fault, &invalid(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR)));
    if let Some((caller, name)) = name {
        match api.names.fits(caller, name, payment).await {
            Ok(true) => {}
            Ok(false) => return json(StatusCode::CONFLICT, &invalid(taken())),
            Err(unread) => return fault(unread),
        }
    }
    match api.engine.verify_claim(&claim).await {
        Ok(response) => {
            if let Some((caller, name)) = name.filter(|_| response.is_valid) {
                api.names.verified(caller, name, payment);
            }
            json(StatusCode::OK, &response)
        }
        Err(unknown) => fault(unknown),
    }
}

pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let Read { claim, payment, name } = match api.claim(received) {
        Ok(read) => read,
        Err(refused) => return refused.answer(undecided),
    };
    let settled = match &name {
        None => api.engine.settle_claim(&claim).await,
        Some(name) => match api.names.take(&claim.identity.caller, name, payment).await {
            Ok(true) => api.engine.settle_named(&claim).await,
            Ok(false) => return json(StatusCode::CONFLICT, &refused(taken(), &claim)),
            Err(fault) => Err(fault),
        },
    };
    match settled {
        Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
            json(StatusCode::CONFLICT, &response)
        }
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &undecided(Rejection::new(ErrorReason::UNEXPECTED_SETTLE_ERROR))),
    }
}
