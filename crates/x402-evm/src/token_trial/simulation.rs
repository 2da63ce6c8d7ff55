//! `eth_simulateV1`: its wire form, and what its logs prove of a transfer.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde::{Deserialize, Serialize};
use x402_types::Fault;

use super::{NONCE, PAYEE, Trial, VALUE};
use crate::chain::{Returned, RpcChain, TRANSFER};
use crate::eip3009::AUTHORIZATION_USED;
use crate::token_error::TokenRefusal;

/// A state override: slots and code of contracts.
pub(super) type Overrides = BTreeMap<Address, StateDiff>;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateDiff {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    state_diff: BTreeMap<B256, B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Bytes>,
}

impl StateDiff {
    /// Sets slots of a contract.
    pub(super) const fn slots(state_diff: BTreeMap<B256, B256>) -> Self {
        Self { state_diff, code: None }
    }

    /// Sets a balance, in its slot, to more than is moved.
    pub(super) fn balance(slot: B256) -> Self {
        Self::slots(BTreeMap::from([(slot, B256::from(U256::from(VALUE.saturating_mul(10))))]))
    }

    /// Puts code at an address.
    pub(super) const fn code(code: Bytes) -> Self {
        Self { state_diff: BTreeMap::new(), code: Some(code) }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Call {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Address>,
    pub(super) data: Bytes,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    block_state_calls: [Block; 1],
    trace_transfers: bool,
    validation: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    state_overrides: Overrides,
    calls: Vec<Call>,
}

#[derive(Debug, Clone, Deserialize)]
struct SimulatedBlock {
    calls: Vec<SimulatedCall>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SimulatedCall {
    status: U64,
    #[serde(default)]
    pub(super) return_data: Bytes,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    error: Option<CallError>,
}

#[derive(Debug, Clone, Deserialize)]
struct CallError {
    #[serde(default)]
    data: Option<Bytes>,
}

#[derive(Debug, Clone, Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl RpcChain {
    /// Simulates calls in one block, each on the state that the previous one left.
    pub(super) async fn simulate<const N: usize>(
        &self,
        calls: [Call; N],
        state_overrides: Overrides,
    ) -> Result<[SimulatedCall; N], Fault> {
        let block = Block { state_overrides, calls: calls.into() };
        let simulation = Simulation { block_state_calls: [block], trace_transfers: false, validation: false };
        let blocks: Vec<SimulatedBlock> = self.request("eth_simulateV1", (simulation, "latest")).await?;
        let calls = blocks.into_iter().next().and_then(|block| block.calls.try_into().ok());
        calls.ok_or_else(|| Fault::unreachable("the node", "a simulation without an answer"))
    }
}

impl SimulatedCall {
    /// Returns whether the transfer is the log directly after the use.
    pub(super) fn transfer_follows(&self, token: Address, account: Address) -> bool {
        let is = |log: &Log, event, word| {
            log.address == token && log.topics.starts_with(&[event, account.into_word(), word])
        };
        self.logs.windows(2).any(|pair| match pair {
            [used, next] => is(used, AUTHORIZATION_USED, NONCE) && is(next, TRANSFER, PAYEE.into_word()),
            _ => false,
        })
    }

    /// Returns why nothing was tried, if the call reverted.
    pub(super) fn refused(&self) -> Option<Trial> {
        if self.status == U64::from(1) {
            return None;
        }
        let data = self.error.as_ref().and_then(|error| error.data.clone()).filter(|data| !data.is_empty());
        let data = data.unwrap_or_else(|| self.return_data.clone());
        Some(Trial::Untried(TokenRefusal::read(&Returned { success: false, data }, NONCE).text))
    }

    /// Judges a transfer by authorization.
    pub(super) fn judge(&self, token: Address, account: Address) -> Trial {
        if let Some(untried) = self.refused() {
            return untried;
        }
        let used = [AUTHORIZATION_USED, account.into_word(), NONCE];
        let uses = self.logs.iter().filter(|log| log.address == token && log.topics == used);
        if uses.count() != 1 {
            return Trial::Unfit(
                "a transfer by authorization emits no AuthorizationUsed(authorizer, nonce)".to_owned(),
            );
        }
        self.judge_transfer(token, account, "a transfer by authorization")
    }

    /// Judges the `Transfer` of a call, which every proof of a payment needs.
    pub(super) fn judge_transfer(&self, token: Address, account: Address, what: &str) -> Trial {
        let to_payee = [TRANSFER, account.into_word(), PAYEE.into_word()];
        let logs = self.logs.iter().filter(|log| log.address == token && log.topics == to_payee);
        let values: Vec<U256> = logs.filter_map(|log| Some(U256::from_be_bytes(*log.data.as_array::<32>()?))).collect();
        match values.as_slice() {
            [] => Trial::Unfit(format!("{what} emits no Transfer(from, to, value)")),
            [value] if *value == U256::from(VALUE) => Trial::Good,
            [value] => Trial::Unfit(format!("of {VALUE} that are signed, {value} arrive")),
            _ => Trial::Unfit(format!("{what} emits several Transfer(from, to, value)")),
        }
    }
}
