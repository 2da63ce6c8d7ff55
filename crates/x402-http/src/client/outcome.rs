//! Interprets the response to a paid request.

use core::fmt;
use core::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use x402_codec::{Limits, header};
use x402_types::v2::SettleResponse;
use x402_types::{AtomicAmount, Blank, ErrorReason, UnixSeconds};

use super::refused;

/// The server's receipt for the payment. It is in the response's extensions.
///
/// It may report that nothing was paid: [`Receipt::outcome`] interprets it, and `Display` formats that for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt(pub SettleResponse);

/// The result that a receipt reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptOutcome<'r> {
    /// The payment was made.
    Paid {
        /// The transaction that made it.
        transaction: &'r str,
    },
    /// The scheme charged nothing, so that there is no transaction: `upto` of an amount of zero.
    NothingCharged,
    /// The server reports success without a transaction, so that it cannot be verified.
    NoTransaction,
    /// The settlement is not decided yet.
    Pending {
        /// The transaction to look up, as far as it is known.
        transaction: &'r str,
    },
    /// The payment was not made.
    Failed(Option<&'r ErrorReason>),
}

impl Receipt {
    /// Interprets the receipt.
    #[must_use]
    pub fn outcome(&self) -> ReceiptOutcome<'_> {
        let Self(settlement) = self;
        let transaction = settlement.transaction.trim();
        let zero = matches!(&settlement.amount, Some(Blank::Value(AtomicAmount::ZERO)));
        match settlement.success {
            true if !transaction.is_empty() => ReceiptOutcome::Paid { transaction },
            true if zero => ReceiptOutcome::NothingCharged,
            true => ReceiptOutcome::NoTransaction,
            false if settlement.error_reason.as_ref() == Some(&ErrorReason::SETTLEMENT_PENDING) => {
                ReceiptOutcome::Pending { transaction }
            }
            false => ReceiptOutcome::Failed(settlement.error_reason.as_ref()),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(settlement) = self;
        match self.outcome() {
            ReceiptOutcome::Paid { transaction } => write!(f, "paid: transaction {transaction}")?,
            ReceiptOutcome::NothingCharged => f.write_str("nothing was charged")?,
            ReceiptOutcome::NoTransaction => {
                return f.write_str("not proven: the receipt says success and names no transaction");
            }
            ReceiptOutcome::Pending { transaction: "" } => f.write_str("not decided yet: settlement_pending")?,
            ReceiptOutcome::Pending { transaction } => write!(f, "not decided yet: transaction {transaction}")?,
            ReceiptOutcome::Failed(None) => f.write_str("not paid: the receipt gives no reason")?,
            ReceiptOutcome::Failed(Some(reason)) => write!(f, "not paid: {reason}")?,
        }
        let network = settlement.network.as_str();
        if network.is_empty() { Ok(()) } else { write!(f, " on {network}") }
    }
}

/// The payment that a response answers, whatever its result. It is in the response's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PaymentSent {
    /// The length of the payment header's value.
    pub header_bytes: usize,
    /// The time until which the payment can be settled.
    pub valid_until: UnixSeconds,
    /// Whether the response looks like that of a proxy that does not forward headers of this length: 400, 414, 431 or
    /// 494 without a header of x402.
    pub header_may_be_too_long: bool,
}

impl PaymentSent {
    pub(super) fn new(header_bytes: usize, valid_until: UnixSeconds, status: StatusCode, headers: &HeaderMap) -> Self {
        let ours = [&header::PAYMENT_REQUIRED, &header::PAYMENT_RESPONSE, &header::X_PAYMENT_RESPONSE];
        let speaks = ours.into_iter().any(|name| headers.contains_key(name));
        Self { header_bytes, valid_until, header_may_be_too_long: !speaks && is_of_a_long_header(status) }
    }

    /// Creates the same for a payment of a challenge. `understood`: the response is of that dialect.
    #[cfg(feature = "challenge")]
    pub(super) fn of_challenge(
        header_bytes: usize,
        valid_until: UnixSeconds,
        status: StatusCode,
        understood: bool,
    ) -> Self {
        Self { header_bytes, valid_until, header_may_be_too_long: !understood && is_of_a_long_header(status) }
    }
}

fn is_of_a_long_header(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 414 | 431 | 494)
}

/// The fate of a payment that was sent.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// The payment was made, and the request was served.
    Paid(Option<Receipt>),
    /// The payment was made, and the handler failed: it is presented again with the same request, and no other payment
    /// is made.
    Unserved(Receipt),
    /// The payment was not made, and the server will not accept it. This proves it only where it was shown once.
    Refused(Option<Receipt>),
    /// The server does not accept the payment, and the payment may have been made.
    Denied(Option<Receipt>),
    /// The result is not known yet: the same payment must be sent again after this time.
    Pending(Option<Receipt>, Duration),
    /// The handler failed, or the response cannot be interpreted: the payment can be sent again with the same request.
    Open(Option<Receipt>),
}

/// Returns whether a request was served: a server counts nothing for `HEAD`, a 304, a 4xx or a 5xx.
pub(super) fn is_served(method: &Method, status: StatusCode) -> bool {
    let failed = status.is_client_error() || status.is_server_error();
    !failed && *method != Method::HEAD && status != StatusCode::NOT_MODIFIED
}

/// Returns whether a response without a receipt means that the request was served, and so paid. A redirect alone does not:
/// anything between client and server may answer one.
pub(super) fn ends_without_receipt(method: &Method, status: StatusCode) -> bool {
    status.is_success() && is_served(method, status)
}

/// Interprets a response. `reason`: what a refusal gave as its reason, see [`reason`](super::refused::reason).
pub(super) fn outcome(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    reason: Option<&ErrorReason>,
    limits: &Limits,
) -> Outcome {
    let wait = retry_after(headers);
    let failed = status.is_client_error() || status.is_server_error();
    let settlement = header::settle_response(headers, limits);
    if ends_without_receipt(method, status) {
        // The request was served, so assume that the payment was settled, whatever the receipt looks like.
        return Outcome::Paid(settlement.ok().flatten().map(Receipt));
    }
    let Ok(settlement) = settlement else {
        // A malformed header proves neither payment nor refusal.
        return Outcome::Open(None);
    };
    if !failed && settlement.as_ref().is_none_or(|receipt| receipt.success) {
        return settlement.map_or(Outcome::Open(None), |receipt| Outcome::Paid(Some(Receipt(receipt))));
    }
    if let Some(receipt) = settlement.map(Receipt) {
        return match receipt.outcome() {
            ReceiptOutcome::Paid { .. } | ReceiptOutcome::NothingCharged | ReceiptOutcome::NoTransaction => {
                Outcome::Unserved(receipt)
            }
            ReceiptOutcome::Pending { .. } => Outcome::Pending(Some(receipt), wait.unwrap_or(DEFAULT_WAIT)),
            ReceiptOutcome::Failed(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
                Outcome::Pending(Some(receipt), wait.unwrap_or(DEFAULT_WAIT))
            }
            ReceiptOutcome::Failed(Some(reason)) if ErrorReason::of_peer(reason.clone()).is_undecided() => {
                Outcome::Pending(Some(receipt), wait.unwrap_or(DEFAULT_WAIT))
            }
            ReceiptOutcome::Failed(Some(reason)) if reason.proves_unpaid() => Outcome::Refused(Some(receipt)),
            ReceiptOutcome::Failed(_) => Outcome::Denied(Some(receipt)),
        };
    }
    // A 412 without terms is the handler's.
    let speaks = headers.contains_key(&header::PAYMENT_REQUIRED);
    match status {
        StatusCode::PAYMENT_REQUIRED | StatusCode::PRECONDITION_FAILED if reason.is_some_and(refused::is_proof) => {
            Outcome::Refused(None)
        }
        StatusCode::PAYMENT_REQUIRED => Outcome::Denied(None),
        StatusCode::PRECONDITION_FAILED if speaks => Outcome::Denied(None),
        StatusCode::CONFLICT => wait.map_or(Outcome::Denied(None), |wait| Outcome::Pending(None, wait)),
        StatusCode::SERVICE_UNAVAILABLE => wait.map_or(Outcome::Open(None), |wait| Outcome::Pending(None, wait)),
        _ => Outcome::Open(None),
    }
}

pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: u64 = 30;

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}
