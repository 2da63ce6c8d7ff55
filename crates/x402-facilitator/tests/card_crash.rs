//! SIGKILL at each call of the processor, with each answer of the double around it: twenty payments at once, each charged
//! once and minted once, by the double's own book.
//!
//! The process that is killed is the real one; its ledger is a file, and the double outlives it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use x402_card::double::{Double, DoubleRequest, Mishap};
use x402_facilitator::clock::now;
use x402_facilitator::dev_cards::DoubleServer;

use crate::support::process::Facilitator;
use crate::support::tls;

/// The payments of each kill.
const BUYERS: usize = 20;
const PRICE: u64 = 700;
/// What a purchase brings and a request costs, so that every request buys.
const CREDITS: u64 = 10;

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn configuration(folder: &Path, processor: &str) -> PathBuf {
    let secret = file(folder, "stripe", "sk_test_crash");
    let key = file(folder, "p256", &"07".repeat(32));
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\nledger = \"{}\"\nlease_seconds = 5\nsettle_wait_seconds = 1\n",
        folder.join("ledger.sqlite").display()
    );
    for caller in (0..BUYERS).map(|buyer| format!("buyer-{buyer}")).chain(["shop".to_owned()]) {
        let token = file(folder, &caller, &format!("{caller}-token"));
        writeln!(text, "[[caller]]\nname = \"{caller}\"\ntoken = {{ file = \"{}\" }}", token.display()).unwrap();
    }
    writeln!(
        text,
        "[card]\nissuer = \"https://facilitator.example\"\nprocessor = \"{processor}\"\nsecret_key = {{ file = \"{}\" }}\n\
         signing_key = {{ file = \"{}\" }}\n[[card.plan]]\nid = \"1001\"\ncurrency = \"usd\"\nprice_cents = {PRICE}\n\
         credits = {CREDITS}\n",
        secret.display(),
        key.display()
    )
    .unwrap();
    file(folder, "facilitator.toml", &text)
}

struct Client(reqwest::Client);

impl Client {
    async fn post(&self, url: &str, token: &str, key: Option<&str>, body: &Value) -> reqwest::Result<Value> {
        let request = self.0.post(url).bearer_auth(token).json(body);
        let request = key.iter().fold(request, |request, key| request.header("idempotency-key", *key));
        request.send().await?.json().await
    }

    /// Enrols a card of a buyer and returns the token of a new delegation for two purchases, and the delegation.
    async fn delegate(&self, url: &str, double: &Double, buyer: usize) -> (String, String) {
        let token = format!("buyer-{buyer}-token");
        let setup = self.post(&format!("{url}/payments/card/setup"), &token, None, &json!({})).await.unwrap();
        let id = setup["setupIntentId"].as_str().unwrap();
        let confirm = DoubleRequest {
            method: "POST".to_owned(),
            target: format!("/v1/setup_intents/{id}/confirm"),
            body: "payment_method=pm_card_visa".to_owned(),
            authorization: "Bearer sk_test_browser".to_owned(),
            key: None,
        };
        double.handle(&confirm, now()).unwrap();
        let enroll = json!({ "setupIntentId": id });
        let card = self.post(&format!("{url}/payments/card/enroll"), &token, None, &enroll).await.unwrap();
        let asked = json!({ "provider": "stripe", "providerPaymentMethodId": card["id"], "currency": "usd",
                            "spendingLimitCents": 2 * PRICE, "durationSecs": 3600, "planId": "1001" });
        let made = self.post(&format!("{url}/api/v1/delegation/create"), &token, None, &asked).await.unwrap();
        let id = made["delegationId"].as_str().unwrap().to_owned();
        let accepted = json!({ "scheme": "nvm:card-delegation", "network": "stripe", "planId": "1001" });
        let asked = json!({ "accepted": accepted, "delegationConfig": { "delegationId": id } });
        let access = self.post(&format!("{url}/x402/permissions"), &token, None, &asked).await.unwrap();
        (id, access["accessToken"].as_str().unwrap().to_owned())
    }

    async fn settle(&self, url: &str, access: &str, key: &str) -> reqwest::Result<Value> {
        let body = json!({
            "paymentRequired": { "x402Version": 2, "resource": { "url": "/reports" },
                "accepts": [{ "scheme": "nvm:card-delegation", "network": "stripe", "planId": "1001" }] },
            "x402AccessToken": access, "maxAmount": CREDITS.to_string(),
        });
        self.post(&format!("{url}/settle"), "shop-token", Some(key), &body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_charges_and_mints_once() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let double = Arc::new(Double::default());
    let server = DoubleServer::start(Arc::clone(&double)).await.unwrap();
    let config = configuration(folder.path(), server.url());
    let client = Arc::new(Client(reqwest::Client::new()));
    let mut paid = 0;
    let answers =
        [None, Some(Mishap::LostBefore), Some(Mishap::LostAfter), Some(Mishap::Status500After), Some(Mishap::Cut)];
    for (method, path) in [("POST", "/v1/payment_intents"), ("POST", "/confirm"), ("GET", "/v1/payment_intents/")] {
        for answer in answers {
            let what = format!("{method} {path} {answer:?}");
            let mut process = Facilitator::start(&config, "http://127.0.0.1:9");
            let mut buyers = Vec::new();
            for buyer in 0..BUYERS {
                buyers.push(client.delegate(&process.url, &double, buyer).await);
            }
            double.recover();
            if let Some(mishap) = answer {
                // `/confirm` is below `/v1/payment_intents` as well: only the creations are the first twenty posts there.
                (1..).take(BUYERS).for_each(|nth| double.fail(method, path, nth, mishap));
            }
            let before = double.count(method, path);
            let mut waiting = Vec::new();
            for (buyer, (_, access)) in buyers.iter().enumerate() {
                let (client, url, access) = (Arc::clone(&client), process.url.clone(), access.clone());
                let key = format!("{what} {buyer}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
                waiting.push(tokio::spawn(async move { drop(client.settle(&url, &access, &key).await) }));
            }
            // The process dies while calls of this kind are made: when half of the payments have made theirs.
            let deadline = Instant::now() + Duration::from_secs(60);
            while double.count(method, path) < before + BUYERS / 2 {
                assert!(Instant::now() < deadline, "{what}: the calls were never made");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            process.kill();
            for waiting in waiting {
                waiting.await.unwrap();
            }
            // The next process finds out by itself; the callers come again under their names.
            let process = Facilitator::start(&config, "http://127.0.0.1:9");
            let mut burned = BTreeSet::new();
            for (buyer, (id, access)) in buyers.iter().enumerate() {
                let key = format!("{what} {buyer}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
                let deadline = Instant::now() + Duration::from_secs(120);
                let receipt = loop {
                    let receipt = client.settle(&process.url, access, &key).await.unwrap();
                    if receipt["success"] == true {
                        break receipt;
                    }
                    assert_eq!(receipt["errorReason"], "settlement_pending", "{what}: {receipt}");
                    assert!(Instant::now() < deadline, "{what}: {receipt}");
                };
                assert_eq!(
                    (&receipt["creditsRedeemed"], &receipt["remainingBalance"]),
                    (&json!("10"), &json!("0")),
                    "{what}"
                );
                assert!(burned.insert(receipt["transaction"].to_string()), "{what}: {receipt}");
                let url = format!("{}/api/v1/delegation/{id}", process.url);
                let shown = client.0.get(url).bearer_auth(format!("buyer-{buyer}-token")).send().await.unwrap();
                let shown: Value = shown.json().await.unwrap();
                assert_eq!(
                    (&shown["amountSpentCents"], &shown["transactionCount"]),
                    (&json!("700"), &json!(1)),
                    "{what}"
                );
            }
            paid += BUYERS;
            let book = double.book();
            assert_eq!((book.debits.len(), book.charged(), book.refunded()), (paid, paid as u64 * PRICE, 0), "{what}");
        }
    }
}
