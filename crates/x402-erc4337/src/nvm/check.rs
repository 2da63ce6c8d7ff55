//! §5: verification, "in this order: version, scheme, network (allow-list), shape, match with `paymentRequired`, key
//! look-up, account, signature, expiry and scope of every key, nonce, balance, simulation".
//!
//! The routing of a claim performs the first three and the match; the nonce is the payment's key, which the ledger
//! holds.

use alloy_primitives::{Address, U256};
use x402_evm::unreliable::MAX_REVERTS;
use x402_facilitator_core::{Payment, Step, StepState};
use x402_types::nvm::{Code, Operation, SessionKey};
use x402_types::{AuthorizationKind, Claim, EvmAddress, Fault, PaymentKey, Refusal, Rejection, UnixSeconds};

use super::account::{OnChain, Question};
use super::events::burned;
use super::keys::{self, Key};
use super::mechanism::{NvmMechanism, ORDER, REDEEM};
use super::operation::{Draft, channel, payer};
use super::read::{Presented, seed};
use super::{Fill, Plan};
use crate::session::zerodev::Approval;
use crate::{Bundle, Call, KernelMode, Simulated};

/// The purpose of a check, which determines the keys to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// A payment that is not claimed yet, with all keys: it is ordered after all claimed ones.
    Verify,
    /// A claimed payment, with all keys.
    Settle,
    /// A payment whose order is done, with the redeem key: the other key may have expired since.
    Redeem,
}

/// A claim that is valid except for its balance.
pub(super) struct Examined<'a> {
    pub(super) plan: &'a Plan,
    pub(super) presented: Presented,
    pub(super) order: Option<Key>,
    pub(super) redeem: Key,
    pub(super) on_chain: OnChain,
    /// The credits of the account at the head.
    pub(super) balance: U256,
    /// The credits that other pending redemptions will take.
    pub(super) taken: U256,
    /// The cost of this request in credits.
    pub(super) need: U256,
}

/// The operations that would be sent.
#[derive(Debug, Clone)]
pub(super) struct Intent {
    pub(super) order: Option<Bundle>,
    pub(super) redeem: Option<Bundle>,
}

impl Examined<'_> {
    /// Compares the balance: "Balances and details use `need`, and count redeems in flight."
    pub(super) fn is_short(&self) -> bool {
        self.plan.is_pay_as_you_go() || self.available() < self.need
    }

    /// Returns whether the credits would suffice if no other payment took any.
    pub(super) fn suffices_alone(&self) -> bool {
        !self.plan.is_pay_as_you_go() && self.balance >= self.need
    }

    pub(super) fn available(&self) -> U256 {
        self.balance.saturating_sub(self.taken)
    }

    /// Returns the last expiry of the keys.
    pub(super) fn last_second(&self) -> Option<u64> {
        let keys = [Some(&self.redeem), self.order.as_ref()];
        keys.into_iter().flatten().map(Key::valid_until).reduce(|a, b| Some(a?.max(b?))).flatten()
    }

    fn fill(&self, key: &PaymentKey) -> Fill {
        let missing = self.need.saturating_sub(self.available());
        let purchases = if self.plan.is_pay_as_you_go() { 1 } else { self.plan.purchases(missing) };
        Fill { account: self.presented.account, seed: seed(key), amount: self.need, purchases }
    }

    /// Creates "`INSUFFICIENT_BALANCE` with `details` {clientAddress, requiredBalance, currentBalance}".
    fn insufficient(&self) -> Rejection {
        let have = self.available();
        Code::InsufficientBalance
            .because(format!("Client balance is {have}, no order permission provided"))
            .detail("clientAddress", EvmAddress::from(self.presented.account).as_str())
            .detail("requiredBalance", &self.need.to_string())
            .detail("currentBalance", &have.to_string())
    }
}

impl NvmMechanism {
    /// Performs all checks except the simulation.
    pub(super) async fn examine(
        &self,
        claim: &Claim,
        own: &PaymentKey,
        asking: Asking,
        now: UnixSeconds,
    ) -> Result<Examined<'_>, Refusal> {
        if claim.terms.network != self.network {
            return Err(Code::UnsupportedNetwork.because("accepted.network: not served here").into());
        }
        let presented = Presented::read(claim)?;
        let unknown = || Code::InvalidPayload.because("accepted.planId: not served here");
        let plan = self.plans.find(presented.plan).ok_or_else(unknown)?;

        // This is the look-up of the keys.
        let redeem = self.approval(&presented, Operation::Redeem).await?.ok_or_else(|| {
            Code::InvalidPayload.because("sessionKeys: no redeem key").detail("nvmCode", "BCK.X402.0035")
        })?;
        let order = match asking {
            Asking::Verify | Asking::Settle => self.approval(&presented, Operation::Order).await?,
            Asking::Redeem => None,
        };
        let (account, signer) = (presented.account, self.signer.address());
        let of =
            |operation, (key, approval): (&SessionKey, Approval)| Key::of(key, operation, approval, account, signer);
        let order = order.map(|order| of(Operation::Order, order)).transpose();
        let keys = of(Operation::Redeem, redeem).and_then(|redeem| Ok((redeem, order?)));

        // This checks the account, the signature, and the account's state of its keys.
        let digest = presented.statement.digest(&self.policy.domain, self.chain_id);
        let question = |keys| Question {
            presented: &presented,
            digest,
            entry_point: &self.entry_point,
            chain_id: self.chain_id,
            policy: &self.policy,
            keys,
            sender: self.lanes.first().and_then(|lane| payer(lane).ok()),
        };
        let (redeem, order) = match keys {
            Ok(keys) => keys,
            // The owner and the signer of a key belong to its scope, which is checked after account and signature.
            Err(why) => {
                question(&[]).ask(self.chain.as_ref()).await?;
                return Err(why.into());
            }
        };
        let mut asked = vec![(&redeem, channel(own, Operation::Redeem))];
        asked.extend(order.as_ref().map(|key| (key, channel(own, Operation::Order))));
        let on_chain = question(&asked).ask(self.chain.as_ref()).await?;

        // "Expiry and scope of every key", whether or not the payment needs it.
        for (key, _) in &asked {
            key.check_time(now, &self.policy)?;
        }
        let balance = match plan.is_pay_as_you_go() {
            true => U256::ZERO,
            false => self.credits.credits(plan.id, account).await?,
        };
        let taken = self.taken(plan, account, own, asking).await?;
        let need = plan.need(presented.asked);
        let examined = Examined { plan, presented, order, redeem, on_chain, balance, taken, need };
        let fill = examined.fill(own);
        if let Some(call) = plan.redeem(&fill) {
            examined.redeem.check_scope(&[call], plan, now, &self.policy)?;
        }
        if let Some(key) = &examined.order {
            key.check_scope(&plan.order(&fill), plan, now, &self.policy)?;
        }
        Ok(examined)
    }

    /// Refuses an account whose operations revert although they pass in simulation.
    pub(super) async fn check_account(
        &self,
        own: &PaymentKey,
        account: Address,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let prefix = PaymentKey::prefix(AuthorizationKind::NvmErc4337, self.network, &[], account.as_slice());
        for row in self.ledger.unanswered(&prefix).await? {
            if row.key != *own && row.open_step().is_some_and(has_reverted) {
                self.unreliable.note(account, &row.key, now);
            }
        }
        match self.unreliable.refused_until(account, now) {
            None => Ok(()),
            Some(until) => Err(Code::InvalidUserOperation
                .because(format!(
                    "{MAX_REVERTS} transactions of one payment of this account reverted, which passed in simulation: \
                     refused until {until}"
                ))
                .into()),
        }
    }

    /// Finds the key for an operation, and reads what its owner approved.
    async fn approval<'p>(
        &self,
        presented: &'p Presented,
        operation: Operation,
    ) -> Result<Option<(&'p SessionKey, Approval)>, Refusal> {
        let Some(key) = presented.payload.authorization().key(operation) else { return Ok(None) };
        let text = keys::text(key, self.keys.as_ref(), self.network, presented.account).await?;
        Ok(Some((key, keys::read(key, &text, &self.policy)?)))
    }

    /// Sums the credits that other pending redemptions will take. Of two claimed payments without any step the one with
    /// the lower key comes first, so that they do not wait for each other.
    async fn taken(&self, plan: &Plan, account: Address, own: &PaymentKey, asking: Asking) -> Result<U256, Fault> {
        if plan.is_pay_as_you_go() {
            return Ok(U256::ZERO);
        }
        let prefix = PaymentKey::prefix(AuthorizationKind::NvmErc4337, self.network, &[], account.as_slice());
        let others = self.ledger.unanswered(&prefix).await?;
        let before = others.iter().filter(|other| {
            other.key != *own && other.claim.terms.asset.parse() == Ok(plan.id) && comes_first(other, own, asking)
        });
        let needs = before.map(|other| plan.need(other.claim.terms.amount.value()));
        Ok(needs.fold(U256::ZERO, U256::saturating_add))
    }

    /// Builds the operations that would be sent: the redemption, preceded by an order if the credits do not suffice.
    /// # Errors
    /// `INSUFFICIENT_BALANCE` if an order is needed and there is no key for it.
    pub(super) async fn intend(
        &self,
        examined: &Examined<'_>,
        own: &PaymentKey,
        short: bool,
        payer: Address,
    ) -> Result<Intent, Refusal> {
        let fill = examined.fill(own);
        let (redeem_state, order_state) = match &*examined.on_chain.keys {
            [redeem, order] => (*redeem, Some(*order)),
            [redeem] => (*redeem, None),
            _ => return Err(Fault::broken("no key was asked about").into()),
        };
        let mut deployed = examined.on_chain.deployed;
        let mut redeem_state = redeem_state;
        let order = match (short, &examined.order, order_state) {
            (false, ..) => None,
            (true, Some(key), Some(state)) => {
                let calls = examined.plan.order(&fill);
                let channel = channel(own, Operation::Order);
                let call_gas = self.policy.order_gas;
                let draft = Draft { key, state, channel, calls: &calls, call_gas, deployed };
                // The next operation finds the account deployed, and the key enabled if it serves both.
                deployed = true;
                if key.permission.id() == examined.redeem.permission.id() && redeem_state.mode == KernelMode::Enable {
                    redeem_state = super::account::KeyOnChain { mode: KernelMode::Default, sequence: 0 };
                }
                Some(draft.sign(self.signer.as_ref(), &self.entry_point, payer).await?)
            }
            (true, ..) => return Err(examined.insufficient().into()),
        };
        let redeem = match examined.plan.redeem(&fill) {
            None => None,
            Some(call) => {
                let calls: [Call; 1] = [call];
                let draft = Draft {
                    key: &examined.redeem,
                    state: redeem_state,
                    channel: channel(own, Operation::Redeem),
                    calls: &calls,
                    call_gas: self.policy.redeem_gas,
                    deployed,
                };
                Some(draft.sign(self.signer.as_ref(), &self.entry_point, payer).await?)
            }
        };
        Ok(Intent { order, redeem })
    }

    /// Simulates the operations: "All UserOperations MUST pass on-chain simulation". They are sent in one request, each
    /// on the state that the previous one leaves.
    /// # Errors
    /// `INVALID_USER_OPERATION`, `EXPIRED_SESSION_KEY`.
    pub(super) async fn rehearse(&self, examined: &Examined<'_>, intent: &Intent) -> Result<(), Refusal> {
        let bundles: Vec<Bundle> = intent.order.iter().chain(&intent.redeem).cloned().collect();
        let trials = self.operations.simulate_user_ops(&bundles).await?;
        let names = intent.order.iter().map(|_| "order").chain(intent.redeem.iter().map(|_| "redeem"));
        for (name, trial) in names.zip(&trials) {
            judge(name, trial)?;
        }
        let missing = || Fault::unreachable("the node", "a simulation without an answer");
        if trials.len() != bundles.len() {
            return Err(missing().into());
        }
        // The redemption must succeed and burn the requested credits: a call without effect is not a payment.
        if intent.redeem.is_some()
            && let Some(Simulated::Executed { operations, .. }) = trials.last()
            && let Some(logs) = operations.first().and_then(|trial| trial.logs.as_ref())
            && burned(logs, examined.plan, examined.presented.account) < examined.need
        {
            return Err(Code::InvalidUserOperation.because("redeem: it burns fewer credits than asked").into());
        }
        Ok(())
    }
}

/// Returns whether as many transactions as a step may cost were sent without any effect on the chain.
pub(super) fn has_reverted(step: &Step) -> bool {
    step.state == StepState::Unaccounted && step.parcels.len() >= MAX_REVERTS
}

fn judge(name: &str, trial: &Simulated) -> Result<(), Refusal> {
    match trial {
        // The nonce was the next one when it was read: another operation of the key has landed since.
        Simulated::Refused(why) if why.is_nonce() => Err(Fault::unreachable("the chain", why).into()),
        Simulated::Refused(why) if why.code() == Some("AA22") => {
            Err(Code::ExpiredSessionKey.because(format!("{name}: {why}")).into())
        }
        Simulated::Refused(why) => Err(Code::InvalidUserOperation.because(format!("{name}: {why}")).into()),
        Simulated::Executed { operations, .. } => match operations.iter().find(|op| !op.success) {
            None => Ok(()),
            Some(op) => {
                let why = op.revert.as_ref().map_or_else(|| "it reverts".to_owned(), ToString::to_string);
                Err(Code::InvalidUserOperation.because(format!("{name}: {why}")).into())
            }
        },
    }
}

/// Returns whether another payment's redemption takes precedence.
fn comes_first(other: &Payment, own: &PaymentKey, asking: Asking) -> bool {
    match other.steps.last() {
        None => asking == Asking::Verify || other.key < *own,
        // An order in flight adds the credits that it redeems.
        Some(step) if step.name == ORDER => matches!(step.state, StepState::Proven(_)),
        Some(step) => step.name == REDEEM,
    }
}
