//! The routing of claims to mechanisms.

use std::collections::BTreeMap;
use std::sync::Arc;

use x402_types::v2::SupportedKind;
use x402_types::{AmountRule, ChainId, Claim, ErrorReason, Fault, Rejection, SchemeName, Terms, Version};

use crate::{EntryDefaults, Mechanism};

type Kind = (Version, SchemeName, ChainId);

/// The mechanisms of a machine, by the kinds that they serve. Several may serve one kind, each by a method of its own.
#[derive(Default)]
pub(crate) struct Routing {
    mechanisms: BTreeMap<Kind, Vec<Arc<dyn Mechanism>>>,
    /// The amount rule of each scheme served.
    rules: BTreeMap<SchemeName, AmountRule>,
    kinds: Vec<SupportedKind>,
}

impl Routing {
    /// Returns the kinds served, in the order in which they were added.
    pub(crate) fn kinds(&self) -> &[SupportedKind] {
        &self.kinds
    }

    /// Returns the mechanisms that serve a kind.
    pub(crate) fn serving(&self, kind: &SupportedKind) -> &[Arc<dyn Mechanism>] {
        let key = kind.chain_id().map(|network| (kind.x402_version, kind.scheme.clone(), network));
        key.and_then(|key| self.mechanisms.get(&key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns whether a scheme settles the authorized amount, or may settle less.
    pub(crate) fn amount_rule(&self, scheme: &SchemeName) -> AmountRule {
        self.rules.get(scheme).copied().unwrap_or_default()
    }

    /// Adds the kinds of a mechanism.
    pub(crate) fn add(&mut self, mechanism: &Arc<dyn Mechanism>) -> Result<(), Fault> {
        let (method, rule) = (mechanism.method(), mechanism.amount_rule());
        for kind in mechanism.kinds() {
            let network =
                kind.chain_id().ok_or_else(|| Fault::broken(format_args!("no such network: {}", kind.network)))?;
            let served = self.mechanisms.entry((kind.x402_version, kind.scheme.clone(), network)).or_default();
            // A mechanism without a method takes every claim, and two with one method take the same claims.
            if served.iter().any(|other| method.is_none() || other.method().is_none() || other.method() == method) {
                return Err(Fault::broken(format_args!("{} on {network} is served twice", kind.scheme)));
            }
            if self.rules.insert(kind.scheme.clone(), rule).is_some_and(|other| other != rule) {
                return Err(Fault::broken(format_args!("{} has two rules for its amount", kind.scheme)));
            }
            served.push(Arc::clone(mechanism));
            if !self.kinds.contains(&kind) {
                self.kinds.push(kind);
            }
        }
        Ok(())
    }

    /// Finds the mechanism that checks and settles a claim.
    pub(crate) fn of(&self, claim: &Claim) -> Result<&Arc<dyn Mechanism>, Rejection> {
        let terms = &claim.terms;
        let kind = (terms.version, terms.scheme.clone(), terms.network);
        let served = self.mechanisms.get(&kind).map(Vec::as_slice).unwrap_or_default();
        if let [only] = served {
            return Ok(only);
        }
        let mut own = served.iter().filter(|mechanism| mechanism.is_own(claim));
        match (own.next(), own.next()) {
            (Some(one), None) => Ok(one),
            _ if served.is_empty() => Err(self.not_served(terms)),
            (one, _) => {
                let methods: Vec<&str> = served.iter().filter_map(|mechanism| mechanism.method()).collect();
                let found = if one.is_some() { "several" } else { "none" };
                let why = format!("payload: expected one of {}, found {found} of them", methods.join(", "));
                Err(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE).because(why))
            }
        }
    }

    /// Returns the members that may be left out of an entry of version 2. Those of a kind precede the mechanism's.
    pub(crate) fn entry_defaults(
        &self,
        scheme: Option<&str>,
        network: ChainId,
        asset: Option<&str>,
    ) -> Option<EntryDefaults> {
        let asked = |kind: &&SupportedKind| {
            kind.x402_version == Version::V2
                && kind.chain_id() == Some(network)
                && scheme.is_none_or(|scheme| scheme == kind.scheme.as_str())
        };
        self.kinds.iter().filter(asked).find_map(|kind| {
            let served = self.mechanisms.get(&(Version::V2, kind.scheme.clone(), network))?;
            let mut defaults = served.iter().find_map(|mechanism| mechanism.entry_defaults(network, asset))?;
            for (name, value) in kind.extra.iter() {
                defaults.extra.insert(name, value.clone());
            }
            Some(defaults)
        })
    }

    /// Returns the refusal of a kind that is not served.
    fn not_served(&self, terms: &Terms) -> Rejection {
        let served = |of: &dyn Fn(&Kind) -> bool| self.mechanisms.keys().any(of);
        Rejection::new(if !served(&|kind| kind.1 == terms.scheme) {
            ErrorReason::UNSUPPORTED_SCHEME
        } else if !served(&|kind| kind.1 == terms.scheme && kind.2 == terms.network) {
            ErrorReason::INVALID_NETWORK
        } else {
            ErrorReason::INVALID_X402_VERSION
        })
    }
}

impl core::fmt::Debug for Routing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.mechanisms.keys()).finish()
    }
}
