//! What is read of a chain and sent to it: small traits, and one implementation on an alloy `RpcClient`.

#[cfg(feature = "rpc")]
mod log_span;
#[cfg(feature = "rpc")]
mod node_error;
#[cfg(feature = "rpc")]
mod pinned;
mod program;
mod receipts;
#[cfg(feature = "rpc")]
mod repeat;
#[cfg(feature = "rpc")]
mod rpc;
#[cfg(feature = "rpc")]
mod sightings;

#[cfg(feature = "rpc")]
pub use log_span::LogSpan;
#[cfg(feature = "rpc")]
pub use node_error::{NodeError, node_fault};
#[cfg(feature = "rpc")]
pub use pinned::Peculiarity;
pub use program::{Answers, Program, Returned};
pub use receipts::{Mined, ReadReceipts, TokenTransfer};
#[cfg(feature = "rpc")]
pub use repeat::repeating;
#[cfg(feature = "rpc")]
pub use rpc::RpcChain;

use core::num::NonZeroU64;

use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use x402_types::{ChainId, Fault, UnixSeconds};

/// How many blocks one query for logs covers unless told: 1,000. Most nodes refuse more than 1,000 to 10,000, some take
/// fewer.
pub const LOG_QUERY_BLOCKS: NonZeroU64 = NonZeroU64::new(1_000).unwrap();

/// How many queries a search for the use of an authorization takes at most.
pub const SEARCH_CALLS: u32 = 12;

/// The newest block that was seen, and how much of the chain is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its time, Unix seconds.
    pub timestamp: u64,
    /// Its base fee, wei.
    pub base_fee: u128,
    /// The tip that the node suggests, wei.
    pub tip: u128,
    /// The number of the newest block that is final: the network's depth below this one.
    pub finalized: u64,
}

/// A block to read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// The one that has this number on the node's chain now: read by its hash, so that a node that lacks it refuses.
    Number(u64),
}

/// Reads a chain.
#[async_trait]
pub trait ReadChain: Send + Sync {
    /// The network.
    fn network(&self) -> ChainId;

    /// The head as last polled; polls only where that was too long ago.
    ///
    /// # Errors
    /// The node.
    async fn head(&self) -> Result<Head, Fault>;

    /// Runs a program of reads and calls on one block: one `eth_call`, one round trip, nothing deployed.
    ///
    /// # Errors
    /// The node. A call of the program that reverts is an answer, not an error.
    async fn run(&self, program: &Program, at: At) -> Result<Answers, Fault>;

    /// The same on the newest block, and in the same round trip the contract whose code an account runs: where an
    /// [ERC-1967](https://eips.ethereum.org/EIPS/eip-1967) proxy or a delegation by EIP-7702 points to.
    ///
    /// # Errors
    /// The node.
    async fn run_with_implementation(
        &self,
        program: &Program,
        of: Address,
    ) -> Result<(Answers, Option<Address>), Fault>;
}

/// Reads the number of an account's transactions.
#[async_trait]
pub trait ReadNonces: Send + Sync {
    /// At the head and at finality, as last polled.
    ///
    /// # Errors
    /// The node.
    async fn account_nonces(&self, account: Address) -> Result<AccountNonces, Fault>;
}

/// The number of an account's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountNonces {
    /// In the newest block.
    pub head: u64,
    /// In a block that is final.
    pub finalized: u64,
}

/// Reads what an account has for gas.
pub trait ReadFunds: Send + Sync {
    /// Has the polls of the head bring what this account has.
    fn watch_funds(&self, account: Address);

    /// As last polled, without a call. `None` before the first poll, and where the node does not say: that is unknown,
    /// not nothing.
    fn funds(&self, account: Address) -> Option<Funds>;
}

/// What an account has for gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// Wei, in the block that was the newest.
    pub balance: U256,
    /// The newest block that was seen, and with it what gas costs.
    pub head: Head,
}

/// Hands a signed transaction to the chain.
#[async_trait]
pub trait SendTransaction: Send + Sync {
    /// Sends the bytes. That the node knows them already, or that their nonce is used, is no error.
    ///
    /// # Errors
    /// `NotTaken` where the node says why it does not take it; else it did not, or did and its answer was lost.
    async fn send_transaction(&self, bytes: &[u8]) -> Result<(), Fault>;
}

/// An EIP-3009 authorization that something is to be seen of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watched {
    /// The token.
    pub token: Address,
    /// Who signed it.
    pub payer: Address,
    /// Its nonce.
    pub nonce: B256,
    /// Who is to be paid.
    pub pay_to: Address,
    /// How much.
    pub value: U256,
    /// The first block that can hold anything of it.
    pub since: u64,
}

/// What final blocks say of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sighting {
    /// Up to this block, which is final.
    pub block: u64,
    /// What was seen.
    pub fate: Fate,
}

/// What was seen of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Unseen,
    /// `AuthorizationUsed`, in this transaction.
    Used {
        /// The transaction, whoever sent it.
        transaction: B256,
        /// Whether it paid `pay_to`.
        moved: Moved,
    },
    /// `AuthorizationCanceled`.
    Canceled,
}

/// What an authorization was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// What was asked: the matching `Transfer` stands right behind the use, or is the transaction's only one where the
    /// use is the payer's only one in it.
    Paid,
    /// Something else: no matching `Transfer` is in the transaction.
    Nothing,
    /// A matching `Transfer` is in the transaction, and it may belong to another use.
    Unclear,
}

/// Watches authorizations in final blocks, many with one query.
#[async_trait]
pub trait WatchAuthorizations: Send + Sync {
    /// Has the next query ask for it, too.
    fn watch(&self, watched: Watched);

    /// What is seen of it up to the newest final block. Asks the node once for all that are watched.
    ///
    /// # Errors
    /// The node.
    async fn sighting(&self, watched: Watched) -> Result<Sighting, Fault>;

    /// Forgets what was seen: the next query begins at `since` again.
    fn look_again(&self, watched: Watched);

    /// What became of an authorization that the newest block has as used, and that nothing of ours used: looked for from
    /// that block backwards, not beyond `since` nor a block of the time `after` or before, with [`SEARCH_CALLS`] queries
    /// at most. Nothing is kept of it.
    ///
    /// # Errors
    /// The node.
    async fn search(&self, watched: Watched, after: UnixSeconds) -> Result<Fate, Fault>;
}

/// Everything that a mechanism reads.
pub trait Chain: ReadChain + ReadNonces + ReadFunds + SendTransaction + WatchAuthorizations {}

impl<T: ReadChain + ReadNonces + ReadFunds + SendTransaction + WatchAuthorizations> Chain for T {}

/// A call to be made by a transaction of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// The call data.
    pub data: Bytes,
    /// The gas limit of a transaction that makes it.
    pub gas: u64,
    /// The first block that can hold anything of it.
    pub since: u64,
    /// The time from which it is of no use; `None` where the call itself says so.
    pub until: Option<UnixSeconds>,
}

impl Call {
    /// The bytes that travel in a parcel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.data.len().saturating_add(45));
        bytes.push(if self.until.is_some() { UNTIL } else { FORM });
        bytes.extend_from_slice(self.to.as_slice());
        bytes.extend_from_slice(&self.gas.to_be_bytes());
        bytes.extend_from_slice(&self.since.to_be_bytes());
        if let Some(until) = self.until {
            bytes.extend_from_slice(&until.0.to_be_bytes());
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Read back from a parcel.
    ///
    /// # Errors
    /// `Broken` where the bytes are not those of a call.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let call = || {
            let (&form, rest) = bytes.split_first()?;
            let (to, rest) = rest.split_first_chunk::<20>()?;
            let (gas, rest) = rest.split_first_chunk::<8>()?;
            let (since, rest) = rest.split_first_chunk::<8>()?;
            let (until, data) = match form {
                FORM => (None, rest),
                UNTIL => rest.split_first_chunk::<8>().map(|(until, rest)| (Some(u64::from_be_bytes(*until)), rest))?,
                _ => return None,
            };
            Some(Self {
                to: to.into(),
                gas: u64::from_be_bytes(*gas),
                since: u64::from_be_bytes(*since),
                until: until.map(UnixSeconds),
                data: data.to_vec().into(),
            })
        };
        call().ok_or_else(|| Fault::broken("a parcel that holds no call"))
    }
}

/// The first byte of a call in a parcel.
const FORM: u8 = 1;
/// That of a call with an end.
const UNTIL: u8 = 2;

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
        let call =
            Call { to: Address::repeat_byte(7), data: vec![1, 2, 3].into(), gas: 150_000, since: 9, until: None };
        assert_eq!(Call::from_bytes(&call.to_bytes()), Ok(call.clone()));
        let ends = Call { until: Some(UnixSeconds(5)), ..call.clone() };
        assert_eq!(Call::from_bytes(&ends.to_bytes()), Ok(ends.clone()));
        for bad in [&[][..], &[2], &[3; 64], &call.to_bytes()[..36], &ends.to_bytes()[..44], &[1; 20]] {
            assert!(matches!(Call::from_bytes(bad), Err(Fault::Broken { .. })));
        }
    }
}
