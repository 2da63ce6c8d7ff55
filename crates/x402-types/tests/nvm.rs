//! The documents of the Smart Accounts Extension, 0.2 and 0.3: `crates/x402-testkit/vectors/nvm`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

#[path = "common/edit.rs"]
mod edit;

use edit::set;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use x402_types::nvm::{
    self, AccessToken, Authorization, Code, ErrorResponse, FacilitatorRequest, Operation, Payload, PaymentPayload,
    PaymentRequired, Receipt, Requirements, StatementVersion, VerdictResponse, payment_key,
};
use x402_types::{AtomicAmount, Entry, ErrorReason, Identity, RawJson, SchemeName};

fn vector(name: &str) -> Value {
    serde_json::from_str(&x402_testkit::vector(format!("nvm/{name}.json")).unwrap()).unwrap()
}

fn document(name: &str) -> Value {
    let mut vector = vector(name);
    let filled = vector["filled"].take();
    if filled.is_null() { vector["json"].take() } else { filled }
}

fn raw(value: &Value) -> RawJson {
    RawJson::parse(value.to_string()).unwrap()
}

fn rewrite<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<T>(&value.to_string()).map(|message| serde_json::to_value(message).unwrap())
}

fn payment(value: &Value) -> Result<PaymentPayload, (ErrorReason, String)> {
    PaymentPayload::from_raw(&raw(value)).map_err(|r| (r.reason, r.message.unwrap_or_default().into()))
}

fn refused(value: &Value) -> (ErrorReason, String) {
    payment(value).map_or_else(|refused| refused, |read| panic!("read: {read:?}"))
}

/// "Each complete JSON example of both documents parses and re-encodes to the same JSON (receipts gain `transaction`);
/// those with placeholders stand filled in beside the original."
#[test]
fn every_example_is_read_and_written_again() {
    let folder = x402_testkit::vectors().join("nvm");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        seen += 1;
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let kind = vector(&name)["type"].as_str().unwrap().to_owned();
        let mut expected = document(&name);
        let read = expected.clone();
        if kind == "nvm::Receipt" {
            let hash = read.get("transactionHash").or_else(|| read.get("transaction")).cloned();
            set(&mut expected, "/transaction", hash.clone());
            set(&mut expected, "/transactionHash", hash);
        }
        // The document's name for the token is written, whichever was read.
        if kind == "nvm::FacilitatorRequest" {
            let token = expected["x402AccessToken"].take();
            set(&mut expected, "/x402AccessToken", None);
            set(&mut expected, "/paymentPayload", Some(token));
        }
        let written = match kind.as_str() {
            "nvm::PaymentRequired" => rewrite::<PaymentRequired>(&read),
            "nvm::PaymentPayload" => rewrite::<PaymentPayload>(&read),
            "nvm::Receipt" => rewrite::<Receipt>(&read),
            "nvm::Verdict" => rewrite::<VerdictResponse>(&read),
            "nvm::ErrorResponse" => rewrite::<ErrorResponse>(&read),
            "nvm::FacilitatorRequest" => rewrite::<FacilitatorRequest>(&read),
            other => panic!("no type {other}"),
        };
        assert_eq!(written.unwrap(), expected, "{name}");
    }
    assert_eq!(seen, 10);
    for original in ["payment-response", "error-response"] {
        let json = vector(original)["json"].take();
        let text = json.to_string();
        assert!(text.contains("0x..."), "{original}");
        let written =
            if original == "error-response" { rewrite::<ErrorResponse>(&json) } else { rewrite::<Receipt>(&json) };
        assert_eq!(written.unwrap()["transaction"].is_null(), original == "error-response");
    }
    // Its placeholders are no keys and no signature.
    assert!(rewrite::<PaymentPayload>(&vector("payment-payload-v0.2")["json"]).is_err());
}

#[test]
fn the_documents_payment_says_who_pays_with_what() {
    let read = payment(&document("payment-payload")).unwrap();
    let PaymentPayload::V03(payment) = &read else { panic!("not 0.3") };
    let payload = Payload::from_raw(&payment.payload).unwrap();
    assert_eq!(payload.signature().len(), 86);
    let authorization = payload.authorization();
    assert_eq!(authorization.from().unwrap().to_string(), "0xD4f58B60330bC59cB0A07eE6A1A66ad64244eC8c");
    assert_eq!((authorization.provider(), authorization.version()), ("zerodev", StatementVersion::V2));
    // "`0x` + 64 hex in `data` is taken as a hash, as real payloads have it".
    let key = authorization.key(Operation::Order).unwrap();
    let hash = "0x20a13d82dd9ee289fc5e5a90f4011c8dc03f8f5d5223aafd6b5cd67e3b1ab425";
    assert_eq!((key.id(), key.data(), const_hex::encode_prefixed(key.hash()).as_str()), ("order", None, hash));
    assert!(authorization.key(Operation::Redeem).is_some());

    let required: PaymentRequired = serde_json::from_value(document("payment-required")).unwrap();
    let terms = required.offered().next().unwrap().to_terms(AtomicAmount::from(5)).unwrap();
    assert!(read.is_for(&terms));
    assert_eq!(terms.asset, "44742763076047497640080230236781474129970992727896593861997347135613135571071");
    let claim = read.clone().into_claim(terms);
    assert_eq!(claim.to_payment(), Entry::Opaque(RawJson::of(&read).unwrap()));
}

#[test]
fn the_old_form_is_read_into_the_same_claim() {
    let read = payment(&document("payment-payload-v0.2")).unwrap();
    let PaymentPayload::V02(old) = &read else { panic!("not 0.2") };
    assert_eq!(old.network().unwrap().as_str(), "eip155:84532");
    let required: PaymentRequired = serde_json::from_value(document("payment-required")).unwrap();
    let terms = required.offered().next().unwrap().to_terms(AtomicAmount::from(5)).unwrap();
    assert!(read.is_for(&terms));
    let claim = read.into_claim(terms.clone());
    assert_eq!(claim.terms, terms);
    let payload = Payload::from_raw(&claim.payload).unwrap();
    let authorization = payload.authorization();
    // "`provider` is read as `sessionKeysProvider`"; the account is that of the approvals.
    assert_eq!((authorization.provider(), authorization.from()), ("zerodev", None));
    assert!(authorization.key(Operation::Order).unwrap().data().is_some());
    assert_eq!(authorization.key(Operation::Redeem).unwrap().data(), None);

    // "networks by name table there, CAIP-2 only in v0.3"
    let mut caip = document("payment-payload-v0.2");
    set(&mut caip, "/network", Some(json!("eip155:84532")));
    assert_eq!(refused(&caip).0, Code::UnsupportedNetwork.reason());
    let mut scheme = document("payment-payload-v0.2");
    set(&mut scheme, "/scheme", Some(json!("upto")));
    assert_eq!(refused(&scheme).0, Code::InvalidPayload.reason());
    // "v0.2: struct v2": a nonce there binds nothing.
    let mut nonce = document("payment-payload-v0.2");
    set(&mut nonce, "/extensions/smart-account/authorization/nonce", Some(json!("0xab")));
    assert!(payment(&nonce).is_ok());
}

#[test]
fn what_makes_a_document_one_of_this_extension() {
    let example = document("payment-payload");
    assert!(nvm::is_payment(&raw(&example)));
    assert!(nvm::is_payment(&raw(&document("payment-payload-v0.2"))));
    assert!(nvm::is_required(&raw(&document("payment-required"))));
    for sign in [
        json!({"accepted": {"scheme": "nvm:erc4337"}}),
        json!({"scheme": "nvm:erc4337"}),
        json!({"accepted": {"scheme": "exact", "planId": "1"}}),
        json!({"payload": {"authorization": {"sessionKeys": []}}}),
        json!({"extensions": {"smart-account": {}}}),
    ] {
        assert!(nvm::is_payment(&raw(&sign)), "{sign}");
    }
    assert!(nvm::is_required(&raw(&json!({"accepts": [{"scheme": "exact"}, {"planId": "1"}]}))));
    for other in
        [json!({"accepted": {"scheme": "exact"}}), json!([]), json!(null), json!({"payload": {"authorization": {}}})]
    {
        assert!(!nvm::is_payment(&raw(&other)), "{other}");
        assert!(!nvm::is_required(&raw(&other)), "{other}");
    }
    for name in ["v2-payment-payload", "v1-payment-payload"] {
        let text = x402_testkit::vector(format!("messages/{name}.json")).unwrap();
        let json = serde_json::from_str::<Value>(&text).unwrap()["json"].take();
        assert!(!nvm::is_payment(&raw(&json)), "{name}");
    }
}

/// "Absent `error` or `extensions` is read; any other missing field is refused."
#[test]
fn a_missing_field_is_refused() {
    for pointer in ["/error", "/extensions", "/resource/description", "/accepts/0/extra/agentId"] {
        let mut required = document("payment-required");
        set(&mut required, pointer, None);
        assert!(rewrite::<PaymentRequired>(&required).is_ok(), "{pointer}");
    }
    for pointer in [
        "/x402Version",
        "/resource",
        "/resource/url",
        "/accepts",
        "/accepts/0/scheme",
        "/accepts/0/network",
        "/accepts/0/planId",
        "/accepts/0/extra",
        "/accepts/0/extra/version",
    ] {
        let mut required = document("payment-required");
        set(&mut required, pointer, None);
        assert!(rewrite::<PaymentRequired>(&required).is_err(), "{pointer}");
    }
    for pointer in ["/extensions", "/resource"] {
        let mut json = document("payment-payload");
        set(&mut json, pointer, None);
        assert!(payment(&json).is_ok(), "{pointer}");
    }
    for pointer in [
        "/x402Version",
        "/accepted",
        "/accepted/scheme",
        "/accepted/network",
        "/accepted/planId",
        "/accepted/extra",
        "/accepted/extra/version",
        "/payload",
        "/payload/signature",
        "/payload/authorization",
        "/payload/authorization/from",
        "/payload/authorization/sessionKeysProvider",
        "/payload/authorization/sessionKeys",
    ] {
        let mut json = document("payment-payload");
        set(&mut json, pointer, None);
        assert_eq!(refused(&json).0, Code::InvalidPayload.reason(), "{pointer}");
    }
    for pointer in [
        "/scheme",
        "/network",
        "/payload",
        "/extensions/smart-account/signature",
        "/extensions/smart-account/authorization/provider",
        "/extensions/smart-account/authorization/sessionKeys",
    ] {
        let mut json = document("payment-payload-v0.2");
        set(&mut json, pointer, None);
        let reason = refused(&json).0;
        let network = pointer == "/network";
        assert!(reason == Code::InvalidPayload.reason() || network, "{pointer}: {reason}");
    }
}

#[test]
fn a_signature_has_one_spelling() {
    for bad in ["", "0x", "00", "0X00", "0x0x00", "0x0", "0xzz"] {
        let mut json = document("payment-payload");
        set(&mut json, "/payload/signature", Some(bad.into()));
        assert_eq!(refused(&json).0, Code::InvalidPayload.reason(), "{bad}");
    }
}

/// §5.1 in the order of the decisions: version, scheme, network, shape.
#[test]
fn the_first_fault_decides_the_code() {
    let change = |changes: &[(&str, Value)]| {
        let mut json = document("payment-payload");
        for (pointer, value) in changes {
            set(&mut json, pointer, Some(value.clone()));
        }
        refused(&json)
    };
    let (network, shape) = (("/accepted/network", json!("base-sepolia")), ("/payload/signature", json!(7)));
    assert_eq!(change(&[network.clone(), shape.clone()]).0, Code::UnsupportedNetwork.reason());
    let (code, message) = change(&[("/accepted/scheme", json!("exact")), network.clone(), shape.clone()]);
    assert_eq!(code, Code::InvalidPayload.reason());
    assert!(message.starts_with("accepted.scheme"), "{message}");
    let (_, message) = change(&[("/x402Version", json!(1)), ("/accepted/scheme", json!("exact")), network, shape]);
    assert!(message.starts_with("x402Version"), "{message}");
}

#[test]
fn session_keys_that_contradict_each_other_are_refused() {
    let keys = |keys: Value| {
        let mut json = document("payment-payload");
        set(&mut json, "/payload/authorization/sessionKeys", Some(keys));
        payment(&json).map(|_| ())
    };
    let hash = "0x68e8e34d659149087451cafc89a7320114072e49fd89657ccba14cad82c0a533";
    // keccak256("abcd"), from an independent implementation.
    let abcd = "0x48bed44d1bcd124a28c27f343a817e5f5243190d3c52bf347daf876de1dbbf77";
    for good in [
        json!([{"id": "redeem", "data": "abcd"}]),
        json!([{"id": "redeem", "hash": hash}]),
        json!([{"id": "redeem", "data": hash, "hash": hash}]),
        json!([{"id": "redeem", "data": "abcd", "hash": abcd}]),
        json!([{"id": "burn", "hash": hash}, {"id": "order", "hash": hash}, {"id": "other", "hash": hash}]),
        // Whether a key to redeem is there is a verdict, not a form.
        json!([{"id": "order", "hash": hash}]),
    ] {
        assert_eq!(keys(good.clone()), Ok(()), "{good}");
    }
    for bad in [
        json!([]),
        json!({}),
        json!([{"data": "abcd"}]),
        json!([{"id": "redeem"}]),
        json!([{"id": "", "hash": hash}]),
        json!([{"id": "redeem", "data": ""}]),
        json!([{"id": "redeem", "hash": "0x12"}]),
        json!([{"id": "redeem", "hash": &hash[2..]}]),
        json!([{"id": "redeem", "data": "abcd", "hash": hash}]),
        json!([{"id": "redeem", "hash": hash}, {"id": "redeem", "hash": abcd}]),
        json!([{"id": "other", "hash": hash}, {"id": "other", "hash": abcd}]),
        json!([{"id": "redeem", "hash": hash}, {"id": "burn", "hash": hash}]),
    ] {
        assert_eq!(keys(bad.clone()).unwrap_err().0, Code::InvalidPayload.reason(), "{bad}");
    }
}

/// "v3 exactly when `payload.authorization.nonce` is a non-blank string".
#[test]
fn the_statements_version_is_detected() {
    let nonce = format!("0x{}", "ab".repeat(32));
    let with = |nonce: Value, url: Option<&str>| {
        let mut json = document("payment-payload");
        set(&mut json, "/payload/authorization/nonce", Some(nonce));
        set(&mut json, "/payload/authorization/resourceUrl", url.map(|url| json!(url)));
        payment(&json).map(|payment| Payload::from_raw(payment.payload()).unwrap())
    };
    for blank in [json!(null), json!(7), json!(""), json!("  "), json!({}), json!(true)] {
        assert_eq!(with(blank.clone(), None).unwrap().authorization().version(), StatementVersion::V2, "{blank}");
    }
    let payload = with(json!(nonce), Some("/x")).unwrap();
    assert_eq!(
        payload.authorization().proof().map(|proof| const_hex::encode_prefixed(proof.nonce)),
        Some(nonce.clone())
    );
    for (bad, url) in [(json!("0xab"), Some("/x")), (json!(&nonce[2..]), Some("/x")), (json!(nonce), None)] {
        assert_eq!(with(bad.clone(), url).unwrap_err().0, Code::InvalidPayload.reason(), "{bad} {url:?}");
    }
}

#[test]
fn one_authorization_has_one_key() {
    let required: PaymentRequired = serde_json::from_value(document("payment-required")).unwrap();
    let terms = required.offered().next().unwrap().to_terms(AtomicAmount::from(5)).unwrap();
    let claim = |json: &Value, request: &str| {
        let mut claim = payment(json).unwrap().into_claim(terms.clone());
        claim.identity = Identity::new("shop", request.to_owned());
        payment_key(&claim).unwrap()
    };
    // A bearer token pays for many requests.
    let bearer = document("payment-payload");
    assert_eq!(claim(&bearer, "1"), claim(&bearer, "1"));
    assert_ne!(claim(&bearer, "1"), claim(&bearer, "2"));
    // A nonce is spent once, whoever asks and whatever else stands beside it.
    let mut bound = document("payment-payload");
    set(&mut bound, "/payload/authorization/nonce", Some(json!(format!("0x{}", "AB".repeat(32)))));
    set(&mut bound, "/payload/authorization/resourceUrl", Some(json!("/x")));
    let mut other = bound.clone();
    set(&mut other, "/payload/authorization/nonce", Some(json!(format!("0x{}", "ab".repeat(32)))));
    set(&mut other, "/payload/signature", Some(json!("0x00")));
    assert_eq!(claim(&bound, "1"), claim(&other, "2"));
    assert_ne!(claim(&bound, "1"), claim(&bearer, "1"));
}

#[test]
fn entries_of_both_kinds_stand_in_one_document() {
    let mut required = document("payment-required");
    let exact = json!({"scheme": "exact", "network": "eip155:84532", "amount": "1",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"});
    required["accepts"].as_array_mut().unwrap().insert(0, exact);
    let ours: PaymentRequired = serde_json::from_value(required.clone()).unwrap();
    assert!(matches!(ours.accepts.as_slice(), [Entry::Opaque(_), Entry::Known(_)]));
    assert_eq!(serde_json::to_value(&ours).unwrap(), required);
    let any: x402_types::PaymentRequired = serde_json::from_value(required).unwrap();
    let terms = any.terms();
    assert_eq!([&terms[0].scheme, &terms[1].scheme], [&SchemeName::EXACT, &SchemeName::NVM_ERC4337]);
    let entry = Requirements::try_from(&terms[1]).unwrap();
    assert_eq!(entry.extra.http_verb.as_deref(), Some("POST"));
    assert!(matches!(terms[1].to_entry(), Entry::Opaque(raw) if raw.same(&RawJson::of(&entry).unwrap())));
}

#[test]
fn what_the_payer_adds_to_the_entry_is_accepted_and_what_it_takes_away_is_not() {
    let network = "eip155:84532".parse().unwrap();
    let asked = Requirements::new(network, "7".parse().unwrap());
    let answered = asked.clone().with_verb("post");
    assert!(asked.is_accepted_by(&answered));
    assert!(!answered.is_accepted_by(&asked));
    assert!(!asked.is_accepted_by(&Requirements::new(network, "8".parse().unwrap())));
    assert!(!asked.is_accepted_by(&Requirements::new("eip155:8453".parse().unwrap(), "7".parse().unwrap())));
}

#[test]
fn a_request_to_a_facilitator_has_one_token() {
    let read = |token: &str, value: Value| {
        let mut body = json!({"paymentRequired": document("payment-required"), "maxAmount": "5"});
        body[token] = value;
        serde_json::from_str::<FacilitatorRequest>(&body.to_string())
    };
    assert_eq!(read("paymentPayload", json!("e30")).unwrap().token, AccessToken::Base64("e30".to_owned()));
    assert_eq!(read("x402AccessToken", json!("e30")).unwrap().token, AccessToken::Base64("e30".to_owned()));
    assert!(matches!(read("paymentPayload", json!({"a": 1})).unwrap().token, AccessToken::Json(_)));
    assert!(read("x402AccessToken", json!({"a": 1})).is_err());
    assert!(read("other", json!("e30")).is_err());
    let both = json!({"paymentRequired": document("payment-required"), "paymentPayload": "a", "x402AccessToken": "b"});
    assert!(serde_json::from_str::<FacilitatorRequest>(&both.to_string()).is_err());
    assert!(FacilitatorRequest::is_one(&raw(&both)));
    assert!(!FacilitatorRequest::is_one(&raw(&json!({"paymentRequirements": {}}))));
    for bad in [json!(5), json!("-1"), json!("1.5")] {
        let mut body = json!({"paymentRequired": document("payment-required"), "paymentPayload": "a"});
        body["maxAmount"] = bad;
        assert!(serde_json::from_str::<FacilitatorRequest>(&body.to_string()).is_err());
    }
}

#[test]
fn a_receipt_has_one_transaction() {
    let differ = json!({"success": true, "transaction": "0x01", "transactionHash": "0x02", "network": "eip155:1"});
    assert!(serde_json::from_str::<Receipt>(&differ.to_string()).is_err());
    let receipt: Receipt = serde_json::from_value(document("sdk-settle-response")).unwrap();
    assert_eq!(receipt.credits_redeemed, Some(AtomicAmount::from(2)));
    let response = x402_types::v2::SettleResponse::from(receipt.clone());
    assert_eq!(Receipt::from_response(&response).unwrap(), receipt);
    assert_eq!(response.transaction, receipt.transaction);
}

#[test]
fn keys_are_not_shown() {
    let authorization =
        Authorization::new([7_u8; 20], "zerodev", vec![nvm::SessionKey::with_data("redeem", "c2VjcmV0")]).unwrap();
    assert!(!format!("{authorization:?}").contains("c2VjcmV0"));
}
