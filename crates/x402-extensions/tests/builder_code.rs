//! The extension `builder-code` against values recorded from the published TypeScript SDK, among them transactions that it
//! settled on a chain: `x402-testkit/vectors/extensions.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::{Value, json};
use x402_extensions::builder_code::{
    BuilderCode, BuilderCodes, FacilitatorCodes, PayerCodes, SellerCodes, TooManyCodes,
};
use x402_types::extension::{Extensions, Moment, Required, echo};
use x402_types::v2::ResourceInfo;
use x402_types::{Claim, ErrorReason, Extension, Members, RawJson, Refusal, SigningContext, Terms, UnixSeconds};

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn bytes(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().trim_start_matches("0x");
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn code(text: &Value) -> Option<BuilderCode> {
    text.as_str().map(|text| text.parse().unwrap())
}

/// The codes of a recorded object `{a?, w?, s?}`.
fn codes(data: &Value) -> BuilderCodes {
    let mut codes = BuilderCodes::default();
    (codes.app, codes.wallet) = (code(&data["a"]), code(&data["w"]));
    codes.services = data["s"].as_array().unwrap_or(&Vec::new()).iter().map(|text| code(text).unwrap()).collect();
    codes
}

#[test]
fn suffixes_are_the_sdk_s_byte_for_byte() {
    let all = vectors();
    for case in all["builder-code.encode"].as_array().unwrap() {
        let codes = codes(&case["data"]);
        assert_eq!(codes.to_suffix(), bytes(&case["suffix"]), "{}", case["index"]);
        let calldata = [&[0x12, 0x34][..], &codes.to_suffix()].concat();
        assert_eq!(BuilderCodes::of_calldata(&calldata), Some(codes));
    }
}

#[test]
fn a_facilitator_writes_the_suffix_that_the_sdk_s_writes() {
    for case in vectors()["builder-code.facilitatorSuffix"].as_array().unwrap() {
        let extensions: Members = serde_json::from_value(match &case["extensions"] {
            Value::Null => json!({}),
            echoed => echoed.clone(),
        })
        .unwrap();
        let (wallet, service) = (code(&case["config"]["builderCode"]), code(&case["config"]["serviceCode"]));
        let codes = BuilderCodes::echoed(&extensions).with_facilitator(wallet.as_ref(), service.as_ref());
        match case["dataSuffix"].as_str() {
            Some(_) => assert_eq!(codes.to_suffix(), bytes(&case["dataSuffix"]), "{}", case["id"]),
            None => assert!(codes.is_empty(), "{}", case["id"]),
        }
    }
}

#[test]
fn transactions_that_were_settled_are_read() {
    let all = vectors();
    let mut seen = 0;
    for case in all["builder-code.settleTransactions"].as_array().unwrap() {
        let read = BuilderCodes::of_calldata(&bytes(&case["transaction"]["input"]));
        let expected = case["suffixParsed"].is_object().then(|| codes(&case["suffixParsed"]));
        assert_eq!(read, expected, "{}", case["id"]);
        seen += usize::from(read.is_some());
    }
    assert_eq!(seen, 2);
    for case in all["builder-code.parse"].as_array().unwrap() {
        assert_eq!(BuilderCodes::of_calldata(&bytes(&case["calldata"])), None, "{}", case["id"]);
    }
}

#[test]
fn codes_have_the_sdk_s_limits() {
    for case in vectors()["builder-code.limits"].as_array().unwrap() {
        let Some(text) = case["input"].as_str() else { continue };
        assert_eq!(text.parse::<BuilderCode>().is_ok(), case["result"] == "ok", "{text}");
    }
    for bad in ["", "A", "a-b", "a b", "é", "a\n"] {
        assert!(bad.parse::<BuilderCode>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_suffix_that_is_cut_or_written_otherwise_is_none() {
    let mut whole = BuilderCodes::default();
    whole.app = Some("bc_myapp".parse().unwrap());
    whole.services = vec!["svc_one".parse().unwrap(), "a_code_of_24_characters_".parse().unwrap()];
    let suffix = whole.to_suffix();
    assert_eq!(BuilderCodes::of_calldata(&suffix), Some(whole));
    for at in 1..suffix.len() {
        let cut = &suffix[at..];
        assert_eq!(BuilderCodes::of_calldata(cut), None, "{at}");
        assert_eq!(BuilderCodes::of_calldata(&suffix[..at]), None, "{at}");
    }
    for at in 0..suffix.len() {
        for bit in 0..8 {
            let mut changed = suffix.clone();
            changed[at] ^= 1 << bit;
            if let Some(codes) = BuilderCodes::of_calldata(&changed) {
                assert!(changed.ends_with(&codes.to_suffix()), "{at} {bit}");
            }
        }
    }
    let with_map = |map: &[u8]| {
        let length = u16::try_from(map.len()).unwrap().to_be_bytes();
        [map, &length, &[2], &[0x80, 0x21].repeat(8)].concat()
    };
    // Another order of keys, a key twice, an unknown key, a long form of a short length, a code that is none, too many.
    for map in [
        b"\xa2\x61w\x61x\x61a\x61y".to_vec(),
        b"\xa2\x61a\x61x\x61a\x61y".to_vec(),
        b"\xa1\x61z\x61x".to_vec(),
        b"\xa1\x61a\x78\x01x".to_vec(),
        b"\xa1\x61a\x61X".to_vec(),
        b"\xb8\x01\x61a\x61x".to_vec(),
        b"\xa1\x61s\x80".to_vec(),
        b"\xbf\x61a\x61x\xff".to_vec(),
        [b"\xa1\x61s\x8c".to_vec(), b"\x61x".repeat(12)].concat(),
        b"\xa1\x61a\x61x\x00".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(BuilderCodes::of_calldata(&with_map(&map)), None, "{map:?}");
    }
}

fn list(codes: &[&str]) -> Vec<BuilderCode> {
    codes.iter().map(|code| code.parse().unwrap()).collect()
}

fn seller(services: &[&str]) -> SellerCodes {
    SellerCodes::new("bc_myapp".parse().unwrap()).with_services(list(services)).unwrap()
}

fn declared(seller: &SellerCodes) -> RawJson {
    let resource = ResourceInfo::of("https://api.example.com/bc");
    seller.declare(&Required::new(&resource, &[], Moment::at(UnixSeconds(0)))).unwrap()
}

#[test]
fn a_seller_declares_what_the_sdk_s_seller_declares() {
    let emitted = &vectors()["builder-code.serverEmits"][0]["paymentRequired"]["extensions"]["builder-code"];
    assert_eq!(declared(&seller(&["svc_one"])).as_str(), emitted.to_string());
    let plain: Value = declared(&seller(&[])).read().unwrap();
    assert_eq!(plain["info"], json!({"a": "bc_myapp"}));
    let six = list(&["a", "b", "c", "d", "e", "f"]);
    assert_eq!(SellerCodes::new("a".parse().unwrap()).with_services(six.clone()), Err(TooManyCodes));
    assert_eq!(PayerCodes::new(six), Err(TooManyCodes));
}

async fn completed(declaration: &RawJson, codes: &[&str]) -> Value {
    let payer = PayerCodes::new(list(codes)).unwrap();
    let url = "https://api.example.com/bc";
    let context = SigningContext { now: UnixSeconds(0), entropy: [0; 32], url, method: "GET" };
    let terms: Terms = serde_json::from_value(json!({"version": 2, "scheme": "exact", "network": "eip155:84532",
        "amount": "1", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "pay_to": "0x1", "max_timeout_seconds": 60,
        "extra": {}}))
    .unwrap();
    let additions = payer.complete(&echo::info(declaration).unwrap(), &terms, &context).await.unwrap();
    echo::echoed(declaration, &additions).read().unwrap()
}

#[tokio::test]
async fn a_payer_puts_its_codes_before_the_seller_s_as_the_sdk_does() {
    let all = vectors();
    for (services, recorded) in
        [(&["svc_one"][..], "builder-code.clientEcho"), (&[], "builder-code.clientEchoNoServerServices")]
    {
        let echoed = completed(&declared(&seller(services)), &["cli_one", "cli_two"]).await;
        assert_eq!(echoed["info"], all[recorded]["extensions"]["builder-code"]["info"], "{recorded}");
    }
    // What a server declared in another form stays as it is.
    let odd = RawJson::of(&json!({"info": {"a": "x", "s": "one"}})).unwrap();
    assert_eq!(completed(&odd, &["two"]).await["info"]["s"], "one");
}

fn claim(extensions: &Value) -> Claim {
    let terms: Terms = serde_json::from_value(json!({"version": 2, "scheme": "exact", "network": "eip155:84532",
        "amount": "1", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "pay_to": "0x1", "max_timeout_seconds": 60,
        "extra": {}}))
    .unwrap();
    Claim::of_payload(terms, RawJson::of(&json!({})).unwrap())
        .with_extensions(serde_json::from_value(extensions.clone()).unwrap())
}

/// The rules of the published SDK's server for the echo of this extension, recorded from it.
#[tokio::test]
async fn an_echo_is_taken_or_refused_as_the_sdk_does() {
    let ten: Vec<String> = (0..9).map(|at| format!("c{at}")).chain(["svc_one".into()]).collect();
    let eleven: Vec<String> = (0..10).map(|at| format!("c{at}")).chain(["svc_one".into()]).collect();
    let mut extensions = Extensions::new();
    extensions.register(std::sync::Arc::new(seller(&["svc_one"])));
    let mut declarations = Members::new();
    declarations.insert("builder-code", declared(&seller(&["svc_one"])));
    for (echoed, taken) in [
        (json!({}), true),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": ["svc_one"]}}}), true),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": ["mine", "svc_one", "mine"]}}}), true),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": "svc_one"}}}), true),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": ten}}}), true),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": eleven}}}), false),
        (json!({"builder-code": {"info": {"a": "bc_myapp"}}}), false),
        (json!({"builder-code": {"info": {"a": "bc_myapp", "s": ["mine"]}}}), false),
        (json!({"builder-code": {"info": {"a": "other", "s": ["svc_one"]}}}), false),
        (json!({"builder-code": {"info": {"s": ["svc_one"]}}}), false),
        (json!({"builder-code": null}), false),
    ] {
        let claim = claim(&echoed);
        let compared = extensions.compare(&declarations, &claim).map_err(Refusal::from);
        let result = match compared {
            Ok(()) => extensions.on_claim(&claim).await.map(drop),
            refused => refused,
        };
        match result {
            Ok(()) => assert!(taken, "{echoed}"),
            Err(Refusal::Rejection(why)) => {
                assert_eq!((taken, why.reason), (false, ErrorReason::EXTENSION_ECHO_MISMATCH), "{echoed}");
            }
            Err(fault) => panic!("{fault:?}"),
        }
    }
}

#[tokio::test]
async fn the_recorded_echoes_of_codes_pass_or_fail() {
    let all = vectors();
    let advertised = &all["echoRules.route"]["advertisedExtensions"]["builder-code"];
    let mut extensions = Extensions::new();
    extensions.register(std::sync::Arc::new(seller(&["svc_one"])));
    let mut declarations = Members::new();
    declarations.insert("builder-code", RawJson::of(advertised).unwrap());
    let mut seen = 0;
    for case in all["echoRules.cases"].as_array().unwrap().iter().filter(|case| case["route"] == "/all") {
        let id = case["id"].as_str().unwrap();
        if !id.starts_with("bc_") {
            continue;
        }
        let claim = claim(&json!({"builder-code": case["extensions"]["builder-code"]}));
        let taken = extensions.compare(&declarations, &claim).is_ok() && extensions.on_claim(&claim).await.is_ok();
        assert_eq!(taken, case["error"].is_null(), "{id}");
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn a_facilitator_s_suffix_is_of_the_claim() {
    for case in vectors()["builder-code.facilitatorSuffix"].as_array().unwrap() {
        let echoed = if case["extensions"].is_null() { json!({}) } else { case["extensions"].clone() };
        let mut codes = FacilitatorCodes::new();
        if let Some(wallet) = code(&case["config"]["builderCode"]) {
            codes = codes.with_wallet(wallet);
        }
        if let Some(service) = code(&case["config"]["serviceCode"]) {
            codes = codes.with_service(service);
        }
        let expected = if case["dataSuffix"].is_string() { bytes(&case["dataSuffix"]) } else { Vec::new() };
        assert_eq!(codes.suffix(&claim(&echoed)), expected, "{}", case["id"]);
    }
}
