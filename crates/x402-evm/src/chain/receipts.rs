//! Transactions that were mined, and the ERC-20 transfers in them.

use alloy_primitives::{Address, B256, U256};
#[cfg(feature = "rpc")]
use alloy_primitives::{Bytes, U64};
use async_trait::async_trait;
#[cfg(feature = "rpc")]
use serde::Deserialize;
use x402_types::{Fault, UnixSeconds};

use super::ReadChain;
#[cfg(feature = "rpc")]
use super::RpcChain;
#[cfg(feature = "rpc")]
use crate::eip3009::{AUTHORIZATION_USED, TRANSFER};

/// A transaction in a block of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    /// The block's number.
    pub block: u64,
    /// The block's time.
    pub at: UnixSeconds,
    /// It did not revert.
    pub success: bool,
    /// The ERC-20 transfers in it, in their order.
    pub transfers: Vec<Moved20>,
}

/// An ERC-20 transfer, as its log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved20 {
    /// The token.
    pub token: Address,
    /// Who paid.
    pub from: Address,
    /// Who was paid.
    pub to: Address,
    /// How much, in atomic units.
    pub value: U256,
    /// Whether it was made by an EIP-3009 authorization: the token's `AuthorizationUsed` stands right before it.
    pub by_authorization: bool,
}

/// Reads mined transactions.
#[async_trait]
pub trait ReadReceipts: ReadChain {
    /// The transaction, where the chain now has it in a block. `None`: no block that is seen now holds it.
    ///
    /// # Errors
    /// The node.
    async fn mined(&self, transaction: B256) -> Result<Option<Mined>, Fault>;
}

/// `eth_getTransactionReceipt`, as far as it matters.
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
        // A receipt of a block that is not the chain's any more: the transaction may be mined again, or never.
        let Some(block) = block.filter(|block| block.hash == receipt.block_hash) else { return Ok(None) };
        Ok(Some(Mined {
            block: number.to(),
            at: UnixSeconds(block.timestamp.to()),
            success: receipt.status == U64::from(1),
            transfers: transfers(&receipt.logs),
        }))
    }
}

/// The logs that are transfers of an ERC-20: three topics, and 32 bytes of data.
#[cfg(feature = "rpc")]
fn transfers(logs: &[Log]) -> Vec<Moved20> {
    let mut before: Option<&Log> = None;
    let mut found = Vec::new();
    for log in logs {
        if let ([TRANSFER, from, to], Ok(value)) = (&*log.topics, <[u8; 32]>::try_from(&log.data[..])) {
            let by_authorization = before.is_some_and(|before| {
                before.address == log.address && before.topics.get(..2) == Some(&[AUTHORIZATION_USED, *from][..])
            });
            found.push(Moved20 {
                token: log.address,
                from: Address::from_word(*from),
                to: Address::from_word(*to),
                value: U256::from_be_bytes(value),
                by_authorization,
            });
        }
        before = Some(log);
    }
    found
}
