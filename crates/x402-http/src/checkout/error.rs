//! The errors of a seller's configuration, which are found at start.

use x402_types::{ChainId, Fault, SchemeName};

/// The error for a configuration that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SellerError {
    /// The public origin is not `http(s)://host[:port]`.
    #[error("the public origin must be http://host or https://host with an optional port, and nothing else")]
    Origin,
    /// There is no offer.
    #[error("at least one way to pay must be offered")]
    NoOffer,
    /// There are more entries than a client accepts.
    #[error("at most {limit} ways to pay can be offered")]
    TooManyOffers {
        /// The greatest number that is allowed.
        limit: usize,
    },
    /// `extra.paymentFlow` names a flow that is not supported.
    #[error("the payment flow of entry {entry} is neither `authorization` nor `upfront`")]
    Flow {
        /// The index of the entry, from 0.
        entry: usize,
    },
    /// The `PAYMENT-REQUIRED` header would be longer than [`Seller::with_header_limit`](crate::server::Seller::with_header_limit).
    #[error("the PAYMENT-REQUIRED header would have {size} bytes, more than the limit of {limit} (docs/proxies.md)")]
    HeaderTooLarge {
        /// The length that it would have.
        size: usize,
        /// The greatest length that is allowed.
        limit: usize,
    },
    /// Two entries that a payment of version 1 does not distinguish, since it names only scheme and network.
    #[error(
        "entries {first} and {second} have one scheme and network, and a version 1 payment names nothing else: \
         offer one of them, or no version 1"
    )]
    AlikeInV1 {
        /// The index of the entry, from 0.
        first: usize,
        /// The index of the other entry.
        second: usize,
    },
    /// The facilitator does not serve an entry.
    #[error("the facilitator does not serve entry {entry} in version {version}: {scheme} on {network}")]
    NotServed {
        /// The index of the entry, from 0.
        entry: usize,
        /// The version of the protocol.
        version: u8,
        /// The scheme of the entry.
        scheme: SchemeName,
        /// The network of the entry.
        network: ChainId,
    },
    /// The facilitator does not list what it serves.
    #[error("what the facilitator serves cannot be read")]
    Supported(#[source] Fault),
    /// The name of a further facilitator is empty, too long, or another's.
    #[error("the name of a further facilitator is 1 to 64 visible ASCII characters, and no other's")]
    FacilitatorName,
    /// A challenge binds the request's body, but no layer reads it.
    #[error("a bound body has to be read before the challenge: `bind_body` does both")]
    BodyNotRead,
    /// The resource is too long to be named in `X-PAYMENT-RESPONSE`.
    #[error("the resource is too long for X-PAYMENT-RESPONSE")]
    ResourceTooLong,
}
