//! Terms: one way to pay, whatever the version of the document. Code above this module does not distinguish versions.

use serde::{Deserialize, Serialize};

use crate::form::{form_of, read_entry};
use crate::v2::ResourceInfo;
use crate::{
    AmountRule, AtomicAmount, ChainId, Entry, Members, NetworkName, PaymentRequired, PaymentRequirements, RawJson,
    SchemeName, TimeoutSeconds, Version, networks, v1, v2,
};

/// One way to pay, as both versions mean it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Terms {
    /// The version of the document that contains the terms.
    pub version: Version,
    /// The payment scheme.
    pub scheme: SchemeName,
    /// The network on which to pay.
    pub network: ChainId,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The asset, as it was written.
    pub asset: String,
    /// The recipient, as it was written.
    pub pay_to: String,
    /// The longest validity of the payer's authorization.
    pub max_timeout_seconds: TimeoutSeconds,
    /// The scheme's additional members.
    pub extra: Members,
}

impl Terms {
    /// Creates terms of version 2, with the default timeout and without additional members.
    #[must_use]
    pub fn new(
        scheme: SchemeName,
        network: ChainId,
        amount: AtomicAmount,
        asset: impl Into<String>,
        pay_to: impl Into<String>,
    ) -> Self {
        Self {
            version: Version::V2,
            scheme,
            network,
            amount,
            asset: asset.into(),
            pay_to: pay_to.into(),
            max_timeout_seconds: TimeoutSeconds::DEFAULT,
            extra: Members::new(),
        }
    }

    /// Sets the version of the document that contains the terms.
    #[must_use]
    pub const fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the payment scheme.
    #[must_use]
    pub fn with_scheme(mut self, scheme: SchemeName) -> Self {
        self.scheme = scheme;
        self
    }

    /// Sets the network on which to pay.
    #[must_use]
    pub const fn with_network(mut self, network: ChainId) -> Self {
        self.network = network;
        self
    }

    /// Sets the amount in atomic units.
    #[must_use]
    pub const fn with_amount(mut self, amount: AtomicAmount) -> Self {
        self.amount = amount;
        self
    }

    /// Sets the asset, as it is written.
    #[must_use]
    pub fn with_asset(mut self, asset: impl Into<String>) -> Self {
        self.asset = asset.into();
        self
    }

    /// Sets the recipient, as it is written.
    #[must_use]
    pub fn with_pay_to(mut self, pay_to: impl Into<String>) -> Self {
        self.pay_to = pay_to.into();
        self
    }

    /// Sets the longest validity of the payer's authorization.
    #[must_use]
    pub const fn with_max_timeout_seconds(mut self, seconds: TimeoutSeconds) -> Self {
        self.max_timeout_seconds = seconds;
        self
    }

    /// Sets the scheme's additional members.
    #[must_use]
    pub fn with_extra(mut self, extra: Members) -> Self {
        self.extra = extra;
        self
    }

    /// Returns whether a payer's echo is this entry: core fields are equal, the amount follows the scheme's rule, accounts
    /// are compared as the network does, `extra` is a superset.
    #[must_use]
    pub fn matches(&self, accepted: &v2::PaymentRequirements, rule: AmountRule) -> bool {
        rule.allows(self.amount, accepted.amount) && self.matches_any_amount(accepted)
    }

    /// Returns whether a payer's echo is this entry with any amount.
    #[must_use]
    pub(crate) fn matches_any_amount(&self, accepted: &v2::PaymentRequirements) -> bool {
        self.scheme == accepted.scheme
            && self.network == accepted.network
            && self.max_timeout_seconds == accepted.max_timeout_seconds
            && self.network.same_account(&self.asset, &accepted.asset)
            && self.network.same_account(&self.pay_to, &accepted.pay_to)
            && accepted.extra.contains(&self.extra)
    }

    /// Converts to an entry of version 2.
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

    /// Returns the network as the terms' version writes it: CAIP-2 in version 2, unless the scheme has names of its own;
    /// in version 1 the legacy name, if there is one.
    #[must_use]
    pub fn network_name(&self) -> NetworkName {
        let form = form_of(&self.scheme).filter(|_| self.version == Version::V2);
        form.map_or_else(|| NetworkName::of(self.network, self.version), |form| form.network_name(self.network))
    }

    /// Returns whether clients of version 1 understand such an entry: the scheme is `exact` by EIP-3009, which is the only
    /// method of version 1, and the network has a legacy name. Published clients refuse a whole document because of one entry
    /// that they do not know.
    #[must_use]
    pub fn is_known_to_v1(&self) -> bool {
        let method = self.extra.text("assetTransferMethod");
        self.scheme == SchemeName::EXACT
            && method.is_none_or(|method| method == "eip3009")
            && networks::legacy_name(self.network).is_some()
    }

    /// Converts to an entry of version 1: with the legacy network name, if there is one, and the resource in each
    /// entry.
    #[must_use]
    pub fn to_v1(&self, resource: &ResourceInfo) -> v1::PaymentRequirements {
        v1::PaymentRequirements {
            scheme: self.scheme.clone(),
            network: NetworkName::of(self.network, Version::V1),
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

    /// Converts to an entry of the terms' own version; in version 2, in the form of its scheme.
    #[must_use]
    pub fn to_requirements(&self, resource: &ResourceInfo) -> Entry<PaymentRequirements> {
        match self.version {
            Version::V1 => Entry::Known(PaymentRequirements::V1(self.to_v1(resource))),
            Version::V2 => match self.to_entry() {
                Entry::Known(entry) => Entry::Known(PaymentRequirements::V2(entry)),
                Entry::Opaque(raw) => Entry::Opaque(raw),
            },
        }
    }

    /// Converts to an entry of `accepts` of version 2, in the form of its scheme.
    #[must_use]
    pub fn to_entry(&self) -> Entry<v2::PaymentRequirements> {
        match form_of(&self.scheme).and_then(|form| form.entry(self).ok()) {
            Some(raw) => Entry::Opaque(raw),
            None => Entry::Known(self.to_v2()),
        }
    }

    /// Converts from an entry of version 2, in the form of its scheme. An entry without a price, which is decided for
    /// each request, has terms of amount 0.
    #[must_use]
    pub fn of_entry(entry: &Entry<v2::PaymentRequirements>) -> Option<Self> {
        match entry {
            Entry::Known(entry) => Some(entry.into()),
            Entry::Opaque(raw) => {
                let (form, terms) = read_entry(raw)?;
                terms.ok().filter(|terms| form.is_of(&terms.scheme))
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

    /// Converts the entry; fails for a network name that is neither CAIP-2 nor in the table of simple names.
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

    /// Converts the entry; fails for a network name that is neither CAIP-2 nor in the table of simple names.
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
    /// Returns the version of the document.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// Returns the ways to pay that could be parsed, in the server's order.
    #[must_use]
    pub fn terms(&self) -> Vec<Terms> {
        match self {
            Self::V1(document) => {
                document.accepts.iter().filter_map(|entry| Terms::try_from(entry.known()?).ok()).collect()
            }
            Self::V2(document) => document.accepts.iter().filter_map(Terms::of_entry).collect(),
        }
    }

    /// Returns the resource that is for sale.
    #[must_use]
    pub fn resource(&self) -> Option<ResourceInfo> {
        match self {
            Self::V1(document) => document.accepts.iter().find_map(Entry::known).map(v1_resource),
            Self::V2(document) => document.resource.clone(),
        }
    }

    /// Returns the extensions that the server advertises; version 1 has none.
    #[must_use]
    pub fn extensions(&self) -> Members {
        match self {
            Self::V1(_) => Members::new(),
            Self::V2(document) => document.extensions.clone(),
        }
    }

    /// Converts the document to version 2: the first entry's resource becomes the document's, entries that could not be
    /// parsed are kept unchanged.
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

    /// Converts the document to version 1: each entry gets the resource, and the extensions are dropped because version
    /// 1 has no member for them.
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

fn v1_resource(entry: &v1::PaymentRequirements) -> ResourceInfo {
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    ResourceInfo {
        description: text(&entry.description),
        mime_type: text(&entry.mime_type),
        ..ResourceInfo::of(entry.resource.0.clone())
    }
}
