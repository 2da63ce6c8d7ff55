//! The kinds that a facilitator serves, compared with the offers.

use std::sync::{Arc, OnceLock};

use x402_facilitator_core::Facilitator;
use x402_types::v2::SupportedKind;
use x402_types::{Fault, Terms, Version};

/// The kinds of a facilitator's `/supported`, once they were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    kinds: Arc<OnceLock<Vec<SupportedKind>>>,
}

/// An offer that the facilitator does not serve.
pub(super) struct NotServed {
    pub(super) entry: usize,
    pub(super) version: Version,
}

impl Served {
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

    /// Returns the kinds, if they were read.
    pub(super) fn kinds(&self) -> Option<&[SupportedKind]> {
        self.kinds.get().map(Vec::as_slice)
    }
}

/// Returns whether a kind is that of these terms in this version.
pub(super) fn serves(kind: &SupportedKind, version: Version, terms: &Terms) -> bool {
    let network = kind.network.as_str();
    // Some facilitators list a whole namespace as `eip155:*`.
    let namespace = terms.network.as_str().split(':').next().unwrap_or_default();
    kind.x402_version == version
        && kind.scheme == terms.scheme
        && (kind.chain_id() == Some(terms.network)
            || network.strip_suffix(":*").is_some_and(|listed| listed == namespace))
}

/// Returns whether terms agree with the members that a facilitator lists with a kind, such as the account that settles:
/// terms that name another one are another facilitator's.
pub(super) fn agrees(kind: &SupportedKind, terms: &Terms) -> bool {
    kind.extra.iter().all(|(name, listed)| {
        match (terms.extra.get(name), terms.extra.text(name), kind.extra.text(name)) {
            (None, ..) => true,
            (_, Some(named), Some(listed)) => terms.network.same_account(&named, &listed),
            (Some(named), ..) => named.as_str() == listed.as_str(),
        }
    })
}
