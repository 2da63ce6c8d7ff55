//! What is known of a step that happened, and what the payer and the server are told of a payment that did.

use serde::{Deserialize, Serialize};
use x402_types::v2::SettleResponse;
use x402_types::{AtomicAmount, Blank, ChainId, Members, NetworkName, RawJson, Version, networks};

use crate::TxId;

/// What a final block says of a step that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProof {
    /// The transaction that did it, ours or another's.
    pub tx: TxId,
    /// What it moved.
    pub amount: AtomicAmount,
    /// What the mechanism needs later, for its receipt or its next step.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extra: Members,
}

/// The answer of a payment that was made. The same for every retry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction; `None` where nothing had to be moved (`upto` of 0).
    pub transaction: Option<TxId>,
    /// The network.
    pub network: ChainId,
    /// Who paid.
    pub payer: String,
    /// What was moved, where the scheme lets it differ from what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AtomicAmount>,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extra: Members,
    /// What extensions add.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extensions: Members,
}

impl Receipt {
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
