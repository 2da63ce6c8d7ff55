//! [ERC-7579 execution](https://eips.ethereum.org/EIPS/eip-7579#execution-behavior): `execute(bytes32 mode, bytes)`,
//! encoded for one call or a batch, and decoded strictly.

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
    /// The contract to call.
    pub target: Address,
    /// The value sent with the call, in wei.
    pub value: U256,
    /// The selector and the arguments.
    pub data: Bytes,
}

/// The maximum number of calls in a decoded batch.
const MAX_CALLS: usize = 64;

/// The error for callData that this crate would not encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The function is not `execute(bytes32,bytes)`.
    #[error("expected callData of execute(bytes32,bytes), found another function")]
    NotExecute,
    /// The mode is delegatecall: another contract's code would run in the account.
    #[error("expected a plain call, found execute by delegatecall")]
    Delegatecall,
    /// The mode is try: an operation succeeds although its call reverted.
    #[error("expected an execution that reverts with its call, found execute in try mode")]
    TryMode,
    /// The call type is unknown, or the mode has a selector or payload.
    #[error("expected a single call or a batch, found execute in an unknown mode")]
    UnknownMode,
    /// The encoding is not canonical: an offset points elsewhere, bytes follow the end, or a word is cut.
    #[error("expected canonical ABI, found execute with malformed calldata")]
    Malformed,
    /// The batch has no calls, or more than 64.
    #[error("expected 1 to {MAX_CALLS} calls, found execute of {0} calls")]
    CallCount(usize),
}

impl Call {
    /// Returns the first four bytes of the data, if it has that many.
    #[must_use]
    pub fn selector(&self) -> Option<FixedBytes<4>> {
        self.data.first_chunk::<4>().map(FixedBytes::from)
    }

    /// Encodes `execute` for this one call; a revert inside reverts the execution.
    #[must_use]
    pub fn execute(&self) -> Bytes {
        let data = [self.target.as_slice(), &self.value.to_be_bytes::<32>(), &self.data].concat();
        encode(CallType::Single, data)
    }

    /// Encodes `execute` for several calls, all or none of which take effect.
    #[must_use]
    pub fn execute_batch(calls: &[Self]) -> Bytes {
        let batch: Vec<Execution> =
            calls.iter().map(|c| Execution { target: c.target, value: c.value, callData: c.data.clone() }).collect();
        encode(CallType::Batch, batch.abi_encode())
    }

    /// Decodes the calls. Only bytes that [`execute`](Self::execute) or [`execute_batch`](Self::execute_batch) produce
    /// are accepted, so that no other decoder can find different calls in them.
    /// # Errors
    /// The deviation from that encoding.
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
