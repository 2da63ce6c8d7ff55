//! The kinds that the facilitator serves, compared with the offers.

use std::sync::{Arc, OnceLock};

use x402_facilitator_core::Facilitator;
use x402_types::v2::SupportedKind;
use x402_types::{Fault, Offer, Terms, Version};

use super::Dialect;

/// The kinds of the facilitator's `/supported`, once they were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    kinds: Arc<OnceLock<Vec<SupportedKind>>>,
    /// Whether an offer that is not among them is refused.
    pub(super) refuses: bool,
}

/// An offer that the facilitator does not serve.
pub(super) struct NotServed {
    pub(super) entry: usize,
    pub(super) version: Version,
}

impl Served {
    /// Creates an instance whose missing kinds are refused at start.
    pub(super) fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    /// Reads `/supported`, if that was not done before.
    pub(super) async fn read(&self, facilitator: &dyn Facilitator) -> Result<(), Fault> {
        if self.kinds.get().is_none() {
            let supported = facilitator.supported().await?;
            let kinds = supported.kinds.iter().filter_map(|kind| kind.known().cloned()).collect();
            // Another request may have set it first; both values are right.
            let _ = self.kinds.set(kinds);
        }
        Ok(())
    }

    /// Finds the first offer that is not among the kinds, in any version in which it may be paid; returns `None` if the
    /// kinds were not read.
    pub(super) fn missing<D: Dialect + ?Sized>(&self, offers: &[Offer], dialects: &[Arc<D>]) -> Option<NotServed> {
        let kinds = self.kinds.get()?;
        offers.iter().enumerate().find_map(|(entry, offer)| {
            let mut versions = dialects.iter().filter_map(|dialect| dialect.kind_of(&offer.terms));
            let version = versions.find(|version| !kinds.iter().any(|kind| serves(kind, *version, &offer.terms)))?;
            Some(NotServed { entry, version })
        })
    }
}

fn serves(kind: &SupportedKind, version: Version, terms: &Terms) -> bool {
    let network = kind.network.as_str();
    // Some facilitators list a whole namespace as `eip155:*`.
    let namespace = terms.network.as_str().split(':').next().unwrap_or_default();
    kind.x402_version == version
        && kind.scheme == terms.scheme
        && (kind.chain_id() == Some(terms.network)
            || network.strip_suffix(":*").is_some_and(|listed| listed == namespace))
}
