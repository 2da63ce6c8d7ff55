//! Session keys in the ledger's SQLite file, encrypted with ChaCha20-Poly1305 under a key from the configuration.

use std::sync::Arc;

use async_trait::async_trait;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rusqlite::{Connection, OptionalExtension, params};
use x402_types::Fault;
use zeroize::Zeroizing;

use super::Database;
use crate::session_keys::{KeyName, SessionKeys};

/// The key that encrypts stored session keys: 32 bytes.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

/// The error for a malformed seal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 bytes in hex")]
pub struct SealError;

impl SealKey {
    /// Parses 64 hex digits, with or without `0x`.
    /// # Errors
    /// The text is anything else. It is not repeated in the error.
    pub fn from_hex(text: &str) -> Result<Self, SealError> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        let mut key = Zeroizing::new([0; 32]);
        if pairs.len() != key.len() || !rest.is_empty() {
            return Err(SealError);
        }
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4) | low).ok_or(SealError)?;
        }
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
    /// Creates the store in this file, with this seal key.
    /// # Errors
    /// The cipher refuses the key, which cannot happen with 32 bytes.
    pub fn new(database: Database, key: &SealKey) -> Result<Self, SealError> {
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &*key.0).map_err(|_| SealError)?;
        Ok(Self { database, cipher: Arc::new(LessSafeKey::new(cipher)) })
    }

    /// Encrypts a text under a random nonce: 96 bits are enough for 2^32 keys, more than will ever be registered.
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

/// Builds the associated data of an encrypted key, each part preceded by its length: the key can be decrypted only in
/// its own row.
fn bound(name: &KeyName) -> Vec<u8> {
    let parts = [name.network.as_str().as_bytes(), &name.account[..], name.provider.as_bytes(), &name.hash[..]];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// An encrypted key and its nonce.
type Sealed = ([u8; NONCE_LEN], Vec<u8>);

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
        let (nonce, sealed) = self.seal(name, text)?;
        let (keys, name, caller) = (self.clone(), name.clone(), caller.to_owned());
        self.database
            .write(move |transaction| {
                // A row that cannot be decrypted was written under another seal key: it is useless, and the key is
                // available here again.
                if let Some((nonce, sealed)) = row(transaction, &name)?
                    && keys.open(&name, nonce, sealed).is_ok()
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
        row.map(|(nonce, sealed)| self.open(name, nonce, sealed)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use x402_types::ChainId;

    use super::*;
    use crate::session_keys::MemorySessionKeys;

    fn name(text: &str) -> KeyName {
        KeyName {
            network: ChainId::eip155(84532),
            account: [7; 20],
            provider: "zerodev".to_owned(),
            hash: [*text.as_bytes().first().unwrap(); 32],
        }
    }

    async fn a_key_is_found_by_its_whole_name(store: &dyn SessionKeys) {
        let key = name("c2VjcmV0");
        store.register(&key, "shop", "c2VjcmV0").await.unwrap();
        store.register(&key, "other", "c2VjcmV0").await.unwrap();
        assert_eq!(store.read(&key).await.unwrap().unwrap().as_str(), "c2VjcmV0");
        for other in [
            KeyName { network: ChainId::eip155(8453), ..key.clone() },
            KeyName { account: [0; 20], ..key.clone() },
            KeyName { provider: "safe".to_owned(), ..key.clone() },
            name("b3RoZXI="),
        ] {
            assert_eq!(store.read(&other).await, Ok(None), "{other:?}");
        }
        store.remove(&key, "other").await.unwrap();
        assert!(store.read(&key).await.unwrap().is_some(), "another caller's");
        store.remove(&key, "shop").await.unwrap();
        store.remove(&key, "shop").await.unwrap();
        assert_eq!(store.read(&key).await, Ok(None));
        assert!(!format!("{store:?}").contains("c2VjcmV0"));
    }

    #[tokio::test]
    async fn in_memory() {
        a_key_is_found_by_its_whole_name(&MemorySessionKeys::default()).await;
    }

    #[tokio::test]
    async fn in_a_file_nothing_stands_in_clear_and_only_its_key_opens_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::open(file.path()).unwrap();
        let seal = |byte: &str| SealKey::from_hex(&byte.repeat(32)).unwrap();
        let store = SqliteSessionKeys::new(database.clone(), &seal("ab")).unwrap();
        a_key_is_found_by_its_whole_name(&store).await;

        let secret = "dGhlIHByaXZhdGUga2V5IG9mIGEgc2Vzc2lvbg==";
        store.register(&name(secret), "shop", secret).await.unwrap();
        for entry in std::fs::read_dir(file.path().parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().starts_with(&*file.path().to_string_lossy()) {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
            }
        }
        let wrong = SqliteSessionKeys::new(database.clone(), &seal("cd")).unwrap();
        assert!(wrong.read(&name(secret)).await.is_err());
        let again = SqliteSessionKeys::new(database.clone(), &seal("ab")).unwrap();
        assert_eq!(again.read(&name(secret)).await.unwrap().unwrap().as_str(), secret);

        // A row that is moved to another name cannot be decrypted there.
        let other = KeyName { account: [0; 20], ..name(secret) };
        let account = other.account;
        database
            .write(move |transaction| {
                transaction.execute("UPDATE session_keys SET account = ?1", [account])?;
                Ok::<_, super::super::WriteError<Fault>>(())
            })
            .await
            .unwrap();
        assert!(again.read(&other).await.is_err());
    }

    #[tokio::test]
    async fn a_key_that_is_registered_again_heals_after_the_seal_key_was_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::open(file.path()).unwrap();
        let seal = |byte: &str| SealKey::from_hex(&byte.repeat(32)).unwrap();
        let before = SqliteSessionKeys::new(database.clone(), &seal("ab")).unwrap();
        let key = name("c2VjcmV0");
        before.register(&key, "shop", "c2VjcmV0").await.unwrap();
        let after = SqliteSessionKeys::new(database.clone(), &seal("cd")).unwrap();
        assert!(after.read(&key).await.is_err());
        after.register(&key, "other", "c2VjcmV0").await.unwrap();
        assert_eq!(after.read(&key).await.unwrap().unwrap().as_str(), "c2VjcmV0");
        assert!(before.read(&key).await.is_err());
        // The row belongs to the caller that registered it again; a row that can be decrypted is unchanged.
        after.register(&key, "shop", "c2VjcmV0").await.unwrap();
        after.remove(&key, "shop").await.unwrap();
        assert!(after.read(&key).await.unwrap().is_some(), "another caller's");
        after.remove(&key, "other").await.unwrap();
        assert_eq!(after.read(&key).await, Ok(None));
    }

    #[test]
    fn a_seal_key_is_32_bytes_in_hex() {
        assert!(SealKey::from_hex(&format!("0x{}", "ab".repeat(32))).is_ok());
        for bad in ["", "ab", &"ab".repeat(31), &"xy".repeat(32)] {
            assert!(matches!(SealKey::from_hex(bad), Err(SealError)), "{bad}");
        }
        assert_eq!(format!("{:?}", SealKey::from_hex(&"ab".repeat(32)).unwrap()), "SealKey(..)");
    }
}
