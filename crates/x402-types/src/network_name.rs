//! Networks as peers write them: CAIP-2, a legacy name of v1, or an empty string in a failed answer.

use core::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{ChainId, Version, networks};

/// A network as a document names it. It is kept as text; [`NetworkName::chain_id`] maps it to a network, if the name is
/// known.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkName(SmolStr);

impl NetworkName {
    /// Returns the text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of a network as a version writes it: CAIP-2 in version 2; in version 1 the legacy name, if there
    /// is one.
    #[must_use]
    pub fn of(network: ChainId, version: Version) -> Self {
        match version {
            Version::V1 => networks::legacy_name(network).map_or_else(|| network.into(), Self::from),
            Version::V2 => network.into(),
        }
    }

    /// Returns the network: the text itself if it is CAIP-2, otherwise the network of that simple name.
    #[must_use]
    pub fn chain_id(&self) -> Option<ChainId> {
        self.0.parse().ok().or_else(|| networks::by_name(&self.0))
    }
}

impl From<ChainId> for NetworkName {
    fn from(network: ChainId) -> Self {
        Self(network.as_str().into())
    }
}

impl From<&str> for NetworkName {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
