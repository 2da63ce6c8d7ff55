//! The step before the settlement where the payer signed an approval: its transaction is sent, and a final block shows the
//! allowance. A crash between the two steps loses nothing, since both are in the payment's row.

use alloy_primitives::{U256, hex};
use x402_facilitator_core::{NextStep, Observation, OnceKey, Parcel, Step, StepName, StepProof};
use x402_types::{ChainId, ErrorReason, Fault, Refusal, Rejection};

use super::PERMIT2;
use super::calls::{allowance_call, approve_call};
use super::check::CheckedPermit;
use super::signed_approval::{INTRINSIC_GAS, SignedApproval};
use crate::chain::{At, BatchRead, Chain, Relay, Returned};
use crate::exact::{VIEW_GAS, tx_id};

/// The most gas of a simulated approval.
const MOST_GAS: u32 = 1_000_000;

/// The name of the step.
pub(super) const APPROVE: StepName = StepName::new("approve");

/// Checks what only the chain knows of a signed approval: that its nonce is the account's next, that a block would take its
/// fee, that the account can pay for it, and that it would give the allowance.
pub(super) async fn check(
    chain: &impl Chain,
    checked: &CheckedPermit,
    approval: &SignedApproval,
) -> Result<(), Refusal> {
    let refuse = |reason, why: String| Err(Rejection::new(reason).because(why).into());
    let account = chain.account(approval.from).await?;
    if account.nonce != approval.nonce {
        let why = format!("the approval has nonce {}, and the account's next is {}", approval.nonce, account.nonce);
        return refuse(ErrorReason::ERC20_APPROVAL_WRONG_NONCE, why);
    }
    let (needed, has) = (approval.most_cost(), account.balance);
    if has < needed {
        let why = format!("the approval may cost {needed} wei, and the payer has {has}");
        return refuse(ErrorReason::ERC20_APPROVAL_UNFUNDED, why);
    }
    // EIP-1559: the next block's base fee is at most an eighth higher.
    let base_fee = chain.head().await?.base_fee;
    let next = base_fee.saturating_add(base_fee.div_ceil(8));
    if approval.max_fee_per_gas < next {
        let why = format!("the approval pays {} wei for gas, and a block takes {next}", approval.max_fee_per_gas);
        return refuse(ErrorReason::ERC20_APPROVAL_UNDERPRICED, why);
    }
    // The batch runs in the payer's place, where a signature cannot be verified: it is a call of its own.
    let (token, owner) = (checked.permit.token, checked.permit.from);
    let gas = approval.gas_limit.saturating_sub(INTRINSIC_GAS).min(u64::from(MOST_GAS));
    let reads = BatchRead::new()
        .call(token, approve_call(PERMIT2, approval.amount), u32::try_from(gas).unwrap_or(MOST_GAS), 1)
        .view(token, allowance_call(owner, PERMIT2), VIEW_GAS, 1)
        .called_by(owner);
    let answers = chain.run(&reads, At::Latest).await?;
    let [approved, allowance] = &*answers.calls else {
        return Err(Fault::unreachable("the node", "an answer of another form").into());
    };
    if !approved.success || allowance.word().is_none_or(|allowance| allowance < checked.amount.value()) {
        let why = "the approval would revert, run out of gas, or give no allowance";
        return refuse(ErrorReason::ERC20_APPROVAL_TX_FAILED, why.to_owned());
    }
    Ok(())
}

/// Plans the step. Its key is the transaction, whichever payment it comes with.
pub(super) fn plan(network: ChainId, checked: &CheckedPermit, approval: &SignedApproval) -> NextStep {
    let relay = Relay {
        token: checked.permit.token,
        owner: checked.permit.from,
        needed: checked.amount.value(),
        until: checked.deadline(),
        transaction: approval.bytes.clone(),
    };
    let hash = approval.hash();
    let once_key = OnceKey(format!("approve:{network}:{}", hex::encode_prefixed(hash)).into_bytes());
    NextStep::Do { name: APPROVE, once_key, exclusive: None, parcel: Parcel::new(hash.0, relay.to_bytes()) }
}

/// Decides the step from ONE final block: by the allowance in it, whichever transaction gave it.
pub(super) async fn observe(chain: &impl Chain, step: &Step) -> Result<Observation, Fault> {
    let parcel = step.parcels.last().ok_or_else(|| Fault::broken("a step without a parcel"))?;
    let relay = Relay::from_bytes(&parcel.bytes)?;
    let head = chain.head().await?;
    let reads = BatchRead::new().view(relay.token, allowance_call(relay.owner, PERMIT2), VIEW_GAS, 1);
    let answers = chain.run(&reads, At::Number(head.finalized)).await?;
    let allowance = answers.calls.first().and_then(Returned::word);
    if allowance.is_some_and(|allowance| allowance >= relay.needed) {
        let proof = StepProof::new(tx_id(parcel.id.into()), U256::ZERO.into());
        return Ok(Observation::Proven(proof));
    }
    // Permit2 requires "now <= deadline".
    if answers.timestamp > relay.until.0 {
        return Ok(Observation::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED));
    }
    let mined = chain.mined_call(parcel.id.into()).await?.filter(|mined| mined.block <= head.finalized);
    // In a final block, and no allowance: it reverted, or the token gave none.
    Ok(if mined.is_some() { Observation::Dead(ErrorReason::ERC20_APPROVAL_TX_FAILED) } else { Observation::Pending })
}
