//! "Payment Payload Schema" of version 0.2: the authorization is in `extensions.smart-account`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::wire;
use crate::{ChainId, Malformed, Members, NetworkName, RawJson, SchemeName, Version, networks};

/// The name of the extension.
pub(super) const EXTENSION: &str = "smart-account";

wire! {
    /// The payment as JSON has it. "All fields are required."
    struct Wire {
        x402_version: Version => "x402Version" version_2;
        scheme: SchemeName => "scheme" required;
        network: NetworkName => "network" required;
        extensions: Members => "extensions" required;
        payload: RawJson => "payload" object;
    }
}

/// A payment of version 0.2. It names neither plan nor account: the plan is the only one offered, and `from` is the
/// account that all its `data` approvals agree on. The signed statement has version 2.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentPayload {
    wire: Wire,
    /// `extensions.smart-account`: `signature`, and `authorization` without `from`.
    pub(super) extension: RawJson,
}

impl PaymentPayload {
    /// Returns the network of the simple name. Only version 0.3 uses CAIP-2.
    #[must_use]
    pub fn network(&self) -> Option<ChainId> {
        networks::by_name(self.wire.network.as_str())
    }

    /// Returns `network` as it was written.
    #[must_use]
    pub const fn network_name(&self) -> &NetworkName {
        &self.wire.network
    }

    /// Returns the scheme, which "must be "exact"".
    #[must_use]
    pub const fn scheme(&self) -> &SchemeName {
        &self.wire.scheme
    }
}

impl Serialize for PaymentPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PaymentPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let extension = wire.extensions.get(EXTENSION).filter(|raw| raw.as_str().starts_with('{')).cloned();
        let extension = extension
            .ok_or_else(|| serde::de::Error::custom(Malformed::new("`extensions.smart-account`: an object")))?;
        Ok(Self { wire, extension })
    }
}
