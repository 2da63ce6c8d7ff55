//! A bundler without a service: a plain account that sends `handleOps` and pays for it.

use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, U64, U256};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_client::RpcClient;
use alloy_rpc_types_eth::TransactionRequest;
use async_trait::async_trait;
use x402_evm::chain::{estimate_surcharge, node_fault};
use x402_types::Fault;

use crate::{
    Bundle, Eip7702Authorization, EntryPoint, FindUserOps, Revert, RpcEntryPoint, SendError, SendUserOp, Sent,
    SimulateUserOps, Simulated, UserOperation,
};

/// Sends `handleOps` itself, from an account without code.
///
/// Fees that the operations pay go to that account, and with fees of zero it pays for everything. It simulates before
/// it sends, so that it does not pay for bundles that would be refused or revert.
#[derive(Debug, Clone)]
pub struct SelfBundler {
    provider: DynProvider,
    chain: RpcEntryPoint,
    payer: Address,
    lookback: u64,
}

impl SelfBundler {
    /// Creates a bundler for this EntryPoint, paid by `payer`. The provider signs for `payer` and fills in nonce and
    /// fees: alloy's `ProviderBuilder::new().wallet(…)`.
    #[must_use]
    pub fn new(provider: impl Provider + 'static, entry_point: EntryPoint, payer: Address) -> Self {
        let client = provider.client();
        let client = RpcClient::new(client.transport().clone(), client.is_local());
        Self { provider: provider.erased(), chain: RpcEntryPoint::new(client, entry_point), payer, lookback: 1_000 }
    }

    /// Sets the number of recent blocks that are searched for an operation before it is sent; the default is 1,000.
    #[must_use]
    pub const fn with_lookback(mut self, blocks: u64) -> Self {
        self.lookback = blocks;
        self
    }

    /// Returns the EntryPoint, for looking operations up.
    #[must_use]
    pub const fn chain(&self) -> &RpcEntryPoint {
        &self.chain
    }

    /// Sends those of the operations that have not landed, in one transaction and in this order. The results are in the
    /// order of the operations.
    /// # Errors
    /// A fault of the operations, after which nothing was sent. [`SendError::Unknown`]: something may have been sent.
    pub async fn send(&self, ops: &[UserOperation]) -> Result<Vec<Sent>, SendError> {
        let mut bundle = Bundle::new(*self.chain.entry_point(), self.payer, ops)?;
        let hashes = bundle.hashes().to_vec();
        let mut landed = self.landed(&hashes).await?;
        loop {
            let open: Vec<UserOperation> =
                ops.iter().zip(&landed).filter(|(_, landed)| landed.is_none()).map(|(op, _)| op.clone()).collect();
            if open.is_empty() {
                break;
            }
            if open.len() < bundle.operations().len() {
                bundle = Bundle::new(*self.chain.entry_point(), self.payer, &open)?;
            }
            match self.simulate(&bundle).await {
                Ok(()) => break,
                // An operation may have landed since the last look-up; the error code alone does not decide that.
                Err(SendError::Refused(refused)) => {
                    let now = self.landed(&hashes).await?;
                    if now.iter().flatten().count() == landed.iter().flatten().count() {
                        return Err(SendError::Refused(refused));
                    }
                    landed = now;
                }
                Err(error) => return Err(error),
            }
        }
        let transaction = if landed.iter().any(Option::is_none) { Some(self.transact(&bundle).await?) } else { None };
        let sent = |(hash, landed)| match landed {
            Some(landed) => Sent::Landed(Box::new(landed)),
            None => Sent::Handed { hash, transaction },
        };
        Ok(hashes.into_iter().zip(landed).map(sent).collect())
    }

    async fn landed(&self, hashes: &[B256]) -> Result<Vec<Option<crate::Landed>>, Fault> {
        let head: U64 = self.chain.request("eth_blockNumber", ()).await.map_err(node_fault)?;
        let head: u64 = head.to();
        let first = head.saturating_add(1).saturating_sub(self.lookback);
        self.chain.find_user_ops(hashes, first..=head).await
    }

    async fn simulate(&self, bundle: &Bundle) -> Result<(), SendError> {
        let simulated = self.chain.simulate_user_ops(core::slice::from_ref(bundle)).await?;
        match simulated.into_iter().next() {
            Some(Simulated::Refused(refused)) => Err(SendError::Refused(refused)),
            Some(Simulated::Executed { operations, .. }) => match operations.into_iter().find(|op| !op.success) {
                None => Ok(()),
                Some(op) => {
                    Err(SendError::Reverts { hash: op.hash, revert: op.revert.unwrap_or_else(Revert::default) })
                }
            },
            None => Err(Fault::broken("a simulation without an answer").into()),
        }
    }

    async fn transact(&self, bundle: &Bundle) -> Result<B256, Fault> {
        let surcharge = estimate_surcharge(self.chain.client(), bundle.call_data()).await?;
        // The surcharge may rise before the transaction is in a block, and unused gas is not paid for.
        let surcharge = surcharge.saturating_add(surcharge.div_ceil(2));
        let mut request = TransactionRequest::default()
            .from(self.payer)
            .to(bundle.entry_point().address)
            .value(U256::ZERO)
            .input(bundle.call_data().clone().into())
            .gas_limit(bundle.gas().saturating_add(surcharge));
        if !bundle.authorizations().is_empty() {
            let signed = bundle.authorizations().iter().map(|(_, auth)| signed(auth)).collect::<Option<_>>();
            let signed = signed.ok_or_else(|| Fault::broken("an EIP-7702 authorization without signature"))?;
            request.authorization_list = Some(signed);
        }
        let sent = self.provider.send_transaction(request).await.map_err(node_fault)?;
        Ok(*sent.tx_hash())
    }
}

fn signed(auth: &Eip7702Authorization) -> Option<SignedAuthorization> {
    let (r, s, odd) = auth.signature?;
    let inner = Authorization { chain_id: auth.chain_id, address: auth.address, nonce: auth.nonce };
    Some(SignedAuthorization::new_unchecked(inner, u8::from(odd), r.into(), s.into()))
}

#[async_trait]
impl SendUserOp for SelfBundler {
    async fn send_user_op(&self, op: &UserOperation) -> Result<Sent, SendError> {
        let sent = self.send(core::slice::from_ref(op)).await?;
        sent.into_iter().next().ok_or_else(|| Fault::broken("an operation without an answer").into())
    }
}
