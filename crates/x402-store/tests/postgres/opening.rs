//! Opening a database: migrations, and what cannot be used is named without its password.

use std::collections::BTreeSet;

use x402_facilitator_core::{LaneId, Ledger, OwnerId};
use x402_store::postgres::{Postgres, PostgresLedger, PostgresOpenError, PostgresUrl};

use crate::support::{SERVER, empty_database, open, session};

async fn refused(url: &str) -> PostgresOpenError {
    Postgres::open(&url.parse::<PostgresUrl>().unwrap(), 2).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_start_at_once_on_an_empty_database() {
    let url = empty_database().await;
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let url = url.clone();
        starting.spawn(async move { open(&url).await });
    }
    assert_eq!(starting.join_all().await.len(), 12);
    let client = session(&url).await;
    let rows = client.query("SELECT number FROM x402_migrations ORDER BY number", &[]).await.unwrap();
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_migrated_database_keeps_its_rows() {
    let url = empty_database().await;
    let (lane, owner) = (LaneId::from("eip155:1/a"), OwnerId::from("one"));
    let before = PostgresLedger::new(open(&url).await).lease(&lane, &owner, 60).await.unwrap();
    assert_eq!(PostgresLedger::new(open(&url).await).lease(&lane, &owner, 60).await.unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_its_number_and_left_alone() {
    let url = empty_database().await;
    drop(open(&url).await);
    let client = session(&url).await;
    client.batch_execute("INSERT INTO x402_migrations (number) VALUES (7000)").await.unwrap();
    let error = refused(&url).await;
    assert!(matches!(error, PostgresOpenError::NewerSchema { found: 7000, known: 8, .. }), "{error}");
    assert!(error.to_string().contains("schema 7000"), "{error}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let url = empty_database().await;
    let client = session(&url).await;
    // One table of the first migration exists already, and is somebody else's.
    client.batch_execute("CREATE TABLE x402_session_keys (mine INTEGER)").await.unwrap();
    let error = refused(&url).await;
    let text = error.to_string();
    assert!(matches!(error, PostgresOpenError::Refused { .. }) && text.contains("x402_session_keys"), "{text}");
    let rows =
        client.query("SELECT relname::text FROM pg_class WHERE relname LIKE 'x402%' AND relkind = 'r'", &[]).await;
    let tables: BTreeSet<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(tables, ["x402_migrations", "x402_session_keys"].map(str::to_owned).into());
    client.batch_execute("DROP TABLE x402_session_keys").await.unwrap();
    drop(open(&url).await);
}

#[tokio::test]
async fn a_user_who_may_only_change_rows_uses_a_migrated_database() {
    let url = empty_database().await;
    drop(open(&url).await);
    let client = session(&url).await;
    client
        .batch_execute(
            "CREATE ROLE worker LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO worker;
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker",
        )
        .await
        .unwrap();
    let ledger = PostgresLedger::new(open(&url.replace("postgres@", "worker@")).await);
    assert!(ledger.lease(&LaneId::from("a"), &OwnerId::from("one"), 60).await.unwrap().is_some());
}

#[tokio::test]
async fn a_wrong_place_is_named_and_its_password_is_not() {
    let url = empty_database().await;
    let port = SERVER.port();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, is_refusal, named) in [
        (format!("postgres://postgres:hunter2@127.0.0.1:{closed}/x402"), false, format!("127.0.0.1:{closed}/x402")),
        (
            "postgres://postgres:hunter2@no.such.host.invalid/x402?sslmode=disable".to_owned(),
            false,
            "no.such.host".into(),
        ),
        (format!("postgres://postgres:hunter2@127.0.0.1:{port}/nowhere"), true, "nowhere".to_owned()),
        (format!("postgres://nobody:hunter2@127.0.0.1:{port}/postgres"), true, "nobody".to_owned()),
        (url.replace("disable", "require"), false, "TLS".to_owned()),
        (url.replace("disable", "require&sslrootcert=/no/such/ca.pem"), false, "/no/such/ca.pem".to_owned()),
    ] {
        let error = refused(&url).await;
        let text = format!("{error} {error:?}");
        assert_eq!(matches!(error, PostgresOpenError::Refused { .. }), is_refusal, "{text}");
        assert!(text.contains(&named) && !text.contains("hunter2"), "{text}");
    }
    for connections in [0, 1_001] {
        let url: PostgresUrl = url.parse().unwrap();
        assert_eq!(Postgres::open(&url, connections).await.unwrap_err(), PostgresOpenError::Connections);
    }
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let client = session(&SERVER.url("postgres")).await;
    let sql = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0";
    client.batch_execute(sql).await.unwrap();
    let error = refused(&SERVER.url("latin")).await;
    assert!(matches!(&error, PostgresOpenError::Encoding { found, .. } if &**found == "LATIN1"), "{error}");
}
