//! The reason of a refusal: from the receipt, or from the `error` of the document in the header or the body.

use http::{Response, StatusCode};
use x402_codec::{Limits, body, header};
use x402_types::{ErrorReason, PaymentRequired};

use super::peek::peek;
use crate::Body;

/// The texts with which the servers of the SDKs answer before they call their facilitator: no payment arrived, or it is for
/// other terms than the present ones, such as another price.
const BEFORE_VERIFICATION: [&str; 4] = [
    "Payment required",
    "No matching payment requirements",
    "Unable to find matching payment requirements",
    "X-PAYMENT header is required",
];

/// Returns whether a reason without a receipt proves that a payment that was shown for the first time moved nothing. Servers
/// also answer 402 where a settlement ended without an answer: `@x402/express` 2.27 with an empty document, thirdweb's
/// `settlePayment` with the text of the fault.
pub(super) fn is_proof(reason: &ErrorReason) -> bool {
    reason.proves_unpaid() || BEFORE_VERIFICATION.contains(&reason.as_str())
}

/// Returns the reason, and the response again for the caller. The body is read where a 402 has no header of x402.
pub(super) async fn reason<B>(response: Response<B>, limits: &Limits) -> (Option<ErrorReason>, Response<Body<B>>)
where
    B: http_body::Body<Data = bytes::Bytes>,
{
    let headers = response.headers();
    if let Some(receipt) = header::settle_response(headers, limits).ok().flatten() {
        return (receipt.error_reason, response.map(Body::inner));
    }
    if headers.contains_key(&header::PAYMENT_REQUIRED) {
        let document = header::payment_required_header(headers, limits).ok().flatten();
        return (document.and_then(error), response.map(Body::inner));
    }
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        return (None, response.map(Body::inner));
    }
    let (parts, inner) = response.into_parts();
    let (read, inner) = peek(inner, limits.body).await;
    let document = read.and_then(|read| body::payment_required(&read, limits).ok());
    (document.and_then(error), Response::from_parts(parts, inner))
}

fn error(document: PaymentRequired) -> Option<ErrorReason> {
    let error = match document {
        PaymentRequired::V1(document) => Some(document.error),
        PaymentRequired::V2(document) => document.error,
    };
    error.map(|code| ErrorReason::of_peer(ErrorReason::from_wire(&code)))
}
