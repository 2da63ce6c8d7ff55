//! Access to a chain for reading and sending: small traits, and one implementation on an alloy `RpcClient`.

#[cfg(feature = "rpc")]
mod agreement;
mod batch_read;
#[cfg(feature = "rpc")]
mod endpoints;
#[cfg(feature = "rpc")]
mod fate;
#[cfg(feature = "rpc")]
mod fee_history;
#[cfg(feature = "rpc")]
mod gas_share;
#[cfg(feature = "rpc")]
mod gather;
#[cfg(feature = "rpc")]
mod log_span;
#[cfg(feature = "rpc")]
mod merged_read;
#[cfg(feature = "rpc")]
mod node_error;
#[cfg(feature = "rpc")]
mod pinned;
#[cfg(feature = "rpc")]
mod polls;
mod receipts;
#[cfg(feature = "facilitator")]
mod relay;
#[cfg(feature = "rpc")]
mod repeat;
#[cfg(feature = "rpc")]
mod rpc;
#[cfg(feature = "rpc")]
mod sends;
#[cfg(feature = "rpc")]
mod shared_reads;
#[cfg(feature = "rpc")]
mod sightings;
#[cfg(feature = "rpc")]
mod surcharge;
mod watched;

pub use batch_read::{Answers, BatchRead, Returned};
#[cfg(feature = "rpc")]
pub use endpoints::endpoints;
#[cfg(feature = "rpc")]
pub use log_span::LogSpan;
#[cfg(feature = "rpc")]
pub use node_error::{NodeError, node_fault};
#[cfg(feature = "rpc")]
pub use pinned::Peculiarity;
pub use receipts::{Mined, MinedCall, ReadCalls, ReadReceipts, TokenTransfer};
#[cfg(feature = "facilitator")]
pub(crate) use relay::Relay;
#[cfg(feature = "rpc")]
pub use repeat::repeating;
#[cfg(feature = "rpc")]
pub use rpc::RpcChain;
#[cfg(feature = "rpc")]
pub use surcharge::estimate_surcharge;
pub use watched::{Fate, Moved, Sighting, StateBit, TRANSFER, Use, WatchEvents, Watched, WatchedEvent};

use core::num::NonZeroU64;

use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use x402_types::{ChainId, Fault, UnixSeconds};

/// The default block range of one log query: 1,000. Most nodes refuse more than 1,000 to 10,000, some accept fewer.
pub const LOG_QUERY_BLOCKS: NonZeroU64 = NonZeroU64::new(1_000).unwrap();

/// The maximum number of queries of a search for the use of an authorization.
pub const SEARCH_CALLS: u32 = 12;

/// The newest known block, and the final part of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The number of the block.
    pub number: u64,
    /// The time of the block, Unix seconds.
    pub timestamp: u64,
    /// The base fee of the block, in wei.
    pub base_fee: u128,
    /// The tip of recent blocks, in wei: the median of what they were paid; what the node suggests if none was paid one.
    pub tip: u128,
    /// The gas limit of the block; 0 if the node does not report it.
    pub gas_limit: u64,
    /// The number of the newest final block: the network's depth below this one.
    pub finalized: u64,
}

/// A block at which to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest block.
    Latest,
    /// The block that has this number on the node's chain now. It is read by its hash, so that a node without it
    /// refuses.
    Number(u64),
}

/// Reads a chain.
#[async_trait]
pub trait ReadChain: Send + Sync {
    /// Returns the network.
    fn network(&self) -> ChainId;

    /// Returns the head as last polled; polls only if that was too long ago.
    /// # Errors
    /// The node failed.
    async fn head(&self) -> Result<Head, Fault>;

    /// Runs a batch of reads and calls on one block: at most one `eth_call`, one round trip, nothing deployed. Batches that
    /// are run on the newest block at about the same time may share the call; none sees the changes of another.
    /// # Errors
    /// The node failed. A call of the batch that reverts is a result, not an error.
    async fn run(&self, reads: &BatchRead, at: At) -> Result<Answers, Fault>;

    /// Runs a batch on the newest block, and reads in the same round trip the contract whose code an account runs: the
    /// target of an [ERC-1967](https://eips.ethereum.org/EIPS/eip-1967) proxy or of a delegation by EIP-7702.
    /// # Errors
    /// The node failed.
    async fn run_with_implementation(
        &self,
        reads: &BatchRead,
        of: Address,
    ) -> Result<(Answers, Option<Address>), Fault>;
}

/// Reads the number of an account's transactions.
#[async_trait]
pub trait ReadNonces: Send + Sync {
    /// Returns the nonces at the head and at finality, as last polled.
    /// # Errors
    /// The node failed.
    async fn account_nonces(&self, account: Address) -> Result<AccountNonces, Fault>;
}

/// The number of an account's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountNonces {
    /// The number in the newest block.
    pub head: u64,
    /// The number in the newest final block.
    pub finalized: u64,
}

/// Reads the state of any account.
#[async_trait]
pub trait ReadAccount: Send + Sync {
    /// Returns the account's state in the newest block.
    /// # Errors
    /// The node failed.
    async fn account(&self, account: Address) -> Result<Account, Fault>;
}

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The number of the account's transactions: the nonce of its next.
    pub nonce: u64,
    /// The balance, in wei.
    pub balance: U256,
}

/// Reads the funds that an account has for gas.
pub trait ReadFunds: Send + Sync {
    /// Includes this account's balance in the polls of the head.
    fn watch_funds(&self, account: Address);

    /// Returns the funds as last polled, without a call. `None` before the first poll, and if the node does not report
    /// them: the balance is unknown, not zero.
    fn funds(&self, account: Address) -> Option<Funds>;
}

/// The funds that an account has for gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// The balance in the newest block, in wei.
    pub balance: U256,
    /// The newest known block, which determines the price of gas.
    pub head: Head,
}

/// Estimates the gas that the chain takes for a transaction before it executes anything, in addition to Ethereum's.
///
/// Rollups of the Arbitrum kind charge the cost of a transaction's data on another chain as gas of the transaction:
/// "gasLimit covers both" ([docs](https://docs.arbitrum.io/how-arbitrum-works/deep-dives/gas-and-fees)). A transaction
/// with a lower limit is refused, or runs out of gas.
#[async_trait]
pub trait EstimateSurcharge: Send + Sync {
    /// Returns the surcharge of a transaction with these calldata. Makes no call on a chain that has none.
    /// # Errors
    /// The node failed.
    async fn surcharge(&self, data: &Bytes) -> Result<u64, Fault>;

    /// Returns the surcharge that was estimated last, without a call; 0 if none was.
    fn last_surcharge(&self) -> u64;
}

/// Sends signed transactions to the chain.
#[async_trait]
pub trait SendTransaction: Send + Sync {
    /// Sends the bytes. A node that has them already, or reports that their nonce is used, is not an error.
    /// # Errors
    /// `NotTaken` if the node gives a reason for its refusal; otherwise the transaction may have been accepted, and the
    /// response lost.
    async fn send_transaction(&self, bytes: &[u8]) -> Result<(), Fault>;
}

/// Reads the gas that authorizations took.
#[async_trait]
pub trait ReadGas: Send + Sync {
    /// Returns the share that the use of an authorization has in its transaction's gas: all uses in the transaction have
    /// the same, and the first of them one unit more each until the shares add up to the gas used. `None` if the node does
    /// not show the transaction, or not with this use.
    /// # Errors
    /// The node failed.
    async fn gas_share(&self, transaction: B256, used: WatchedEvent) -> Result<Option<u64>, Fault>;
}

/// All chain access that a mechanism needs.
pub trait Chain:
    ReadChain + ReadNonces + ReadAccount + ReadFunds + EstimateSurcharge + SendTransaction + WatchEvents + ReadCalls
{
}

impl<T> Chain for T where
    T: ReadChain + ReadNonces + ReadAccount + ReadFunds + EstimateSurcharge + SendTransaction + WatchEvents + ReadCalls
{
}

/// A call to be made by one of this facilitator's transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The contract to call.
    pub to: Address,
    /// The calldata of the call.
    pub data: Bytes,
    /// The gas that a transaction needs to make the call, without the chain's
    /// [surcharge](EstimateSurcharge::surcharge).
    pub gas: u64,
    /// The first block that can contain any event of the call.
    pub since: u64,
    /// The time from which the call is useless; `None` if the call itself enforces its deadline.
    pub until: Option<UnixSeconds>,
    /// Whether the call may share a transaction with others. A call with a deadline never does.
    pub sharing: Sharing,
}

/// Whether a call may share a transaction with others. In a shared transaction another contract makes the call, so a
/// mechanism permits it only for a call
/// - whose effect does not depend on `msg.sender`,
/// - in which no code of the payer runs, which could use up the gas of the others, and
/// - that is proven by events of its own, whatever became of the rest of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// The sending account makes the call itself, and the transaction contains no other.
    #[default]
    Alone,
    /// Any contract may make the call, and the transaction may contain any others that may be shared.
    Shared,
    /// The same as [`Sharing::Shared`], but of the calls of one contract with the same payer a transaction contains one: the events
    /// of two could not be distinguished.
    OncePerPayer(Address),
}

impl Call {
    /// Encodes the call as a parcel's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.data.len().saturating_add(57));
        bytes.push(match (self.until, self.sharing) {
            (Some(_), _) => UNTIL,
            (None, Sharing::Alone) => FORM,
            (None, Sharing::Shared) => SHARED,
            (None, Sharing::OncePerPayer(_)) => ONCE_PER_PAYER,
        });
        bytes.extend_from_slice(self.to.as_slice());
        bytes.extend_from_slice(&self.gas.to_be_bytes());
        bytes.extend_from_slice(&self.since.to_be_bytes());
        match (self.until, self.sharing) {
            (Some(until), _) => bytes.extend_from_slice(&until.0.to_be_bytes()),
            (None, Sharing::OncePerPayer(payer)) => bytes.extend_from_slice(payer.as_slice()),
            (None, Sharing::Alone | Sharing::Shared) => {}
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Decodes the call from a parcel's bytes.
    /// # Errors
    /// `Broken` if the bytes are not those of a call.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let (head, data) = CallHead::read(bytes).ok_or_else(|| Fault::broken("a parcel that holds no call"))?;
        let CallHead { to, gas, since, until, sharing } = head;
        Ok(Self { to, data: data.to_vec().into(), gas, since, until, sharing })
    }
}

/// A call without its calldata, which is read without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallHead {
    pub(crate) to: Address,
    pub(crate) gas: u64,
    since: u64,
    until: Option<UnixSeconds>,
    pub(crate) sharing: Sharing,
}

impl CallHead {
    /// Reads a parcel's bytes; the rest is the calldata.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&form, rest) = bytes.split_first()?;
        let (to, rest) = rest.split_first_chunk::<20>()?;
        let (gas, rest) = rest.split_first_chunk::<8>()?;
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (until, sharing, data) = match form {
            FORM => (None, Sharing::Alone, rest),
            UNTIL => {
                let (until, data) = rest.split_first_chunk::<8>()?;
                (Some(UnixSeconds(u64::from_be_bytes(*until))), Sharing::Alone, data)
            }
            SHARED => (None, Sharing::Shared, rest),
            ONCE_PER_PAYER => {
                let (payer, data) = rest.split_first_chunk::<20>()?;
                (None, Sharing::OncePerPayer(payer.into()), data)
            }
            _ => return None,
        };
        let (gas, since) = (u64::from_be_bytes(*gas), u64::from_be_bytes(*since));
        Some((Self { to: to.into(), gas, since, until, sharing }, data))
    }
}

/// The first byte of an encoded call.
const FORM: u8 = 1;
/// The first byte of an encoded call with a deadline.
const UNTIL: u8 = 2;
/// The first byte of an encoded call that may share a transaction. Releases before batching do not read it; they read all
/// parcels of networks on which batching was never on.
const SHARED: u8 = 3;
/// The first byte of an encoded call of which one for each payer may be in a shared transaction.
const ONCE_PER_PAYER: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_are_object_safe() {
        fn one(_: Option<&dyn Chain>, _: Option<&dyn ReadChain>, _: Option<&dyn SendTransaction>) {}
        one(None, None, None);
    }

    #[test]
    fn a_call_comes_back_from_its_bytes() {
        let call = Call {
            to: Address::repeat_byte(7),
            data: vec![1, 2, 3].into(),
            gas: 150_000,
            since: 9,
            until: None,
            sharing: Sharing::Alone,
        };
        for sharing in [Sharing::Alone, Sharing::Shared, Sharing::OncePerPayer(Address::repeat_byte(8))] {
            let call = Call { sharing, ..call.clone() };
            assert_eq!(Call::from_bytes(&call.to_bytes()), Ok(call));
        }
        assert_eq!(call.to_bytes()[0], 1, "a call that is alone is written as before");
        let ends = Call { until: Some(UnixSeconds(5)), ..call.clone() };
        assert_eq!(Call::from_bytes(&ends.to_bytes()), Ok(ends.clone()));
        for bad in [&[][..], &[2], &[5; 64], &call.to_bytes()[..36], &ends.to_bytes()[..44], &[1; 20], &[4; 56]] {
            assert!(matches!(Call::from_bytes(bad), Err(Fault::Broken { .. })));
        }
    }
}
