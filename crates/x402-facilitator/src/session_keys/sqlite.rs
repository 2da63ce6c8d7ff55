//! Session keys in the ledger's SQLite file, sealed with ChaCha20-Poly1305 under a key from the configuration.

use std::sync::Arc;

use alloy_primitives::hex;
use async_trait::async_trait;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rusqlite::{OptionalExtension, params};
use x402_types::Fault;
use zeroize::Zeroizing;

use super::{KeyName, SessionKeys};
use crate::sqlite::Database;

/// The key under which stored session keys are sealed: 32 bytes.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

/// A seal key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 bytes in hex")]
pub struct SealError;

impl SealKey {
    /// A key from 64 hex digits, with or without `0x`.
    ///
    /// # Errors
    /// Anything else. What stands there is not repeated.
    pub fn from_hex(text: &str) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut *key).map_err(|_| SealError)?;
        Ok(Self(key))
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Session keys in a SQLite file.
#[derive(Clone)]
pub struct SqliteSessionKeys {
    database: Database,
    cipher: Arc<LessSafeKey>,
}

impl std::fmt::Debug for SqliteSessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteSessionKeys").finish_non_exhaustive()
    }
}

impl SqliteSessionKeys {
    /// The keys in this file, sealed under this key.
    ///
    /// # Errors
    /// The cipher does not take the key, which 32 bytes never cause.
    pub fn new(database: Database, key: &SealKey) -> Result<Self, SealError> {
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &*key.0).map_err(|_| SealError)?;
        Ok(Self { database, cipher: Arc::new(LessSafeKey::new(cipher)) })
    }

    /// Nonces are drawn at random: 96 bits are enough for the 2^32 keys that nobody will register.
    fn seal(&self, name: &KeyName, text: &str) -> Result<([u8; NONCE_LEN], Vec<u8>), Fault> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(Fault::store)?;
        let mut sealed = text.as_bytes().to_vec();
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(name)), &mut sealed)
            .map_err(|_| Fault::store("a session key cannot be sealed"))?;
        Ok((nonce, sealed))
    }

    fn open(&self, name: &KeyName, nonce: [u8; NONCE_LEN], sealed: Vec<u8>) -> Result<Zeroizing<String>, Fault> {
        let failed = || Fault::store("a session key does not open: another seal key, or a changed row");
        let mut sealed = Zeroizing::new(sealed);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = self.cipher.open_in_place(nonce, Aad::from(bound(name)), &mut sealed).map_err(|_| failed())?;
        core::str::from_utf8(text).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| failed())
    }
}

/// What a sealed key is bound to, each part behind its length: it opens in its own row only.
fn bound(name: &KeyName) -> Vec<u8> {
    let parts =
        [name.network.as_str().as_bytes(), name.account.as_slice(), name.provider.as_bytes(), name.hash.as_slice()];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[async_trait]
impl SessionKeys for SqliteSessionKeys {
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault> {
        let (nonce, sealed) = self.seal(name, text)?;
        let (name, caller) = (name.clone(), caller.to_owned());
        self.database
            .write(move |transaction| {
                transaction
                    .prepare_cached(
                        "INSERT INTO session_keys (network, account, provider, hash, caller, nonce, sealed)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![
                        name.network.as_str(),
                        name.account.as_slice(),
                        name.provider,
                        name.hash.as_slice(),
                        caller,
                        nonce,
                        sealed
                    ])
                    .map(|_| Ok(()))
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
                    .execute(params![
                        name.network.as_str(),
                        name.account.as_slice(),
                        name.provider,
                        name.hash.as_slice(),
                        caller
                    ])
                    .map(|_| Ok(()))
            })
            .await
    }

    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault> {
        let wanted = name.clone();
        let row: Option<([u8; NONCE_LEN], Vec<u8>)> = self
            .database
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT nonce, sealed FROM session_keys
                         WHERE network = ?1 AND account = ?2 AND provider = ?3 AND hash = ?4",
                    )?
                    .query_row(
                        params![
                            wanted.network.as_str(),
                            wanted.account.as_slice(),
                            wanted.provider,
                            wanted.hash.as_slice()
                        ],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()
            })
            .await?;
        row.map(|(nonce, sealed)| self.open(name, nonce, sealed)).transpose()
    }
}
