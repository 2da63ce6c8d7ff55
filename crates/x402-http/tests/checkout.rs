//! The part of a seller that knows no transport, driven by hand: a shop of tools that are called in process. No request,
//! response, header or status of HTTP occurs here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{PAYER, Script, TRANSACTION, offer, payment_json, terms, upfront};
use serde_json::{Value, json};
use x402_http::checkout::{Checkout, Declined, Flow, GrantState, Grants, MemoryGrants, PaymentIn, Used};
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{AmountRule, AtomicAmount, Claim, ErrorReason, Offer, PaymentKey, PaymentKeyFn, Rejection};

/// A transport in ten lines: a call with a payment beside it, an answer with a receipt beside it.
struct Tools {
    checkout: Checkout,
    offers: Vec<Offer>,
    script: Arc<Script>,
    grants: Arc<MemoryGrants>,
}

/// What the caller of a tool gets.
#[derive(Debug)]
enum Answer {
    Result {
        text: Value,
        receipt: Option<SettleResponse>,
    },
    /// What to pay, and why what came was not taken.
    PaymentRequired(Value),
    Declined(Declined),
}

fn tools(offers: Vec<Offer>) -> Tools {
    let script = Arc::new(Script::default());
    let grants = Arc::new(MemoryGrants::default());
    let checkout = Checkout::new(script.clone()).with_grants(grants.clone());
    checkout.check(&offers).unwrap();
    Tools { checkout, offers, script, grants }
}

impl Tools {
    fn ask(&self, tool: &str, why: Option<&Rejection>) -> Answer {
        let document = self.checkout.payment_required(&self.offers, resource(tool), why);
        Answer::PaymentRequired(serde_json::to_value(document).unwrap())
    }

    /// Calls a tool. `works`: what it answers, and what it used of what was paid.
    async fn call(&self, tool: &str, payment: Option<&Value>, works: Result<(&str, Option<Used>), &str>) -> Answer {
        let Some(payment) = payment else { return self.ask(tool, None) };
        let payment = PaymentIn::new(payment.to_string(), resource(tool).into(), "tools/call");
        let received = match self.checkout.receive(payment, &self.offers) {
            Ok(received) => received,
            Err(rejection) => return self.ask(tool, Some(&rejection)),
        };
        let (admitted, paid) = match received.admit().await {
            Ok(admitted) => admitted,
            Err(Declined::Refused(rejection)) => return self.ask(tool, Some(&rejection)),
            Err(declined) => return Answer::Declined(declined),
        };
        assert_eq!(paid.payer.as_deref(), Some(PAYER), "the tool knows who pays");
        match works {
            Err(failure) => Answer::Result { text: failure.into(), receipt: admitted.fail() },
            Ok((text, used)) => match admitted.finish(used).await {
                Ok(receipt) => Answer::Result { text: text.into(), receipt: Some(receipt) },
                Err(declined) => Answer::Declined(declined),
            },
        }
    }

    async fn state(&self, payment: &Value) -> Option<GrantState> {
        let claim = Claim::new(terms(), serde_json::from_value(payment.clone()).unwrap());
        self.grants.look(&common::key_of(&claim).unwrap()).await.unwrap().map(|standing| standing.state)
    }
}

fn resource(tool: &str) -> ResourceInfo {
    ResourceInfo::of(format!("mcp://tool/{tool}"))
}

const SUNNY: Result<(&str, Option<Used>), &str> = Ok(("sunny", None));

#[tokio::test]
async fn a_tool_is_paid_without_http() {
    let tools = tools(vec![offer(terms())]);
    let Answer::PaymentRequired(asked) = tools.call("weather", None, SUNNY).await else { panic!() };
    assert_eq!(asked["accepts"][0], serde_json::to_value(terms().to_v2()).unwrap());
    assert_eq!(
        (&asked["resource"]["url"], &asked["error"]),
        (&json!("mcp://tool/weather"), &json!("Payment required"))
    );

    let payment = payment_json(&terms(), 1);
    let Answer::Result { text, receipt } = tools.call("weather", Some(&payment), SUNNY).await else { panic!() };
    assert_eq!((text, receipt.unwrap().transaction.as_str()), (json!("sunny"), TRANSACTION));
    assert_eq!(tools.script.log(), "verify, settle");
    assert_eq!(tools.state(&payment).await, Some(GrantState::Granted));
    let seen = tools.script.seen.lock().unwrap()[0].clone();
    assert_eq!((seen.raw, seen.resource.url.as_str()), (payment.to_string(), "mcp://tool/weather"));
    assert_eq!((seen.claim.terms, seen.claim.identity.request.len()), (terms(), 64));

    // One payment, one answer: the same is used, for the other tool too.
    for tool in ["weather", "news"] {
        let Answer::PaymentRequired(asked) = tools.call(tool, Some(&payment), SUNNY).await else { panic!() };
        assert_eq!(asked["error"], "duplicate_settlement");
    }
}

#[tokio::test]
async fn what_is_refused_is_told_by_type() {
    let tools = tools(vec![offer(terms())]);
    for unread in [json!({}), json!({"x402Version": 2}), json!("x"), json!({"x402Version": 1})] {
        let Answer::PaymentRequired(asked) = tools.call("weather", Some(&unread), SUNNY).await else { panic!() };
        assert_eq!(asked["error"], "invalid_payload", "{unread}");
    }
    let cheaper = payment_json(&terms().with_amount(1.into()), 1);
    let Answer::PaymentRequired(asked) = tools.call("weather", Some(&cheaper), SUNNY).await else { panic!() };
    assert_eq!(asked["error"], "invalid_payment_requirements");
    assert_eq!(tools.script.log(), "", "nothing was asked of anybody");

    tools.script.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    let payment = payment_json(&terms(), 2);
    let Answer::PaymentRequired(asked) = tools.call("weather", Some(&payment), SUNNY).await else { panic!() };
    assert_eq!(asked["error"], "insufficient_funds");

    tools
        .script
        .settle_says(r#"{"success":false,"errorReason":"invalid_transaction_state","transaction":"","network":""}"#);
    let answer = tools.call("weather", Some(&payment), SUNNY).await;
    let Answer::Declined(Declined::NotSettled { rejection, receipt }) = answer else { panic!() };
    assert_eq!(rejection.reason, ErrorReason::INVALID_TRANSACTION_STATE);
    assert_eq!((receipt.success, receipt.network.as_str()), (false, "eip155:84532"));
    assert_eq!(tools.state(&payment).await, None, "it may be tried again");

    tools.script.verify_is_unreachable();
    let answer = tools.call("weather", Some(&payment), SUNNY).await;
    assert!(matches!(answer, Answer::Declined(Declined::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn an_unknown_outcome_is_taken_up_by_the_same_call() {
    let tools = tools(vec![offer(terms())]);
    let payment = payment_json(&terms(), 1);
    tools.script.settle_is_unreachable();
    let answer = tools.call("weather", Some(&payment), SUNNY).await;
    let Answer::Declined(Declined::Unknown { receipt, fault }) = answer else { panic!("{answer:?}") };
    assert!(!receipt.success && fault.is_some());
    assert_eq!(tools.state(&payment).await, Some(GrantState::Pending));
    let other = tools.call("news", Some(&payment), SUNNY).await;
    assert!(matches!(other, Answer::PaymentRequired(_)), "another call is another request: {other:?}");
    let Answer::Result { receipt, .. } = tools.call("weather", Some(&payment), SUNNY).await else { panic!() };
    assert!(receipt.unwrap().success);
    assert_eq!(tools.script.log(), "verify, settle, settle", "it was not verified anew");
}

#[tokio::test]
async fn a_tool_that_fails_is_not_paid_unless_it_was_before() {
    let shop = tools(vec![offer(terms())]);
    let payment = payment_json(&terms(), 1);
    let Answer::Result { receipt, .. } = shop.call("weather", Some(&payment), Err("no data")).await else { panic!() };
    assert_eq!((receipt, shop.state(&payment).await), (None, None));
    assert_eq!(shop.script.log(), "verify");

    let asked = upfront(terms());
    let shop = tools(vec![offer(asked.clone())]);
    let payment = payment_json(&asked, 1);
    let Answer::Result { receipt, .. } = shop.call("weather", Some(&payment), Err("no data")).await else { panic!() };
    assert!(receipt.unwrap().success, "the payer learns that the money moved");
    assert_eq!((shop.script.log().as_str(), shop.state(&payment).await), ("settle", Some(GrantState::Pending)));
}

#[tokio::test]
async fn a_call_that_is_looked_at_claims_nothing_and_one_in_work_keeps_others_out() {
    let tools = tools(vec![offer(terms())]);
    let payment = || {
        let raw = payment_json(&terms(), 1).to_string();
        tools.checkout.receive(PaymentIn::new(raw, resource("weather").into(), "tools/call"), &tools.offers).unwrap()
    };
    let looked = payment();
    assert_eq!(looked.flow(), Flow::Authorization);
    assert_eq!(looked.dialect().name(), "x402 v2");
    assert_eq!(looked.look().await.unwrap().amount, AtomicAmount::from(10_000));
    let (admitted, _) = payment().admit().await.unwrap();
    assert!(matches!(payment().look().await, Err(Declined::Busy(_))));
    assert!(matches!(payment().admit().await, Err(Declined::Busy(_))));
    drop(admitted);
    payment().admit().await.unwrap();
}

/// A scheme that settles what was used.
struct Metered;

impl PaymentKeyFn for Metered {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        common::key_of(claim)
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }
}

#[tokio::test]
async fn what_a_tool_used_is_settled_where_the_scheme_says_so() {
    let metered = terms().with_scheme("metered".parse().unwrap());
    let tools = tools(vec![Offer { terms: metered.clone(), key: Arc::new(Metered) }, offer(terms())]);
    for (asked, settled) in [(metered, 7), (terms(), 10_000)] {
        let nonce = u8::try_from(settled % 100).unwrap();
        let used = Ok(("sunny", Some(Used(7.into()))));
        let answer = tools.call("weather", Some(&payment_json(&asked, nonce)), used).await;
        assert!(matches!(answer, Answer::Result { .. }), "{answer:?}");
        assert_eq!(tools.script.seen.lock().unwrap().last().unwrap().claim.terms.amount, settled.into());
    }
}
