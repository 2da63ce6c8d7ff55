//! The proof of a step that happened, and the receipt of a payment that was made.

use x402_types::v2::SettleResponse;
use x402_types::{AtomicAmount, Blank, ChainId, Members, NetworkName, RawJson, Version};

use crate::TxId;

/// The facts that a final block proves about a step that happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepProof {
    /// The transaction that did it, this facilitator's or another's.
    pub tx: TxId,
    /// The amount that was moved.
    pub amount: AtomicAmount,
    /// The facts that the mechanism needs for its receipt or its next step.
    pub extra: Members,
}

/// The receipt of a payment that was made. It is the same for every retry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// The transaction; `None` if nothing had to be moved (`upto` of 0).
    pub transaction: Option<TxId>,
    /// The network of the payment.
    pub network: ChainId,
    /// The payer's account.
    pub payer: String,
    /// The amount moved, for schemes in which it may differ from the amount of the terms.
    pub amount: Option<AtomicAmount>,
    /// The scheme's additional members.
    pub extra: Members,
    /// The members that extensions add.
    pub extensions: Members,
}

impl StepProof {
    /// Makes the proof of a transaction that moved this amount.
    #[must_use]
    pub const fn new(tx: TxId, amount: AtomicAmount) -> Self {
        Self { tx, amount, extra: Members::new() }
    }
}

impl Receipt {
    /// Makes the receipt of a payer's payment. It names no amount: the amount of the terms was moved.
    #[must_use]
    pub const fn new(transaction: Option<TxId>, network: ChainId, payer: String) -> Self {
        Self { transaction, network, payer, amount: None, extra: Members::new(), extensions: Members::new() }
    }

    /// Adds the amount that was moved, for schemes in which it may differ from the amount of the terms.
    #[must_use]
    pub const fn of_amount(mut self, amount: AtomicAmount) -> Self {
        self.amount = Some(amount);
        self
    }

    /// Converts to the response on the wire. `replayed` marks one that was returned before, so that no server grants it
    /// twice.
    #[must_use]
    pub fn to_response(&self, version: Version, replayed: bool) -> SettleResponse {
        let mut extensions = self.extensions.clone();
        if replayed && let Ok(mark) = RawJson::of(&true) {
            extensions.insert("replayed", mark);
        }
        let transaction = self.transaction.as_ref().map(|tx| tx.as_str()).unwrap_or_default();
        SettleResponse {
            amount: self.amount.map(Blank::Value),
            extra: self.extra.clone(),
            extensions,
            ..SettleResponse::settled(&self.payer, transaction, NetworkName::of(self.network, version))
        }
    }
}
