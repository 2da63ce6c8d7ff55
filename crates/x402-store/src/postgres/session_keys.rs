//! Session keys in a PostgreSQL database, encrypted as those in a SQLite file are.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use x402_types::Fault;
use zeroize::Zeroizing;

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use crate::seal::{Seal, SealError, SealKey, Sealed};
use crate::session_keys::{KeyName, SessionKeys};

/// Session keys in a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresSessionKeys {
    database: Postgres,
    seal: Seal,
}

impl std::fmt::Debug for PostgresSessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSessionKeys").finish_non_exhaustive()
    }
}

impl PostgresSessionKeys {
    /// Creates the store in this database, with this seal key.
    /// # Errors
    /// The cipher refuses the key, which cannot happen with 32 bytes.
    pub fn new(database: Postgres, key: &SealKey) -> Result<Self, SealError> {
        Ok(Self { database, seal: Seal::new(key)? })
    }
}

type Sql<T> = Result<T, Abort<Fault>>;

fn sealed(rows: &[Row]) -> Sql<Option<Sealed>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let bad = |_| Abort::Refused(Fault::store("a stored session key has a nonce of another length"));
    Ok(Some((row.try_get::<_, &[u8]>(0)?.try_into().map_err(bad)?, row.try_get(1)?)))
}

async fn register(
    client: &ClientWrapper,
    seal: &Seal,
    name: &KeyName,
    caller: &str,
    (nonce, text): &Sealed,
) -> Sql<()> {
    let (network, account, hash) = (name.network.as_str(), name.account.as_slice(), name.hash.as_slice());
    let inserted = execute(
        client,
        "INSERT INTO x402_session_keys (network, account, provider, hash, caller, nonce, sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (network, account, provider, hash) DO NOTHING",
        &[&network, &account, &name.provider, &hash, &caller, &nonce.as_slice(), text],
    )
    .await?;
    if inserted == 1 {
        return Ok(());
    }
    let rows = query(
        client,
        "SELECT nonce, sealed FROM x402_session_keys
         WHERE network = $1 AND account = $2 AND provider = $3 AND hash = $4 FOR UPDATE",
        &[&network, &account, &name.provider, &hash],
    )
    .await?;
    let (old_nonce, old) = sealed(&rows)?.ok_or(Abort::Unstable)?;
    // A row that cannot be decrypted was written under another seal key: it is useless, and the key is available here
    // again.
    if seal.open(name, old_nonce, old).is_err() {
        execute(
            client,
            "UPDATE x402_session_keys SET caller = $5, nonce = $6, sealed = $7
             WHERE network = $1 AND account = $2 AND provider = $3 AND hash = $4",
            &[&network, &account, &name.provider, &hash, &caller, &nonce.as_slice(), text],
        )
        .await?;
    }
    Ok(())
}

#[async_trait]
impl SessionKeys for PostgresSessionKeys {
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault> {
        let new = self.seal.seal(name, text)?;
        let shared = Arc::new((name.clone(), caller.to_owned(), new));
        self.database
            .run(Kind::Write, |client| {
                let (seal, shared) = (self.seal.clone(), Arc::clone(&shared));
                Box::pin(async move { register(client, &seal, &shared.0, &shared.1, &shared.2).await })
            })
            .await
    }

    async fn remove(&self, name: &KeyName, caller: &str) -> Result<(), Fault> {
        let shared = Arc::new((name.clone(), caller.to_owned()));
        self.database
            .run(Kind::Single { writes: true }, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let (name, caller) = &*shared;
                    execute(
                        client,
                        "DELETE FROM x402_session_keys
                         WHERE network = $1 AND account = $2 AND provider = $3 AND hash = $4 AND caller = $5",
                        &[
                            &name.network.as_str(),
                            &name.account.as_slice(),
                            &name.provider,
                            &name.hash.as_slice(),
                            caller,
                        ],
                    )
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault> {
        let found = self
            .database
            .run(Kind::Single { writes: false }, |client| {
                let name = name.clone();
                Box::pin(async move {
                    let rows = query(
                        client,
                        "SELECT nonce, sealed FROM x402_session_keys
                         WHERE network = $1 AND account = $2 AND provider = $3 AND hash = $4",
                        &[&name.network.as_str(), &name.account.as_slice(), &name.provider, &name.hash.as_slice()],
                    )
                    .await?;
                    sealed(&rows)
                })
            })
            .await?;
        found.map(|(nonce, text)| self.seal.open(name, nonce, text)).transpose()
    }
}
