//! The form of entries and payments of this scheme: a plan in place of an amount of an asset, a processor's name in
//! place of a CAIP-2 network.

use super::{CardPayment, CardRequirements, Processor};
use crate::form::SchemeForm;
use crate::v2::ResourceInfo;
use crate::{AtomicAmount, ChainId, Claim, MadePayment, Malformed, NetworkName, RawJson, SchemeName, Terms};

/// The form of `nvm:card-delegation`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CardForm;

const JSON: Malformed = Malformed::new("values that can be written as JSON");

impl SchemeForm for CardForm {
    fn is_of(&self, scheme: &SchemeName) -> bool {
        *scheme == SchemeName::NVM_CARD_DELEGATION
    }

    fn entry(&self, terms: &Terms) -> Result<RawJson, Malformed> {
        RawJson::of(&CardRequirements::try_from(terms)?).map_err(|_| JSON)
    }

    /// Parses an entry. It states no price, so its terms have amount 0.
    fn terms(&self, entry: &RawJson) -> Option<Result<Terms, Malformed>> {
        let entry: CardRequirements = entry.read().ok()?;
        self.is_of(&entry.scheme).then(|| entry.to_terms(AtomicAmount::ZERO))
    }

    fn payment(&self, claim: &Claim) -> Result<RawJson, Malformed> {
        let accepted = CardRequirements::try_from(&claim.terms)?;
        let payment = CardPayment::new(claim.resource.clone(), accepted, claim.payload.clone());
        RawJson::of(&payment).map_err(|_| JSON)
    }

    fn pay(&self, entry: &RawJson, resource: Option<ResourceInfo>, made: MadePayment) -> Result<RawJson, Malformed> {
        let accepted = entry.read::<CardRequirements>();
        let accepted = accepted.map_err(|_| Malformed::new("an entry of nvm:card-delegation"))?;
        RawJson::of(&CardPayment::new(resource, accepted, made.payload)).map_err(|_| JSON)
    }

    fn signed_url<'u>(&self, named: Option<&'u str>, requested: &'u str) -> &'u str {
        named.filter(|url| url.starts_with('/')).unwrap_or(requested)
    }

    fn network_name(&self, network: ChainId) -> NetworkName {
        // A network of another namespace has no name here; an empty one is no network for any reader.
        Processor::of_network(network).map(Processor::network_name).unwrap_or_default()
    }

    fn network(&self, name: &NetworkName) -> Option<ChainId> {
        Processor::of_name(name.as_str())?.network()
    }
}
