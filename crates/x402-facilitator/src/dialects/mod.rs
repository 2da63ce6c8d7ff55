//! The dialects of every facilitator. A new one is one line in [`all`].

mod card;
mod challenge;
mod naming;
mod nvm;
mod x402;

pub use self::card::CardDesk;

use std::sync::Arc;

use x402_types::{NetworkName, Version};

use crate::dialect::{Body, Dialect};

/// Returns every dialect. The first one that recognises a body reads it.
#[must_use]
pub fn all() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(challenge::X402V1),
        Arc::new(card::NvmCard),
        Arc::new(nvm::Nvm(nvm::Version::V02)),
        Arc::new(nvm::Nvm(nvm::Version::V03)),
        Arc::new(x402::X402(Version::V1)),
        Arc::new(x402::X402(Version::V2)),
    ]
}

/// The message of 413.
const TOO_LARGE: &str = "the body is larger than 64 KiB";

/// The longest name of a network in CAIP-2: 8 characters, a colon, 32 characters.
const LONGEST_NETWORK: usize = 41;

/// Returns the network of a body that was refused, as it is written there. The body must be JSON, and nothing else of it
/// must be valid. The result is empty if no network is named.
fn network_asked(body: &Body) -> NetworkName {
    const PLACES: [&str; 4] = [
        "/paymentRequirements/network",
        "/paymentPayload/accepted/network",
        "/paymentPayload/network",
        "/paymentRequired/accepts/0/network",
    ];
    let network = body.view(|bytes, _| {
        let body: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut named = PLACES.iter().filter_map(|place| body.pointer(place)?.as_str());
        named.find(|name| !name.is_empty() && name.len() <= LONGEST_NETWORK).map(NetworkName::from).unwrap_or_default()
    });
    (*network).clone()
}
