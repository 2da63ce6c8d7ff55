//! The facilitator's half: verification in one round trip, one step, and proof from final blocks.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use x402_facilitator_core::{
    EntryDefaults, LaneId, Ledger, Mechanism, NextStep, Observation, Payment, Receipt, Step, StepName, StepState, TxId,
    Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, ChainId, Claim, ErrorReason, EvmAddress, Fault, Members, PaymentKey, RawJson, Refusal, Rejection,
    UnixSeconds, Version,
};

use super::PERMIT2;
use super::approving::{self, APPROVE};
use super::calls::{Eip2612Permit, transfer_from_call};
use super::check::{self, CheckedPermit, PermitScheme, seconds};
use super::payload::{PermitPayload, UncheckedPermit};
use super::probe::{Judged, PermitContext, PermitProbe, transaction_gas};
use super::proof::{self, OthersCalls, once_key, watched};
use super::signed_approval::SignedApproval;
use super::sponsored::SponsoredPermit;
use crate::chain::{At, BatchRead, Call, Chain, Fate, Sharing};
use crate::exact::{ExactPolicy, KEEP, LOOK_BACK, SpentElsewhere, parcel, tx_id};
use crate::payers::{Before, Payers, STALE, Taking, UnderWay, comes_first};
use crate::token::Tokens;
use crate::token_error::TokenRefusal;
use crate::unreliable::MAX_REVERTS;
use crate::wallet::Signer;

const SETTLE: StepName = StepName::new("settle");
/// The gas of the token's transfer alone.
const TRANSFER_GAS: u32 = 150_000;

/// The mechanism of `exact` or `upto` by Permit2 on one network.
pub struct PermitMechanism<C> {
    chain: Arc<C>,
    network: ChainId,
    scheme: PermitScheme,
    tokens: Tokens,
    lanes: Vec<LaneId>,
    /// The accounts of the lanes, which settle.
    senders: Vec<Address>,
    policy: ExactPolicy,
    payers: Payers,
    spent: SpentElsewhere,
    others: OthersCalls,
}

impl<C> core::fmt::Debug for PermitMechanism<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PermitMechanism")
            .field("scheme", &self.scheme)
            .field("network", &self.network)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl<C: Chain> PermitMechanism<C> {
    /// Creates the mechanism of a scheme for these tokens of the chain's network, carried by these lanes.
    #[must_use]
    pub fn new(scheme: PermitScheme, chain: Arc<C>, tokens: Tokens, lanes: Vec<LaneId>) -> Self {
        let network = chain.network();
        let senders = lanes.iter().filter_map(|lane| lane.account().parse().ok()).collect();
        let (policy, payers) = (ExactPolicy::default(), Payers::default());
        let (spent, others) = (SpentElsewhere::default(), OthersCalls::default());
        let tokens = tokens.on(network);
        Self { chain, network, scheme, tokens, lanes, senders, policy, payers, spent, others }
    }

    /// Sets the ledger of the settlement machine: a payer's pending payments count against balance and allowance, and
    /// payers whose transactions revert are remembered across restarts. Without a ledger neither is known.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.payers.ledger = Some(ledger);
        self
    }

    /// Sets the policy.
    #[must_use]
    pub fn with_policy(mut self, policy: ExactPolicy) -> Self {
        self.policy = policy;
        self
    }

    fn check(&self, claim: &Claim, now: UnixSeconds) -> Result<CheckedPermit, Rejection> {
        check::check(self.scheme, &self.policy, &self.tokens, &self.senders, claim, now)
    }

    /// Reads everything that decides about a payment at one block, and simulates the settlement there as a transaction
    /// of `sender`.
    async fn probe(
        &self,
        checked: &CheckedPermit,
        sender: Option<&LaneId>,
        under_way: Vec<UnderWay>,
        now: UnixSeconds,
    ) -> Result<Judged, Refusal> {
        const SHORT: [ErrorReason; 2] = [ErrorReason::INSUFFICIENT_FUNDS, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED];
        // The funds of a moment ago cover all of them: none is looked at, unless the present ones do not.
        if !under_way.is_empty() && self.payers.cover(&taking(checked), &under_way, now) {
            match self.probed(checked, sender, Before::unread(under_way.clone()), now).await {
                Err(Refusal::Rejection(why)) if SHORT.contains(&why.reason) => {}
                probed => return probed,
            }
        }
        self.probed(checked, sender, Before::read(under_way), now).await
    }

    async fn probed(
        &self,
        checked: &CheckedPermit,
        sender: Option<&LaneId>,
        under_way: Before,
        now: UnixSeconds,
    ) -> Result<Judged, Refusal> {
        let sender = sender.and_then(|lane| lane.account().parse().ok());
        let (reads, probe) = PermitProbe::new(self.scheme, checked, PermitContext { sender, under_way });
        let answers = self.chain.run(&reads, At::Latest).await?;
        let judged = match probe.judge(&answers) {
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::PERMIT2_SIMULATION_FAILED => {
                return Err(self.blocked(checked).await.unwrap_or(why).into());
            }
            judged => judged?,
        };
        self.payers.note_read(&taking(checked), judged.funds, judged.signer, now);
        if let Some(approval) = checked.approval.as_ref().filter(|_| judged.needs_approval) {
            approving::check(&*self.chain, checked, approval).await?;
        }
        Ok(judged)
    }

    /// Returns the refusal of a payer or recipient that the token blocks. Permit2 hides the token's own error, so the token is
    /// called once more, as Permit2 calls it.
    async fn blocked(&self, checked: &CheckedPermit) -> Option<Rejection> {
        let CheckedPermit { permit, amount, .. } = checked;
        let transfer = transfer_from_call(permit.from, permit.witness.to, amount.value());
        let reads = BatchRead::new().called_by(PERMIT2).call(permit.token, transfer, TRANSFER_GAS, 5);
        let answers = self.chain.run(&reads, At::Latest).await.ok()?;
        let refusal = answers.calls.first().filter(|call| !call.success)?;
        let TokenRefusal { reason, text } = TokenRefusal::read(refusal, B256::from(permit.nonce));
        let reason = reason.filter(|reason| *reason == ErrorReason::PAYER_BLOCKED)?;
        Some(Rejection::new(reason).because(text))
    }

    /// Returns the lanes that may carry a payment: all for `exact`, and for `upto` that of the account which the payer
    /// named.
    fn lanes_for(&self, checked: &CheckedPermit) -> Vec<LaneId> {
        let mut lanes = self.lanes.clone();
        if let Some(facilitator) = checked.permit.witness.facilitator {
            lanes.retain(|lane| lane.account().parse() == Ok(facilitator));
        }
        lanes
    }

    /// Returns the transaction by which another account settled this payment, if there is one.
    async fn settled_elsewhere(&self, checked: &CheckedPermit, now: UnixSeconds) -> Result<Option<TxId>, Fault> {
        let after = u64::try_from(checked.permit.witness.valid_after).map_or(UnixSeconds(u64::MAX), UnixSeconds);
        let call = checked.call();
        let Fate::Set { candidates } = self.spent.search(&*self.chain, watched(&call, 0), after, now).await? else {
            return Ok(None);
        };
        let settling = proof::settling_now(&*self.chain, self.scheme, &call, &candidates).await?;
        Ok(settling.map(tx_id))
    }

    /// Adds to the refusal of a used nonce the transaction that used it for the same amount and recipient: seller and
    /// payer have to settle the matter, and need to know what was paid by which transaction.
    async fn used(&self, checked: &CheckedPermit, refusal: Rejection, now: UnixSeconds) -> Rejection {
        let Ok(Some(transaction)) = self.settled_elsewhere(checked, now).await else { return refusal };
        let why = format!(
            "the permit was settled before by another transaction, {}, and paid what is asked: seller and payer have to \
             settle it between them",
            transaction.as_str()
        );
        refusal.because(why).detail("transaction", transaction.as_str())
    }

    /// Returns the refusal of a permit that comes too late. If another transaction used it in time, the refusal names
    /// that transaction: the money has moved, and the seller has to learn it.
    async fn late(&self, claim: &Claim, late: Rejection, now: UnixSeconds) -> Rejection {
        let Ok(PermitPayload { authorization, .. }) = PermitPayload::read(&claim.payload) else { return late };
        let in_time = UnixSeconds(seconds(&authorization).0.saturating_sub(self.policy.margin));
        let checked = Some(in_time).filter(|in_time| *in_time < now).and_then(|it| self.check(claim, it).ok());
        let Some(checked) = checked else { return late };
        let used = match self.probe(&checked, None, Vec::new(), now).await {
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::PERMIT2_INVALID_NONCE => why,
            _ => return late,
        };
        let used = self.used(&checked, used.of(EvmAddress::from(authorization.from).as_str()), now).await;
        if used.details.get("transaction").is_some() { used } else { late }
    }

    /// Returns the call that settles a payment, proven by events from block `since` on.
    fn call(&self, checked: &CheckedPermit, since: u64) -> Call {
        Call {
            to: self.scheme.proxy(),
            data: checked.call().call(),
            gas: transaction_gas(checked),
            since,
            // Permit2 enforces the deadline.
            until: None,
            // Permit2 emits no event for a permit's use, so that a transaction proves one payment only.
            sharing: Sharing::Alone,
        }
    }

    async fn settle(&self, checked: &CheckedPermit) -> Result<NextStep, Fault> {
        let since = self.chain.head().await?.finalized.saturating_sub(LOOK_BACK);
        self.chain.watch(watched(&checked.call(), since));
        let once_key = once_key(self.network, &checked.permit);
        Ok(NextStep::Do { name: SETTLE, once_key, exclusive: None, parcel: parcel(&self.call(checked, since)) })
    }

    /// Plans the next step from the chain's state, if no transaction is in flight.
    async fn next(
        &self,
        payment: &Payment,
        checked: &CheckedPermit,
        before: Vec<UnderWay>,
        now: UnixSeconds,
    ) -> Result<NextStep, Fault> {
        let unaccounted = payment.open_step();
        self.payers.note_reverts(checked.permit.from, payment, now);
        let wait = Ok(NextStep::Wait(now.plus(2)));
        match self.probe(checked, Some(&payment.lane), before, now).await {
            Err(Refusal::Fault(fault)) => Err(fault),
            // A contract can distinguish a transaction from its simulation, and revert only in the former.
            Ok(Judged { signer: Signer::Contract, .. })
                if unaccounted.is_some_and(|step| step.parcels.len() >= MAX_REVERTS) =>
            {
                wait
            }
            // Bytes were sent: a refused read proves nothing, but prevents burning gas.
            Err(Refusal::Rejection(_)) if unaccounted.is_some() => wait,
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::PERMIT2_INVALID_NONCE => {
                let reason = ErrorReason::DUPLICATE_SETTLEMENT;
                Ok(match self.settled_elsewhere(checked, now).await? {
                    Some(transaction) => NextStep::Spent { reason, transaction },
                    None => NextStep::Failed(ErrorReason::PERMIT2_INVALID_NONCE),
                })
            }
            // No transaction was sent, so it fails here. For an unaccounted step only a final block proves that.
            _ if unaccounted.is_none() && now > checked.deadline() => {
                Ok(NextStep::Failed(ErrorReason::PERMIT2_DEADLINE_EXPIRED))
            }
            Err(Refusal::Rejection(why)) => Ok(NextStep::Failed(why.reason)),
            // The step's allowance is seen already, and a final block proves it.
            Ok(judged) if unaccounted.is_some_and(|step| (step.name == APPROVE) != judged.needs_approval) => wait,
            Ok(judged) => match &checked.approval {
                Some(approval) if judged.needs_approval => Ok(approving::plan(self.network, checked, approval)),
                _ => self.settle(checked).await,
            },
        }
    }

    /// Ends a payment whose approval came to nothing. The allowance may be gone because another account settled the payment
    /// with it, after the approval or after one of the payer's own: the money has moved then, and that is no failure.
    async fn unapproved(&self, payment: &Payment, reason: &ErrorReason, now: UnixSeconds) -> Result<NextStep, Fault> {
        let checked = CheckedPermit { approval: None, ..self.stored(&payment.claim)? };
        match self.probe(&checked, Some(&payment.lane), Vec::new(), now).await {
            Err(Refusal::Fault(fault)) => Err(fault),
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::PERMIT2_INVALID_NONCE => {
                Ok(match self.settled_elsewhere(&checked, now).await? {
                    Some(transaction) => NextStep::Spent { reason: ErrorReason::DUPLICATE_SETTLEMENT, transaction },
                    None => NextStep::Failed(reason.clone()),
                })
            }
            _ => Ok(NextStep::Failed(reason.clone())),
        }
    }

    /// Parses the payment of a row, which was checked when it was claimed.
    fn stored(&self, claim: &Claim) -> Result<CheckedPermit, Fault> {
        let broken = |why: Rejection| Fault::broken(format_args!("a stored claim cannot be read: {why}"));
        let token =
            self.tokens.of(&claim.terms).ok_or_else(|| Fault::broken("a stored claim names an unknown token"))?;
        let PermitPayload { authorization: permit, signature } = PermitPayload::read(&claim.payload).map_err(broken)?;
        let signature = check::signed(&self.policy, &permit, &signature, token.chain_id).map_err(broken)?;
        let sponsored = SponsoredPermit::read(&claim.extensions, &permit).map_err(broken)?;
        let permit2612 = sponsored.as_ref().map(Eip2612Permit::from);
        let approval = SignedApproval::read(&claim.extensions, &permit, token.chain_id).map_err(broken)?;
        let approval = approval.filter(|_| permit2612.is_none());
        Ok(CheckedPermit { permit, amount: claim.terms.amount, signature, permit2612, approval })
    }
}

#[async_trait]
impl<C: Chain> Mechanism for PermitMechanism<C> {
    /// Returns the kind of version 2: version 1 knows no Permit2. That of `upto` names the account that settles, which
    /// payers sign, and all of them beside it.
    fn kinds(&self) -> Vec<SupportedKind> {
        let (mut extra, mut rest) = (Members::new(), Members::new());
        if let (PermitScheme::Upto, [first, ..]) = (self.scheme, &*self.senders) {
            extra.insert_text("facilitatorAddress", &first.to_string());
            let all: Vec<String> = self.senders.iter().map(Address::to_string).collect();
            if let Ok(all) = RawJson::of(&all) {
                rest.insert("facilitatorAddresses", all);
            }
        }
        let network = self.network.into();
        vec![SupportedKind { x402_version: Version::V2, scheme: self.scheme.name(), network, extra, rest }]
    }

    fn method(&self) -> Option<&'static str> {
        Some("permit2")
    }

    /// Returns whether the payload is a permit, or is of no method while the entry requires a permit.
    fn is_own(&self, claim: &Claim) -> bool {
        let has = |name| claim.payload.read::<Members>().is_ok_and(|members| members.get(name).is_some());
        let asked = claim.terms.extra.text("assetTransferMethod").as_deref() == Some("permit2");
        has("permit2Authorization") || (asked && !has("authorization"))
    }

    fn amount_rule(&self) -> AmountRule {
        match self.scheme {
            PermitScheme::Exact => AmountRule::Equal,
            PermitScheme::Upto => AmountRule::AtMost,
        }
    }

    fn entry_defaults(&self, network: ChainId, asset: Option<&str>) -> Option<EntryDefaults> {
        let token = match asset {
            Some(address) => self.tokens.find(network, address.parse::<EvmAddress>().ok()?.try_into().ok()?)?,
            None => self.tokens.dollar(network)?,
        };
        let mut extra = Members::new();
        extra.insert_text("assetTransferMethod", "permit2");
        if let Some(domain) = &token.domain {
            extra.insert_text("name", &domain.name);
            extra.insert_text("version", &domain.version);
        }
        Some(EntryDefaults::new(self.scheme.name(), token.address.to_string(), extra))
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.lanes.clone()
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Ok(UncheckedPermit::read(&claim.payload)?.key(self.network))
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        let payer = <[u8; 20]>::try_from(key.payer()?).ok()?;
        Some(EvmAddress::from(Address::from(payer)).to_string())
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let checked = match self.check(claim, now) {
            Ok(checked) => checked,
            Err(why) if why.reason == ErrorReason::PERMIT2_DEADLINE_EXPIRED => {
                return Err(self.late(claim, why, now).await.into());
            }
            Err(why) => return Err(why.into()),
        };
        let payer = EvmAddress::from(checked.permit.from);
        // The pending payments are read before the chain: one that is used in between is not counted twice.
        let (taking, key) = (taking(&checked), checked.permit.key(self.network));
        let others = self.payers.others(self.network, &taking, &key).await?;
        let of_payer = |rejection: Rejection| Refusal::Rejection(rejection.of(payer.as_str()));
        self.payers.check(checked.permit.from, &others, now).map_err(of_payer)?;
        let under_way = others.iter().filter_map(|row| UnderWay::of_row(row, taking)).collect();
        let lanes = self.lanes_for(&checked);
        match self.probe(&checked, lanes.first(), under_way, now).await {
            Ok(_) => {}
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::PERMIT2_INVALID_NONCE => {
                return Err(of_payer(self.used(&checked, why, now).await));
            }
            Err(Refusal::Rejection(rejection)) => return Err(of_payer(rejection)),
            Err(fault @ Refusal::Fault(_)) => return Err(fault),
        }
        // "If the amount is 0, no transaction is needed".
        let settling = (!checked.amount.is_zero()).then(|| parcel(&self.call(&checked, 0)));
        Ok(Verdict::new(payer.to_string(), lanes, checked.deadline().plus(KEEP)).with_parcels(settling))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let receipt = |transaction, amount| {
            let receipt = Receipt::new(transaction, self.network, payment.payer.clone());
            match self.scheme {
                PermitScheme::Exact => receipt,
                PermitScheme::Upto => receipt.of_amount(amount),
            }
        };
        let approved = payment.proven(&APPROVE).is_some();
        match payment.steps.last().map(|step| &step.state).filter(|_| !just_approved(payment)) {
            Some(StepState::Proven(proof)) => Ok(NextStep::Settled(receipt(Some(proof.tx.clone()), proof.amount))),
            Some(StepState::Dead(reason)) if payment.steps.last().is_some_and(|step| step.name == APPROVE) => {
                self.unapproved(payment, reason, now).await
            }
            Some(StepState::Dead(reason)) => Ok(NextStep::Failed(reason.clone())),
            Some(StepState::Ready | StepState::InFlight) => Ok(NextStep::Wait(now.plus(1))),
            first_or_next => {
                let mut checked = self.stored(&payment.claim)?;
                if approved {
                    // The approval is on the chain: from here on the allowance counts.
                    checked.approval = None;
                }
                // "If the amount is 0, no transaction is needed": nothing was used.
                if checked.amount.is_zero() {
                    return Ok(NextStep::Settled(receipt(None, checked.amount)));
                }
                // The payment was verified a moment ago: nothing more is read before the bytes are sent.
                let at_once = first_or_next.is_none()
                    && payment.steps.is_empty()
                    && checked.approval.is_none()
                    && now <= payment.due.plus(STALE);
                let taking = taking(&checked);
                let others = self.payers.others(self.network, &taking, &payment.key).await?;
                let before = others.iter().filter(|other| comes_first(other, payment));
                let before: Vec<_> = before.filter_map(|row| UnderWay::of_row(row, taking)).collect();
                let covered = before.is_empty() || self.payers.cover(&taking, &before, now);
                // Verification ran as the first lane's account, and a contract can distinguish the others by `tx.origin`.
                let simulated =
                    self.lanes_for(&checked).first() == Some(&payment.lane) || self.payers.is_key(&taking, now);
                if at_once && covered && simulated {
                    return self.settle(&checked).await;
                }
                self.next(payment, &checked, before, now).await
            }
        }
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        if step.name == APPROVE {
            return approving::observe(&*self.chain, step).await;
        }
        proof::observe(&*self.chain, self.scheme, &self.others, step, sent).await
    }
}

/// Returns whether the last step is a proven approval, after which the settlement is planned.
fn just_approved(payment: &Payment) -> bool {
    payment.steps.last().is_some_and(|step| step.name == APPROVE && step.proven().is_some())
}

fn taking(checked: &CheckedPermit) -> Taking {
    let CheckedPermit { permit, amount, .. } = checked;
    Taking { token: permit.token, payer: permit.from, value: amount.value() }
}
