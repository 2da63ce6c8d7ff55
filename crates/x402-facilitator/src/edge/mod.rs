//! The edge of the process: how many requests and connections a stranger may have, and how slow they may be.

mod accept;
mod rate;
#[cfg(feature = "tls")]
pub mod tls;

pub(crate) use self::accept::serve;
pub use self::accept::{Edge, PeerAddress};
pub(crate) use self::rate::{AddressRates, Rate};
