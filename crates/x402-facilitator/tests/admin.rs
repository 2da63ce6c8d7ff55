//! The operator's port and the callers' view of a payment: the kill switch, the timeline, the export, the page's policy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use x402_devchain::{DevChain, DevNode, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{body, signed, terms, tls};

struct Place {
    facilitator: Facilitator,
    node: DevNode,
    admin: String,
}

/// A facilitator on a chain that mines by hand, with two callers and an operator.
async fn start(folder: &Path) -> Place {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(folder, &folder.join("ledger.sqlite"));
    for name in ["shop", "other", "admin"] {
        fs::write(folder.join(name), format!("{name}-token")).unwrap();
    }
    let token = |name: &str| format!("token = {{ file = {:?} }}\n", folder.join(name));
    let caller = |name: &str| format!("[[caller]]\nname = \"{name}\"\n{}", token(name));
    let text = fs::read_to_string(&config).unwrap();
    let pause = folder.join("paused");
    let top = format!("settle_wait_seconds = 1\nkeep_seconds = 86400\npause_file = {pause:?}\n");
    let text = text.replace("lease_seconds", &format!("{top}lease_seconds"));
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{}", token("admin"));
    fs::write(&config, format!("{text}\n{}{}{admin}", caller("shop"), caller("other"))).unwrap();
    let facilitator = Facilitator::start(&config, &node.url);
    let admin = facilitator.line["admin"].as_str().unwrap().to_owned();
    Place { facilitator, node, admin }
}

impl Place {
    async fn admin(&self, method: Method, path: &str) -> Value {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.admin));
        let answer = request.bearer_auth("admin-token").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    async fn body(&self) -> String {
        let terms = terms();
        body(&terms, &signed(1, &terms, self.node.chain.time()).await).to_string()
    }

    /// The status, the answer and the payment's place.
    async fn settle(&self, body: &str) -> (u16, Value, String) {
        let request = reqwest::Client::new().post(format!("{}/settle", self.facilitator.url)).bearer_auth("shop-token");
        let answer = request.header("idempotency-key", "order-1").body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let place = answer.headers().get("location").map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(), place)
    }

    async fn payment(&self, place: &str, token: &str) -> (u16, Value) {
        let request = reqwest::Client::new().get(format!("{}{place}", self.facilitator.url)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_follows_its_own_payment_to_its_end_and_the_operator_sees_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let place = start(folder.path()).await;
    let body = place.body().await;
    let (status, answer, path) = place.settle(&body).await;
    assert_eq!((status, &answer["errorReason"]), (200, &"settlement_pending".into()), "{answer}");
    assert!(path.starts_with("/payments/"), "{path}");
    let (status, open) = place.payment(&path, "shop-token").await;
    assert_eq!((status, &open["state"], &open["amount"]), (200, &"in_flight".into(), &"10000".into()), "{open}");

    // Nobody else learns of it, and a broken key is no other error.
    for (path, token, expected) in [
        (path.as_str(), "other-token", 404),
        (path.as_str(), "wrong", 401),
        ("/payments/00", "shop-token", 404),
        ("/payments/xyz", "shop-token", 404),
        (&format!("{path}?wait=61"), "shop-token", 400),
    ] {
        assert_eq!(place.payment(path, token).await.0, expected, "{path} {token}");
    }

    let state = place.admin(Method::GET, "/admin/state").await;
    assert_eq!((&state["openPayments"], &state["oldest"][0]["state"]), (&1.into(), &"in_flight".into()), "{state}");
    assert_eq!((&state["lanes"][0]["openSlots"], &state["lanes"][0]["short"]), (&1.into(), &false.into()), "{state}");

    // The long poll ends with the payment.
    let (poll, ()) = tokio::join!(
        async {
            let path = format!("{path}?wait=60");
            place.payment(&path, "shop-token").await
        },
        async { place.node.chain.mine(1) }
    );
    assert_eq!((poll.0, &poll.1["state"]), (200, &"settled".into()), "{}", poll.1);
    let transaction = place.node.chain.transfers()[0].transaction.to_string();
    assert_eq!(poll.1["transaction"], transaction.as_str());

    let id = path.rsplit('/').next().unwrap();
    let timeline = place.admin(Method::GET, &format!("/admin/payments/{id}")).await;
    let step = &timeline["steps"][0];
    assert_eq!((&step["name"], &step["state"]), (&"transfer".into(), &"proven".into()), "{timeline}");
    assert_eq!(step["carriers"][0]["attempts"][0]["transaction"], transaction.as_str(), "{timeline}");
    assert!(!timeline.to_string().contains("signature"), "{timeline}");

    for (text, number) in [(&transaction[2..12], 1), ("0x7099", 1), ("order-1", 1), ("", 1), ("0xdead", 0)] {
        let found = place.admin(Method::GET, &format!("/admin/payments?q={text}")).await;
        assert_eq!(
            (found["payments"].as_array().unwrap().len(), &found["whole"]),
            (number, &true.into()),
            "{text}: {found}"
        );
    }
    let csv = reqwest::Client::new().get(format!("{}/admin/receipts.csv", place.admin)).bearer_auth("admin-token");
    let csv = csv.send().await.unwrap().text().await.unwrap();
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{csv}");
    let fields: Vec<&str> = lines[1].split(',').collect();
    assert_eq!(
        (fields[0], fields[2], fields[6], fields[9], fields[10]),
        (id, "settled", "10000", "shop", "key:order-1"),
        "{csv}"
    );
    assert_eq!(fields[11], transaction);
    let json = place.admin(Method::GET, "/admin/receipts.json").await;
    assert_eq!((&json["id"], &json["state"]), (&id.into(), &"settled".into()), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_stops_new_payments_and_finishes_the_open_ones() {
    let folder = tempfile::tempdir().unwrap();
    let place = start(folder.path()).await;
    let first = place.body().await;
    assert_eq!(place.settle(&first).await.1["errorReason"], "settlement_pending");
    let ready = async || reqwest::get(format!("{}/ready", place.facilitator.url)).await.unwrap().status().as_u16();
    assert_eq!(ready().await, 200);

    assert_eq!(place.admin(Method::POST, "/admin/pause").await["paused"], "by request");
    assert_eq!(ready().await, 503);
    let second = place.body().await;
    let other = async || {
        let request =
            reqwest::Client::new().post(format!("{}/settle", place.facilitator.url)).bearer_auth("other-token");
        request.body(second.clone()).send().await.unwrap()
    };
    let refused = other().await;
    assert_eq!(refused.status().as_u16(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let sent = place.node.chain.calls().of("eth_sendRawTransaction");
    // What was begun is finished and answered.
    place.node.chain.mine(1);
    let (status, answer, _) = place.settle(&first).await;
    assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    assert_eq!(place.node.chain.transfers().len(), 1);
    assert_eq!(place.node.chain.calls().of("eth_sendRawTransaction"), sent, "what is refused costs no gas");

    assert_eq!(place.admin(Method::POST, "/admin/resume").await["paused"], Value::Null);
    fs::write(folder.path().join("paused"), "").unwrap();
    assert_eq!(other().await.status().as_u16(), 503);
    assert_eq!(place.admin(Method::POST, "/admin/resume").await["paused"], "by file");
    fs::remove_file(folder.path().join("paused")).unwrap();
    assert_eq!(other().await.status().as_u16(), 200);
    assert_eq!(ready().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_public_and_empty_and_everything_else_needs_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let place = start(folder.path()).await;
    for path in ["/", "/page.js", "/page.css"] {
        let answer = reqwest::get(format!("{}{path}", place.admin)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = answer.text().await.unwrap();
        // Neither an outside asset nor code or style that the policy would refuse.
        for forbidden in ["http://", "https://", " style=", " onclick=", "<style", "innerHTML", "<script>"] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(forbidden), "{path}: {forbidden}");
        }
    }
    let paths = [
        "/metrics",
        "/admin/state",
        "/admin/payments",
        "/admin/payments/00",
        "/admin/receipts.csv",
        "/admin/receipts.json",
    ];
    for path in paths {
        assert_eq!(reqwest::get(format!("{}{path}", place.admin)).await.unwrap().status().as_u16(), 401, "{path}");
    }
    for path in ["/admin/pause", "/admin/resume"] {
        let answer = reqwest::Client::new().post(format!("{}{path}", place.admin)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{path}");
    }
    // A caller's token is not the operator's, and the callers' port has none of these routes.
    let answer = reqwest::Client::new().get(format!("{}/admin/state", place.admin)).bearer_auth("shop-token");
    assert_eq!(answer.send().await.unwrap().status().as_u16(), 401);
    assert_eq!(reqwest::get(format!("{}/admin/state", place.facilitator.url)).await.unwrap().status().as_u16(), 404);
}
