//! 41 echoes of extensions at our server with all of its extensions, beside what the TypeScript SDK's server answered: 21 of
//! `extensions.json`, and 20 of `echoes.json` between them. The table in `docs/interop.md` is made of this run: `UPDATE_GOLDEN=1`
//! rewrites it. A line that differs has its reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod stage;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use x402_challenge::MemoryStore;
use x402_extensions::bazaar::DiscoverableRoute;
use x402_extensions::builder_code::SellerCodes;
use x402_extensions::offer_receipt::{IssuerKey, OfferIssuer};
use x402_extensions::sign_in::SignInGate;
use x402_http::client::Clock;
use x402_types::extension::{PaymentIdentifier, Required};
use x402_types::{Extension, RawJson};

use crate::stage::{ORIGIN, PAYER, SIGNER, Service, Stage, ask, get, key, offer, paying, payment, required};

const ADVERTISED: &str = "<as advertised>";

/// An extension that declares a recorded value, and does no more.
#[derive(Debug)]
struct Declared(&'static str, Value);

impl Extension for Declared {
    fn name(&self) -> &str {
        self.0
    }
    fn declare(&self, _: &Required<'_>) -> Option<RawJson> {
        RawJson::of(&self.1).ok()
    }
}

fn vector(file: &str) -> Value {
    serde_json::from_str(&x402_testkit::vector(file).unwrap()).unwrap()
}

/// The reason why a case is answered otherwise than by the SDK's server.
fn reason(id: &str) -> &'static str {
    match id {
        "pid_id_too_short" => "a client that sends an id counts on an idempotency that it would not have",
        "extensions_list" => "`extensions` is an object in the document, and a payment that cannot be read is refused",
        "amount_and_echo_both_wrong" => "the same fault, named by the document's code",
        _ => "",
    }
}

/// The SDK's routes on our server: `/all` with all extensions, `/pid` with one.
fn routes(stage: &Stage, advertised: &Value) -> [Service; 2] {
    let (example, output) = (json!({"city": "Paris", "days": 2}), json!({"temp": 21}));
    let schema = json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]});
    let route = DiscoverableRoute::query("GET", &example, &schema)
        .with_output(&output, &json!({"properties": {"temp": {"type": "number"}}}));
    let codes = SellerCodes::new("bc_myapp".parse().unwrap()).with_services(["svc_one".parse().unwrap()]).unwrap();
    let seller = stage.seller().with_extension(PaymentIdentifier::optional());
    let all = seller
        .clone()
        .with_extension(route)
        .with_extension(codes)
        .with_extension(OfferIssuer::new(IssuerKey::eip712(key(SIGNER))))
        .with_extension(SignInGate::new(ORIGIN, &[5; 32], Arc::new(MemoryStore::default())).unwrap())
        .with_extension(Declared("eip2612GasSponsoring", advertised["eip2612GasSponsoring"].clone()));
    [all, seller].map(|seller| stage.serve(&seller.charge([offer("$0.001")]).unwrap()))
}

/// The echo of a case, with the members that are of one request (a sign-in's, an offer's) as this server has declared them.
fn echo(case: &Value, declared: &Value) -> Option<Value> {
    let mut extensions = case.get("extensions")?.clone();
    for (name, value) in extensions.as_object_mut().into_iter().flatten() {
        let ours = &declared[name];
        if value["schema"] == ADVERTISED {
            value["schema"] = ours["schema"].clone();
        }
        let kept = [("siwx_domain_changed", "domain"), ("siwx_nonce_changed", "nonce"), ("offers_forged", "offers")];
        let is_kept = |member: &str| kept.contains(&(case["id"].as_str().unwrap(), member));
        let of_request: &[&str] = match name.as_str() {
            "offer-receipt" => &["offers"],
            "sign-in-with-x" => &["domain", "uri", "nonce", "issuedAt", "resources"],
            _ => &[],
        };
        for member in of_request.iter().filter(|member| !is_kept(member)) {
            if let Some(of_case) = value["info"].get_mut(*member) {
                *of_case = ours["info"][*member].clone();
            }
        }
    }
    Some(extensions)
}

/// What a case changes beside the extensions, which the records do not have.
fn change(id: &str, payment: &mut Value) {
    match id {
        "accepted_extra_field_added" => payment["accepted"]["extra"]["more"] = json!(1),
        "resource_omitted" => drop(payment.as_object_mut().unwrap().remove("resource")),
        "amount_and_echo_both_wrong" => payment["accepted"]["amount"] = json!("999"),
        _ => {}
    }
}

#[tokio::test]
async fn recorded_echoes_are_answered_as_by_the_sdk_but_for_named_differences() {
    let (recorded, more) = (vector("extensions.json"), vector("echoes.json"));
    let advertised = &recorded["echoRules.route"]["advertisedExtensions"];
    let mut cases: Vec<&Value> =
        [&recorded["echoRules.cases"], &more["cases"]].iter().flat_map(|cases| cases.as_array().unwrap()).collect();
    cases.sort_by_key(|case| case["index"].as_u64());
    let indices: Vec<u64> = cases.iter().map(|case| case["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (0..41).collect::<Vec<_>>(), "each position once");
    let (mut rows, mut unexplained) = (Vec::new(), Vec::new());
    for case in cases {
        let id = case["id"].as_str().unwrap();
        // A seller of its own, so that no case meets the ids of another.
        let stage = Stage::new();
        let [all, pid] = routes(&stage, advertised);
        let (service, path) = if case["route"] == "/all" { (&all, "/all") } else { (&pid, "/pid") };
        let document = required(&ask(service, get(path)).await);
        let entropy = u8::try_from(rows.len()).unwrap() + 1;
        let extensions = echo(case, &document["extensions"]);
        let mut payment = payment(PAYER, &document, extensions, (stage.clock.now(), entropy)).await;
        change(id, &mut payment);
        let before = [&stage.bank.verified, &stage.bank.settled].map(|count| count.load(Ordering::SeqCst));
        let answer = ask(service, paying(path, &payment)).await;
        let after = [&stage.bank.verified, &stage.bank.settled].map(|count| count.load(Ordering::SeqCst));
        let error = (answer.status() == 402).then(|| required(&answer)["error"].clone());
        let cell = |status: u64, error: &Value| match error.as_str() {
            Some(error) => format!("`{status} {error}`"),
            None => format!("`{status}`"),
        };
        let theirs = cell(case["status"].as_u64().unwrap(), &case["error"]);
        let ours = cell(answer.status().as_u16().into(), &error.unwrap_or_default());
        let calls = case["facilitatorCalls"].as_array().unwrap().len();
        let reason = reason(id);
        if (theirs != ours) == reason.is_empty() {
            let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            unexplained.push(format!("{id}: {theirs} {ours} {}", body["errorMessage"]));
        }
        if answer.status() == 200 || theirs == ours {
            let made = after[0] - before[0] + after[1] - before[1];
            assert_eq!(made, if answer.status() == 200 { 2 } else { calls }, "{id}: calls of the facilitator");
        } else {
            assert_eq!(before, after, "{id}: what is refused reaches no facilitator");
        }
        rows.push(format!("| `{id}` | {theirs} | {ours} | {reason} |"));
    }
    assert!(
        unexplained.is_empty(),
        "these differ without a reason, or have one and do not:\n{}",
        unexplained.join("\n")
    );
    let rows = rows.join("\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interop.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- echoes:begin -->\n", "<!-- echoes:end -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let table = format!(
        "{head}{begin}\n| Case | TypeScript | Ours | Reason |\n| --- | --- | --- | --- |\n{rows}\n\n{end}{tail}"
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, table, "docs/interop.md differs; UPDATE_GOLDEN=1 rewrites it");
}
