//! A refusal whose cause the payer can remove, such as a missing allowance: the same payment is then sent again.

use http::{HeaderName, HeaderValue};
use x402_codec::header;
use x402_types::{ErrorReason, PaymentPayload, Refusal, Terms};

use super::{NotPayable, PayError, Payer};

/// Lets the scheme of a refused payment remove the cause. Returns whether the payment can be sent again.
pub(super) async fn remedied(
    payer: &Payer,
    (name, value): &(HeaderName, HeaderValue),
    reason: Option<&ErrorReason>,
) -> Result<bool, PayError> {
    let Some(reason) = reason.cloned().map(ErrorReason::of_peer) else { return Ok(false) };
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
