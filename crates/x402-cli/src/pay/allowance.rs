//! The allowance that payments by Permit2 need: by a permit that the facilitator uses, or by the payer's own transaction.

use std::sync::Arc;

use alloy_primitives::U64;
use x402_evm::chain::RpcChain;
use x402_evm::key::Key;
use x402_evm::permit2::{self, AllowancePermits, ApprovalTransactions, ApproveToken, Approver};
use x402_http::client::Payer;
use x402_types::ChainId;

use crate::node;

#[derive(Debug, clap::Args)]
pub(super) struct Allowance {
    /// The node of a network on which payments by Permit2 are made: its allowance is read there, and signed where the
    /// server has a facilitator that uses the signature. The option may be repeated.
    #[arg(long, value_name = "URL")]
    rpc: Vec<String>,
    /// Sends a transaction that approves Permit2 if a server refuses a payment because its allowance is short: for exactly
    /// the amount of the payment, or without a limit.
    #[arg(long, value_name = "AMOUNT", requires = "rpc", num_args = 0..=1, require_equals = true, default_missing_value = "exact")]
    approve: Option<Approval>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Approval {
    /// The amount of the payment.
    Exact,
    /// 2^256-1, so that no later payment needs an approval.
    Unlimited,
}

/// An approver of each network.
struct Approvers(Vec<Approver<RpcChain, Key>>);

#[async_trait::async_trait]
impl ApproveToken for Approvers {
    async fn approve(
        &self,
        network: ChainId,
        owner: alloy_primitives::Address,
        token: alloy_primitives::Address,
        amount: x402_types::AtomicAmount,
    ) -> Result<bool, x402_types::Fault> {
        for approver in &self.0 {
            if approver.approve(network, owner, token, amount).await? {
                eprintln!("approved: Permit2 may take {amount} of {token} on {network}");
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Allowance {
    /// Adds payments by Permit2 to a payer.
    pub(super) async fn add_to(self, payer: Payer, key: Key) -> Result<Payer, String> {
        let mut permits = AllowancePermits::new(key.clone());
        let mut transactions = ApprovalTransactions::new(key.clone());
        let mut approvers = Vec::new();
        for url in &self.rpc {
            let client = node::client(url)?;
            let id: U64 = client.request_noparams("eth_chainId").await.map_err(|error| format!("{url}: {error}"))?;
            let chain = Arc::new(RpcChain::new(client, ChainId::eip155(id.to()), 0));
            permits = permits.with_chain(chain.clone());
            transactions = transactions.with_chain(chain.clone());
            let approver = Approver::new(chain, key.clone());
            approvers.push(if matches!(self.approve, Some(Approval::Unlimited)) {
                approver.with_unlimited()
            } else {
                approver
            });
        }
        let mut scheme = permit2::Payer::new(key);
        if self.approve.is_some() {
            scheme = scheme.with_approver(Arc::new(Approvers(approvers)));
        }
        Ok(payer.and(scheme).with_extension(permits).with_extension(transactions))
    }
}
