//! Tickets: the terms of a challenge that its payment does not repeat, written out.

use serde::{Deserialize, Serialize};
use x402_codec::{Limits, base64, json as strict};
use x402_types::challenge::{Challenge, ChallengeId, Code, Network, Networks, Payment, ResourceName};
use x402_types::{AtomicAmount, EvmAddress, Members, Rejection, SchemeName, Terms, TimeoutSeconds};

use super::refused;
use crate::engine::Engine;

/// The longest ticket, in characters: together with it a payment must fit into its 4,096 bytes.
const LONGEST_TICKET: usize = 1024;

/// The terms of a challenge that its payment does not repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    pub(super) challenge_id: ChallengeId,
    pub(super) scheme: SchemeName,
    pub(super) network: Network,
    pub(super) asset: EvmAddress,
    pub(super) pay_to: EvmAddress,
    pub(super) amount: AtomicAmount,
    pub(super) timeout: TimeoutSeconds,
    pub(super) resource: ResourceName,
}

impl Ticket {
    pub(super) fn of(challenge: &Challenge) -> Self {
        Self {
            challenge_id: challenge.challenge_id.clone(),
            scheme: challenge.scheme.clone(),
            network: challenge.network.clone(),
            asset: challenge.asset,
            pay_to: challenge.pay_to,
            amount: challenge.max_amount_required,
            timeout: challenge.max_timeout_seconds,
            resource: challenge.resource.clone(),
        }
    }

    pub(super) fn write(&self) -> Result<String, Rejection> {
        let text = serde_json::to_vec(self).map_err(|error| refused(Code::InvalidSchema, error.to_string()))?;
        let text = base64::encode(&text);
        if text.len() > LONGEST_TICKET {
            return Err(refused(Code::InvalidSchema, "challenge.resource: too long for a ticket"));
        }
        Ok(text)
    }

    pub(super) fn read(text: &str, limits: &Limits) -> Result<Self, Rejection> {
        let bad = |_| refused(Code::VerificationFailed, "proof.ticket: none of this facilitator's");
        strict::from_slice(&base64::decode(text.as_bytes(), LONGEST_TICKET).map_err(bad)?, limits).map_err(bad)
    }

    pub(super) fn covers(&self, payment: &Payment) -> Result<(), Rejection> {
        let differs = |what: &str| Err(refused(Code::Mismatch, format!("{what}: not the ticket's")));
        if payment.challenge_id != self.challenge_id {
            return differs("challengeId");
        }
        if payment.scheme != self.scheme {
            return differs("scheme");
        }
        if payment.network != self.network {
            return differs("network");
        }
        if payment.asset.unchecked() != self.asset.unchecked() {
            return differs("asset");
        }
        if payment.paid_amount < self.amount {
            return Err(refused(Code::Insufficient, "paidAmount: lower than asked"));
        }
        Ok(())
    }

    /// The terms of the settlement, if a mechanism here serves them.
    pub(super) fn terms(&self, engine: &Engine, amount: AtomicAmount) -> Result<Terms, Rejection> {
        if self.scheme != SchemeName::EXACT {
            return Err(refused(Code::Mismatch, "scheme: only `exact` is settled here"));
        }
        let networks = Networks::default();
        let network = networks.caip2(&self.network);
        let network = network.ok_or_else(|| refused(Code::Mismatch, "network: not known here"))?;
        let (assets, asset) = (engine.assets(), self.asset.as_str());
        let known = assets.find(network, asset).filter(|asset| !asset.name.is_empty());
        let known = known.ok_or_else(|| refused(Code::Mismatch, "asset: nothing here settles it on this network"))?;
        let mut extra = Members::new();
        extra.insert_text("name", &known.name);
        extra.insert_text("version", &known.version);
        Ok(Terms::new(
            SchemeName::EXACT,
            network,
            amount,
            EvmAddress::from(self.asset.unchecked()).to_string(),
            EvmAddress::from(self.pay_to.unchecked()).to_string(),
        )
        .with_max_timeout_seconds(self.timeout)
        .with_extra(extra))
    }
}
