//! Reads everything that the chain knows of a payment in one round trip, and evaluates the results:
//! `scheme_exact_evm.md` §1 "Verification".

use std::sync::OnceLock;

use alloy_primitives::{Address, Bytes, U256};
use x402_types::{ErrorReason, Fault, Refusal, Rejection};

use super::check::{Checked, not_signed};
use crate::chain::{Answers, BatchRead, Returned};
use crate::eip3009::{balance_call, domain_call, name_call, read_domain, state_call, version_call};
use crate::payers::Before;
use crate::signature::Signature;
use crate::token::Domain;
use crate::token_error::TokenRefusal;
use crate::wallet::{SignatureQuery, Signer};

/// The gas limit of a transfer that a key has signed. USDC takes 60,000 to 90,000; a call that takes more is not a
/// plain transfer.
pub const TRANSFER_GAS: u64 = 150_000;

/// The gas of a view of the token.
pub(crate) const VIEW_GAS: u32 = 100_000;
/// The gas of the call itself in a simulation: [`TRANSFER_GAS`] without 21,000 and the calldata.
const SIMULATION_GAS: u32 = 120_000;
/// The number of words of `eip712Domain()`'s result that are kept.
const DOMAIN_WORDS: u16 = 20;
/// The seconds that must remain if the account is to be deployed first: two transactions, the second after the first is
/// final.
const DEPLOYMENT_MARGIN: u64 = 30;

/// The transfer in the form in which it is simulated and sent.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) data: Bytes,
    simulation_gas: u32,
    pub(super) transaction_gas: u64,
}

impl Transfer {
    /// Encodes the transfer. A key's signature is passed to the overload with `v, r, s`, which every such token has;
    /// any other is for a contract, by the overload with `bytes signature`, and the contract needs gas of its own. The
    /// choice depends only on the claim, so that the sent call is the simulated one.
    pub(super) fn of(checked: &Checked) -> Self {
        let Checked { authorization, signature, .. } = checked;
        let inner = signature.inner();
        match (signature.of_key(), Signature::from_bytes(inner)) {
            (Ok(()), Ok(signature)) => Self {
                data: authorization.transfer_call(&signature),
                simulation_gas: SIMULATION_GAS,
                transaction_gas: TRANSFER_GAS,
            },
            _ => {
                let call_data = u64::try_from(inner.len()).unwrap_or(u64::MAX).saturating_mul(16);
                Self {
                    data: authorization.transfer_call_with_bytes(inner.clone()),
                    simulation_gas: SIMULATION_GAS.saturating_add(signature.gas()),
                    transaction_gas: TRANSFER_GAS.saturating_add(u64::from(signature.gas())).saturating_add(call_data),
                }
            }
        }
    }
}

/// The inputs of a probe in addition to the payment.
#[derive(Debug, Default)]
pub(super) struct Context<'a> {
    /// The cell for the token's domain once it is read, and the chain id that the domain must have.
    pub(super) unread: Option<(&'a OnceLock<Domain>, u64)>,
    /// The sender of the transaction, which a contract can see as `tx.origin`.
    pub(super) sender: Option<Address>,
    /// The payer's pending payments that come before this one.
    pub(super) under_way: Before,
}

/// A batch read, and the positions of its results.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    checked: &'a Checked,
    context: Context<'a>,
    asked: SignatureQuery,
    under_way: usize,
    transfer: usize,
}

impl<'a> Probe<'a> {
    pub(super) fn new(checked: &'a Checked, context: Context<'a>) -> (BatchRead, Self) {
        let Checked { token, authorization, signature, .. } = checked;
        let mut reads = BatchRead::new()
            .code_size(*token)
            .call(*token, balance_call(authorization.from), VIEW_GAS, 1)
            .call(*token, state_call(authorization.from, authorization.nonce), VIEW_GAS, 1);
        if let Some(sender) = context.sender {
            reads = reads.sent_by(sender);
        }
        if context.unread.is_some() {
            reads = reads.call(*token, name_call(), VIEW_GAS, 5).call(*token, version_call(), VIEW_GAS, 5).call(
                *token,
                domain_call(),
                VIEW_GAS,
                DOMAIN_WORDS,
            );
        }
        let (_, under_way) = reads.places();
        for (contract, view) in context.under_way.views() {
            reads = reads.call(contract, view, VIEW_GAS, 1);
        }
        // The transfer comes after the verification, which deploys an account that does not exist yet; before that the
        // token would have no account to call.
        let (reads, asked) = signature.clone().ask(reads);
        let (_, transfer) = reads.places();
        let call = Transfer::of(checked);
        let reads = reads.call(*token, call.data, call.simulation_gas, 5);
        (reads, Self { checked, context, asked, under_way, transfer })
    }

    /// Sums what the payer's pending authorizations will still take.
    fn taken(&self, states: &[Returned]) -> U256 {
        self.context.under_way.still(states).fold(U256::ZERO, |taken, other| taken.saturating_add(other.value))
    }

    /// Returns `name` and `version` by the token's own methods; by EIP-5267 if one of them is missing.
    fn names(&self, answers: &[Returned], chain_id: u64) -> Option<(String, String)> {
        let [name, version, domain, ..] = answers else { return None };
        match (name.text(), version.text()) {
            (Some(name), Some(version)) => Some((name.to_owned(), version.to_owned())),
            _ if domain.success => read_domain(&domain.data, chain_id, self.checked.token),
            _ => None,
        }
    }

    /// Evaluates the chain's objections to the payment: token, signature, authorization, balance, simulation. Returns
    /// the kind of signer, and the payer's balance.
    pub(super) fn judge(&self, answers: &Answers) -> Result<(Signer, U256), Refusal> {
        let refuse = |reason, why: &str| Err(Rejection::new(reason).because(why).into());
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let ([token_code, ..], [balance, state, names @ ..]) = (&*answers.sizes, &*answers.calls) else {
            return Err(malformed().into());
        };
        let transfer = answers.calls.get(self.transfer).ok_or_else(malformed)?;
        let under_way = answers.calls.get(self.under_way..).ok_or_else(malformed)?;
        if *token_code == 0 {
            return refuse(ErrorReason::ASSET_NOT_DEPLOYED, "no contract at the asset's address");
        }
        let signer = self.asked.verdict(answers)?.signer().map_err(not_signed)?;
        match state.word().map(|word| word.is_zero()) {
            None => return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset has no authorizationState"),
            Some(false) => return refuse(ErrorReason::NONCE_ALREADY_USED, "the authorization is used or cancelled"),
            Some(true) => {}
        }
        if let Some((cell, chain_id)) = self.context.unread {
            let Some((name, version)) = self.names(names, chain_id) else {
                return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset tells no EIP-712 domain");
            };
            if *name != *self.checked.domain.name {
                return refuse(ErrorReason::TOKEN_NAME_MISMATCH, "extra.name is not the token's");
            }
            if *version != *self.checked.domain.version {
                return refuse(ErrorReason::TOKEN_VERSION_MISMATCH, "extra.version is not the token's");
            }
            // Another call may have set the same value first.
            let _ = cell.set(self.checked.domain.clone());
        }
        let Some(balance) = balance.word() else {
            return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset has no balanceOf");
        };
        let authorization = &self.checked.authorization;
        if balance < authorization.value.value() {
            return refuse(ErrorReason::INSUFFICIENT_FUNDS, "the balance does not cover the amount");
        }
        if balance < authorization.value.value().saturating_add(self.taken(under_way)) {
            let why = "the balance does not cover the amount beside the payer's payments that are under way";
            return refuse(ErrorReason::INSUFFICIENT_FUNDS, why);
        }
        if !transfer.success {
            // "5. Simulate": here FiatToken refuses for reasons that no view reveals, such as a blocklisted party or a
            // pause.
            let refusal = TokenRefusal::read(transfer, authorization.nonce);
            let reason = refusal.text.as_str();
            if let Some(code) = refusal.reason {
                return refuse(code, reason);
            }
            if answers.timestamp <= authorization.valid_after.0 {
                return refuse(ErrorReason::INVALID_VALID_AFTER, reason);
            }
            if answers.timestamp >= authorization.valid_before.0 {
                return refuse(ErrorReason::INVALID_VALID_BEFORE, reason);
            }
            return refuse(ErrorReason::TRANSACTION_SIMULATION_FAILED, reason);
        }
        let ends = authorization.valid_before.0;
        if signer == Signer::Undeployed && answers.timestamp.saturating_add(DEPLOYMENT_MARGIN) > ends {
            return refuse(ErrorReason::INVALID_VALID_BEFORE, "too little time to deploy the payer's account first");
        }
        Ok((signer, balance))
    }
}
