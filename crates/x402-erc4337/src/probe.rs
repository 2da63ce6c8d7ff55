//! Detects whether an address is an ERC-4337 account. ERC-165 cannot answer this: Kernel and Nexus revert, Safe denies.
//! The rule below distinguished eight kinds of accounts and contracts.

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

/// The result of an `eth_call`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallAnswer {
    /// The call returned these bytes.
    Returned(Bytes),
    /// The call reverted with these bytes.
    Reverted(Bytes),
}

/// The reason why an address does not count as an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccount {
    /// There is no code at the address.
    #[error("expected a contract at the address, found no code")]
    NoCode,
    /// Another caller than the EntryPoint may call `validateUserOp`, or it does not exist: an account accepts calls
    /// only from its EntryPoint.
    #[error("expected validateUserOp to refuse callers other than its EntryPoint, found that it does not")]
    Stranger,
    /// The response to the EntryPoint does not differ from that to another caller.
    #[error("expected validateUserOp to accept this EntryPoint, found that it treats it as any other caller")]
    EntryPoint,
}

/// Encodes `validateUserOp` with an unsigned operation, as EntryPoint 0.7 and later send it.
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

/// Evaluates the results: code is present, the probe from another caller reverts with data, and the one from the
/// EntryPoint has another result: 32 bytes, or other revert data.
/// # Errors
/// The condition that is not met.
pub fn is_account(code: &[u8], stranger: &CallAnswer, entry_point: &CallAnswer) -> Result<(), NotAccount> {
    if code.is_empty() {
        return Err(NotAccount::NoCode);
    }
    match stranger {
        CallAnswer::Reverted(data) if !data.is_empty() => {}
        _ => return Err(NotAccount::Stranger),
    }
    let knows = match entry_point {
        // A fallback that returns empty data for everything does not count.
        CallAnswer::Returned(data) => data.len() == 32,
        CallAnswer::Reverted(data) => !data.is_empty() && entry_point != stranger,
    };
    if knows { Ok(()) } else { Err(NotAccount::EntryPoint) }
}
