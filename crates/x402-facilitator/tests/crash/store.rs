//! The ledger of the processes that are killed, read past them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use x402_testkit::postgres::{Fsync, PostgresServer};

/// The server; it ends with this process.
static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

/// A ledger, as its store shows it to anybody.
pub(crate) enum Store {
    Sqlite(PathBuf),
    Postgres(Box<Client>, String),
}

async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Store {
    pub(crate) fn sqlite(directory: &Path) -> Self {
        Self::Sqlite(directory.join("ledger.sqlite"))
    }

    pub(crate) async fn postgres() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("crash{}", NEXT.fetch_add(1, Ordering::Relaxed));
        session(&SERVER.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = SERVER.url(&name);
        Self::Postgres(Box::new(session(&url).await), url)
    }

    /// What the configuration calls it.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Self::Sqlite(file) => file,
            Self::Postgres(_, url) => Path::new(url),
        }
    }

    /// How many rows of a table meet a condition; 0 as long as there is no table yet.
    pub(crate) async fn count(&self, table: &str, condition: &str) -> i64 {
        match self {
            Self::Sqlite(file) => {
                let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
                let Ok(file) = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return 0 };
                file.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
            }
            Self::Postgres(client, _) => {
                let sql = format!("SELECT count(*) FROM x402_{table} WHERE {condition}");
                client.query_one(&sql, &[]).await.map_or(0, |row| row.get(0))
            }
        }
    }

    /// The rows of a table.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Value> {
        let texts: Vec<String> = match self {
            Self::Sqlite(file) => {
                let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                let mut found = file.prepare(&format!("SELECT row FROM {table}")).unwrap();
                found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(client, _) => {
                let found = client.query(&format!("SELECT row FROM x402_{table}"), &[]).await.unwrap();
                found.iter().map(|row| row.get(0)).collect()
            }
        };
        texts.iter().map(|text| serde_json::from_str::<Value>(text).unwrap()["row"].take()).collect()
    }

    /// The process that works the only lane, by its number at the operating system, where there may be several.
    pub(crate) async fn worker(&self) -> Option<u32> {
        let Self::Postgres(client, _) = self else { return None };
        let owner: String = client.query_opt("SELECT owner FROM x402_leases", &[]).await.ok().flatten()?.get(0);
        owner.split('-').next()?.parse().ok()
    }

    /// Lets the leases of a process run out now: the clock of the database goes on, and nobody waits for it.
    pub(crate) async fn lapse(&self, process: u32) {
        if let Self::Postgres(client, _) = self {
            let sql = format!("UPDATE x402_leases SET until = CURRENT_TIMESTAMP WHERE owner LIKE '{process}-%'");
            client.batch_execute(&sql).await.unwrap();
        }
    }
}
