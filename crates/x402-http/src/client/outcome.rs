//! What the answer to a paid request says of the payment.

use core::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use x402_codec::{Limits, header};
use x402_types::ErrorReason;
use x402_types::v2::SettleResponse;

/// What the server said of the payment. The caller finds it in the response's extensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt(pub SettleResponse);

/// What becomes of a payment that was sent.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It was made.
    Paid(Option<Receipt>),
    /// It was not, and the server will not have it.
    Refused(Option<Receipt>),
    /// Not known yet: the same one is to be sent again after this time.
    Pending(Option<Receipt>, Duration),
    /// It was used, perhaps by an earlier sending of it.
    Spent(Option<Receipt>),
    /// The handler's failure, or an answer that cannot be understood: it can be sent again with the same request.
    Open(Option<Receipt>),
}

pub(super) fn outcome(status: StatusCode, headers: &HeaderMap, limits: &Limits) -> Outcome {
    let wait = retry_after(headers);
    let Ok(settlement) = header::settle_response(headers, limits) else {
        // A header that cannot be read says nothing, neither paid nor refused.
        return Outcome::Open(None);
    };
    let receipt = settlement.map(Receipt);
    if let Some(Receipt(settlement)) = &receipt {
        let pending = settlement.error_reason.as_ref() == Some(&ErrorReason::SETTLEMENT_PENDING);
        let duplicate = settlement.error_reason.as_ref() == Some(&ErrorReason::DUPLICATE_SETTLEMENT);
        return match settlement.success {
            true => Outcome::Paid(receipt),
            false if pending || status == StatusCode::SERVICE_UNAVAILABLE => {
                Outcome::Pending(receipt, wait.unwrap_or(DEFAULT_WAIT))
            }
            false if duplicate => Outcome::Spent(receipt),
            false => Outcome::Refused(receipt),
        };
    }
    match status {
        StatusCode::PAYMENT_REQUIRED | StatusCode::PRECONDITION_FAILED => Outcome::Refused(None),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => {
            let open = if status == StatusCode::CONFLICT { Outcome::Spent(None) } else { Outcome::Open(None) };
            wait.map_or(open, |wait| Outcome::Pending(None, wait))
        }
        status if status.is_client_error() || status.is_server_error() => Outcome::Open(None),
        // Served without a receipt: the money is taken to be gone.
        _ => Outcome::Paid(None),
    }
}

pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: u64 = 30;

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}
