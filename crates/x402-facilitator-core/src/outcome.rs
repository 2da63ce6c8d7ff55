//! The result of a payment, as a caller receives it.

use x402_types::v2::SettleResponse;
use x402_types::{ErrorReason, Terms};

use crate::{Receipt, TxId};

/// The message of `settlement_pending` without a transaction.
const WAITS: &str = "the payment is under way: no node is known to have accepted a transaction of it yet";

/// The state of a payment, for one caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The payment was made.
    Settled {
        /// The receipt, the same for every retry.
        receipt: Receipt,
        /// Whether another request received this success first.
        replayed: bool,
    },
    /// The payment was made, and another request received the success: this one has no name by which it could receive
    /// it again.
    Spent {
        /// The transaction that paid.
        transaction: Option<TxId>,
        /// The payer's account.
        payer: String,
    },
    /// The payment was not made and never will be.
    Failed {
        /// The reason of the failure.
        reason: ErrorReason,
        /// The last transaction for the payment that the far side accepted.
        transaction: Option<TxId>,
        /// The payer's account.
        payer: String,
    },
    /// The result is not known yet. The caller may wait.
    Pending {
        /// The last transaction for the payment that the far side accepted; `None` if none is known.
        transaction: Option<TxId>,
        /// The payer's account.
        payer: String,
    },
    /// The payment belongs to another request, or this request is being answered elsewhere.
    Duplicate {
        /// The transaction that paid, otherwise the last that the far side accepted.
        transaction: Option<TxId>,
    },
}

impl Outcome {
    /// Returns whether the outcome is final for this caller.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    /// Converts to the response on the wire, in the version of the terms.
    #[must_use]
    pub fn to_response(&self, terms: &Terms) -> SettleResponse {
        let (reason, transaction, payer) = match self {
            Self::Settled { receipt, replayed } => {
                let response = receipt.to_response(terms.version, *replayed);
                return SettleResponse { network: terms.network_name(), ..response };
            }
            Self::Spent { transaction, payer } => (ErrorReason::NONCE_ALREADY_USED, transaction, Some(payer)),
            Self::Failed { reason, transaction, payer } => (reason.clone(), transaction, Some(payer)),
            Self::Pending { transaction: None, payer } => {
                return SettleResponse {
                    error_message: Some(WAITS.to_owned()),
                    payer: Some(payer.clone()),
                    ..SettleResponse::failed(ErrorReason::SETTLEMENT_PENDING, terms.network_name())
                };
            }
            Self::Pending { transaction, payer } => (ErrorReason::SETTLEMENT_PENDING, transaction, Some(payer)),
            Self::Duplicate { transaction } => (ErrorReason::DUPLICATE_SETTLEMENT, transaction, None),
        };
        SettleResponse {
            error_message: reason.row().map(|row| row.text.to_owned()),
            payer: payer.cloned(),
            transaction: transaction.as_ref().map(|tx| tx.as_str().to_owned()).unwrap_or_default(),
            ..SettleResponse::failed(reason, terms.network_name())
        }
    }
}
