//! Session keys that payments refer to by their hash: "When only `hash` is provided, the facilitator MUST have a
//! mechanism to retrieve the session key from off-chain storage using the hash", [Smart Accounts
//! 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §3.3.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

/// The name of a registered key. It is more than the hash, so that no account can use another account's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The network of the account.
    pub network: ChainId,
    /// The account for which the key acts.
    pub account: [u8; 20],
    /// The provider whose format the key has.
    pub provider: String,
    /// The keccak256 of the key's base64 text.
    pub hash: [u8; 32],
}

/// Stores serialized session keys for payments that refer to them by hash.
#[async_trait]
pub trait SessionKeys: Send + Sync + std::fmt::Debug {
    /// Stores a key for a caller. Registering it again changes nothing, unless the stored key can no longer be
    /// decrypted.
    /// # Errors
    /// The store failed.
    async fn register(&self, name: &KeyName, caller: &str, text: &str) -> Result<(), Fault>;

    /// Removes a key that this caller registered; a missing key is not an error.
    /// # Errors
    /// The store failed.
    async fn remove(&self, name: &KeyName, caller: &str) -> Result<(), Fault>;

    /// Returns the text of a key.
    /// # Errors
    /// The store failed, or its row was not written by it.
    async fn read(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, Fault>;
}

/// A store in memory, whose content ends with the process.
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
