//! The desk at which cards are enrolled and delegations are made: the account at the processor, the stores, and the signer of tokens.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use x402_card::processor::ProcessorCall;
use x402_card::stores::{Card, Cards, Delegations};
use x402_card::{CardAccount, CardPlans, TokenKeys, TokenSigner};
use x402_types::Fault;

use crate::routes::Routes;

/// The cards, delegations and tokens of a facilitator.
#[derive(Clone)]
pub struct CardDesk {
    /// The facilitator's URL, `iss` of its tokens.
    pub issuer: String,
    /// The key that signs new tokens.
    pub signer: TokenSigner,
    /// The keys that are published.
    pub keys: TokenKeys,
    /// The plans that are served.
    pub plans: CardPlans,
    /// The account at the processor.
    pub account: Arc<CardAccount>,
    /// The store of delegations.
    pub delegations: Arc<dyn Delegations>,
    /// The handles of cards.
    pub cards: Arc<dyn Cards>,
    /// The longest life of a delegation, in seconds.
    pub longest: u64,
}

impl std::fmt::Debug for CardDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CardDesk").field("issuer", &self.issuer).field("account", &self.account).finish_non_exhaustive()
    }
}

impl Routes {
    /// Sets the desk at which cards are enrolled and delegations are made.
    #[must_use]
    pub fn with_cards(self, desk: CardDesk) -> Self {
        self.with_value(desk)
    }
}

/// A card that the processor does not confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotEnrolled {
    /// The setup is another user's, or there is none.
    NotYours,
    /// The browser has not completed it.
    NotSucceeded,
    /// The setup has no payment method.
    NoMethod,
}

impl CardDesk {
    /// Begins an enrolment: makes the customer on first use, and a setup that the user's browser completes. Returns its id
    /// and its secret, which goes to its user and is not kept.
    pub(super) async fn begin(&self, user: &str) -> Result<(String, String), Fault> {
        let customer = match self.cards.customer(user).await? {
            Some(customer) => customer,
            None => {
                let key = format!("x402-customer-{}", alloy_primitives::hex::encode(Sha256::digest(user)));
                let made = self.call(&ProcessorCall::post("/v1/customers", &[], key)).await?;
                self.cards.put_customer(user, text(&made, "id")?).await?
            }
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Fault::unreachable("the random numbers", error))?;
        let key = format!("x402-setup-{}", alloy_primitives::hex::encode(random));
        let form = [("customer", customer.as_str()), ("usage", "off_session")];
        let setup = self.call(&ProcessorCall::post("/v1/setup_intents", &form, key)).await?;
        Ok((text(&setup, "id")?.to_owned(), text(&setup, "client_secret")?.to_owned()))
    }

    /// Ends an enrolment: the processor names the card that the user's browser has set up.
    pub(super) async fn end(&self, user: &str, setup: &str) -> Result<Result<Card, NotEnrolled>, Fault> {
        let setup = self.look(&format!("/v1/setup_intents/{setup}")).await?;
        let customer = self.cards.customer(user).await?;
        let Some((setup, customer)) = setup
            .zip(customer)
            .filter(|(setup, customer)| member(setup, "customer").as_str() == Some(customer.as_str()))
        else {
            return Ok(Err(NotEnrolled::NotYours));
        };
        if member(&setup, "livemode").as_bool() != Some(self.account.livemode()) {
            return Err(Fault::broken("the card processor answers in another mode than its key"));
        }
        if member(&setup, "status").as_str() != Some("succeeded") {
            return Ok(Err(NotEnrolled::NotSucceeded));
        }
        let Some(method) = member(&setup, "payment_method").as_str() else { return Ok(Err(NotEnrolled::NoMethod)) };
        let Some(card) = self.look(&format!("/v1/payment_methods/{method}")).await? else {
            return Ok(Err(NotEnrolled::NoMethod));
        };
        let shown = |name: &str| member(member(&card, "card"), name).as_str().unwrap_or_default().to_owned();
        let card = Card::new(user, &customer, method, &shown("brand"), &shown("last4"));
        self.cards.enrol(card).await?;
        let enrolled = self.cards.card(user, method).await?;
        enrolled.map(Ok).ok_or_else(|| Fault::store("an enrolled card is not there"))
    }

    async fn call(&self, call: &ProcessorCall) -> Result<serde_json::Value, Fault> {
        self.answered(call).await?.ok_or_else(|| Fault::broken("the card processor refuses to enrol cards"))
    }

    async fn look(&self, path: &str) -> Result<Option<serde_json::Value>, Fault> {
        self.answered(&ProcessorCall::get(path, &[])).await
    }

    /// Returns the object of an answer; `None` for a final refusal.
    async fn answered(&self, call: &ProcessorCall) -> Result<Option<serde_json::Value>, Fault> {
        let answer = self.account.calls().call(call).await?;
        let fault = || Fault::no_verdict("the card processor", answer.status, "no result");
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body).map(Some).map_err(|_| fault()),
            400 | 402 | 404 => Ok(None),
            _ => Err(fault()),
        }
    }
}

/// Returns a member of an object; an absent one is null.
fn member<'v>(value: &'v serde_json::Value, name: &str) -> &'v serde_json::Value {
    const NULL: &serde_json::Value = &serde_json::Value::Null;
    value.get(name).unwrap_or(NULL)
}

fn text<'v>(value: &'v serde_json::Value, name: &str) -> Result<&'v str, Fault> {
    member(value, name)
        .as_str()
        .ok_or_else(|| Fault::broken(format_args!("an answer of the card processor without {name}")))
}
