//! The facilitator's half of `nvm:erc4337`: its parts.

use std::sync::Arc;

use async_trait::async_trait;
use x402_evm::chain::ReadChain;
use x402_evm::key::Sign;
use x402_evm::unreliable::UnreliablePayers;
use x402_facilitator_core::{LaneId, Ledger, Mechanism, NextStep, Observation, Payment, Step, StepName, TxId, Verdict};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, ChainId, Claim, EvmAddress, Fault, Members, PaymentKey, Refusal, Rejection, SchemeName, UnixSeconds,
    Version,
};

use super::check::Asking;
use super::operation::{parcel, payer};
use super::read::key;
use super::{NvmPolicy, Plans, ReadCredits, ReadSessionKeys};
use crate::{EntryPoint, EntryPointVersion, FindNonces, FindUserOps, SimulateUserOps};

/// The step that buys credits if they do not suffice.
pub const ORDER: StepName = StepName::new("order");
/// The step that redeems the credits of the request.
pub const REDEEM: StepName = StepName::new("redeem");

/// The seconds for which a row is kept after the last of its keys has expired.
const KEEP: u64 = 3_600;
/// The seconds for which the row of keys without an expiry is kept: ten years.
const LONG: u64 = 315_360_000;

/// Simulates operations and looks them up.
pub trait Operations: SimulateUserOps + FindUserOps + FindNonces {}

impl<T: SimulateUserOps + FindUserOps + FindNonces> Operations for T {}

/// The parts of the mechanism, on one network.
pub struct NvmParts {
    /// The access to the chain.
    pub chain: Arc<dyn ReadChain>,
    /// The EntryPoint, version 0.7, which Kernels use.
    pub operations: Arc<dyn Operations>,
    /// The source of balances.
    pub credits: Arc<dyn ReadCredits>,
    /// The store of keys that payments refer to by their hash.
    pub keys: Arc<dyn ReadSessionKeys>,
    /// The ledger of the settlement machine: pending payments count against the balance.
    pub ledger: Arc<dyn Ledger>,
    /// The plans that are served, with the contracts that session keys may call.
    pub plans: Plans,
    /// The signer of operations. It holds no funds and sends nothing.
    pub session_signer: Arc<dyn Sign>,
    /// The accounts that send the operations and pay for their gas.
    pub lanes: Vec<LaneId>,
    /// The settings that the operator relaxed.
    pub policy: NvmPolicy,
}

/// The mechanism of `nvm:erc4337` on one network.
pub struct NvmMechanism {
    pub(super) network: ChainId,
    pub(super) chain_id: u64,
    pub(super) entry_point: EntryPoint,
    pub(super) chain: Arc<dyn ReadChain>,
    pub(super) operations: Arc<dyn Operations>,
    pub(super) credits: Arc<dyn ReadCredits>,
    pub(super) keys: Arc<dyn ReadSessionKeys>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) plans: Plans,
    pub(super) signer: Arc<dyn Sign>,
    pub(super) lanes: Vec<LaneId>,
    pub(super) policy: NvmPolicy,
    pub(super) unreliable: UnreliablePayers,
}

impl core::fmt::Debug for NvmMechanism {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NvmMechanism")
            .field("network", &self.network)
            .field("session_signer", &self.signer.address())
            .field("plans", &self.plans)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for NvmParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NvmParts").field("plans", &self.plans).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl NvmMechanism {
    /// Creates the mechanism for plans on the chain's network.
    /// # Errors
    /// The network is not `eip155`, or a lane's account is not an address.
    pub fn new(parts: NvmParts) -> Result<Self, Fault> {
        let network = parts.chain.network();
        let chain_id = network.evm_chain().map_err(Fault::broken)?;
        for lane in &parts.lanes {
            payer(lane)?;
        }
        Ok(Self {
            network,
            chain_id,
            entry_point: EntryPoint::canonical(EntryPointVersion::V07, chain_id),
            chain: parts.chain,
            operations: parts.operations,
            credits: parts.credits,
            keys: parts.keys,
            ledger: parts.ledger,
            plans: parts.plans,
            signer: parts.session_signer,
            lanes: parts.lanes,
            policy: parts.policy,
            unreliable: UnreliablePayers::default(),
        })
    }
}

#[async_trait]
impl Mechanism for NvmMechanism {
    /// "`/supported` lists the session signer; the server copies it to `accepts[].extra.sessionSigner`."
    fn kinds(&self) -> Vec<SupportedKind> {
        let mut extra = Members::new();
        extra.insert_text("sessionSigner", EvmAddress::from(self.signer.address()).as_str());
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: SchemeName::NVM_ERC4337,
            network: self.network.into(),
            extra,
            rest: Members::new(),
        }]
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.lanes.clone()
    }

    fn has_nonce_on_chain(&self) -> bool {
        false
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        key(claim)
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        let payer = <[u8; 20]>::try_from(key.payer()?).ok()?;
        Some(EvmAddress::from(alloy_primitives::Address::from(payer)).to_string())
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let own = key(claim)?;
        let examined = self.examine(claim, &own, Asking::Verify, now).await?;
        let account = EvmAddress::from(examined.presented.account);
        let of_payer = |refusal: Refusal| match refusal {
            Refusal::Rejection(rejection) => Refusal::Rejection(rejection.of(account.as_str())),
            fault @ Refusal::Fault(_) => fault,
        };
        self.check_account(&own, examined.presented.account, now).await.map_err(of_payer)?;
        let lane = self.lanes.first().ok_or_else(|| Fault::broken("no account pays the gas"))?;
        let intent = self.intend(&examined, &own, examined.is_short(), payer(lane)?).await.map_err(of_payer)?;
        self.rehearse(&examined, &intent).await.map_err(of_payer)?;
        // "Nonces are kept until the keys' last validUntil."
        let last = examined.last_second().map_or_else(|| now.plus(LONG), UnixSeconds);
        let bundles = intent.order.iter().chain(&intent.redeem);
        let parcels = bundles.map(|bundle| parcel(bundle, 0, None)).collect::<Result<Vec<_>, _>>()?;
        let keep_until = last.max(now).plus(KEEP);
        Ok(Verdict::new(account.to_string(), self.lanes.clone(), keep_until).with_parcels(parcels))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        self.next(payment, now).await
    }

    async fn observe(&self, step: &Step, _sent: &[TxId]) -> Result<Observation, Fault> {
        self.seen(step).await
    }
}
