//! Session keys in the ledger's SQLite file, encrypted with ChaCha20-Poly1305 under a key from the configuration.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use x402_types::Fault;
use zeroize::Zeroizing;

use super::Database;
use crate::seal::{Seal, SealError, SealKey, Sealed};
use crate::session_keys::{KeyName, SessionKeys};

/// Session keys in a SQLite file.
#[derive(Clone)]
pub struct SqliteSessionKeys {
    database: Database,
    seal: Seal,
}

impl std::fmt::Debug for SqliteSessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteSessionKeys").finish_non_exhaustive()
    }
}

impl SqliteSessionKeys {
    /// Creates the store in this file, with this seal key.
    /// # Errors
    /// The cipher refuses the key, which cannot happen with 32 bytes.
    pub fn new(database: Database, key: &SealKey) -> Result<Self, SealError> {
        Ok(Self { database, seal: Seal::new(key)? })
    }
}

fn row(connection: &Connection, name: &KeyName) -> Result<Option<Sealed>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT nonce, sealed FROM session_keys
             WHERE network = ?1 AND account = ?2 AND provider = ?3 AND hash = ?4",
        )?
        .query_row(params![name.network.as_str(), name.account, name.provider, name.hash], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

#[async_trait]
impl SessionKeys for SqliteSessionKeys {
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault> {
        let (nonce, sealed) = self.seal.seal(name, text)?;
        let (seal, name, caller) = (self.seal.clone(), name.clone(), caller.to_owned());
        self.database
            .write(move |transaction| {
                // A row that cannot be decrypted was written under another seal key: it is useless, and the key is
                // available here again.
                if let Some((nonce, sealed)) = row(transaction, &name)?
                    && seal.open(&name, nonce, sealed).is_ok()
                {
                    return Ok(());
                }
                transaction
                    .prepare_cached(
                        "INSERT INTO session_keys (network, account, provider, hash, caller, nonce, sealed)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                         ON CONFLICT DO UPDATE SET caller = ?5, nonce = ?6, sealed = ?7",
                    )?
                    .execute(params![
                        name.network.as_str(),
                        name.account,
                        name.provider,
                        name.hash,
                        caller,
                        nonce,
                        sealed
                    ])?;
                Ok(())
            })
            .await
    }

    async fn remove(&self, name: &KeyName, caller: &str) -> Result<(), Fault> {
        let (name, caller) = (name.clone(), caller.to_owned());
        self.database
            .write(move |transaction| {
                transaction
                    .prepare_cached(
                        "DELETE FROM session_keys
                         WHERE network = ?1 AND account = ?2 AND provider = ?3 AND hash = ?4 AND caller = ?5",
                    )?
                    .execute(params![name.network.as_str(), name.account, name.provider, name.hash, caller])?;
                Ok(())
            })
            .await
    }

    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault> {
        let wanted = name.clone();
        let row = self.database.read(move |connection| row(connection, &wanted)).await?;
        row.map(|(nonce, sealed)| self.seal.open(name, nonce, sealed)).transpose()
    }
}
