//! [Wire types of ERC-7769](https://eips.ethereum.org/EIPS/eip-7769), as far as this crate needs them. Members that
//! bundlers omit or write as null are optional; other members are ignored.

use alloy_primitives::{Address, B256, Log, U64, U256};
use serde::{Deserialize, Serialize};

use super::client::GasEstimate;
use crate::rpc::RpcLog;
use crate::{EntryPointVersion, Executed, Landed, PackError, UserOperation};

/// An operation in the form that bundlers accept.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct RpcOperation(UserOperation);

impl RpcOperation {
    pub(crate) fn new(op: &UserOperation, version: EntryPointVersion) -> Result<Self, PackError> {
        op.pack(version)?;
        Ok(Self(op.clone()))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Estimate {
    pre_verification_gas: U256,
    verification_gas_limit: U256,
    call_gas_limit: U256,
    #[serde(default)]
    paymaster_verification_gas_limit: Option<U256>,
    #[serde(default)]
    paymaster_post_op_gas_limit: Option<U256>,
}

impl Estimate {
    pub(crate) fn read(&self) -> Option<GasEstimate> {
        let half = |gas: U256| u128::try_from(gas).ok();
        let optional = |gas: Option<U256>| gas.map_or(Some(None), |gas| half(gas).map(Some));
        Some(GasEstimate {
            pre_verification_gas: self.pre_verification_gas,
            verification_gas_limit: half(self.verification_gas_limit)?,
            call_gas_limit: half(self.call_gas_limit)?,
            paymaster_verification_gas_limit: optional(self.paymaster_verification_gas_limit)?,
            paymaster_post_op_gas_limit: optional(self.paymaster_post_op_gas_limit)?,
        })
    }
}

/// A response of which only the presence matters.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ByHash {}

/// A bundler's receipt. `receipt.logs` are all logs of the transaction; the adjacent `success` is the bundler's own
/// interpretation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Receipt {
    receipt: Transaction,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    transaction_hash: B256,
    block_number: U64,
    logs: Vec<RpcLog>,
}

impl Receipt {
    /// Extracts the operation's own event from the logs of the transaction.
    pub(crate) fn landed(mut self, entry_point: Address, hash: B256) -> Option<Landed> {
        self.receipt.logs.sort_by_key(|log| log.log_index);
        let executed = Executed::read(entry_point, &self.logs()).into_iter().find(|op| op.hash == hash)?;
        let Transaction { transaction_hash, block_number, .. } = self.receipt;
        Some(Landed { transaction: transaction_hash, block: block_number.to(), executed })
    }

    /// Converts the logs of the transaction.
    pub(crate) fn logs(&self) -> Vec<Log> {
        self.receipt.logs.iter().map(RpcLog::to_log).collect()
    }
}
