//! The ends of payments on SQLite and on PostgreSQL: noted with the answer, by whatever writer, and taken by one at a time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use x402_facilitator_core::{LaneId, Ledger, OwnerId, Payment, Receipt, RequestId, Write};
use x402_store::ended::EndedPayments;
use x402_store::postgres::{PostgresEnded, PostgresLedger};
use x402_store::sqlite::{Database, SqliteEnded, SqliteLedger};
use x402_types::{AtomicAmount, ChainId, Claim, ErrorReason, PaymentKey, RawJson, SchemeName, Terms, UnixSeconds};

fn payment(number: u8) -> Payment {
    let network = ChainId::eip155(8453);
    let terms = Terms::new(SchemeName::EXACT, network, AtomicAmount::from(10_000), "0xab", "0xcd");
    let claim = Claim::of_payload(terms, RawJson::parse("{}".to_owned()).unwrap());
    let request = RequestId { owner: OwnerId::from("one"), number: 1 };
    Payment::from_row(
        PaymentKey::from_bytes(&[number]),
        claim,
        "0xpayer".to_owned(),
        LaneId::new(network, "a"),
        request,
    )
}

fn receipt() -> Receipt {
    Receipt::new(None, ChainId::eip155(8453), "0xpayer".to_owned())
}

/// Claims a payment and stores its answer.
async fn ends(ledger: &dyn Ledger, number: u8, answer: Result<Receipt, ErrorReason>) {
    let mut row = ledger.claim(payment(number)).await.unwrap();
    row.answer = Some(answer);
    ledger.commit(Write { payments: vec![row], ..Write::default() }).await.unwrap();
}

async fn all(ledger: &dyn Ledger, store: &dyn EndedPayments) {
    let take = async |now: u64, limit: usize| store.take(UnixSeconds(now), UnixSeconds(now + 30), limit).await.unwrap();
    // Without the switch nothing is noted.
    ends(ledger, 1, Ok(receipt())).await;
    assert_eq!(store.waiting().await, Ok(0));
    for _ in 0..2 {
        store.set_noting(true).await.unwrap();
    }
    ends(ledger, 2, Ok(receipt())).await;
    ends(ledger, 3, Err(ErrorReason::INSUFFICIENT_FUNDS)).await;
    // A later write of an answered payment is no second end.
    let mut told = ledger.read(&PaymentKey::from_bytes(&[2])).await.unwrap().unwrap();
    told.untold = true;
    ledger.commit(Write { payments: vec![told], ..Write::default() }).await.unwrap();
    assert_eq!(store.waiting().await, Ok(2));

    let first = take(100, 1).await;
    assert_eq!((first.len(), first[0].tries), (1, 1));
    assert_eq!(first[0].payment.key, PaymentKey::from_bytes(&[2]));
    assert_eq!(first[0].payment.answer, Some(Ok(receipt())));
    let second = take(100, 9).await;
    assert_eq!(second.len(), 1, "the first is held");
    assert_eq!(second[0].payment.answer, Some(Err(ErrorReason::INSUFFICIENT_FUNDS)));
    assert!(second[0].number > first[0].number);
    assert!(take(129, 9).await.is_empty());
    // Whoever held it has ended without a word.
    let again = take(130, 9).await;
    assert_eq!(
        again.iter().map(|it| (it.number, it.tries)).collect::<Vec<_>>(),
        [(first[0].number, 2), (second[0].number, 2)]
    );
    store.postpone(first[0].number, UnixSeconds(500)).await.unwrap();
    store.remove(second[0].number).await.unwrap();
    assert!(take(499, 9).await.is_empty());
    assert_eq!(take(500, 9).await[0].tries, 3);

    // A payment that is reopened has a second end, and that has a number of its own.
    let mut reopened = ledger.read(&PaymentKey::from_bytes(&[3])).await.unwrap().unwrap();
    reopened.answer = None;
    ledger.commit(Write { payments: vec![reopened], ..Write::default() }).await.unwrap();
    let mut row = ledger.read(&PaymentKey::from_bytes(&[3])).await.unwrap().unwrap();
    row.answer = Some(Ok(receipt()));
    ledger.commit(Write { payments: vec![row], ..Write::default() }).await.unwrap();
    store.set_noting(false).await.unwrap();
    ends(ledger, 4, Ok(receipt())).await;
    let last = take(505, 9).await;
    assert_eq!(last.len(), 1);
    assert!(last[0].number > second[0].number && last[0].payment.answer == Some(Ok(receipt())));
    assert_eq!(store.waiting().await, Ok(2));
}

#[tokio::test]
async fn in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    all(&SqliteLedger::new(database.clone()), &SqliteEnded::new(database)).await;
}

#[tokio::test]
async fn in_a_database() {
    let url = support::empty_database().await;
    let database = support::open(&url).await;
    all(&PostgresLedger::new(database.clone()), &PostgresEnded::new(database)).await;
}
