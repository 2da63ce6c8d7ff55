//! What is known of a step that happened, and what the payer and the server are told of a payment that did.

use x402_types::v2::SettleResponse;
use x402_types::{AtomicAmount, Blank, ChainId, Members, NetworkName, RawJson, Version, networks};

use crate::TxId;

/// What a final block says of a step that happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepProof {
    /// The transaction that did it, ours or another's.
    pub tx: TxId,
    /// What it moved.
    pub amount: AtomicAmount,
    /// What the mechanism needs later, for its receipt or its next step.
    pub extra: Members,
}

/// The answer of a payment that was made. The same for every retry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// The transaction; `None` where nothing had to be moved (`upto` of 0).
    pub transaction: Option<TxId>,
    /// The network.
    pub network: ChainId,
    /// Who paid.
    pub payer: String,
    /// What was moved, where the scheme lets it differ from what was asked.
    pub amount: Option<AtomicAmount>,
    /// What the scheme adds.
    pub extra: Members,
    /// What extensions add.
    pub extensions: Members,
}

impl StepProof {
    /// What moved so much.
    #[must_use]
    pub const fn new(tx: TxId, amount: AtomicAmount) -> Self {
        Self { tx, amount, extra: Members::new() }
    }
}

impl Receipt {
    /// The receipt of a payer's payment. It names no amount: what was asked was moved.
    #[must_use]
    pub const fn new(transaction: Option<TxId>, network: ChainId, payer: String) -> Self {
        Self { transaction, network, payer, amount: None, extra: Members::new(), extensions: Members::new() }
    }

    /// With the amount that was moved, where the scheme lets it differ from what was asked.
    #[must_use]
    pub const fn of_amount(mut self, amount: AtomicAmount) -> Self {
        self.amount = Some(amount);
        self
    }

    /// The answer on the wire. `replayed` marks one that was given before, so that no server grants it twice.
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
            ..SettleResponse::settled(&self.payer, transaction, network_name(self.network, version))
        }
    }
}

/// CAIP-2 in v2, the legacy name in v1 where there is one.
fn network_name(network: ChainId, version: Version) -> NetworkName {
    match version {
        Version::V1 => networks::legacy_name(network).map_or_else(|| network.into(), NetworkName::from),
        Version::V2 => network.into(),
    }
}
