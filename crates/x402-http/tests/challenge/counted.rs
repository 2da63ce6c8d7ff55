//! docs/dialects.md, "What is counted": one table over dialect, method and outcome.
//!
//! Each row asks once, with a handler that answers with the status, and then asks by `GET` with the same payment or
//! entitlement, with a handler that serves. What the first request counted shows in what the second one gets.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use tower::Layer;
use x402_challenge::{Allowance, Charge, MeterState};
use x402_codec::challenge::X_PAYMENT_TOKEN;
use x402_codec::{base64, header as names};
use x402_http::server::Seller;
use x402_http::server::challenge::{Access, Ask, Entitle};
use x402_types::challenge::ChallengeId;
use x402_types::nvm::{PaymentRequired, Requirements};
use x402_types::{AtomicAmount, Terms, UnixSeconds};

use crate::common::{Service, call, header, offer as v2_offer, payment_json, terms, upfront, v1_payment_json};
use crate::purse::{First, URL, ask, purse, status};
use crate::shop::{NOW, Shop, at, offer, paying, shop};

/// The ways in which a request is paid.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Paid {
    V2,
    V2Upfront,
    V1,
    Nvm,
    Challenge,
    Metered,
    Entitlement,
}

const ALL: [Paid; 7] =
    [Paid::V2, Paid::V2Upfront, Paid::V1, Paid::Nvm, Paid::Challenge, Paid::Metered, Paid::Entitlement];

/// What the two requests came to.
#[derive(Debug, PartialEq)]
struct Came {
    /// The status of the second request.
    then: u16,
    /// Runs of the handler, in both.
    runs: usize,
    /// Settlements that were begun, in both; of a metered payment, the sum that the first one settled.
    settled: u64,
    /// Whether the first answer has a receipt.
    receipt: bool,
}

const fn came(then: u16, runs: usize, settled: u64, receipt: bool) -> Came {
    Came { then, runs, settled, receipt }
}

/// The rule. `head`: the first request is a `HEAD`. `served`: its handler answers 200; the others answer 304, 4xx, 5xx.
fn rule(paid: Paid, head: bool, served: bool) -> Came {
    match (paid, head, served) {
        // Settled after the handler, and only what was served.
        (Paid::V2 | Paid::V1 | Paid::Nvm, false, true) => came(409, 1, 1, true),
        (Paid::V2 | Paid::V1 | Paid::Nvm, ..) => came(200, 2, 1, false),
        // Settled before the handler: what was not served is served later, for the same payment.
        (Paid::V2Upfront, false, true) => came(409, 1, 1, true),
        (Paid::V2Upfront, false, false) => came(200, 2, 2, true),
        (Paid::V2Upfront, true, _) => came(200, 1, 1, false),
        // A challenge buys one run of the handler, and its money moves before; a meter's after it.
        (Paid::Challenge, false, _) => came(409, 1, 0, true),
        (Paid::Metered, false, served) => came(409, 1, if served { 30 } else { 0 }, served),
        (Paid::Challenge, true, _) => came(200, 1, 0, false),
        (Paid::Metered, true, _) => came(200, 1, 0, false),
        // One use in all.
        (Paid::Entitlement, false, true) => came(402, 1, 0, false),
        (Paid::Entitlement, ..) => came(200, 2, 0, false),
    }
}

fn plan() -> Requirements {
    let path = format!("{}/../x402-testkit/vectors/nvm/payment-required.json", env!("CARGO_MANIFEST_DIR"));
    let vector: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let json = if vector["filled"].is_null() { &vector["json"] } else { &vector["filled"] };
    let required: PaymentRequired = serde_json::from_value(json.clone()).unwrap();
    required.offered().next().unwrap().clone()
}

fn plan_payment() -> serde_json::Value {
    let path = format!("{}/../x402-testkit/vectors/nvm/payment-payload.json", env!("CARGO_MANIFEST_DIR"));
    let vector: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut payment = if vector["filled"].is_null() { vector["json"].clone() } else { vector["filled"].clone() };
    payment["payload"]["authorization"]["nonce"] = format!("0x{}", "ab".repeat(32)).into();
    payment["payload"]["authorization"]["resourceUrl"] = URL.into();
    payment
}

/// A paid route, the header that pays, and the shop.
struct Case {
    shop: Shop,
    service: Service<x402_http::Body<Full<Bytes>>>,
    pays: (http::HeaderName, HeaderValue),
    /// The challenge, where there is one.
    id: Option<ChallengeId>,
}

async fn case(paid: Paid) -> Case {
    let shop = shop();
    let seller = Seller::new(crate::common::ORIGIN, shop.script.clone()).unwrap().with_v1();
    let v2 = |terms: &Terms| (names::PAYMENT_SIGNATURE.clone(), header(&payment_json(terms, 1)));
    let (layer, pays) = match paid {
        Paid::V2 => (seller.charge([v2_offer(terms())]).unwrap(), v2(&terms())),
        Paid::V2Upfront => (seller.charge([v2_offer(upfront(terms()))]).unwrap(), v2(&upfront(terms()))),
        Paid::V1 => {
            (seller.charge([v2_offer(terms())]).unwrap(), (names::X_PAYMENT.clone(), header(&v1_payment_json(1))))
        }
        Paid::Nvm => {
            let entry = plan();
            let receipt = format!(
                r#"{{"success":true,"transaction":"0xab","network":"{}"}}"#,
                entry.to_offer(5.into()).unwrap().terms.network
            );
            shop.script.settle_says(&receipt);
            let value = HeaderValue::try_from(base64::encode(plan_payment().to_string().as_bytes())).unwrap();
            let layer = seller.charge([entry.to_offer(AtomicAmount::from(5)).unwrap()]).unwrap();
            (layer, (names::PAYMENT_SIGNATURE.clone(), value))
        }
        Paid::Challenge | Paid::Metered | Paid::Entitlement => {
            let mut sold = offer("urn:res:abc123");
            if paid == Paid::Metered {
                sold.charge = Charge::UpTo;
            }
            let once = Entitle::bearer(600).with_allowance(Allowance::Once);
            let ask = if paid == Paid::Entitlement { Ask::new(sold).with_entitlement(once) } else { Ask::new(sold) };
            let layer = shop.challenges.charge(ask).unwrap();
            let service = layer.layer(metering(&shop));
            let service = tower::ServiceExt::boxed_clone(service);
            let challenge = shop.asked(&service, "/weather").await;
            let payment = paying("/weather", &shop.payment(&challenge, 1));
            let mut pays = (names::X_PAYMENT.clone(), payment.headers()[&names::X_PAYMENT].clone());
            if paid == Paid::Entitlement {
                let (_, headers, _) = call(&service, payment).await;
                let token = format!("Bearer {}", headers[&X_PAYMENT_TOKEN].to_str().unwrap());
                pays = (AUTHORIZATION, token.try_into().unwrap());
            }
            return Case { shop, service, pays, id: Some(challenge.challenge_id) };
        }
    };
    let service = tower::ServiceExt::boxed_clone(layer.layer(metering(&shop)));
    Case { shop, service, pays, id: None }
}

/// The shop's handler, which counts 30 where a payment is metered.
fn metering(shop: &Shop) -> Service<Full<Bytes>> {
    let inner = shop.handler.service();
    tower::ServiceExt::boxed_clone(tower::service_fn(move |request: Request<Full<Bytes>>| {
        let inner = inner.clone();
        async move {
            if let Some(Access::Paid(granted)) = request.extensions().get::<Access>()
                && let Some(meter) = &granted.meter
            {
                meter.add(AtomicAmount::from(30), UnixSeconds(NOW)).await.unwrap();
            }
            tower::ServiceExt::oneshot(inner, request).await
        }
    }))
}

#[tokio::test]
async fn what_is_counted_over_dialect_method_and_outcome() {
    let mut wrong = Vec::new();
    for paid in ALL {
        for head in [false, true] {
            for code in [200, 304, 404, 500, 503] {
                let what = format!("{paid:?} {} {code}", if head { "HEAD" } else { "GET" });
                let Case { shop, service, pays, id } = case(paid).await;
                let before = shop.handler.calls();
                shop.handler.statuses.lock().unwrap().push_back(StatusCode::from_u16(code).unwrap());
                let request = |method: Method| {
                    let mut request = at("/weather");
                    *request.method_mut() = method;
                    request.headers_mut().insert(pays.0.clone(), pays.1.clone());
                    request
                };
                let (_, headers, _) = call(&service, request(if head { Method::HEAD } else { Method::GET })).await;
                let receipts = [&names::PAYMENT_RESPONSE, &names::X_PAYMENT_RESPONSE];
                let waived = headers.get(&names::X_PAYMENT_RESPONSE).and_then(|value| {
                    x402_codec::challenge::response(value.as_bytes()).ok().map(|receipt| receipt.is_waived())
                });
                let nothing = paid == Paid::Metered && !head && code != 200;
                assert_eq!(waived == Some(true), nothing, "{what}: that nothing was settled is said");
                let receipt = !nothing && receipts.into_iter().any(|name| headers.contains_key(name));
                shop.handler.statuses.lock().unwrap().clear();
                let store = shop.challenges.gate().store();
                let owed = store.open_meters(UnixSeconds(u64::MAX), 9).await.unwrap();
                assert!(owed.is_empty(), "{what}: nothing is left to settle later");
                let mut settled = 0;
                if let (Paid::Metered, Some(id)) = (paid, id)
                    && let Some(meter) = store.close_meter(&id, UnixSeconds(NOW)).await.unwrap()
                    && meter.state == MeterState::Settled
                {
                    settled = meter.used.to_string().parse().unwrap();
                }
                let (then, ..) = call(&service, request(Method::GET)).await;
                settled += shop.script.log().matches("settle").count() as u64;
                let came = Came { then: then.as_u16(), runs: shop.handler.calls() - before, settled, receipt };
                if came != rule(paid, head, code == 200) {
                    wrong.push(format!("{what}: {came:?}, expected {:?}", rule(paid, head, code == 200)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The client's half: an answer that no server settles for, and that has no receipt, ends no payment. The `GET` after a
/// `HEAD` shows the payment of that.
#[tokio::test]
async fn what_the_client_counts_by_challenge() {
    let head = || Request::head(URL).body(Full::default()).unwrap();
    let get = || Request::get(URL).body(Full::default()).unwrap();
    for (first, answer) in [(head(), None), (head(), Some(200)), (get(), Some(304)), (get(), Some(500))] {
        let what = format!("{} {answer:?}", first.method());
        let purse = purse(ask());
        if let Some(code) = answer {
            purse.wire.goes([First::Passes]);
            purse.wire.says(status(code));
        }
        purse.send(first).await.unwrap();
        let paid = purse.wire.payments().remove(1);
        assert_eq!(purse.send(get()).await.unwrap().status(), StatusCode::OK, "{what}");
        assert_eq!((purse.wire.payments().remove(1), purse.used().as_str()), (paid, "1000"), "{what}");
        assert_eq!(purse.shop.handler.calls(), 1, "{what}");
    }
}
