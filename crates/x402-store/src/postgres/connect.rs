//! The handle of a database: a pool of connections whose sessions have time limits.

use core::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::{
    Client, ClientWrapper, Connect, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
};
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use x402_types::Fault;

use super::url::PostgresUrl;
use super::{failure, migrate};
use crate::health::CheckWriter;

/// The oldest major version of PostgreSQL.
const OLDEST: u32 = 15;
/// The greatest number of connections.
const MOST_CONNECTIONS: usize = 1_000;
/// The time that an operation waits for a free connection.
const FREE: Duration = Duration::from_secs(5);
/// The time limits of a session: of a statement, which includes its wait for locks; and of a transaction without a
/// statement, whose locks would otherwise stop other processes as long as this one is stopped. The second is shorter, so
/// that a statement of another process that waits for such a lock still succeeds.
const SESSION: &str = "SET statement_timeout = 5000; SET idle_in_transaction_session_timeout = 3000";

/// A handle to a database. Clones share its connections.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    place: Box<str>,
    commits: Mutex<Commits>,
}

/// The results of the last operations.
struct Commits {
    /// The time of the last success, or of opening the database.
    last: Instant,
    /// The fault of the newest operation, unless one has succeeded since.
    failing: Option<Fault>,
}

/// The reason why a database cannot be used. Every message names its place: hosts, ports and database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresOpenError {
    /// No host answers, or TLS fails.
    #[error("PostgreSQL at {place} cannot be reached: {detail}")]
    Unreachable {
        /// The hosts, ports and database.
        place: Box<str>,
        /// The reason why there is no connection.
        detail: Box<str>,
    },
    /// The server refuses this user, this database, or the migration's statements.
    #[error("PostgreSQL at {place} refuses: {detail}")]
    Refused {
        /// The hosts, ports and database.
        place: Box<str>,
        /// The server's message.
        detail: Box<str>,
    },
    /// The server is too old.
    #[error("PostgreSQL at {place} has version {found}, and 15 or newer is required")]
    TooOld {
        /// The hosts, ports and database.
        place: Box<str>,
        /// The major version of the server.
        found: u32,
    },
    /// The database does not store UTF-8.
    #[error("the database {place} has the encoding {found}, and UTF8 is required")]
    Encoding {
        /// The hosts, ports and database.
        place: Box<str>,
        /// The encoding of the database.
        found: Box<str>,
    },
    /// A newer release migrated the database.
    #[error(
        "the database {place} has schema {found}, and this release knows schemas up to {known}: use a newer release"
    )]
    NewerSchema {
        /// The hosts, ports and database.
        place: Box<str>,
        /// The number of its schema.
        found: i32,
        /// The newest number that this release knows.
        known: i32,
    },
    /// The number of connections is out of range.
    #[error("expected 1 to 1000 connections")]
    Connections,
    /// The file of `sslrootcert` cannot be used, or this machine has no root certificates.
    #[error("the root certificates cannot be used: {0}")]
    Roots(Box<str>),
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({})", self.shared.place)
    }
}

impl Postgres {
    /// The number of connections that is enough for most facilitators.
    pub const CONNECTIONS: usize = 8;

    /// Connects to a database with at most so many connections, and migrates its tables. Several processes may do so at
    /// once.
    /// # Errors
    /// The database cannot be used.
    pub async fn open(url: &PostgresUrl, connections: usize) -> Result<Self, PostgresOpenError> {
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(PostgresOpenError::Connections);
        }
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if url.uses_tls() {
            let tls = MakeRustlsConnect::new(tls(url.root.as_deref())?);
            Manager::from_connect(url.config.clone(), Quietly(tls), config)
        } else {
            Manager::from_connect(url.config.clone(), Quietly(NoTls), config)
        };
        let place: Box<str> = url.to_string().into();
        let servers = Arc::new(Servers { place: place.clone(), last: Mutex::new(None) });
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(FREE))
            .create_timeout(Some(FREE))
            .post_create(deadpool_postgres::Hook::async_fn(move |client: &mut ClientWrapper, _| {
                let servers = Arc::clone(&servers);
                Box::pin(async move { servers.prepare(client).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| PostgresOpenError::Unreachable {
                place: place.clone(),
                detail: error.to_string().into(),
            })?;
        let commits = Mutex::new(Commits { last: Instant::now(), failing: None });
        let postgres = Self { shared: Arc::new(Shared { pool, place, commits }) };
        postgres.check_server().await?;
        migrate::to_newest(&postgres).await?;
        Ok(postgres)
    }

    /// Checks that the database accepts writes and took the last one, and returns the time since its last success.
    /// A working facilitator uses it every few seconds, for its leases.
    /// # Errors
    /// The database does not answer, or the last operation failed.
    pub async fn check_writer(&self) -> Result<Duration, Fault> {
        let before = self.commits().failing.clone();
        // This must not hide that writes fail: a success of a read is not noted.
        let client = self.client().await.map_err(|error| self.fault(&error))?;
        let read_only = shown(&client, "SHOW transaction_read_only").await;
        let read_only = read_only.map_err(|error| self.fault(failure::text(&error)))?;
        if read_only != "off" {
            return Err(self.fault("it accepts no writes"));
        }
        before.map_or_else(|| Ok(self.commits().last.elapsed()), Err)
    }

    /// Returns the hosts, ports and database, without credentials.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.shared.place
    }

    pub(super) async fn client(&self) -> Result<Client, NoConnection> {
        self.shared.pool.get().await.map_err(NoConnection)
    }

    pub(super) fn fault(&self, what: impl fmt::Display) -> Fault {
        failure::fault(&self.shared.place, what)
    }

    /// Notes the result of an operation, and logs when it differs from the one before.
    pub(super) fn note(&self, failing: Option<&Fault>, wrote: bool) {
        let mut commits = self.commits();
        match (&commits.failing, failing) {
            (None, Some(fault)) => tracing::error!(place = %self.shared.place, %fault, "the database fails"),
            (Some(_), None) if wrote => tracing::info!(place = %self.shared.place, "the database works again"),
            _ => {}
        }
        match failing {
            Some(fault) => commits.failing = Some(fault.clone()),
            // A read proves nothing about writes that fail, for example on a full disk.
            None if wrote || commits.failing.is_none() => *commits = Commits { last: Instant::now(), failing: None },
            None => {}
        }
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.shared.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check_server(&self) -> Result<(), PostgresOpenError> {
        let client = self.client().await.map_err(|error| self.unusable(&error))?;
        let shown = async |query: &'static str| {
            shown(&client, query).await.map_err(|error| PostgresOpenError::Refused {
                place: self.shared.place.clone(),
                detail: failure::text(&error).into(),
            })
        };
        let version = shown("SELECT version()").await?;
        match major(&version) {
            Some(found) if found < OLDEST => {
                return Err(PostgresOpenError::TooOld { place: self.shared.place.clone(), found });
            }
            Some(_) => {}
            None => {
                tracing::warn!(place = %self.shared.place, %version, "this database was not tried: see operations.md")
            }
        }
        let encoding = shown("SHOW server_encoding").await?;
        if encoding != "UTF8" {
            return Err(PostgresOpenError::Encoding { place: self.shared.place.clone(), found: encoding.into() });
        }
        if shown("SHOW fsync").await.is_ok_and(|fsync| fsync == "off") {
            tracing::warn!(place = %self.shared.place, "fsync is off: the database may lose commits that it acknowledged");
        }
        Ok(())
    }

    /// Describes why there is no connection, for the start.
    pub(super) fn unusable(&self, error: &NoConnection) -> PostgresOpenError {
        let (place, detail) = (self.shared.place.clone(), error.to_string().into());
        if error.is_refusal() {
            PostgresOpenError::Refused { place, detail }
        } else {
            PostgresOpenError::Unreachable { place, detail }
        }
    }
}

#[async_trait]
impl CheckWriter for Postgres {
    async fn check_writer(&self) -> Result<Duration, Fault> {
        Self::check_writer(self).await
    }

    async fn stopped(&self) {
        std::future::pending().await
    }
}

/// Returns the major version of a text like `PostgreSQL 15.18 (Debian …) on …`; `None` for another product.
fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("PostgreSQL ")?;
    number.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Prepares a new session.
async fn prepare(client: &ClientWrapper) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SESSION).await?;
    // An acknowledged commit must survive a crash, whatever the default of the database or the user is.
    let durable = ["on", "local", "remote_write", "remote_apply"];
    if !durable.contains(&shown(client, "SHOW synchronous_commit").await?.as_str()) {
        client.batch_execute("SET synchronous_commit = on").await?;
    }
    Ok(())
}

/// Notices that a new session is with another server than the one before.
struct Servers {
    place: Box<str>,
    last: Mutex<Option<String>>,
}

impl Servers {
    async fn prepare(&self, client: &ClientWrapper) -> Result<(), tokio_postgres::Error> {
        prepare(client).await?;
        let Some(now) = origin(client).await? else { return Ok(()) };
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now.clone());
        if before.is_some_and(|before| before != now) {
            tracing::warn!(place = %self.place, "the database is another server than before: it failed over, or was restored");
        }
        Ok(())
    }
}

/// Returns where a session is: the cluster, the database in it, and the timeline, which a restore to a point in time and a
/// failover begin anew. `None` if the server does not show it.
pub(super) async fn origin(client: &ClientWrapper) -> Result<Option<String>, tokio_postgres::Error> {
    const SQL: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system())
           || '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())
           || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    match client.query(SQL, &[]).await {
        Ok(rows) => rows.first().map_or(Ok(None), |row| row.try_get(0)),
        // Another product, or a user without the right to read it.
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the first column of the first row; empty if there is none, which no setting is.
async fn shown(client: &ClientWrapper, query: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let value = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(value.unwrap_or_default())
}

/// The reason why there is no connection.
#[derive(Debug)]
pub(super) struct NoConnection(PoolError);

impl NoConnection {
    fn database(&self) -> Option<&tokio_postgres::Error> {
        match &self.0 {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns whether the server answered, and refuses for another reason than that it starts, stops or is full.
    fn is_refusal(&self) -> bool {
        const PASSING: [SqlState; 4] = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ];
        self.database().and_then(tokio_postgres::Error::code).is_some_and(|code| !PASSING.contains(code))
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.database()) {
            (_, Some(error)) => f.write_str(&failure::text(error)),
            (PoolError::Timeout(deadpool_postgres::TimeoutType::Wait), _) => {
                f.write_str("busy: no connection became free within 5 s")
            }
            (PoolError::Timeout(_), _) => f.write_str("it does not answer within 5 s"),
            (error, _) => write!(f, "{error}"),
        }
    }
}

/// Connects as tokio-postgres does. A broken connection is not logged here: the operation that it ends is.
struct Quietly<T>(T);

impl<T> Connect for Quietly<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>> {
        let (tls, config) = (self.0.clone(), config.clone());
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let running = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            });
            Ok((client, running))
        })
    }
}

/// Builds the TLS configuration: the certificates of a file, or those that this machine trusts.
fn tls(root: Option<&Path>) -> Result<ClientConfig, PostgresOpenError> {
    let bad = |error: &dyn fmt::Display| PostgresOpenError::Roots(error.to_string().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| bad(&error))?;
    let Some(path) = root else {
        return Ok(builder.with_platform_verifier().map_err(|error| bad(&error))?.with_no_client_auth());
    };
    let named = |error: &dyn fmt::Display| bad(&format_args!("{}: {error}", path.display()));
    let pem = fs::read(path).map_err(|error| named(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&"no certificate in PEM"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_of_postgresql_only() {
        assert_eq!(major("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64"), Some(15));
        assert_eq!(major("PostgreSQL 18beta1 on x86_64"), Some(18));
        assert_eq!(major("CockroachDB CCL v24.1.0"), None);
    }
}
