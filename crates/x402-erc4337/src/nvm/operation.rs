//! The operations of a payment: built for a session key, signed by the facilitator's session signer, each alone in a
//! bundle that the payer of the gas sends.
//!
//! "Operation fees and preVerificationGas 0, beneficiary = payer: fee bumps touch only the outer transaction, and the
//! hash stays."

use alloy_primitives::{Address, B256, U256};
use x402_evm::key::Sign;
use x402_facilitator_core::{LaneId, OnceKey, Parcel};
use x402_types::nvm::Operation;
use x402_types::{ChainId, EvmAddress, Fault, PaymentKey, UnixSeconds};

use super::account::{KeyOnChain, nonce_key};
use super::keys::Key;
use crate::session::zerodev::user_op_signature;
use crate::{Bundle, Call, EntryPoint, Gas, Init, KernelMode, NonceKey, OperationBuilder, PackedUserOperation};

/// The gas of validation if nothing is deployed or enabled.
const VERIFICATION_GAS: u128 = 500_000;
/// The gas of validation that deploys the account or enables the key.
const FIRST_VERIFICATION_GAS: u128 = 2_500_000;
/// The maximum number of one key's operations in parallel.
const CHANNELS: u8 = 32;

/// An operation to be built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) key: &'a Key,
    pub(super) state: KeyOnChain,
    pub(super) channel: u16,
    pub(super) calls: &'a [Call],
    pub(super) call_gas: u64,
    /// Whether the account has code, now or after the preceding operation.
    pub(super) deployed: bool,
}

impl Draft<'_> {
    /// Builds and signs the operation, for this payer of the gas.
    /// # Errors
    /// The signer failed; or the calls cannot be made by an operation, which is impossible with a configured plan.
    pub(super) async fn sign(
        &self,
        signer: &dyn Sign,
        entry_point: &EntryPoint,
        payer: Address,
    ) -> Result<Bundle, Fault> {
        let approval = &self.key.approval;
        let nonce = nonce_key(self.key, self.state.mode, self.channel);
        let builder = OperationBuilder::new(*entry_point, approval.account);
        let builder = builder.init(if self.deployed { Init::None } else { approval.init() });
        let builder = builder.nonce(nonce, self.state.sequence);
        let builder = match self.calls {
            [call] => builder.call(call),
            calls => builder.batch(calls),
        };
        let first = !self.deployed || self.state.mode == KernelMode::Enable;
        let gas = Gas {
            call_gas_limit: u128::from(self.call_gas),
            verification_gas_limit: if first { FIRST_VERIFICATION_GAS } else { VERIFICATION_GAS },
            ..Gas::default()
        };
        let ready = builder.map_err(Fault::broken)?.gas(gas).unsponsored().map_err(Fault::broken)?;
        let signature = signer.sign_message(ready.hash().as_slice()).await;
        let signature = signature.map_err(|fault| fault.of_service("the session signer"))?;
        let signature = user_op_signature(&signature.to_bytes());
        let signature = match (self.state.mode, &approval.enable_signature) {
            (KernelMode::Default, _) => signature,
            (KernelMode::Enable, Some(approved)) => self.key.permission.enable_signature(approved, &signature),
            (KernelMode::Enable, None) => return Err(Fault::broken("a key to enable without its owner's approval")),
        };
        Bundle::new(*entry_point, payer, &[ready.signed(signature)]).map_err(Fault::broken)
    }
}

/// Returns the key that lets a bundle's operation happen only once: (network, entry point, sender, nonce key,
/// sequence). EntryPoint, account and key are the same on many networks.
pub(super) fn once_key(network: ChainId, bundle: &Bundle) -> Result<OnceKey, Fault> {
    let op = bundle.operations().first().ok_or_else(|| Fault::broken("a bundle of nothing"))?;
    Ok(slot(network, bundle.entry_point().address, op.sender, op.nonce))
}

pub(super) fn slot(network: ChainId, entry_point: Address, sender: Address, nonce: U256) -> OnceKey {
    let network = network.as_str().as_bytes();
    OnceKey([network, entry_point.as_slice(), sender.as_slice(), &nonce.to_be_bytes::<32>()].concat())
}

/// Builds the parcel: the bundle as a call, identified by the operation's hash. `until` is the last second in which it
/// can happen.
pub(super) fn parcel(bundle: &Bundle, since: u64, until: Option<u64>) -> Result<Parcel, Fault> {
    let hash = bundle.hashes().first().ok_or_else(|| Fault::broken("a bundle of nothing"))?;
    // Kernels accept an operation in the last second, too.
    let until = until.map(|last| UnixSeconds(last).plus(1));
    let call = x402_evm::chain::Call { until, ..bundle.call(since) };
    Ok(Parcel::new(hash.0, call.to_bytes()))
}

/// The only operation of a parcel, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) hash: B256,
    pub(super) op: PackedUserOperation,
    pub(super) since: u64,
    /// The first second in which the operation can no longer happen.
    pub(super) until: Option<UnixSeconds>,
}

impl Carried {
    /// Decodes the operation of a parcel.
    /// # Errors
    /// `Broken`: a parcel of another mechanism.
    pub(super) fn read(parcel: &Parcel) -> Result<Self, Fault> {
        let other = || Fault::broken("a parcel without an operation");
        let call = x402_evm::chain::Call::from_bytes(&parcel.bytes)?;
        let (ops, _) = PackedUserOperation::from_handle_ops(&call.data).ok_or_else(other)?;
        let [op] = <[_; 1]>::try_from(ops).map_err(|_| other())?;
        Ok(Self { hash: parcel.id.into(), op, since: call.since, until: call.until })
    }

    pub(super) fn nonce(&self) -> (NonceKey, u64) {
        NonceKey::split(self.op.nonce)
    }
}

/// Returns the nonce channel of a payment's operations: the same for every attempt of one payment, evenly distributed
/// over many; the channels of orders and redemptions differ, so that one key may serve both.
pub(super) fn channel(key: &PaymentKey, operation: Operation) -> u16 {
    let [first, ..] = alloy_primitives::keccak256(key.as_bytes()).0;
    let pair = u16::from(first.checked_rem(CHANNELS).unwrap_or_default());
    match operation {
        Operation::Order => pair.saturating_mul(2),
        Operation::Redeem => pair.saturating_mul(2).saturating_add(1),
    }
}

/// Returns the account that pays for gas on a lane.
/// # Errors
/// `Broken`: a lane whose account is not an address.
pub(super) fn payer(lane: &LaneId) -> Result<Address, Fault> {
    let account = lane.account().parse::<EvmAddress>().and_then(Address::try_from);
    account.map_err(|_| Fault::broken(format_args!("the lane {lane} is no account's")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that the network is part of the key, since EntryPoint 0.7, an account of Kernel and its first nonce are
    /// the same everywhere.
    #[test]
    fn an_operation_on_one_network_takes_no_slot_of_another() {
        let on = |network: &str| {
            slot(network.parse().unwrap(), Address::repeat_byte(1), Address::repeat_byte(2), U256::ZERO)
        };
        assert_ne!(on("eip155:8453"), on("eip155:84532"));
        assert_eq!(on("eip155:8453"), on("eip155:8453"));
    }
}
