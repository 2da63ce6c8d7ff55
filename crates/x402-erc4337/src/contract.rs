//! [EntryPoint interface](https://eips.ethereum.org/EIPS/eip-4337#entrypoint-definition): `handleOps` calldata, and the
//! decoded errors and events of the contract.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_sol_types::{SolCall, SolError, SolEvent};

#[cfg(feature = "rpc")]
use crate::NonceKey;
use crate::{PackedUserOperation, UserOperationV06};

mod v06 {
    alloy_sol_types::sol! {
        struct UserOperation {
            address sender;
            uint256 nonce;
            bytes initCode;
            bytes callData;
            uint256 callGasLimit;
            uint256 verificationGasLimit;
            uint256 preVerificationGas;
            uint256 maxFeePerGas;
            uint256 maxPriorityFeePerGas;
            bytes paymasterAndData;
            bytes signature;
        }

        function handleOps(UserOperation[] ops, address beneficiary) external;
    }
}

mod v07 {
    alloy_sol_types::sol! {
        struct PackedUserOperation {
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

        function handleOps(PackedUserOperation[] ops, address beneficiary) external;
        function validateUserOp(PackedUserOperation userOp, bytes32 userOpHash, uint256 missingAccountFunds) external returns (uint256 validationData);
        function executeUserOp(PackedUserOperation userOp, bytes32 userOpHash) external;
        function getNonce(address sender, uint192 key) external view returns (uint256 nonce);

        error FailedOp(uint256 opIndex, string reason);
        error FailedOpWithRevert(uint256 opIndex, string reason, bytes inner);
        error SignatureValidationFailed(address aggregator);
        error PostOpReverted(bytes returnData);
        error SenderAddressResult(address sender);

        event UserOperationEvent(bytes32 indexed userOpHash, address indexed sender, address indexed paymaster, uint256 nonce, bool success, uint256 actualGasCost, uint256 actualGasUsed);
        event UserOperationRevertReason(bytes32 indexed userOpHash, address indexed sender, uint256 nonce, bytes revertReason);
        event PostOpRevertReason(bytes32 indexed userOpHash, address indexed sender, uint256 nonce, bytes revertReason);
        event UserOperationPrefundTooLow(bytes32 indexed userOpHash, address indexed sender, uint256 nonce);
        event AccountDeployed(bytes32 indexed userOpHash, address indexed sender, address factory, address paymaster);
        event IgnoredInitCode(bytes32 indexed userOpHash, address indexed sender, address unusedFactory);
        event EIP7702AccountInitialized(bytes32 indexed userOpHash, address indexed sender, address indexed delegate);
        event BeforeExecution();
    }
}

impl PackedUserOperation {
    /// Encodes the calldata of `handleOps` for EntryPoint 0.7 and later.
    #[must_use]
    pub fn handle_ops(ops: &[Self], beneficiary: Address) -> Bytes {
        let ops = ops.iter().map(Self::to_sol).collect();
        v07::handleOpsCall { ops, beneficiary }.abi_encode().into()
    }

    /// Decodes the operations of `handleOps`: an operation may land in a transaction of any account.
    #[must_use]
    pub fn from_handle_ops(calldata: &[u8]) -> Option<(Vec<Self>, Address)> {
        let call = v07::handleOpsCall::abi_decode(calldata).ok()?;
        Some((call.ops.into_iter().map(Self::from_sol).collect(), call.beneficiary))
    }

    fn to_sol(&self) -> v07::PackedUserOperation {
        v07::PackedUserOperation {
            sender: self.sender,
            nonce: self.nonce,
            initCode: self.init_code.clone(),
            callData: self.call_data.clone(),
            accountGasLimits: self.account_gas_limits,
            preVerificationGas: self.pre_verification_gas,
            gasFees: self.gas_fees,
            paymasterAndData: self.paymaster_and_data.clone(),
            signature: self.signature.clone(),
        }
    }

    fn from_sol(op: v07::PackedUserOperation) -> Self {
        Self {
            sender: op.sender,
            nonce: op.nonce,
            init_code: op.initCode,
            call_data: op.callData,
            account_gas_limits: op.accountGasLimits,
            pre_verification_gas: op.preVerificationGas,
            gas_fees: op.gasFees,
            paymaster_and_data: op.paymasterAndData,
            signature: op.signature,
        }
    }
}

/// The event that identifies an executed operation.
#[cfg(feature = "rpc")]
pub(crate) const USER_OPERATION_EVENT: B256 = v07::UserOperationEvent::SIGNATURE_HASH;

/// Encodes the calldata of `getNonce`.
#[cfg(feature = "rpc")]
pub(crate) fn get_nonce(sender: Address, key: NonceKey) -> Bytes {
    let key = alloy_primitives::Uint::from_be_bytes(key.0.0);
    v07::getNonceCall { sender, key }.abi_encode().into()
}

/// Encodes the EntryPoint's call that makes the account validate an operation without a prefund.
#[cfg(feature = "rpc")]
pub(crate) fn validate_user_op(op: &PackedUserOperation, hash: B256) -> Bytes {
    let call = v07::validateUserOpCall { userOp: op.to_sol(), userOpHash: hash, missingAccountFunds: U256::ZERO };
    call.abi_encode().into()
}

/// Encodes the EntryPoint's call that makes the account execute an operation: its callData or, if they begin with
/// `executeUserOp`, the whole operation.
#[cfg(feature = "rpc")]
pub(crate) fn execute_user_op(op: &PackedUserOperation, hash: B256) -> Bytes {
    if !op.call_data.starts_with(&v07::executeUserOpCall::SELECTOR) {
        return op.call_data.clone();
    }
    v07::executeUserOpCall { userOp: op.to_sol(), userOpHash: hash }.abi_encode().into()
}

impl UserOperationV06 {
    /// Encodes the calldata of `handleOps` for EntryPoint 0.6.
    #[must_use]
    pub fn handle_ops(ops: &[Self], beneficiary: Address) -> Bytes {
        let ops = ops
            .iter()
            .map(|op| v06::UserOperation {
                sender: op.sender,
                nonce: op.nonce,
                initCode: op.init_code.clone(),
                callData: op.call_data.clone(),
                callGasLimit: op.call_gas_limit,
                verificationGasLimit: op.verification_gas_limit,
                preVerificationGas: op.pre_verification_gas,
                maxFeePerGas: op.max_fee_per_gas,
                maxPriorityFeePerGas: op.max_priority_fee_per_gas,
                paymasterAndData: op.paymaster_and_data.clone(),
                signature: op.signature.clone(),
            })
            .collect();
        v06::handleOpsCall { ops, beneficiary }.abi_encode().into()
    }
}

/// The revert data of `handleOps`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryPointError {
    /// One operation was refused.
    FailedOp {
        /// The index of the operation in the bundle.
        index: U256,
        /// A text that begins with a code `AAmn`.
        reason: String,
    },
    /// One operation was refused because its account, factory or paymaster reverted.
    FailedOpWithRevert {
        /// The index of the operation in the bundle.
        index: U256,
        /// A text that begins with a code `AAmn`.
        reason: String,
        /// The inner revert data, at most 2,048 bytes.
        inner: Bytes,
    },
    /// An aggregator refused its own signature.
    SignatureValidationFailed(Address),
    /// The `postOp` of a paymaster reverted.
    PostOpReverted(Bytes),
    /// The result of `getSenderAddress`.
    SenderAddress(Address),
}

impl EntryPointError {
    /// Decodes revert data; returns `None` for another contract's error and for none at all.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        if let Ok(e) = v07::FailedOpWithRevert::abi_decode(data) {
            return Some(Self::FailedOpWithRevert { index: e.opIndex, reason: e.reason, inner: e.inner });
        }
        if let Ok(e) = v07::FailedOp::abi_decode(data) {
            return Some(Self::FailedOp { index: e.opIndex, reason: e.reason });
        }
        if let Ok(e) = v07::SignatureValidationFailed::abi_decode(data) {
            return Some(Self::SignatureValidationFailed(e.aggregator));
        }
        if let Ok(e) = v07::PostOpReverted::abi_decode(data) {
            return Some(Self::PostOpReverted(e.returnData));
        }
        v07::SenderAddressResult::abi_decode(data).ok().map(|e| Self::SenderAddress(e.sender))
    }

    /// Returns the code `AAmn`: m is 1 for the factory, 2 for the account, 3 for the paymaster.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::FailedOp { reason, .. } | Self::FailedOpWithRevert { reason, .. } => {
                reason.get(..4).filter(|code| code.starts_with("AA"))
            }
            _ => None,
        }
    }
}

/// An event of the EntryPoint about one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryPointEvent {
    /// `UserOperationEvent`: the operation was executed, with this outcome.
    UserOperation {
        /// The hash of the operation.
        hash: B256,
        /// The account that the operation belongs to.
        sender: Address,
        /// The paymaster; zero means that the account paid.
        paymaster: Address,
        /// The nonce of the operation.
        nonce: U256,
        /// Whether the account's call did not revert. In try mode this does not cover the inner calls.
        success: bool,
        /// The price paid, in wei.
        actual_gas_cost: U256,
        /// The gas used.
        actual_gas_used: U256,
    },
    /// `UserOperationRevertReason`: the call reverted with data.
    RevertReason {
        /// The hash of the operation.
        hash: B256,
        /// The account that the operation belongs to.
        sender: Address,
        /// The nonce of the operation.
        nonce: U256,
        /// The revert data.
        reason: Bytes,
    },
    /// `PostOpRevertReason`: the paymaster's `postOp` reverted with data.
    PostOpRevertReason {
        /// The hash of the operation.
        hash: B256,
        /// The account that the operation belongs to.
        sender: Address,
        /// The nonce of the operation.
        nonce: U256,
        /// The revert data.
        reason: Bytes,
    },
    /// `UserOperationPrefundTooLow`: the operation used more gas than was paid for, and was reverted.
    PrefundTooLow {
        /// The hash of the operation.
        hash: B256,
        /// The account that the operation belongs to.
        sender: Address,
        /// The nonce of the operation.
        nonce: U256,
    },
    /// `AccountDeployed`: the factory created the account.
    AccountDeployed {
        /// The hash of the operation.
        hash: B256,
        /// The account that was created.
        sender: Address,
        /// The factory that created the account.
        factory: Address,
        /// The paymaster; zero means that the account paid.
        paymaster: Address,
    },
    /// `IgnoredInitCode`: EntryPoint 0.9 found that the account exists already.
    IgnoredInitCode {
        /// The hash of the operation.
        hash: B256,
        /// The account that exists.
        sender: Address,
    },
    /// `EIP7702AccountInitialized`: a delegated account was initialized.
    Eip7702Initialized {
        /// The hash of the operation.
        hash: B256,
        /// The account that was initialized.
        sender: Address,
        /// The contract to which the account delegates.
        delegate: Address,
    },
    /// `BeforeExecution`: all earlier logs belong to validation.
    BeforeExecution,
}

impl EntryPointEvent {
    /// Decodes one log. The caller must have checked that the EntryPoint emitted it.
    #[must_use]
    pub fn decode(topics: &[B256], data: &[u8]) -> Option<Self> {
        let topic = *topics.first()?;
        let topics = topics.iter().copied();
        Some(match topic {
            v07::UserOperationEvent::SIGNATURE_HASH => {
                let e = v07::UserOperationEvent::decode_raw_log(topics, data).ok()?;
                Self::UserOperation {
                    hash: e.userOpHash,
                    sender: e.sender,
                    paymaster: e.paymaster,
                    nonce: e.nonce,
                    success: e.success,
                    actual_gas_cost: e.actualGasCost,
                    actual_gas_used: e.actualGasUsed,
                }
            }
            v07::UserOperationRevertReason::SIGNATURE_HASH => {
                let e = v07::UserOperationRevertReason::decode_raw_log(topics, data).ok()?;
                Self::RevertReason { hash: e.userOpHash, sender: e.sender, nonce: e.nonce, reason: e.revertReason }
            }
            v07::PostOpRevertReason::SIGNATURE_HASH => {
                let e = v07::PostOpRevertReason::decode_raw_log(topics, data).ok()?;
                Self::PostOpRevertReason {
                    hash: e.userOpHash,
                    sender: e.sender,
                    nonce: e.nonce,
                    reason: e.revertReason,
                }
            }
            v07::UserOperationPrefundTooLow::SIGNATURE_HASH => {
                let e = v07::UserOperationPrefundTooLow::decode_raw_log(topics, data).ok()?;
                Self::PrefundTooLow { hash: e.userOpHash, sender: e.sender, nonce: e.nonce }
            }
            v07::AccountDeployed::SIGNATURE_HASH => {
                let e = v07::AccountDeployed::decode_raw_log(topics, data).ok()?;
                Self::AccountDeployed {
                    hash: e.userOpHash,
                    sender: e.sender,
                    factory: e.factory,
                    paymaster: e.paymaster,
                }
            }
            v07::IgnoredInitCode::SIGNATURE_HASH => {
                let e = v07::IgnoredInitCode::decode_raw_log(topics, data).ok()?;
                Self::IgnoredInitCode { hash: e.userOpHash, sender: e.sender }
            }
            v07::EIP7702AccountInitialized::SIGNATURE_HASH => {
                let e = v07::EIP7702AccountInitialized::decode_raw_log(topics, data).ok()?;
                Self::Eip7702Initialized { hash: e.userOpHash, sender: e.sender, delegate: e.delegate }
            }
            v07::BeforeExecution::SIGNATURE_HASH => Self::BeforeExecution,
            _ => return None,
        })
    }
}

/// Returns the name of an error of accounts, policies and EntryPoints, by the selector with which `inner` and `reason`
/// begin.
#[must_use]
pub fn error_name(selector: FixedBytes<4>) -> Option<&'static str> {
    ERRORS.iter().find(|(known, _)| *known == selector.0).map(|(_, name)| *name)
}

macro_rules! errors {
    ($($selector:literal $name:literal)*) => {
        /// The selectors as observed on chain; a test compares them with the hash of the name.
        const ERRORS: &[([u8; 4], &str)] = &[$((u32::to_be_bytes($selector), $name)),*];
    };
}

errors! {
    0x220266b6 "FailedOp(uint256,string)"
    0x65c8fd4d "FailedOpWithRevert(uint256,string,bytes)"
    0x86a9f750 "SignatureValidationFailed(address)"
    0xad7954bc "PostOpReverted(bytes)"
    0x99410554 "DelegateAndRevert(bool,bytes)"
    0x6ca7b806 "SenderAddressResult(address)"
    0x8baa579f "InvalidSignature()"
    0xb32eeb69 "SignerPrefixNotPresent()"
    0x0ec17b9e "PolicySignatureOrderError()"
    0x1c49f4d1 "InvalidCallData()"
    0x39d2eb55 "InvalidCallType()"
    0x59d52e40 "CallViolatesParamRule()"
    0x7b5812d4 "CallViolatesValueRule()"
    0x756688fe "InvalidNonce()"
    0xc48cf8ee "EnableNotApproved()"
    0x3e4983f6 "PolicyFailed(uint256)"
    0x5b710579 "PermissionNotAlllowedForSignature()"
    0x14b9743f "PermissionNotAlllowedForUserOp()"
    0x682a6e7c "InvalidValidator()"
    0xa0042b17 "InvalidMode()"
    0xc389d236 "InvalidValidationType()"
    0xdbbb044b "OnlyExecuteUserOp()"
    0xf21e646b "ExecutionReverted()"
    0x48f5c3ed "InvalidCaller()"
    0xc88357cc "NotApprovedFactory()"
    0x90fcc612 "InitializeError()"
    0x3ca8ef0c "InvalidEnableSignature(address,bytes32)"
    0xa7eae112 "InvalidISessionValidator(address)"
    0x6a01dd01 "UnsupportedPolicy(address)"
    0x3b577361 "PolicyViolation(bytes32,address)"
    0x526d0da5 "InvalidPermissionId(bytes32)"
    0xcf92faf8 "InvalidSessionKeySignature(bytes32,address,address,bytes32)"
    0x1c792c05 "NoPoliciesSet(bytes32)"
    0xd5dc9fa4 "PaymasterValidationNotEnabled(bytes32)"
    0x0b08d5be "HashMismatch(bytes32,bytes32)"
    0xe75e2379 "ChainIdMismatch(uint64)"
    0x6c4872f9 "UnsupportedExecutionType()"
    0x6859e01e "ValidatorNotInstalled(address)"
    0xab143c06 "Reentrancy()"
    0xe5819b95 "Eip7702SenderWithoutCode(address)"
    0x9f4e4cc9 "Eip7702SenderNotDelegate(address)"
    0x07b9a191 "InvalidPaymasterSignatureLength(uint256,uint256)"
    0x08c379a0 "Error(string)"
    0x4e487b71 "Panic(uint256)"
}
