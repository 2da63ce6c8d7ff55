//! Extensions against what the TypeScript SDK 2.27 does: `extensions.json`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::sync::Arc;

use serde_json::{Value, json};
use x402_types::extension::{Extensions, Moment, PaymentIdentifier, Required, echo};
use x402_types::v2::{PaymentPayload, PaymentRequirements, ResourceInfo};
use x402_types::{
    Claim, ErrorReason, Extension, Members, PaymentPayload as AnyPayload, RawJson, Refusal, Rejection, SigningContext,
    Terms, UnixSeconds,
};

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn raw(value: &Value) -> RawJson {
    RawJson::of(value).unwrap()
}

fn members(value: &Value) -> Members {
    serde_json::from_value(value.clone()).unwrap()
}

fn claim(extensions: &Value) -> Claim {
    let required = &vectors()["payment-identifier.serverEmits"][0]["paymentRequired"];
    let payment = json!({
        "x402Version": 2, "accepted": required["accepts"][0], "payload": {}, "extensions": extensions,
    });
    let payment: PaymentPayload = serde_json::from_value(payment).unwrap();
    Claim::new(Terms::from(&payment.accepted), AnyPayload::V2(payment))
}

/// What a server declares with this extension alone.
fn declared(extension: impl Extension + 'static) -> Members {
    let mut extensions = Extensions::new();
    extensions.register(Arc::new(extension));
    extensions.declared(&Required::new(
        &ResourceInfo::of("http://127.0.0.1:39714/pid"),
        &[],
        Moment::at(UnixSeconds(0)),
    ))
}

/// The name that a server with this extension gives the request.
async fn named(extension: PaymentIdentifier, value: &Value) -> Result<Option<String>, Rejection> {
    match extension.on_claim(&claim(&json!({ "payment-identifier": value }))).await {
        Err(Refusal::Rejection(rejection)) => Err(rejection),
        named => Ok(named.unwrap()),
    }
}

#[test]
fn the_declaration_is_that_of_the_sdk() {
    let recorded = &vectors()["payment-identifier.serverEmits"][0]["paymentRequired"]["extensions"];
    assert_eq!(serde_json::to_value(declared(PaymentIdentifier::optional())).unwrap(), *recorded);
    let required = declared(PaymentIdentifier::required());
    assert!(echo::is_required(required.get("payment-identifier").unwrap()));
    assert!(!echo::is_required(&raw(&recorded["payment-identifier"])));
}

#[tokio::test]
async fn the_echo_is_that_of_the_sdks_client() {
    let vectors = vectors();
    let declared = declared(PaymentIdentifier::optional());
    let recorded = &vectors["payment-identifier.clientEcho"];
    let mut additions = Members::new();
    additions.insert_text("id", "pay_0123456789abcdef");
    let echoed = echo::echoed(declared.get("payment-identifier").unwrap(), &additions);
    let echoed: Value = echoed.read().unwrap();
    assert_eq!(echoed, recorded["extensions"]["payment-identifier"]);
    // The id that this client makes has the form of theirs.
    let context = SigningContext { now: UnixSeconds(0), entropy: [0xc0; 32], url: "", method: "GET" };
    let info = echo::info(declared.get("payment-identifier").unwrap()).unwrap();
    let terms: Terms = serde_json::from_value::<PaymentRequirements>(json!({
        "scheme": "exact", "network": "eip155:84532", "amount": "1", "asset": "0x0", "payTo": "0x0", "maxTimeoutSeconds": 60,
        "extra": {},
    }))
    .unwrap()
    .into();
    let id = PaymentIdentifier::optional().complete(&info, &terms, &context).await.unwrap().text("id").unwrap();
    assert_eq!(id, format!("pay_{}", "c0".repeat(16)));
    let forms: Vec<_> =
        recorded["generatedExamples"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(forms.iter().all(|theirs| theirs.len() == id.len() && theirs.starts_with("pay_")), "{forms:?}");
}

#[tokio::test]
async fn an_id_is_16_to_128_of_the_alphabet() {
    for case in vectors()["payment-identifier.isValidPaymentId"].as_array().unwrap() {
        let id = case["input"].as_str().unwrap();
        assert_eq!(PaymentIdentifier::is_valid(id), case["result"].as_bool().unwrap(), "{id}");
        let named = named(PaymentIdentifier::optional(), &json!({"info": {"required": false, "id": id}})).await;
        assert_eq!(named.is_ok(), case["result"].as_bool().unwrap(), "{id}");
    }
    for (length, valid) in [(15, false), (16, true), (128, true), (129, false)] {
        assert_eq!(PaymentIdentifier::is_valid(&"a".repeat(length)), valid, "{length}");
    }
}

#[tokio::test]
async fn what_the_sdk_finds_invalid_is_refused() {
    for case in vectors()["payment-identifier.validate"].as_array().unwrap() {
        let value = json!({ "info": case["extension"] });
        let valid = |of: &str| case[of]["valid"].as_bool().unwrap();
        // Stricter than `requirementWhenOptional`, which takes a malformed id for none: its client counts on it.
        let optional = named(PaymentIdentifier::optional(), &value).await;
        assert_eq!(optional.is_ok(), valid("validatePaymentIdentifier"), "{case}");
        assert_eq!(optional.ok().flatten().as_deref(), case["extractAndValidate"]["id"].as_str(), "{case}");
        assert_eq!(
            named(PaymentIdentifier::required(), &value).await.is_ok(),
            valid("requirementWhenRequired"),
            "{case}"
        );
    }
}

#[tokio::test]
async fn a_refusal_has_its_own_code_and_status_400() {
    let required = PaymentIdentifier::required();
    for (value, code) in [
        (json!({"info": {"required": true}}), PaymentIdentifier::REQUIRED),
        (json!({"info": {"required": true, "id": null}}), PaymentIdentifier::REQUIRED),
        (json!(null), PaymentIdentifier::REQUIRED),
        (json!({"info": {"required": true, "id": "short"}}), PaymentIdentifier::MALFORMED),
        (json!({"info": {"required": true, "id": ["aaaaaaaaaaaaaaaa"]}}), PaymentIdentifier::MALFORMED),
        (json!({"info": 7}), PaymentIdentifier::MALFORMED),
        (json!("pay_0123456789abcdef"), PaymentIdentifier::MALFORMED),
        (json!([]), PaymentIdentifier::MALFORMED),
    ] {
        let rejection = named(required, &value).await.unwrap_err();
        assert_eq!((&rejection.reason, rejection.status), (&code, Some(400)), "{value}");
        assert!(rejection.message.unwrap().starts_with("extensions.payment-identifier"), "{value}");
    }
    assert_eq!(required.on_claim(&claim(&json!({}))).await.unwrap_err(), {
        let words = "extensions.payment-identifier.info.id: expected an id, found none";
        Rejection::new(PaymentIdentifier::REQUIRED).because(words).with_status(400).into()
    });
    // The info without its wrapper passes the echo, so its id counts.
    let bare = json!({"required": true, "id": "pay_0123456789abcdef"});
    assert_eq!(named(required, &bare).await.unwrap().unwrap(), "pay_0123456789abcdef");
}

/// An extension of which the server changes members with every request.
#[derive(Debug)]
struct Changing(&'static str, &'static [&'static str]);

impl Extension for Changing {
    fn name(&self) -> &str {
        self.0
    }
    fn not_compared(&self) -> &[&str] {
        self.1
    }
}

#[test]
fn the_recorded_echoes_pass_or_fail() {
    let vectors = vectors();
    let advertised = &vectors["echoRules.route"]["advertisedExtensions"];
    let mut extensions = Extensions::new();
    extensions.register(Arc::new(PaymentIdentifier::optional()));
    extensions.register(Arc::new(Changing("offer-receipt", &["offers"])));
    extensions.register(Arc::new(Changing("sign-in-with-x", &["nonce", "issuedAt", "expirationTime"])));
    let mut seen = 0;
    for case in vectors["echoRules.cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        // Builder codes may be added up to a number: a rule of that extension, which is not here.
        // And in the last case the amount is what is refused, before the echo is looked at.
        if ["bc_duplicate_codes", "bc_eleven_codes", "amount_and_echo_both_wrong"].contains(&id) {
            continue;
        }
        let declared = match case["route"].as_str() {
            Some("/all") => members(advertised),
            _ => members(&json!({"payment-identifier": advertised["payment-identifier"]})),
        };
        let compared = extensions.compare(&declared, &claim(&case["extensions"]));
        match case["error"].as_str() {
            None => assert_eq!(compared, Ok(()), "{id}"),
            Some(error) => {
                let Err(rejection) = compared else { panic!("{id}: {compared:?}") };
                assert_eq!(
                    (rejection.reason.as_str(), &rejection.reason),
                    (error, &ErrorReason::EXTENSION_ECHO_MISMATCH)
                );
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
    // What the SDK's client echoes by itself is what an echo without additions is.
    let echo = &vectors["echoRules.clientDefaultEcho"]["extensions"];
    for (name, declaration) in members(advertised).iter() {
        assert_eq!(echo::echoed(declaration, &Members::new()).read::<Value>().unwrap(), advertised[name]);
        assert!(echo.get(name).is_some(), "{name}");
    }
}

#[test]
fn members_are_compared_one_by_one_and_lists_as_a_whole() {
    let declaration = raw(&json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}]}, "n": 2.0}, "schema": {}}));
    for (echo, passes) in [
        (json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}]}, "n": 2}}), true),
        (json!({"a": {"b": 1, "c": [1, {"d": 2}]}, "n": 2.0}), true),
        (json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}], "more": true}, "n": 2, "more": null}}), true),
        (json!({"info": {"a": {"b": 1, "c": [1, {"d": 2, "e": 3}]}, "n": 2}}), false),
        (json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}, 3]}, "n": 2}}), false),
        (json!({"info": {"a": {"b": "1", "c": [1, {"d": 2}]}, "n": 2}}), false),
        (json!({"info": {"a": null, "n": 2}}), false),
        (json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}]}}}), false),
        (json!({"info": null}), false),
        (json!(null), false),
        (json!([]), false),
        (json!("a"), false),
    ] {
        let compared = echo::compare("x", &declaration, Some(&raw(&echo)), &[]);
        assert_eq!(compared.is_ok(), passes, "{echo}");
        if let Err(rejection) = compared {
            assert!(rejection.message.unwrap().starts_with("extensions.x.info"), "{echo}");
        }
    }
    assert_eq!(echo::compare("x", &declaration, None, &[]), Ok(()), "an extension may be left out");
    // The client's additions replace nothing.
    let mut additions = members(&json!({"n": 3, "own": 4}));
    additions.insert("a", RawJson::null());
    let echoed: Value = echo::echoed(&declaration, &additions).read().unwrap();
    assert_eq!(echoed, json!({"info": {"a": {"b": 1, "c": [1, {"d": 2}]}, "n": 2.0, "own": 4}, "schema": {}}));
    for odd in [json!(null), json!([1]), json!("x"), json!({"info": 7})] {
        assert_eq!(echo::echoed(&raw(&odd), &additions), raw(&odd));
        assert!(!echo::is_required(&raw(&odd)));
    }
}
