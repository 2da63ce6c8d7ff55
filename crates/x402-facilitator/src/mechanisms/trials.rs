//! The trials of the tokens of a network, before they are served.

use alloy_primitives::{Address, keccak256};
use x402_evm::chain::RpcChain;
use x402_evm::key::Key;
use x402_evm::token::{Token, Tokens};
use x402_evm::token_trial::Trial;
use x402_types::{Assets, ChainId, Fault};

use super::Evm;

/// A token that is tried by the ways in which it is served.
pub(crate) struct TokenTrial {
    token: Token,
    /// The account in whose transaction an authorization is simulated; `None` if only Permit2 moves the token.
    authorized: Option<Address>,
    permit2: bool,
}

impl TokenTrial {
    /// Returns the trials of all the tokens that a network serves.
    pub(crate) fn all(evm: &Evm) -> Vec<Self> {
        let sender = evm.signers.first().map(Key::address).unwrap_or_default();
        Self::of(&evm.assets, evm.network, sender, evm.permit2)
    }

    /// Returns the trials of these tokens in transactions of this account.
    pub(crate) fn of(assets: &Assets, network: ChainId, sender: Address, permit2: bool) -> Vec<Self> {
        let authorized = Tokens::new(assets);
        let by = |token: &Token| authorized.find(token.network, token.address).map(|_| sender);
        let served = Tokens::for_permit2(assets).on(network);
        let all = served.iter().map(|token| Self { token: token.clone(), authorized: by(token), permit2 });
        all.filter(|trial| trial.permit2 || trial.authorized.is_some()).collect()
    }

    /// Returns the address of the token.
    pub(crate) const fn address(&self) -> Address {
        self.token.address
    }

    /// Returns the token's name, as far as it is known.
    pub(crate) fn name(&self) -> &str {
        self.token.domain.as_ref().map_or("of unknown name", |domain| &*domain.name)
    }

    /// Simulates a payment. A token whose authorizations cannot be tried, because it knows none or for another reason, is
    /// tried by Permit2, if that is served.
    pub(crate) async fn run(&self, chain: &RpcChain) -> Result<Trial, Fault> {
        let payer = trial_payer()?;
        let by_authorization = match self.authorized {
            Some(sender) => Some(chain.try_token(&self.token, &payer, sender).await?),
            None => None,
        };
        match by_authorization {
            Some(ended) if !(self.permit2 && matches!(ended, Trial::Untried(_))) => Ok(ended),
            untried => match (chain.try_by_permit2(&self.token, payer.address()).await?, untried) {
                (unfit @ Trial::Unfit(_), _) => Ok(unfit),
                (_, Some(untried)) => Ok(untried),
                (ended, None) => Ok(ended),
            },
        }
    }
}

/// Returns the signer of the tokens' trials. Its key is public, and its account is empty.
fn trial_payer() -> Result<Key, Fault> {
    Key::from_bytes(&keccak256("x402: the payer of a token's trial")).map_err(Fault::broken)
}
