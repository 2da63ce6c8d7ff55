//! The layer and plans of credits: Smart Accounts 0.3 steps 2 to 32 as a server sees them, and payments of 0.2.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, HeaderName, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use x402_codec::{Limits, base64, header};
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::server::{Seller, SellerError};
use x402_types::nvm::{Code, ErrorBody, PaymentRequired, Receipt, Requirements};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{AtomicAmount, ErrorReason, Fault, Members, RawJson};

const HASH: &str = "0x5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

fn document(name: &str) -> Value {
    let path = format!("{}/../x402-testkit/vectors/nvm/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut vector: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let filled = vector["filled"].take();
    if filled.is_null() { vector["json"].take() } else { filled }
}

/// What was asked, of which request, under which id, and for how many credits.
type Heard = (&'static str, String, Option<String>, AtomicAmount);

/// A facilitator that says what it is told to say, and remembers what it was asked.
#[derive(Default)]
struct Told {
    refuses: Mutex<Option<Value>>,
    settles: Mutex<Vec<Receipt>>,
    asked: Mutex<Vec<Heard>>,
}

impl Told {
    fn hear(&self, what: &'static str, request: &PaymentRequest) {
        let name = request.claim.identity.request.clone();
        self.asked.lock().unwrap().push((what, name, request.verified_as.clone(), request.claim.terms.amount));
    }

    fn says(&self, receipt: Receipt) {
        self.settles.lock().unwrap().push(receipt);
    }
}

#[async_trait]
impl Facilitator for Told {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        self.hear("verify", request);
        let refused = self.refuses.lock().unwrap().clone();
        let said = refused.unwrap_or_else(|| json!({"isValid": true, "payer": "0xa", "agentRequestId": "id-1"}));
        Ok(serde_json::from_str(&said.to_string()).unwrap())
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        self.hear("settle", request);
        let mut told = self.settles.lock().unwrap();
        let receipt = if told.len() > 1 { told.remove(0) } else { told[0].clone() };
        Ok(receipt.into())
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        Err(Fault::broken("not asked"))
    }
}

struct Shop {
    router: Router,
    told: Arc<Told>,
    served: Arc<AtomicUsize>,
}

fn entry() -> Requirements {
    let required: PaymentRequired = serde_json::from_value(document("payment-required")).unwrap();
    required.offered().next().unwrap().clone()
}

fn shop_of(entries: &[Requirements]) -> Shop {
    let told = Arc::new(Told::default());
    let served = Arc::new(AtomicUsize::new(0));
    let offers: Vec<_> = entries.iter().map(|entry| entry.to_offer(AtomicAmount::from(5)).unwrap()).collect();
    let paid = Seller::new("https://agent.example", Arc::clone(&told) as _).unwrap().charge(offers).unwrap();
    let counted = Arc::clone(&served);
    let handler = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        "the work"
    };
    Shop { router: Router::new().route("/tasks", post(handler).layer(paid)), told, served }
}

fn shop() -> Shop {
    shop_of(&[entry()])
}

impl Shop {
    async fn ask(&self, payment: Option<&Value>, key: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::post("/tasks");
        if let Some(payment) = payment {
            request = request.header(&header::PAYMENT_SIGNATURE, base64::encode(payment.to_string().as_bytes()));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response: Response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// What the facilitator was asked, and under which names.
    fn asked(&self) -> Vec<Heard> {
        self.told.asked.lock().unwrap().clone()
    }
}

fn decoded(headers: &HeaderMap, name: &HeaderName) -> Value {
    header::decode(headers[name].as_bytes(), &Limits::DEFAULT).unwrap()
}

/// The document's payment, bound to one request.
fn bound() -> Value {
    let mut payment = document("payment-payload");
    payment["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "ab".repeat(32)));
    payment["payload"]["authorization"]["resourceUrl"] = json!("https://agent.example/tasks");
    payment
}

fn made() -> Receipt {
    Receipt::new(true, HASH, "eip155:84532")
}

fn failed(reason: ErrorReason) -> Receipt {
    let mut receipt = Receipt::new(false, "", "eip155:84532");
    let mut details = Members::new();
    details.insert_text("orderTx", HASH);
    receipt.error = Some(ErrorBody::new(reason.clone(), "words").with(details));
    receipt.error_reason = Some(reason);
    receipt.order_tx = Some(HASH.to_owned());
    receipt
}

#[tokio::test]
async fn the_402_offers_the_plan_and_names_no_amount() {
    let (status, headers, body) = shop().ask(None, None).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let required = decoded(&headers, &header::PAYMENT_REQUIRED);
    assert_eq!(required["accepts"], json!([entry()]));
    assert_eq!((&required["x402Version"], &required["extensions"]), (&2.into(), &json!({})));
    assert_eq!(required["resource"]["url"], "https://agent.example/tasks");
    assert!(serde_json::from_value::<PaymentRequired>(required.clone()).is_ok());
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), required);
}

#[tokio::test]
async fn a_settled_request_is_served_under_the_id_of_its_verification() {
    let shop = shop();
    shop.told.says(made());
    let (status, headers, body) = shop.ask(Some(&bound()), None).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "the work"));
    let receipt = decoded(&headers, &header::PAYMENT_RESPONSE);
    assert_eq!((&receipt["transaction"], &receipt["transactionHash"]), (&HASH.into(), &HASH.into()));
    assert!(!headers.contains_key("query-response"));
    let asked = shop.asked();
    assert_eq!(asked.iter().map(|(what, ..)| *what).collect::<Vec<_>>(), ["verify", "settle"]);
    assert_eq!((&asked[0].1, &asked[0].2), (&asked[1].1, &None));
    assert_eq!((asked[1].2.as_deref(), asked[1].3), (Some("id-1"), AtomicAmount::from(5)));
    // A nonce buys one answer.
    let (again, ..) = shop.ask(Some(&bound()), None).await;
    assert_eq!((again, shop.served()), (StatusCode::CONFLICT, 1));
}

/// Steps 29 and 30: "the resource is withheld when settlement failed or is unknown".
#[tokio::test]
async fn a_failed_settlement_of_a_plan_withholds_the_resource() {
    let shop = shop();
    shop.told.says(failed(Code::SettlementFailed.reason()));
    let (status, headers, body) = shop.ask(Some(&bound()), None).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert!(!body.contains("the work"));
    let required = decoded(&headers, &header::PAYMENT_REQUIRED);
    assert_eq!((&required["error"], &required["details"]["orderTx"]), (&"SETTLEMENT_FAILED".into(), &HASH.into()));
    let receipt = decoded(&headers, &header::PAYMENT_RESPONSE);
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&false.into(), &"".into()));
    assert_eq!(receipt["orderTx"], HASH);
    // The same request may be made again: the facilitator takes its redemption up once more.
    shop.told.settles.lock().unwrap().clear();
    shop.told.says(made());
    assert_eq!(shop.ask(Some(&bound()), None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_settlement_of_a_plan_withholds_the_resource_until_it_is_known() {
    let shop = shop();
    let mut pending = Receipt::new(false, HASH, "eip155:84532");
    pending.error_reason = Some(ErrorReason::SETTLEMENT_PENDING);
    shop.told.says(pending);
    let mut settled = made();
    settled.replayed = true;
    shop.told.says(settled);
    let (status, headers, body) = shop.ask(Some(&bound()), None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(headers.contains_key("retry-after") && !body.contains("the work"));
    // "The same id is retried."
    let (status, _, body) = shop.ask(Some(&bound()), None).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "the work"));
    let asked = shop.asked();
    assert_eq!(asked.iter().map(|(what, ..)| *what).collect::<Vec<_>>(), ["verify", "settle", "settle"]);
    assert!(asked.iter().all(|(_, request, ..)| *request == asked[0].1));
}

#[tokio::test]
async fn a_refusal_is_answered_with_its_code_and_details_before_any_work() {
    let shop = shop();
    let said = json!({"code": "INSUFFICIENT_BALANCE", "message": "m", "details": {"requiredBalance": "5"}});
    *shop.told.refuses.lock().unwrap() =
        Some(json!({"isValid": false, "invalidReason": "INSUFFICIENT_BALANCE", "error": said}));
    let (status, headers, _) = shop.ask(Some(&bound()), None).await;
    assert_eq!((status, shop.served()), (StatusCode::PAYMENT_REQUIRED, 0));
    let required = decoded(&headers, &header::PAYMENT_REQUIRED);
    assert_eq!((&required["error"], &required["details"]), (&"INSUFFICIENT_BALANCE".into(), &said["details"]));
    // What the layer itself refuses has the extension's codes, too.
    for (pointer, value, code) in [
        ("/accepted/planId", json!("7"), "INVALID_PAYLOAD"),
        ("/accepted/network", json!("base"), "UNSUPPORTED_NETWORK"),
        ("/payload/signature", json!("x"), "INVALID_PAYLOAD"),
    ] {
        let mut payment = bound();
        *payment.pointer_mut(pointer).unwrap() = value;
        let (status, headers, _) = shop.ask(Some(&payment), None).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "{pointer}");
        assert_eq!(decoded(&headers, &header::PAYMENT_REQUIRED)["error"], code, "{pointer}");
    }
}

#[tokio::test]
async fn a_bearer_token_pays_for_many_requests_and_each_named_one_once() {
    let shop = shop();
    shop.told.says(made());
    let bearer = document("payment-payload");
    for _ in 0..2 {
        assert_eq!(shop.ask(Some(&bearer), None).await.0, StatusCode::OK);
    }
    assert_eq!(shop.ask(Some(&bearer), Some("a")).await.0, StatusCode::OK);
    assert_eq!(shop.ask(Some(&bearer), Some("b")).await.0, StatusCode::OK);
    assert_eq!(shop.ask(Some(&bearer), Some("a")).await.0, StatusCode::CONFLICT);
    let mut names: Vec<String> = shop.asked().into_iter().map(|(_, request, ..)| request).collect();
    names.dedup();
    assert_eq!((names.len(), shop.served()), (4, 4), "{names:?}");
}

#[tokio::test]
async fn a_payment_of_the_old_form_gets_its_receipt_in_the_old_header_too() {
    let old = document("payment-payload-v0.2");
    let shop = shop();
    shop.told.says(made());
    let (status, headers, _) = shop.ask(Some(&old), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["query-response"], headers["payment-response"]);
    // It names no plan, so there must be one.
    let mut other = entry();
    other.plan_id = "7".parse().unwrap();
    let (status, headers, _) = shop_of(&[entry(), other]).ask(Some(&old), None).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decoded(&headers, &header::PAYMENT_REQUIRED)["error"], "INVALID_PAYLOAD");
}

#[test]
fn a_plan_is_never_paid_upfront() {
    let mut entry = entry();
    entry.extra.rest.insert("paymentFlow", RawJson::of("upfront").unwrap());
    let offer = entry.to_offer(AtomicAmount::from(5)).unwrap();
    let seller = Seller::new("https://agent.example", Arc::new(Told::default())).unwrap();
    assert_eq!(seller.charge([offer]).unwrap_err(), SellerError::Flow { entry: 0 });
}
