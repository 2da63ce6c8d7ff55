//! What goes wrong with a database, and the state that each fault leaves.

use std::time::{Duration, Instant};

use x402_facilitator_core::{CommitError, LaneId, Lease, Ledger, Next, OwnerId, Write};
use x402_store::postgres::PostgresLedger;
use x402_testkit::postgres::{Fsync, PostgresServer};
use x402_types::Fault;

use crate::proxy::{Line, Proxy};
use crate::support::{empty_database, open, session};

fn lane() -> LaneId {
    LaneId::from("eip155:1/a")
}

/// A ledger whose lane is leased, and a connection beside it.
struct Stage {
    url: String,
    ledger: PostgresLedger,
    database: x402_store::postgres::Postgres,
    lease: Lease,
    beside: tokio_postgres::Client,
}

impl Stage {
    async fn new() -> Self {
        let url = empty_database().await;
        let database = open(&url).await;
        let ledger = PostgresLedger::new(database.clone());
        let lease = ledger.lease(&lane(), &OwnerId::from("one"), 1_000_000).await.unwrap().unwrap();
        Self { beside: session(&url).await, ledger, database, lease, url }
    }

    /// A write that moves the lane's next nonce by one, and can therefore happen once.
    fn write(&self, from: u64) -> Write {
        Write { lease: Some(self.lease.clone()), next: Some(Next { from, to: from + 1 }), ..Write::default() }
    }

    async fn next(&self) -> u64 {
        self.beside.query_one("SELECT next FROM x402_nonces", &[]).await.unwrap().get::<_, i64>(0).unsigned_abs()
    }

    async fn run(&self, sql: &str) {
        self.beside.batch_execute(sql).await.unwrap();
    }

    /// Lets every change of the next nonce execute these statements first.
    async fn on_write(&self, statements: &str) {
        self.run(&format!(
            "CREATE OR REPLACE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN {statements} RETURN NEW; END $$;
             CREATE TRIGGER hinder BEFORE UPDATE ON x402_nonces FOR EACH ROW EXECUTE FUNCTION hinder()"
        ))
        .await;
    }
}

fn text(result: Result<(), CommitError>) -> String {
    match result {
        Err(CommitError::Fault(fault)) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_serialized_is_repeated_and_in_the_end_given_up() {
    for code in ["40001", "40P01"] {
        let stage = Stage::new().await;
        stage.run("CREATE SEQUENCE tries").await;
        let fail = |times: u32| {
            format!("IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'again' USING ERRCODE = '{code}'; END IF;")
        };
        stage.on_write(&fail(3)).await;
        assert_eq!(stage.ledger.commit(stage.write(0)).await, Ok(()), "{code}");
        let tries =
            async || stage.beside.query_one("SELECT last_value FROM tries", &[]).await.unwrap().get::<_, i64>(0);
        assert_eq!((tries().await, stage.next().await), (4, 1), "{code}");
        stage.run("DROP TRIGGER hinder ON x402_nonces").await;
        stage.on_write(&fail(1_000)).await;
        let said = text(stage.ledger.commit(stage.write(1)).await);
        assert!(said.contains(code) && said.contains("8 times"), "{said}");
        assert_eq!((tries().await, stage.next().await), (12, 1), "{code}");
    }
}

/// Distributed databases find it out at the commit.
#[tokio::test]
async fn a_commit_that_cannot_be_serialized_is_repeated() {
    let stage = Stage::new().await;
    stage
        .run(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;
               RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON x402_nonces DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION late()",
        )
        .await;
    assert_eq!(stage.ledger.commit(stage.write(0)).await, Ok(()));
    assert_eq!(stage.next().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_unknown_and_never_a_conflict() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(crate::support::SERVER.port()).await;
    let through = stage.url.replace(&format!(":{}/", crate::support::SERVER.port()), &format!(":{}/", proxy.port));
    let ledger = PostgresLedger::new(open(&through).await);
    for (line, from, happened) in [(Line::CutAfterCommit, 0, true), (Line::CutBeforeCommit, 1, false)] {
        proxy.set(line);
        let cuts = proxy.cuts();
        let said = text(ledger.commit(stage.write(from)).await);
        assert!(said.contains(&format!("127.0.0.1:{}/", proxy.port)), "{said}");
        assert_eq!(proxy.cuts(), cuts + 1, "{line:?}: it is not repeated");
        // Whether it happened is seen by reading again.
        proxy.set(Line::Whole);
        let next = ledger.lane(&lane(), 0).await.unwrap().next;
        assert_eq!(next, if happened { from + 1 } else { from }, "{line:?}");
        let again = if happened { Err(CommitError::Conflict) } else { Ok(()) };
        assert_eq!(ledger.commit(stage.write(from)).await, again, "{line:?}");
    }
}

/// Statements behind a refused beginning would be transactions of their own, and leave half a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_in_a_transaction_that_did_not_begin() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(crate::support::SERVER.port()).await;
    let through = stage.url.replace(&format!(":{}/", crate::support::SERVER.port()), &format!(":{}/", proxy.port));
    let ledger = PostgresLedger::new(open(&through).await);
    // The statements are prepared, so that nothing else delays them.
    assert_eq!(ledger.commit(stage.write(0)).await, Ok(()));
    proxy.set(Line::NoBegin);
    let said = text(ledger.commit(stage.write(1)).await);
    assert!(said.contains("42601"), "{said}");
    assert_eq!(stage.next().await, 1);
    assert!(ledger.lane(&lane(), 0).await.is_err());
    proxy.set(Line::Whole);
    assert_eq!(ledger.commit(stage.write(1)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_is_given_up_and_used_again_when_it_does() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(crate::support::SERVER.port()).await;
    let through = stage.url.replace(&format!(":{}/", crate::support::SERVER.port()), &format!(":{}/", proxy.port));
    let database = open(&through).await;
    let ledger = PostgresLedger::new(database.clone());
    proxy.set(Line::Dead);
    let began = Instant::now();
    let lane = lane();
    let (read, wrote) = tokio::join!(ledger.lane(&lane, 0), ledger.commit(stage.write(0)));
    assert!(matches!(read, Err(Fault::Store { .. })), "{read:?}");
    let said = text(wrote);
    assert!(said.contains("answer within") || said.contains("communicating"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    proxy.set(Line::Whole);
    assert_eq!(ledger.commit(stage.write(0)).await, Ok(()));
    assert!(database.check_writer().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_two_seconds_a_statement_a_lease_is_renewed_and_a_commit_ends() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(crate::support::SERVER.port()).await;
    let through = stage.url.replace(&format!(":{}/", crate::support::SERVER.port()), &format!(":{}/", proxy.port));
    let ledger = PostgresLedger::new(open(&through).await);
    proxy.set(Line::Slow(Duration::from_secs(2)));
    let owner = OwnerId::from("one");
    let began = Instant::now();
    assert_eq!(ledger.lease(&lane(), &owner, 1_000_000).await, Ok(Some(stage.lease.clone())));
    assert_eq!(ledger.commit(stage.write(0)).await, Ok(()));
    assert!(began.elapsed() >= Duration::from_secs(6), "it was not slow: {:?}", began.elapsed());
    assert_eq!(stage.next().await, 1);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_changes_nothing() {
    let stage = Stage::new().await;
    stage.on_write("PERFORM pg_sleep(60);").await;
    let said = text(stage.ledger.commit(stage.write(0)).await);
    assert!(said.contains("57014"), "{said}");
    stage.run("DROP TRIGGER hinder ON x402_nonces").await;
    assert_eq!(stage.next().await, 0);
    assert_eq!(stage.ledger.commit(stage.write(0)).await, Ok(()));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_health_sees_it() {
    let stage = Stage::new().await;
    assert!(stage.database.check_writer().await.is_ok());
    stage.on_write("RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';").await;
    let said = text(stage.ledger.commit(stage.write(0)).await);
    assert!(said.contains("No space left") && said.contains("53100"), "{said}");
    assert!(stage.database.check_writer().await.is_err());
    // Reads go on, and do not hide that writes fail.
    assert_eq!(stage.ledger.lane(&lane(), 0).await.unwrap().next, 0);
    assert!(stage.database.check_writer().await.is_err());
    stage.run("DROP TRIGGER hinder ON x402_nonces").await;
    assert_eq!(stage.ledger.commit(stage.write(0)).await, Ok(()));
    assert!(stage.database.check_writer().await.is_ok());
}

#[tokio::test]
async fn a_role_without_the_right_is_told_so() {
    let stage = Stage::new().await;
    let role = "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";
    stage.run(role).await;
    let ledger = PostgresLedger::new(open(&stage.url.replace("postgres@", "reader@")).await);
    let said = text(ledger.commit(stage.write(0)).await);
    assert!(said.contains("permission denied") && said.contains("42501"), "{said}");
    assert_eq!(ledger.lane(&lane(), 0).await.unwrap().next, 0);
}

#[tokio::test]
async fn a_restarted_database_is_used_again_at_once() {
    let server = PostgresServer::start(Fsync::On).unwrap();
    let url = server.url("postgres");
    let ledger = PostgresLedger::new(open(&url).await);
    let lease = ledger.lease(&lane(), &OwnerId::from("one"), 1_000_000).await.unwrap();
    let write = |from| Write { lease: lease.clone(), next: Some(Next { from, to: from + 1 }), ..Write::default() };
    assert_eq!(ledger.commit(write(0)).await, Ok(()));
    server.stop().unwrap();
    assert!(matches!(ledger.commit(write(1)).await, Err(CommitError::Fault(_))));
    assert!(ledger.read(&x402_types::PaymentKey::from_bytes(&[1])).await.is_err());
    server.start_again().unwrap();
    // What was acknowledged is there, what was not is not.
    assert_eq!(ledger.lane(&lane(), 0).await.unwrap().next, 1);
    assert_eq!(ledger.commit(write(1)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_its_caller_gives_up_keeps_no_locks() {
    let stage = Stage::new().await;
    stage.on_write("PERFORM pg_sleep(1);").await;
    for _ in 0..4 {
        let given_up = tokio::time::timeout(Duration::from_millis(200), stage.ledger.commit(stage.write(0))).await;
        assert!(given_up.is_err());
    }
    stage.run("DROP TRIGGER hinder ON x402_nonces").await;
    let done = stage.ledger.commit(stage.write(0)).await;
    // One that was given up may have been committed nevertheless.
    assert!(matches!(done, Ok(()) | Err(CommitError::Conflict)), "{done:?}");
    assert_eq!(stage.next().await, 1);
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(stage.beside.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// A process that is stopped in the middle of a transaction holds its lane for as long as the database lets it.
#[tokio::test]
async fn sessions_have_limits_and_durable_commits() {
    let stage = Stage::new().await;
    stage
        .run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
        .await;
    let ledger = PostgresLedger::new(open(&stage.url).await);
    // The settings are those that a statement of the ledger sees.
    stage.run("CREATE TABLE seen (name TEXT, setting TEXT)").await;
    stage
        .on_write(
            "INSERT INTO seen SELECT name, setting FROM pg_settings WHERE name IN
               ('statement_timeout', 'idle_in_transaction_session_timeout', 'synchronous_commit');",
        )
        .await;
    assert_eq!(ledger.commit(stage.write(0)).await, Ok(()));
    let rows = stage.beside.query("SELECT setting FROM seen ORDER BY name", &[]).await.unwrap();
    let settings: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(settings, ["3000", "5000", "on"]);
}
