//! Mined transactions, and the ERC-20 transfers in them.

#[cfg(feature = "rpc")]
use alloy_primitives::U64;
use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
#[cfg(feature = "rpc")]
use serde::Deserialize;
use x402_types::{Fault, UnixSeconds};

use super::ReadChain;
#[cfg(feature = "rpc")]
use super::RpcChain;
#[cfg(feature = "rpc")]
use super::TRANSFER;

/// A transaction in a block of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    /// The number of the block.
    pub block: u64,
    /// The time of the block.
    pub at: UnixSeconds,
    /// Whether the transaction did not revert.
    pub success: bool,
    /// The ERC-20 transfers of the transaction, in order.
    pub transfers: Vec<TokenTransfer>,
}

/// An ERC-20 transfer, read from its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTransfer {
    /// The contract of the token.
    pub token: Address,
    /// The sender of the tokens.
    pub from: Address,
    /// The recipient of the tokens.
    pub to: Address,
    /// The amount in atomic units.
    pub value: U256,
    /// The token's events directly before and after it whose first indexed word is its payer, by the hashes of their
    /// signatures: what made the transfer may show there.
    pub beside: [Option<B256>; 2],
}

/// Reads mined transactions.
#[async_trait]
pub trait ReadReceipts: ReadChain {
    /// Returns the transaction, if it is in a block of the chain now. `None` means that no known block contains it.
    /// # Errors
    /// The node failed.
    async fn mined(&self, transaction: B256) -> Result<Option<Mined>, Fault>;
}

/// A transaction in a block of the chain, with the call that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MinedCall {
    /// The number of the block.
    pub block: u64,
    /// Whether the transaction did not revert.
    pub success: bool,
    /// The account that sent the transaction.
    pub from: Address,
    /// The account that it called; `None` if it created a contract.
    pub to: Option<Address>,
    /// The calldata of the call.
    pub input: Bytes,
    /// The contract and the first topic of each event of the transaction, in order.
    pub events: Vec<(Address, B256)>,
}

/// Reads the calls of mined transactions.
#[async_trait]
pub trait ReadCalls: Send + Sync {
    /// Returns the transaction's call, if it is in a block of the chain now. `None` means that no known block contains
    /// it.
    /// # Errors
    /// The node failed.
    async fn mined_call(&self, transaction: B256) -> Result<Option<MinedCall>, Fault>;
}

/// The relevant members of `eth_getTransactionByHash`.
#[cfg(feature = "rpc")]
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    hash: B256,
    block_hash: Option<B256>,
    from: Address,
    to: Option<Address>,
    input: Bytes,
}

/// The relevant members of `eth_getTransactionReceipt`.
#[cfg(feature = "rpc")]
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    transaction_hash: B256,
    block_hash: B256,
    block_number: U64,
    status: U64,
    logs: Vec<Log>,
}

#[cfg(feature = "rpc")]
#[derive(Debug, Clone, Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

#[cfg(feature = "rpc")]
#[derive(Debug, Clone, Deserialize)]
struct Block {
    hash: B256,
    timestamp: U64,
}

#[cfg(feature = "rpc")]
#[async_trait]
impl ReadReceipts for RpcChain {
    async fn mined(&self, transaction: B256) -> Result<Option<Mined>, Fault> {
        let Some(receipt): Option<Receipt> = self.request("eth_getTransactionReceipt", (transaction,)).await? else {
            return Ok(None);
        };
        if receipt.transaction_hash != transaction {
            return Err(Fault::unreachable("the node", "a receipt that was not asked for"));
        }
        let number = receipt.block_number;
        let block: Option<Block> = self.request("eth_getBlockByNumber", (number, false)).await?;
        // The receipt's block is no longer on the chain: the transaction may be mined again, or never.
        let Some(block) = block.filter(|block| block.hash == receipt.block_hash) else { return Ok(None) };
        Ok(Some(Mined {
            block: number.to(),
            at: UnixSeconds(block.timestamp.to()),
            success: receipt.status == U64::from(1),
            transfers: transfers(&receipt.logs),
        }))
    }
}

#[cfg(feature = "rpc")]
#[async_trait]
impl ReadCalls for RpcChain {
    async fn mined_call(&self, transaction: B256) -> Result<Option<MinedCall>, Fault> {
        let receipt: Option<Receipt> = self.request("eth_getTransactionReceipt", (transaction,)).await?;
        let call: Option<Transaction> = self.request("eth_getTransactionByHash", (transaction,)).await?;
        let (Some(receipt), Some(call)) = (receipt, call) else { return Ok(None) };
        if receipt.transaction_hash != transaction || call.hash != transaction {
            return Err(Fault::unreachable("the node", "a transaction that was not asked for"));
        }
        // The block was replaced between the two reads.
        if call.block_hash != Some(receipt.block_hash) {
            return Ok(None);
        }
        let Transaction { from, to, input, .. } = call;
        let success = receipt.status == U64::from(1);
        let events = receipt.logs.iter().filter_map(|log| Some((log.address, *log.topics.first()?))).collect();
        Ok(Some(MinedCall { block: receipt.block_number.to(), success, from, to, input, events }))
    }
}

/// Selects the logs that are transfers of an ERC-20: three topics, and 32 bytes of data.
#[cfg(feature = "rpc")]
fn transfers(logs: &[Log]) -> Vec<TokenTransfer> {
    let mut found = Vec::new();
    for (at, log) in logs.iter().enumerate() {
        let ([TRANSFER, from, to], Ok(value)) = (&*log.topics, <[u8; 32]>::try_from(&log.data[..])) else { continue };
        let of_payer = |at: Option<usize>| {
            let beside = logs.get(at?).filter(|beside| beside.address == log.address)?;
            if let [event, first, ..] = *beside.topics { (first == *from).then_some(event) } else { None }
        };
        found.push(TokenTransfer {
            token: log.address,
            from: Address::from_word(*from),
            to: Address::from_word(*to),
            value: U256::from_be_bytes(value),
            beside: [at.checked_sub(1), at.checked_add(1)].map(of_payer),
        });
    }
    found
}

#[cfg(all(test, feature = "rpc"))]
mod tests {
    use super::*;
    use crate::eip3009::AUTHORIZATION_USED;

    const TOKEN: Address = Address::repeat_byte(1);
    const FROM: Address = Address::repeat_byte(2);
    const TO: Address = Address::repeat_byte(3);

    fn log(address: Address, topics: &[B256], data: &[u8]) -> Log {
        Log { address, topics: topics.to_vec(), data: data.to_vec().into() }
    }

    fn transfer() -> Log {
        log(TOKEN, &[TRANSFER, FROM.into_word(), TO.into_word()], &U256::from(7).to_be_bytes::<32>())
    }

    fn used(address: Address, by: Address) -> Log {
        log(address, &[AUTHORIZATION_USED, by.into_word(), B256::ZERO], &[])
    }

    fn by_authorization(logs: &[Log]) -> Vec<bool> {
        transfers(logs).iter().map(|moved| moved.beside.contains(&Some(AUTHORIZATION_USED))).collect()
    }

    #[test]
    fn a_transfer_beside_the_use_of_an_authorization_is_made_by_it() {
        assert_eq!(
            transfers(&[transfer()]),
            [TokenTransfer { token: TOKEN, from: FROM, to: TO, value: U256::from(7), beside: [None; 2] }]
        );
        assert_eq!(by_authorization(&[used(TOKEN, FROM), transfer()]), [true]);
        assert_eq!(by_authorization(&[transfer(), used(TOKEN, FROM)]), [true]);
        // The logs of another token or payer, or further away.
        assert_eq!(by_authorization(&[used(TO, FROM), transfer(), used(TOKEN, TO)]), [false]);
        assert_eq!(by_authorization(&[used(TOKEN, FROM), transfer(), transfer()]), [true, false]);
    }

    /// Checks that an ERC-721 transfer is ignored: it has the same event with the token's number as a fourth topic and
    /// no data.
    #[test]
    fn what_is_no_transfer_of_a_sum() {
        let nft = log(TOKEN, &[TRANSFER, FROM.into_word(), TO.into_word(), B256::ZERO], &[]);
        let short = log(TOKEN, &[TRANSFER, FROM.into_word(), TO.into_word()], &[0; 31]);
        assert_eq!(transfers(&[nft, short, used(TOKEN, FROM)]), []);
    }
}
