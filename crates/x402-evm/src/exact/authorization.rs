//! An authorization as the chain shows it: its name among all that can happen once, the logs to look for, and its end.

use alloy_primitives::{Address, B256, hex};
use x402_facilitator_core::{Observation, OnceKey, Step, TxId};
use x402_types::{ChainId, ErrorReason, Fault};

use super::probe::VIEW_GAS;
use crate::chain::{At, BatchRead, Call, Chain, Returned, WatchEvents, Watched, WatchedEvent};
use crate::eip3009::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED, Authorization, state_call};

/// Returns (network, token, payer, nonce), which the token burns. A token may have the same address on many networks.
pub(super) fn once_key(network: ChainId, token: Address, authorization: &Authorization) -> OnceKey {
    let network = network.as_str().as_bytes();
    OnceKey([network, token.as_slice(), authorization.from.as_slice(), authorization.nonce.as_slice()].concat())
}

/// Names the token's logs that show what became of an authorization.
pub(super) fn watched(token: Address, authorization: &Authorization, since: u64) -> Watched {
    let Authorization { from, to, value, nonce, .. } = authorization;
    let event = |name| WatchedEvent { contract: token, topics: [name, from.into_word(), *nonce] };
    Watched::new(event(AUTHORIZATION_USED), WatchedEvent::transfer(token, *from, *to), value.value(), since)
        .with_cancellation(event(AUTHORIZATION_CANCELED))
}

/// Reads the logs of a transfer again from the beginning.
pub(super) fn look_again(chain: &(impl WatchEvents + ?Sized), unaccounted: Option<&Step>) {
    let calls =
        unaccounted.into_iter().flat_map(|step| &step.parcels).filter_map(|it| Call::from_bytes(&it.bytes).ok());
    let calls: Vec<Call> = calls.collect();
    let (Some(first), Some(since)) = (calls.first(), calls.iter().map(|call| call.since).min()) else { return };
    if let Some(authorization) = Authorization::of_transfer_call(&first.data) {
        chain.look_again(watched(first.to, &authorization, since));
    }
}

/// Decides from ONE final block whether the authorization has expired: by its own time, and the state in it.
pub(super) async fn expiry(
    chain: &impl Chain,
    watched: Watched,
    token: Address,
    authorization: &Authorization,
) -> Result<Observation, Fault> {
    let head = chain.head().await?;
    if head.timestamp < authorization.valid_before.0 {
        return Ok(Observation::Pending);
    }
    let state = state_call(authorization.from, authorization.nonce);
    let reads = BatchRead::new().call(token, state, VIEW_GAS, 1);
    let answers = chain.run(&reads, At::Number(head.finalized)).await?;
    let used = answers.calls.first().and_then(Returned::word).map(|word| !word.is_zero());
    match used {
        // The token requires "now < validBefore", so a block of that exact second is too late.
        Some(false) if answers.timestamp >= authorization.valid_before.0 => {
            Ok(Observation::Dead(ErrorReason::INVALID_VALID_BEFORE))
        }
        // The authorization is used, but no log was seen: a node lags, or a block was replaced after it was read.
        // The log exists.
        Some(true) => {
            chain.look_again(watched);
            Ok(Observation::Pending)
        }
        _ => Ok(Observation::Pending),
    }
}

pub(crate) fn tx_id(hash: B256) -> TxId {
    hex::encode_prefixed(hash).into()
}

#[cfg(test)]
mod tests {
    use x402_types::{AtomicAmount, UnixSeconds};

    use super::*;
    use crate::exact::deployment::deployment_key;

    /// Checks that one token address and one nonce on two networks are two authorizations.
    #[test]
    fn a_transfer_on_one_network_holds_up_none_of_another() {
        let authorization = Authorization {
            from: Address::repeat_byte(1),
            to: Address::repeat_byte(2),
            value: AtomicAmount::ZERO,
            valid_after: UnixSeconds(0),
            valid_before: UnixSeconds(1),
            nonce: B256::repeat_byte(3),
        };
        let on = |network: &str| once_key(network.parse().unwrap(), Address::repeat_byte(4), &authorization);
        assert_ne!(on("eip155:8453"), on("eip155:84532"));
        assert_ne!(deployment_key("eip155:1".parse().unwrap(), authorization.from), on("eip155:1"));
    }
}
