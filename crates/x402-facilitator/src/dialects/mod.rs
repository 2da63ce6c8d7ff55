//! The dialects that every facilitator speaks. A new one is one line in [`all`].

mod challenge;
mod nvm;
mod x402;

use std::sync::Arc;

use x402_types::{NetworkName, Version};

use crate::dialect::{Body, Dialect};

/// Every dialect, in the order in which they are asked whether a body is theirs.
#[must_use]
pub fn all() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(challenge::X402V1),
        Arc::new(nvm::Nvm(nvm::Version::V02)),
        Arc::new(nvm::Nvm(nvm::Version::V03)),
        Arc::new(x402::X402(Version::V1)),
        Arc::new(x402::X402(Version::V2)),
    ]
}

/// The words of 413.
const TOO_LARGE: &str = "the body is larger than 64 KiB";

/// The longest name of a network, CAIP-2: 8 characters, a colon, 32 characters.
const LONGEST_NETWORK: usize = 41;

/// The network that a body of `/verify` or `/settle` asks for, as it is written there, for a body that was refused:
/// its JSON is all that must be right. Empty where it names none.
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
