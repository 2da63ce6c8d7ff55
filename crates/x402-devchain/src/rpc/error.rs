//! JSON-RPC errors with geth's texts, which client libraries match.

use std::convert::Infallible;

use alloy_primitives::{Address, Bytes, hex};
use alloy_sol_types::{Panic, Revert, SolError};
use revm::context::result::{EVMError, HaltReason, InvalidTransaction};
use serde_json::{Value, json};

/// A JSON-RPC error object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Creates geth's general error, with code -32000.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(crate) fn method(name: &str) -> Self {
        Self::new(-32601, format!("the method {name} does not exist/is not available"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(-32603, message)
    }

    /// Creates code 3 with the revert data, and puts the reason into the text if the data are `Error(string)` or
    /// `Panic(uint256)`.
    pub(crate) fn reverted(data: &Bytes) -> Self {
        let reason = Revert::abi_decode(data).map(|revert| revert.reason).or_else(|_| {
            Panic::abi_decode(data).map(|panic| panic.kind().map_or("unknown panic code", |k| k.as_str()).to_owned())
        });
        let message =
            reason.map_or_else(|_| "execution reverted".to_owned(), |why| format!("execution reverted: {why}"));
        Self { code: 3, message, data: Some(Value::String(hex::encode_prefixed(data))) }
    }

    pub(crate) fn halted(reason: &HaltReason) -> Self {
        Self::refused(match reason {
            HaltReason::OutOfGas(_) => "out of gas".to_owned(),
            HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".to_owned(),
            HaltReason::CreateContractSizeLimit => "max code size exceeded".to_owned(),
            HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef".to_owned(),
            HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
            other => other.to_string(),
        })
    }

    pub(crate) fn invalid(error: EVMError<Infallible>, sender: Address) -> Self {
        Self::refused(match error {
            EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
                format!("insufficient funds for gas * price + value: address {sender} have {balance} want {fee}")
            }
            EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit }) => {
                format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
            }
            EVMError::Transaction(InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit }) => {
                format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
            }
            EVMError::Transaction(InvalidTransaction::GasPriceLessThanBasefee) => {
                "max fee per gas less than block base fee".to_owned()
            }
            EVMError::Transaction(InvalidTransaction::CreateInitCodeSizeLimit) => {
                "max initcode size exceeded".to_owned()
            }
            EVMError::Transaction(InvalidTransaction::NonceTooLow { tx, state }) => {
                format!("nonce too low: address {sender}, tx: {tx} state: {state}")
            }
            EVMError::Transaction(InvalidTransaction::NonceTooHigh { tx, state }) => {
                format!("nonce too high: address {sender}, tx: {tx} state: {state}")
            }
            other => other.to_string(),
        })
    }

    /// Creates the error with which `eth_simulateV1` rejects a transaction that no block could include, from its table
    /// of codes.
    pub(crate) fn not_simulated(error: EVMError<Infallible>, sender: Address) -> Self {
        let code = match &error {
            EVMError::Transaction(reason) => match reason {
                InvalidTransaction::NonceTooLow { .. } => -38010,
                InvalidTransaction::NonceTooHigh { .. } => -38011,
                InvalidTransaction::GasPriceLessThanBasefee => -38012,
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. } => -38013,
                InvalidTransaction::LackOfFundForMaxFee { .. } | InvalidTransaction::OverflowPaymentInTransaction => {
                    -38014
                }
                InvalidTransaction::CreateInitCodeSizeLimit => -38025,
                _ => -32602,
            },
            _ => -32603,
        };
        Self { code, ..Self::invalid(error, sender) }
    }

    pub(crate) fn message(self) -> String {
        self.message
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(object), Some(data)) = (error.as_object_mut(), &self.data) {
            object.insert("data".to_owned(), data.clone());
        }
        error
    }
}

impl From<serde_json::Error> for RpcError {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error.to_string())
    }
}
