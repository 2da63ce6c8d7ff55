//! Why nothing was paid.

use x402_codec::{DecodeError, EncodeError};
use x402_types::{AtomicAmount, Fault};

use super::budget::OverBudget;
use super::{OpenPayment, Receipt};

/// Why an entry of `accepts` is not paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPayable {
    /// It cannot be read, or its network is not known. Which member, and why.
    #[error("it cannot be read: {0}")]
    Unreadable(Box<str>),
    /// No scheme that is configured can pay it.
    #[error("no configured scheme can pay it")]
    NoScheme,
    /// The asset is not known and not listed.
    #[error("the asset is not known and not listed")]
    UnknownAsset,
    /// The payment flow is not known and not listed.
    #[error("the payment flow is not known and not listed")]
    UnknownFlow,
    /// More than may be paid at once.
    #[error("{amount} is more than the cap of {cap} a payment")]
    OverCap {
        /// What is asked, in atomic units.
        amount: AtomicAmount,
        /// What may be paid, in atomic units.
        cap: AtomicAmount,
    },
    /// The server asks for an authorization that is valid for longer than the client signs.
    #[error("an authorization of {seconds} s is asked for, more than the limit of {limit} s")]
    TooLong {
        /// `maxTimeoutSeconds`.
        seconds: u64,
        /// The limit.
        limit: u64,
    },
    /// More than is left of a budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The scheme refused the terms.
    #[error("the scheme refused: {0}")]
    Refused(x402_types::Rejection),
    /// A challenge that is bound to another request.
    #[cfg(feature = "challenge")]
    #[error("the challenge is for another request: its {0} differs")]
    Bound(&'static str),
}

/// Why a 402 was not answered with a payment. Nothing was sent that could be settled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// The 402 holds no terms.
    #[error("the 402 answer asks for no payment")]
    NoTerms,
    /// Its terms cannot be read.
    #[error("the terms of the 402 answer cannot be read: {0}")]
    Terms(#[from] DecodeError),
    /// None of its entries may be paid. The reasons, in the server's order.
    #[error("none of the ways to pay is acceptable: {}", list(.0))]
    NothingPayable(Vec<NotPayable>),
    /// The request was redirected to another origin, which then asked for money.
    #[error("payment was asked for after a redirect to another origin")]
    Redirected,
    /// Too many redirects, or one that leads nowhere.
    #[error("a redirect cannot be followed")]
    BadRedirect,
    /// The request's body is larger than what is kept for sending it again.
    #[error("the request's body is larger than {limit} bytes, or cannot be read")]
    Body {
        /// How much is kept.
        limit: usize,
    },
    /// The 402's body cannot be read, or is too large.
    #[error("the body of the 402 answer cannot be read")]
    Answer,
    /// The request's URL is not absolute.
    #[error("the request needs an absolute URL")]
    Url,
    /// No randomness is to be had.
    #[error("there is no source of randomness")]
    Entropy,
    /// The signer or the budget's store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The server requires the extension `payment-identifier`, and the client is not set to give payments an id.
    #[error("the server requires a payment-identifier, which this client is not set to give")]
    IdentifierRequired,
    /// An earlier payment of this request ended with its outcome unknown: it may have been settled. It is in the
    /// journal until it is removed there; until then the request is not paid anew.
    #[error("an earlier payment of this request was valid until {}, and whether it was settled is not known", .0.valid_until)]
    EarlierUnknown(Box<OpenPayment>),
    /// The payment cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl PayError {
    /// None of these terms can be paid, and nothing was signed: those of another dialect may be.
    pub(super) const fn leaves_others(&self) -> bool {
        matches!(self, Self::NoTerms | Self::NothingPayable(_))
    }
}

fn list(reasons: &[NotPayable]) -> String {
    let numbered = reasons.iter().enumerate().map(|(at, reason)| format!("accepts[{at}]: {reason}"));
    numbered.collect::<Vec<_>>().join("; ")
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError<E> {
    /// The transport failed and no payment was under way.
    #[error("the request failed: {0}")]
    Transport(#[source] E),
    /// Nothing was paid.
    #[error("nothing was paid: {0}")]
    Pay(#[source] PayError),
    /// The transport failed with a payment under way: it may have been made. The same request, made again, sends the
    /// same payment again.
    #[error("the outcome of the payment is not known: {0}")]
    Unknown(#[source] E),
    /// An earlier call of this request was settled and not served, and the server does not take the same payment
    /// again: the money is gone and there is no answer. The next call of the request is a new purchase.
    #[error("paid without an answer ({receipt}): shown again, the payment was answered with {status}")]
    PaidWithoutAnswer {
        /// The receipt of the settlement.
        receipt: Box<Receipt>,
        /// How the server answered when the payment was shown again.
        status: http::StatusCode,
    },
}

impl<E> From<PayError> for ClientError<E> {
    fn from(error: PayError) -> Self {
        Self::Pay(error)
    }
}
