//! Reads everything that the chain knows of a payment by Permit2 in one round trip, and evaluates the results:
//! `scheme_exact_evm.md` §2 "Phase 2: Verification Logic".

use alloy_primitives::{Address, B256, U256};
use x402_types::{ErrorReason, Fault, Refusal, Rejection};

use super::PERMIT2;
use super::calls::{allowance_call, nonce_bitmap_call};
use super::check::{CheckedPermit, PermitScheme, not_signed};
use super::errors::ContractError;
use crate::chain::{Answers, BatchRead, Returned};
use crate::eip3009::balance_call;
use crate::exact::VIEW_GAS;
use crate::payers::Before;
use crate::token_error::TokenRefusal;
use crate::wallet::{SignatureQuery, Signer};

/// The gas limit of a settlement whose permit a key has signed. Recorded ones took 82,570 to 123,687, and with a permit
/// of EIP-2612 152,883 at most.
pub(super) const SETTLE_GAS: u64 = 230_000;
/// The gas of the call itself in a simulation: [`SETTLE_GAS`] without 21,000 and the calldata.
const SIMULATION_GAS: u32 = 195_000;

/// The inputs of a probe in addition to the payment.
#[derive(Debug, Default)]
pub(super) struct PermitContext {
    /// The sender of the transaction, which a contract can see as `tx.origin`.
    pub(super) sender: Option<Address>,
    /// The payer's pending payments in the token that come before this one.
    pub(super) under_way: Before,
}

/// A batch read, and the positions of its results.
#[derive(Debug)]
pub(super) struct PermitProbe<'a> {
    checked: &'a CheckedPermit,
    context: PermitContext,
    asked: SignatureQuery,
    /// The position of the simulated settlement, between two reads of the recipient's balance.
    settle: Option<usize>,
}

/// The chain's verdict on a payment to which it has no objection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) signer: Signer,
    /// The sum that Permit2 can take from the payer.
    pub(super) funds: U256,
    /// Whether the payer's signed approval has to be sent first.
    pub(super) needs_approval: bool,
}

/// The position of the nonces of pending permits among the calls: after balance, allowance, and the own nonce.
const UNDER_WAY: usize = 3;

/// Splits a nonce into the word of Permit2's bitmap, and the bit in it.
pub(crate) fn word_and_mask(nonce: U256) -> (U256, U256) {
    (nonce >> 8, U256::from(1) << (nonce & U256::from(0xff)))
}

/// Returns whether a nonce is used, from its word of the bitmap.
fn is_used(word: U256, nonce: U256) -> bool {
    !(word & word_and_mask(nonce).1).is_zero()
}

/// Returns the gas that a settlement takes beyond that of a key's signature: a contract's verification, and calldata.
fn contract_gas(checked: &CheckedPermit) -> u32 {
    if checked.signature.of_key().is_ok() { 0 } else { checked.signature.gas() }
}

/// Returns the gas limit of the transaction that settles a payment.
pub(super) fn transaction_gas(checked: &CheckedPermit) -> u64 {
    let call_data = u64::try_from(checked.signature.inner().len().saturating_sub(65)).unwrap_or(u64::MAX);
    SETTLE_GAS.saturating_add(u64::from(contract_gas(checked))).saturating_add(call_data.saturating_mul(16))
}

impl<'a> PermitProbe<'a> {
    pub(super) fn new(scheme: PermitScheme, checked: &'a CheckedPermit, context: PermitContext) -> (BatchRead, Self) {
        let CheckedPermit { permit, amount, signature, .. } = checked;
        let bitmap = |nonce: U256| nonce_bitmap_call(permit.from, word_and_mask(nonce).0);
        let mut reads = BatchRead::new()
            .code_size(permit.token)
            .code_size(PERMIT2)
            .code_size(scheme.proxy())
            .call(permit.token, balance_call(permit.from), VIEW_GAS, 1)
            .call(permit.token, allowance_call(permit.from, PERMIT2), VIEW_GAS, 1)
            .call(PERMIT2, bitmap(permit.nonce), VIEW_GAS, 1);
        if let Some(sender) = context.sender {
            reads = reads.sent_by(sender);
        }
        for (contract, view) in context.under_way.views() {
            reads = reads.call(contract, view, VIEW_GAS, 1);
        }
        let (mut reads, asked) = signature.clone().ask(reads);
        let mut settle = None;
        if !amount.is_zero() {
            let balance = balance_call(permit.witness.to);
            reads = reads.call(permit.token, balance.clone(), VIEW_GAS, 1);
            settle = Some(reads.places().1);
            let gas = SIMULATION_GAS.saturating_add(contract_gas(checked));
            reads = reads.call(scheme.proxy(), checked.call().call(), gas, 5).call(permit.token, balance, VIEW_GAS, 1);
        }
        // The proxy of `upto` accepts a call only from the account that the payer named.
        if let Some(facilitator) = permit.witness.facilitator {
            reads = reads.called_by(facilitator);
        }
        (reads, Self { checked, context, asked, settle })
    }

    /// Sums what the payer's pending payments will still take from the balance, and from the allowance of Permit2.
    fn taken(&self, words: &[Returned]) -> (U256, U256) {
        let (mut balance, mut allowance) = (U256::ZERO, U256::ZERO);
        for other in self.context.under_way.still(words) {
            balance = balance.saturating_add(other.value);
            allowance = if other.by_permit { allowance.saturating_add(other.value) } else { allowance };
        }
        (balance, allowance)
    }

    /// Evaluates the chain's objections to the payment: contracts, signature, nonce, balance, allowance, simulation.
    pub(super) fn judge(&self, answers: &Answers) -> Result<Judged, Refusal> {
        let refuse = |reason, why: &str| Err(Rejection::new(reason).because(why).into());
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let ([token, permit2, proxy, ..], [balance, allowance, bitmap, ..]) = (&*answers.sizes, &*answers.calls) else {
            return Err(malformed().into());
        };
        if *token == 0 {
            return refuse(ErrorReason::ASSET_NOT_DEPLOYED, "no contract at the asset's address");
        }
        // A call of an address without code succeeds, and moves nothing.
        if *permit2 == 0 || *proxy == 0 {
            return refuse(
                ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED,
                "no contract at the address of Permit2 or the proxy",
            );
        }
        let signer = self.asked.verdict(answers)?.signer().map_err(not_signed)?;
        let CheckedPermit { permit, amount, .. } = self.checked;
        match bitmap.word() {
            None => return Err(Fault::unreachable("the node", "Permit2's nonces cannot be read").into()),
            Some(word) if is_used(word, permit.nonce) => {
                return refuse(ErrorReason::PERMIT2_INVALID_NONCE, "the nonce is used or invalidated");
            }
            Some(_) => {}
        }
        let (Some(balance), Some(allowance)) = (balance.word(), allowance.word()) else {
            return refuse(ErrorReason::PERMIT2_SIMULATION_FAILED, "the asset has no balanceOf or no allowance");
        };
        let needed = amount.value();
        if balance < needed {
            return refuse(ErrorReason::INSUFFICIENT_FUNDS, "the balance does not cover the amount");
        }
        let short = || {
            let why = format!("the allowance of Permit2 ({PERMIT2}) is {allowance}, and {needed} are needed");
            Rejection::new(ErrorReason::PERMIT2_ALLOWANCE_REQUIRED).because(why)
        };
        // A permit of the token sets the allowance in the settlement itself, and the simulation shows whether it does.
        let sponsored = self.checked.permit2612.is_some();
        let needs_approval = allowance < needed && !sponsored;
        if needs_approval && self.checked.approval.is_none() {
            return Err(short().into());
        }
        let taken = self.taken(answers.calls.get(UNDER_WAY..).unwrap_or_default());
        if balance < needed.saturating_add(taken.0) {
            let why = "the balance does not cover the amount beside the payer's payments that are under way";
            return refuse(ErrorReason::INSUFFICIENT_FUNDS, why);
        }
        if allowance < needed.saturating_add(taken.1) && !sponsored && !needs_approval {
            let why =
                "the allowance of Permit2 does not cover the amount beside the payer's payments that are under way";
            return refuse(ErrorReason::PERMIT2_ALLOWANCE_REQUIRED, why);
        }
        if needs_approval {
            // The settlement cannot be simulated yet: it is once the approval is on the chain, before it is sent.
            return Ok(Judged { signer, funds: balance, needs_approval });
        }
        match self.judge_simulation(answers) {
            // The proxy goes on without the allowance where the token refuses the permit.
            Err(Refusal::Rejection(why)) if sponsored && allowance < needed => {
                let named = why.reason != ErrorReason::PERMIT2_SIMULATION_FAILED;
                Err(if named { why } else { short() }.into())
            }
            Err(refusal) => Err(refusal),
            Ok(()) if sponsored => Ok(Judged { signer, funds: balance, needs_approval }),
            Ok(()) => Ok(Judged { signer, funds: balance.min(allowance), needs_approval }),
        }
    }

    /// Evaluates the simulated settlement: that it did not revert, and that the recipient got the whole amount.
    fn judge_simulation(&self, answers: &Answers) -> Result<(), Refusal> {
        let Some(at) = self.settle else { return Ok(()) };
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let (before, after) = (at.checked_sub(1), at.checked_add(1));
        let call = |place: Option<usize>| answers.calls.get(place?).ok_or(()).ok();
        let [before, settle, after] = [before, Some(at), after].map(call);
        let settle = settle.ok_or_else(malformed)?;
        let CheckedPermit { permit, amount, .. } = self.checked;
        if !settle.success {
            let refusal = match ContractError::read(&settle.data) {
                Some(error) => Rejection::new(error.reason).because(format!("it would revert with {}", error.name)),
                None => {
                    let TokenRefusal { reason, text } = TokenRefusal::read(settle, B256::from(permit.nonce));
                    Rejection::new(reason.unwrap_or(ErrorReason::PERMIT2_SIMULATION_FAILED)).because(text)
                }
            };
            return Err(refusal.into());
        }
        let (before, after) = (before.and_then(Returned::word), after.and_then(Returned::word));
        let (Some(before), Some(after)) = (before, after) else { return Err(malformed().into()) };
        // A payer who pays to the own account changes no balance.
        if permit.from != permit.witness.to && after.checked_sub(before) != Some(amount.value()) {
            let arrives = after.saturating_sub(before);
            let why = format!("of {amount} that are signed, {arrives} would arrive at the recipient");
            return Err(Rejection::new(ErrorReason::PERMIT2_SIMULATION_FAILED).because(why).into());
        }
        Ok(())
    }
}
