//! HTTP exchanges of a resource server with this facilitator behind it, as files:
//! `UPDATE_GOLDEN=1 cargo test -p x402-facilitator --test golden` rewrites them.
//!
//! A header that carries base64 of JSON is shown as that JSON. The lines at the end say what the server did, in order,
//! and what the facilitator answered. What differs from run to run stands in angle brackets, numbered where it is told
//! apart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderName;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use x402_codec::{Limits, header};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode};
use x402_evm::exact::{Exact, Price};
use x402_facilitator::dev::DevFacilitator;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{ChainId, RawJson, Terms, Version};

use crate::support::{SELLER, payment, signed, terms, tls};

type Log = Arc<Mutex<Vec<String>>>;

struct Stage {
    name: &'static str,
    facilitator: DevFacilitator,
    shop: String,
    log: Log,
    text: String,
}

/// Notes what the facilitator is asked and answers.
async fn noted(log: Log, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    let (parts, answer) = next.run(request).await.into_parts();
    let answer = to_bytes(answer, usize::MAX).await.unwrap();
    let said = String::from_utf8(answer.to_vec()).unwrap();
    log.lock().unwrap().push(format!("{asked} -> {} {said}", parts.status.as_u16()));
    Response::from_parts(parts, Body::from(answer))
}

/// What is not as in most exchanges.
#[derive(Default)]
struct Setting {
    v1: bool,
    flow: Option<&'static str>,
    /// The payer's money is gone before the handler has answered.
    spent_meanwhile: bool,
    /// Blocks by hand.
    manual: bool,
}

/// A facilitator, and a shop at another port that has `GET /report` for one cent.
async fn stage(name: &'static str, setting: Setting) -> Stage {
    let Setting { v1, flow, spent_meanwhile, manual } = setting;
    tls();
    let log = Log::default();
    let of_facilitator = Arc::clone(&log);
    let dress = move |routes: Router| {
        routes.layer(from_fn(move |request, next| noted(Arc::clone(&of_facilitator), request, next)))
    };
    let block_time = if manual { MiningMode::Manual } else { MiningMode::PerTransaction };
    let chain = DevChain::builder().block_time(block_time).build().unwrap();
    let (listen, wait) = ((Ipv4Addr::LOCALHOST, 0).into(), Duration::from_secs(if manual { 2 } else { 600 }));
    let facilitator = DevFacilitator::on(chain, listen, wait, dress).await.unwrap();
    let remote = Arc::new(RemoteFacilitator::new(facilitator.url()).unwrap());
    let seller = Seller::new("https://shop.example", remote).unwrap();
    let seller = if v1 { seller.with_v1() } else { seller };
    let price: Price = "$0.01".parse().unwrap();
    let mut offer = Exact::default().requirements(ChainId::eip155(84532), ACCOUNTS[SELLER].address, price).unwrap();
    flow.into_iter().for_each(|flow| offer.terms.extra.insert_text("paymentFlow", flow));
    let layer = seller.charge([offer]).unwrap().with_description("A report", "text/plain").unwrap();
    let of_handler = Arc::clone(&log);
    let chain = facilitator.chain().clone();
    let report = async move || {
        if spent_meanwhile {
            chain.set_balance_of(ACCOUNTS[1].address, alloy_primitives::U256::ZERO);
        }
        of_handler.lock().unwrap().push("handler".to_owned());
        "the report"
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shop = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/report", get(report).layer(layer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Stage { name, facilitator, shop, log, text: String::new() }
}

/// A payment in version 2: what the shop offers, fulfilled by this payload.
fn v2(offered: &Terms, payload: &RawJson) -> (&'static HeaderName, Value) {
    let payment = json!({
        "x402Version": 2,
        "resource": { "url": "https://shop.example/report" },
        "accepted": serde_json::to_value(offered.to_v2()).unwrap(),
        "payload": payload.read::<Value>().unwrap(),
    });
    (&header::PAYMENT_SIGNATURE, payment)
}

impl Stage {
    fn now(&self) -> u64 {
        self.facilitator.chain().time()
    }

    async fn exchange(&mut self, payment: Option<&(&'static HeaderName, Value)>) {
        let text = &mut self.text;
        if !text.is_empty() {
            text.push_str("\n----------------------------------------\n\n");
        }
        writeln!(text, "GET /report HTTP/1.1").unwrap();
        let mut request = reqwest::Client::new().get(format!("{}/report", self.shop));
        if let Some((name, payment)) = payment {
            writeln!(text, "{name}: base64 {payment}").unwrap();
            request = request.header(*name, header::encode(payment).unwrap());
        }
        let response = request.send().await.unwrap();
        writeln!(text, "\nHTTP/1.1 {}", response.status()).unwrap();
        let mut lines: Vec<_> = response.headers().iter().map(|(name, value)| shown(name, value.as_bytes())).collect();
        lines.sort();
        writeln!(text, "{}\n\n{}\n", lines.join("\n"), response.text().await.unwrap()).unwrap();
        let mut did = std::mem::take(&mut *self.log.lock().unwrap());
        // The layer's look at what is served, before the first payment of a shop.
        did.retain(|line| !line.starts_with("GET /supported"));
        for line in if did.is_empty() { vec!["nothing".to_owned()] } else { did } {
            writeln!(text, "# {line}").unwrap();
        }
    }

    async fn check(self, transfers: usize) {
        assert_eq!(self.facilitator.chain().transfers().len(), transfers, "{}", self.name);
        self.facilitator.stop().await;
        let text = masked(&self.text);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.http", self.name));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, golden, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
    }
}

fn shown(name: &HeaderName, value: &[u8]) -> String {
    if name == "date" {
        return "date: <date>".to_owned();
    }
    let json = header::decode::<RawJson>(value, &Limits::DEFAULT);
    json.map_or_else(
        |_| format!("{name}: {}", String::from_utf8(value.to_vec()).unwrap()),
        |json| format!("{name}: base64 {}", json.as_str()),
    )
}

/// Hashes, nonces and signatures are numbered in the order in which they appear; times of today are `<time>`.
fn masked(text: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        let kind = match word.len() {
            66 if word.starts_with("0x") => Some("bytes32"),
            132 if word.starts_with("0x") => Some("signature"),
            _ => None,
        };
        match kind {
            Some(kind) => {
                let number = seen.iter().position(|known| known == word).unwrap_or_else(|| {
                    seen.push(word.to_owned());
                    seen.len() - 1
                });
                write!(out, "<{kind} {}>", number + 1).unwrap();
            }
            None if word.len() == 10 && word.bytes().all(|byte| byte.is_ascii_digit()) => out.push_str("<time>"),
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[tokio::test]
async fn unpaid() {
    let mut stage = stage("unpaid", Setting::default()).await;
    stage.exchange(None).await;
    stage.check(0).await;
}

#[tokio::test]
async fn paid() {
    let mut stage = stage("paid", Setting::default()).await;
    let payload = signed(1, &terms(), stage.now()).await;
    stage.exchange(Some(&v2(&terms(), &payload))).await;
    stage.check(1).await;
}

#[tokio::test]
async fn replay() {
    let mut stage = stage("replay", Setting::default()).await;
    let payment = v2(&terms(), &signed(1, &terms(), stage.now()).await);
    stage.exchange(Some(&payment)).await;
    stage.exchange(Some(&payment)).await;
    stage.check(1).await;
}

#[tokio::test]
async fn bad_signature() {
    let mut stage = stage("bad_signature", Setting::default()).await;
    let mut payment = v2(&terms(), &signed(1, &terms(), stage.now()).await);
    let (_, foreign) = v2(&terms(), &signed(2, &terms(), stage.now()).await);
    payment.1["payload"]["signature"] = foreign["payload"]["signature"].clone();
    stage.exchange(Some(&payment)).await;
    stage.check(0).await;
}

/// Refused: the payer signed for these terms at that time, instead of for what is offered now.
async fn refused(name: &'static str, signed_for: Terms, ago: u64) {
    let mut stage = stage(name, Setting::default()).await;
    let payload = signed(1, &signed_for, stage.now() - ago).await;
    stage.exchange(Some(&v2(&terms(), &payload))).await;
    stage.check(0).await;
}

#[tokio::test]
async fn expired() {
    refused("expired", terms(), 3600).await;
}

#[tokio::test]
async fn wrong_amount() {
    refused("wrong_amount", terms().with_amount(9_999.into()), 0).await;
}

#[tokio::test]
async fn wrong_recipient() {
    refused("wrong_recipient", terms().with_pay_to(ACCOUNTS[9].address.to_string()), 0).await;
}

#[tokio::test]
async fn settle_failure() {
    let mut stage = stage("settle_failure", Setting { spent_meanwhile: true, ..Setting::default() }).await;
    let payload = signed(1, &terms(), stage.now()).await;
    stage.exchange(Some(&v2(&terms(), &payload))).await;
    stage.check(0).await;
}

#[tokio::test]
async fn unknown_outcome() {
    let (mut stage, claim, header) = loop {
        let mut stage = stage("unknown_outcome", Setting { manual: true, ..Setting::default() }).await;
        let (claim, _) = payment(1, stage.now()).await;
        let header = v2(&terms(), &claim.payload);
        stage.exchange(Some(&header)).await;
        if !stage.text.contains("\"transaction\":\"\"") {
            break (stage, claim, header);
        }
        // On a busy machine the wait was over before there was a transaction: that is another exchange.
        stage.facilitator.chain().set_automine(true);
        stage.facilitator.stop().await;
    };
    stage.facilitator.chain().mine(1);
    let settlement = stage.facilitator.engine().settlement();
    let key = settlement.key(&claim).unwrap();
    while settlement.payment(&key).await.unwrap().unwrap().answer.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.exchange(Some(&header)).await;
    stage.exchange(Some(&header)).await;
    stage.check(1).await;
}

#[tokio::test]
async fn upfront() {
    let mut stage = stage("upfront", Setting { flow: Some("upfront"), ..Setting::default() }).await;
    let mut offered = terms();
    offered.extra.insert_text("paymentFlow", "upfront");
    let payment = v2(&offered, &signed(1, &offered, stage.now()).await);
    stage.exchange(None).await;
    stage.exchange(Some(&payment)).await;
    stage.exchange(Some(&payment)).await;
    stage.check(1).await;
}

#[tokio::test]
async fn v1() {
    let mut stage = stage("v1", Setting { v1: true, ..Setting::default() }).await;
    let terms = terms().with_version(Version::V1);
    let payload: Value = signed(1, &terms, stage.now()).await.read().unwrap();
    let payment = json!({ "x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload });
    stage.exchange(None).await;
    stage.exchange(Some(&(&header::X_PAYMENT, payment))).await;
    stage.check(1).await;
}
