//! Versions 1 and 2: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! 200 for verdicts, 400 with `isValid` or `success` `false` and a code for what cannot be decoded or routed,
//! 409 for a payment of another request, 413 over size, 503 where the fault is ours.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use sha2::{Digest, Sha256};
use x402_codec::{DecodeErrorKind, body};
use x402_types::{Claim, ErrorReason, Identity, Rejection, Terms, VerifyRequest};

use super::{Api, Received, Refused, json, key_of, unavailable};
use crate::engine::{invalid, undecided};

impl Api {
    fn claim(&self, received: Received) -> Result<Claim, Refused> {
        let Received { caller, headers, body } = received;
        let request = body::verify_request(&body, &self.limits).map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Refused::TooLarge,
            _ => Refused::Unreadable(error.into()),
        })?;
        let identity = request_id(&headers, &request);
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
        self.engine.settlement().key(&claim).map_err(Refused::Unreadable)?;
        Ok(claim)
    }
}

/// `Idempotency-Key`, or the hash of the canonical body.
fn request_id(headers: &HeaderMap, request: &VerifyRequest) -> Result<String, Rejection> {
    if let Some(key) = key_of(headers)? {
        return Ok(format!("key:{key}"));
    }
    // Members in alphabetical order, numbers and strings in one spelling: white space and order do not count.
    // Without it two requests could pass for one, so there is no default.
    let canonical = serde_json::to_value(request)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?
        .to_string();
    Ok(format!("body:{}", alloy_primitives::hex::encode(Sha256::digest(canonical.as_bytes()))))
}

pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let claim = match api.claim(received) {
        Ok(claim) => claim,
        Err(refused) => return refused.answer(invalid),
    };
    match api.engine.verify_claim(&claim).await {
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &invalid(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))),
    }
}

pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let claim = match api.claim(received) {
        Ok(claim) => claim,
        Err(refused) => return refused.answer(undecided),
    };
    match api.engine.settle_claim(&claim).await {
        Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
            json(StatusCode::CONFLICT, &response)
        }
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &undecided(Rejection::new(ErrorReason::UNEXPECTED_SETTLE_ERROR))),
    }
}
