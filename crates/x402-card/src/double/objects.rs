//! The objects of the double.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::MoneyBook;

/// A look at a member of an object; an absent one is null.
pub(super) trait Member {
    /// Returns the member.
    fn at(&self, name: &str) -> &Value;
}

impl Member for Value {
    fn at(&self, name: &str) -> &Value {
        const NULL: &Value = &Value::Null;
        self.get(name).unwrap_or(NULL)
    }
}

/// The outcome of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeds,
    /// Refused with a code and a decline code.
    Refused(&'static str, Option<&'static str>),
}

/// The test methods of [Stripe's documentation](https://docs.stripe.com/testing).
const METHODS: &[(&str, Outcome)] = &[
    ("pm_card_visa", Outcome::Succeeds),
    ("pm_card_visa_chargeDeclined", Outcome::Refused("card_declined", Some("generic_decline"))),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", Outcome::Refused("card_declined", Some("insufficient_funds"))),
    ("pm_card_visa_chargeDeclinedLostCard", Outcome::Refused("card_declined", Some("lost_card"))),
    ("pm_card_chargeDeclinedExpiredCard", Outcome::Refused("expired_card", None)),
    ("pm_card_chargeDeclinedProcessingError", Outcome::Refused("processing_error", None)),
    ("pm_card_authenticationRequired", Outcome::Refused("authentication_required", Some("authentication_required"))),
    ("pm_card_chargeCustomerFail", Outcome::Refused("card_declined", Some("generic_decline"))),
];

#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) accounts: BTreeSet<String>,
    pub(super) customers: Vec<Value>,
    pub(super) setups: Vec<Value>,
    pub(super) methods: BTreeMap<String, (Value, Outcome)>,
    pub(super) intents: Vec<Value>,
    pub(super) refunds: Vec<Value>,
    pub(super) book: MoneyBook,
    /// The look-ups for which an intent is still being processed.
    pub(super) processing: BTreeMap<String, u32>,
    /// The number of intents that the last list had.
    pub(super) listed: usize,
    made: u64,
}

impl Objects {
    /// Makes the id of a new object.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        self.made = self.made.saturating_add(1);
        format!("{prefix}_double{:06}", self.made)
    }

    /// Returns the id of the method that a request names: a test method becomes a new one.
    pub(super) fn method(&mut self, named: &str, customer: &str) -> Option<String> {
        let outcome = METHODS.iter().find(|(name, _)| *name == named).map(|(_, outcome)| *outcome);
        let Some(outcome) = outcome else {
            let of = self.methods.get(named).map(|(method, _)| method.at("customer") == customer);
            return (of == Some(true)).then(|| named.to_owned());
        };
        let id = self.id("pm");
        let method = serde_json::json!({
            "id": id, "object": "payment_method", "type": "card", "customer": customer, "livemode": false,
            "card": { "brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2031 }
        });
        self.methods.insert(id.clone(), (method, outcome));
        Some(id)
    }

    pub(super) fn outcome(&self, method: &str) -> Outcome {
        self.methods
            .get(method)
            .map_or(Outcome::Refused("card_declined", Some("generic_decline")), |(_, outcome)| *outcome)
    }
}
