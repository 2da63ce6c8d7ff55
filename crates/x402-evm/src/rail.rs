//! Carries parcels by an externally owned account: [EIP-1559](https://eips.ethereum.org/EIPS/eip-1559) transactions,
//! one call each, or many by [batching](crate::batching).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, Bytes, U256, hex, keccak256};
use async_trait::async_trait;
use x402_facilitator_core::{Attempt, Delivery, LaneId, Nonces, Parcel, Rail, SlotId};
use x402_types::{ErrorReason, EvmAddress, Fault, NotTaken, Refusal, Rejection};

use crate::batching::{Batching, MULTICALL3, aggregate, may_share};
use crate::chain::{Call, CallHead, Chain, Head, Relay};
use crate::exact::TRANSFER_GAS;
use crate::key::Sign;
use crate::transaction::{Transaction, fees, split_first};

/// The limits on the cost of a transaction: the price of its gas, and the gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fees {
    /// The maximum price of a unit of gas, in wei, tip included.
    pub cap: u128,
    /// The maximum price of a unit of gas, as a percentage of what a unit costs at present: the newest block's base fee
    /// and the tip of recent blocks. A first bid is at most 200 % of that; replacements end here, however far
    /// [`cap`](Self::cap) is above.
    pub relative_cap: u64,
    /// The minimum tip for a unit of gas, in wei, if recent blocks were paid less.
    pub least_tip: u128,
    /// The maximum gas limit of a transaction. One that needs more is not signed.
    pub gas_cap: u64,
    /// The percentage that is added to an estimated [surcharge](crate::chain::EstimateSurcharge), which may rise before
    /// the transaction is in a block. Unused gas is not paid for.
    pub surcharge_margin: u64,
}

impl Default for Fees {
    /// Returns a maximum of 100 gwei and of ten times the present price, a minimum tip of 0.001 gwei, a gas limit of at most 2^24 (the most that
    /// [EIP-7825](https://eips.ethereum.org/EIPS/eip-7825) allows), and a margin of 50 %.
    fn default() -> Self {
        Self { cap: 100_000_000_000, relative_cap: 1_000, least_tip: 1_000_000, gas_cap: 1 << 24, surcharge_margin: 50 }
    }
}

impl Fees {
    /// Sets the maximum price of a unit of gas, in wei.
    #[must_use]
    pub const fn with_cap(mut self, wei: u128) -> Self {
        self.cap = wei;
        self
    }

    /// Sets the maximum price of a unit of gas as a percentage of the present price; less than 200 counts as 200.
    #[must_use]
    pub const fn with_relative_cap(mut self, percent: u64) -> Self {
        self.relative_cap = if percent < LEAST_RELATIVE_CAP { LEAST_RELATIVE_CAP } else { percent };
        self
    }

    /// Sets the minimum tip for a unit of gas, in wei.
    #[must_use]
    pub const fn with_least_tip(mut self, wei: u128) -> Self {
        self.least_tip = wei;
        self
    }

    /// Sets the maximum gas limit of a transaction.
    #[must_use]
    pub const fn with_gas_cap(mut self, gas: u64) -> Self {
        self.gas_cap = gas;
        self
    }

    /// Sets the percentage that is added to an estimated surcharge.
    #[must_use]
    pub const fn with_surcharge_margin(mut self, percent: u64) -> Self {
        self.surcharge_margin = percent;
        self
    }

    /// Returns the maximum price of a unit of gas at this head, by both caps.
    fn most_per_gas(&self, head: &Head) -> u128 {
        let present = head.base_fee.saturating_add(head.tip.max(self.least_tip));
        let percent = u128::from(self.relative_cap.max(LEAST_RELATIVE_CAP));
        self.cap.min(present.saturating_mul(percent).div_ceil(100))
    }

    /// Returns the gas limit of a transaction that needs this gas, and this surcharge by an estimate.
    const fn gas_limit(&self, gas: u64, surcharge: u64) -> u64 {
        let margin = surcharge.saturating_mul(self.surcharge_margin).div_ceil(100);
        gas.saturating_add(surcharge).saturating_add(margin)
    }

    /// Returns the same, if it is within the maximum.
    fn within_cap(&self, gas: u64, surcharge: u64) -> Result<u64, AboveCap> {
        let needed = self.gas_limit(gas, surcharge);
        if needed > self.gas_cap { Err(AboveCap { needed, cap: self.gas_cap }) } else { Ok(needed) }
    }
}

/// The error for a transaction that needs more gas than is spent on one.
#[derive(Debug, thiserror::Error)]
#[error("a transaction needs {needed} gas of {cap}")]
struct AboveCap {
    needed: u64,
    cap: u64,
}

/// An account that carries calls, numbered by its nonce. Its lane is `network/address`, lower case.
pub struct EoaRail<C, S> {
    chain: Arc<C>,
    signer: S,
    lane: LaneId,
    chain_id: u64,
    fees: Fees,
    batching: Option<Batching>,
    /// The account's balance, and the block, when a node last refused one of its transactions for lack of gas funds.
    refused: Mutex<Option<(U256, u64)>>,
}

/// The minimum of [`Fees::relative_cap`]: what a first bid may be.
const LEAST_RELATIVE_CAP: u64 = 200;
/// The gas of a transaction that only uses up a nonce.
const EMPTY_GAS: u64 = 21_000;
/// The number of blocks for which a node's refusal for lack of funds overrides a sufficient balance: nodes also count
/// the pending transactions in their pool.
const REFUSED_BLOCKS: u64 = 30;

impl<C, S: Sign> core::fmt::Debug for EoaRail<C, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EoaRail").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl<C: Chain, S: Sign> EoaRail<C, S> {
    /// Creates a rail of that signer's account.
    ///
    /// # Errors
    /// The chain's network is not `eip155`.
    pub fn new(chain: Arc<C>, signer: S) -> Result<Self, Fault> {
        let network = chain.network();
        let chain_id = network.evm_chain().map_err(Fault::broken)?;
        let account = EvmAddress::from(signer.address()).as_str().to_ascii_lowercase();
        chain.watch_funds(signer.address());
        let lane = LaneId::new(network, &account);
        Ok(Self { lane, chain, signer, chain_id, fees: Fees::default(), batching: None, refused: Mutex::default() })
    }

    /// Sets other limits on fees.
    #[must_use]
    pub const fn with_fees(mut self, fees: Fees) -> Self {
        self.fees = fees;
        self
    }

    /// Lets calls that may be shared share transactions; without this each call has a transaction of its own. The chain
    /// must have [`MULTICALL3`].
    #[must_use]
    pub const fn with_batching(mut self, batching: Batching) -> Self {
        self.batching = Some(batching);
        self
    }

    /// Returns the signer's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Returns the lane of this account.
    #[must_use]
    pub const fn lane(&self) -> &LaneId {
        &self.lane
    }

    /// Returns the maximum price of a unit of gas at this head, and the tip in it.
    fn price(&self, head: &Head) -> (u128, u128) {
        let most = self.fees.most_per_gas(head);
        let tip = head.tip.max(self.fees.least_tip).min(most);
        (head.base_fee.saturating_mul(2).saturating_add(tip).min(most), tip)
    }

    /// Returns the most wei that these parcels cost at the present price, each in a transaction of its own at its first bid;
    /// those of a simple payment if there are none. `None` before the first poll: the price is unknown.
    #[must_use]
    pub fn quote(&self, parcels: &[Parcel]) -> Option<u128> {
        let price = self.price(&self.chain.funds(self.address())?.head).0;
        let surcharge = self.chain.last_surcharge();
        let heads = parcels.iter().filter_map(|parcel| CallHead::read(&parcel.bytes));
        let gas = heads.map(|(call, _)| self.fees.gas_limit(call.gas, surcharge)).fold(0, u64::saturating_add);
        let gas = if gas == 0 { self.fees.gas_limit(TRANSFER_GAS, surcharge) } else { gas };
        Some(price.saturating_mul(u128::from(gas)))
    }

    fn refused(&self) -> MutexGuard<'_, Option<(U256, u64)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_gas(&self, detail: impl core::fmt::Display) -> Fault {
        let detail = format!("{} on {}: {detail}", self.address(), self.chain.network());
        Fault::NotTaken { service: "the network", why: NotTaken::NoGasFunds, detail: detail.into() }
    }

    /// Returns the gas limit of a batch of these calls. The surcharge of each is taken to be the last one that was estimated,
    /// of whatever transaction: the signature estimates that of the batch itself, and refuses what is above the cap.
    fn batch_gas(&self, batching: &Batching, aboard: &[CallHead], next: &CallHead) -> Option<u64> {
        let members = u64::try_from(aboard.len()).ok()?.checked_add(1)?;
        let surcharge = self.chain.last_surcharge().saturating_mul(members);
        let gas = batching.gas(aboard.iter().chain([next]).map(|call| call.gas));
        Some(self.fees.gas_limit(gas, surcharge))
    }

    /// Returns the maximum gas limit of a batch; 0 as long as the head is not known.
    fn most_batch_gas(&self, batching: &Batching) -> u64 {
        let Some(funds) = self.chain.funds(self.address()) else { return 0 };
        let price = U256::from(self.price(&funds.head).0.max(1));
        let paid = funds.balance.checked_div(price).and_then(|gas| u64::try_from(gas).ok()).unwrap_or(u64::MAX);
        self.fees.gas_cap.min(batching.most_gas(funds.head.gas_limit)).min(paid)
    }

    /// Computes the bid: the base fee may double, plus a tip. A replacement bids both at least an eighth more than its
    /// predecessor, the minimum that nodes accept; 1/7 is slightly more.
    async fn bid(&self, replaces: Option<&Attempt>) -> Result<(u128, u128), Fault> {
        let head = self.chain.head().await?;
        let (max, tip) = self.price(&head);
        let Some(old) = replaces else { return Ok((max, tip)) };
        let (old_max, old_tip) = fees(&old.bytes)
            .map_err(|why| Fault::broken(format_args!("a stored transaction cannot be read: {why}")))?;
        let more = |fee: u128| fee.saturating_add(fee.div_ceil(7)).saturating_add(1);
        let (max, tip) = (max.max(more(old_max)), tip.max(more(old_tip)));
        let most = self.fees.most_per_gas(&head);
        if max > most {
            let why = format_args!("the fee cap leaves no room for a replacement: it needs {max} wei of {most}");
            return Err(Fault::unreachable("the rail", why));
        }
        Ok((max, tip.min(max)))
    }
}

#[async_trait]
impl<C: Chain, S: Sign> Rail for EoaRail<C, S> {
    fn lanes(&self) -> Vec<LaneId> {
        vec![self.lane.clone()]
    }

    /// Returns whether a call fits beside others: all of them may be shared, see [`Sharing`](crate::chain::Sharing), and the gas limit of
    /// all is within [`Fees::gas_cap`], the block's share and the account's balance. Before the first poll nothing is
    /// shared.
    fn fits(&self, aboard: &[&Parcel], next: &Parcel) -> bool {
        if aboard.is_empty() {
            return true;
        }
        let Some(batching) = self.batching.filter(|batching| aboard.len() < batching.most) else { return false };
        let head = |parcel: &Parcel| CallHead::read(&parcel.bytes).map(|(head, _)| head);
        let Some(next) = head(next) else { return false };
        let Some(aboard) = aboard.iter().map(|parcel| head(parcel)).collect::<Option<Vec<_>>>() else { return false };
        may_share(&aboard, &next)
            && self.batch_gas(&batching, &aboard, &next).is_some_and(|gas| gas <= self.most_batch_gas(&batching))
    }

    fn most_aboard(&self) -> usize {
        self.batching.map_or(1, |batching| batching.most)
    }

    /// Checks the gas limit against [`Fees::gas_cap`], as a signature does: one that the call alone exceeds is never signed;
    /// one that it exceeds with the last estimated surcharge is not signed at present.
    fn check_parcel(&self, parcel: &Parcel) -> Result<(), Refusal> {
        let Some((call, _)) = CallHead::read(&parcel.bytes) else { return Ok(()) };
        self.fees.within_cap(call.gas, 0).map_err(|why| {
            Rejection::new(ErrorReason::GAS_ABOVE_LIMIT).because(format!("{}: {why}", self.chain.network()))
        })?;
        let now = self.fees.within_cap(call.gas, self.chain.last_surcharge());
        now.map(drop).map_err(|why| Fault::unreachable("the rail", why).into())
    }

    async fn nonces(&self, _lane: &LaneId) -> Result<Option<Nonces>, Fault> {
        let nonces = self.chain.account_nonces(self.signer.address()).await?;
        Ok(Some(Nonces { head: nonces.head, finalized: nonces.finalized }))
    }

    async fn sign(&self, slot: &SlotId, load: &[Parcel], replaces: Option<&Attempt>) -> Result<Attempt, Fault> {
        let relay = if let [parcel] = load { Relay::read(&parcel.bytes) } else { None };
        let (to, gas, input) = match load {
            // The relayed transaction travels beside one that only uses up the nonce.
            [_] if relay.is_some() => (self.signer.address(), EMPTY_GAS, Bytes::new()),
            // This transaction only uses up the nonce.
            [] => (self.signer.address(), EMPTY_GAS, Bytes::new()),
            [parcel] => {
                let call = Call::from_bytes(&parcel.bytes)?;
                (call.to, call.gas, call.data)
            }
            parcels => {
                let Some(batching) = self.batching else {
                    return Err(Fault::broken("more than one parcel in a transaction"));
                };
                let calls =
                    parcels.iter().map(|parcel| Call::from_bytes(&parcel.bytes)).collect::<Result<Vec<_>, _>>()?;
                (MULTICALL3, batching.gas(calls.iter().map(|call| call.gas)), aggregate(&calls))
            }
        };
        let (max_fee_per_gas, max_priority_fee_per_gas) = self.bid(replaces).await?;
        let surcharge = self.chain.surcharge(&input).await?;
        let gas_limit = self.fees.within_cap(gas, surcharge).map_err(|why| Fault::unreachable("the rail", why))?;
        let transaction = Transaction {
            chain_id: self.chain_id,
            nonce: slot.nonce,
            max_priority_fee_per_gas,
            max_fee_per_gas,
            gas_limit,
            to,
            input,
        };
        let signature = self.signer.sign(transaction.signing_hash()).await?;
        let mut bytes = transaction.signed(&signature);
        let tx = hex::encode_prefixed(keccak256(&bytes)).into();
        if let Some(relay) = relay {
            bytes.extend_from_slice(&relay.transaction);
        }
        Ok(Attempt::new(tx, bytes, max_fee_per_gas))
    }

    /// Checks the balance. A node accepts a transaction if the account has its gas limit times its fee; the least that
    /// settles a payment is [`TRANSFER_GAS`] and the chain's surcharge.
    fn funded(&self, _lane: &LaneId) -> Result<(), Fault> {
        let Some(funds) = self.chain.funds(self.address()) else { return Ok(()) };
        let gas = self.fees.gas_limit(TRANSFER_GAS, self.chain.last_surcharge());
        let needed = U256::from(self.price(&funds.head).0).saturating_mul(U256::from(gas));
        if funds.balance < needed {
            return Err(self.no_gas(format_args!("it has {} wei, and a transaction needs {needed}", funds.balance)));
        }
        match *self.refused() {
            Some((balance, block))
                if funds.balance <= balance && funds.head.number < block.saturating_add(REFUSED_BLOCKS) =>
            {
                Err(self.no_gas(format_args!("the node refused a transaction at a balance of {balance} wei")))
            }
            _ => Ok(()),
        }
    }

    /// Sends the attempt. A relayed transaction after its own goes first; whether a node takes it does not
    /// matter for this account, and its step is observed whatever the node answers.
    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        let (own, relayed) = split_first(&attempt.bytes)
            .map_err(|why| Fault::broken(format_args!("a stored transaction cannot be read: {why}")))?;
        if !relayed.is_empty() {
            let _ = self.chain.send_transaction(relayed).await;
        }
        match self.chain.send_transaction(own).await {
            Ok(()) => {
                *self.refused() = None;
                Ok(Delivery::Taken)
            }
            Err(Fault::NotTaken { why: NotTaken::NoGasFunds, detail, .. }) => {
                let funds = self.chain.funds(self.address());
                *self.refused() = funds.map(|funds| (funds.balance, funds.head.number));
                Err(self.no_gas(detail))
            }
            Err(fault) => Err(fault),
        }
    }
}
