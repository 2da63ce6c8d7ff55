//! The proof of a step that happened, and the receipt of a payment that was made.

use serde::{Deserialize, Serialize};
use x402_types::v2::SettleResponse;
use x402_types::{AtomicAmount, Blank, ChainId, Members, NetworkName, RawJson, Version, networks};

use crate::TxId;

/// The facts that a final block proves about a step that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProof {
    /// The transaction that did it, this facilitator's or another's.
    pub tx: TxId,
    /// The amount that was moved.
    pub amount: AtomicAmount,
    /// The facts that the mechanism needs for its receipt or its next step.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extra: Members,
}

/// The receipt of a payment that was made. It is the same for every retry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction; `None` if nothing had to be moved (`upto` of 0).
    pub transaction: Option<TxId>,
    /// The network of the payment.
    pub network: ChainId,
    /// The payer's account.
    pub payer: String,
    /// The amount moved, for schemes in which it may differ from the amount of the terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AtomicAmount>,
    /// The scheme's additional members.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extra: Members,
    /// The members that extensions add.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extensions: Members,
}

impl Receipt {
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
            ..SettleResponse::settled(&self.payer, transaction, network_name(self.network, version))
        }
    }
}

/// Returns the network's name: CAIP-2 in v2; in v1 the legacy name, if there is one.
fn network_name(network: ChainId, version: Version) -> NetworkName {
    match version {
        Version::V1 => networks::legacy_name(network).map_or_else(|| network.into(), NetworkName::from),
        Version::V2 => network.into(),
    }
}
