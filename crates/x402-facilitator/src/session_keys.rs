//! The retrieval of session keys by their hash: "When only `hash` is provided, the facilitator MUST have a mechanism to
//! retrieve the session key from off-chain storage using the hash", [Smart Accounts
//! 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §3.3.

mod register;

use register::PROVIDER;
pub use register::{Registrar, Registration};
pub use x402_store::session_keys::{KeyName, MemorySessionKeys, SessionKeys};

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use x402_erc4337::nvm::ReadSessionKeys;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

/// The store of registered session keys, and the registrars that check them.
#[derive(Debug, Clone)]
pub struct KeptKeys {
    /// The store of the keys.
    pub store: Arc<dyn SessionKeys>,
    /// The registrars, one for each network that is served.
    pub registrars: Vec<Registrar>,
}

/// The registered keys, in the form in which `nvm:erc4337` reads them.
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
        self.0
            .read(&KeyName { network, account: account.into(), provider: PROVIDER.to_owned(), hash: hash.into() })
            .await
    }
}
