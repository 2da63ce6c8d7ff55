//! The registration of session keys. A key is kept only if its owner approved it for this facilitator's signer,
//! "accepted only if `enableSignature` recovers to the owner"; so an attacker cannot fill the store with keys that can never
//! sign.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall, sol};
use serde::Deserialize;
use x402_erc4337::session::zerodev::{Approval, MAX_APPROVAL};
use x402_evm::chain::{At, BatchRead, ReadChain};
use x402_types::nvm::Code;
use x402_types::{ChainId, EvmAddress, Refusal};
use zeroize::Zeroizing;

use super::KeyName;

/// The only provider whose keys are accepted here.
pub(crate) const PROVIDER: &str = "zerodev";

/// The body of `POST /session-keys`.
#[derive(Deserialize)]
#[serde(from = "Body")]
pub struct Registration {
    /// The network of the account.
    pub network: ChainId,
    /// The account that the key acts for.
    pub from: EvmAddress,
    /// The provider of the key's format.
    pub session_keys_provider: String,
    /// The base64 text of the key.
    pub data: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    network: ChainId,
    from: EvmAddress,
    session_keys_provider: String,
    data: String,
}

impl From<Body> for Registration {
    fn from(body: Body) -> Self {
        let Body { network, from, session_keys_provider, data } = body;
        Self { network, from, session_keys_provider, data: Zeroizing::new(data) }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("network", &self.network).field("from", &self.from).finish_non_exhaustive()
    }
}

/// Checks keys that are to be registered on one network.
#[derive(Clone)]
pub struct Registrar {
    chain: Arc<dyn ReadChain>,
    chain_id: u64,
    signer: Address,
    private_keys: bool,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar")
            .field("chain_id", &self.chain_id)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

sol! {
    /// Reads the nonce under which a Kernel's owner approves keys.
    function currentNonce() external view returns (uint32);
}

impl Registrar {
    /// Makes a registrar of keys that are issued to this session signer. `None` means that the network is not an EVM
    /// network.
    #[must_use]
    pub fn new(chain: Arc<dyn ReadChain>, signer: Address) -> Option<Self> {
        let chain_id = chain.network().eip155_chain()?;
        Some(Self { chain, chain_id, signer, private_keys: false })
    }

    /// Accepts also keys whose private half is in the text.
    #[must_use]
    pub const fn with_private_keys(mut self) -> Self {
        self.private_keys = true;
        self
    }

    /// Returns the network.
    #[must_use]
    pub fn network(&self) -> ChainId {
        self.chain.network()
    }

    /// Checks a key and returns its name in the store.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`: the key is of another provider, account or signer, contains a private key, or has an approval
    /// that is not its owner's.
    pub async fn check(&self, registration: &Registration) -> Result<KeyName, Refusal> {
        let refuse = |why: &str| Code::InvalidPayload.because(why);
        if registration.session_keys_provider != PROVIDER {
            return Err(refuse("sessionKeysProvider: expected zerodev").into());
        }
        if registration.data.len() > MAX_APPROVAL {
            return Err(refuse("data: too long").into());
        }
        let account = Address::try_from(registration.from).map_err(|why| refuse(&format!("from: {why}")))?;
        let approval = Approval::read(&registration.data).map_err(|why| refuse(&format!("data: {why}")))?;
        if approval.private_key.is_some() && !self.private_keys {
            return Err(refuse("data: it carries a private key").into());
        }
        if approval.account != account {
            return Err(refuse("from: the key is another account's").into());
        }
        let nonce = self.nonce(account).await?;
        approval.check(self.signer, self.chain_id, nonce).map_err(|why| refuse(&format!("data: {why}")))?;
        let provider = registration.session_keys_provider.clone();
        Ok(KeyName { network: self.network(), account: account.into(), provider, hash: approval.hash().into() })
    }

    /// Reads the account's `currentNonce()`, which is 1 if it is not deployed.
    async fn nonce(&self, account: Address) -> Result<u32, Refusal> {
        let call = Bytes::from(currentNonceCall {}.abi_encode());
        let answers =
            self.chain.run(&BatchRead::new().code_size(account).call(account, call, 100_000, 1), At::Latest).await?;
        if answers.sizes.first().is_none_or(|size| *size == 0) {
            return Ok(1);
        }
        let word = answers.calls.first().and_then(x402_evm::chain::Returned::word);
        let nonce = word.and_then(|word| u32::try_from(word).ok());
        Ok(nonce.ok_or_else(|| Code::InvalidPayload.because("from: no Kernel account"))?)
    }
}
