//! A refusal whose cause the payer can remove, such as a missing allowance: the same payment is then sent again.

use http::{HeaderMap, HeaderName, HeaderValue};
use x402_codec::{Limits, header};
use x402_types::{ErrorReason, PaymentPayload, PaymentRequired, Refusal, Terms};

use super::{NotPayable, PayError, Payer, Receipt};

/// Lets the scheme of a refused payment remove the cause. Returns whether the payment can be sent again.
pub(super) async fn remedied(
    payer: &Payer,
    (name, value): &(HeaderName, HeaderValue),
    receipt: Option<&Receipt>,
    headers: &HeaderMap,
) -> Result<bool, PayError> {
    let Some(reason) = reason(receipt, headers, &payer.limits) else { return Ok(false) };
    // The entries of other forms have remedies of their own, or none.
    if *name != header::PAYMENT_SIGNATURE {
        return Ok(false);
    }
    let Ok(PaymentPayload::V2(payment)) = header::decode(value.as_bytes(), &payer.limits) else { return Ok(false) };
    payer.remedy(&Terms::from(&payment.accepted), &reason).await.map_err(|refusal| match refusal {
        Refusal::Rejection(why) => PayError::NothingPayable(vec![NotPayable::Refused(why)]),
        Refusal::Fault(fault) => fault.into(),
    })
}

/// Returns the code of a refusal: that of the receipt, or the `error` of the document.
fn reason(receipt: Option<&Receipt>, headers: &HeaderMap, limits: &Limits) -> Option<ErrorReason> {
    if let Some(Receipt(receipt)) = receipt {
        return receipt.error_reason.clone().map(ErrorReason::of_peer);
    }
    let error = match header::payment_required_header(headers, limits).ok().flatten()? {
        PaymentRequired::V1(document) => Some(document.error),
        PaymentRequired::V2(document) => document.error,
    };
    error.map(|code| ErrorReason::of_peer(ErrorReason::from_wire(&code)))
}
