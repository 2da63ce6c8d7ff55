//! Decides an operation's outcome from a single final block: "outcome only from logs by userOpHash, in anyone's
//! transaction".

use core::ops::RangeInclusive;

use alloy_primitives::{Address, B256, U256, hex};
use x402_evm::chain::{At, BatchRead};
use x402_facilitator_core::{Observation, Step, StepProof, StepState};
use x402_types::Fault;
use x402_types::nvm::Code;

use super::Plan;
use super::account::{Installed, installed_call, nonce_call, valid_from_call};
use super::events::{burned, minted};
use super::mechanism::{NvmMechanism, REDEEM};
use super::operation::Carried;
use crate::{Call, KernelMode, Landed};

/// The gas of a view.
const VIEW_GAS: u32 = 100_000;
/// The seconds after a key's expiry until a used nonce without a log is given up: a lagging node shows the log long
/// before that.
const LAG: u64 = 600;

impl NvmMechanism {
    pub(super) async fn seen(&self, step: &Step) -> Result<Observation, Fault> {
        let carried = step.parcels.iter().map(Carried::read).collect::<Result<Vec<_>, _>>()?;
        let none = || Fault::broken("a step without a parcel");
        let since = carried.iter().map(|one| one.since).min().ok_or_else(none)?;
        let hashes: Vec<B256> = carried.iter().map(|one| one.hash).collect();
        let head = self.chain.head().await?;
        let landed = self.operations.find_user_ops(&hashes, since..=head.finalized).await?;
        for (one, landed) in carried.iter().zip(&landed) {
            if let Some(landed) = landed {
                return self.ended(step, one, landed);
            }
        }
        match carried.last() {
            // Every transaction that carried the operation is used, and it did not happen. It may still happen later.
            Some(last) if step.state == StepState::Unaccounted => {
                self.may_still(last, &hashes, since..=head.finalized).await
            }
            _ => Ok(Observation::Pending),
        }
    }

    fn ended(&self, step: &Step, carried: &Carried, landed: &Landed) -> Result<Observation, Fault> {
        let failed = Observation::Dead(Code::SettlementFailed.reason());
        if !landed.executed.success {
            return Ok(failed);
        }
        let account = carried.op.sender;
        let plan = self.plan_called(&carried.op.call_data)?;
        let logs = &landed.executed.logs;
        let amount = if step.name == REDEEM {
            let burned = burned(logs, plan, account);
            // The call did not revert, but burned nothing: the nonce is used, and nothing was redeemed.
            if burned.is_zero() {
                return Ok(failed);
            }
            burned
        } else {
            minted(logs, plan, account)
        };
        let tx = hex::encode_prefixed(landed.transaction).into();
        Ok(Observation::Proven(StepProof::new(tx, amount.into())))
    }

    /// Decides, from the state and the time of one final block, whether an operation that did not land can still land.
    async fn may_still(
        &self,
        carried: &Carried,
        ours: &[B256],
        blocks: RangeInclusive<u64>,
    ) -> Result<Observation, Fault> {
        let sender = carried.op.sender;
        let (key, _) = carried.nonce();
        let validation = key.kernel_validation();
        let reads = BatchRead::new()
            .code_size(sender)
            .view(self.entry_point.address, nonce_call(sender, key), VIEW_GAS, 1)
            .view(sender, installed_call(validation), VIEW_GAS, 2)
            .view(sender, valid_from_call(), VIEW_GAS, 1);
        let answers = self.chain.run(&reads, At::Number(*blocks.end())).await?;
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let ([code], [nonce, config, valid_from]) = (&*answers.sizes, &*answers.calls) else { return Err(malformed()) };
        let next = nonce.word().ok_or_else(malformed)?;
        let used = next > carried.op.nonce;
        let over = carried.until.is_some_and(|until| answers.timestamp >= until.0);
        let long_over = carried.until.is_some_and(|until| answers.timestamp >= until.plus(LAG).0);
        let dead = if used {
            // An operation used the nonce, but the logs contain none of this payment's. A lagging node omits it as
            // well, and replacing an operation that has happened would be a second payment: therefore the node must
            // show another operation.
            match self.operations.find_nonce(sender, carried.op.nonce, blocks).await? {
                Some(user) => !ours.contains(&user),
                None => long_over,
            }
        } else if over {
            true
        } else if *code == 0 {
            false
        } else {
            let installed = Installed::read(config).ok_or_else(malformed)?;
            match key.kernel_mode() {
                // "Another operation enabled the permission (ours then reverts with 0x756688fe for good)."
                Some(KernelMode::Enable) => installed.is_enabled(),
                // The permission was revoked. A permission that is not installed may be enabled in a block that is not
                // final yet.
                Some(KernelMode::Default) => {
                    installed.is_enabled() && valid_from.word().is_some_and(|from| from > U256::from(installed.nonce))
                }
                None => false,
            }
        };
        Ok(if dead { Observation::Dead(Code::SettlementFailed.reason()) } else { Observation::Pending })
    }

    /// Finds the plan whose calls an operation makes: they contain its id.
    fn plan_called(&self, call_data: &[u8]) -> Result<&Plan, Fault> {
        let calls = Call::read(call_data).map_err(Fault::broken)?;
        let id_of = |target: Address, data: &[u8], templates: &mut dyn Iterator<Item = &super::CallTemplate>| {
            templates
                .filter(|template| template.target == target && data.starts_with(template.selector.as_slice()))
                .find_map(|template| {
                    let at = usize::try_from(template.offset(super::Arg::PlanId)?).ok()?.checked_add(4)?;
                    Some(U256::from_be_slice(data.get(at..at.checked_add(32)?)?))
                })
        };
        let plan = self.plans.iter().find(|plan| {
            calls.iter().any(|call| {
                let mut own = plan.calls.order.iter().chain(&plan.calls.redeem);
                id_of(call.target, &call.data, &mut own) == Some(plan.id.value())
            })
        });
        plan.ok_or_else(|| Fault::broken("a parcel that calls no plan"))
    }
}
