//! §3.2 and §3.3: `PaymentRequired`, its entries and their `extra`.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nvm::{AgentId, PlanId, detect};
use crate::v2::ResourceInfo;
use crate::wire::wire;
use crate::{
    AtomicAmount, ChainId, Entry, Malformed, Members, NetworkName, Offer, RawJson, SchemeName, Terms, TimeoutSeconds,
    Version,
};

wire! {
    /// §3.3 Extra Fields.
    pub struct Extra {
        /// "Scheme version (e.g., "1")."
        version: String => "version" required;
        /// "256-bit agent identifier (if plan has multiple agents)."
        agent_id: Option<AgentId> => "agentId" optional;
        /// "HTTP method for the endpoint."
        http_verb: Option<String> => "httpVerb" optional;
    }
}

impl Extra {
    /// Creates the members of version `1`, with every optional member absent.
    #[must_use]
    pub fn new() -> Self {
        Self { version: "1".to_owned(), agent_id: None, http_verb: None, rest: Members::new() }
    }

    /// Converts to the members of an object.
    #[must_use]
    pub fn to_members(&self) -> Members {
        RawJson::of(self).and_then(|raw| raw.read()).unwrap_or_default()
    }
}

impl Default for Extra {
    fn default() -> Self {
        Self::new()
    }
}

wire! {
    /// §3.3 Scheme Fields: an entry of `accepts`, and `accepted`.
    pub struct Requirements {
        /// "MUST be `nvm:erc4337`"; another scheme is refused by verification, not by the parser.
        scheme: SchemeName => "scheme" required;
        /// "Blockchain network identifier using CAIP-2"; other text is refused by verification, not by the parser.
        network: NetworkName => "network" required;
        /// "256-bit plan identifier."
        plan_id: PlanId => "planId" required;
        /// The scheme's additional members.
        extra: Extra => "extra" required;
    }
}

impl Requirements {
    /// Creates an entry with a price in credits of a plan.
    #[must_use]
    pub fn new(network: ChainId, plan_id: PlanId) -> Self {
        Self {
            scheme: SchemeName::NVM_ERC4337,
            network: network.into(),
            plan_id,
            extra: Extra::new(),
            rest: Members::new(),
        }
    }

    /// Sets the agent that serves the request. A payment for it must name `resource.url`.
    #[must_use]
    pub const fn with_agent(mut self, agent: AgentId) -> Self {
        self.extra.agent_id = Some(agent);
        self
    }

    /// Sets the method of the endpoint.
    #[must_use]
    pub fn with_verb(mut self, method: &str) -> Self {
        self.extra.http_verb = Some(method.to_ascii_uppercase());
        self
    }

    /// Sets the address that signs the operations: clients issue session keys only to it.
    #[must_use]
    pub fn with_session_signer(mut self, signer: &str) -> Self {
        self.extra.rest.insert_text("sessionSigner", signer);
        self
    }

    /// Converts to the terms of this request, with its price in credits.
    ///
    /// # Errors
    /// The network is not CAIP-2.
    pub fn to_terms(&self, credits: AtomicAmount) -> Result<Terms, Malformed> {
        Ok(Terms {
            version: Version::V2,
            scheme: self.scheme.clone(),
            network: self.network.as_str().parse()?,
            amount: credits,
            asset: self.plan_id.to_string(),
            pay_to: String::new(),
            max_timeout_seconds: TimeoutSeconds::ABSENT,
            extra: self.extra.to_members(),
        })
    }

    /// Creates the server's offer for this request: the entry, with the maximum price in credits.
    ///
    /// # Errors
    /// The network is not CAIP-2.
    pub fn to_offer(&self, credits: AtomicAmount) -> Result<Offer, Malformed> {
        Ok(Offer { terms: self.to_terms(credits)?, key: Arc::new(super::key::PlanKey) })
    }

    /// Returns whether the payer's echo is this entry: scheme, network and plan are equal, `extra` is a superset.
    #[must_use]
    pub fn is_accepted_by(&self, accepted: &Self) -> bool {
        self.scheme == accepted.scheme
            && self.network == accepted.network
            && self.plan_id == accepted.plan_id
            && accepted.extra.to_members().contains(&self.extra.to_members())
    }
}

impl TryFrom<&Terms> for Requirements {
    type Error = Malformed;

    /// Converts the terms; fails if they are of another scheme.
    fn try_from(terms: &Terms) -> Result<Self, Malformed> {
        if terms.scheme != SchemeName::NVM_ERC4337 {
            return Err(Malformed::new("terms of nvm:erc4337"));
        }
        let extra = RawJson::of(&terms.extra).and_then(|raw| raw.read());
        Ok(Self {
            scheme: terms.scheme.clone(),
            network: terms.network.into(),
            plan_id: terms.asset.parse()?,
            extra: extra.map_err(|_| Malformed::new("`extra` of nvm:erc4337: an object with `version`"))?,
            rest: Members::new(),
        })
    }
}

wire! {
    /// The document before its entries are parsed.
    struct Document {
        x402_version: Version => "x402Version" version_2;
        error: Option<String> => "error" optional;
        resource: ResourceInfo => "resource" required;
        accepts: Vec<RawJson> => "accepts" required;
        extensions: Members => "extensions" or Members::new();
    }
}

/// §3.2 PaymentRequired Response (402).
///
/// `error` and `extensions` may be absent. Any other absent field is refused, in the document and in every entry of
/// this scheme. Entries of other schemes survive.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentRequired {
    /// "Human-readable error message."
    pub error: Option<String>,
    /// "Protected resource information."
    pub resource: ResourceInfo,
    /// "Array of accepted payment schemes."
    pub accepts: Vec<Entry<Requirements>>,
    /// "Empty object `{}` for x402 spec alignment." It is always written.
    pub extensions: Members,
    /// Unknown members, as they were received.
    pub rest: Members,
}

impl PaymentRequired {
    /// Iterates over the entries of this scheme, in the server's order.
    pub fn offered(&self) -> impl Iterator<Item = &Requirements> {
        self.accepts.iter().filter_map(Entry::known)
    }
}

impl Serialize for PaymentRequired {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x402Version", &Version::V2)?;
        if let Some(error) = &self.error {
            map.serialize_entry("error", error)?;
        }
        map.serialize_entry("resource", &self.resource)?;
        map.serialize_entry("accepts", &self.accepts)?;
        map.serialize_entry("extensions", &self.extensions)?;
        for (key, value) in self.rest.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for PaymentRequired {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        let accepts = document
            .accepts
            .into_iter()
            .map(|raw| {
                if detect::is_entry(&raw) {
                    raw.read().map(Entry::Known).map_err(serde::de::Error::custom)
                } else {
                    Ok(Entry::Opaque(raw))
                }
            })
            .collect::<Result<_, D::Error>>()?;
        Ok(Self {
            error: document.error,
            resource: document.resource,
            accepts,
            extensions: document.extensions,
            rest: document.rest,
        })
    }
}
