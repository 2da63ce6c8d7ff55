//! HTTP exchanges as files, readable: `UPDATE_GOLDEN=1 cargo test -p x402-http --test golden` rewrites them.
//!
//! The line at the end says what the server did, in order.
//! The facilitator's answers are those of facts/x402-protocol.md §1.5, §1.6 and §5 (codes of x402 v2 §9).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    Handler, ORIGIN, PAYER, Script, Service, TRANSACTION, get, header, offer, paying, payment_json, record, terms,
    upfront,
};
use http::Request;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::server::Seller;
use x402_types::{Offer, Terms};

struct Stage {
    name: &'static str,
    script: Arc<Script>,
    handler: Handler,
    service: Service<Body<Full<Bytes>>>,
    text: String,
}

fn stage(name: &'static str, v1: bool, offers: Vec<Offer>) -> Stage {
    let script = Arc::new(Script::default());
    let handler = Handler { script: Some(Arc::clone(&script)), ..Handler::default() };
    let seller = Seller::new(ORIGIN, script.clone()).unwrap();
    let seller = if v1 { seller.with_v1() } else { seller };
    let layer = seller.charge(offers).unwrap().with_description("The weather, now", "text/plain").unwrap();
    let service = layer.layer(handler.service()).boxed_clone();
    Stage { name, script, handler, service, text: String::new() }
}

impl Stage {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) {
        record::exchange(&mut self.text, &self.service, request, &self.script).await;
    }

    fn check(self) {
        record::check(self.name, &self.text);
    }
}

fn one(terms: Terms) -> Vec<Offer> {
    vec![offer(terms)]
}

fn payment() -> Request<Full<Bytes>> {
    paying("/weather", &payment_json(&terms(), 7))
}

#[tokio::test]
async fn unpaid() {
    let mut stage = stage("unpaid", false, one(terms()));
    stage.exchange(get("/weather", &[])).await;
    stage.check();
}

#[tokio::test]
async fn paid() {
    let mut stage = stage("paid", false, one(terms()));
    stage.exchange(payment()).await;
    stage.check();
}

/// A verdict of `/verify` with a code of x402 v2 §9.
async fn refused(name: &'static str, code: &str) {
    let mut stage = stage(name, false, one(terms()));
    stage.script.verify_says(&format!(r#"{{"isValid":false,"invalidReason":"{code}","payer":"{PAYER}"}}"#));
    stage.exchange(payment()).await;
    assert_eq!(stage.handler.calls(), 0);
    stage.check();
}

#[tokio::test]
async fn bad_signature() {
    refused("bad_signature", "invalid_exact_evm_payload_signature").await;
}

#[tokio::test]
async fn expired() {
    refused("expired", "invalid_exact_evm_payload_authorization_valid_before").await;
}

#[tokio::test]
async fn wrong_amount() {
    refused("wrong_amount", "invalid_exact_evm_payload_authorization_value_mismatch").await;
}

#[tokio::test]
async fn wrong_recipient() {
    refused("wrong_recipient", "invalid_exact_evm_payload_recipient_mismatch").await;
}

#[tokio::test]
async fn other_terms() {
    let mut stage = stage("other_terms", false, one(terms()));
    let cheaper = terms().with_amount(1.into());
    stage.exchange(paying("/weather", &payment_json(&cheaper, 7))).await;
    stage.check();
}

#[tokio::test]
async fn replay() {
    let mut stage = stage("replay", false, one(terms()));
    stage.exchange(payment()).await;
    stage.exchange(payment()).await;
    assert_eq!(stage.handler.calls(), 1);
    stage.check();
}

#[tokio::test]
async fn settle_failure() {
    let mut stage = stage("settle_failure", false, one(terms()));
    stage.script.settle_says(&format!(
        r#"{{"success":false,"errorReason":"insufficient_funds","payer":"{PAYER}","transaction":"","network":"eip155:84532"}}"#
    ));
    stage.exchange(payment()).await;
    stage.check();
}

#[tokio::test]
async fn unknown_outcome() {
    let mut stage = stage("unknown_outcome", false, one(terms()));
    stage.script.settle_says(&format!(
        r#"{{"success":false,"errorReason":"settlement_pending","payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532"}}"#
    ));
    stage.script.settle_says(&format!(
        r#"{{"success":true,"payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532","extensions":{{"replayed":true}}}}"#
    ));
    stage.exchange(payment()).await;
    stage.exchange(payment()).await;
    stage.exchange(payment()).await;
    stage.check();
}

#[tokio::test]
async fn facilitator_unreachable() {
    let mut stage = stage("facilitator_unreachable", false, one(terms()));
    stage.script.verify_is_unreachable();
    stage.exchange(payment()).await;
    stage.check();
}

#[tokio::test]
async fn upfront_flow() {
    let asked = upfront(terms());
    let mut stage = stage("upfront", false, one(asked.clone()));
    stage.exchange(get("/weather", &[])).await;
    stage.exchange(paying("/weather", &payment_json(&asked, 7))).await;
    stage.check();
}

#[tokio::test]
async fn v1() {
    let mut stage = stage("v1", true, one(terms()));
    stage.exchange(get("/weather", &[])).await;
    stage.exchange(get("/weather", &[(&names::X_PAYMENT, header(&common::v1_payment_json(7)))])).await;
    stage.check();
}

#[tokio::test]
async fn malformed() {
    let mut stage = stage("malformed", false, one(terms()));
    let value = "not base64!".parse().unwrap();
    stage.exchange(get("/weather", &[(&names::PAYMENT_SIGNATURE, value)])).await;
    stage.check();
}
