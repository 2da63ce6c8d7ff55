//! The rules of the stores of cards, on SQLite; and that a file keeps what was written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use x402_card::conformance;
use x402_card::stores::{Books as _, Delegations as _};
use x402_store::sqlite::{Database, SqliteCards};

#[tokio::test]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cards.sqlite");
    let store = SqliteCards::new(Database::open(&path).unwrap());
    assert_eq!(conformance::delegations(&store).await, Ok(()));
    assert_eq!(conformance::books(&store).await, Ok(()));
    let (all, credits) = (store.list("user").await.unwrap(), store.posted("m2").await.unwrap());
    assert_eq!((all.len(), credits), (2, Some(true)));
    drop(store);
    let again = SqliteCards::new(Database::open(&path).unwrap());
    assert_eq!((again.list("user").await.unwrap(), again.posted("m2").await.unwrap()), (all, credits));
}

/// Of many settlements at once that would exceed the limit together, as many are counted as fit.
#[tokio::test]
async fn a_limit_is_kept_by_many_at_once() {
    use x402_card::stores::{Card, Cards as _, ChargeState, NewCharge};
    use x402_card::{Cents, Currency, Delegation, NewDelegation};
    use x402_types::UnixSeconds;
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteCards::new(Database::open(folder.path().join("cards.sqlite")).unwrap());
    store.enrol(Card::new("user", "cus_1", "pm_1", "visa", "4242")).await.unwrap();
    let record = Delegation::new(NewDelegation {
        id: "d1".parse().unwrap(),
        owner: "user".to_owned(),
        customer: "cus_1".to_owned(),
        payment_method: "pm_1".to_owned(),
        currency: Currency::Usd,
        limit: Cents::try_from(3_550).unwrap(),
        created_at: UnixSeconds(1),
        expires_at: UnixSeconds(9_000),
    });
    assert!(store.create(record.clone()).await.unwrap());
    let mut tasks = Vec::new();
    for at in 0..50 {
        let (store, id) = (store.clone(), record.id.clone());
        let new = NewCharge { payment: [at; 32], delegation: id, cents: Cents::try_from(700).unwrap() };
        tasks.push(tokio::spawn(async move { store.reserve(new, UnixSeconds(10)).await.unwrap().state }));
    }
    let mut counted = 0;
    for task in tasks {
        counted += usize::from(task.await.unwrap() == ChargeState::Counted);
    }
    let record = store.read(&record.id).await.unwrap().unwrap();
    assert_eq!((counted, record.spent.value(), record.charges), (5, 3_500, 5));
}
