//! Approves Permit2 by a transaction of the payer's own account.

use core::time::Duration;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256, keccak256};
use async_trait::async_trait;
use tokio::time::sleep;
use x402_types::{AtomicAmount, ChainId, Fault};

use super::PERMIT2;
use super::approval::ApproveToken;
use super::calls::{allowance_call, approve_call};
use crate::chain::{At, BatchRead, Chain};
use crate::key::Sign;
use crate::transaction::Transaction;

/// Sends the approvals of one account on one network.
///
/// An approval is for exactly the amount of the payment that needs it, unless [`Approver::with_unlimited`] was called. It
/// is simulated before it is sent, and the chain's allowance is its proof.
pub struct Approver<C, S> {
    chain: Arc<C>,
    signer: S,
    unlimited: bool,
    fee_cap: u128,
}

/// The gas limit of an approval, as in the SDKs: recorded ones took 26,503 to 46,403.
const APPROVE_GAS: u64 = 70_000;
/// The gas of a view of the token.
const VIEW_GAS: u32 = 100_000;
/// The default maximum price of a unit of gas, in wei: 100 gwei.
const FEE_CAP: u128 = 100_000_000_000;
/// The minimum tip for a unit of gas, in wei.
const LEAST_TIP: u128 = 1_000_000;
/// The number of times that the allowance is read after an approval: for about two minutes.
const READS: u32 = 64;

impl<C, S: Sign> core::fmt::Debug for Approver<C, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Approver").field("address", &self.signer.address()).finish_non_exhaustive()
    }
}

impl<C: Chain, S: Sign> Approver<C, S> {
    /// Creates an approver of this account on the chain's network.
    #[must_use]
    pub const fn new(chain: Arc<C>, signer: S) -> Self {
        Self { chain, signer, unlimited: false, fee_cap: FEE_CAP }
    }

    /// Approves 2^256-1 instead of the amount: every later payment does without an approval, and a fault in Permit2 could
    /// cost all of the account's tokens.
    #[must_use]
    pub const fn with_unlimited(mut self) -> Self {
        self.unlimited = true;
        self
    }

    /// Sets the maximum price of a unit of gas in wei, tip included: 100 gwei by default.
    #[must_use]
    pub const fn with_fee_cap(mut self, wei: u128) -> Self {
        self.fee_cap = wei;
        self
    }

    /// Reads the allowance, and whether the token accepts the approval now.
    async fn read(&self, token: Address, approval: &Bytes) -> Result<(U256, bool), Fault> {
        let owner = self.signer.address();
        let gas = u32::try_from(APPROVE_GAS).unwrap_or(u32::MAX);
        let reads = BatchRead::new()
            .view(token, allowance_call(owner, PERMIT2), VIEW_GAS, 1)
            .call(token, approval.clone(), gas, 1)
            .called_by(owner);
        let answers = self.chain.run(&reads, At::Latest).await?;
        let [allowance, approved] = &*answers.calls else {
            return Err(Fault::unreachable("the node", "an answer of another form"));
        };
        let allowance = allowance.word().ok_or_else(|| Fault::unreachable("the token", "it has no allowance"))?;
        // Old tokens return nothing, and revert instead of returning false.
        let accepts = approved.success && (approved.data.is_empty() || approved.word() == Some(U256::from(1)));
        Ok((allowance, accepts))
    }

    /// Sends an approval, and waits until the chain has an allowance as it sets it.
    async fn send(&self, token: Address, data: Bytes, done: impl Fn(U256) -> bool) -> Result<(), Fault> {
        let owner = self.signer.address();
        let chain_id = self.chain.network().evm_chain().map_err(Fault::broken)?;
        let head = self.chain.head().await?;
        let nonce = self.chain.account_nonces(owner).await?.head;
        let surcharge = self.chain.surcharge(&data).await?;
        let tip = head.tip.max(LEAST_TIP).min(self.fee_cap);
        let transaction = Transaction {
            chain_id,
            nonce,
            max_priority_fee_per_gas: tip,
            max_fee_per_gas: head.base_fee.saturating_mul(2).saturating_add(tip).min(self.fee_cap),
            // The estimate may rise before the transaction is in a block.
            gas_limit: APPROVE_GAS.saturating_add(surcharge.saturating_mul(3).div_ceil(2)),
            to: token,
            input: data.clone(),
        };
        let signature = self.signer.sign(transaction.signing_hash()).await?;
        let bytes = transaction.signed(&signature);
        let hash = keccak256(&bytes);
        self.chain.send_transaction(&bytes).await?;
        let mut pause = Duration::from_millis(100);
        for _ in 0..READS {
            // The nonce is read first: an approval that is mined by then is in what is read afterwards.
            let used = self.chain.account_nonces(owner).await?.head > nonce;
            let (allowance, _) = self.read(token, &data).await?;
            if done(allowance) {
                return Ok(());
            }
            if used {
                return Err(Fault::unreachable("the token", format_args!("the approval {hash} gave no allowance")));
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(2));
        }
        Err(Fault::unreachable("the network", format_args!("the approval {hash} is in no block yet")))
    }
}

#[async_trait]
impl<C: Chain, S: Sign> ApproveToken for Approver<C, S> {
    async fn approve(
        &self,
        network: ChainId,
        owner: Address,
        token: Address,
        amount: AtomicAmount,
    ) -> Result<bool, Fault> {
        if network != self.chain.network() || owner != self.signer.address() {
            return Ok(false);
        }
        let needed = amount.value();
        let approval = approve_call(PERMIT2, if self.unlimited { U256::MAX } else { needed });
        let (before, accepted) = self.read(token, &approval).await?;
        if before >= needed {
            return Ok(false);
        }
        if !accepted {
            // Some tokens change an allowance only from or to zero.
            let zero = approve_call(PERMIT2, U256::ZERO);
            if before.is_zero() || !self.read(token, &zero).await?.1 {
                return Err(Fault::unreachable("the token", "it refuses an approval of Permit2"));
            }
            self.send(token, zero, |allowance| allowance.is_zero()).await?;
        }
        self.send(token, approval, |allowance| allowance >= needed).await?;
        Ok(true)
    }
}
