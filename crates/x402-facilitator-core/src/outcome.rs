//! What a caller is told of a payment.

use x402_types::v2::SettleResponse;
use x402_types::{ErrorReason, Terms};

use crate::{Receipt, TxId};

/// How a payment stands, for one caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was made.
    Settled {
        /// The receipt, the same for every retry.
        receipt: Receipt,
        /// Another request was told this as new.
        replayed: bool,
    },
    /// It was made, and another request was told so: this one named no request by which it could have it again.
    Spent {
        /// The transaction that paid.
        transaction: Option<TxId>,
        /// Who paid.
        payer: String,
    },
    /// It was not made and never will be.
    Failed {
        /// Why.
        reason: ErrorReason,
        /// The last transaction for it that the far side took.
        transaction: Option<TxId>,
        /// Who would have paid.
        payer: String,
    },
    /// Not known yet. The caller may wait.
    Pending {
        /// The last transaction for it that the far side took; `None`: none that is known of.
        transaction: Option<TxId>,
        /// Who pays.
        payer: String,
    },
    /// It belongs to another request, or this request is being answered elsewhere.
    Duplicate {
        /// The transaction that paid, else the last that the far side took.
        transaction: Option<TxId>,
    },
}

impl Outcome {
    /// Whether nothing will change any more for this caller.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    /// The answer on the wire, in the version of the terms.
    #[must_use]
    pub fn to_response(&self, terms: &Terms) -> SettleResponse {
        let (reason, transaction, payer) = match self {
            Self::Settled { receipt, replayed } => return receipt.to_response(terms.version, *replayed),
            Self::Spent { transaction, payer } => (ErrorReason::NONCE_ALREADY_USED, transaction, Some(payer)),
            Self::Failed { reason, transaction, payer } => (reason.clone(), transaction, Some(payer)),
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
