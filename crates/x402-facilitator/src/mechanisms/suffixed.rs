//! Calls that end with a suffix: bytes behind the arguments, which no contract reads.
//!
//! A suffix is never in the way of a payment: a call that would need more gas with it than a transaction may have goes
//! without. A call whose contract reads all of its calldata, such as a factory, has none either: the steps with a suffix are
//! listed.

use std::sync::Arc;

use alloy_primitives::keccak256;
use async_trait::async_trait;
use x402_evm::chain::Call;
use x402_facilitator_core::{
    EntryDefaults, LaneId, Mechanism, NextStep, Observation, Parcel, Payment, Step, StepName, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{AmountRule, ChainId, Claim, Fault, PaymentKey, Refusal, Rejection, UnixSeconds};

/// The gas of a byte of calldata: 16, and as much again for its copies on the way to another contract.
const GAS_OF_BYTE: u64 = 32;
/// The longest suffix in bytes.
const LONGEST: usize = 1_024;

/// The steps whose calls take a suffix: their contracts read arguments by the ABI, which ends before it.
const STEPS: [StepName; 4] =
    [StepName::new("transfer"), StepName::new("settle"), StepName::new("order"), StepName::new("redeem")];

/// Makes the suffix of the calls that settle a payment; empty for none. It must be the same each time.
pub type CallSuffix = dyn Fn(&Claim) -> Vec<u8> + Send + Sync;

/// A mechanism of an EVM network whose calls have a suffix.
pub(super) struct Suffixed {
    inner: Arc<dyn Mechanism>,
    suffix: Arc<CallSuffix>,
    /// The maximum gas limit of a transaction.
    gas_cap: u64,
}

impl Suffixed {
    pub(super) fn new(inner: Arc<dyn Mechanism>, suffix: Arc<CallSuffix>, gas_cap: u64) -> Self {
        Self { inner, suffix, gas_cap }
    }

    /// Appends a suffix to the call in a parcel.
    fn extended(&self, parcel: Parcel, suffix: &[u8]) -> Parcel {
        if suffix.is_empty() || suffix.len() > LONGEST {
            return parcel;
        }
        let Ok(mut call) = Call::from_bytes(&parcel.bytes) else { return parcel };
        let gas = GAS_OF_BYTE.saturating_mul(u64::try_from(suffix.len()).unwrap_or(u64::MAX));
        let gas = call.gas.saturating_add(gas);
        if gas > self.gas_cap {
            return parcel;
        }
        let is_named_by_its_bytes = parcel.id == keccak256(&call.data).0;
        call.gas = gas;
        call.data = [&call.data[..], suffix].concat().into();
        // An operation is named by its own hash, whatever call carries it.
        let id = if is_named_by_its_bytes { keccak256(&call.data).0 } else { parcel.id };
        Parcel::new(id, call.to_bytes())
    }
}

#[async_trait]
impl Mechanism for Suffixed {
    fn kinds(&self) -> Vec<SupportedKind> {
        self.inner.kinds()
    }

    fn method(&self) -> Option<&'static str> {
        self.inner.method()
    }

    fn is_own(&self, claim: &Claim) -> bool {
        self.inner.is_own(claim)
    }

    fn amount_rule(&self) -> AmountRule {
        self.inner.amount_rule()
    }

    fn entry_defaults(&self, network: ChainId, asset: Option<&str>) -> Option<EntryDefaults> {
        self.inner.entry_defaults(network, asset)
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.inner.lanes()
    }

    fn has_nonce_on_chain(&self) -> bool {
        self.inner.has_nonce_on_chain()
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self.inner.key(claim)
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        self.inner.payer(key)
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        // The gas of the parcels is checked there without a suffix, which is left out rather than refused.
        self.inner.verify(claim, now).await
    }

    fn max_parcels(&self) -> usize {
        self.inner.max_parcels()
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        Ok(match self.inner.plan(payment, now).await? {
            NextStep::Do { name, once_key, exclusive, parcel } if STEPS.contains(&name) => {
                let parcel = self.extended(parcel, &(self.suffix)(&payment.claim));
                NextStep::Do { name, once_key, exclusive, parcel }
            }
            other => other,
        })
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        self.inner.observe(step, sent).await
    }
}
