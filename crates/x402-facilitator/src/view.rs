//! A payment as callers and the operator see it: no payload, no signature.

use alloy_primitives::hex;
use serde::Serialize;
use serde_json::{Value, json};
use x402_facilitator_core::{Payment, Slot, StepState};
use x402_types::PaymentKey;

use crate::metrics::gauges::state_of;

/// The longest key of a payment, in bytes.
const LONGEST_KEY: usize = 512;

/// Reads a payment's key in lower-case hex, as it is written in logs and answers.
pub(crate) fn key(text: &str) -> Option<PaymentKey> {
    let one_spelling = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !one_spelling || text.is_empty() || text.len() > 2 * LONGEST_KEY {
        return None;
    }
    hex::decode(text).ok().map(|bytes| PaymentKey::from_bytes(&bytes))
}

/// A payment in the answer of `GET /payments/{id}`, and in the operator's lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    pub(crate) id: String,
    /// `settled`, `failed`, or of an open payment the state of its last step.
    pub(crate) state: &'static str,
    pub(crate) network: String,
    pub(crate) scheme: String,
    pub(crate) asset: String,
    /// The amount in atomic units: the settled one, or that of the terms.
    pub(crate) amount: String,
    pub(crate) pay_to: String,
    pub(crate) payer: String,
    pub(crate) caller: String,
    pub(crate) request: String,
    /// The settling transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transaction: Option<String>,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The time of the claim, Unix seconds; 0 if an older release wrote the row.
    pub(crate) claimed: u64,
    pub(crate) lane: String,
}

impl View {
    pub(crate) fn of(payment: &Payment) -> Self {
        let terms = &payment.claim.terms;
        let receipt = payment.answer.as_ref().and_then(|answer| answer.as_ref().ok());
        let amount = receipt.and_then(|receipt| receipt.amount.as_ref()).unwrap_or(&terms.amount);
        Self {
            id: payment.key.to_string(),
            state: match &payment.answer {
                Some(Ok(_)) => "settled",
                Some(Err(_)) => "failed",
                None => state_of(payment),
            },
            network: terms.network.to_string(),
            scheme: terms.scheme.to_string(),
            asset: terms.asset.to_string(),
            amount: amount.to_string(),
            pay_to: terms.pay_to.to_string(),
            payer: payment.payer.clone(),
            caller: payment.claim.identity.caller.clone(),
            request: payment.claim.identity.request.clone(),
            transaction: receipt.and_then(|receipt| receipt.transaction.as_ref()).map(ToString::to_string),
            reason: payment.answer.as_ref().and_then(|answer| answer.as_ref().err()).map(ToString::to_string),
            claimed: payment.claimed.0,
            lane: payment.lane.to_string(),
        }
    }

    /// Returns whether a text is a part of what identifies the payment: key, transaction, payer, recipient or request.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let fields = [&self.id, &self.payer, &self.pay_to, &self.request, &self.caller];
        let text = text.to_lowercase();
        let mut fields = fields.into_iter().chain(&self.transaction);
        fields.any(|field| field.to_lowercase().contains(&text))
    }
}

/// Returns the steps of a payment with each transaction that ever carried them.
pub(crate) fn timeline(payment: &Payment, slots: &[Slot]) -> Value {
    let steps: Vec<Value> = payment.steps.iter().map(|step| {
        let carriers = slots.iter().filter(|slot| step.carriers.contains(&slot.id));
        let carriers: Vec<Value> = carriers.map(|slot| {
            let attempts: Vec<Value> = slot.attempts.iter()
                .map(|attempt| json!({ "transaction": attempt.tx.to_string(), "fee": attempt.fee.to_string() }))
                .collect();
            json!({ "nonce": slot.id.nonce, "opened": slot.opened.0, "final": slot.used, "resends": slot.resends, "attempts": attempts })
        }).collect();
        let (state, detail) = match &step.state {
            StepState::Ready => ("ready", None),
            StepState::InFlight => ("in_flight", None),
            StepState::Unaccounted => ("unaccounted", None),
            StepState::Proven(proof) => ("proven", Some(proof.tx.to_string())),
            StepState::Dead(reason) => ("dead", Some(reason.to_string())),
        };
        json!({ "name": step.name.as_str(), "state": state, "detail": detail, "carriers": carriers })
    }).collect();
    json!({ "payment": View::of(payment), "due": payment.due.0, "waits": payment.waits, "steps": steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling_and_an_end() {
        assert_eq!(key("0aff").unwrap().to_string(), "0aff");
        for wrong in ["", "0", "0AFF", "0x0a", "zz", &"00".repeat(513)] {
            assert!(key(wrong).is_none(), "{wrong}");
        }
    }
}
