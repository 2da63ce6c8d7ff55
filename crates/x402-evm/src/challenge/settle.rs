//! Settles an amount by a facilitator, and interprets its responses. An unknown result is never treated as failed.

use x402_challenge::{ChallengeRefusal, ProofError};
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_types::challenge::Code;
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{Claim, ErrorReason, Fault, Identity, RawJson, Rejection, Terms};

/// The request that puts a payment of the dialect before a facilitator, as one of x402 v2. Under the same `request` it
/// is the same request.
pub(super) fn payment_request(
    terms: Terms,
    payload: RawJson,
    resource: &str,
    request: String,
) -> Result<PaymentRequest, Fault> {
    let resource = ResourceInfo::of(resource);
    let identity = Identity::new(String::new(), request);
    let claim = Claim::of_payload(terms, payload).with_resource(resource.clone()).with_identity(identity);
    let raw = RawJson::of(&claim.to_payment()).map_err(Fault::broken)?.as_str().to_owned();
    Ok(PaymentRequest { raw, token: None, claim, resource: resource.into(), verified_as: None, form: None })
}

pub(super) fn refused(message: impl Into<Box<str>>) -> ProofError {
    ChallengeRefusal::new(Code::VerificationFailed, message).into()
}

/// Checks whether the payment is valid. Nothing moves.
pub(super) async fn verify(facilitator: &dyn Facilitator, request: &PaymentRequest) -> Result<(), ProofError> {
    let verdict = facilitator.verify(request).await.map_err(ProofError::Unmoved)?;
    if verdict.is_valid {
        return Ok(());
    }
    let reason = verdict.invalid_reason.unwrap_or(ErrorReason::INVALID_PAYLOAD);
    let rejection = rejection(reason, verdict.invalid_message);
    if rejection.reason.row().is_some_and(|row| row.status == 503) {
        return Err(ProofError::Unmoved(Fault::unreachable("facilitator", rejection.words())));
    }
    Err(refused(format!("proof.payload: {}: {}", rejection.reason, rejection.words())))
}

/// Settles the payment. `again` means that it was begun before, so that its authorization may have been used by that
/// attempt.
pub(super) async fn settle(
    facilitator: &dyn Facilitator,
    request: &PaymentRequest,
    again: bool,
) -> Result<SettleResponse, ProofError> {
    let response = facilitator.settle(request).await.map_err(ProofError::Unknown)?;
    if response.success {
        if response.network.chain_id().is_some_and(|network| network != request.claim.terms.network) {
            return Err(ProofError::Unknown(Fault::broken("the facilitator settled on another network")));
        }
        // The result was returned before: if it was not begun for this payment, it belongs to another one.
        let replayed = response.extensions.get("replayed").is_some_and(|mark| mark.as_str() == "true");
        return if replayed && !again { Err(refused("proof.payload: settled before")) } else { Ok(response) };
    }
    let reason = response.error_reason.unwrap_or(ErrorReason::UNEXPECTED_SETTLE_ERROR);
    let rejection = rejection(reason, response.error_message);
    let unknown = rejection.reason.row().is_some_and(|row| row.status == 503);
    if unknown || (again && !rejection.reason.is_final_for_begun(facilitator.keeps_requests())) {
        return Err(ProofError::Unknown(Fault::unreachable("facilitator", rejection.words())));
    }
    Err(refused(format!("proof.payload: {}: {}", rejection.reason, rejection.words())))
}

fn rejection(reason: ErrorReason, message: Option<String>) -> Rejection {
    let rejection = Rejection::new(reason);
    match message {
        Some(message) => rejection.because(message),
        None => rejection,
    }
}
