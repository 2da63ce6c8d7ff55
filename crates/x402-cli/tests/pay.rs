//! `x402 pay` against servers that answer as public reports say: `x402-testkit/vectors/cases`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use x402_codec::{Limits, header};

/// anvil's second account: a key that everybody knows.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const TRANSACTION: &str = "0xabababababababababababababababababababababababababababababababab";

fn case(path: &str) -> Value {
    let file = format!("{}/../x402-testkit/vectors/cases/{path}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn payment(&self) -> Option<Value> {
        let value = self.header("payment-signature").or_else(|| self.header("x-payment"))?;
        Some(header::decode(value.as_bytes(), &Limits::DEFAULT).unwrap())
    }
}

/// A server that asks for a payment, and answers payments by a list.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<VecDeque<Value>>>,
}

impl Server {
    /// `unpaid`: an answer. `paid`: answers, or `"hangup"`. The last one is given for ever.
    fn start(unpaid: Value, paid: Value, content_type: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/r", listener.local_addr().unwrap());
        let list = match paid {
            Value::Array(list) => list,
            Value::Null => Vec::new(),
            one => vec![one],
        };
        let answers = Arc::new(Mutex::new(VecDeque::from(list)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, left) = (seen.clone(), answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                kept.lock().unwrap().push(request.clone());
                let wrong =
                    content_type.as_deref().is_some_and(|wanted| request.header("content-type") != Some(wanted));
                let answer = match request.payment() {
                    _ if wrong => json!({"status": 415, "body": {"error": "unsupported media type"}}),
                    None => unpaid.clone(),
                    Some(_) => {
                        let mut left = left.lock().unwrap();
                        if left.len() > 1 { left.pop_front() } else { left.front().cloned() }.unwrap()
                    }
                };
                if answer != "hangup" {
                    write(&mut stream, &answer);
                }
            }
        });
        Self { url, seen, answers }
    }

    fn of(case: &Value) -> Self {
        let document = || json!({"status": 402, "headers": {"PAYMENT-REQUIRED": case["document"]}, "body": {}});
        let unpaid = case.get("unpaid").cloned().unwrap_or_else(document);
        let content_type = case.get("needsContentType").and_then(Value::as_str).map(str::to_owned);
        Self::start(unpaid, case["paid"].clone(), content_type)
    }

    /// Asks for this document; what is paid is served.
    fn asking(document: &Value) -> Self {
        let unpaid = if document["x402Version"] == 1 {
            json!({"status": 402, "headers": {}, "body": document})
        } else {
            json!({"status": 402, "headers": {"PAYMENT-REQUIRED": document}, "body": {}})
        };
        Self::start(unpaid, served(), None)
    }

    fn payments(&self) -> Vec<Value> {
        self.seen.lock().unwrap().iter().filter_map(Seen::payment).collect()
    }
}

fn served() -> Value {
    let receipt = json!({"success": true, "transaction": TRANSACTION, "network": "eip155:84532"});
    json!({"status": 200, "headers": {"PAYMENT-RESPONSE": receipt}, "body": {"ok": true}})
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line: line.trim_end().to_owned(), headers, body })
}

fn write(stream: &mut TcpStream, answer: &Value) {
    let body = match &answer["body"] {
        Value::String(text) => text.clone().into_bytes(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.get("status").and_then(Value::as_u64).unwrap_or(200));
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let values = match value {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        for value in values {
            let text = match &value {
                Value::String(text) => text.clone(),
                message => header::encode(message).unwrap().to_str().unwrap().to_owned(),
            };
            head.push_str(&format!("{name}: {text}\r\n"));
        }
    }
    // The bytes of the body that never come.
    let cut = answer.get("cut").and_then(Value::as_u64).unwrap_or(0);
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len() as u64 + cut));
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap_or_default();
}

/// A directory of its own for each test.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("x402-pay-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        Self(path)
    }

    fn pay(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
        command.arg("pay").args(arguments).env("X402_PRIVATE_KEY", KEY).env("XDG_STATE_HOME", &self.0);
        command.env_remove("HTTP_PROXY").env_remove("http_proxy").output().unwrap()
    }

    fn journal(&self) -> PathBuf {
        self.0.join("x402/payments.sqlite")
    }
}

impl Drop for State {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn text(output: &Output) -> (String, String, Option<i32>) {
    let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (utf8(&output.stdout), utf8(&output.stderr), output.status.code())
}

#[test]
fn a_receipt_that_says_failed_is_never_called_paid_c01() {
    let server = Server::of(&case("clients/c01-receipt-says-failed"));
    let state = State::new("c01");
    let (_, err, code) = text(&state.pay(&[&server.url]));
    assert_eq!((err.trim(), code), ("not paid: insufficient_funds on eip155:84532", Some(1)));
    // With 200, too.
    let mut case = case("clients/c01-receipt-says-failed");
    case["paid"]["status"] = 200.into();
    let (_, err, _) = text(&state.pay(&[&Server::of(&case).url]));
    assert_eq!(err.trim(), "not paid: insufficient_funds on eip155:84532");
    // And of a success without a transaction nobody knows.
    case["paid"]["headers"]["PAYMENT-RESPONSE"] = json!({"success": true, "transaction": ""});
    let (_, err, _) = text(&state.pay(&[&Server::of(&case).url]));
    assert_eq!(err.trim(), "not proven: the receipt says success and names no transaction");
}

#[test]
fn the_reason_of_a_refusal_is_shown_c03() {
    let state = State::new("c03");
    let case = case("clients/c03-refused-reason-only-in-header");
    let (out, err, code) = text(&state.pay(&[&Server::of(&case).url]));
    assert_eq!((out.as_str(), err.trim(), code), ("{}", "refused: invalid_exact_evm_payload_signature", Some(1)));
    let (out, _, code) = text(&state.pay(&[&Server::of(&case).url, "--json"]));
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&out["error"], &out["status"], code),
        (&json!("invalid_exact_evm_payload_signature"), &json!(402), Some(1))
    );
}

#[test]
fn settled_and_not_served_is_paid_once_c04() {
    let state = State::new("c04");
    let server = Server::of(&case("clients/c04-settled-and-400"));
    let paid = format!("paid: transaction {TRANSACTION} on eip155:84532");
    for _ in 0..2 {
        let (out, err, code) = text(&state.pay(&[&server.url]));
        assert_eq!((out.as_str(), err.trim(), code), (r#"{"error":"message_too_long"}"#, paid.as_str(), Some(1)));
    }
    let payments = server.payments();
    assert_eq!((payments.len(), payments[0] == payments[1]), (2, true));
    // A server that does not take it again: the end is told, with the receipt, and nothing is signed.
    *server.answers.lock().unwrap() = [json!({"status": 402, "headers": {}, "body": {}})].into();
    let (_, err, code) = text(&state.pay(&[&server.url]));
    assert!(err.starts_with("paid without an answer (") && err.contains(TRANSACTION), "{err}");
    assert_eq!((server.payments()[2] == payments[0], code), (true, Some(1)));
}

#[test]
fn a_second_run_shows_the_payment_whose_answer_was_lost_c05() {
    let state = State::new("c05");
    let mut case = case("clients/c05-answer-lost-after-settlement");
    case["document"]["accepts"][0]["maxTimeoutSeconds"] = 3_600.into();
    let server = Server::of(&case);
    let (_, err, code) = text(&state.pay(&[&server.url]));
    let first = server.payments()[0].clone();
    let nonce = first["payload"]["authorization"]["nonce"].as_str().unwrap();
    let until = first["payload"]["authorization"]["validBefore"].as_str().unwrap();
    assert!(err.contains(&format!("signed: nonce {nonce}, valid until {until}")), "{err}");
    assert_eq!(code, Some(1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(state.journal()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    *server.answers.lock().unwrap() = [served()].into();
    let (_, err, code) = text(&state.pay(&[&server.url]));
    assert_eq!((err.trim(), code), (format!("paid: transaction {TRANSACTION} on eip155:84532").as_str(), Some(0)));
    assert!(server.payments().iter().all(|payment| *payment == first), "one payment, in all runs");
    // It is over: the next run pays anew.
    text(&state.pay(&[&server.url]));
    assert_ne!(*server.payments().last().unwrap(), first);
}

/// A paid answer that breaks off is told as paid, and the second run asks for the answer, not for another payment.
#[test]
fn a_second_run_shows_the_payment_whose_answer_broke_off() {
    let state = State::new("cut");
    let mut cut = served();
    cut["cut"] = 10.into();
    let mut case = case("clients/c05-answer-lost-after-settlement");
    case["paid"] = cut;
    let server = Server::of(&case);
    let (_, err, code) = text(&state.pay(&[&server.url]));
    assert!(
        err.starts_with(&format!("paid: transaction {TRANSACTION} on eip155:84532\nthe answer broke off")),
        "{err}"
    );
    assert!(err.contains("shows the same payment again") && code == Some(1), "{err} {code:?}");
    *server.answers.lock().unwrap() = [served()].into();
    let (out, err, code) = text(&state.pay(&[&server.url]));
    assert_eq!((out.as_str(), code), (r#"{"ok":true}"#, Some(0)), "{err}");
    let payments = server.payments();
    assert_eq!((payments.len(), &payments[0]), (2, &payments[1]));
    // It is over now.
    text(&state.pay(&[&server.url]));
    assert_ne!(server.payments()[2], payments[0]);
}

/// The journal's file, changed by hand: the payment is from an hour ago.
fn expire(journal: &Path) {
    let file = rusqlite::Connection::open(journal).unwrap();
    let (id, text): (String, String) =
        file.query_row("SELECT id, payment FROM payments", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut payment: Value = serde_json::from_str(&text).unwrap();
    payment["valid_until"] = "1763600000".into();
    file.execute("UPDATE payments SET payment = ?1 WHERE id = ?2", (payment.to_string(), id)).unwrap();
}

#[test]
fn no_second_payment_is_made_silently_c05() {
    let state = State::new("c05-expired");
    let lost = json!({"status": 500, "headers": {}, "body": {}});
    let mut case = case("clients/c05-answer-lost-after-settlement");
    case["paid"] = lost;
    let server = Server::of(&case);
    text(&state.pay(&[&server.url]));
    expire(&state.journal());
    *server.answers.lock().unwrap() = [served()].into();
    let (_, err, code) = text(&state.pay(&[&server.url]));
    assert!(err.contains("whether it was settled is not known") && err.contains("--pay-anew"), "{err}");
    assert_eq!((server.payments().len(), code), (1, Some(1)));
    let (_, _, code) = text(&state.pay(&[&server.url, "--pay-anew"]));
    assert_eq!((server.payments().len(), code), (2, Some(0)));
}

#[test]
fn without_a_journal_nothing_is_kept() {
    let state = State::new("none");
    let mut case = case("clients/c04-settled-and-400");
    case["paid"]["headers"] = json!({});
    let server = Server::of(&case);
    for _ in 0..2 {
        text(&state.pay(&[&server.url, "--no-journal"]));
    }
    let payments = server.payments();
    assert!(payments[0] != payments[1] && !state.journal().exists());
}

#[test]
fn a_json_api_is_called_c07() {
    let state = State::new("c07");
    let server = Server::of(&case("clients/c07-needs-json-content-type"));
    let (out, err, code) = text(&state.pay(&[&server.url, "-d", r#"{"q": 1}"#]));
    assert_eq!((out.as_str(), code), (r#"{"ok":true}"#, Some(0)), "{err}");
    let seen = server.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|request| request.line == "POST /r HTTP/1.1" && request.body == br#"{"q": 1}"#));

    let file = state.0.join("body.json");
    std::fs::write(&file, "[1]").unwrap();
    let at = format!("@{}", file.display());
    let arguments = [server.url.as_str(), "-d", &at, "-X", "PUT", "-H", "X-Team: blue", "-H", "Accept: text/plain"];
    assert_eq!(text(&state.pay(&arguments)).2, Some(0));
    let last = server.seen.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.line.as_str(), last.body.as_slice()), ("PUT /r HTTP/1.1", &b"[1]"[..]));
    assert_eq!((last.header("x-team"), last.header("accept")), (Some("blue"), Some("text/plain")));
    // A header of one's own decides.
    let arguments = [server.url.as_str(), "-d", "[1]", "-H", "Content-Type: text/plain"];
    assert_eq!(text(&state.pay(&arguments)).2, Some(1));
    assert_eq!(text(&state.pay(&[&server.url, "-H", "no colon"])).2, Some(2));
}

#[test]
fn a_success_ends_the_payment_c08() {
    let state = State::new("c08");
    let mut case = case("clients/c08-receipt-is-raw-json-of-another-shape");
    let served = case["paid"][0].clone();
    case["paid"] = served;
    let server = Server::of(&case);
    for _ in 0..2 {
        assert_eq!(text(&state.pay(&[&server.url])).2, Some(0));
    }
    let payments = server.payments();
    assert_ne!(payments[0], payments[1]);
}

#[test]
fn a_receipt_of_version_1_c10() {
    let state = State::new("c10");
    let (_, err, code) = text(&state.pay(&[&Server::of(&case("clients/c10-v1-receipt")).url]));
    assert_eq!((err.trim(), code), (format!("paid: transaction {TRANSACTION} on eip155:84532").as_str(), Some(0)));
}

#[test]
fn the_length_of_a_header_that_was_not_passed_is_named() {
    let state = State::new("431");
    let mut case = case("clients/c04-settled-and-400");
    case["paid"] = json!({"status": 431, "headers": {}, "body": "<html>"});
    let server = Server::of(&case);
    let (_, err, _) = text(&state.pay(&[&server.url]));
    let seen = server.seen.lock().unwrap().clone();
    let length = seen.iter().find_map(|request| request.header("payment-signature")).unwrap().len();
    assert!(err.contains(&format!("the payment header has {length} bytes")), "{err}");
}

/// Which documents are paid, by which entry; and what is said of those that are not.
#[test]
fn documents() {
    let state = State::new("documents");
    let paid = [
        ("l08-new-chain-beside-base", 1),
        ("l11-extensions-as-list", 0),
        ("l19-exact-and-upto", 1),
        ("l24-unicode-token-name", 0),
        ("l28-two-entries-one-broken", 1),
        ("l29-resource-as-text", 0),
        ("l41-resourceInfo", 0),
        ("l42-v1-with-caip2-complete", 0),
        ("l43-v1-nulls", 0),
    ];
    for (name, entry) in paid {
        let document = case(&format!("documents/{name}"));
        let server = Server::asking(&document);
        let (_, err, code) = text(&state.pay(&[&server.url, "--no-journal"]));
        assert_eq!(code, Some(0), "{name}: {err}");
        let payment = server.payments()[0].clone();
        if document["x402Version"] == 2 {
            assert_eq!(payment["accepted"], document["accepts"][entry], "{name}");
        }
    }
    let refused = [
        ("l01-price-millionfold", "is more than the cap of 1000000"),
        ("l02-domain-name-usdc-on-base", "extra.name: \"USDC\", but the token's domain is named \"USD Coin\""),
        ("l05-other-verifying-contract", "extra.verifyingContract: another contract than the asset"),
        ("l06-flat-version-2", "accepts"),
        ("l09-accepts-empty", "asks for no payment"),
        ("l12-v1-with-caip2-and-token", "maxAmountRequired"),
        ("l15-amount-in-dollars", "amount"),
        ("l16-amount-number", "amount"),
        ("l22-timeout-milliseconds", "an authorization of 300000 s is asked for, more than the limit of 3600 s"),
        ("l23-payto-ens", "payTo"),
        ("l25-version-as-text", "x402Version"),
        ("l32-v2-with-v1-amount-names", "network"),
        ("l35-amount-leading-zero", "amount"),
        ("l36-scheme-capital", "no configured scheme can pay it"),
        ("l39-solana-only", "network: solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp is not an EVM chain"),
    ];
    for (name, why) in refused {
        let server = Server::asking(&case(&format!("documents/{name}")));
        let (_, err, code) = text(&state.pay(&[&server.url, "--no-journal"]));
        assert_eq!((server.payments().len(), code), (0, Some(1)), "{name}: {err}");
        assert!(err.starts_with("nothing was paid: ") && err.contains(why), "{name}: {err}");
    }
}

/// Peers in Python refuse addresses without their checksum: what is signed has it, and what the server wrote is returned as
/// it was.
#[test]
fn addresses_in_lower_case_are_signed_with_their_checksum() {
    const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    const PAY_TO: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
    const ASSET: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    let state = State::new("lower-case");
    let permit2 = json!({"name": "USDC", "version": "2", "assetTransferMethod": "permit2"});
    for extra in [json!({"name": "USDC", "version": "2"}), permit2] {
        let document = json!({
            "x402Version": 2, "error": "Payment required", "resource": {"url": "http://shop.test/r"},
            "accepts": [{
                "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": ASSET.to_lowercase(),
                "payTo": PAY_TO.to_lowercase(), "maxTimeoutSeconds": 60, "extra": extra,
            }],
        });
        let server = Server::asking(&document);
        let (_, err, code) = text(&state.pay(&[&server.url, "--no-journal"]));
        assert_eq!(code, Some(0), "{err}");
        let payment = &server.payments()[0];
        assert_eq!(payment["accepted"], document["accepts"][0]);
        let payload = &payment["payload"];
        let signed = if extra.get("assetTransferMethod").is_some() {
            let permit = &payload["permit2Authorization"];
            assert_eq!(permit["permitted"]["token"], ASSET);
            [&permit["from"], &permit["witness"]["to"]]
        } else {
            [&payload["authorization"]["from"], &payload["authorization"]["to"]]
        };
        assert_eq!(signed, [PAYER, PAY_TO]);
    }
}

#[test]
fn answers() {
    let state = State::new("answers");
    let paid = |name: &str| {
        let server = Server::start(case(&format!("answers/{name}")), served(), None);
        let (_, err, code) = text(&state.pay(&[&server.url, "--no-journal"]));
        (server.payments().first().map(|payment| payment["accepted"]["amount"].clone()), err, code)
    };
    for name in [
        "a01-header-raw-json",
        "a02-header-and-body-disagree",
        "a03-header-only-body-empty-object",
        "a06-mpp-beside-x402",
        "a11-v2-in-body-only",
    ] {
        let (amount, err, code) = paid(name);
        assert_eq!((amount, code), (Some("10000".into()), Some(0)), "{name}: {err}");
    }
    for (name, why) in [
        ("a04-bare-402-html", "nothing was paid: "),
        ("a12-header-latin1", "UTF-8"),
        ("a13-two-headers", "expected the header once"),
    ] {
        let (amount, err, code) = paid(name);
        assert_eq!((amount, code), (None, Some(1)), "{name}: {err}");
        assert!(err.contains(why), "{name}: {err}");
    }
    assert_eq!((paid("a07-status-200-with-terms").0, paid("a07-status-200-with-terms").2), (None, Some(0)));
}
