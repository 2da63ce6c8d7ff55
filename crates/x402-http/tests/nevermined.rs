//! Nevermined's API, as recorded from its SDK 1.11.0: the project's facts, 1.4.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use x402_codec::base64;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::nevermined::{ApiError, NeverminedApi, NeverminedError};
use x402_types::nvm::{self, Code, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, RawJson};

const KEY: &str = "sandbox:a.jwt.key";

/// A path, its headers and its body.
type Heard = (String, HeaderMap, Value);

#[derive(Clone, Default)]
struct Api {
    says: Arc<Mutex<(u16, Value)>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Api {
    async fn start(&self) -> NeverminedApi {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let api = self.clone();
        let answer = async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let heard = (parts.uri.path().to_owned(), parts.headers, serde_json::from_slice(&body).unwrap());
            api.heard.lock().unwrap().push(heard);
            let (status, said) = api.says.lock().unwrap().clone();
            (StatusCode::from_u16(status).unwrap(), said.to_string())
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        NeverminedApi::at(&address, KEY).unwrap()
    }

    fn says(&self, status: u16, said: Value) {
        *self.says.lock().unwrap() = (status, said);
    }

    fn heard(&self) -> Heard {
        self.heard.lock().unwrap().pop().unwrap()
    }
}

fn vector(name: &str) -> Value {
    let path = format!("{}/../x402-testkit/vectors/nvm/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap()["json"].take()
}

fn entry() -> Requirements {
    let required: nvm::PaymentRequired = serde_json::from_value(vector("payment-required")).unwrap();
    required.offered().next().unwrap().clone()
}

fn asked() -> PaymentRequest {
    let text = vector("payment-payload").to_string();
    let payment = nvm::PaymentPayload::from_raw(&RawJson::parse(text.clone()).unwrap()).unwrap();
    let terms = entry().to_terms(AtomicAmount::from(2)).unwrap();
    PaymentRequest {
        raw: text,
        token: None,
        claim: payment.into_claim(terms),
        resource: ResourceInfo::of("/x").into(),
        verified_as: Some("7f0e".to_owned()),
        form: None,
    }
}

#[tokio::test]
async fn requests_are_those_of_the_sdk() {
    let api = Api::default();
    let client = api.start().await.with_organization("org-1").unwrap();
    api.says(200, vector("sdk-verify-response"));
    let verdict = Facilitator::verify(&client, &asked()).await.unwrap();
    assert!(verdict.is_valid);
    assert_eq!(verdict.rest.text("agentRequestId").as_deref(), Some("7f0e"));
    let (path, headers, body) = api.heard();
    assert_eq!(path, "/api/v1/x402/verify");
    for (name, value) in [
        ("authorization", "Bearer sandbox:a.jwt.key"),
        ("nevermined-version", "1.1"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("x-current-org-id", "org-1"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert_eq!((&body["maxAmount"], &body["paymentRequired"]["accepts"][0]), (&"2".into(), &json!(entry())));
    let token = base64::decode(body["x402AccessToken"].as_str().unwrap().as_bytes(), 1 << 20).unwrap();
    assert_eq!(token, asked().raw.as_bytes(), "byte for byte");

    api.says(200, vector("sdk-settle-response"));
    let receipt = Facilitator::settle(&client, &asked()).await.unwrap();
    assert!(receipt.success);
    assert_eq!(receipt.rest.text("transactionHash"), Some(receipt.transaction.clone()));
    assert_eq!(receipt.rest.text("creditsRedeemed").as_deref(), Some("2"));
    let (path, _, body) = api.heard();
    assert_eq!((path.as_str(), &body["agentRequestId"]), ("/api/v1/x402/settle", &"7f0e".into()));

    api.says(200, json!({"accessToken": "dG9rZW4", "permissionHash": "0x01"}));
    let url = ResourceInfo::of("/x");
    let permission = client.permission(&entry(), Some(&url), "delegation", true).await.unwrap();
    assert_eq!(permission.access_token, "dG9rZW4");
    assert!(!format!("{permission:?} {client:?}").contains("dG9rZW4") && !format!("{client:?}").contains("jwt"));
    let (path, _, body) = api.heard();
    assert_eq!(path, "/api/v1/x402/permissions");
    assert_eq!((&body["tokenVersion"], &body["delegationConfig"]["delegationId"]), (&3.into(), &"delegation".into()));
    assert_eq!((&body["accepted"], &body["resource"]["url"]), (&json!(entry()), &"/x".into()));
}

/// What the payer sent is what the API hears, whatever its base64, white space and order of members: the API may know a
/// token by its text.
#[tokio::test]
async fn a_token_is_relayed_byte_for_byte() {
    use x402_codec::{Limits, nvm as codec};

    let api = Api::default();
    let client = api.start().await;
    let plain = vector("payment-payload");
    let members = plain.as_object().unwrap().iter().rev().map(|(key, value)| format!(" {} :\n{value}", json!(key)));
    let odd = format!("{{{}\t, \"\\u0061gent\" : \"\\u00fc?>~\" }}  ", members.collect::<Vec<_>>().join(" ,"));
    let odd = [odd.clone(), format!("{odd} "), format!("{odd}  ")];
    let spelled = odd.iter().flat_map(|text| {
        let standard = base64::encode(text.as_bytes());
        let url_safe = standard.replace('+', "-").replace('/', "_");
        let bare = |text: &String| text.trim_end_matches('=').to_owned();
        [bare(&standard), bare(&url_safe), standard, url_safe]
    });
    let mut seen = std::collections::BTreeSet::new();
    for sent in spelled {
        let mut headers = http::HeaderMap::new();
        headers.insert("payment-signature", sent.parse().unwrap());
        let read = codec::payment(&headers, &Limits::DEFAULT).unwrap().unwrap();
        let codec::EitherPayment::Nvm(payment, text) = read else { panic!("not of this extension") };
        let (raw, token) = text.into_parts();
        let claim = payment.into_claim(asked().claim.terms);
        let request = PaymentRequest { raw, token, claim, ..asked() };
        api.says(200, vector("sdk-verify-response"));
        Facilitator::verify(&client, &request).await.unwrap();
        assert_eq!(api.heard().2["x402AccessToken"], sent);
        api.says(200, vector("sdk-settle-response"));
        Facilitator::settle(&client, &request).await.unwrap();
        assert_eq!(api.heard().2["x402AccessToken"], sent);
        seen.insert(sent);
    }
    assert!(seen.len() >= 10, "{seen:?}");
}

#[tokio::test]
async fn refusals_are_the_payers_faults_and_everything_else_is_unknown() {
    let api = Api::default();
    let client = api.start().await;
    let error = |code: &str| json!({"code": code, "message": "words"});
    for (status, code, reason) in [
        (402, "BCK.X402.0005", Code::InvalidPayload),
        (400, "BCK.X402.0013", Code::InvalidPayload),
        (402, "BCK.X402.0026", Code::ExpiredSessionKey),
    ] {
        api.says(status, error(code));
        let verdict = Facilitator::verify(&client, &asked()).await.unwrap();
        assert_eq!((verdict.is_valid, verdict.invalid_reason), (false, Some(reason.reason())), "{code}");
        let receipt = Facilitator::settle(&client, &asked()).await.unwrap();
        assert_eq!((receipt.success, receipt.error_reason.clone()), (false, Some(reason.reason())), "{code}");
        let receipt = nvm::Receipt::from_response(&receipt).unwrap();
        assert_eq!(receipt.error.unwrap().details.text("nvmCode").as_deref(), Some(code));
    }
    // What happened is not known: no verdict, and above all no failed settlement.
    for (status, said) in [
        (503, error("BCK.X402.0051")),
        (402, json!({"code": "BCK.X402.0005", "message": "m", "retryable": true})),
        (401, error("BCK.AUTH.0001")),
        (500, json!("oops")),
        (200, json!("oops")),
    ] {
        api.says(status, said.clone());
        assert!(Facilitator::verify(&client, &asked()).await.is_err(), "{status} {said}");
        assert!(Facilitator::settle(&client, &asked()).await.is_err(), "{status} {said}");
    }
    api.says(402, error("BCK.X402.0020"));
    assert!(Facilitator::settle(&client, &asked()).await.is_err(), "a code without a place here");
    assert!(!Facilitator::verify(&client, &asked()).await.unwrap().is_valid);
    let refused = client.permission(&entry(), None, "d", false).await.unwrap_err();
    assert!(matches!(refused, ApiError::Refused(refused) if refused.code == "BCK.X402.0020" && refused.status == 402));
}

#[test]
fn the_key_picks_the_address() {
    assert!(NeverminedApi::new("sandbox:x").is_ok());
    assert!(format!("{:?}", NeverminedApi::new("live:x").unwrap()).contains("https://api.live.nevermined.app/"));
    for bad in ["", "x", "sandbox-staging:x", "other:x"] {
        assert!(matches!(NeverminedApi::new(bad), Err(NeverminedError::Key)), "{bad}");
    }
}
