//! Is this address an ERC-4337 account? A question that ERC-165 does not answer: Kernel and Nexus revert, Safe says
//! no. The rule below told eight kinds of accounts and contracts apart.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, sol};

sol! {
    struct ProbeOperation {
        address sender;
        uint256 nonce;
        bytes initCode;
        bytes callData;
        bytes32 accountGasLimits;
        uint256 preVerificationGas;
        bytes32 gasFees;
        bytes paymasterAndData;
        bytes signature;
    }

    function validateUserOp(ProbeOperation userOp, bytes32 userOpHash, uint256 missingAccountFunds) external returns (uint256 validationData);
}

/// What an `eth_call` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallAnswer {
    /// It returned these bytes.
    Returned(Bytes),
    /// It reverted with these bytes.
    Reverted(Bytes),
}

/// Why an address is not taken for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccount {
    /// No code stands there.
    #[error("no code at the address")]
    NoCode,
    /// A stranger may call `validateUserOp`, or it does not exist: an account lets only its EntryPoint in.
    #[error("validateUserOp does not refuse a stranger")]
    Stranger,
    /// The EntryPoint is answered as a stranger is.
    #[error("validateUserOp does not know this EntryPoint")]
    EntryPoint,
}

/// Calldata of `validateUserOp` with an operation that nobody signed, as EntryPoint 0.7 and later send it.
#[must_use]
pub fn probe_calldata(account: Address) -> Bytes {
    let op = ProbeOperation {
        sender: account,
        nonce: U256::ZERO,
        initCode: Bytes::new(),
        callData: Bytes::new(),
        accountGasLimits: B256::ZERO,
        preVerificationGas: U256::ZERO,
        gasFees: B256::ZERO,
        paymasterAndData: Bytes::new(),
        signature: Bytes::from_static(&[0; 65]),
    };
    validateUserOpCall { userOp: op, userOpHash: B256::ZERO, missingAccountFunds: U256::ZERO }.abi_encode().into()
}

/// Judges the answers: code present, the probe from a stranger reverts with data, and from the EntryPoint it answers
/// otherwise: 32 bytes, or other revert data.
///
/// # Errors
/// What is missing.
pub fn is_account(code: &[u8], stranger: &CallAnswer, entry_point: &CallAnswer) -> Result<(), NotAccount> {
    if code.is_empty() {
        return Err(NotAccount::NoCode);
    }
    match stranger {
        CallAnswer::Reverted(data) if !data.is_empty() => {}
        _ => return Err(NotAccount::Stranger),
    }
    let knows = match entry_point {
        // A fallback that answers nothing to everything is no answer.
        CallAnswer::Returned(data) => data.len() == 32,
        CallAnswer::Reverted(data) => !data.is_empty() && entry_point != stranger,
    };
    if knows { Ok(()) } else { Err(NotAccount::EntryPoint) }
}
