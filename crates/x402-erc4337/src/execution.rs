//! [ERC-7579 execution](https://eips.ethereum.org/EIPS/eip-7579#execution-behavior): `execute(bytes32 mode, bytes)`,
//! built for one call or a batch, and read strictly.

use alloy_primitives::{Address, Bytes, FixedBytes, U256};
use alloy_sol_types::{SolCall, SolValue, sol};

use crate::abi::STRICT;

sol! {
    struct Execution {
        address target;
        uint256 value;
        bytes callData;
    }

    function execute(bytes32 mode, bytes executionCalldata) external payable;
}

/// One call that an account makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The contract.
    pub target: Address,
    /// Wei sent with it.
    pub value: U256,
    /// Selector and arguments.
    pub data: Bytes,
}

/// The most calls of a batch that are read.
const MAX_CALLS: usize = 64;

/// callData that is not what this crate builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// Another function than `execute(bytes32,bytes)`.
    #[error("callData is not execute(bytes32,bytes)")]
    NotExecute,
    /// The library code of another contract would run in the account.
    #[error("execute by delegatecall")]
    Delegatecall,
    /// With try, an operation is a success although its call reverted.
    #[error("execute in try mode")]
    TryMode,
    /// Another call type, or a mode with selector or payload.
    #[error("execute in an unknown mode")]
    UnknownMode,
    /// Not ABI as the encoder writes it: an offset that points elsewhere, bytes after the end, or a cut word.
    #[error("execute with malformed calldata")]
    Malformed,
    /// A batch without calls, or with more than 64.
    #[error("execute of {0} calls")]
    CallCount(usize),
}

impl Call {
    /// The first four bytes of the data, if there are as many.
    #[must_use]
    pub fn selector(&self) -> Option<FixedBytes<4>> {
        self.data.first_chunk::<4>().map(FixedBytes::from)
    }

    /// Calldata of `execute` for this one call; a revert inside reverts the execution.
    #[must_use]
    pub fn execute(&self) -> Bytes {
        let data = [self.target.as_slice(), &self.value.to_be_bytes::<32>(), &self.data].concat();
        encode(CallType::Single, data)
    }

    /// Calldata of `execute` for several calls, all or none of them.
    #[must_use]
    pub fn execute_batch(calls: &[Self]) -> Bytes {
        let batch: Vec<Execution> =
            calls.iter().map(|c| Execution { target: c.target, value: c.value, callData: c.data.clone() }).collect();
        encode(CallType::Batch, batch.abi_encode())
    }

    /// Reads the calls back. Only bytes that [`execute`](Self::execute) or [`execute_batch`](Self::execute_batch)
    /// write are read, so that no second reader can see another call in them.
    ///
    /// # Errors
    /// Anything else, by name.
    pub fn read(call_data: &[u8]) -> Result<Vec<Self>, ExecutionError> {
        if !call_data.starts_with(&executeCall::SELECTOR) {
            return Err(ExecutionError::NotExecute);
        }
        let call = executeCall::abi_decode_with_config(call_data, STRICT).map_err(|_| ExecutionError::Malformed)?;
        let [call_type, exec_type, rest @ ..] = call.mode.0;
        match (call_type, exec_type) {
            (0xff, _) => return Err(ExecutionError::Delegatecall),
            (_, 0x01) => return Err(ExecutionError::TryMode),
            (0x00 | 0x01, 0x00) if rest == [0; 30] => {}
            _ => return Err(ExecutionError::UnknownMode),
        }
        let calls = if call_type == 0 { vec![Self::single(&call.executionCalldata)?] } else { Self::batch(&call)? };
        let written = if call_type == 0 {
            calls.first().map(Self::execute).unwrap_or_default()
        } else {
            Self::execute_batch(&calls)
        };
        if *written == *call_data { Ok(calls) } else { Err(ExecutionError::Malformed) }
    }

    fn single(data: &[u8]) -> Result<Self, ExecutionError> {
        let (target, rest) = data.split_first_chunk::<20>().ok_or(ExecutionError::Malformed)?;
        let (value, data) = rest.split_first_chunk::<32>().ok_or(ExecutionError::Malformed)?;
        Ok(Self { target: target.into(), value: U256::from_be_bytes(*value), data: Bytes::copy_from_slice(data) })
    }

    fn batch(call: &executeCall) -> Result<Vec<Self>, ExecutionError> {
        let batch = <Vec<Execution>>::abi_decode_with_config(&call.executionCalldata, STRICT)
            .map_err(|_| ExecutionError::Malformed)?;
        if batch.is_empty() || batch.len() > MAX_CALLS {
            return Err(ExecutionError::CallCount(batch.len()));
        }
        Ok(batch.into_iter().map(|e| Self { target: e.target, value: e.value, data: e.callData }).collect())
    }
}

#[derive(Clone, Copy)]
enum CallType {
    Single = 0,
    Batch = 1,
}

fn encode(call_type: CallType, data: Vec<u8>) -> Bytes {
    let mode = FixedBytes::right_padding_from(&[call_type as u8]);
    executeCall { mode, executionCalldata: data.into() }.abi_encode().into()
}
