//! Why a request with a payment is not served.

use x402_types::v2::SettleResponse;
use x402_types::{Fault, Rejection};

/// Why a request with a payment is not served. The transport tells the payer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Declined {
    /// The payment is refused, and nothing moved for this request.
    Refused(Rejection),
    /// An extension named the request, and the same request was answered before. A transport that kept the answer repeats
    /// it; without one the payment is refused as used.
    Repeated {
        /// The name of the request, as [`Admitted::named`](super::Admitted::named) returns it.
        request: String,
        /// The refusal of a transport that kept nothing.
        rejection: Rejection,
    },
    /// A request that is not answered yet uses the payment. It may come again when that has its answer.
    Busy(Rejection),
    /// Settlement failed for good, or was another request's. The receipt has `success: false`.
    NotSettled {
        /// Why, with the code of the receipt.
        rejection: Rejection,
        /// The receipt for the payer.
        receipt: Box<SettleResponse>,
    },
    /// Whether money moved is not known. The same request finds out when it comes again.
    Unknown {
        /// What is known, for the payer.
        receipt: Box<SettleResponse>,
        /// The fault behind it, which is reported already.
        fault: Option<Fault>,
    },
    /// It could not be found out whether the payment is good, and nothing moved. The fault is reported already.
    Unavailable(Fault),
}

impl From<Rejection> for Declined {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}
