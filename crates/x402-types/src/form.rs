//! The forms in which schemes write entries of `accepts` and payments, where they are not those of x402.

use crate::forms::FORMS;
use crate::v2::ResourceInfo;
use crate::{ChainId, Claim, MadePayment, Malformed, NetworkName, RawJson, SchemeName, Terms};

/// The form of one scheme's documents: how its terms are written as an entry of `accepts`, and its claims as a payment.
///
/// A scheme whose documents are those of x402 has none. The parts that serve every scheme handle documents of such a form
/// as JSON.
pub trait SchemeForm: Send + Sync {
    /// Returns whether terms and claims of this scheme are written in this form.
    fn is_of(&self, scheme: &SchemeName) -> bool;

    /// Writes the terms as an entry of `accepts`.
    ///
    /// # Errors
    /// The terms lack what the form needs.
    fn entry(&self, terms: &Terms) -> Result<RawJson, Malformed>;

    /// Parses an entry that x402 cannot parse. Returns `None` if it does not have this form; its scheme may be another
    /// one all the same.
    ///
    /// # Errors
    /// The entry has this form, and a value in it is malformed.
    fn terms(&self, entry: &RawJson) -> Option<Result<Terms, Malformed>>;

    /// Writes the payment of a claim.
    ///
    /// # Errors
    /// The claim lacks what the form needs.
    fn payment(&self, claim: &Claim) -> Result<RawJson, Malformed>;

    /// Writes a payment for an entry that [`terms`](Self::terms) parsed, with the resource that the server named.
    ///
    /// # Errors
    /// The entry does not have this form.
    fn pay(&self, entry: &RawJson, resource: Option<ResourceInfo>, made: MadePayment) -> Result<RawJson, Malformed>;

    /// Returns the URL that the scheme signs: the requested one, or the one that the server named.
    fn signed_url<'u>(&self, named: Option<&'u str>, requested: &'u str) -> &'u str {
        let _ = named;
        requested
    }

    /// Returns the network as the scheme's documents of version 2 name it: CAIP-2, unless the scheme has other names.
    fn network_name(&self, network: ChainId) -> NetworkName {
        network.into()
    }

    /// Returns the network that the scheme's documents name in this way.
    fn network(&self, name: &NetworkName) -> Option<ChainId> {
        name.chain_id()
    }
}

/// Returns the form in which a scheme's documents are written; `None` for a scheme with those of x402.
#[must_use]
pub fn form_of(scheme: &SchemeName) -> Option<&'static dyn SchemeForm> {
    FORMS.iter().copied().find(|form| form.is_of(scheme))
}

/// Parses an entry that x402 cannot parse, by the first form that it has.
#[must_use]
pub fn read_entry(entry: &RawJson) -> Option<(&'static dyn SchemeForm, Result<Terms, Malformed>)> {
    FORMS.iter().find_map(|form| form.terms(entry).map(|terms| (*form, terms)))
}

/// Returns the network that a document of version 2 names beside this scheme.
#[must_use]
pub fn network_of(scheme: &SchemeName, name: &NetworkName) -> Option<ChainId> {
    form_of(scheme).map_or_else(|| name.chain_id(), |form| form.network(name))
}
