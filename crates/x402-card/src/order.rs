//! The parcels of a payment by card: what is stored before it is done. None holds a secret.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x402_facilitator_core::{Parcel, Step};
use x402_types::{Fault, PaymentKey};

use crate::claims::{hex, unhex};
use crate::processor::{Intent, ProcessorCall};
use crate::stores::PaymentHash;

/// The action of a parcel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Order {
    /// Counts the charge.
    Reserve { payment: String, delegation: String, cents: u64, purchases: u64 },
    /// Creates the intent, which moves no money.
    Open { expect: Expected, call: ProcessorCall },
    /// Confirms the intent: the card is charged.
    Confirm { intent: String, expect: Expected, call: ProcessorCall },
    /// Cancels the intent, for this reason unless the bank has given one.
    Cancel { intent: String, expect: Expected, call: ProcessorCall, why: String },
    /// Adds the credits that were bought.
    Mint { id: String, payment: String, intent: String, plan: String, holder: String, credits: u64 },
    /// Takes the credits that are used.
    Burn { id: String, plan: String, holder: String, credits: u64 },
    /// Takes the count back. `why` is the code with which the payment fails; without it, the credits are there.
    Release {
        payment: String,
        why: Option<String>,
        decline: Option<String>,
        intent: Option<String>,
        refund: Option<String>,
    },
    /// Refunds the charge.
    Refund { intent: String, expect: Expected, call: ProcessorCall },
    /// Stores what became of the charge beside the counter, which stays.
    Record { payment: String, intent: String, result: String },
}

/// The members that an intent of this facilitator must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) payment: String,
    pub(crate) cents: u64,
    pub(crate) currency: String,
    pub(crate) customer: String,
    pub(crate) method: String,
    pub(crate) livemode: bool,
    /// The time of the claim.
    pub(crate) claimed: u64,
}

/// The member of an intent's metadata that names our payment.
pub(crate) const MARK: &str = "x402_payment";
/// The seconds after the claim within which the card may be charged.
pub(crate) const DEADLINE: u64 = 15 * 60;

impl Expected {
    /// Checks the members of an intent that never change.
    pub(crate) fn check(&self, intent: &Intent) -> Result<(), Fault> {
        let differs = if intent.livemode != self.livemode {
            "livemode"
        } else if intent.metadata.get(MARK) != Some(&self.payment) {
            "metadata"
        } else if intent.amount != self.cents {
            "amount"
        } else if intent.currency != self.currency {
            "currency"
        } else if intent.customer.as_ref() != Some(&self.customer) {
            "customer"
        } else {
            return Ok(());
        };
        Err(Fault::broken(format_args!("the intent {} of the card processor has another {differs}", intent.id)))
    }
}

impl Order {
    /// Makes the parcel.
    pub(crate) fn parcel(&self) -> Result<Parcel, Fault> {
        let bytes = serde_json::to_vec(self).map_err(Fault::broken)?;
        Ok(Parcel::new(Sha256::digest(&bytes).into(), bytes))
    }

    /// Reads a parcel's bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(bytes).map_err(|_| Fault::broken("a parcel that is none of a card payment"))
    }

    /// Reads the newest parcel of a step.
    pub(crate) fn of(step: &Step) -> Result<Self, Fault> {
        let parcel = step.parcels.last().ok_or_else(|| Fault::broken("a step without a parcel"))?;
        Self::read(&parcel.bytes)
    }

    /// Returns the call of the processor, if it is one.
    pub(crate) const fn call(&self) -> Option<&ProcessorCall> {
        match self {
            Self::Open { call, .. }
            | Self::Confirm { call, .. }
            | Self::Cancel { call, .. }
            | Self::Refund { call, .. } => Some(call),
            _ => None,
        }
    }

    /// Returns the name of what is done, for the row.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Mint { id, .. } | Self::Burn { id, .. } => id.clone(),
            Self::Reserve { payment, .. } => format!("reserve-{payment}"),
            Self::Release { payment, .. } => format!("release-{payment}"),
            Self::Record { payment, .. } => format!("record-{payment}"),
            Self::Open { call, .. }
            | Self::Confirm { call, .. }
            | Self::Cancel { call, .. }
            | Self::Refund { call, .. } => call.key.clone().unwrap_or_default(),
        }
    }
}

/// Names a payment at the processor and in the stores.
pub(crate) fn name_of(key: &PaymentKey) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Reads the name of a payment.
pub(crate) fn hash_of(name: &str) -> Result<PaymentHash, Fault> {
    unhex(name).ok_or_else(|| Fault::broken("the name of a payment is 64 hex digits"))
}
