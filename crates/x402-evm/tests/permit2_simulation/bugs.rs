//! Bugs put in on purpose. None of them is in the library: each is the real mechanism, which answers in one place as that of
//! somebody would who left a check out.

use std::sync::Arc;

use alloy_primitives::{U256, keccak256};
use async_trait::async_trait;
use x402_evm::chain::{Call, ReadCalls, ReadChain, Sharing};
use x402_evm::permit2::{PERMIT2, PermitMechanism, PermitPayload, PermitScheme, SettleCall};
use x402_facilitator_core::{
    EntryDefaults, LaneId, Mechanism, NextStep, Observation, OnceKey, Parcel, Payment, Step, StepName, StepProof,
    StepState, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, AuthorizationKind, ChainId, Claim, ErrorReason, Fault, PaymentKey, Refusal, Rejection, UnixSeconds,
};

use crate::approvals;
use crate::chain::Hops;
use crate::payments::{network, settle_call};

pub const APPROVE: StepName = StepName::new("approve");
pub const SETTLE: StepName = StepName::new("settle");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The library as it is.
    None,
    /// Once the approval is proven, the settlement is sent whatever became of the allowance.
    AllowanceNotRechecked,
    /// A signed approval is sent as it came.
    ApprovalUnchecked,
    /// What was used is settled, whatever the payer has permitted.
    MaximumIgnored,
    /// A transaction of ours that did not revert is taken for the payment.
    StatusTakenForPayment,
    /// The signature is part of the payment's identity, and Permit2 accepts two spellings of it.
    BothSpellings,
}

impl Bug {
    pub const ALL: [Self; 5] = [
        Self::AllowanceNotRechecked,
        Self::ApprovalUnchecked,
        Self::MaximumIgnored,
        Self::StatusTakenForPayment,
        Self::BothSpellings,
    ];

    /// What its violations begin with.
    pub const fn shows_as(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::AllowanceNotRechecked => &["allowance "],
            Self::ApprovalUnchecked => &["approval "],
            Self::MaximumIgnored => &["maximum "],
            Self::StatusTakenForPayment => &["I6 "],
            Self::BothSpellings => &["I1 ", "I2 "],
        }
    }
}

/// The real mechanism with one bug, or none.
pub struct Buggy {
    pub inner: PermitMechanism<Hops>,
    pub chain: Arc<Hops>,
    pub scheme: PermitScheme,
    pub bug: Bug,
}

impl Buggy {
    /// The step that settles this amount, whatever the chain says.
    async fn settle(&self, payment: &Payment) -> Result<NextStep, Fault> {
        let data = settle_call(&payment.claim).call();
        let since = self.chain.head().await?.finalized.saturating_sub(8);
        let call = Call { to: self.scheme.proxy(), data, gas: 230_000, since, until: None, sharing: Sharing::Alone };
        Ok(NextStep::Do { name: SETTLE, once_key: once_key(payment), exclusive: None, parcel: parcel(call.to_bytes()) })
    }

    /// The step that sends the bytes that came with the claim, as the rail reads it.
    fn approve(&self, payment: &Payment, signed: &[u8]) -> NextStep {
        let permit = settle_call(&payment.claim).authorization;
        let needed = payment.claim.terms.amount.value().to_be_bytes::<32>();
        let until = permit.deadline.to::<u64>().to_be_bytes();
        let bytes = [&[5][..], permit.token.as_slice(), permit.from.as_slice(), &needed, &until, signed].concat();
        let once_key = OnceKey(format!("approve:{}", keccak256(signed)).into_bytes());
        let parcel = Parcel::new(keccak256(signed).0, bytes);
        NextStep::Do { name: APPROVE, once_key, exclusive: None, parcel }
    }
}

fn parcel(bytes: Vec<u8>) -> Parcel {
    Parcel::new(keccak256(&bytes).0, bytes)
}

fn once_key(payment: &Payment) -> OnceKey {
    OnceKey(payment.key.as_bytes().to_vec())
}

fn is_refused_approval(reason: &ErrorReason) -> bool {
    reason.as_str().starts_with("erc20_approval")
}

/// The claim with the amount that the payer has permitted at most.
fn within(claim: &Claim) -> Claim {
    let mut claim = claim.clone();
    let most = settle_call(&claim).authorization.amount;
    if claim.terms.amount > most {
        claim.terms.amount = most;
    }
    claim
}

#[async_trait]
impl Mechanism for Buggy {
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
        let key = self.inner.key(claim)?;
        if self.bug != Bug::BothSpellings {
            return Ok(key);
        }
        let PermitPayload { authorization, signature } = PermitPayload::read(&claim.payload)?;
        let (kind, payer) = (AuthorizationKind::Permit2, authorization.from);
        Ok(PaymentKey::new(kind, network(), PERMIT2.as_slice(), payer.as_slice(), keccak256(signature).as_slice()))
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        self.inner.payer(key)
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let ours = if self.bug == Bug::MaximumIgnored { within(claim) } else { claim.clone() };
        match self.inner.verify(&ours, now).await {
            Err(Refusal::Rejection(why)) if self.bug == Bug::ApprovalUnchecked && is_refused_approval(&why.reason) => {
                let permit = settle_call(claim).authorization;
                let mut lanes = self.inner.lanes();
                if let Some(only) = permit.witness.facilitator {
                    lanes.retain(|lane| lane.account().parse() == Ok(only));
                }
                let keep = UnixSeconds(permit.deadline.to::<u64>() + 3_600);
                Ok(Verdict::new(permit.from.to_string(), lanes, keep))
            }
            verdict => verdict,
        }
    }

    fn max_parcels(&self) -> usize {
        self.inner.max_parcels()
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let unchecked = self.bug == Bug::ApprovalUnchecked && payment.steps.is_empty();
        if let Some(signed) = approvals::of_claim(&payment.claim).filter(|_| unchecked) {
            return Ok(self.approve(payment, &signed));
        }
        let mut ours = payment.clone();
        if self.bug == Bug::MaximumIgnored {
            ours.claim = within(&payment.claim);
        }
        let next = self.inner.plan(&ours, now).await?;
        let approved = payment.proven(&APPROVE).is_some();
        match (self.bug, next) {
            (Bug::AllowanceNotRechecked, NextStep::Failed(reason))
                if reason == ErrorReason::PERMIT2_ALLOWANCE_REQUIRED
                    && approved
                    && payment.steps.last().is_some_and(|step| step.name == APPROVE) =>
            {
                self.settle(payment).await
            }
            (Bug::MaximumIgnored, NextStep::Do { .. }) if ours.claim != payment.claim => self.settle(payment).await,
            (Bug::BothSpellings, NextStep::Do { name, exclusive, parcel, .. }) if name == SETTLE => {
                Ok(NextStep::Do { name, once_key: once_key(payment), exclusive, parcel })
            }
            (_, next) => Ok(next),
        }
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        if self.bug == Bug::StatusTakenForPayment && step.name == SETTLE && step.state != StepState::Ready {
            let call = step.parcels.first().and_then(|parcel| Call::from_bytes(&parcel.bytes).ok());
            let amount =
                call.and_then(|call| SettleCall::of_call(&call.data)).map_or(U256::ZERO, |it| it.amount.value());
            let finalized = self.chain.head().await?.finalized;
            for transaction in sent {
                let mined = self.chain.mined_call(transaction.as_str().parse().unwrap()).await?;
                if mined.is_some_and(|mined| mined.success && mined.block <= finalized) {
                    return Ok(Observation::Proven(StepProof::new(transaction.clone(), amount.into())));
                }
            }
        }
        self.inner.observe(step, sent).await
    }
}
