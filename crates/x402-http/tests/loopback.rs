//! Over loopback sockets: axum serves, reqwest asks, a facilitator stands behind HTTP.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use common::{PAYER, Script, TRANSACTION, offer, payment_json, terms};
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::client::{PayClient, Payer, Receipt};
use x402_http::remote::{Authorize, RemoteError, RemoteFacilitator, Timeouts};
use x402_http::server::Seller;
use x402_types::v2::ResourceInfo;
use x402_types::{
    AuthorizationKind, Claim, Fault, Identity, MadePayment, MakePayment, PaymentKey, RawJson, Refusal, SigningContext,
    Terms, v1,
};

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

struct Exact;

#[async_trait]
impl MakePayment for Exact {
    fn can_pay(&self, _: &Terms) -> bool {
        true
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let payload = RawJson::of(&common::payload(context.entropy[0])).unwrap();
        let key = PaymentKey::new(AuthorizationKind::Eip3009, terms.network, &[], &[], &context.entropy);
        Ok(MadePayment::new(payload, PAYER.into(), key, context.now.plus(60)))
    }
}

#[tokio::test]
async fn reqwest_pays_axum() {
    let script = Arc::new(Script::default());
    let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
    let paid = seller.charge([offer(terms())]).unwrap();
    let app = Router::new()
        .route("/weather/{city}", get(|| async { "sunny" }).post(|body: String| async move { body }).layer(paid))
        .route("/old", any(|| async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/weather/bern")]) }));
    let origin = serve(app).await;
    let client = PayClient::new(Payer::new(Exact)).unwrap();

    let response = client.get(&format!("{origin}/weather/bern")).await.unwrap();
    assert_eq!(response.url().as_str(), format!("{origin}/weather/bern"));
    assert_eq!(response.extensions().get::<Receipt>().unwrap().0.transaction, TRANSACTION);
    assert_eq!(response.text().await.unwrap(), "sunny");

    let question = client.http().post(format!("{origin}/old")).body("a question").build().unwrap();
    let response = client.execute(question).await.unwrap();
    assert_eq!(response.url().path(), "/weather/bern");
    assert_eq!(response.text().await.unwrap(), "a question");
    assert_eq!(script.log(), "verify, settle, verify, settle");
    assert_eq!(script.seen.lock().unwrap()[0].resource.url, "https://api.example.com/weather/bern");
}

#[tokio::test]
async fn no_spelling_of_the_path_is_free() {
    let seller = Seller::new("https://api.example.com", Arc::new(Script::default())).unwrap();
    let paid = seller.charge([offer(terms())]).unwrap();
    let origin = serve(Router::new().route("/weather", get(|| async { "sunny" }).layer(paid))).await;
    let http = PayClient::new(Payer::default()).unwrap().http().clone();
    for path in
        ["/weather", "/weather?x", "/weather/", "//weather", "/%77eather", "/WEATHER", "/./weather", "/weather%2F"]
    {
        for method in [Method::GET, Method::HEAD] {
            let status = http.request(method.clone(), format!("{origin}{path}")).send().await.unwrap().status();
            assert!(
                matches!(status, StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND),
                "{method} {path}: {status}"
            );
        }
    }
}

#[derive(Clone, Default)]
struct Facilitating {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Facilitating {
    fn says(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    async fn start(&self) -> String {
        async fn answer(State(this): State<Facilitating>, headers: HeaderMap, body: String) -> impl IntoResponse {
            this.asked.lock().unwrap().push((headers, body));
            let (status, body) = this.answer.lock().unwrap().clone();
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::LOCATION, HeaderValue::from_static("/elsewhere"))], body)
        }
        let app = Router::new()
            .route("/f/verify", post(answer))
            .route("/f/settle", post(answer))
            .route("/f/supported", get(answer))
            .route("/elsewhere", any(|| async { r#"{"isValid":true,"success":true}"# }))
            .with_state(self.clone());
        serve(app).await
    }
}

fn asked() -> PaymentRequest {
    // An order of members that no serializer of ours writes.
    let text = format!(
        r#"{{"payload":{},  "x402Version":2,"accepted":{}}}"#,
        common::payload(1),
        payment_json(&terms(), 1)["accepted"]
    );
    let mut claim = Claim::new(terms(), serde_json::from_str(&text).unwrap());
    claim.identity = Identity::new(String::new(), "the-request");
    let resource = ResourceInfo::of("https://api.example.com/weather").into();
    PaymentRequest { raw: text, token: None, claim, resource, verified_as: None, form: None }
}

#[tokio::test]
async fn a_remote_facilitator_gets_the_payers_bytes_and_the_servers_terms() {
    let far = Facilitating::default();
    far.says(200, format!(r#"{{"isValid":true,"payer":"{PAYER}","more":1}}"#));
    let origin = far.start().await;
    let near = RemoteFacilitator::new(&format!("{origin}/f/")).unwrap();
    let verdict = near.verify(&asked()).await.unwrap();
    assert_eq!((verdict.is_valid, verdict.payer.as_deref()), (true, Some(PAYER)));
    let (headers, body) = far.asked.lock().unwrap()[0].clone();
    assert!(body.contains(&asked().raw), "byte for byte");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["paymentRequirements"], serde_json::to_value(terms().to_v2()).unwrap());
    assert_eq!(body["x402Version"], 2);
    assert_eq!(headers["idempotency-key"], "the-request");
    assert_eq!(headers["content-type"], "application/json");

    let mut v1 = asked();
    v1.raw = common::v1_payment_json(1).to_string();
    let terms = terms().with_version(x402_types::Version::V1);
    v1.claim = Claim::new(terms, serde_json::from_str(&v1.raw).unwrap());
    near.verify(&v1).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&far.asked.lock().unwrap()[1].1).unwrap();
    let asked: v1::PaymentRequirements = serde_json::from_value(body["paymentRequirements"].clone()).unwrap();
    assert_eq!((body["x402Version"].as_u64(), asked.network.as_str()), (Some(1), "base-sepolia"));
}

#[tokio::test]
async fn what_a_remote_facilitator_says_is_read_or_unknown() {
    let far = Facilitating::default();
    let near = RemoteFacilitator::new(&format!("{}/f", far.start().await)).unwrap();
    let yes = format!(r#"{{"success":true,"transaction":"{TRANSACTION}","network":"eip155:84532"}}"#);
    let no = r#"{"success":false,"errorReason":"duplicate_settlement","transaction":"","network":""}"#;
    for (status, body, read) in [
        (200, yes.as_str(), Some(true)),
        (200, no, Some(false)),
        (409, no, Some(false)),
        (500, no, Some(false)),
        (500, yes.as_str(), None),
        (307, yes.as_str(), None),
        (307, "", None),
        (200, "", None),
        (200, "<html>", None),
        (200, "{}", None),
        (200, r#"{"success":"true"}"#, None),
        (200, r#"{"success":true,"success":false}"#, None),
        (502, r#"{"error":"bad gateway"}"#, None),
    ] {
        far.says(status, body);
        let said = near.settle(&asked()).await;
        assert_eq!(said.as_ref().ok().map(|said| said.success), read, "{status} {body}: {said:?}");
        if let Err(fault) = said {
            assert!(matches!(fault, Fault::NoVerdict { service: "facilitator", .. }), "{fault:?}");
        }
    }
    far.says(200, format!("{{\"success\":true,\"x\":\"{}\"}}", "x".repeat(64 * 1024)));
    assert!(near.settle(&asked()).await.is_err(), "an answer over the limit");
    far.says(500, r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    assert!(!near.verify(&asked()).await.unwrap().is_valid);
    far.says(200, r#"{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"},{"later":1}]}"#);
    assert_eq!(near.supported().await.unwrap().kinds.len(), 2);
}

#[tokio::test]
async fn a_facilitator_that_never_answers_or_is_not_there() {
    let silent = serve(Router::new().route("/settle", post(std::future::pending::<()>))).await;
    let timeouts = Timeouts { settle: Duration::from_millis(50), ..Timeouts::DEFAULT };
    let near = RemoteFacilitator::with_timeouts(&silent, timeouts).unwrap();
    assert!(near.settle(&asked()).await.is_err());
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert!(RemoteFacilitator::new(&nobody).unwrap().verify(&asked()).await.is_err());
}

#[tokio::test]
async fn credentials_are_made_for_method_and_url() {
    struct Badge;
    #[async_trait]
    impl Authorize for Badge {
        async fn headers(&self, method: &Method, url: &url::Url) -> Result<HeaderMap, Fault> {
            if url.path().ends_with("verify") {
                return Err(Fault::broken("no key"));
            }
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Badge {method} {}", url.path()).parse().unwrap());
            Ok(headers)
        }
    }
    let far = Facilitating::default();
    far.says(200, r#"{"success":false,"errorReason":"insufficient_funds"}"#);
    let near = RemoteFacilitator::new(&format!("{}/f", far.start().await)).unwrap().with_authorize(Arc::new(Badge));
    near.settle(&asked()).await.unwrap();
    assert_eq!(far.asked.lock().unwrap()[0].0["authorization"], "Badge POST /f/settle");
    assert_eq!(near.verify(&asked()).await.unwrap_err(), Fault::broken("no key"));
    assert_eq!(far.asked.lock().unwrap().len(), 1, "nothing was sent");
}

#[test]
fn an_address_is_a_plain_url() {
    for address in
        ["", "x402.org", "ftp://x402.org", "https://user@x402.org", "https://x402.org?key=1", "https://x402.org#a"]
    {
        assert!(matches!(RemoteFacilitator::new(address), Err(RemoteError::Address)), "{address}");
    }
}
