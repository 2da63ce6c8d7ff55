//! Payments whose request was not served: kept, shown again, counted once, and never paid anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod buyer;
mod common;

use std::sync::Arc;

use buyer::book::Book;
use buyer::*;
use bytes::Bytes;
use common::{Handler, Script, Service, TRANSACTION, offer, terms, upfront};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::client::{ClientError, OpenPayment, PayError, PayLayer, PaymentSent, Receipt, ReceiptOutcome};
use x402_http::server::Seller;

/// An input of `x402-testkit/vectors/cases/clients`: a 402 and the answers that follow the payment.
fn case(name: &str) -> Wire {
    let path = format!("{}/../x402-testkit/vectors/cases/clients/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let first = match case.get("unpaid") {
        Some(unpaid) => answer(unpaid),
        None => with(status(402), &names::PAYMENT_REQUIRED, common::header(&case["document"])),
    };
    let wire = Wire::default().says([first]);
    let paid = match &case["paid"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    for one in paid {
        let said = if one == "hangup" { Err("connection reset") } else { Ok(answer(&one)) };
        wire.answers.lock().unwrap().push_back(said);
    }
    wire
}

fn answer(json: &Value) -> Response<Full<Bytes>> {
    let mut response = status(json.get("status").and_then(Value::as_u64).unwrap_or(200).try_into().unwrap());
    for (name, value) in json.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let name: http::HeaderName = name.parse().unwrap();
        let value = match value {
            Value::String(text) => HeaderValue::try_from(text).unwrap(),
            message => common::header(message),
        };
        response.headers_mut().insert(name, value);
    }
    *response.body_mut() = Full::from(serde_json::to_vec(&json["body"]).unwrap());
    response
}

fn receipt<B>(response: &Response<B>) -> &Receipt {
    response.extensions().get().unwrap()
}

fn settled_and(code: u16) -> Response<Full<Bytes>> {
    settled(code, &serde_json::json!({"success": true, "transaction": TRANSACTION, "network": "eip155:84532"}))
}

/// Our own layer and our own client, with a handler that fails after the money moved.
#[tokio::test]
async fn a_handler_that_fails_after_the_settlement_is_paid_once() {
    for failure in [StatusCode::BAD_GATEWAY, StatusCode::UNPROCESSABLE_ENTITY] {
        let script = Arc::new(Script::default());
        let handler = Handler::default();
        handler.statuses.lock().unwrap().extend([failure, failure]);
        let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
        let server: Service<Body<Full<Bytes>>> =
            seller.charge([offer(upfront(terms()))]).unwrap().layer(handler.service()).boxed_clone();
        let purse = purse();
        let client = PayLayer::new(purse.payer.clone()).layer(server);
        let mut served = Vec::new();
        for _ in 0..3 {
            let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(receipt(&response).outcome(), ReceiptOutcome::Paid { transaction: TRANSACTION });
            assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
            served.push(response.status());
        }
        assert_eq!(served, [failure, failure, StatusCode::OK]);
        // Served: the next request is another purchase.
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        assert_eq!(client.oneshot(request).await.unwrap().status(), StatusCode::OK);
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"));
    }
}

/// `@x402/express` 2.27 answers 402 also where its facilitator gave no answer, with the text of the error as the reason.
#[tokio::test]
async fn a_402_whose_receipt_reports_a_fault_ends_no_payment() {
    for reason in ["unexpected_settle_error", "settlement_pending", "fetch failed", "Facilitator settle failed (502): "]
    {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), refused(reason), paid()]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::OK, "{reason}");
        assert_eq!(payment_of(&wire, 1), payment_of(&wire, 2), "{reason}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{reason}");
        // It never ends: the payment is kept, and is shown again with the same request.
        let wire = Wire::default().says([asks(&[terms()])]);
        wire.answers.lock().unwrap().extend((0..6).map(|_| Ok(refused(reason))));
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED, "{reason}");
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &again).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{reason}");
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"), "{reason}");
    }
}

/// A handler that fails before the money moves: the same payment once more, and one settlement.
#[tokio::test]
async fn a_handler_that_fails_before_the_settlement_is_paid_once() {
    let script = Arc::new(Script::default());
    let handler = Handler::default();
    handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
    let server: Service<Body<Full<Bytes>>> =
        seller.charge([offer(terms())]).unwrap().layer(handler.service()).boxed_clone();
    let purse = purse();
    let client = PayLayer::new(purse.payer.clone()).layer(server);
    for expected in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK] {
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        assert_eq!(client.clone().oneshot(request).await.unwrap().status(), expected);
    }
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    assert_eq!(script.log().matches("settle").count(), 1);
}

#[tokio::test]
async fn a_foreign_server_that_does_not_take_the_shown_payment_again_is_told_as_paid_without_an_answer() {
    for code in [402, 409] {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), settled_and(500)]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
        // Long after the authorization ended: it was settled, so that a new one would be a second payment.
        purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
        let again = Wire::default().says([asks(&[terms()]), status(code)]);
        let ClientError::PaidWithoutAnswer { receipt, status } = ask(&purse, &again).await.unwrap_err() else {
            panic!("paid, not refused")
        };
        assert_eq!((receipt.0.transaction.as_str(), status.as_u16()), (TRANSACTION, code));
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
        assert_eq!(purse.signed(), 1);
    }
}

#[tokio::test]
async fn an_answer_in_between_that_says_nothing_keeps_the_receipt() {
    let purse = purse();
    ask(&purse, &Wire::default().says([asks(&[terms()]), settled_and(500)])).await.unwrap();
    let response = ask(&purse, &Wire::default().says([asks(&[terms()]), status(502)])).await.unwrap();
    assert_eq!(receipt(&response).0.transaction, TRANSACTION);
    let response = ask(&purse, &Wire::default().says([asks(&[terms()]), status(200)])).await.unwrap();
    assert_eq!(receipt(&response).0.transaction, TRANSACTION);
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn a_receipt_that_says_failed_is_no_payment_c01() {
    let purse = purse();
    let response = ask(&purse, &case("c01-receipt-says-failed")).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Failed(_)));
    assert_eq!(receipt(&response).to_string(), "not paid: insufficient_funds on eip155:84532");
    assert_eq!(purse.used(), "0");
}

#[tokio::test]
async fn a_refusal_without_a_receipt_c03() {
    let purse = purse();
    let response = ask(&purse, &case("c03-refused-reason-only-in-header")).await.unwrap();
    assert!(response.extensions().get::<Receipt>().is_none());
    assert!(response.headers().contains_key(&names::PAYMENT_REQUIRED), "the reason stands there");
}

#[tokio::test]
async fn settled_and_refused_by_the_handler_c04() {
    let purse = purse();
    let wire = case("c04-settled-and-400");
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
    let again = Wire::default().says([asks(&[terms()]), paid()]);
    ask(&purse, &again).await.unwrap();
    assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn an_answer_lost_once_c06() {
    let purse = purse();
    let wire = case("c06-answer-lost-once");
    let response = ask(&purse, &wire).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
    assert_eq!(payment_of(&wire, 1), payment_of(&wire, 2));
    assert_eq!(purse.signed(), 1);
}

/// An answer that no server settles for, and that has no receipt, ends no payment: docs/dialects.md, "What is counted".
#[tokio::test]
async fn a_head_or_a_304_without_a_receipt_ends_no_payment() {
    let head = || Request::head(URL).body(Full::default()).unwrap();
    let get = || Request::get(URL).body(Full::default()).unwrap();
    for (first, code) in [(head(), 200), (head(), 204), (head(), 304), (get(), 304), (get(), 404), (get(), 500)] {
        let what = format!("{} {code}", first.method());
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), status(code)]);
        ask_with(&purse, &wire, first).await.unwrap();
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask_with(&purse, &again, get()).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{what}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{what}");
    }
    // A receipt decides.
    for (first, code) in [(head(), 200), (get(), 304)] {
        let purse = purse();
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), settled_and(code)]), first).await.unwrap();
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), get()).await.unwrap();
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"), "{code}");
    }
}

/// What any handler or proxy may answer, without a word about the payment, is not its end: a second one would be paid in
/// addition to the first.
#[tokio::test]
async fn a_redirect_a_409_or_a_412_without_a_receipt_ends_no_payment() {
    for code in [301, 302, 303, 307, 308, 409, 412] {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), status(code)]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status().as_u16(), code);
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &again).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{code}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{code}");
    }
    // A receipt decides, and so do terms beside a 412.
    let purse = purse();
    ask(&purse, &Wire::default().says([asks(&[terms()]), settled_and(303)])).await.unwrap();
    let mut other_terms = asks(&[terms()]);
    *other_terms.status_mut() = StatusCode::PRECONDITION_FAILED;
    ask(&purse, &Wire::default().says([asks(&[terms()]), other_terms])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (2, "10000"));
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (3, "20000"));
}

/// A 402 of which the body is all there is.
fn answers(body: &str) -> Response<Full<Bytes>> {
    status(402).map(|_| Full::from(body.to_owned()))
}

/// The same in the header of version 2.
fn asks_because(error: &str) -> Response<Full<Bytes>> {
    let mut document = document(&[terms()]);
    document["error"] = error.into();
    with(status(402), &names::PAYMENT_REQUIRED, common::header(&document))
}

/// What a settlement may have caused, what may stand for one without an answer, and what is not known: the authorization is
/// valid still, so another payment would be paid in addition to it.
#[tokio::test]
async fn a_402_that_does_not_prove_that_nothing_was_paid_ends_no_payment() {
    let duplicate = serde_json::json!({"success": false, "errorReason": "duplicate_settlement", "transaction": "", "network": "eip155:84532"});
    let no_reason = serde_json::json!({"success": false, "transaction": "", "network": "eip155:84532"});
    // The body of thirdweb's `settlePayment` where its facilitator gave no answer.
    let thirdweb = serde_json::json!({"x402Version": 2, "error": "Settlement error", "accepts": []}).to_string();
    for denied in [
        // `@x402/express` 2.27: `res.status(402).json({})`, whatever failed.
        || answers("{}"),
        || answers("<html>Payment required</html>"),
        || asks_because("Failed to settle payment: fetch failed"),
        || asks_because("invalid_exact_evm_nonce_already_used"),
        || asks_because("a_code_of_tomorrow"),
        || refused("invalid_exact_evm_transaction_failed"),
        || refused("transaction_failed"),
        || refused("permit2_invalid_nonce"),
    ]
    .map(|answer| answer())
    .into_iter()
    .chain([answers(&thirdweb), settled(402, &no_reason), settled(409, &duplicate)])
    {
        let (purse, case) = (purse(), format!("{denied:?}"));
        let wire = Wire::default().says([asks(&[terms()]), denied]);
        assert!(ask(&purse, &wire).await.unwrap().status().is_client_error(), "{case}");
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        assert_eq!(ask(&purse, &again).await.unwrap().status(), StatusCode::OK, "{case}");
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{case}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{case}");
    }
}

/// The body of such a 402 reaches the caller as it was.
#[tokio::test]
async fn the_body_of_a_refusal_is_read_and_passed_on() {
    use http_body_util::BodyExt;
    for body in ["{}", "", &"x".repeat(3_000_000)] {
        let response = ask(&purse(), &Wire::default().says([asks(&[terms()]), answers(body)])).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn a_code_of_verification_ends_a_payment_that_was_shown_once() {
    let body = serde_json::json!({"x402Version": 1, "error": "insufficient_funds", "accepts": []}).to_string();
    for refusal in [
        answers(&body),
        asks_because("invalid_exact_evm_payload_signature"),
        asks_because("invalid_exact_evm_insufficient_balance"),
        asks_because("No matching payment requirements"),
        refused("payer_blocked"),
        refused("INSUFFICIENT_BALANCE"),
    ] {
        let (purse, case) = (purse(), format!("{refusal:?}"));
        let wire = Wire::default().says([asks(&[terms()]), refusal]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(purse.used(), "0", "{case}");
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &again).await.unwrap();
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "10000"), "{case}");
    }
}

/// However often a handler answers 409: without a receipt it says nothing of the payment.
#[tokio::test]
async fn a_second_409_ends_no_payment() {
    let purse = purse();
    let first = Wire::default().says([asks(&[terms()]), status(409)]);
    ask(&purse, &first).await.unwrap();
    for _ in 0..3 {
        let again = Wire::default().says([asks(&[terms()]), status(409)]);
        assert_eq!(ask(&purse, &again).await.unwrap().status(), StatusCode::CONFLICT);
        assert_eq!(payment_of(&first, 1), payment_of(&again, 1));
    }
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    // Its time is over: whether it was paid, its caller has to find out.
    purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
    let error = ask(&purse, &Wire::default().says([asks(&[terms()])])).await.unwrap_err();
    assert!(matches!(error, ClientError::Pay(PayError::EarlierUnknown(_))), "{error:?}");
}

/// A body of a few bytes, which may break off behind them.
struct Cut(Option<Bytes>, bool);

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let frame = self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes)));
        let broken = self.1;
        std::task::Poll::Ready(frame.or_else(|| broken.then_some(Err("connection reset"))))
    }
}

/// A paid answer whose body breaks off is no answer: the same request shows the same payment.
#[tokio::test]
async fn a_paid_answer_that_breaks_off_is_asked_for_again_and_not_paid_again() {
    use http_body_util::BodyExt;
    let purse = purse();
    let call = async |paid: Response<Full<Bytes>>, broken: bool| {
        let paid = paid.map(|_| Cut(Some(Bytes::from_static(b"par")), broken));
        let asked = asks(&[terms()]).map(|_| Cut(None, false));
        let answers = Arc::new(std::sync::Mutex::new(vec![paid, asked]));
        let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let answer = answers.lock().unwrap().pop().unwrap();
            async move { Ok::<_, Broken>(answer) }
        });
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        PayLayer::new(purse.payer.clone()).layer(service).oneshot(request).await
    };
    let response = call(paid(), true).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
    assert!(purse.payer.open_payments().is_empty(), "it may still come whole");
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(purse.payer.open_payments().len(), 1);
    // A server that keeps its answers gives it again.
    let response = call(paid(), false).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "par");
    assert_eq!((purse.signed(), purse.used().as_str(), purse.payer.open_payments().len()), (1, "10000", 0));

    // Another says that it was used, and the end is told with the receipt. Then there is a new purchase.
    let response = call(paid(), true).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let Err(ClientError::PaidWithoutAnswer { receipt, .. }) = call(status(409), false).await else { panic!("paid") };
    assert_eq!((receipt.0.transaction.as_str(), purse.signed()), (TRANSACTION, 2));
    call(paid(), false).await.unwrap();
    assert_eq!(purse.signed(), 3);
}

/// A 2xx ends the payment, whatever stands in the header.
#[tokio::test]
async fn a_success_ends_the_payment_whatever_its_receipt_looks_like_c08() {
    let purse = purse();
    let wire = case("c08-receipt-is-raw-json-of-another-shape");
    assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::OK);
    let again = Wire::default().says([asks(&[terms()]), paid()]);
    assert_eq!(ask(&purse, &again).await.unwrap().status(), StatusCode::OK);
    assert_ne!(payment_of(&wire, 1), payment_of(&again, 1), "the first one is over");
    assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"));

    let shapes = [
        serde_json::json!({"success": "true", "transaction": TRANSACTION}),
        serde_json::json!({"success": true, "transaction": TRANSACTION, "amount": 0.01}),
        serde_json::json!({"success": true, "transaction": TRANSACTION, "extensions": []}),
        serde_json::json!({"success": false, "errorReason": "settlement_pending"}),
        serde_json::json!([1]),
    ];
    for shape in shapes {
        for value in [common::header(&shape), HeaderValue::try_from(shape.to_string()).unwrap()] {
            let purse = buyer::purse();
            for _ in 0..2 {
                let served = with(status(200), &names::PAYMENT_RESPONSE, value.clone());
                let response = ask(&purse, &Wire::default().says([asks(&[terms()]), served])).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK, "{shape}");
            }
            assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"), "{shape}");
        }
    }
}

#[tokio::test]
async fn a_receipt_of_version_1_c10() {
    let wire = case("c10-v1-receipt");
    let response = ask(&purse(), &wire).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
}

#[test]
fn what_a_receipt_says() {
    let said = |json: Value| Receipt(serde_json::from_value(json).unwrap()).to_string();
    let json = |success: bool, transaction: &str| serde_json::json!({"success": success, "transaction": transaction, "network": "eip155:84532"});
    assert_eq!(said(json(true, "0xab")), "paid: transaction 0xab on eip155:84532");
    assert_eq!(said(json(false, "0xab")), "not paid: the receipt gives no reason on eip155:84532");
    assert_eq!(said(json(true, "")), "not proven: the receipt says success and names no transaction");
    assert_eq!(said(json(true, " ")), "not proven: the receipt says success and names no transaction");
    let mut upto = json(true, "");
    upto["amount"] = "0".into();
    assert_eq!(said(upto), "nothing was charged on eip155:84532");
    let mut pending = json(false, "0xab");
    pending["errorReason"] = "settlement_pending".into();
    assert_eq!(said(pending), "not decided yet: transaction 0xab on eip155:84532");
}

#[tokio::test]
async fn a_header_that_no_proxy_passes_is_named_by_its_length() {
    for (code, suspect) in [(400, true), (414, true), (431, true), (494, true), (500, false), (422, false)] {
        let wire = Wire::default().says([asks(&[terms()]), status(code)]);
        let response = ask(&purse(), &wire).await.unwrap();
        let sent = response.extensions().get::<PaymentSent>().unwrap();
        let length = wire.requests.lock().unwrap()[1].headers()[&names::PAYMENT_SIGNATURE].len();
        assert_eq!((sent.header_bytes, sent.header_may_be_too_long), (length, suspect), "{code}");
    }
    let response = ask(&purse(), &Wire::default().says([asks(&[terms()]), settled_and(400)])).await.unwrap();
    assert!(!response.extensions().get::<PaymentSent>().unwrap().header_may_be_too_long, "it speaks x402");
}

fn process(book: &Arc<Book>) -> Purse {
    let mut purse = purse();
    purse.payer = purse.payer.with_journal(book.clone());
    purse
}

#[tokio::test]
async fn a_second_process_shows_the_payment_of_the_first_c05() {
    let book = Arc::new(Book::default());
    let wire = case("c05-answer-lost-after-settlement");
    wire.answers.lock().unwrap().extend((0..5).map(|_| Err("connection reset")));
    assert!(matches!(ask(&process(&book), &wire).await, Err(ClientError::Unknown(_))));
    let row = book.rows.lock().unwrap()[0].clone();
    assert_eq!(row.valid_until.0, NOW + 60);
    assert!(!format!("{row:?}").contains(&row.value), "a payment stays out of logs");

    let second = process(&book);
    let again = Wire::default().says([asks(&[terms()]), settled_and(503)]);
    ask(&second, &again).await.unwrap();
    assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
    assert_eq!(second.signed(), 0);
    assert_eq!(book.rows.lock().unwrap()[0].settled.as_ref().unwrap().transaction, TRANSACTION);

    let third = process(&book);
    let last = Wire::default().says([asks(&[terms()]), paid()]);
    assert_eq!(ask(&third, &last).await.unwrap().status(), StatusCode::OK);
    assert_eq!((payment_of(&wire, 1) == payment_of(&last, 1), third.signed()), (true, 0));
    assert!(book.rows.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_process_that_dies_with_the_payment_on_its_way_left_it_in_the_journal() {
    let book = Arc::new(Book::default());
    {
        use std::task::{Context, Waker};
        let purse = process(&book);
        let stuck = tower::service_fn(|request: Request<Full<Bytes>>| async move {
            if request.headers().contains_key(&names::PAYMENT_SIGNATURE) {
                std::future::pending::<()>().await;
            }
            Ok::<_, Broken>(asks(&[terms()]))
        });
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        let mut future = Box::pin(PayLayer::new(purse.payer).layer(stuck).oneshot(request));
        assert!(std::future::Future::poll(future.as_mut(), &mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(book.rows.lock().unwrap().len(), 1);
    let purse = process(&book);
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), book.rows.lock().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn nothing_leaves_that_was_not_written_down() {
    let book = Arc::new(Book { broken: true, ..Book::default() });
    let purse = process(&book);
    let wire = Wire::default().says([asks(&[terms()])]);
    assert!(matches!(ask(&purse, &wire).await, Err(ClientError::Pay(PayError::Fault(_)))));
    assert_eq!((wire.requests.lock().unwrap().len(), purse.used().as_str()), (1, "0"));
}

#[tokio::test]
async fn a_payment_whose_end_was_never_heard_stands_in_the_way_of_a_new_one() {
    let book = Arc::new(Book::default());
    let first = process(&book);
    let wire = Wire::default().says([asks(&[terms()]), status(500)]);
    ask(&first, &wire).await.unwrap();
    for purse in [first, process(&book)] {
        purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
        let error = ask(&purse, &Wire::default().says([asks(&[terms()])])).await.unwrap_err();
        assert!(matches!(error, ClientError::Pay(PayError::EarlierUnknown(_))), "{error:?}");
    }
    // A refusal of what was sent before, in time, is not its end either.
    let first = process(&Arc::new(Book::default()));
    let wire = Wire::default().says([asks(&[terms()]), status(500)]);
    ask(&first, &wire).await.unwrap();
    let again = Wire::default().says([asks(&[terms()]), refused("insufficient_funds")]);
    ask(&first, &again).await.unwrap();
    first.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
    let error = ask(&first, &Wire::default().says([asks(&[terms()])])).await.unwrap_err();
    assert!(matches!(error, ClientError::Pay(PayError::EarlierUnknown(_))), "{error:?}");
    assert_eq!(first.signed(), 1);

    book.rows.lock().unwrap().clear();
    ask(&process(&book), &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
}

fn earlier_unknown<B: std::fmt::Debug>(said: Result<B, ClientError<Broken>>) -> Box<OpenPayment> {
    match said {
        Err(ClientError::Pay(PayError::EarlierUnknown(open))) => open,
        other => panic!("{other:?}"),
    }
}

/// Unknown is never failed, in memory as in a journal.
#[tokio::test]
async fn without_a_journal_too_a_payment_that_expired_unheard_is_not_followed_by_another() {
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()]), status(500)]);
    ask(&purse, &wire).await.unwrap();
    purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
    let mut found = Vec::new();
    for _ in 0..2 {
        found = vec![*earlier_unknown(ask(&purse, &Wire::default().says([asks(&[terms()])])).await)];
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    }
    assert_eq!(purse.payer.open_payments(), found);
    let sent = wire.requests.lock().unwrap()[1].headers()[&names::PAYMENT_SIGNATURE].clone();
    assert_eq!(sent.to_str().unwrap(), found[0].value);

    // Another request is another purchase.
    let other = Request::get(URL).body(Full::default()).unwrap();
    ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), other).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"));

    // Its caller decides. What may have been paid stays counted.
    purse.payer.pay_anew(&found[0]).await.unwrap();
    assert_eq!(purse.payer.open_payments(), []);
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (3, "30000"));
}

#[tokio::test]
async fn a_decision_to_pay_anew_ends_the_row_of_the_journal() {
    let book = Arc::new(Book::default());
    let first = process(&book);
    ask(&first, &Wire::default().says([asks(&[terms()]), status(500)])).await.unwrap();
    for (purse, later) in [(first, 80_000), (process(&book), 160_000)] {
        purse.clock.passed.fetch_add(later, std::sync::atomic::Ordering::SeqCst);
        let open = earlier_unknown(ask(&purse, &Wire::default().says([asks(&[terms()])])).await);
        purse.payer.pay_anew(&open).await.unwrap();
        assert!(book.rows.lock().unwrap().is_empty());
        ask(&purse, &Wire::default().says([asks(&[terms()]), status(500)])).await.unwrap();
        assert_eq!(book.rows.lock().unwrap().len(), 1);
    }
}

/// Calls of one request beside each other are purchases of their own, and the end of each is open.
#[tokio::test]
async fn of_two_calls_beside_each_other_both_payments_are_kept() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let purse = purse();
    {
        let stuck = tower::service_fn(|request: Request<Full<Bytes>>| async move {
            if request.headers().contains_key(&names::PAYMENT_SIGNATURE) {
                std::future::pending::<()>().await;
            }
            Ok::<_, Broken>(asks(&[terms()]))
        });
        let call = || {
            let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
            Box::pin(PayLayer::new(purse.payer.clone()).layer(stuck).oneshot(request))
        };
        let mut calls = [call(), call()];
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }
    assert_eq!((purse.signed(), purse.used().as_str(), purse.payer.open_payments().len()), (2, "20000", 2));
    let mut shown = Vec::new();
    for left in [1, 0] {
        let wire = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &wire).await.unwrap();
        shown.push(payment_of(&wire, 1));
        assert_eq!((purse.signed(), purse.payer.open_payments().len()), (2, left));
    }
    assert_ne!(shown[0], shown[1]);
}

#[tokio::test]
async fn more_open_payments_than_are_kept_are_not_made() {
    let mut purse = purse();
    purse.payer = purse.payer.with_most_open(2);
    let get = |number: u32| Request::get(format!("{URL}?{number}")).body(Full::default()).unwrap();
    for number in 0..2 {
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), status(500)]), get(number)).await.unwrap();
    }
    let wire = Wire::default().says([asks(&[terms()])]);
    let error = ask_with(&purse, &wire, get(2)).await.unwrap_err();
    assert_eq!(error, ClientError::Pay(PayError::TooManyOpen { limit: 2 }));
    assert_eq!((wire.requests.lock().unwrap().len(), purse.signed(), purse.used().as_str()), (1, 2, "20000"));
    // One of them comes to its end, which makes room.
    ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), get(0)).await.unwrap();
    ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), get(2)).await.unwrap();
    assert_eq!(purse.signed(), 3);

    // A journal has room of its own: what this process forgets, it finds there.
    let book = Arc::new(Book::default());
    let mut purse = process(&book);
    purse.payer = purse.payer.with_most_open(1);
    for number in 0..2 {
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), status(500)]), get(number)).await.unwrap();
    }
    for number in 0..2 {
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), get(number)).await.unwrap();
    }
    assert_eq!((purse.signed(), book.rows.lock().unwrap().len()), (2, 0));
}
