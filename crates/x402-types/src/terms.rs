//! What is asked, whatever the version of the document it stood in. Versions end here.

use serde::{Deserialize, Serialize};

use crate::v2::ResourceInfo;
use crate::{
    AmountRule, AtomicAmount, ChainId, Entry, Members, NetworkName, PaymentRequired, PaymentRequirements, RawJson,
    SchemeName, TimeoutSeconds, Version, networks, nvm, v1, v2,
};

/// One way to pay, as both versions mean it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The version of the document it stands in.
    pub version: Version,
    /// The scheme.
    pub scheme: SchemeName,
    /// The network.
    pub network: ChainId,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The asset as written.
    pub asset: String,
    /// Who is paid, as written.
    pub pay_to: String,
    /// How long the payer's authorization may last.
    pub max_timeout_seconds: TimeoutSeconds,
    /// What the scheme adds.
    pub extra: Members,
}

impl Terms {
    /// Whether an entry that a payer echoes is this one: core fields equal, the amount by the scheme's rule, accounts as
    /// the network compares them, `extra` a superset.
    #[must_use]
    pub fn matches(&self, accepted: &v2::PaymentRequirements, rule: AmountRule) -> bool {
        self.scheme == accepted.scheme
            && self.network == accepted.network
            && rule.allows(self.amount, accepted.amount)
            && self.max_timeout_seconds == accepted.max_timeout_seconds
            && self.network.same_account(&self.asset, &accepted.asset)
            && self.network.same_account(&self.pay_to, &accepted.pay_to)
            && accepted.extra.contains(&self.extra)
    }

    /// The entry as version 2 writes it.
    #[must_use]
    pub fn to_v2(&self) -> v2::PaymentRequirements {
        v2::PaymentRequirements {
            scheme: self.scheme.clone(),
            network: self.network,
            amount: self.amount,
            asset: self.asset.clone(),
            pay_to: self.pay_to.clone(),
            max_timeout_seconds: self.max_timeout_seconds,
            extra: self.extra.clone(),
            rest: Members::new(),
        }
    }

    /// The network as the terms' version writes it: CAIP-2 in version 2, in version 1 the legacy name where there is one.
    #[must_use]
    pub fn network_name(&self) -> NetworkName {
        match self.version {
            Version::V1 => v1_network(self.network),
            Version::V2 => self.network.into(),
        }
    }

    /// Whether clients of version 1 know such an entry: the scheme `exact` on a network with a legacy name. Published
    /// ones refuse a whole document for one entry that they do not know.
    #[must_use]
    pub fn is_known_to_v1(&self) -> bool {
        self.scheme == SchemeName::EXACT && networks::legacy_name(self.network).is_some()
    }

    /// The entry as version 1 writes it: the legacy network name where there is one, the resource in each entry.
    #[must_use]
    pub fn to_v1(&self, resource: &ResourceInfo) -> v1::PaymentRequirements {
        v1::PaymentRequirements {
            scheme: self.scheme.clone(),
            network: v1_network(self.network),
            max_amount_required: self.amount,
            asset: self.asset.clone(),
            pay_to: self.pay_to.clone(),
            resource: v1::ResourceUrl(resource.url.clone()),
            description: resource.description.clone().unwrap_or_default(),
            mime_type: resource.mime_type.clone().unwrap_or_default(),
            output_schema: None,
            max_timeout_seconds: self.max_timeout_seconds,
            extra: self.extra.clone(),
            rest: Members::new(),
        }
    }

    /// The entry in its own version.
    #[must_use]
    pub fn to_requirements(&self, resource: &ResourceInfo) -> PaymentRequirements {
        match self.version {
            Version::V1 => PaymentRequirements::V1(self.to_v1(resource)),
            Version::V2 => nvm::Requirements::try_from(self)
                .map_or_else(|_| PaymentRequirements::V2(self.to_v2()), PaymentRequirements::Nvm),
        }
    }

    /// The entry as it stands in `accepts` of version 2, in the form of its scheme.
    #[must_use]
    pub fn to_entry(&self) -> Entry<v2::PaymentRequirements> {
        match nvm::Requirements::try_from(self).ok().and_then(|entry| RawJson::of(&entry).ok()) {
            Some(raw) => Entry::Opaque(raw),
            None => Entry::Known(self.to_v2()),
        }
    }

    /// The terms of an entry of version 2, in the form of its scheme. What the entry does not say is asked later: a
    /// plan's entry names no amount, so the terms have none.
    #[must_use]
    pub fn of_entry(entry: &Entry<v2::PaymentRequirements>) -> Option<Self> {
        match entry {
            Entry::Known(entry) => Some(entry.into()),
            Entry::Opaque(raw) => {
                let entry: nvm::Requirements = raw.read().ok()?;
                (entry.scheme == SchemeName::NVM_ERC4337).then(|| entry.to_terms(AtomicAmount::ZERO).ok()).flatten()
            }
        }
    }
}

impl From<v2::PaymentRequirements> for Terms {
    #[inline]
    fn from(entry: v2::PaymentRequirements) -> Self {
        Self {
            version: Version::V2,
            scheme: entry.scheme,
            network: entry.network,
            amount: entry.amount,
            asset: entry.asset,
            pay_to: entry.pay_to,
            max_timeout_seconds: entry.max_timeout_seconds,
            extra: entry.extra,
        }
    }
}

impl From<&v2::PaymentRequirements> for Terms {
    fn from(entry: &v2::PaymentRequirements) -> Self {
        entry.clone().into()
    }
}

impl TryFrom<v1::PaymentRequirements> for Terms {
    type Error = crate::Malformed;

    /// Fails for a network name that is neither CAIP-2 nor in the table of simple names.
    fn try_from(entry: v1::PaymentRequirements) -> Result<Self, crate::Malformed> {
        Ok(Self {
            version: Version::V1,
            scheme: entry.scheme,
            network: entry.network.chain_id().ok_or(crate::Malformed::new("a known network name"))?,
            amount: entry.max_amount_required,
            asset: entry.asset,
            pay_to: entry.pay_to,
            max_timeout_seconds: entry.max_timeout_seconds,
            extra: entry.extra,
        })
    }
}

impl TryFrom<&v1::PaymentRequirements> for Terms {
    type Error = crate::Malformed;

    /// Fails for a network name that is neither CAIP-2 nor in the table of simple names.
    fn try_from(entry: &v1::PaymentRequirements) -> Result<Self, crate::Malformed> {
        entry.clone().try_into()
    }
}

impl TryFrom<PaymentRequirements> for Terms {
    type Error = crate::Malformed;

    #[inline]
    fn try_from(entry: PaymentRequirements) -> Result<Self, crate::Malformed> {
        match entry {
            PaymentRequirements::V1(entry) => entry.try_into(),
            PaymentRequirements::V2(entry) => Ok(entry.into()),
            PaymentRequirements::Nvm(entry) => entry.to_terms(AtomicAmount::ZERO),
        }
    }
}

impl TryFrom<&PaymentRequirements> for Terms {
    type Error = crate::Malformed;

    fn try_from(entry: &PaymentRequirements) -> Result<Self, crate::Malformed> {
        entry.clone().try_into()
    }
}

impl PaymentRequired {
    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// The ways to pay that could be read, in the server's order.
    #[must_use]
    pub fn terms(&self) -> Vec<Terms> {
        match self {
            Self::V1(document) => {
                document.accepts.iter().filter_map(|entry| Terms::try_from(entry.known()?).ok()).collect()
            }
            Self::V2(document) => document.accepts.iter().filter_map(Terms::of_entry).collect(),
        }
    }

    /// What would be served.
    #[must_use]
    pub fn resource(&self) -> Option<ResourceInfo> {
        match self {
            Self::V1(document) => document.accepts.iter().find_map(Entry::known).map(v1_resource),
            Self::V2(document) => document.resource.clone(),
        }
    }

    /// The extensions that the server advertises: none in version 1.
    #[must_use]
    pub fn extensions(&self) -> Members {
        match self {
            Self::V1(_) => Members::new(),
            Self::V2(document) => document.extensions.clone(),
        }
    }

    /// The same document in version 2: the first entry's resource is lifted, unreadable entries stay as they are.
    #[must_use]
    pub fn to_v2(&self) -> v2::PaymentRequired {
        match self {
            Self::V2(document) => document.clone(),
            Self::V1(document) => v2::PaymentRequired {
                x402_version: Version::V2,
                error: (!document.error.is_empty()).then(|| document.error.clone()),
                resource: self.resource(),
                accepts: document
                    .accepts
                    .iter()
                    .map(|entry| match entry {
                        Entry::Opaque(raw) => Entry::Opaque(raw.clone()),
                        Entry::Known(known) => Terms::try_from(known).map_or_else(
                            |_| Entry::Opaque(RawJson::of(known).unwrap_or_else(|_| RawJson::null())),
                            |terms| Entry::Known(terms.to_v2()),
                        ),
                    })
                    .collect(),
                extensions: Members::new(),
                rest: document.rest.clone(),
            },
        }
    }

    /// The same document in version 1: the resource stands in each entry; extensions have no place there.
    #[must_use]
    pub fn to_v1(&self) -> v1::PaymentRequired {
        match self {
            Self::V1(document) => document.clone(),
            Self::V2(document) => {
                let resource = document.resource.clone().unwrap_or_else(|| ResourceInfo::of(""));
                v1::PaymentRequired {
                    x402_version: Version::V1,
                    error: document.error.clone().unwrap_or_default(),
                    accepts: document
                        .accepts
                        .iter()
                        .map(|entry| match entry {
                            Entry::Opaque(raw) => Entry::Opaque(raw.clone()),
                            Entry::Known(known) => Entry::Known(Terms::from(known).to_v1(&resource)),
                        })
                        .collect(),
                    rest: document.rest.clone(),
                }
            }
        }
    }
}

fn v1_network(network: ChainId) -> NetworkName {
    networks::legacy_name(network).map_or_else(|| network.into(), NetworkName::from)
}

fn v1_resource(entry: &v1::PaymentRequirements) -> ResourceInfo {
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    ResourceInfo {
        description: text(&entry.description),
        mime_type: text(&entry.mime_type),
        ..ResourceInfo::of(entry.resource.0.clone())
    }
}
