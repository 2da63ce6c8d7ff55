//! The codes of version 1: a closed list, of which published clients and servers refuse every other word. The list of `x402`
//! 1.2.0 is that of [x402 v1 §8](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v1.md) and more.

use crate::{ErrorReason, Version};

/// The codes that version 1 has under another name, or shares with others.
const RENAMED: &[(ErrorReason, &str)] = &[
    (ErrorReason::INVALID_VALUE, "invalid_exact_evm_payload_authorization_value"),
    (ErrorReason::FACTORY_NOT_ALLOWED, "invalid_exact_evm_payload_undeployed_smart_wallet"),
    (ErrorReason::SMART_WALLET_DEPLOYMENT_FAILED, "invalid_exact_evm_payload_undeployed_smart_wallet"),
    (ErrorReason::NONCE_ALREADY_USED, "invalid_transaction_state"),
    (ErrorReason::AUTHORIZATION_CANCELED, "invalid_payment"),
    (ErrorReason::TRANSACTION_SIMULATION_FAILED, "invalid_transaction_state"),
    (ErrorReason::TOKEN_NAME_MISMATCH, "invalid_payment_requirements"),
    (ErrorReason::TOKEN_VERSION_MISMATCH, "invalid_payment_requirements"),
    (ErrorReason::MISSING_EIP712_DOMAIN, "invalid_payment_requirements"),
    (ErrorReason::ASSET_NOT_DEPLOYED, "invalid_payment_requirements"),
    (ErrorReason::EIP3009_NOT_SUPPORTED, "invalid_payment_requirements"),
    (ErrorReason::EXTENSION_ECHO_MISMATCH, "invalid_payload"),
    (ErrorReason::UNSUPPORTED_PAYLOAD_TYPE, "invalid_payload"),
    (ErrorReason::SETTLEMENT_PENDING, "unexpected_settle_error"),
    (ErrorReason::SELLER_MISCONFIGURED, "unexpected_verify_error"),
];

/// The codes that are the same in version 1.
const SAME: &[ErrorReason] = &[
    ErrorReason::INSUFFICIENT_FUNDS,
    ErrorReason::INVALID_VALID_AFTER,
    ErrorReason::INVALID_VALID_BEFORE,
    ErrorReason::INVALID_SIGNATURE,
    ErrorReason::UNDEPLOYED_SMART_WALLET,
    ErrorReason::RECIPIENT_MISMATCH,
    ErrorReason::INVALID_NETWORK,
    ErrorReason::INVALID_PAYLOAD,
    ErrorReason::INVALID_PAYMENT_REQUIREMENTS,
    ErrorReason::INVALID_SCHEME,
    ErrorReason::UNSUPPORTED_SCHEME,
    ErrorReason::INVALID_X402_VERSION,
    ErrorReason::INVALID_TRANSACTION_STATE,
    ErrorReason::UNEXPECTED_VERIFY_ERROR,
    ErrorReason::UNEXPECTED_SETTLE_ERROR,
    ErrorReason::DUPLICATE_SETTLEMENT,
];

/// The code for what version 1 has no word for.
const OTHER: &str = "invalid_payment";

impl ErrorReason {
    /// Returns the code as this version writes it. Version 1 has a closed list, in which several faults share a code; one for
    /// which it has none is `invalid_payment`, or `unexpected_settle_error` where the outcome is not decided.
    #[must_use]
    pub fn in_version(self, version: Version) -> Self {
        if version != Version::V1 || SAME.contains(&self) {
            return self;
        }
        let ours = Self::of_peer(self);
        let renamed = RENAMED.iter().find(|(code, _)| *code == ours).map(|(_, code)| Self::defined(code));
        let renamed = renamed.or_else(|| SAME.contains(&ours).then(|| ours.clone()));
        let other = || if ours.is_undecided() { Self::UNEXPECTED_SETTLE_ERROR } else { Self::defined(OTHER) };
        renamed.unwrap_or_else(other)
    }

    /// Returns whether the code can also mean, in this version, that the authorization was used. Such a code proves no failure
    /// of a settlement that was begun earlier, because that settlement may itself have used the authorization.
    #[must_use]
    pub fn is_shared_in(&self, version: Version) -> bool {
        version == Version::V1 && *self == Self::INVALID_TRANSACTION_STATE
    }
}
