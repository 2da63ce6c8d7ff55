//! §6.3 Receipt Format, and the verdict that x402 servers read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nvm::ErrorBody;
use crate::v2::{SettleResponse, VerifyResponse};
use crate::wire::wire;
use crate::{AtomicAmount, ErrorReason, Members, NetworkName, RawJson};

wire! {
    /// What `/verify` answers.
    pub struct Verdict {
        /// Whether the payment is good.
        is_valid: bool => "isValid" required;
        /// Why not.
        invalid_reason: Option<ErrorReason> => "invalidReason" optional;
        /// Why not, for people.
        invalid_message: Option<String> => "invalidMessage" optional;
        /// The account that pays.
        payer: Option<String> => "payer" optional;
        /// The network.
        network: Option<NetworkName> => "network" optional;
        /// Names this request at `/settle`.
        agent_request_id: Option<String> => "agentRequestId" optional;
        /// §7.2: the refusal once more, in the extension's own form.
        error: Option<ErrorBody> => "error" optional;
    }
}

wire! {
    /// The receipt as it stands in JSON.
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

/// §6.3: what settlement came to.
///
/// The document calls the transaction `transactionHash`, x402 calls it `transaction`: both are written, equal; one of
/// them is enough to read, and two that differ are refused.
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
    /// "Transaction hash of the order operation (if executed)." A failure keeps it.
    pub order_tx: Option<String>,
    /// Why not. `settlement_pending`: not known yet.
    pub error_reason: Option<ErrorReason>,
    /// Why not, for people.
    pub error_message: Option<String>,
    /// §7.2: the failure once more, in the extension's own form.
    pub error: Option<ErrorBody>,
    /// Whether this answer was given before.
    pub replayed: bool,
    /// Members that this crate does not know, as they came.
    pub rest: Members,
}

impl Receipt {
    /// A receipt of a network, of which nothing else is known.
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

/// The members of this extension stand beside those of x402, so that either reader finds its own.
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
    /// The receipt in an answer of x402's form.
    ///
    /// # Errors
    /// A member of the extension that has another form, or two transactions that differ.
    pub fn from_response(response: &SettleResponse) -> Result<Self, serde_json::Error> {
        RawJson::of(response)?.read()
    }
}

impl Verdict {
    /// The verdict in an answer of x402's form.
    ///
    /// # Errors
    /// A member of the extension that has another form.
    pub fn from_response(response: &VerifyResponse) -> Result<Self, serde_json::Error> {
        RawJson::of(response)?.read()
    }
}
