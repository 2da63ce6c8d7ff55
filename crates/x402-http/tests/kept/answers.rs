//! What a 402, a broken body and a receipt prove of the payment that was shown.

use crate::*;

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
