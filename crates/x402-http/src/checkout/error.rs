//! What a seller is told at start.

use x402_types::{ChainId, Fault, SchemeName};

/// A configuration that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SellerError {
    /// The public origin is not `http(s)://host[:port]`.
    #[error("the public origin must be http://host or https://host with an optional port, and nothing else")]
    Origin,
    /// Nothing is offered.
    #[error("at least one way to pay must be offered")]
    NoOffer,
    /// More entries than a client reads.
    #[error("at most {limit} ways to pay can be offered")]
    TooManyOffers {
        /// How many are allowed.
        limit: usize,
    },
    /// `extra.paymentFlow` names a flow that is not served here.
    #[error("the payment flow of entry {entry} is neither `authorization` nor `upfront`")]
    Flow {
        /// Which entry, from 0.
        entry: usize,
    },
    /// The `PAYMENT-REQUIRED` header would be longer than [`Seller::with_header_limit`](crate::server::Seller::with_header_limit).
    #[error("the PAYMENT-REQUIRED header would have {size} bytes, more than the limit of {limit} (docs/proxies.md)")]
    HeaderTooLarge {
        /// How long it would be.
        size: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Two entries that a payment of version 1 cannot tell apart, since it names nothing but scheme and network.
    #[error(
        "entries {first} and {second} have one scheme and network, and a version 1 payment names nothing else: \
         offer one of them, or no version 1"
    )]
    AlikeInV1 {
        /// Which entry, from 0.
        first: usize,
        /// Which other entry.
        second: usize,
    },
    /// The facilitator does not serve an entry.
    #[error("the facilitator does not serve entry {entry} in version {version}: {scheme} on {network}")]
    NotServed {
        /// Which entry, from 0.
        entry: usize,
        /// In which version of the protocol.
        version: u8,
        /// The entry's scheme.
        scheme: SchemeName,
        /// The entry's network.
        network: ChainId,
    },
    /// The facilitator does not say what it serves.
    #[error("what the facilitator serves cannot be read")]
    Supported(#[source] Fault),
    /// A challenge binds the request's body, and nothing reads it.
    #[error("a bound body has to be read before the challenge: `bind_body` does both")]
    BodyNotRead,
    /// The resource is so long that `X-PAYMENT-RESPONSE` could not name it.
    #[error("the resource is too long for X-PAYMENT-RESPONSE")]
    ResourceTooLong,
}
