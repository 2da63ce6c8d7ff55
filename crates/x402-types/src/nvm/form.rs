//! §3.2 and §3.3: entries and payments with credits of a plan in place of an amount of an asset.

use super::{PaymentPayload, Requirements, v03};
use crate::form::SchemeForm;
use crate::v2::ResourceInfo;
use crate::{AtomicAmount, Claim, Identity, MadePayment, Malformed, Members, RawJson, SchemeName, Terms};

/// The form of entries and payments with credits of a plan. Payments are written in version 0.3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanForm;

const JSON: Malformed = Malformed::new("values that can be written as JSON");

impl SchemeForm for PlanForm {
    fn is_of(&self, scheme: &SchemeName) -> bool {
        *scheme == SchemeName::NVM_ERC4337
    }

    fn entry(&self, terms: &Terms) -> Result<RawJson, Malformed> {
        RawJson::of(&Requirements::try_from(terms)?).map_err(|_| JSON)
    }

    /// Parses an entry. It states no price, which is decided for each request, so its terms have amount 0.
    fn terms(&self, entry: &RawJson) -> Option<Result<Terms, Malformed>> {
        let entry: Requirements = entry.read().ok()?;
        Some(entry.to_terms(AtomicAmount::ZERO))
    }

    fn payment(&self, claim: &Claim) -> Result<RawJson, Malformed> {
        let accepted = Requirements::try_from(&claim.terms)?;
        let payment = v03::PaymentPayload::new(claim.resource.clone(), accepted, claim.payload.clone());
        RawJson::of(&payment).map_err(|_| JSON)
    }

    fn pay(&self, entry: &RawJson, resource: Option<ResourceInfo>, made: MadePayment) -> Result<RawJson, Malformed> {
        let entry = entry.read::<Requirements>();
        let mut accepted = entry.map_err(|_| Malformed::new("an entry of nvm:erc4337"))?;
        for (key, value) in made.extra.iter() {
            match key {
                "httpVerb" => accepted.extra.http_verb = value.read().ok(),
                _ => accepted.extra.rest.insert(key, value.clone()),
            }
        }
        RawJson::of(&v03::PaymentPayload::new(resource, accepted, made.payload)).map_err(|_| JSON)
    }

    /// Servers of plans may name the resource only by its path, and compare that exact text.
    fn signed_url<'u>(&self, named: Option<&'u str>, requested: &'u str) -> &'u str {
        named.filter(|url| url.starts_with('/')).unwrap_or(requested)
    }
}

impl PaymentPayload {
    /// Combines the payment with the terms that it must fulfil.
    #[must_use]
    pub fn into_claim(self, terms: Terms) -> Claim {
        Claim {
            terms: self.accepted_terms(terms),
            payload: self.payload().clone(),
            resource: self.resource().cloned(),
            extensions: Members::new(),
            identity: Identity::default(),
        }
    }
}
