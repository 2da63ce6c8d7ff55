//! The reasons why nothing was paid.

use x402_codec::{DecodeError, EncodeError};
use x402_types::{AtomicAmount, Fault, Rejection};

use super::budget::OverBudget;
use super::{OpenPayment, Receipt};

/// The reason why an entry of `accepts` is not paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPayable {
    /// The entry cannot be parsed, or its network is unknown. The text names the member and the reason.
    #[error("it cannot be read: {0}")]
    Unreadable(Box<str>),
    /// No configured scheme can pay the entry.
    #[error("no configured scheme can pay it")]
    NoScheme,
    /// The asset is neither known nor listed.
    #[error("the asset is not known and not listed")]
    UnknownAsset,
    /// The payment flow is neither known nor listed.
    #[error("the payment flow is not known and not listed")]
    UnknownFlow,
    /// The amount exceeds the cap of one payment.
    #[error("{amount} is more than the cap of {cap} a payment")]
    OverCap {
        /// The requested amount, in atomic units.
        amount: AtomicAmount,
        /// The cap, in atomic units.
        cap: AtomicAmount,
    },
    /// The server requires an authorization that is valid for longer than the client signs.
    #[error("an authorization of {seconds} s is asked for, more than the limit of {limit} s")]
    TooLong {
        /// The value of `maxTimeoutSeconds`.
        seconds: u64,
        /// The client's limit in seconds.
        limit: u64,
    },
    /// The amount exceeds the rest of a budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// A [policy](super::PayPolicy) of the buyer refuses the entry.
    #[error("the policy {policy} refuses it: {why}")]
    Policy {
        /// The name of the policy.
        policy: Box<str>,
        /// The reason of the policy.
        why: Box<str>,
    },
    /// The [selector](super::Selector) of the buyer chose none of the entries that were left.
    #[error("it was not selected")]
    NotSelected,
    /// The scheme refused the terms.
    #[error("the scheme refused: {0}")]
    Refused(x402_types::Rejection),
    /// The challenge is bound to another request.
    #[cfg(feature = "challenge")]
    #[error("the challenge is for another request: its {0} differs")]
    Bound(&'static str),
}

/// The reason why a 402 was not answered with a payment. Nothing was sent that could be settled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// The 402 contains no terms.
    #[error("the 402 answer asks for no payment")]
    NoTerms,
    /// The terms cannot be parsed.
    #[error("the terms of the 402 answer cannot be read: {0}")]
    Terms(#[from] DecodeError),
    /// None of the entries may be paid. The reasons are in the server's order.
    #[error("none of the ways to pay is acceptable: {}", list(.0))]
    NothingPayable(Vec<NotPayable>),
    /// The request was redirected to another origin, which then required payment.
    #[error("payment was asked for after a redirect to another origin")]
    Redirected,
    /// There were too many redirects, or one has no usable target.
    #[error("a redirect cannot be followed")]
    BadRedirect,
    /// The request's body is larger than what is kept for sending it again.
    #[error("the request's body is larger than {limit} bytes, or cannot be read")]
    Body {
        /// The maximum number of bytes that is kept.
        limit: usize,
    },
    /// The body of the 402 cannot be read, or is too large.
    #[error("the body of the 402 answer cannot be read")]
    Answer,
    /// The request's URL is not absolute.
    #[error("the request needs an absolute URL")]
    Url,
    /// There is no source of randomness.
    #[error("there is no source of randomness")]
    Entropy,
    /// The signer or the budget's store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The server requires an extension that is not [registered](super::Payer::with_extension).
    #[error("the server requires the extension {name}, which this client does not have")]
    ExtensionRequired {
        /// The name of the extension.
        name: Box<str>,
    },
    /// An extension of the client refuses to pay under the server's declaration.
    #[error("the extension {name} refuses to pay: {why}")]
    ExtensionRefused {
        /// The name of the extension.
        name: Box<str>,
        /// The reason of the extension.
        why: Rejection,
    },
    /// An earlier payment of this request expired with an unknown result: it may have been settled. The request is not
    /// paid again before [`Payer::pay_anew`](super::Payer::pay_anew), or its removal from the journal.
    #[error("an earlier payment of this request was valid until {}, and whether it was settled is not known", .0.valid_until)]
    EarlierUnknown(Box<OpenPayment>),
    /// There are as many payments with unknown results as are kept: another one could not be remembered.
    #[error("{limit} earlier payments are open: whether they were settled is not known")]
    TooManyOpen {
        /// The limit of [`Payer::with_most_open`](super::Payer::with_most_open).
        limit: usize,
    },
    /// A [hook](super::Payer::with_hooks) of the application refuses the payment.
    #[error("a hook refuses the payment: {0}")]
    Hook(Rejection),
    /// The payment cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl PayError {
    /// Returns whether none of these terms can be paid and nothing was signed, so that those of another dialect may be.
    pub(super) const fn leaves_others(&self) -> bool {
        matches!(self, Self::NoTerms | Self::NothingPayable(_))
    }
}

fn list(reasons: &[NotPayable]) -> String {
    let numbered = reasons.iter().enumerate().map(|(at, reason)| format!("accepts[{at}]: {reason}"));
    numbered.collect::<Vec<_>>().join("; ")
}

/// The reason why there is no response.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError<E> {
    /// The transport failed and no payment was in progress.
    #[error("the request failed: {0}")]
    Transport(#[source] E),
    /// Nothing was paid.
    #[error("nothing was paid: {0}")]
    Pay(#[source] PayError),
    /// The transport failed with a payment in progress: it may have been made. The same request, made again, sends the
    /// same payment again.
    #[error("the outcome of the payment is not known: {0}")]
    Unknown(#[source] E),
    /// An earlier call of this request was settled and not served, and the server refuses the same payment: the money
    /// is gone without a response. The next call of the request is a new purchase.
    #[error("paid without an answer ({receipt}): shown again, the payment was answered with {status}")]
    PaidWithoutAnswer {
        /// The receipt of the settlement.
        receipt: Box<Receipt>,
        /// The status of the server's response when the payment was presented again.
        status: http::StatusCode,
    },
}

impl<E> From<PayError> for ClientError<E> {
    fn from(error: PayError) -> Self {
        Self::Pay(error)
    }
}
