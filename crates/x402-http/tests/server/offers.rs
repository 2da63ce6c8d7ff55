//! What is asked for, and what is taken for it: resources, prices, entries, versions, origins.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::server::{CorsLayer, Incident, IncidentStep, Seller, SellerError, Used, price_by};
use x402_types::{AmountRule, AtomicAmount, Claim, Fault, Offer, PaymentKey, PaymentKeyFn, Rejection};

use crate::common::{
    PAYER, Script, TRANSACTION, call, decoded, get, header, offer, paying, payment_json, terms, upfront,
    v1_payment_json,
};
use crate::stage::{pending, shop};

#[tokio::test]
async fn the_handler_finds_the_payment_and_the_whole_body() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let mut request = paying("/weather", &payment_json(&terms(), 1)).map(|_| Full::from("the question"));
    *request.method_mut() = Method::POST;
    let (status, headers, body) = call(&service, request).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"sunny"[..]));
    assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["transaction"], TRANSACTION);
    assert_eq!(headers["cache-control"], "private");
    let paid = shop.handler.paid.lock().unwrap()[0].clone();
    assert_eq!(paid.payer.as_deref(), Some(PAYER));
    assert_eq!(paid.amount, AtomicAmount::from(10_000));
    assert_eq!(shop.handler.bodies.lock().unwrap()[0], "the question");
    let asked = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(asked.resource.url, "https://api.example.com/weather");
    assert_eq!(asked.raw, payment_json(&terms(), 1).to_string(), "byte for byte");
    assert!(asked.claim.identity.caller.is_empty());
}

/// One of them is kept for the next request; another must not be taken for it.
#[tokio::test]
async fn each_path_of_a_route_is_a_resource_of_its_own() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let paths = ["/weather/bern", "/weather/basel", "/weather/bern"];
    for (nonce, path) in (1..).zip(paths) {
        assert_eq!(call(&service, paying(path, &payment_json(&terms(), nonce))).await.0, StatusCode::OK);
        let mut unfit = payment_json(&terms(), 9);
        unfit["accepted"]["amount"] = "1".into();
        let (status, headers, _) = call(&service, paying(path, &unfit)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        let asked = &decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"];
        assert_eq!(asked, &format!("https://api.example.com{path}"));
    }
    let mut urls: Vec<_> = shop.script.seen.lock().unwrap().iter().map(|seen| seen.resource.url.clone()).collect();
    urls.dedup();
    assert_eq!(urls, paths.map(|path| format!("https://api.example.com{path}")));
}

#[tokio::test]
async fn host_is_never_trusted() {
    let service = shop().sells(vec![offer(terms())]);
    let request = get("/weather?city=x", &[(&http::header::HOST, HeaderValue::from_static("evil.example"))]);
    let (_, headers, _) = call(&service, request).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"], "https://api.example.com/weather");
}

#[tokio::test]
async fn head_is_paid_and_options_is_not() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let mut request = get("/weather", &[]);
    *request.method_mut() = Method::HEAD;
    assert_eq!(call(&service, request).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.handler.calls(), 0);
    let mut request = get("/weather", &[]);
    *request.method_mut() = Method::OPTIONS;
    assert_eq!(call(&service, request).await.0, StatusCode::OK);
    // A paid HEAD is verified and not settled: the payment still buys the GET.
    let head = || {
        let mut request = paying("/weather", &payment_json(&terms(), 1));
        *request.method_mut() = Method::HEAD;
        request
    };
    let (status, headers, _) = call(&service, head()).await;
    assert_eq!((status, headers.contains_key(&names::PAYMENT_RESPONSE)), (StatusCode::OK, false));
    assert_eq!(headers["cache-control"], "private");
    assert_eq!(shop.script.log(), "handler, verify, handler", "the first is OPTIONS");
    shop.script.settle_says(&pending());
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call(&service, head()).await.0, StatusCode::CONFLICT, "the GET that began it has its answer");
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::OK);
    assert_eq!(call(&service, head()).await.0, StatusCode::CONFLICT);
    shop.script.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    let mut request = paying("/weather", &payment_json(&terms(), 2));
    *request.method_mut() = Method::HEAD;
    assert_eq!(call(&service, request).await.0, StatusCode::PAYMENT_REQUIRED);
    // A handler behind `upfront` counts on the money, so it does not run.
    let (shop, terms) = (self::shop(), upfront(terms()));
    let service = shop.sells(vec![offer(terms.clone())]);
    let mut request = paying("/weather", &payment_json(&terms, 1));
    *request.method_mut() = Method::HEAD;
    assert_eq!(call(&service, request).await.0, StatusCode::NO_CONTENT);
    assert_eq!(shop.script.log(), "verify");
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms, 1))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_was_not_modified_is_not_settled() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    shop.handler.statuses.lock().unwrap().push_back(StatusCode::NOT_MODIFIED);
    let json = payment_json(&terms(), 1);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::NOT_MODIFIED);
    assert_eq!(shop.script.log(), "verify, handler");
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK, "and the payment is good still");
}

/// One scheme's key, which settles what was used.
struct Metered;

impl PaymentKeyFn for Metered {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        crate::common::key_of(claim)
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }
}

#[tokio::test]
async fn what_was_used_counts_only_where_less_can_be_settled() {
    let shop = shop();
    let metered = terms().with_scheme("metered".parse().unwrap());
    let handler = tower::service_fn(|_: http::Request<Full<Bytes>>| async {
        let mut response = http::Response::new(Full::<Bytes>::from("sunny"));
        response.extensions_mut().insert(Used(7.into()));
        Ok::<_, std::convert::Infallible>(response)
    });
    let offers = [Offer { terms: metered.clone(), key: Arc::new(Metered) }, offer(terms())];
    let service = shop.seller.charge(offers).unwrap().layer(handler).boxed_clone();
    for (paid, settled) in [(terms(), 10_000), (metered, 7)] {
        let nonce = u8::try_from(settled % 100).unwrap();
        assert_eq!(call(&service, paying("/weather", &payment_json(&paid, nonce))).await.0, StatusCode::OK);
        let last = shop.script.seen.lock().unwrap().last().unwrap().claim.terms.amount;
        assert_eq!(last, settled.into(), "{}", paid.scheme);
    }
}

#[tokio::test]
async fn version_1_reads_only_what_it_knows() {
    let shop = shop();
    let unnamed = terms().with_network("eip155:42161".parse().unwrap());
    let metered = terms().with_scheme("metered".parse().unwrap());
    let seller = shop.seller.clone().with_v1();
    let service = |offers: Vec<Offer>| seller.charge(offers).unwrap().layer(shop.handler.service()).boxed_clone();
    let all = service(vec![offer(metered.clone()), offer(unnamed.clone()), offer(terms())]);
    let (_, headers, body) = call(&all, get("/weather", &[])).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["accepts"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(body["accepts"][0]["network"], "base-sepolia");
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["accepts"].as_array().unwrap().len(), 3);
    let none = service(vec![offer(metered), offer(unnamed)]);
    let (_, _, body) = call(&none, get("/weather", &[])).await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["x402Version"], 2);
}

/// Checks what a seller learns who asked for version 1 where it has no name: an empty list would pass for an error of the shop.
#[tokio::test]
async fn where_version_1_can_pay_nothing_the_seller_is_told_at_start() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = heard.clone();
    let shop = shop();
    let seller = shop.seller.clone().with_v1().with_incident_hook(move |incident: &Incident<'_>| {
        assert_eq!(incident.step, IncidentStep::Start);
        told.lock().unwrap().push(incident.fault.to_string());
    });
    let unnamed = terms().with_network("eip155:42161".parse().unwrap());
    let mut permit = terms();
    permit.extra.insert_text("assetTransferMethod", "permit2");
    for offers in [vec![unnamed.clone()], vec![permit.clone()], vec![permit.clone(), unnamed.clone()]] {
        let layer = seller.charge(offers.into_iter().map(offer)).unwrap();
        let said = std::mem::take(&mut *heard.lock().unwrap()).join(" ");
        assert!(said.contains("x402 v1") && said.contains("version 1 has a name for"), "{said}");
        let (_, headers, body) = call(&layer.layer(shop.handler.service()).boxed_clone(), get("/weather", &[])).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["x402Version"], &body), (&2.into(), &decoded(&headers, &names::PAYMENT_REQUIRED)));
        assert!(!body["accepts"].as_array().unwrap().is_empty());
    }
    // Permit2 is of version 2 alone: beside EIP-3009 on the same network nothing is alike in version 1.
    let both = seller.charge([offer(permit), offer(terms()), offer(unnamed)]).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 0);
    let (_, _, body) = call(&both.layer(shop.handler.service()).boxed_clone(), get("/weather", &[])).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["x402Version"], body["accepts"].as_array().unwrap().len()), (&1.into(), 1), "{body}");
}

#[tokio::test]
async fn entries_that_version_1_cannot_tell_apart_are_refused_at_start() {
    let shop = shop();
    let other = terms().with_asset("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
    let elsewhere = terms().with_network("eip155:8453".parse().unwrap());
    let offers = || [offer(elsewhere.clone()), offer(terms()), offer(other.clone())];
    let v1 = shop.seller.clone().with_v1();
    assert_eq!(v1.charge(offers()).map(|_| ()).unwrap_err(), SellerError::AlikeInV1 { first: 1, second: 2 });
    v1.charge([offer(elsewhere.clone()), offer(terms())]).unwrap();
    shop.seller.charge(offers()).unwrap();
}

#[tokio::test]
async fn one_payment_in_both_headers_is_one() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let (one, other) = (header(&payment_json(&terms(), 1)), header(&payment_json(&terms(), 2)));
    let both = [(&names::PAYMENT_SIGNATURE, one.clone()), (&names::X_PAYMENT, other)];
    assert_eq!(call(&service, get("/weather", &both)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.script.log(), "");
    let both = [(&names::PAYMENT_SIGNATURE, one.clone()), (&names::X_PAYMENT, one)];
    assert_eq!(call(&service, get("/weather", &both)).await.0, StatusCode::OK);
    assert_eq!(shop.script.log(), "verify, handler, settle");
}

#[tokio::test]
async fn what_the_facilitator_does_not_serve_is_refused_at_start_or_told() {
    let v1_only = r#"[{"x402Version":1,"scheme":"exact","network":"base-sepolia"},{"later":1}]"#;
    let served = r#"[{"x402Version":2,"scheme":"exact","network":"eip155:*"}]"#;
    let missing = SellerError::NotServed { entry: 0, version: 2, scheme: terms().scheme, network: terms().network };
    let shop = shop();
    *shop.script.kinds.lock().unwrap() = Some(v1_only.into());
    let checked = shop.seller.clone().checked().await.unwrap();
    assert_eq!(checked.charge([offer(terms())]).map(|_| ()).unwrap_err(), missing);
    // Not asked for at start: the first paid request looks, and the hook hears of it once.
    let heard: Arc<Mutex<Vec<(IncidentStep, String)>>> = Arc::default();
    let told = heard.clone();
    let seller = shop.seller.clone().with_incident_hook(move |incident: &Incident<'_>| {
        told.lock().unwrap().push((incident.step, incident.fault.to_string()));
    });
    let service = seller.charge([offer(terms())]).unwrap().layer(shop.handler.service()).boxed_clone();
    call(&service, get("/weather", &[])).await;
    assert!(heard.lock().unwrap().is_empty(), "nobody has paid");
    for nonce in [1, 2] {
        assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), nonce))).await.0, StatusCode::OK);
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard, [(IncidentStep::Supported, format!("a rule was broken: {missing}"))]);
    *shop.script.kinds.lock().unwrap() = Some(served.into());
    let checked = shop.seller.clone().checked().await.unwrap();
    checked.charge([offer(terms())]).unwrap();
    let both = checked.with_v1().charge([offer(terms())]).map(|_| ()).unwrap_err();
    assert!(matches!(both, SellerError::NotServed { entry: 0, version: 1, .. }), "{both}");
}

#[tokio::test]
async fn a_header_that_nginx_may_not_pass_is_told_at_start() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = heard.clone();
    let seller = shop().seller.with_incident_hook(move |incident: &Incident<'_>| {
        assert_eq!(incident.step, IncidentStep::Start);
        told.lock().unwrap().push(incident.fault.to_string());
    });
    let many = |count: u64| (0..count).map(|more| offer(terms().with_amount((10_000 + more).into())));
    // The figures of a default nginx 1.22.1: 10 entries pass, 15 are answered with its 502.
    seller.charge(many(10)).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 0);
    seller.charge(many(15)).unwrap();
    let said = heard.lock().unwrap().join(" ");
    assert!(said.contains("proxy_buffer_size") && said.contains("4096 bytes"), "{said}");
    let refused = seller.with_header_limit(3_500).charge(many(15)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, SellerError::HeaderTooLarge { limit: 3_500, .. }), "{refused}");
}

#[tokio::test]
async fn the_accepted_entry_must_be_offered() {
    let shop = shop();
    let dearer = terms().with_amount(20_000.into());
    let service = shop.sells(vec![offer(dearer), offer(terms())]);
    let with = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = payment_json(&terms(), 1);
        edit(&mut json["accepted"]);
        paying("/weather", &json)
    };
    let refused: [&dyn Fn(&mut serde_json::Value); 8] = [
        &|entry| entry["amount"] = "9999".into(),
        &|entry| entry["network"] = "eip155:8453".into(),
        &|entry| entry["scheme"] = "upto".into(),
        &|entry| entry["asset"] = PAYER.into(),
        &|entry| entry["payTo"] = PAYER.into(),
        &|entry| entry["maxTimeoutSeconds"] = 301.into(),
        &|entry| entry["extra"]["version"] = "1".into(),
        &|entry| entry["extra"] = serde_json::json!({}),
    ];
    for edit in refused {
        let (status, headers, _) = call(&service, with(edit)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "invalid_payment_requirements");
    }
    assert_eq!(shop.script.log(), "", "nobody was asked");
    // Addresses by value, `extra` a superset.
    let request = with(&|entry| {
        entry["payTo"] = terms().pay_to.to_lowercase().into();
        entry["extra"]["more"] = 1.into();
    });
    assert_eq!(call(&service, request).await.0, StatusCode::OK);
    let asked = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(asked.claim.terms, terms(), "the server's own entry");
}

#[tokio::test]
async fn the_second_of_several_entries_can_be_paid() {
    let shop = shop();
    let dearer = terms().with_amount(20_000.into());
    let service = shop.sells(vec![offer(dearer.clone()), offer(terms())]);
    let (_, headers, body) = call(&service, get("/weather", &[])).await;
    let document = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(document["accepts"][0]["amount"], "20000");
    assert_eq!(document["accepts"][1]["amount"], "10000");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), document, "the body says it again");
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::OK);
    assert_eq!(call(&service, paying("/weather", &payment_json(&dearer, 2))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_price_by_request() {
    let shop = shop();
    let price = price_by(|request| {
        let amount: u64 = request.uri.query().map_or(10_000, |query| query.len() as u64);
        async move {
            match amount {
                0 => Err(Fault::broken("no price")),
                amount => Ok(vec![offer(terms().with_amount(amount.into()))]),
            }
        }
    });
    let service = shop.seller.charge_by(price).layer(shop.handler.service()).boxed_clone();
    let (status, headers, _) = call(&service, get("/say?abc", &[])).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["accepts"][0]["amount"], "3");
    let three = payment_json(&terms().with_amount(3.into()), 1);
    assert_eq!(call(&service, paying("/say?abcd", &three)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(call(&service, paying("/say?abc", &three)).await.0, StatusCode::OK);
    assert_eq!(call(&service, get("/say?", &[])).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// A price and a recipient that a test changes between two requests.
fn changing(shop: &crate::stage::Shop) -> (Arc<Mutex<(u64, &'static str)>>, crate::stage::Paywalled) {
    let state = Arc::new(Mutex::new((10_000, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")));
    let now = Arc::clone(&state);
    let price = price_by(move |_| {
        let (amount, pay_to) = *now.lock().unwrap();
        async move {
            let mut terms = terms().with_amount(amount.into());
            terms.pay_to = pay_to.into();
            Ok::<_, Fault>(vec![offer(terms)])
        }
    });
    (state, shop.seller.charge_by(price).layer(shop.handler.service()).boxed_clone())
}

/// A changed price refuses payments for the earlier one, with the terms of today, and nobody is asked about them.
#[tokio::test]
async fn a_payment_for_earlier_terms_gets_the_terms_of_today() {
    let shop = shop();
    let (state, service) = changing(&shop);
    for terms_of_today in [(20_000, terms().pay_to), (10_000, PAYER.to_owned())] {
        *state.lock().unwrap() = (terms_of_today.0, Box::leak(terms_of_today.1.clone().into_boxed_str()));
        let (status, headers, _) = call(&service, paying("/weather", &payment_json(&terms(), 1))).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        let asked = decoded(&headers, &names::PAYMENT_REQUIRED);
        assert_eq!(asked["accepts"][0]["amount"], terms_of_today.0.to_string());
        assert_eq!(asked["accepts"][0]["payTo"], terms_of_today.1);
        assert_eq!(asked["error"], "invalid_payment_requirements");
    }
    assert_eq!((shop.script.log(), shop.handler.calls()), (String::new(), 0));
}

/// A payment whose settlement began is finished under the terms that it accepted, whatever is asked for by then. The
/// same payload with other terms is not the payment that began.
#[tokio::test]
async fn a_begun_payment_is_finished_under_the_terms_that_it_accepted() {
    let shop = shop();
    let (state, service) = changing(&shop);
    shop.script.settle_says(&pending());
    let json = payment_json(&terms(), 1);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    *state.lock().unwrap() = (20_000, PAYER);
    for (member, value) in [("amount", "20001"), ("amount", "1"), ("payTo", PAYER)] {
        let mut other = json.clone();
        other["accepted"][member] = value.into();
        assert_eq!(call(&service, paying("/weather", &other)).await.0, StatusCode::PAYMENT_REQUIRED, "{member}");
    }
    // A member that the payer adds was no part of the offer, and is no part of the terms that are settled.
    let mut more = json.clone();
    more["accepted"]["extra"]["paymentFlow"] = "upfront".into();
    assert_eq!(call(&service, paying("/weather", &more)).await.0, StatusCode::OK);
    assert_eq!(shop.script.log(), "verify, handler, settle, settle, handler");
    let settled = shop.script.seen.lock().unwrap().last().unwrap().claim.terms.clone();
    assert_eq!((settled.amount, settled.pay_to, settled.extra), (10_000.into(), terms().pay_to, terms().extra));
    let paid = shop.handler.paid.lock().unwrap().last().unwrap().amount;
    assert_eq!(paid, AtomicAmount::from(10_000));
    // It bought one answer, and another request under the earlier terms begins nothing.
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::CONFLICT);
    let next = payment_json(&terms(), 2);
    assert_eq!(call(&service, paying("/weather", &next)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.script.log(), "verify, handler, settle, settle, handler");
}

/// After a settlement that failed for good the earlier terms buy nothing more.
#[tokio::test]
async fn a_failed_payment_does_not_bring_its_terms_back() {
    let shop = shop();
    let (state, service) = changing(&shop);
    shop.script.settle_says(
        r#"{"success":false,"errorReason":"insufficient_funds","transaction":"","network":"eip155:84532"}"#,
    );
    let json = payment_json(&terms(), 1);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::PAYMENT_REQUIRED);
    *state.lock().unwrap() = (20_000, PAYER);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.script.log(), "verify, handler, settle");
}

#[tokio::test]
async fn a_nested_route_has_its_whole_path() {
    let shop = shop();
    let layer = shop.seller.charge([offer(terms())]).unwrap().with_prefix("/api/");
    let service = layer.layer(shop.handler.service()).boxed_clone();
    let (_, headers, _) = call(&service, get("/weather", &[])).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"], "https://api.example.com/api/weather");
}

#[tokio::test]
async fn v1_is_served_where_it_is_switched_on() {
    let shop = shop();
    let seller = shop.seller.clone().with_v1();
    let service = seller.charge([offer(terms())]).unwrap().layer(shop.handler.service()).boxed_clone();
    let (status, headers, body) = call(&service, get("/weather", &[])).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["x402Version"], &body["accepts"][0]["network"]), (&1.into(), &"base-sepolia".into()));
    assert_eq!(body["accepts"][0]["resource"], "https://api.example.com/weather");
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["x402Version"], 2);
    let (status, headers, _) =
        call(&service, get("/weather", &[(&names::X_PAYMENT, header(&v1_payment_json(1)))])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(decoded(&headers, &names::X_PAYMENT_RESPONSE)["network"], "base-sepolia");
    assert!(!headers.contains_key(&names::PAYMENT_RESPONSE));
    let asked = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(asked.claim.terms.version, x402_types::Version::V1);
    // One authorization has one key, whichever version it comes in.
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_shop_that_cannot_be_served_is_not_opened() {
    let shop = shop();
    let escrow = {
        let mut terms = terms();
        terms.extra.insert_text("paymentFlow", "escrow");
        terms
    };
    let refusal = |offers: Vec<Offer>| shop.seller.charge(offers).map(|_| ()).unwrap_err();
    assert_eq!(refusal(vec![]), SellerError::NoOffer);
    assert_eq!(refusal(vec![offer(terms()), offer(escrow)]), SellerError::Flow { entry: 1 });
    assert_eq!(refusal((0..33).map(|_| offer(terms())).collect()), SellerError::TooManyOffers { limit: 32 });
    let mut long = terms();
    long.extra.insert_text("note", &"x".repeat(8000));
    assert!(matches!(refusal(vec![offer(long)]), SellerError::HeaderTooLarge { .. }));
    let script: Arc<Script> = Arc::default();
    assert_eq!(Seller::new("api.example.com", script).map(|_| ()).unwrap_err(), SellerError::Origin);
    let path = format!("/{}", "x".repeat(2000));
    let service = shop.sells(vec![offer(terms())]);
    assert_eq!(call(&service, get(&path, &[])).await.0, StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn browsers_of_listed_origins_may_pay() {
    let shop = shop();
    let cors = CorsLayer::new([HeaderValue::from_static("https://shop.example")]);
    let service = cors.layer(shop.sells(vec![offer(terms())])).boxed_clone();
    let preflight = |origin: &'static str| {
        let mut request = get(
            "/weather",
            &[
                (&http::header::ORIGIN, HeaderValue::from_static(origin)),
                (&http::header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET")),
            ],
        );
        *request.method_mut() = Method::OPTIONS;
        request
    };
    let (status, headers, _) = call(&service, preflight("https://shop.example")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(headers["access-control-allow-origin"], "https://shop.example");
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    for name in ["payment-signature", "x-payment", "sign-in-with-x", "access-control-expose-headers", "content-type"] {
        assert!(allowed.contains(name), "{name}");
    }
    let (_, headers, _) = call(&service, preflight("https://evil.example")).await;
    assert!(!headers.contains_key("access-control-allow-origin"));
    let asked = get("/weather", &[(&http::header::ORIGIN, HeaderValue::from_static("https://shop.example"))]);
    let (status, headers, _) = call(&service, asked).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(
        headers["access-control-expose-headers"],
        "payment-required, payment-response, x-payment-response, x-payment-token"
    );
    assert_eq!(shop.handler.calls(), 0);
}
