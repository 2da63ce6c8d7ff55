//! What may be settled of what was authorized is the scheme's word, in the routes too.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use x402_facilitator::clock::now;
use x402_facilitator::engine::Engine;
use x402_facilitator::routes::Routes;
use x402_facilitator_core::{
    Ledger, Mechanism, MemoryLedger, NextStep, Observation, OwnerId, Payment, Settlement, Step, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, AuthorizationKind, Claim, ErrorReason, Fault, Members, PaymentKey, Refusal, Rejection, UnixSeconds,
    Version,
};

use crate::support::{send, tls};

/// A scheme that is asked to verify, and says no; to more than ten by a code of its own, if it has one.
struct Ruled {
    scheme: &'static str,
    rule: AmountRule,
    verdict: fn(u64) -> Result<(), &'static str>,
}

/// The code of `upto`, as the TypeScript SDK has it.
const EXCEEDS: &str = "invalid_upto_evm_payload_settlement_exceeds_amount";

#[async_trait]
impl Mechanism for Ruled {
    fn kinds(&self) -> Vec<SupportedKind> {
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: self.scheme.parse().unwrap(),
            network: "card:demo".into(),
            extra: Members::new(),
            rest: Members::new(),
        }]
    }

    fn amount_rule(&self) -> AmountRule {
        self.rule
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Ok(PaymentKey::new(AuthorizationKind::Other, claim.terms.network, b"test", b"payer", b"nonce"))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let amount = claim.terms.amount.to_string().parse().unwrap();
        match (self.verdict)(amount) {
            Ok(()) => Ok(Verdict::new("payer".to_owned(), Vec::new(), now)),
            Err(code) => Err(Rejection::new(ErrorReason::from_wire(code)).into()),
        }
    }

    async fn plan(&self, _: &Payment, _: UnixSeconds) -> Result<NextStep, Fault> {
        Err(Fault::broken("nothing is claimed here"))
    }

    async fn observe(&self, _: &Step, _: &[TxId]) -> Result<Observation, Fault> {
        Err(Fault::broken("nothing is claimed here"))
    }
}

/// Of ten that the payer accepted so many are to be settled.
fn request(scheme: &str, amount: u64) -> Value {
    let entry = |amount: u64| {
        json!({"scheme": scheme, "network": "card:demo", "amount": amount.to_string(), "asset": "EUR-cent",
            "payTo": "shop", "maxTimeoutSeconds": 60, "extra": {}})
    };
    json!({"x402Version": 2, "paymentRequirements": entry(amount),
        "paymentPayload": {"x402Version": 2, "accepted": entry(10), "payload": {}}})
}

#[tokio::test]
async fn less_than_was_accepted_is_settled_where_the_scheme_says_so() {
    tls();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
    let settlement = Settlement::new(OwnerId::from("test"), Arc::clone(&ledger))
        .with_mechanism(Arc::new(Ruled {
            scheme: "fixed",
            rule: AmountRule::Equal,
            verdict: |_| Err("insufficient_funds"),
        }))
        .unwrap()
        .with_mechanism(Arc::new(Ruled {
            scheme: "metered",
            rule: AmountRule::AtMost,
            verdict: |amount| Err(if amount > 10 { EXCEEDS } else { "insufficient_funds" }),
        }))
        .unwrap()
        .with_mechanism(Arc::new(Ruled { scheme: "lax", rule: AmountRule::AtMost, verdict: |_| Ok(()) }))
        .unwrap();
    let engine = Arc::new(Engine::new(settlement, ledger));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, Routes::new(engine).into_router()).await });

    let another = ErrorReason::INVALID_PAYMENT_REQUIREMENTS;
    let judged = ErrorReason::INSUFFICIENT_FUNDS;
    let exceeds = ErrorReason::from_wire(EXCEEDS);
    for (scheme, amount, status, reason) in [
        ("fixed", 10, 200, &judged),
        ("fixed", 9, 400, &another),
        ("metered", 10, 200, &judged),
        ("metered", 3, 200, &judged),
        ("metered", 0, 200, &judged),
        ("metered", 11, 200, &exceeds),
        // A scheme that says nothing about it is refused all the same.
        ("lax", 11, 400, &another),
    ] {
        for (path, member) in [("verify", "invalidReason"), ("settle", "errorReason")] {
            let body = request(scheme, amount).to_string();
            let (found, answer) = send(&format!("{url}/{path}"), body, None).await;
            assert_eq!(
                (found, &answer[member]),
                (status, &json!(reason.as_str())),
                "{path} {scheme} {amount}: {answer}"
            );
        }
    }
    serving.abort();
}
