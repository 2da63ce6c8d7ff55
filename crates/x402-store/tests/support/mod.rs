//! A PostgreSQL for the tests of one process, with a database for each test.

#![allow(dead_code, reason = "each test uses some of it")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{Client, NoTls};
use x402_store::postgres::{Postgres, PostgresUrl};
use x402_testkit::postgres::{Fsync, PostgresServer};

/// The server; it ends with this process.
pub(crate) static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

static DATABASES: AtomicU64 = AtomicU64::new(0);

/// A connection beside the store's.
pub(crate) async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Creates an empty database and returns its URL.
pub(crate) async fn empty_database() -> String {
    let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    session(&SERVER.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    SERVER.url(&name)
}

/// Opens a database as a process does that has just started.
pub(crate) async fn open(url: &str) -> Postgres {
    Postgres::open(&url.parse::<PostgresUrl>().unwrap(), Postgres::CONNECTIONS).await.unwrap()
}
