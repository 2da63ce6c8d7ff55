//! The buyer's half of `erc20ApprovalGasSponsoring`: where Permit2's allowance is short and the token has no permits, the payer
//! signs the transaction that approves it.

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use async_trait::async_trait;
use x402_types::extension::Extension;
use x402_types::{Assets, EvmAddress, Fault, Members, Refusal, SigningContext, Terms};

use super::PERMIT2;
use super::allowance::allowance_and_permits;
use super::calls::approve_call;
use super::payer::takes_permit;
use super::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use crate::chain::Chain;
use crate::key::Sign;
use crate::token::Tokens;
use crate::transaction::Transaction;

/// Signs approvals of Permit2 for a payer whose account is a key, on the networks of its chains.
///
/// It signs only where the server declared the extension, the terms are paid by Permit2 in a known token without permits of
/// EIP-2612, and the allowance does not cover the amount. The approval is for exactly the amount, takes the account's next
/// nonce, and costs the account gas: whoever has it can send it as long as that nonce is not used.
pub struct ApprovalTransactions<S> {
    signer: S,
    chains: Vec<Arc<dyn Chain>>,
    tokens: Tokens,
    any_token: bool,
}

/// The gas limit of an approval, as in the SDKs.
const APPROVE_GAS: u64 = 70_000;
/// The maximum price of a unit of gas, in wei: 100 gwei.
const FEE_CAP: u128 = 100_000_000_000;
/// The minimum tip for a unit of gas, in wei.
const LEAST_TIP: u128 = 1_000_000;

impl<S: Sign> core::fmt::Debug for ApprovalTransactions<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ApprovalTransactions").field("address", &self.signer.address()).finish_non_exhaustive()
    }
}

impl<S: Sign> ApprovalTransactions<S> {
    /// Creates the extension for this account, in the default assets; without a [chain](Self::with_chain) it signs nothing.
    #[must_use]
    pub fn new(signer: S) -> Self {
        let tokens = Tokens::for_permit2(&Assets::default());
        Self { signer, chains: Vec::new(), tokens, any_token: false }
    }

    /// Reads allowances, nonces and fees of this chain's network from it.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn Chain>) -> Self {
        self.chains.push(chain);
        self
    }

    /// Signs only for these tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Signs also for unknown tokens.
    #[must_use]
    pub fn with_any_token(mut self) -> Self {
        self.any_token = true;
        self
    }
}

#[async_trait]
impl<S: Sign> Extension for ApprovalTransactions<S> {
    fn name(&self) -> &str {
        ERC20_APPROVAL_GAS_SPONSORING
    }

    async fn complete(&self, _: &Members, terms: &Terms, _: &SigningContext<'_>) -> Result<Members, Refusal> {
        let token = terms.asset.parse::<EvmAddress>().and_then(Address::try_from).ok();
        let known = |token: &Address| self.any_token || self.tokens.find(terms.network, *token).is_some();
        let chain = self.chains.iter().find(|chain| chain.network() == terms.network);
        let (Some(chain), Some(token), true) = (chain, token.filter(known), takes_permit(terms)) else {
            return Ok(Members::new());
        };
        let amount = terms.amount.value();
        let (allowance, permits) = allowance_and_permits(&**chain, self.signer.address(), token).await?;
        if allowance.is_none_or(|allowance| allowance >= amount) || permits.is_some() {
            return Ok(Members::new());
        }
        let input = approve_call(PERMIT2, amount);
        let head = chain.head().await?;
        let surcharge = chain.surcharge(&input).await?;
        let tip = head.tip.clamp(LEAST_TIP, FEE_CAP);
        let transaction = Transaction {
            chain_id: terms.network.evm_chain().map_err(Fault::broken)?,
            nonce: chain.account(self.signer.address()).await?.nonce,
            max_priority_fee_per_gas: tip,
            max_fee_per_gas: head.base_fee.saturating_mul(2).saturating_add(tip).min(FEE_CAP),
            gas_limit: APPROVE_GAS.saturating_add(surcharge.saturating_mul(3).div_ceil(2)),
            to: token,
            input,
        };
        let signature = self.signer.sign(transaction.signing_hash()).await?;
        let mut additions = Members::new();
        for (name, value) in [
            ("from", self.signer.address().to_string()),
            ("asset", token.to_string()),
            ("spender", PERMIT2.to_string()),
            ("amount", amount.to_string()),
            ("signedTransaction", hex::encode_prefixed(transaction.signed(&signature))),
            // The server's declaration has it in general, and is not overwritten.
            ("version", "1".to_owned()),
        ] {
            additions.insert_text(name, &value);
        }
        Ok(additions)
    }
}
