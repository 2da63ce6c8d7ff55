//! Payments of several processes and calls, in a journal and without one.

use crate::*;

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
