//! The seam between the routes and the dialects: generic files name none, and a body is read once on its way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use x402_challenge::{Bind, BoundRequest as Asked, ChallengeOffer, Charge, answer, exact_nonce, issue, terms};
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, signer};
use x402_evm::exact::Payer;
use x402_facilitator::clock::now;
use x402_facilitator::dialect::{Answer, Body, Context, Dialect, Reply, Request, Settled, Stopped, Submission};
use x402_facilitator::dialects;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::MemoryLedger;
use x402_types::challenge::{Networks, Proof, ProofKind};
use x402_types::{Assets, ChainId, MakePayment, SigningContext, TimeoutSeconds};

use crate::support::{SELLER, body, body_v1, send, signed, tls};

/// Files that may name a scheme or a dialect, below `src`: its own, the configuration, and what lists or offers all.
const SPECIFIC: [&str; 11] = [
    "config.rs",
    "config/",
    "configured.rs",
    "credits.rs",
    "dev.rs",
    "dialects/",
    "lib.rs",
    "main.rs",
    "mechanisms.rs",
    "mechanisms/",
    // Keys of one scheme.
    "session_keys",
];

/// Words of code that would be a scheme's or a dialect's name, whatever their case. `exact` is one, and a word as well:
/// it counts as a constant alone.
const NAMES: [&str; 13] = [
    "nvm",
    "erc4337",
    "nevermined",
    "by_plan",
    "v02",
    "v03",
    "upto",
    "eip3009",
    "permit2",
    "x402v1",
    "x402.v1",
    "challenge",
    "::exact",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Lines of code below a folder that name a scheme or a dialect. Comments and tests do not count.
fn named(root: &Path, specific: &[&str]) -> Vec<String> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut lines = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if specific.iter().any(|known| name.starts_with(known)) || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let names = |line: &str| NAMES.iter().any(|name| line.to_lowercase().contains(name));
        let code = code.lines().map(str::trim).enumerate().filter(|(_, line)| !line.starts_with("//") && names(line));
        lines.extend(code.map(|(number, line)| format!("{name}:{}: {line}", number + 1)));
    }
    lines
}

#[test]
fn generic_files_name_no_scheme_and_no_dialect() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let none: [String; 0] = [];
    assert_eq!(named(&crates.join("x402-facilitator/src"), &SPECIFIC), none);
    assert_eq!(named(&crates.join("x402-facilitator-core/src"), &["conformance"]), none);
    // What is looked for is found where it may stand.
    for file in ["x402.rs", "nvm", "challenge", "card"] {
        let others: Vec<&str> =
            ["x402.rs", "nvm", "challenge", "card"].into_iter().filter(|other| *other != file).collect();
        let own = named(&crates.join("x402-facilitator/src/dialects"), &[&others[..], &["mod.rs"]].concat());
        assert_eq!(own.is_empty(), file == "x402.rs", "{file}: {own:?}");
    }
}

/// Speaks every dialect, and notes how often each body was read when it is answered.
struct Counting {
    dialects: Vec<Arc<dyn Dialect>>,
    reads: Arc<Mutex<Vec<usize>>>,
}

impl Counting {
    fn of(&self, body: &Body) -> &dyn Dialect {
        self.dialects.iter().find(|dialect| dialect.recognises(body)).unwrap().as_ref()
    }

    fn note(&self, request: &Request) {
        self.reads.lock().unwrap().push(request.body.reads());
    }
}

#[async_trait]
impl Dialect for Counting {
    fn recognises(&self, _: &Body) -> bool {
        true
    }

    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped> {
        self.of(&request.body).read(context, request)
    }

    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        self.of(&request.body).admit(context, request, submission).await
    }

    fn write_verdict(&self, context: &Context, request: &Request, answer: Answer<'_, String>) -> Reply {
        let reply = self.of(&request.body).write_verdict(context, request, answer);
        self.note(request);
        reply
    }

    fn write_settlement(&self, context: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply {
        let reply = self.of(&request.body).write_settlement(context, request, answer);
        self.note(request);
        reply
    }
}

/// A payment of version 0.3, or 0.2, of the Smart Accounts Extension, as its document has them.
fn plan_body(payment: &str, member: &str) -> Value {
    let vector = |name: &str| -> Value {
        let path = format!("{}/../x402-testkit/vectors/nvm/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let (required, payment) = (vector("payment-required"), vector(payment));
    json!({ "paymentRequired": required["json"], "paymentPayload": payment[member], "maxAmount": "1" })
}

/// A payment of a challenge by a ticket.
async fn challenge_body(url: &str) -> Value {
    const REQUEST: Asked<'static> =
        Asked { method: "GET", host: "api.example.com", path: "/", query: None, body_sha256: None };
    let offer = ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: TOKEN.into(),
        pay_to: ACCOUNTS[SELLER].address.into(),
        amount: 1000.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(60).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: Default::default(),
        bind: Bind::default(),
    };
    let challenge = issue(&offer, &REQUEST, [1; 16]).unwrap();
    let asked = json!({"action": "initiate", "challenge": challenge}).to_string();
    let (status, said) = send(&format!("{url}/initiate"), asked, None).await;
    assert_eq!(status, 200, "{said}");
    let mut payment = answer(&challenge, Proof::new(ProofKind::Facilitator), [1; 16], now());
    let entropy = exact_nonce(&payment);
    let context = SigningContext { now: now(), entropy, url: "https://api.example.com/", method: "GET" };
    let terms = terms(&challenge, &Networks::default(), &Assets::default()).unwrap();
    let made = Payer::new(signer(1).unwrap()).make_payment(&terms, &context).await.unwrap();
    payment.proof.ticket = Some(said["ticket"].as_str().unwrap().into());
    payment.proof.payload = Some(made.payload);
    let header = x402_codec::challenge::encode_payment(&payment).unwrap();
    json!({"action": "verify", "header": header.to_str().unwrap()})
}

#[tokio::test]
async fn a_body_is_read_once_whichever_dialect_it_is_of() {
    tls();
    let chain = DevChain::new().unwrap();
    let evm = Evm::new(chain.client(), ChainId::eip155(84532), 0, x402_devchain::key(0).into_iter().collect());
    let reads = Arc::default();
    let counting = Arc::new(Counting { dialects: dialects::all(), reads: Arc::clone(&reads) });
    let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(now))).with_evm(evm).unwrap();
    let builder = builder.with_engine(|engine| engine.with_dialect(counting));
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let serving = Serving::start(([127, 0, 0, 1], 0).into(), &engine, heads, routes).await.unwrap();
    let url = format!("http://{}", serving.address());

    let terms = support::terms();
    let payload = signed(1, &terms, chain.time()).await;
    let mut challenge = challenge_body(&url).await;
    let mut bodies = vec![
        ("v1", "verify", body_v1(&terms, &payload), "isValid", json!(true)),
        ("v2", "verify", body(&terms, &payload), "isValid", json!(true)),
        ("v2", "settle", body(&terms, &payload), "success", json!(true)),
        ("v1", "settle", body_v1(&terms, &signed(2, &terms, chain.time()).await), "success", json!(true)),
        ("x402.v1", "verify", challenge.clone(), "ok", json!(true)),
        ("0.3", "verify", plan_body("payment-payload", "json"), "invalidReason", json!("UNSUPPORTED_NETWORK")),
        ("0.2", "verify", plan_body("payment-payload-v0.2", "filled"), "invalidReason", json!("UNSUPPORTED_NETWORK")),
        ("0.3", "settle", plan_body("payment-payload", "json"), "errorReason", json!("UNSUPPORTED_NETWORK")),
    ];
    challenge["action"] = json!("settle");
    bodies.push(("x402.v1", "settle", challenge, "ok", json!(true)));
    for (dialect, end, body, member, expected) in bodies {
        let (_, said) = send(&format!("{url}/{end}"), body.to_string(), None).await;
        assert_eq!(said[member], expected, "{dialect} {end}: {said}");
        assert_eq!(reads.lock().unwrap().drain(..).collect::<Vec<usize>>(), [1], "{dialect} {end}");
    }
    serving.stop().await;
}
