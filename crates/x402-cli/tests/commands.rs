//! The binary as a shell sees it: standard output, standard error, exit code.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn x402(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_x402"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it reads anything.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_demo_ends_settled_and_its_chain_agrees() {
    let output = x402(&["demo", "--json"], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| steps.iter().filter(|step| step["step"] == name).collect::<Vec<_>>();

    let last = out(&output).lines().last().unwrap().to_owned();
    assert!(last.starts_with(r#"{"step":"done","settled":true,"transaction":"0x"#), "{last}");
    let done = steps.last().unwrap();
    assert_eq!((done["network"].as_str(), done["amount"].as_str()), (Some("eip155:84532"), Some("10000")));
    assert_eq!(done["transaction"], done["transaction"].as_str().unwrap().to_lowercase());

    let transaction = named("transaction")[0];
    assert_eq!((&transaction["transaction"], &transaction["amount"]), (&done["transaction"], &done["amount"]));
    let balance =
        |at: usize, who: &str| named("balances")[at]["balances"][who].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(balance(1, "payer") - balance(0, "payer"), -10_000);
    assert_eq!(balance(1, "seller") - balance(0, "seller"), 10_000);

    let seen = |step: &&Value| (step["request"]["path"].clone(), step["response"]["status"].clone());
    let exchanges: Vec<_> = named("exchange").iter().map(seen).collect();
    // The seller looks once at what its facilitator serves.
    let expected = [("/weather", 402), ("/supported", 200), ("/verify", 200), ("/settle", 200), ("/weather", 200)];
    assert_eq!(exchanges, expected.map(|(path, status)| (path.into(), status.into())));
}

#[test]
fn the_challenge_demo_grants_once_and_its_chain_agrees() {
    let output = x402(&["demo", "challenge", "--json"], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| steps.iter().filter(|step| step["step"] == name).collect::<Vec<_>>();
    let seen = |step: &&Value| (step["request"]["path"].clone(), step["response"]["status"].clone());
    let exchanges: Vec<_> = named("exchange").iter().map(seen).collect();
    let expected = [("/weather", 402), ("/verify", 200), ("/settle", 200), ("/weather", 200), ("/weather", 409)];
    assert_eq!(exchanges, expected.map(|(path, status)| (path.into(), status.into())));
    let asked = &named("exchange")[0]["response"]["body"]["challengeId"];
    let last = out(&output).lines().last().unwrap().to_owned();
    assert_eq!(last, format!(r#"{{"step":"done","challengeId":{asked},"granted":true,"replayStatus":409}}"#));
    let balance =
        |at: usize, who: &str| named("balances")[at]["balances"][who].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(balance(1, "payer") - balance(0, "payer"), -10_000);
    assert_eq!(balance(1, "seller") - balance(0, "seller"), 10_000);
    assert_eq!(named("transaction").len(), 1);
    // For people, too: the challenge stands in the 402's body.
    let output = x402(&["demo", "challenge"], "");
    assert!(output.status.success() && out(&output).contains("\"challengeId\""), "{}", out(&output));
}

#[test]
fn the_demo_of_plans_orders_redeems_and_refuses() {
    let output = x402(&["demo", "nvm", "--json"], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last = out(&output).lines().last().unwrap().to_owned();
    assert!(last.starts_with(r#"{"step":"done","first":{"orderTx":"0x"#), "{last}");
    let done: Value = serde_json::from_str(&last).unwrap();
    let (first, second) = (&done["first"], &done["second"]);
    assert_eq!((&first["creditsRedeemed"], &first["remainingBalance"]), (&"3".into(), &"7".into()));
    assert_eq!((&second["creditsRedeemed"], &second["remainingBalance"]), (&"3".into(), &"4".into()));
    assert!(second.get("orderTx").is_none());
    let mut hashes = vec![&first["orderTx"], &first["transaction"], &second["transaction"]];
    hashes.sort_by_key(|hash| hash.to_string());
    hashes.dedup();
    assert_eq!(hashes.len(), 3);
    let third = &done["third"];
    assert_eq!((&third["status"], &third["error"]), (&402.into(), &"INSUFFICIENT_BALANCE".into()));
    assert_eq!((&third["details"]["requiredBalance"], &third["details"]["currentBalance"]), (&"5".into(), &"4".into()));

    let steps: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // nginx takes 8 KiB of a request's header line by default.
    let lengths: Vec<_> = steps.iter().filter(|step| step["step"] == "header").map(|s| s["bytes"].as_u64()).collect();
    assert!(lengths.len() == 2 && lengths.iter().all(|bytes| *bytes > Some(8_192)), "{lengths:?}");
    let seen = |step: &&Value| (step["request"]["path"].clone(), step["response"]["status"].clone());
    let exchanges: Vec<_> = steps.iter().filter(|step| step["step"] == "exchange").collect();
    let shown: Vec<_> = exchanges.iter().map(seen).filter(|(path, _)| path != "/supported").collect();
    let paid = [("/task", 402), ("/verify", 200), ("/settle", 200), ("/task", 200)];
    let refused = [("/report", 402), ("/verify", 200), ("/report", 402)];
    let expected: Vec<_> = paid.iter().chain(&paid).chain(&refused).map(|(p, s)| ((*p).into(), (*s).into())).collect();
    assert_eq!(shown, expected);
}

/// The books of two runs are the same, and those of the processor agree with the counters.
#[test]
fn the_demo_of_cards_prints_the_same_books_twice() {
    let began = std::time::Instant::now();
    let books = [0, 1].map(|_| {
        let output = x402(&["demo", "card", "--json"], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out(&output).lines().last().unwrap().to_owned()
    });
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(books[0], books[1]);
    let done: Value = serde_json::from_str(&books[0]).unwrap();
    // Two purchases for four reports of three credits; the declined cards, the limit and the revoked delegation cost nothing.
    let wanted = r#"{"step":"done","cardDebits":[700,700],"sellerReceived":1366,"platformFee":34,"credits":8,"spentCents":"1400","charges":2}"#;
    assert_eq!(done, serde_json::from_str::<Value>(wanted).unwrap());
    let people = x402(&["demo", "card"], "");
    assert!(people.status.success() && out(&people).contains("CARD_DECLINED"));
}

/// A `PAYMENT-REQUIRED` header of the TypeScript SDK 2.27, recorded.
fn recorded() -> (String, Value) {
    let vector = include_str!("../../x402-testkit/vectors/messages/v2-payment-required.json");
    let vector: Value = serde_json::from_str(vector).unwrap();
    (vector["header"].as_str().unwrap().to_owned(), vector["json"].clone())
}

#[test]
fn a_recorded_header_is_decoded_and_written_again() {
    let (header, json) = recorded();
    let decoded = x402(&["decode", "--header", "PAYMENT-REQUIRED", &header], "");
    assert!(decoded.status.success());
    assert_eq!(serde_json::from_str::<Value>(&out(&decoded)).unwrap(), json);
    let encoded = x402(&["encode", "--header", "payment-required", "-"], &out(&decoded));
    assert_eq!(out(&encoded).trim(), header);
}

#[test]
fn what_cannot_be_decoded_is_refused_with_code_and_place() {
    for (arguments, input, code, at) in [
        (&["decode", "%%%"][..], "", "invalid_base64", "byte 0"),
        (&["decode"], "e30=\n", "", ""),
        (&["decode", "--header", "PAYMENT-SIGNATURE", "e30="], "", "missing_field", "$.x402Version"),
        (&["decode", "--header", "PAYMENT-REQUIRED", r#"{"x402Version":2}"#], "", "missing_field", "$.accepts"),
        (&["encode", r#"{"a":1,"a":2}"#], "", "duplicate_key", "$.a"),
    ] {
        let output = x402(arguments, input);
        if code.is_empty() {
            assert_eq!((output.status.code(), out(&output).trim()), (Some(0), "{}"));
            continue;
        }
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""), "{arguments:?}");
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((said["code"].as_str(), said["at"].as_str()), (Some(code), Some(at)), "{said}");
        assert!(said["message"].is_string());
    }
    assert_eq!(x402(&["decode", "--header", "PAYMENT"], "").status.code(), Some(2));
}

#[test]
fn a_new_key_goes_to_a_file_of_its_owner_and_only_once() {
    let directory = std::env::temp_dir().join(format!("x402-keys-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("key");
    let name = path.to_str().unwrap();
    let output = x402(&["keys", "new", "--out", name], "");
    let key = std::fs::read_to_string(&path).unwrap();
    let signer: alloy_signer_local::PrivateKeySigner = key.trim().parse().unwrap();
    assert_eq!(out(&output).trim(), signer.address().to_string());
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) & 0o777, 0o600);
    assert_eq!(x402(&["keys", "new", "--out", name], "").status.code(), Some(2));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn pay_says_what_it_lacks() {
    let output = Command::new(env!("CARGO_BIN_EXE_x402"))
        .args(["pay", "http://127.0.0.1:9/"])
        .env_remove("X402_PRIVATE_KEY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("X402_PRIVATE_KEY"));
}

// A transaction that the TypeScript SDK's facilitator settled: `x402-testkit/vectors/extensions.md`.
#[test]
fn builder_codes_are_read_out_of_calldata() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/extensions.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
    let settled = &vectors["builder-code.settleTransactions"][0];
    let input = settled["transaction"]["input"].as_str().unwrap();
    let read = x402(&["decode", "--calldata", input], "");
    let codes: Value = serde_json::from_str(&out(&read)).unwrap();
    let parsed = &settled["suffixParsed"];
    assert_eq!((&codes["app"], &codes["wallet"], &codes["services"]), (&parsed["a"], &parsed["w"], &parsed["s"]));
    assert_eq!(out(&x402(&["decode", "--calldata"], input)), out(&read), "from standard input");
    for bad in ["0x12345678", "0x123", "zz", ""] {
        let refused = x402(&["decode", "--calldata", bad], "");
        assert_eq!((refused.status.code(), out(&refused)), (Some(1), String::new()), "{bad}");
    }
}

#[test]
fn the_linters_page_is_served_with_a_strict_policy_and_nothing_else_is() {
    use std::io::{BufRead, BufReader, Read};

    let folder = std::env::temp_dir().join(format!("x402-page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let serve = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
        command.args(["lint", "--serve"]).arg(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    // A folder without the page is named, with the command that makes it.
    let output = serve().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("npm/x402-validate/page/build"));

    for name in ["index.html", "page.css", "page.mjs", "linter.mjs", "x402_validate.wasm", "secret.txt"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    let mut child = serve().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    let address = listening["listening"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = get("/");
    let policy =
        "content-security-policy: default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; ";
    assert!(page.starts_with("HTTP/1.1 200") && page.contains(policy) && page.ends_with("index.html"), "{page}");
    assert!(get("/x402_validate.wasm").contains("content-type: application/wasm"));
    for path in ["/secret.txt", "/../Cargo.toml", "/index.html"] {
        assert!(get(path).starts_with("HTTP/1.1 404"), "{path}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
