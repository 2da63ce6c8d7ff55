//! A client for bundlers, on an alloy RPC client.

use alloy_json_rpc::{RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, U64, U256};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use async_trait::async_trait;
use core::ops::RangeInclusive;
use x402_evm::chain::node_fault;
use x402_types::Fault;

use super::wire::{ByHash, Estimate, Receipt, RpcOperation};
use super::{BundlerCode, BundlerError};
use crate::{BundleError, EntryPoint, FindUserOps, Gas, Landed, SendError, SendUserOp, Sent, UserOperation};

/// A bundler behind an alloy RPC client.
///
/// A bundler's receipt is only its own claim. If money depends on the outcome, read the chain with
/// [`RpcEntryPoint`](crate::RpcEntryPoint) instead.
#[derive(Debug, Clone)]
pub struct BundlerClient {
    client: RpcClient,
    entry_point: EntryPoint,
}

/// The gas limits that a bundler estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GasEstimate {
    /// The gas that is charged in addition to the measured gas.
    pub pre_verification_gas: U256,
    /// The gas limit of validation and deployment.
    pub verification_gas_limit: u128,
    /// The gas limit of the execution.
    pub call_gas_limit: u128,
    /// The gas limit of the paymaster's validation, if there is a paymaster.
    pub paymaster_verification_gas_limit: Option<u128>,
    /// The gas limit of the paymaster's `postOp`, if there is a paymaster.
    pub paymaster_post_op_gas_limit: Option<u128>,
}

impl GasEstimate {
    /// Combines these limits with the fees of `gas`.
    #[must_use]
    pub const fn with_fees_of(&self, gas: Gas) -> Gas {
        Gas {
            call_gas_limit: self.call_gas_limit,
            verification_gas_limit: self.verification_gas_limit,
            pre_verification_gas: self.pre_verification_gas,
            max_fee_per_gas: gas.max_fee_per_gas,
            max_priority_fee_per_gas: gas.max_priority_fee_per_gas,
        }
    }
}

impl BundlerClient {
    /// Creates a client for a bundler that serves this EntryPoint.
    #[must_use]
    pub fn new(client: RpcClient, entry_point: EntryPoint) -> Self {
        Self { client, entry_point }
    }

    /// Checks that the bundler serves this chain and EntryPoint: `eth_chainId`, `eth_supportedEntryPoints`.
    /// # Errors
    /// The bundler failed, or serves another chain or EntryPoint.
    pub async fn check(&self) -> Result<(), Fault> {
        let chain: U64 = self.request("eth_chainId", ()).await.map_err(bundler_fault)?;
        let served: Vec<Address> = self.request("eth_supportedEntryPoints", ()).await.map_err(bundler_fault)?;
        if chain.to::<u64>() != self.entry_point.chain_id {
            return Err(other(format_args!("it serves chain {chain}")));
        }
        if !served.contains(&self.entry_point.address) {
            return Err(other(format_args!("it does not serve EntryPoint {}", self.entry_point.version)));
        }
        Ok(())
    }

    /// Estimates the gas limits of an operation, whose signature may be any of the right form:
    /// `eth_estimateUserOperationGas`. Bundlers check neither the signature nor the nonce there.
    /// # Errors
    /// [`SendError::Bundler`] if the call or the validation reverts; [`SendError::Unknown`] otherwise.
    pub async fn estimate(&self, op: &UserOperation) -> Result<GasEstimate, SendError> {
        let op = self.wire(op)?;
        let answer: Result<Estimate, TransportError> =
            self.request("eth_estimateUserOperationGas", (op, self.entry_point.address)).await;
        let estimate = answer.map_err(refusal)?;
        estimate.read().ok_or_else(|| other("an estimate of more than 128 bits").into())
    }

    /// Returns the outcome of an operation, if the bundler knows it: `eth_getUserOperationReceipt`. `None` means not
    /// yet, or never.
    /// # Errors
    /// The bundler failed, or its receipt lacks the operation's own event.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Landed>, Fault> {
        let receipt: Option<Receipt> =
            self.request("eth_getUserOperationReceipt", (hash,)).await.map_err(bundler_fault)?;
        let Some(receipt) = receipt else { return Ok(None) };
        let landed = receipt.landed(self.entry_point.address, hash);
        landed.map(Some).ok_or_else(|| other("a receipt without the operation's event"))
    }

    /// Returns whether the bundler has seen an operation, pending or landed: `eth_getUserOperationByHash`.
    /// # Errors
    /// The bundler failed.
    pub async fn knows(&self, hash: B256) -> Result<bool, Fault> {
        let found: Option<ByHash> = self.request("eth_getUserOperationByHash", (hash,)).await.map_err(bundler_fault)?;
        Ok(found.is_some())
    }

    fn wire(&self, op: &UserOperation) -> Result<RpcOperation, BundleError> {
        RpcOperation::new(op, self.entry_point.version).map_err(|error| BundleError::Hash(error.into()))
    }

    async fn request<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, TransportError> {
        self.client.request::<P, R>(method, params).await
    }
}

fn other(what: impl core::fmt::Display) -> Fault {
    Fault::unreachable("the bundler", what)
}

fn bundler_fault(error: TransportError) -> Fault {
    node_fault(error).of_service("the bundler")
}

/// Classifies an error: it is a refusal if the bundler's code means one. Any other error, above all a timeout, leaves
/// the operation's fate unknown.
fn refusal(error: TransportError) -> SendError {
    let code = error.as_error_resp().map(|refusal| (BundlerCode::new(refusal.code), refusal.message.clone()));
    match code {
        Some((code, message)) if code.is_refusal() => BundlerError { code, message: message.as_ref().into() }.into(),
        _ => SendError::Unknown(bundler_fault(error)),
    }
}

#[async_trait]
impl SendUserOp for BundlerClient {
    async fn send_user_op(&self, op: &UserOperation) -> Result<Sent, SendError> {
        let hash = op.hash(&self.entry_point).map_err(BundleError::from)?;
        let wire = self.wire(op)?;
        if let Some(landed) = self.receipt(hash).await? {
            return Ok(Sent::Landed(Box::new(landed)));
        }
        let answer: Result<B256, TransportError> =
            self.request("eth_sendUserOperation", (wire, self.entry_point.address)).await;
        match answer.map_err(refusal) {
            Ok(same) if same == hash => Ok(Sent::Handed { hash, transaction: None }),
            Ok(_) => Err(other("it answers with the hash of another operation").into()),
            // The operation may have landed since the last look-up (AA10, AA23, AA25), or be pending.
            Err(SendError::Bundler(error)) => match self.receipt(hash).await? {
                Some(landed) => Ok(Sent::Landed(Box::new(landed))),
                None if error.is_known() || self.knows(hash).await? => Ok(Sent::Handed { hash, transaction: None }),
                None => Err(error.into()),
            },
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl FindUserOps for BundlerClient {
    async fn find_user_ops(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Vec<Option<Landed>>, Fault> {
        let mut found = Vec::with_capacity(hashes.len());
        for hash in hashes {
            found.push(self.receipt(*hash).await?.filter(|landed| blocks.contains(&landed.block)));
        }
        Ok(found)
    }
}
