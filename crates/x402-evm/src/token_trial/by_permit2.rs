//! The trial of a token of which only Permit2 moves the money: the account allows it, and Permit2 calls `transferFrom`.
//!
//! Neither Permit2 nor a proxy has to be on the chain: the calls are made in Permit2's name, with the token's own code.

use alloy_primitives::{Address, Bytes, U256};
use x402_types::Fault;

use super::simulation::{Call, Overrides, StateDiff};
use super::{GAS, PAYEE, Trial, VALUE, VIEW_GAS, arrived};
use crate::chain::{BatchRead, RpcChain};
use crate::eip3009::balance_call;
use crate::permit2::{PERMIT2, approve_call, transfer_from_call};
use crate::token::Token;

impl RpcChain {
    /// Tries the transfer that Permit2 makes of the token, for `account`, which needs no tokens and signs nothing.
    /// # Errors
    /// None today: a failure of the node is [`Trial::Untried`].
    pub async fn try_by_permit2(&self, token: &Token, account: Address) -> Result<Trial, Fault> {
        self.untried(self.attempt_by_permit2(token.address, account).await).await
    }

    async fn attempt_by_permit2(&self, token: Address, account: Address) -> Result<Trial, Fault> {
        let Some(slot) = self.balance_slot(token, account).await? else {
            return Ok(Trial::Untried("the place of its balances is not known".to_owned()));
        };
        let overrides = Overrides::from([(token, StateDiff::balance(slot))]);
        let value = U256::from(VALUE);
        let calls =
            Calls { approval: approve_call(PERMIT2, value), transfer: transfer_from_call(account, PAYEE, value) };
        match self.permit2_by_simulation(token, account, calls.clone(), overrides.clone()).await {
            Err(Fault::Unreachable { .. }) => self.permit2_by_call(token, account, calls, overrides).await,
            ended => ended,
        }
    }

    async fn permit2_by_simulation(
        &self,
        token: Address,
        account: Address,
        calls: Calls,
        overrides: Overrides,
    ) -> Result<Trial, Fault> {
        let call = |from, data| Call { from: Some(from), to: Some(token), data };
        let calls = [call(account, calls.approval), call(PERMIT2, calls.transfer)];
        // A token that grants Permit2 an allowance of its own may refuse the approval: the transfer decides.
        let [_, transfer] = self.simulate(calls, overrides).await?;
        if let Some(untried) = transfer.refused() {
            return Ok(untried);
        }
        Ok(match transfer.judge_transfer(token, account, "a transfer by Permit2") {
            Trial::Good if !is_taken(&transfer.return_data) => not_taken(),
            trial => trial,
        })
    }

    /// Compares the balances before and after, by one `eth_call`: there are no logs.
    async fn permit2_by_call(
        &self,
        token: Address,
        account: Address,
        calls: Calls,
        mut overrides: Overrides,
    ) -> Result<Trial, Fault> {
        let reads = BatchRead::new()
            .call(token, balance_call(PAYEE), VIEW_GAS, 1)
            .call(account, calls.approval, GAS, 0)
            .call(token, calls.transfer, GAS, 5)
            .call(token, balance_call(PAYEE), VIEW_GAS, 1);
        overrides.insert(account, StateDiff::code(forwarder(token)));
        overrides.insert(PERMIT2, StateDiff::code(reads.code()));
        let call = Call { from: None, to: Some(PERMIT2), data: Bytes::new() };
        let returned: Bytes = self.request("eth_call", (call, "latest", overrides)).await?;
        let answers = reads.answers(&returned);
        let answers = answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))?;
        let [before, _, transfer, after] = &*answers.calls else {
            return Err(Fault::unreachable("the node", "another answer"));
        };
        Ok(match arrived(before, transfer, after) {
            Trial::WithoutLogs if !is_taken(&transfer.data) => not_taken(),
            trial => trial,
        })
    }
}

#[derive(Clone)]
struct Calls {
    approval: Bytes,
    transfer: Bytes,
}

/// Returns whether Permit2 takes what `transferFrom` returned: nothing, or `true`.
fn is_taken(returned: &[u8]) -> bool {
    returned.is_empty() || returned.first_chunk::<32>().is_some_and(|word| U256::from_be_bytes(*word) == U256::ONE)
}

fn not_taken() -> Trial {
    Trial::Unfit("transferFrom returns something else than true, which Permit2 refuses".to_owned())
}

/// Generates code that calls the token with the data that it was called with.
fn forwarder(token: Address) -> Bytes {
    // CALLDATASIZE, 0, 0, CALLDATACOPY; CALL(GAS, token, 0, 0, CALLDATASIZE, 0, 0); STOP. Before a call RETURNDATASIZE is 0.
    let before = [0x36, 0x3d, 0x3d, 0x37, 0x3d, 0x3d, 0x36, 0x3d, 0x3d, 0x73];
    [&before[..], token.as_slice(), &[0x5a, 0xf1, 0x00]].concat().into()
}
