//! Machine-readable codes on the wire: x402 v2 §9, and the TypeScript SDK's strings where §9 is silent.

use core::fmt;
use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The code of `invalidReason` and `errorReason`. The set is open: codes of peers that this crate does not know
/// survive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorReason(Cow<'static, str>);

macro_rules! reasons {
    ($( $name:ident = $code:literal, $origin:ident, $status:literal, $text:literal; )*) => {
        impl ErrorReason {
            $( #[doc = concat!($text, ".")] pub const $name: Self = Self(Cow::Borrowed($code)); )*

            /// Every code that this workspace emits, with its origin, the HTTP status of a resource server's answer,
            /// and its text.
            pub const TABLE: &'static [Reason] = &[
                $( Reason { code: $code, origin: Origin::$origin, status: $status, text: $text }, )*
            ];

            fn known(code: &str) -> Option<Self> {
                match code { $( $code => Some(Self::$name), )* _ => None }
            }
        }
    };
}

/// The document or implementation that defines a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// x402 v2 §9.
    Spec,
    /// The TypeScript SDK 2.27.
    TypeScript,
    /// This project itself.
    Ours,
}

/// A row of [`ErrorReason::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// The code as it is written on the wire.
    pub code: &'static str,
    /// The origin of the code.
    pub origin: Origin,
    /// The HTTP status of a resource server's answer.
    pub status: u16,
    /// The description of the fault, for people.
    pub text: &'static str,
}

reasons! {
    INSUFFICIENT_FUNDS = "insufficient_funds", Spec, 402, "the payer's balance does not cover the amount";
    INVALID_VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after", Spec, 402, "the authorization is not valid yet";
    INVALID_VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before", Spec, 402, "the authorization has expired, is about to, or lasts longer than was asked";
    INVALID_VALUE = "invalid_exact_evm_payload_authorization_value_mismatch", Spec, 402, "the authorized value is not the amount asked";
    INVALID_SIGNATURE = "invalid_exact_evm_payload_signature", Spec, 402, "the signature is not the payer's";
    RECIPIENT_MISMATCH = "invalid_exact_evm_payload_recipient_mismatch", Spec, 402, "the authorization pays somebody else";
    INVALID_NETWORK = "invalid_network", Spec, 402, "the network is not served here or is not the one asked";
    INVALID_PAYLOAD = "invalid_payload", Spec, 402, "the payment cannot be read";
    INVALID_PAYMENT_REQUIREMENTS = "invalid_payment_requirements", Spec, 402, "the requirements are not ones that were offered or are served here";
    INVALID_SCHEME = "invalid_scheme", Spec, 402, "the scheme is not the one asked";
    UNSUPPORTED_SCHEME = "unsupported_scheme", Spec, 402, "the scheme is not served here";
    INVALID_X402_VERSION = "invalid_x402_version", Spec, 402, "the protocol version is not served here or not the payload's";
    INVALID_TRANSACTION_STATE = "invalid_transaction_state", Spec, 402, "the transaction can no longer do what was asked";
    UNEXPECTED_VERIFY_ERROR = "unexpected_verify_error", Spec, 503, "verification met a fault of ours";
    UNEXPECTED_SETTLE_ERROR = "unexpected_settle_error", Spec, 503, "settlement met a fault of ours";
    SETTLEMENT_PENDING = "settlement_pending", Spec, 503, "the payment is accepted and its outcome is not known yet";
    NONCE_ALREADY_USED = "invalid_exact_evm_nonce_already_used", TypeScript, 402, "the authorization was used or cancelled before";
    TOKEN_NAME_MISMATCH = "invalid_exact_evm_token_name_mismatch", TypeScript, 402, "extra.name is not the token's EIP-712 name";
    TOKEN_VERSION_MISMATCH = "invalid_exact_evm_token_version_mismatch", TypeScript, 402, "extra.version is not the token's EIP-712 version";
    MISSING_EIP712_DOMAIN = "invalid_exact_evm_missing_eip712_domain", TypeScript, 402, "extra.name or extra.version is missing";
    TRANSACTION_SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed", TypeScript, 402, "the transfer would revert";
    UNDEPLOYED_SMART_WALLET = "invalid_exact_evm_payload_undeployed_smart_wallet", TypeScript, 402, "the payer is a smart wallet that is not deployed";
    FACTORY_NOT_ALLOWED = "eip6492_factory_not_allowed", TypeScript, 402, "the factory of the payer's smart wallet is not called here";
    SMART_WALLET_DEPLOYMENT_FAILED = "smart_wallet_deployment_failed", TypeScript, 402, "the factory does not deploy the payer's smart wallet";
    ASSET_NOT_DEPLOYED = "asset_not_deployed_contract", TypeScript, 402, "there is no contract at the asset's address";
    EXTENSION_ECHO_MISMATCH = "extension_echo_mismatch", TypeScript, 402, "the payment changes or omits what the server declared for an extension";
    DUPLICATE_SETTLEMENT = "duplicate_settlement", TypeScript, 409, "this payment is being settled or was settled for another request";
    UNSUPPORTED_PAYLOAD_TYPE = "unsupported_payload_type", TypeScript, 402, "the payload is of a kind that is not served here";
    EIP3009_NOT_SUPPORTED = "invalid_exact_evm_eip3009_not_supported", TypeScript, 402, "the asset has no transfers by EIP-3009";
    INVALID_PERMIT2_SPENDER = "invalid_permit2_spender", TypeScript, 402, "the permit's spender is not the scheme's proxy";
    INVALID_PERMIT2_RECIPIENT = "invalid_permit2_recipient_mismatch", TypeScript, 402, "the permit's witness pays somebody else";
    INVALID_PERMIT2_SIGNATURE = "invalid_permit2_signature", TypeScript, 402, "the signature of the permit is not the payer's";
    PERMIT2_DEADLINE_EXPIRED = "permit2_deadline_expired", TypeScript, 402, "the permit has expired, is about to, or lasts longer than was asked";
    PERMIT2_NOT_YET_VALID = "permit2_not_yet_valid", TypeScript, 402, "the permit is not valid yet";
    PERMIT2_AMOUNT_MISMATCH = "permit2_amount_mismatch", TypeScript, 402, "the permitted amount is not the amount asked";
    PERMIT2_TOKEN_MISMATCH = "permit2_token_mismatch", TypeScript, 402, "the permit is for another token than the asset";
    PERMIT2_ALLOWANCE_REQUIRED = "permit2_allowance_required", TypeScript, 412, "the payer has not approved Permit2 for the amount";
    PERMIT2_SIMULATION_FAILED = "permit2_simulation_failed", TypeScript, 402, "the settlement would revert, or would not pay the whole amount";
    PERMIT2_PROXY_NOT_DEPLOYED = "permit2_proxy_not_deployed", TypeScript, 402, "Permit2 or the scheme's proxy is not on the network";
    PERMIT2_INVALID_AMOUNT = "permit2_invalid_amount", TypeScript, 402, "the permitted amount is zero";
    PERMIT2_INVALID_DESTINATION = "permit2_invalid_destination", TypeScript, 402, "the permit's witness pays the zero address";
    PERMIT2_INVALID_OWNER = "permit2_invalid_owner", TypeScript, 402, "the permit's owner is the zero address";
    PERMIT2_PAYMENT_TOO_EARLY = "permit2_payment_too_early", TypeScript, 402, "the proxy takes the permit only later";
    PERMIT2_INVALID_NONCE = "permit2_invalid_nonce", TypeScript, 402, "the permit's nonce was used or invalidated before";
    PERMIT2_2612_AMOUNT_MISMATCH = "permit2_2612_amount_mismatch", TypeScript, 402, "the EIP-2612 permit is not for the permitted amount";
    INVALID_EIP2612_EXTENSION_FORMAT = "invalid_eip2612_extension_format", TypeScript, 402, "the EIP-2612 permit beside the payment cannot be read";
    EIP2612_FROM_MISMATCH = "eip2612_from_mismatch", TypeScript, 402, "the EIP-2612 permit is of another account";
    EIP2612_ASSET_MISMATCH = "eip2612_asset_mismatch", TypeScript, 402, "the EIP-2612 permit is for another token";
    EIP2612_SPENDER_NOT_PERMIT2 = "eip2612_spender_not_permit2", TypeScript, 402, "the EIP-2612 permit is for another spender than Permit2";
    EIP2612_DEADLINE_EXPIRED = "eip2612_deadline_expired", TypeScript, 402, "the EIP-2612 permit has expired, or is about to";
    INVALID_ERC20_APPROVAL_EXTENSION_FORMAT = "invalid_erc20_approval_extension_format", TypeScript, 402, "the signed approval beside the payment cannot be read";
    ERC20_APPROVAL_FROM_MISMATCH = "erc20_approval_from_mismatch", TypeScript, 402, "the signed approval is of another account";
    ERC20_APPROVAL_ASSET_MISMATCH = "erc20_approval_asset_mismatch", TypeScript, 402, "the signed approval is for another token";
    ERC20_APPROVAL_SPENDER_NOT_PERMIT2 = "erc20_approval_spender_not_permit2", TypeScript, 402, "the signed approval is for another spender than Permit2";
    ERC20_APPROVAL_TX_PARSE_FAILED = "erc20_approval_tx_parse_failed", TypeScript, 402, "the approval is no signed transaction of type 2";
    ERC20_APPROVAL_TX_WRONG_TARGET = "erc20_approval_tx_wrong_target", TypeScript, 402, "the approval's transaction calls another account than the asset";
    ERC20_APPROVAL_TX_WRONG_SELECTOR = "erc20_approval_tx_wrong_selector", TypeScript, 402, "the approval's transaction calls another function";
    ERC20_APPROVAL_TX_WRONG_SPENDER = "erc20_approval_tx_wrong_spender", TypeScript, 402, "the approval's transaction approves another spender than Permit2";
    ERC20_APPROVAL_TX_INVALID_CALLDATA = "erc20_approval_tx_invalid_calldata", TypeScript, 402, "the approval's transaction has other arguments, approves too little, or moves ether";
    ERC20_APPROVAL_TX_SIGNER_MISMATCH = "erc20_approval_tx_signer_mismatch", TypeScript, 402, "the approval's transaction is signed by another account";
    ERC20_APPROVAL_TX_INVALID_SIGNATURE = "erc20_approval_tx_invalid_signature", TypeScript, 402, "the approval's transaction has no valid signature";
    ERC20_APPROVAL_TX_FAILED = "erc20_approval_tx_failed", TypeScript, 402, "the approval's transaction would revert, or did";
    ERC20_APPROVAL_WRONG_CHAIN = "erc20_approval_wrong_chain", Ours, 402, "the approval's transaction is for another chain";
    ERC20_APPROVAL_WRONG_NONCE = "erc20_approval_wrong_nonce", Ours, 402, "the approval's transaction is not the payer's next one";
    ERC20_APPROVAL_UNDERPRICED = "erc20_approval_underpriced", Ours, 402, "the approval's transaction has too little gas or too low a fee";
    ERC20_APPROVAL_UNFUNDED = "erc20_approval_unfunded", Ours, 402, "the payer cannot pay for the approval's transaction";
    UPTO_AMOUNT_EXCEEDS_PERMITTED = "upto_amount_exceeds_permitted", TypeScript, 402, "the proxy refuses to settle more than is permitted";
    UPTO_UNAUTHORIZED_FACILITATOR = "upto_unauthorized_facilitator", TypeScript, 402, "the proxy accepts the permit from another account only";
    UPTO_FACILITATOR_MISMATCH = "upto_facilitator_mismatch", TypeScript, 402, "the permit's witness names no account of this facilitator";
    UPTO_EXCEEDS_AMOUNT = "invalid_upto_evm_payload_settlement_exceeds_amount", TypeScript, 402, "more is to be settled than was authorized";
    PAYER_HAS_CODE = "invalid_exact_evm_payer_has_code", Ours, 402, "the payer is a smart wallet or a delegated account, which is not served here";
    AUTHORIZATION_CANCELED = "invalid_exact_evm_authorization_canceled", Ours, 402, "the payer cancelled the authorization";
    PAYER_REVERTS = "payer_reverts", Ours, 402, "transactions for this payer reverted although they passed in simulation, and it is refused for an hour";
    GAS_ABOVE_LIMIT = "gas_above_limit", Ours, 402, "a transaction for this payment needs more gas than this facilitator spends on one";
    BUDGET_EXCEEDED = "budget_exceeded", Ours, 402, "a budget of this facilitator has no room for the payment today";
    SELLER_MISCONFIGURED = "seller_misconfigured", Ours, 500, "the seller's facilitator refuses the seller's requests, so that repeating this one does not help";
    LEDGER_QUARANTINED = "ledger_quarantined", Ours, 503, "the facilitator's ledger was restored from an older copy, and payments without a nonce on a chain wait for its operator";
    PAYER_BLOCKED = "payer_blocked", Ours, 402, "the token refuses transfers of this payer or recipient";
}

/// Other spellings by peers for faults that have a code here: our code, the peer, its code (`facts/x402-protocol.md`
/// 5.2).
pub const ALIASES: &[(ErrorReason, &str, &str)] = &[
    (ErrorReason::INVALID_VALUE, "x402 v1", "invalid_exact_evm_payload_authorization_value"),
    (ErrorReason::INVALID_VALUE, "TypeScript and Python in v1", "invalid_exact_evm_authorization_value"),
    (ErrorReason::INVALID_SIGNATURE, "TypeScript, Go", "invalid_exact_evm_signature"),
    (ErrorReason::RECIPIENT_MISMATCH, "TypeScript, Go", "invalid_exact_evm_recipient_mismatch"),
    (ErrorReason::INVALID_SCHEME, "TypeScript, Go", "invalid_exact_evm_scheme"),
    (ErrorReason::INVALID_SCHEME, "Python", "unsupported_payload_type"),
    (ErrorReason::INVALID_NETWORK, "TypeScript, Go", "invalid_exact_evm_network_mismatch"),
    (ErrorReason::INVALID_NETWORK, "Python", "network_mismatch"),
    (ErrorReason::MISSING_EIP712_DOMAIN, "Python", "missing_eip712_domain"),
    (ErrorReason::INSUFFICIENT_FUNDS, "TypeScript, Go, Python", "invalid_exact_evm_insufficient_balance"),
    (ErrorReason::INSUFFICIENT_FUNDS, "TypeScript, Go, Python", "permit2_insufficient_balance"),
    (ErrorReason::INVALID_SCHEME, "TypeScript, Python", "invalid_upto_evm_scheme"),
    (ErrorReason::INVALID_NETWORK, "TypeScript, Python", "invalid_upto_evm_network_mismatch"),
    (ErrorReason::INVALID_TRANSACTION_STATE, "TypeScript, Python", "invalid_upto_evm_transaction_failed"),
    (ErrorReason::INVALID_TRANSACTION_STATE, "TypeScript, Go", "invalid_exact_evm_transaction_failed"),
    (ErrorReason::INVALID_TRANSACTION_STATE, "Python", "transaction_failed"),
];

impl ErrorReason {
    /// Returns the code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Creates a code received from a peer, unchanged.
    #[must_use]
    pub fn from_wire(code: &str) -> Self {
        Self::known(code).unwrap_or_else(|| Self(Cow::Owned(code.to_owned())))
    }

    /// Translates a peer's spelling of one of this workspace's codes ([`ALIASES`]). Answers of facilitators are parsed
    /// with it, so that no decision depends on which implementation answered.
    #[must_use]
    pub fn of_peer(code: Self) -> Self {
        if code.row().is_some() {
            return code;
        }
        let ours = ALIASES.iter().find(|(_, _, theirs)| *theirs == code.as_str()).map(|(ours, ..)| ours.clone());
        ours.unwrap_or(code)
    }

    /// Returns whether this refusal proves that a settlement failed which was begun earlier, for the same request, and
    /// never answered. With every other refusal the outcome stays unknown: the first attempt may have moved the money,
    /// and may itself be the cause of the refusal.
    ///
    /// `keeps_requests`: the facilitator stores the requests that it began and answers a named request with its
    /// outcome, as this project's does. Its refusals are final except for those that another attempt of this client
    /// may have caused.
    #[must_use]
    pub fn is_final_for_begun(&self, keeps_requests: bool) -> bool {
        // The authorization itself could never pay these terms, or the chain shows that it never will.
        let never_made = [Self::INVALID_VALUE, Self::RECIPIENT_MISMATCH, Self::AUTHORIZATION_CANCELED];
        let perhaps_made = [
            Self::DUPLICATE_SETTLEMENT,
            Self::NONCE_ALREADY_USED,
            Self::INSUFFICIENT_FUNDS,
            Self::TRANSACTION_SIMULATION_FAILED,
            crate::nvm::Code::InvalidPayload.reason(),
            crate::nvm::Code::InsufficientBalance.reason(),
            crate::nvm::Code::InvalidUserOperation.reason(),
        ];
        never_made.contains(self) || (keeps_requests && !self.is_undecided() && !perhaps_made.contains(self))
    }

    /// Returns whether this refusal of a payment that was shown for the first time proves that it moved nothing: it is a code of
    /// this workspace, or a peer's spelling of one, and no effect of a settlement.
    ///
    /// A code for a used payment proves nothing, since a proxy may have repeated the request; nor does one for a failed
    /// transaction, since another one of the same payment may have succeeded. Faults, and codes and texts that this crate does
    /// not know, prove nothing either.
    #[must_use]
    pub fn proves_unpaid(&self) -> bool {
        let perhaps_paid = [
            Self::NONCE_ALREADY_USED,
            Self::PERMIT2_INVALID_NONCE,
            Self::DUPLICATE_SETTLEMENT,
            Self::INVALID_TRANSACTION_STATE,
            crate::nvm::Code::SettlementFailed.reason(),
        ];
        let code = Self::of_peer(self.clone());
        let status = code.row().map(|row| row.status).or_else(|| Some(crate::nvm::Code::of(&code)?.row()?.status));
        status.is_some_and(|status| status < 500) && !perhaps_paid.contains(&code)
    }

    /// Returns whether a failed settlement with this reason may have moved the money nevertheless: the reason is a code for
    /// a fault, or the text of one. Facilitators and servers write such a text where a code belongs if their node or
    /// facilitator did not answer; no code contains white space.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.row().is_some_and(|row| row.status >= 500) || self.as_str().contains(char::is_whitespace)
    }

    /// Creates a code that another crate defines for its scheme.
    #[must_use]
    pub const fn defined(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }

    /// Returns the row of the table, if the code is one of this workspace.
    #[must_use]
    pub fn row(&self) -> Option<&'static Reason> {
        Self::TABLE.iter().find(|row| row.code == self.as_str())
    }
}

impl fmt::Display for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for ErrorReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ErrorReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|code| Self::from_wire(&code))
    }
}
