//! Section "PaymentRequired": an entry of `accepts`, and `accepted`.

use super::Processor;
use crate::nvm::{AgentId, PlanId};
use crate::wire::wire;
use crate::{AtomicAmount, Malformed, Members, NetworkName, RawJson, SchemeName, Terms, TimeoutSeconds, Version};

/// The one version of the scheme.
const VERSION: &str = "1";

wire! {
    /// The additional members of an entry.
    pub struct CardExtra {
        /// The version of the scheme: `1`, which an entry may leave out.
        version: String => "version" or VERSION.to_owned();
        /// The agent that serves the request.
        agent_id: Option<AgentId> => "agentId" optional;
        /// The method of the endpoint.
        http_verb: Option<String> => "httpVerb" optional;
    }
}

impl CardExtra {
    /// Creates the members of version `1`, with every optional member absent.
    #[must_use]
    pub fn new() -> Self {
        Self { version: VERSION.to_owned(), agent_id: None, http_verb: None, rest: Members::new() }
    }

    /// Converts to the members of an object.
    #[must_use]
    pub fn to_members(&self) -> Members {
        RawJson::of(self).and_then(|raw| raw.read()).unwrap_or_default()
    }
}

impl Default for CardExtra {
    fn default() -> Self {
        Self::new()
    }
}

wire! {
    /// An entry of `accepts`, and `accepted`. It names neither price nor currency: both are the plan's.
    pub struct CardRequirements {
        /// The scheme, `nvm:card-delegation`; verification refuses another one, not the parser.
        scheme: SchemeName => "scheme" required;
        /// The name of the processor.
        network: NetworkName => "network" required;
        /// The id of the plan.
        plan_id: PlanId => "planId" required;
        /// The additional members; an entry may leave them out.
        extra: CardExtra => "extra" or CardExtra::new();
    }
}

impl CardRequirements {
    /// Creates an entry for a plan.
    #[must_use]
    pub fn new(processor: Processor, plan_id: PlanId) -> Self {
        Self {
            scheme: SchemeName::NVM_CARD_DELEGATION,
            network: processor.network_name(),
            plan_id,
            extra: CardExtra::new(),
            rest: Members::new(),
        }
    }

    /// Sets the agent that serves the request. A payment for it must name `resource.url`.
    #[must_use]
    pub const fn agent(mut self, agent: AgentId) -> Self {
        self.extra.agent_id = Some(agent);
        self
    }

    /// Sets the method of the endpoint.
    #[must_use]
    pub fn verb(mut self, method: &str) -> Self {
        self.extra.http_verb = Some(method.to_ascii_uppercase());
        self
    }

    /// Converts to the terms of this request, with its price in credits.
    ///
    /// # Errors
    /// The scheme, the network or the version is another one.
    pub fn to_terms(&self, credits: AtomicAmount) -> Result<Terms, Malformed> {
        if self.scheme != SchemeName::NVM_CARD_DELEGATION {
            return Err(Malformed::new("`scheme`: nvm:card-delegation"));
        }
        if self.extra.version != VERSION {
            return Err(Malformed::new("`extra.version`: \"1\""));
        }
        let network = Processor::of_name(self.network.as_str()).and_then(Processor::network);
        Ok(Terms {
            version: Version::V2,
            scheme: self.scheme.clone(),
            network: network.ok_or(Malformed::new("`network`: stripe, braintree or visa"))?,
            amount: credits,
            asset: self.plan_id.to_string(),
            pay_to: String::new(),
            max_timeout_seconds: TimeoutSeconds::ABSENT,
            extra: self.extra.to_members(),
        })
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

impl TryFrom<&Terms> for CardRequirements {
    type Error = Malformed;

    /// Converts the terms; fails if they are of another scheme.
    fn try_from(terms: &Terms) -> Result<Self, Malformed> {
        if terms.scheme != SchemeName::NVM_CARD_DELEGATION {
            return Err(Malformed::new("terms of nvm:card-delegation"));
        }
        let processor =
            Processor::of_network(terms.network).ok_or(Malformed::new("the network of a card processor"))?;
        let extra = RawJson::of(&terms.extra).and_then(|raw| raw.read());
        let extra = extra.map_err(|_| Malformed::new("`extra` of nvm:card-delegation: an object"))?;
        Ok(Self { extra, ..Self::new(processor, terms.asset.parse()?) })
    }
}
