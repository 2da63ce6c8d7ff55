//! §6.3 Receipt Format, and the verdict in the form that x402 servers read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nvm::ErrorBody;
use crate::v2::{SettleResponse, VerifyResponse};
use crate::wire::wire;
use crate::{AtomicAmount, ErrorReason, Members, NetworkName, RawJson};

wire! {
    /// The response of `/verify`.
    pub struct VerdictResponse {
        /// Whether the payment is valid.
        is_valid: bool => "isValid" required;
        /// The reason why the payment is invalid.
        invalid_reason: Option<ErrorReason> => "invalidReason" optional;
        /// The explanation of `invalid_reason`, for people.
        invalid_message: Option<String> => "invalidMessage" optional;
        /// The account that pays.
        payer: Option<String> => "payer" optional;
        /// The network of the payment.
        network: Option<NetworkName> => "network" optional;
        /// The identifier of this request at `/settle`.
        agent_request_id: Option<String> => "agentRequestId" optional;
        /// §7.2: the refusal again, in the extension's own form.
        error: Option<ErrorBody> => "error" optional;
    }
}

wire! {
    /// The receipt as JSON has it.
    struct Wire {
        success: bool => "success" required;
        transaction_hash: Option<String> => "transactionHash" optional;
        transaction: Option<String> => "transaction" optional;
        network: NetworkName => "network" or NetworkName::default();
        payer: Option<String> => "payer" optional;
        credits_redeemed: Option<AtomicAmount> => "creditsRedeemed" optional;
        remaining_balance: Option<AtomicAmount> => "remainingBalance" optional;
        order_tx: Option<String> => "orderTx" optional;
        error_reason: Option<ErrorReason> => "errorReason" optional;
        error_message: Option<String> => "errorMessage" optional;
        error: Option<ErrorBody> => "error" optional;
        replayed: Option<bool> => "replayed" optional;
    }
}

/// §6.3: the result of a settlement.
///
/// The document calls the transaction `transactionHash`, x402 calls it `transaction`. Both are written, with the same
/// value; one of them is enough to parse a receipt, and two that differ are refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// "Whether settlement succeeded."
    pub success: bool,
    /// "Transaction hash of the redeem operation"; `""` in a failure.
    pub transaction: String,
    /// "Network where transactions were executed (CAIP-2 format)."
    pub network: NetworkName,
    /// The account that pays.
    pub payer: Option<String>,
    /// "Number of credits redeemed."
    pub credits_redeemed: Option<AtomicAmount>,
    /// "Subscriber's remaining balance", in credits.
    pub remaining_balance: Option<AtomicAmount>,
    /// "Transaction hash of the order operation (if executed)." It is kept in a failure.
    pub order_tx: Option<String>,
    /// The reason of the failure. `settlement_pending` means that the result is not known yet.
    pub error_reason: Option<ErrorReason>,
    /// The explanation of `error_reason`, for people.
    pub error_message: Option<String>,
    /// §7.2: the failure again, in the extension's own form.
    pub error: Option<ErrorBody>,
    /// Whether this answer repeats an earlier one.
    pub replayed: bool,
    /// Unknown members, as they were received.
    pub rest: Members,
}

impl Receipt {
    /// Creates a receipt of a network, with every optional member absent.
    #[must_use]
    pub fn new(success: bool, transaction: impl Into<String>, network: impl Into<NetworkName>) -> Self {
        Self {
            success,
            transaction: transaction.into(),
            network: network.into(),
            payer: None,
            credits_redeemed: None,
            remaining_balance: None,
            order_tx: None,
            error_reason: None,
            error_message: None,
            error: None,
            replayed: false,
            rest: Members::new(),
        }
    }
}

impl From<Receipt> for Wire {
    fn from(receipt: Receipt) -> Self {
        Self {
            success: receipt.success,
            transaction_hash: Some(receipt.transaction.clone()),
            transaction: Some(receipt.transaction),
            network: receipt.network,
            payer: receipt.payer,
            credits_redeemed: receipt.credits_redeemed,
            remaining_balance: receipt.remaining_balance,
            order_tx: receipt.order_tx,
            error_reason: receipt.error_reason,
            error_message: receipt.error_message,
            error: receipt.error,
            replayed: receipt.replayed.then_some(true),
            rest: receipt.rest,
        }
    }
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let transaction = match (wire.transaction_hash, wire.transaction) {
            (Some(a), Some(b)) if !a.eq_ignore_ascii_case(&b) => {
                return Err(serde::de::Error::custom("`transactionHash` and `transaction` differ"));
            }
            (_, Some(text)) | (Some(text), None) => text,
            (None, None) => String::new(),
        };
        Ok(Self {
            success: wire.success,
            transaction,
            network: wire.network,
            payer: wire.payer,
            credits_redeemed: wire.credits_redeemed,
            remaining_balance: wire.remaining_balance,
            order_tx: wire.order_tx,
            error_reason: wire.error_reason,
            error_message: wire.error_message,
            error: wire.error,
            replayed: wire.replayed.unwrap_or_default(),
            rest: wire.rest,
        })
    }
}

/// Puts the members of this extension beside those of x402, so that readers of either form find their own.
impl From<Receipt> for SettleResponse {
    fn from(receipt: Receipt) -> Self {
        let mut rest = Members::new();
        rest.insert_text("transactionHash", &receipt.transaction);
        rest.keep("creditsRedeemed", receipt.credits_redeemed);
        rest.keep("remainingBalance", receipt.remaining_balance);
        rest.keep("orderTx", receipt.order_tx);
        rest.keep("error", receipt.error);
        rest.keep("replayed", receipt.replayed.then_some(true));
        for (key, value) in receipt.rest.iter() {
            rest.insert(key, value.clone());
        }
        Self {
            success: receipt.success,
            error_reason: receipt.error_reason,
            error_message: receipt.error_message,
            payer: receipt.payer,
            transaction: receipt.transaction,
            rest,
            ..Self::without_outcome(receipt.network)
        }
    }
}

impl Receipt {
    /// Reads the receipt from a response in x402's form.
    ///
    /// # Errors
    /// A member of the extension is malformed, or the two transactions differ.
    pub fn from_response(response: &SettleResponse) -> Result<Self, serde_json::Error> {
        RawJson::of(response)?.read()
    }
}

impl VerdictResponse {
    /// Reads the verdict from a response in x402's form.
    ///
    /// # Errors
    /// A member of the extension is malformed.
    pub fn from_response(response: &VerifyResponse) -> Result<Self, serde_json::Error> {
        RawJson::of(response)?.read()
    }
}
