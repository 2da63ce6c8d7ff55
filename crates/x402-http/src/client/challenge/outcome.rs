//! Interprets the response to a paid request: "Response Header (X-PAYMENT-RESPONSE)" and "Error Codes".

use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use x402_codec::challenge as codec;
use x402_codec::header::X_PAYMENT_RESPONSE;
use x402_types::challenge::{Challenge, ChallengeId, Code, PaymentResponse};

use super::super::outcome::{DEFAULT_WAIT, ends_without_receipt, is_served, retry_after};
use super::super::peek::peek;
use crate::Body;

/// The server's receipt for a payment of this dialect. It is in the response's extensions.
#[derive(Debug, Clone, PartialEq)]
pub struct ChallengeReceipt(pub PaymentResponse);

/// Formats the receipt for people: the dialect names no transaction.
impl fmt::Display for ChallengeReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(PaymentResponse { challenge_id, resource, .. }) = self;
        write!(f, "paid: challenge {} for {}", challenge_id.as_str(), resource.as_str())
    }
}

/// The fate of a payment that was sent.
#[derive(Debug, PartialEq)]
pub(super) enum ChallengeOutcome {
    /// The payment was made.
    Paid(Option<PaymentResponse>),
    /// The payment was made, and the handler failed: the same request presents it again.
    Unserved(PaymentResponse),
    /// The payment was refused before its proof was inspected, and this challenge may be paid instead.
    Unused(Box<Challenge>),
    /// The server states that nothing of the metered payment was settled, and nothing will be.
    Waived,
    /// The payment was refused, and not used. This proves it only where it was shown once.
    Refused,
    /// The server does not accept the payment, and the payment may have been made.
    Denied,
    /// The result is not known yet: the same payment may be sent again after this time.
    Pending(Duration),
    /// The payment was used, perhaps by an earlier attempt with it.
    Spent,
    /// The handler failed, or the response cannot be interpreted.
    Open,
}

/// Reads as much of a response as is needed; the caller still gets all of it.
pub(super) async fn challenge_outcome<B>(
    method: &Method,
    response: Response<B>,
    paid: &ChallengeId,
    limit: usize,
) -> (ChallengeOutcome, Response<Body<B>>)
where
    B: http_body::Body<Data = Bytes>,
{
    let status = response.status();
    let receipt = receipt(&response, paid);
    // On an answer that serves the request the statement contradicts itself.
    if receipt.as_ref().is_some_and(PaymentResponse::is_waived) && !is_served(method, status) {
        return (ChallengeOutcome::Waived, response.map(Body::inner));
    }
    if let Some(receipt) = receipt.filter(|receipt| receipt.ok) {
        let failed = status.is_client_error() || status.is_server_error();
        let outcome = if failed { ChallengeOutcome::Unserved(receipt) } else { ChallengeOutcome::Paid(Some(receipt)) };
        return (outcome, response.map(Body::inner));
    }
    let wait = retry_after(response.headers());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            (ChallengeOutcome::Pending(wait.unwrap_or(DEFAULT_WAIT)), response.map(Body::inner))
        }
        StatusCode::CONFLICT => (ChallengeOutcome::Spent, response.map(Body::inner)),
        StatusCode::PAYMENT_REQUIRED | StatusCode::BAD_REQUEST => {
            let (parts, body) = response.into_parts();
            let (read, body) = peek(body, limit).await;
            (refusal(status, read.as_deref().unwrap_or_default()), Response::from_parts(parts, body))
        }
        status if !ends_without_receipt(method, status) => (ChallengeOutcome::Open, response.map(Body::inner)),
        // Success without a receipt: assume that the payment was settled.
        _ => (ChallengeOutcome::Paid(None), response.map(Body::inner)),
    }
}

/// Returns the receipt for this payment. A receipt for another payment proves nothing, and a negative one only what it
/// states.
fn receipt<B>(response: &Response<B>, paid: &ChallengeId) -> Option<PaymentResponse> {
    let value = response.headers().get(&X_PAYMENT_RESPONSE)?;
    let receipt = codec::response(value.as_bytes()).ok()?;
    (receipt.challenge_id == *paid).then_some(receipt)
}

/// Interprets a refusal. "A second payment only after a typed refusal that proves the first unused": `expired`,
/// `mismatch` and `insufficient` are returned before the proof is inspected. `verification_failed` proves nothing: the
/// proof may have been used for another challenge.
fn refusal(status: StatusCode, body: &[u8]) -> ChallengeOutcome {
    let Ok(refusal) = codec::refusal(body) else {
        return if status == StatusCode::PAYMENT_REQUIRED { ChallengeOutcome::Denied } else { ChallengeOutcome::Open };
    };
    if refusal.error.status() != status.as_u16() {
        return ChallengeOutcome::Open;
    }
    match refusal.error {
        Code::Expired | Code::Mismatch | Code::Insufficient => match codec::challenge(body) {
            Ok(fresh) => ChallengeOutcome::Unused(Box::new(fresh)),
            Err(_) => ChallengeOutcome::Refused,
        },
        Code::VerificationFailed => ChallengeOutcome::Denied,
        _ => ChallengeOutcome::Refused,
    }
}
