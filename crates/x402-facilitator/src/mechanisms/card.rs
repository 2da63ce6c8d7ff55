//! The assembly of `nvm:card-delegation`.

use std::sync::Arc;

use x402_card::stores::{Books, Cards, Delegations};
use x402_card::{CardAccount, CardMechanism, CardParts, CardPlans, CardRail, TokenKeys, TokenSigner, lanes};
use x402_facilitator_core::Ledger;
use x402_types::Fault;
use x402_types::nvm::card::Processor;

use crate::clock::now;
use crate::dialects::CardDesk;

/// The parts that serve `nvm:card-delegation`.
#[derive(Clone)]
pub struct CardPayments {
    /// The facilitator's URL, `iss` of its tokens.
    pub issuer: String,
    /// The key that signs new tokens.
    pub signer: TokenSigner,
    /// The public keys of former signers.
    pub former: TokenKeys,
    /// The plans that are served.
    pub plans: CardPlans,
    /// The account at the processor.
    pub account: Arc<CardAccount>,
    /// The store of delegations.
    pub delegations: Arc<dyn Delegations>,
    /// The books of credits.
    pub books: Arc<dyn Books>,
    /// The handles of cards.
    pub cards: Arc<dyn Cards>,
    /// The longest life of a delegation, in seconds.
    pub longest: u64,
    /// The number of lanes.
    pub lanes: usize,
}

impl std::fmt::Debug for CardPayments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CardPayments")
            .field("issuer", &self.issuer)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl CardPayments {
    /// Returns the mechanism, its rail, and the desk of the routes.
    pub(super) fn assemble(self, ledger: Arc<dyn Ledger>) -> Result<(CardMechanism, CardRail, CardDesk), Fault> {
        let lanes = lanes(Processor::Stripe, self.lanes)?;
        let keys = self.former.with_signer(&self.signer).map_err(Fault::broken)?;
        let (delegations, books) = (Arc::clone(&self.delegations), Arc::clone(&self.books));
        let rail = CardRail::new(Arc::clone(&self.account), delegations, books, lanes.clone(), Arc::new(now));
        let desk = CardDesk {
            issuer: self.issuer.clone(),
            signer: self.signer,
            keys: keys.clone(),
            plans: self.plans.clone(),
            account: Arc::clone(&self.account),
            delegations: Arc::clone(&self.delegations),
            cards: Arc::clone(&self.cards),
            longest: self.longest,
        };
        let mechanism = CardMechanism::new(CardParts {
            issuer: self.issuer,
            keys,
            plans: self.plans,
            account: self.account,
            delegations: self.delegations,
            books: self.books,
            cards: self.cards,
            ledger,
            lanes,
        })?;
        Ok((mechanism.with_longest_life(self.longest), rail, desk))
    }
}
