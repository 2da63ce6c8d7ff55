//! What a mechanism plans, compared with what the chain had shown by then.

use alloy_primitives::{TxKind, U256};
use async_trait::async_trait;
use x402_evm::chain::Call;
use x402_evm::permit2::{PERMIT2, SettleCall, approve_call};
use x402_facilitator_core::{
    EntryDefaults, LaneId, Mechanism, NextStep, Observation, Parcel, Payment, Step, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{AmountRule, ChainId, Claim, Fault, PaymentKey, Refusal, Rejection, UnixSeconds};

use crate::approvals::Approval;
use crate::bugs::{APPROVE, Buggy, SETTLE};
use crate::payments::CHAIN;
use crate::world::{BLOCK, World};

/// How old may be what verification has read, when nothing is read again before the bytes are sent.
const FRESH: u64 = 5 + 3 * BLOCK;
/// The least gas of a first approval: recorded ones took 46,043 and more.
const APPROVE_GAS: u64 = 45_000;

pub struct Judged {
    pub inner: Buggy,
    pub world: World,
}

impl Judged {
    /// `since`: from when on the plan has read.
    fn settle(&self, payment: &Payment, parcel: &Parcel, since: u64) {
        self.world.tally("settle planned");
        let call = Call::from_bytes(&parcel.bytes).unwrap();
        let call = SettleCall::of_call(&call.data).unwrap();
        let permit = call.authorization;
        if call.amount > permit.amount {
            let text = format!("maximum of {} was ignored: {} are to be settled", permit.amount, call.amount);
            self.world.violation(text);
        }
        let window = if payment.steps.is_empty() { FRESH } else { self.world.now().0 - since };
        let seen = self.world.recent(permit.from, permit.token, window);
        let needed = call.amount.value();
        if !seen.is_empty() && seen.iter().all(|seen| seen.allowance < needed || seen.balance < needed) {
            let has = seen.last().map(|seen| (seen.allowance, seen.balance));
            self.world
                .violation(format!("allowance and balance are {has:?}, and a settlement of {needed} was planned"));
        }
    }

    fn approve(&self, parcel: &Parcel, since: u64) {
        self.world.tally("approve planned");
        let bad = |why: &str| self.world.violation(format!("approval is sent that {why}"));
        let Some(bytes) = parcel.bytes.get(81..) else { return bad("has no transaction") };
        let signed = self.world.with(|inner| inner.approvals.get(bytes).cloned());
        let Some(Approval { payer, token, needed, transaction }) = signed else { return bad("no payer signed") };
        if transaction.to != TxKind::Call(token) || transaction.input != approve_call(PERMIT2, needed) {
            return bad("approves something else");
        }
        if transaction.chain_id != CHAIN || transaction.gas_limit < APPROVE_GAS {
            return bad("is of another chain, or has too little gas");
        }
        let cost = U256::from(transaction.gas_limit) * U256::from(transaction.max_fee_per_gas);
        let seen = self.world.recent(payer, token, self.world.now().0 - since);
        let takes = |nonce, base_fee, ether| {
            nonce == transaction.nonce && u128::from(base_fee) <= transaction.max_fee_per_gas && ether >= cost
        };
        if !seen.is_empty() && !seen.iter().any(|seen| takes(seen.nonce, seen.base_fee, seen.ether)) {
            bad("no block could take");
        }
    }
}

#[async_trait]
impl Mechanism for Judged {
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
        self.inner.verify(claim, now).await
    }

    fn max_parcels(&self) -> usize {
        self.inner.max_parcels()
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let since = self.world.now().0;
        let next = self.inner.plan(payment, now).await?;
        // A plan beyond the most of a step counts as waiting.
        let is_last = payment.open_step().is_some_and(|step| step.parcels.len() >= self.max_parcels());
        match &next {
            NextStep::Do { name, parcel, .. } if *name == SETTLE && !is_last => self.settle(payment, parcel, since),
            NextStep::Do { name, parcel, .. } if *name == APPROVE && !is_last => self.approve(parcel, since),
            _ => {}
        }
        Ok(next)
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        self.inner.observe(step, sent).await
    }
}
