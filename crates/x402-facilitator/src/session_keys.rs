//! "When only `hash` is provided, the facilitator MUST have a mechanism to retrieve the session key from off-chain
//! storage using the hash": [Smart Accounts 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §3.3.

mod register;
mod sqlite;

use register::PROVIDER;
pub use register::{Registrar, Registration};
pub use sqlite::{SealError, SealKey, SqliteSessionKeys};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use x402_erc4337::nvm::ReadSessionKeys;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

/// How a registered key is found: never by its hash alone, so that nobody uses another account's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The network.
    pub network: ChainId,
    /// The account that it acts for.
    pub account: Address,
    /// Whose format it has.
    pub provider: String,
    /// keccak256 of its base64 text.
    pub hash: B256,
}

/// Keeps serialized session keys for payments that name them by hash.
#[async_trait]
pub trait SessionKeys: Send + Sync + std::fmt::Debug {
    /// Keeps a key for a caller. Registering it again changes nothing.
    ///
    /// # Errors
    /// The store failed.
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault>;

    /// Forgets a key that this caller registered; that there is none is no error.
    ///
    /// # Errors
    /// The store failed.
    async fn remove(&self, name: &KeyName, caller: &str) -> Result<(), Fault>;

    /// The text of a key.
    ///
    /// # Errors
    /// The store failed, or what it has was not written by it.
    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault>;
}

/// In memory: for one process, gone with it.
#[derive(Default)]
pub struct MemorySessionKeys(Mutex<HashMap<KeyName, (String, Zeroizing<String>)>>);

impl MemorySessionKeys {
    fn rows(&self) -> MutexGuard<'_, HashMap<KeyName, (String, Zeroizing<String>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemorySessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySessionKeys").finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionKeys for MemorySessionKeys {
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault> {
        self.rows().entry(name.clone()).or_insert_with(|| (caller.to_owned(), Zeroizing::new(text.to_owned())));
        Ok(())
    }

    async fn remove(&self, name: &KeyName, caller: &str) -> Result<(), Fault> {
        let mut rows = self.rows();
        if rows.get(name).is_some_and(|(owner, _)| owner == caller) {
            rows.remove(name);
        }
        Ok(())
    }

    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault> {
        Ok(self.rows().get(name).map(|(_, text)| text.clone()))
    }
}

/// Registered keys, as `nvm:erc4337` asks for them.
#[derive(Debug, Clone)]
pub struct ByHash(pub Arc<dyn SessionKeys>);

#[async_trait]
impl ReadSessionKeys for ByHash {
    async fn session_key(
        &self,
        network: ChainId,
        account: Address,
        hash: B256,
    ) -> Result<Option<Zeroizing<String>>, Fault> {
        self.0.read(&KeyName { network, account, provider: PROVIDER.to_owned(), hash }).await
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;

    use super::*;
    use crate::sqlite::Database;

    fn name(text: &str) -> KeyName {
        KeyName {
            network: ChainId::eip155(84532),
            account: Address::repeat_byte(7),
            provider: "zerodev".to_owned(),
            hash: keccak256(text),
        }
    }

    async fn a_key_is_found_by_its_whole_name(store: &dyn SessionKeys) {
        let key = name("c2VjcmV0");
        store.register(&key, "shop", "c2VjcmV0").await.unwrap();
        store.register(&key, "other", "c2VjcmV0").await.unwrap();
        assert_eq!(store.read(&key).await.unwrap().unwrap().as_str(), "c2VjcmV0");
        for other in [
            KeyName { network: ChainId::eip155(8453), ..key.clone() },
            KeyName { account: Address::ZERO, ..key.clone() },
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

        // A row that is moved to another name does not open there.
        let other = KeyName { account: Address::ZERO, ..name(secret) };
        let account = other.account;
        database
            .write(move |transaction| {
                transaction
                    .execute("UPDATE session_keys SET account = ?1", [account.as_slice()])
                    .map(|_| Ok::<_, Fault>(()))
            })
            .await
            .unwrap();
        assert!(again.read(&other).await.is_err());
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
