//! Runs `crates/x402-challenge/conformance` against the layer, over TCP. What a step means stands in its README.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use x402_challenge::{Allowance, Bind};
use x402_http::server::challenge::{Ask, Clock, Entitle};
use x402_types::TimeoutSeconds;
use x402_types::challenge::IsoTime;

use crate::shop::{NOW, Shop, Ticks, offer, shop};
use crate::wire::{Got, Sent, exchange};

#[derive(Deserialize)]
struct Chapter {
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Step {
    send: Option<Send>,
    pay: Option<Pay>,
    header: Option<String>,
    again: Option<String>,
    times: Option<usize>,
    granted: usize,
    others: Vec<u16>,
    wait: u64,
    differ: Vec<String>,
    save: BTreeMap<String, String>,
    expect: Expect,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Send {
    path: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Pay {
    challenge: String,
    #[serde(default)]
    issued: i64,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    after: Map<String, Value>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    alphabet: Option<String>,
    #[serde(default)]
    twice: bool,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    status: u16,
    text: Option<String>,
    body: Option<Value>,
    absent: Vec<String>,
    headers: BTreeMap<String, String>,
    without: Vec<String>,
    response: Option<Value>,
}

/// A run of one scenario.
struct Run {
    address: SocketAddr,
    clock: Arc<Ticks>,
    saved: BTreeMap<String, Value>,
    nonces: u8,
}

impl Run {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        self.clock.pass(step.wait);
        if let [a, b] = &step.differ[..]
            && self.filled(a) == self.filled(b)
        {
            return Err(format!("{a} and {b} are the same"));
        }
        let Some(send) = &step.send else { return Ok(()) };
        let sent = self.request(send, step);
        if let Some(times) = step.times {
            return self.at_once(&sent, times, step).await;
        }
        let got = exchange(self.address, &sent).await;
        self.check(&got, &step.expect)?;
        for (name, what) in &step.save {
            let header = |name: &str| Value::from(got.headers[name].to_str().unwrap());
            let value = match what.as_str() {
                "body" => serde_json::from_str(&got.body).map_err(|error| error.to_string())?,
                "payment" => sent.headers.iter().find(|(name, _)| name == "x-payment").unwrap().1.clone().into(),
                "cookie" => header("set-cookie").as_str().unwrap().split(';').next().unwrap().into(),
                other => header(other),
            };
            self.saved.insert(name.clone(), value);
        }
        Ok(())
    }

    async fn at_once(&self, sent: &Sent, times: usize, step: &Step) -> Result<(), String> {
        let tasks: Vec<_> = (0..times)
            .map(|_| {
                let (address, sent) = (self.address, sent.clone());
                tokio::spawn(async move { exchange(address, &sent).await })
            })
            .collect();
        let mut granted = 0;
        for task in tasks {
            let got = task.await.unwrap();
            match self.check(&got, &step.expect) {
                Ok(()) => granted += 1,
                Err(_) if step.others.contains(&got.status) => {}
                Err(error) => return Err(error),
            }
        }
        if granted == step.granted { Ok(()) } else { Err(format!("{granted} were granted, not {}", step.granted)) }
    }

    fn request(&mut self, send: &Send, step: &Step) -> Sent {
        let host = send.host.clone().unwrap_or_else(|| "api.example.com".to_owned());
        let mut headers = vec![("host".to_owned(), host)];
        headers.extend(send.headers.iter().map(|(name, value)| (name.clone(), self.filled(value))));
        let mut payment = step.header.clone();
        if let Some(name) = &step.again {
            payment = Some(self.saved[name].as_str().unwrap().to_owned());
        }
        if let Some(pay) = &step.pay {
            let value = self.payment(pay);
            if pay.twice {
                headers.push(("x-payment".to_owned(), value.clone()));
            }
            payment = Some(value);
        }
        headers.extend(payment.map(|value| ("x-payment".to_owned(), value)));
        let method = send.method.clone().unwrap_or_else(|| "GET".to_owned());
        Sent { method, path: send.path.clone(), headers, body: send.body.clone() }
    }

    /// An `X-PAYMENT` value, made of JSON alone: nothing of the code under test is asked.
    fn payment(&mut self, pay: &Pay) -> String {
        let challenge = &self.saved[&pay.challenge];
        let of = |member: &str| challenge[member].clone();
        self.nonces += 1;
        let name = pay.nonce.clone().unwrap_or_else(|| format!("#{}", self.nonces));
        let nonce = URL_SAFE_NO_PAD.encode(&Sha256::digest(name.as_bytes())[..16]);
        let issued = i64::try_from(self.clock.now().0).unwrap() + pay.issued;
        let issued = IsoTime::from(x402_types::UnixSeconds(u64::try_from(issued).unwrap()));
        let mut payment = json!({
            "version": of("version"), "scheme": of("scheme"), "challengeId": of("challengeId"),
            "network": of("network"), "asset": of("asset"), "paidAmount": of("maxAmountRequired"),
            "issuedAt": issued.as_str(), "nonce": nonce, "proof": {"type": "mock"},
        });
        pay.set.iter().for_each(|(path, value)| *place(&mut payment, path) = value.clone());
        let signature = canonical(&payment);
        payment["proof"]["signature"] = format!("{:x}", HexOf(&Sha256::digest(signature.as_bytes()))).into();
        pay.after.iter().for_each(|(path, value)| *place(&mut payment, path) = value.clone());
        for name in &pay.drop {
            payment.as_object_mut().unwrap().remove(name);
        }
        let text = payment.to_string();
        match pay.alphabet.as_deref() {
            Some("standard") => STANDARD.encode(text),
            _ => URL_SAFE_NO_PAD.encode(text),
        }
    }

    fn check(&self, got: &Got, expect: &Expect) -> Result<(), String> {
        let wrong = |what: &str, expected: &dyn std::fmt::Display| {
            Err(format!("{what}: expected {expected}, got {} {:?} {}", got.status, got.headers, got.body))
        };
        if got.status != expect.status {
            return wrong("status", &expect.status);
        }
        let cache = got.headers.get("cache-control").map(|value| value.to_str().unwrap());
        if cache != Some(if got.status == 200 { "private" } else { "no-store" }) {
            return wrong("cache-control", &"no-store, or private where it is paid");
        }
        if let Some(text) = &expect.text
            && *text != got.body
        {
            return wrong("text", text);
        }
        let json: Value = serde_json::from_str(&got.body).unwrap_or_default();
        if let Some(body) = &expect.body
            && !self.fits(body, &json)
        {
            return wrong("body", body);
        }
        if let Some(there) = expect.absent.iter().find(|name| json.get(name.as_str()).is_some()) {
            return wrong("absent", there);
        }
        for (name, value) in &expect.headers {
            let found = got.headers.get(name).map_or_else(Value::default, |found| found.to_str().unwrap().into());
            if !self.fits(&value.clone().into(), &found) {
                return wrong(name, value);
            }
        }
        if let Some(there) = expect.without.iter().find(|name| got.headers.contains_key(name.as_str())) {
            return wrong("without", there);
        }
        if let Some(response) = &expect.response {
            let value = got.headers.get("x-payment-response").map(|value| value.as_bytes()).unwrap_or_default();
            let decoded = URL_SAFE_NO_PAD.decode(value).unwrap_or_default();
            if !self.fits(response, &serde_json::from_slice(&decoded).unwrap_or_default()) {
                return wrong("response", response);
            }
        }
        Ok(())
    }

    fn fits(&self, expected: &Value, found: &Value) -> bool {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => {
                expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| self.fits(value, found)))
            }
            (Value::String(expected), Value::String(found)) => match expected.split_once("<uuid>") {
                Some((before, after)) => {
                    found.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(is_uuid_v4)
                }
                None if expected == "<text>" => !found.is_empty(),
                None => self.filled(expected) == *found,
            },
            _ => expected == found,
        }
    }

    /// The text with `{name}` and `{name.member}` filled in.
    fn filled(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (name, value) in &self.saved {
            if let Some(text) = value.as_str() {
                out = out.replace(&format!("{{{name}}}"), text);
            }
            for (key, member) in value.as_object().into_iter().flatten() {
                out = out.replace(&format!("{{{name}.{key}}}"), member.as_str().unwrap_or_default());
            }
        }
        out
    }
}

struct HexOf<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn place<'v>(value: &'v mut Value, path: &str) -> &'v mut Value {
    path.split('.').fold(value, |value, key| &mut value[key])
}

fn canonical(payment: &Value) -> String {
    let text = |name: &str| payment[name].as_str().unwrap_or_default().to_owned();
    let asset = text("asset").to_lowercase();
    let mut lines = vec![text("version"), text("scheme"), text("challengeId"), text("network"), asset];
    lines.extend([text("paidAmount"), text("issuedAt"), text("nonce")]);
    if payment.get("payer").is_some() {
        lines.push(text("payer").to_lowercase());
    }
    lines.join("\n")
}

fn is_uuid_v4(text: &str) -> bool {
    let at = |i: usize| text.as_bytes().get(i).copied().unwrap_or_default();
    text.len() == 36
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
        && [8, 13, 18, 23].into_iter().all(|i| at(i) == b'-')
        && at(14) == b'4'
        && b"89ab".contains(&at(19))
}

/// The server of the README.
fn server(shop: &Shop) -> Router {
    let paid = |ask: Ask| any(async || "granted").layer(shop.challenges.charge(ask).unwrap());
    let fixed = |name: &str| offer(&format!("urn:res:{name}"));
    let mut short = fixed("short");
    short.timeout = TimeoutSeconds::try_from(5).unwrap();
    let mut query = fixed("query");
    query.bind = Bind { query: true, body: false };
    let file = |request: &http::request::Parts| offer(&format!("urn:res:{}", request.uri.path()));
    let body = shop.challenges.charge(Ask::new(fixed("body"))).unwrap().bind_body(1024);
    let uses = |name: &str, uses| Ask::new(fixed(name)).with_entitlement(Entitle::bearer(60).with_allowance(uses));
    Router::new()
        .route("/exact", paid(Ask::new(fixed("exact"))))
        .route("/other", paid(Ask::new(fixed("other"))))
        .route("/short", paid(Ask::new(short)))
        .route("/files/{*rest}", paid(Ask::by(file)))
        .route("/query", paid(Ask::new(query)))
        .route("/body", any(async |body: String| body).layer(body))
        .route("/cookie", paid(Ask::new(fixed("cookie")).with_entitlement(Entitle::cookie(3600))))
        .route("/bearer", paid(uses("bearer", Allowance::Unlimited)))
        .route("/once", paid(uses("once", Allowance::Once)))
        .route("/thrice", paid(uses("thrice", Allowance::Count(3))))
}

async fn run(chapter: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../x402-challenge/conformance").join(chapter);
    let chapter: Chapter = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!chapter.scenarios.is_empty());
    for scenario in chapter.scenarios {
        let shop = shop();
        assert_eq!(shop.clock.now().0, NOW);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(axum::serve(listener, server(&shop)).into_future());
        let mut run = Run { address, clock: shop.clock.clone(), saved: BTreeMap::new(), nonces: 0 };
        for (number, step) in scenario.steps.iter().enumerate() {
            if let Err(error) = run.step(step).await {
                panic!("{}, step {}: {error}", scenario.name, number + 1);
            }
        }
        serving.abort();
    }
}

#[tokio::test]
async fn flow() {
    run("flow.json").await;
}

#[tokio::test]
async fn codes() {
    run("codes.json").await;
}

#[tokio::test]
async fn schema() {
    run("schema.json").await;
}

#[tokio::test]
async fn binding() {
    run("binding.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay() {
    run("replay.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entitlements() {
    run("entitlements.json").await;
}

/// A runner that finds nothing wrong proves nothing.
#[tokio::test]
async fn a_step_that_expects_something_else_fails() {
    let shop = shop();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(axum::serve(listener, server(&shop)).into_future());
    let mut run = Run { address, clock: shop.clock.clone(), saved: BTreeMap::new(), nonces: 0 };
    for (expect, named) in [
        (json!({"status": 200}), "status"),
        (json!({"status": 402, "body": {"scheme": "upto"}}), "body"),
        (json!({"status": 402, "body": {"challengeId": "<text>", "more": null}}), "body"),
        (json!({"status": 402, "body": {"resource": "<uuid>"}}), "body"),
        (json!({"status": 402, "absent": ["bind"]}), "absent"),
        (json!({"status": 402, "headers": {"x-payment-token": "<uuid>"}}), "x-payment-token"),
        (json!({"status": 402, "without": ["content-type"]}), "without"),
        (json!({"status": 402, "response": {"ok": true}}), "response"),
        (json!({"status": 402, "text": "granted"}), "text"),
    ] {
        let step: Step = serde_json::from_value(json!({"send": {"path": "/exact"}, "expect": expect})).unwrap();
        let error = run.step(&step).await.unwrap_err();
        assert!(error.starts_with(named), "{error}");
    }
    serving.abort();
}
