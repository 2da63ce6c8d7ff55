//! The signs on a chain that an authorization was used: an event of its own, or a bit of state together with the transfer.

use alloy_primitives::{Address, B256, Bytes, U256, b256};
use async_trait::async_trait;
use x402_types::{Fault, UnixSeconds};

#[cfg(doc)]
use super::ReadCalls;

/// `Transfer(address indexed from, address indexed to, uint256 value)` of
/// [ERC-20](https://eips.ethereum.org/EIPS/eip-20).
pub const TRANSFER: B256 = b256!("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// An event as its log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchedEvent {
    /// The contract that emits it.
    pub contract: Address,
    /// The hash of its signature, and its two indexed words.
    pub topics: [B256; 3],
}

/// A bit of a contract's state that the use of an authorization sets, and nothing clears: Permit2's
/// [`nonceBitmap(owner, word)`](https://docs.uniswap.org/contracts/permit2/reference/signature-transfer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateBit {
    /// The contract with the state.
    pub contract: Address,
    /// The selector of the view that returns a word of the state.
    pub selector: [u8; 4],
    /// The arguments of the view.
    pub arguments: [B256; 2],
    /// The bit within the word.
    pub mask: U256,
}

impl StateBit {
    /// Encodes the call of the view.
    #[must_use]
    pub fn call(&self) -> Bytes {
        let [first, second] = &self.arguments;
        [&self.selector[..], first.as_slice(), second.as_slice()].concat().into()
    }

    /// Returns whether the bit is set in a word that the view returned.
    #[must_use]
    pub fn is_set(&self, word: U256) -> bool {
        !(word & self.mask).is_zero()
    }
}

/// The sign that an authorization was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// An event. The first indexed word names the payer and the second the authorization, which distinguishes it from
    /// the payer's other uses.
    Event(WatchedEvent),
    /// A bit of the contract's state, which no event accompanies.
    State(StateBit),
}

/// The observable effects of one authorization: those that show its fate, and the transfer that it must have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Watched {
    /// The effect of its use.
    pub used: Use,
    /// The event after which it can never be used, if the contract emits one.
    pub canceled: Option<WatchedEvent>,
    /// The transfer: [`TRANSFER`] of the token, from the payer to the recipient.
    pub transfer: WatchedEvent,
    /// The expected amount.
    pub value: U256,
    /// The first block that can contain any event of the authorization.
    pub since: u64,
}

impl Watched {
    /// Watches an authorization that emits `used` when it is used, and must make a transfer of `value`.
    #[must_use]
    pub const fn new(used: WatchedEvent, transfer: WatchedEvent, value: U256, since: u64) -> Self {
        Self { used: Use::Event(used), canceled: None, transfer, value, since }
    }

    /// Watches an authorization that sets `used` when it is used, and must make a transfer of `value`. Its fate is
    /// [`Fate::Set`] afterwards.
    #[must_use]
    pub const fn by_state(used: StateBit, transfer: WatchedEvent, value: U256, since: u64) -> Self {
        Self { used: Use::State(used), canceled: None, transfer, value, since }
    }

    /// Sets the event after which the authorization can never be used.
    #[must_use]
    pub const fn with_cancellation(mut self, canceled: WatchedEvent) -> Self {
        self.canceled = Some(canceled);
        self
    }
}

impl WatchedEvent {
    /// Returns the transfer of a token from one account to another.
    #[must_use]
    pub fn transfer(token: Address, from: Address, to: Address) -> Self {
        Self { contract: token, topics: [TRANSFER, from.into_word(), to.into_word()] }
    }
}

/// The state of an authorization in final blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sighting {
    /// The final block up to which logs and state were read.
    pub block: u64,
    /// The fate of the authorization.
    pub fate: Fate,
}

/// The fate of an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it was seen.
    Unseen,
    /// The authorization was used in this transaction.
    Used {
        /// The transaction, whatever its sender.
        transaction: B256,
        /// Whether it made the transfer.
        moved: Moved,
    },
    /// According to the state the authorization was used. The transaction is not known: a payer may have used it for
    /// something else and made such a transfer besides. [`ReadCalls::mined_call`] returns what a candidate called.
    Set {
        /// The transactions that made the expected transfer, in the order of their logs.
        candidates: Vec<B256>,
    },
    /// The authorization can never be used.
    Canceled,
}

/// The transfer that belongs to the use of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The expected transfer: the matching `Transfer` directly follows the use, or is the transaction's only one while
    /// the use is the payer's only one in it.
    Paid,
    /// Another transfer: the transaction contains no matching `Transfer`.
    Nothing,
    /// A matching `Transfer` is in the transaction, but it may belong to another use.
    Unclear,
}

/// Watches the effects of authorizations in final blocks, many with one query.
#[async_trait]
pub trait WatchEvents: Send + Sync {
    /// Adds an authorization whose transaction is planned now to the set included in the next `eth_getLogs`, which is
    /// not before there is a new final block: what was not sent yet is in none that is known.
    fn watch(&self, watched: Watched);

    /// Returns the state up to the newest final block. One query covers all watched authorizations, and so does one read
    /// of the state of those that no event shows.
    /// # Errors
    /// The node failed.
    async fn sighting(&self, watched: Watched) -> Result<Sighting, Fault>;

    /// Discards what was seen: the next query begins at `since` again.
    fn look_again(&self, watched: Watched);

    /// Returns whether the token is known to emit the transfer directly after the use of its authorization: several uses of
    /// one payer in a transaction can be distinguished then.
    fn tells_uses_apart(&self, token: Address) -> bool;

    /// Searches for the use of an authorization that is used in the newest block, though not by a transaction of this
    /// facilitator. The search goes backwards from that block, not before `since` nor the first block later than
    /// `after`, with at most [`SEARCH_CALLS`](super::SEARCH_CALLS) queries. Its result is not kept.
    /// # Errors
    /// The node failed.
    async fn search(&self, watched: Watched, after: UnixSeconds) -> Result<Fate, Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transfer_event_is_erc_20_s() {
        assert_eq!(TRANSFER, alloy_primitives::keccak256("Transfer(address,address,uint256)"));
    }

    #[test]
    fn a_state_bit_is_read_by_a_call_of_its_view() {
        let bit = StateBit {
            contract: Address::repeat_byte(1),
            selector: [0x4f, 0xe0, 0x2b, 0x44],
            arguments: [Address::repeat_byte(2).into_word(), B256::with_last_byte(3)],
            mask: U256::from(0b100),
        };
        let owner = "0000000000000000000000000202020202020202020202020202020202020202";
        let word = "0000000000000000000000000000000000000000000000000000000000000003";
        assert_eq!(alloy_primitives::hex::encode(bit.call()), format!("4fe02b44{owner}{word}"));
        assert_eq!([0b011, 0b100, 0b111].map(|word| bit.is_set(U256::from(word))), [false, true, true]);
    }
}
