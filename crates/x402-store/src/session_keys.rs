//! Session keys that payments name by their hash: "When only `hash` is provided, the facilitator MUST have a mechanism to
//! retrieve the session key from off-chain storage using the hash", [Smart Accounts 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §3.3.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

/// How a registered key is found: never by its hash alone, so that nobody uses another account's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The network.
    pub network: ChainId,
    /// The account that it acts for.
    pub account: [u8; 20],
    /// Whose format it has.
    pub provider: String,
    /// keccak256 of its base64 text.
    pub hash: [u8; 32],
}

/// Keeps serialized session keys for payments that name them by hash.
#[async_trait]
pub trait SessionKeys: Send + Sync + std::fmt::Debug {
    /// Keeps a key for a caller. Registering it again changes nothing, unless what is kept cannot be read any more.
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
