//! Discovery: the extension [`bazaar`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/bazaar.md).
//!
//! A seller describes how its route is called ([`DiscoverableRoute`]), a payer echoes that, and a facilitator lists what it has
//! settled ([`Listing`]) in a catalog that others search.

mod declare;
mod listing;
mod sanitize;
#[cfg(feature = "schemars")]
mod typed;

pub use declare::{BodyType, DeclarationError, DiscoverableRoute, McpTransport};
pub use listing::{Listing, NotListed};
pub use sanitize::{is_valid_icon_url, is_valid_route_template, is_valid_service_name, sanitized_tags};

/// The key of the extension in `extensions`.
pub const NAME: &str = "bazaar";
