//! Payments by challenge whose end was not heard, or that bought no answer: a later process presents the same payment,
//! and signs no other while the first may be settled.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use x402_challenge::{
    Allowance, Charge, EntitlementToken, Evidence, MadeProof, MakeProof, ProofError, Proofs, Proven, VerifyProof,
};
use x402_codec::challenge as codec;
use x402_codec::header::X_PAYMENT_RESPONSE;
use x402_http::client::{ChallengeReceipt, ClientError, OpenPayment, PayError, PaymentSent};
use x402_http::server::challenge::{Ask, Clock, Entitle};
use x402_types::challenge::{Challenge, Payment, Proof, ProofKind};
use x402_types::{Fault, Refusal, SigningContext, UnixSeconds};

use crate::book::Book;
use crate::purse::{Broken, First, Purse, Said, URL, ask, json_answer, purse, purse_at, refusing, status};
use crate::shop::{offer, shop_taking};

fn with_journal(book: &Arc<Book>, mut purse: Purse) -> Purse {
    purse.payer = purse.payer.with_journal(book.clone());
    purse
}

/// A process at a shop of its own.
fn process(book: &Arc<Book>, ask: Ask) -> Purse {
    with_journal(book, purse(ask))
}

/// A later process at the same shop. It remembers nothing, and its random bytes are others.
fn later(book: &Arc<Book>, earlier: Purse) -> Purse {
    let purse = purse_at(earlier.shop, earlier.wire.shop);
    purse.watch.drawn.store(100, Ordering::SeqCst);
    with_journal(book, purse)
}

fn rows(book: &Book) -> Vec<OpenPayment> {
    book.rows.lock().unwrap().clone()
}

/// The payment that was sent since the last look, however often.
fn the_payment(purse: &Purse) -> Payment {
    let mut payments: Vec<Payment> = purse.wire.payments().into_iter().flatten().collect();
    payments.dedup();
    assert_eq!(payments.len(), 1);
    payments.remove(0)
}

fn receipt<B>(response: &http::Response<B>) -> Option<&ChallengeReceipt> {
    response.extensions().get()
}

fn earlier_unknown(said: Said) {
    match said {
        Err(ClientError::Pay(PayError::EarlierUnknown(_))) => {}
        other => panic!("{:?}", other.map(|response| response.status())),
    }
}

/// The money moved and the answer was lost. The shop takes a challenge once, and says so: nothing is paid twice.
#[tokio::test]
async fn a_later_process_shows_the_payment_whose_answer_was_lost() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.wire.goes([First::Passes, First::Lost, First::Breaks]);
    assert_eq!(first.get(URL).await.unwrap_err(), ClientError::Unknown(Broken));
    let paid = the_payment(&first);
    let row = rows(&book).remove(0);
    assert_eq!(row.challenge.as_ref().unwrap().id, paid.challenge_id);
    assert!(!format!("{row:?}").contains(&row.value), "a payment stays out of logs");

    let second = later(&book, first);
    let response = second.get(URL).await.unwrap();
    assert_eq!((response.status(), the_payment(&second)), (StatusCode::CONFLICT, paid));
    assert_eq!(response.extensions().get::<PaymentSent>().unwrap().header_bytes, row.value.len());
    assert_eq!((second.shop.handler.calls(), second.used().as_str(), rows(&book).len()), (1, "0", 0));
}

/// A payment of which the shop heard, and whose settlement it does not know yet.
struct Unheard(AtomicUsize);

#[async_trait]
impl VerifyProof for Unheard {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(ProofError::Unknown(Fault::unreachable("facilitator", "timed out")));
        }
        Ok(Proven { amount: evidence.payment.paid_amount, key: None })
    }
}

#[async_trait]
impl MakeProof for Unheard {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    fn can_pay(&self, _: &Challenge) -> bool {
        true
    }

    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        context: &SigningContext<'_>,
    ) -> Result<MadeProof, Refusal> {
        let proof = Proof { ticket: Some("ticket".into()), ..Proof::new(ProofKind::Facilitator) };
        let valid_until = context.now.plus(challenge.max_timeout_seconds.get());
        Ok(MadeProof { payment: Payment { proof, ..payment }, valid_until })
    }
}

/// "The payment that was begun goes on, for a day": the challenge is over long before.
#[tokio::test]
async fn a_payment_that_the_shop_has_begun_is_shown_also_after_its_challenge() {
    let book = Arc::new(Book::default());
    let unheard = Arc::new(Unheard(AtomicUsize::default()));
    let shop = shop_taking(Proofs::default().with(unheard.clone()).unwrap());
    let wall = shop.sells(ask());
    let mut first = with_journal(&book, purse_at(shop, wall));
    first.payer = first.payer.with_proofs([unheard.clone() as Arc<dyn MakeProof>]);
    assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let begun = the_payment(&first);
    assert_eq!(rows(&book)[0].valid_until, first.shop.clock.now().plus(300));

    first.shop.clock.pass(10_000);
    let mut second = later(&book, first);
    second.payer = second.payer.with_proofs([unheard as Arc<dyn MakeProof>]);
    let response = second.get(URL).await.unwrap();
    assert_eq!((response.status(), the_payment(&second)), (StatusCode::OK, begun));
    assert!(receipt(&response).unwrap().0.ok && rows(&book).is_empty());
}

/// Unknown is never failed: the refusal of a payment that was sent before says nothing of how it ended.
#[tokio::test]
async fn a_challenge_that_expired_with_its_end_unknown_stands_in_the_way_of_a_new_payment() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.wire.goes([First::Passes, First::Breaks, First::Breaks]);
    assert_eq!(first.get(URL).await.unwrap_err(), ClientError::Unknown(Broken));
    let sent = the_payment(&first);
    first.shop.clock.pass(1_000);
    // In the same process, and in the next ones.
    earlier_unknown(first.get(URL).await);
    assert_eq!(the_payment(&first), sent);
    let mut last = later(&book, first);
    for _ in 0..2 {
        earlier_unknown(last.get(URL).await);
        assert_eq!((the_payment(&last), rows(&book).len()), (sent.clone(), 1));
        last = later(&book, last);
    }
    assert_eq!(last.shop.handler.calls(), 0);
    // A person who knows the end removes the row.
    book.rows.lock().unwrap().clear();
    assert_eq!(last.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_ne!(the_payment(&last), sent);
}

/// Without a journal the process remembers it: the payment is shown again, and its refusal is no end.
#[tokio::test]
async fn without_a_journal_too_an_expired_challenge_is_not_followed_by_another_payment() {
    let purse = purse(ask());
    purse.wire.goes([First::Passes, First::Breaks, First::Breaks]);
    assert_eq!(purse.get(URL).await.unwrap_err(), ClientError::Unknown(Broken));
    let sent = the_payment(&purse);
    purse.shop.clock.pass(1_000);
    for _ in 0..2 {
        earlier_unknown(purse.get(URL).await);
        assert_eq!((the_payment(&purse), purse.used().as_str()), (sent.clone(), "1000"));
    }
    purse.payer.pay_anew(&purse.payer.open_payments()[0]).await.unwrap();
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_ne!(the_payment(&purse), sent);
}

/// While the payment may be settled, a refusal of its repetition makes room for no other.
#[tokio::test]
async fn a_refusal_after_an_unknown_end_is_not_the_end() {
    for refusal in ["expired", "mismatch", "insufficient", "verification_failed"] {
        let book = Arc::new(Book::default());
        let first = process(&book, ask());
        let fresh = first.shop.asked(&first.wire.shop, "/weather").await;
        first.wire.goes([First::Passes, First::Breaks]);
        first.wire.says(refusing(refusal, Some(&fresh)));
        assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED, "{refusal}");
        let sent = the_payment(&first);
        let second = later(&book, first);
        assert_eq!(second.get(URL).await.unwrap().status(), StatusCode::OK, "{refusal}");
        assert_eq!((the_payment(&second), rows(&book).len()), (sent, 0), "{refusal}");
    }
    // A 402 of anybody, and a proof that was not accepted, prove nothing, even the first.
    let bare = http::Response::builder().status(402).body(Full::default()).unwrap();
    for refusal in [bare, refusing("verification_failed", None)] {
        let book = Arc::new(Book::default());
        let first = process(&book, ask());
        first.wire.goes([First::Passes]);
        first.wire.says(refusal);
        assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
        let sent = the_payment(&first);
        let second = later(&book, first);
        assert_eq!(second.get(URL).await.unwrap().status(), StatusCode::OK);
        assert_eq!((the_payment(&second), rows(&book).len()), (sent, 0));
    }
    // A typed refusal of what was sent once proves that it is unused.
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.wire.goes([First::Passes]);
    first.wire.says(refusing("expired", None));
    assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
    assert!(rows(&book).is_empty());
}

#[tokio::test]
async fn a_handler_that_failed_after_the_money_moved_is_paid_once_over_processes() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.shop.handler.statuses.lock().unwrap().push_back(StatusCode::BAD_GATEWAY);
    let response = first.get(URL).await.unwrap();
    let said = receipt(&response).unwrap().clone();
    assert_eq!((response.status(), first.used().as_str()), (StatusCode::BAD_GATEWAY, "1000"));
    assert_eq!(rows(&book)[0].challenge.as_ref().unwrap().receipt.as_ref(), Some(&said.0));
    let paid = the_payment(&first);
    first.shop.clock.pass(100_000);

    // An answer that says nothing ends nothing, and takes nothing back.
    let second = later(&book, first);
    second.wire.goes([First::Passes]);
    second.wire.says(status(502));
    let response = second.get(URL).await.unwrap();
    assert_eq!((receipt(&response), the_payment(&second)), (Some(&said), paid.clone()));
    // The shop takes it once only: the end is told, with the receipt.
    let third = later(&book, second);
    let response = third.get(URL).await.unwrap();
    assert_eq!((receipt(&response), the_payment(&third)), (Some(&said), paid));
    assert!(response.status().is_client_error() && rows(&book).is_empty());
    assert_eq!(third.shop.handler.calls(), 1);
}

/// A metered payment whose request was not served is over with that answer, which says so; it costs nothing.
#[tokio::test]
async fn a_metered_challenge_that_was_not_served_is_over_and_costs_nothing() {
    let metered = || {
        let mut sold = offer("urn:res:abc123");
        sold.charge = Charge::UpTo;
        Ask::new(sold)
    };
    for code in
        [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::PAYMENT_REQUIRED, StatusCode::SERVICE_UNAVAILABLE]
    {
        for lost in [false, true] {
            let book = Arc::new(Book::default());
            let first = process(&book, metered());
            first.shop.handler.statuses.lock().unwrap().push_back(code);
            if lost {
                // The request did not arrive at first: what the shop says of it is its end all the same.
                first.wire.goes([First::Passes, First::Breaks]);
            }
            let response = first.get(URL).await.unwrap();
            assert_eq!((response.status(), receipt(&response)), (code, None), "{code}");
            let sent = the_payment(&first);
            assert_eq!((rows(&book).len(), first.used().as_str()), (0, "0"), "{code}");
            assert_eq!(first.payer.open_payments(), []);
            // The next call buys anew.
            let second = later(&book, first);
            let response = second.get(URL).await.unwrap();
            assert_eq!((response.status(), rows(&book).len()), (StatusCode::OK, 0), "{code}");
            assert_ne!(the_payment(&second), sent);
            assert_eq!(second.used(), "1000");
        }
    }
}

/// `ok: false` says that access was not granted, and nothing of the money.
#[tokio::test]
async fn a_receipt_that_does_not_say_that_nothing_is_settled_ends_nothing() {
    for rest in [
        json!({}),
        json!({ "amount": "1" }),
        json!({ "amount": 0 }),
        json!({ "challengeId": "another", "amount": "0" }),
    ] {
        let book = Arc::new(Book::default());
        let first = process(&book, ask());
        let challenge = first.shop.asked(&first.wire.shop, "/weather").await;
        first.wire.says(json_answer(402, &serde_json::to_value(&challenge).unwrap()));
        let mut said =
            json!({ "ok": false, "challengeId": challenge.challenge_id.as_str(), "resource": "urn:res:abc123" });
        said.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let mut response = status(500);
        let value = codec::encode_response(&serde_json::from_value(said).unwrap()).unwrap();
        response.headers_mut().insert(&X_PAYMENT_RESPONSE, value);
        first.wire.says(response);
        assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!((rows(&book).len(), first.used().as_str()), (1, "1000"), "{rest}");
    }
}

/// What was bought is the entitlement: it is presented instead of the payment.
#[tokio::test]
async fn an_entitlement_that_served_nothing_yet_is_presented_by_a_later_process() {
    for entitle in [Entitle::cookie(60), Entitle::bearer(60)] {
        let book = Arc::new(Book::default());
        let sells = || ask().with_entitlement(entitle.with_allowance(Allowance::Count(2)));
        let first = process(&book, sells());
        first.shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(first.get(URL).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
        let row = rows(&book).remove(0);
        let token = row.challenge.as_ref().unwrap().entitlement.as_ref().unwrap().token.clone();
        assert!(!format!("{:?} {row:?}", row.challenge).contains(&token), "{entitle:?}");

        let second = later(&book, first);
        let response = second.get(URL).await.unwrap();
        assert_eq!((response.status(), second.wire.counts()), (StatusCode::OK, (2, 0)), "{entitle:?}");
        assert!(receipt(&response).is_some() && rows(&book).is_empty());
        // It is in hand from then on, and when it is used up the request is paid again.
        assert_eq!((second.get(URL).await.unwrap().status(), second.wire.counts()), (StatusCode::OK, (1, 0)));
        assert_eq!((second.get(URL).await.unwrap().status(), second.wire.counts()), (StatusCode::OK, (2, 1)));

        // Where it is over, so is what was bought.
        let book = Arc::new(Book::default());
        let first = process(&book, sells());
        first.shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
        first.get(URL).await.unwrap();
        first.shop.clock.pass(60);
        let second = later(&book, first);
        assert_eq!((second.get(URL).await.unwrap().status(), second.wire.counts()), (StatusCode::OK, (2, 1)));
        assert!(rows(&book).is_empty());
    }
}

/// What cannot be presented, or is refused: three requests at most, and one payment where it is over.
#[tokio::test]
async fn an_entitlement_that_is_refused_is_over_and_one_that_cannot_be_presented_is_not() {
    let failed = async || {
        let book = Arc::new(Book::default());
        let first = process(&book, ask().with_entitlement(Entitle::bearer(60)));
        first.shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
        first.get(URL).await.unwrap();
        let paid = the_payment(&first);
        (later(&book, first), book, paid)
    };
    let (second, book, paid) = failed().await;
    let token = rows(&book)[0].challenge.as_ref().unwrap().entitlement.as_ref().unwrap().token.clone();
    let token = EntitlementToken::presented(Some(&token), None).unwrap();
    assert!(second.shop.challenges.gate().store().revoke(&token.hash()).await.unwrap());
    assert_eq!(second.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!(second.wire.requests.lock().unwrap().len(), 3);
    assert_ne!(the_payment(&second), paid);
    assert!(rows(&book).is_empty());

    // The caller's own credentials stay, so the payment is shown; the shop takes it once, and the receipt is told.
    let (second, book, paid) = failed().await;
    let own = Request::get(URL).header(AUTHORIZATION, "Basic YTpi").body(Full::default()).unwrap();
    let response = second.send(own).await.unwrap();
    assert_eq!((response.status(), receipt(&response).is_some()), (StatusCode::CONFLICT, true));
    assert_eq!((the_payment(&second), rows(&book).len()), (paid, 0));
}

/// In one process the entitlement is presented with the first request, and its end is written down all the same.
#[tokio::test]
async fn an_entitlement_that_is_presented_ends_its_payment() {
    let book = Arc::new(Book::default());
    let purse = process(&book, ask().with_entitlement(Entitle::bearer(60)));
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    purse.shop.handler.statuses.lock().unwrap().extend([failed, failed]);
    for (status, open) in [(failed, 1), (failed, 1), (StatusCode::OK, 0)] {
        assert_eq!((purse.get(URL).await.unwrap().status(), rows(&book).len()), (status, open));
    }
    assert_eq!((purse.wire.counts(), purse.used().as_str()), ((4, 1), "1000"));
}

#[tokio::test]
async fn a_process_that_is_killed_between_signing_and_sending_left_the_payment_in_the_journal() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    {
        let mut killed = pin!(first.get(URL));
        let mut context = Context::from_waker(Waker::noop());
        // The second request has left the client, and the shop does not have it.
        while first.wire.requests.lock().unwrap().len() < 2 {
            assert!(matches!(killed.as_mut().poll(&mut context), Poll::Pending));
        }
    }
    let signed = the_payment(&first);
    assert_eq!((first.shop.handler.calls(), rows(&book).len()), (0, 1));
    let second = later(&book, first);
    assert_eq!(second.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!((the_payment(&second), rows(&book).len()), (signed, 0));
}

#[tokio::test]
async fn nothing_leaves_that_was_not_written_down() {
    let purse = process(&Arc::new(Book { broken: true, ..Book::default() }), ask());
    assert!(matches!(purse.get(URL).await, Err(ClientError::Pay(PayError::Fault(_)))));
    assert_eq!((purse.wire.counts(), purse.used().as_str()), ((1, 0), "0"));
}

/// A row that this process cannot present, since another version wrote it, is a payment all the same.
#[tokio::test]
async fn a_row_that_cannot_be_presented_stands_in_the_way() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.wire.goes([First::Passes, First::Breaks, First::Breaks]);
    first.get(URL).await.unwrap_err();
    book.rows.lock().unwrap()[0].header = "no header".to_owned();
    let second = later(&book, first);
    earlier_unknown(second.get(URL).await);
    assert_eq!(second.wire.counts(), (1, 0));
}

#[tokio::test]
async fn a_served_payment_leaves_no_row_and_the_next_request_is_another_purchase() {
    let book = Arc::new(Book::default());
    let first = process(&book, ask());
    first.get(URL).await.unwrap();
    let paid = the_payment(&first);
    assert!(rows(&book).is_empty());
    let second = later(&book, first);
    // Beside a version 2 that this payer cannot pay, too.
    second.wire.says(json_answer(402, &json!({"x402Version": 2, "accepts": []})));
    assert!(second.get(URL).await.is_err());
    second.wire.payments();
    assert_eq!(second.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_ne!(the_payment(&second), paid);
}
