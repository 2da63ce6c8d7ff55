//! A worker that lost its lane changes nothing, however the two transactions meet.

use std::time::Duration;

use x402_facilitator_core::{CommitError, LaneId, Ledger, Next, OwnerId, Write};
use x402_store::postgres::PostgresLedger;

use crate::support::{empty_database, open, session};

const END_ALL: &str = "UPDATE x402_leases SET until = until - INTERVAL '1000 seconds'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_meets_a_new_owner_waits_for_it_and_is_fenced() {
    let url = empty_database().await;
    let ledger = PostgresLedger::new(open(&url).await);
    let lane = LaneId::from("eip155:1/a");
    let old = ledger.lease(&lane, &OwnerId::from("old"), 100).await.unwrap();
    let mut other = session(&url).await;
    other.batch_execute(END_ALL).await.unwrap();
    // A new owner takes the lane, statement by statement as the ledger does, and has not committed yet.
    let taking = other.transaction().await.unwrap();
    taking.batch_execute("UPDATE x402_leases SET owner = 'new', fence = 2").await.unwrap();
    taking.batch_execute("UPDATE x402_fences SET fence = 2").await.unwrap();
    let write = Write { lease: old, next: Some(Next { from: 0, to: 7 }), ..Write::default() };
    let stale = tokio::spawn({
        let (ledger, write) = (ledger.clone(), write.clone());
        async move { ledger.commit(write).await }
    });
    let watching = session(&url).await;
    let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR SHARE%'";
    while watching.query(waits, &[]).await.unwrap().is_empty() {
        assert!(!stale.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    taking.commit().await.unwrap();
    assert_eq!(stale.await.unwrap(), Err(CommitError::Fenced));
    assert_eq!(ledger.commit(write).await, Err(CommitError::Fenced));
    assert_eq!(ledger.lane(&lane, 0).await.unwrap().next, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_waits_for_the_commit_that_has_begun_and_a_renewal_does_not() {
    let url = empty_database().await;
    let ledger = PostgresLedger::new(open(&url).await);
    let lane = LaneId::from("eip155:1/a");
    let (old, new) = (OwnerId::from("old"), OwnerId::from("new"));
    let first = ledger.lease(&lane, &old, 100).await.unwrap().unwrap();
    let mut other = session(&url).await;
    // A commit of the old owner has passed its check, and has not ended yet.
    let committing = other.transaction().await.unwrap();
    committing.batch_execute("SELECT fence FROM x402_fences FOR SHARE").await.unwrap();
    assert_eq!(ledger.lease(&lane, &old, 100).await.unwrap(), Some(first.clone()), "a renewal");
    session(&url).await.batch_execute(END_ALL).await.unwrap();
    let taking = tokio::spawn({
        let (ledger, lane) = (ledger.clone(), lane.clone());
        async move { ledger.lease(&lane, &new, 100).await }
    });
    let watching = session(&url).await;
    let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%x402_fences%'";
    while watching.query(waits, &[]).await.unwrap().is_empty() {
        assert!(!taking.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    committing.commit().await.unwrap();
    let second = taking.await.unwrap().unwrap().unwrap();
    assert_eq!((first.fence, second.fence), (1, 2));
}
