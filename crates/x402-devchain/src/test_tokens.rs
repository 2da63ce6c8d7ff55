//! Tokens other than FiatToken, which a test can put on a chain: `contracts/tokens`.

use alloy_primitives::{Address, Bytes, U256};
use serde::Deserialize;

use crate::accounts::ACCOUNTS;
use crate::chain::{BadCode, DevChain};
use crate::token::{TOKENS_EACH, balance_slot};

/// A token with EIP-3009 that behaves differently from FiatToken. Each has version `1` and 6 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestToken {
    /// A token like OpenZeppelin's `ERC3009`, contracts 5.7.0: `eip712Domain()` and no `version()`, custom errors.
    Oz,
    /// A token like OpenZeppelin's `ERC20TransferAuthorization`, 5.7.0: the nonce is a key of 24 bytes and a counter of
    /// 8.
    OzKeyed,
    /// A token like those of Paxos: the call of a used authorization succeeds and moves nothing.
    Paxos,
    /// A token that transfers first and emits `AuthorizationUsed` last.
    TransferFirst,
    /// A token that keeps one percent of each transfer.
    Fee,
    /// A token that emits no `Transfer`.
    Silent,
    /// A token whose `transferFrom` returns `false` and moves nothing.
    False,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    deployed_bytecode: Bytes,
}

impl TestToken {
    /// Returns the `name` in its EIP-712 domain.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oz => "Oz Dollar",
            Self::OzKeyed => "Oz Keyed Dollar",
            Self::Paxos => "Paxos Dollar",
            Self::TransferFirst => "First Dollar",
            Self::Fee => "Fee Dollar",
            Self::Silent => "Silent Dollar",
            Self::False => "False Dollar",
        }
    }

    const fn artifact(self) -> &'static str {
        match self {
            Self::Oz => include_str!("../contracts/artifacts/OzToken.json"),
            Self::OzKeyed => include_str!("../contracts/artifacts/OzKeyedToken.json"),
            Self::Paxos => include_str!("../contracts/artifacts/PaxosToken.json"),
            Self::TransferFirst => include_str!("../contracts/artifacts/TransferFirstToken.json"),
            Self::Fee => include_str!("../contracts/artifacts/FeeToken.json"),
            Self::Silent => include_str!("../contracts/artifacts/SilentToken.json"),
            Self::False => include_str!("../contracts/artifacts/FalseToken.json"),
        }
    }
}

impl DevChain {
    /// Puts a token at an address as of the last block, and gives [`TOKENS_EACH`] to every account of the chain.
    /// # Errors
    /// The artifact is damaged.
    pub fn put_token(&self, token: TestToken, address: Address) -> Result<(), BadCode> {
        let artifact: Artifact =
            serde_json::from_str(token.artifact()).map_err(|error| BadCode { reason: error.to_string() })?;
        self.set_code(address, artifact.deployed_bytecode)?;
        for account in ACCOUNTS {
            self.set_token_balance(address, account.address, U256::from(TOKENS_EACH));
        }
        Ok(())
    }

    /// Sets an account's balance of a [`TestToken`] as of the last block. No event is emitted.
    pub fn set_token_balance(&self, token: Address, account: Address, atomic: U256) {
        self.set_storage(token, balance_slot(account), atomic.into());
    }
}
