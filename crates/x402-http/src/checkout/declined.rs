//! The reasons for which a request with a payment is not served.

use x402_types::v2::SettleResponse;
use x402_types::{Fault, Rejection};

/// The reason for which a request with a payment is not served. The transport reports it to the payer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Declined {
    /// The payment is refused, and nothing moved for this request.
    Refused(Rejection),
    /// An extension named the request, and the same request was answered before. A transport that kept the answer
    /// repeats it; without one the payment is refused as used.
    Repeated {
        /// The name of the request, as [`Admitted::named`](super::Admitted::named) returns it.
        request: String,
        /// The refusal of a transport that kept nothing.
        rejection: Rejection,
    },
    /// A request that is not answered yet uses the payment. It may be repeated when that one has its response.
    Busy(Rejection),
    /// Settlement failed permanently, or was another request's. The receipt has `success: false`.
    NotSettled {
        /// The reason, with the code of the receipt.
        rejection: Rejection,
        /// The receipt for the payer.
        receipt: Box<SettleResponse>,
    },
    /// The money may have moved. The same request finds out when it is repeated.
    Unknown {
        /// The known part of the settlement, for the payer.
        receipt: Box<SettleResponse>,
        /// The underlying fault, which is already reported.
        fault: Option<Fault>,
    },
    /// The payment could not be verified, and nothing moved. The fault is reported already.
    Unavailable(Fault),
}

impl From<Rejection> for Declined {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}
