//! The step before the transfer of an account that is not deployed yet:
//! [ERC-6492](https://eips.ethereum.org/EIPS/eip-6492).

use alloy_primitives::Address;
use x402_facilitator_core::{NextStep, Observation, OnceKey, Step, StepName, StepProof, TxId};
use x402_types::{AtomicAmount, ChainId, ErrorReason, Fault};

use super::check::Checked;
use super::mechanism::parcel;
use crate::chain::{At, BatchRead, Call, Chain, Sharing};
use crate::wallet::DEPLOY_GAS;

pub(super) const DEPLOY: StepName = StepName::new("deploy");

/// The gas limit of a deployment: the factory's limit in the simulation, 21,000, and the calldata.
const DEPLOYMENT_GAS: u64 = DEPLOY_GAS as u64 + 150_000;

/// Plans the factory's call. Any account may have deployed it already: only the code counts.
pub(super) fn deploy(network: ChainId, checked: &Checked) -> Result<NextStep, Fault> {
    let once_key = deployment_key(network, checked.authorization.from);
    Ok(NextStep::Do { name: DEPLOY, once_key, exclusive: None, parcel: parcel(&call(checked)?) })
}

/// Builds the factory's call with the payer's exact data and no value.
pub(super) fn call(checked: &Checked) -> Result<Call, Fault> {
    let (to, data) = checked.signature.deployment().ok_or_else(|| Fault::broken("an account that nothing deploys"))?;
    let until = Some(checked.authorization.valid_before);
    Ok(Call { to, data: data.clone(), gas: DEPLOYMENT_GAS, since: 0, until, sharing: Sharing::Alone })
}

/// Decides from a final block whether the account is deployed, by any account. From `validBefore` on a deployment
/// is useless.
pub(super) async fn observe(
    chain: &impl Chain,
    step: &Step,
    calls: &[Call],
    sent: &[TxId],
) -> Result<Observation, Fault> {
    let account = account_of(&step.once_key).ok_or_else(|| Fault::broken("a deployment of no account"))?;
    let until = calls.iter().filter_map(|call| call.until).max();
    let until = until.ok_or_else(|| Fault::broken("a deployment without an end"))?;
    let head = chain.head().await?;
    let answers = chain.run(&BatchRead::new().code_size(account), At::Number(head.finalized)).await?;
    match answers.sizes.first() {
        // This is the last transaction of this facilitator; another one may have deployed the account.
        Some(1..) => {
            let tx = sent.last().cloned().unwrap_or_else(|| "".into());
            Ok(Observation::Proven(StepProof::new(tx, AtomicAmount::ZERO)))
        }
        Some(0) if answers.timestamp >= until.0 => Ok(Observation::Dead(ErrorReason::SMART_WALLET_DEPLOYMENT_FAILED)),
        _ => Ok(Observation::Pending),
    }
}

/// Returns (network, account): an address is deployed once. One account has the same address on many networks.
pub(super) fn deployment_key(network: ChainId, account: Address) -> OnceKey {
    OnceKey([network.as_str().as_bytes(), account.as_slice()].concat())
}

fn account_of(once_key: &OnceKey) -> Option<Address> {
    once_key.0.last_chunk::<20>().map(Address::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_once_key_of_a_deployment_names_network_and_account() {
        let account = Address::repeat_byte(1);
        let on = |network: &str| deployment_key(network.parse().unwrap(), account);
        assert_ne!(on("eip155:1"), on("eip155:10"));
        assert_eq!(account_of(&on("eip155:1")), Some(account));
    }
}
