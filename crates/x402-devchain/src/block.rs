//! A mined block with its transactions and receipts, in the form that the RPC returns.

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{
    BlockBody, BlockHeader, EMPTY_OMMER_ROOT_HASH, Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom,
    Transaction, TxEnvelope,
};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, U256, keccak256};
use alloy_rpc_types_eth as rpc;
use revm::context::result::ExecutionResult;

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) hash: B256,
    pub(crate) header: Header,
    pub(crate) transactions: Vec<Mined>,
}

#[derive(Clone, Debug)]
pub(crate) struct Mined {
    pub(crate) tx: Recovered<TxEnvelope>,
    pub(crate) receipt: rpc::TransactionReceipt,
}

/// An executed transaction, before its block has a hash.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) tx: Recovered<TxEnvelope>,
    pub(crate) result: ExecutionResult,
}

/// Builds the initial header of a block on top of `parent`.
pub(crate) fn next_header(parent: &Header, parent_hash: B256, timestamp: u64, base_fee: u64, fork: u64) -> Header {
    Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        number: parent.number.saturating_add(1),
        gas_limit: parent.gas_limit,
        timestamp,
        base_fee_per_gas: Some(base_fee),
        // Blocks of the same content on both sides of a reorg must have different hashes.
        extra_data: Bytes::copy_from_slice(&fork.to_be_bytes()),
        withdrawals_root: Some(alloy_consensus::EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// Seals a block: computes roots, bloom, hash and receipts.
pub(crate) fn seal(mut header: Header, ran: Vec<Ran>) -> Block {
    let mut gas_used = 0_u64;
    let mut consensus = Vec::with_capacity(ran.len());
    for Ran { tx, result } in &ran {
        gas_used = gas_used.saturating_add(result.tx_gas_used());
        let receipt = Receipt {
            status: Eip658Value::Eip658(result.is_success()),
            cumulative_gas_used: gas_used,
            logs: logs(result).to_vec(),
        };
        consensus.push(ReceiptEnvelope::from_typed(tx.tx_type(), receipt.with_bloom()));
    }
    let envelopes: Vec<&TxEnvelope> = ran.iter().map(|ran| ran.tx.inner()).collect();
    header.gas_used = gas_used;
    header.transactions_root = calculate_transaction_root(&envelopes);
    header.receipts_root = calculate_receipt_root(&consensus);
    header.logs_bloom = consensus.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
    // This is not the root of a state trie, which this chain does not keep, but a commitment to the chain up to here.
    header.state_root = keccak256([header.parent_hash.as_slice(), header.receipts_root.as_slice()].concat());
    let hash = header.hash_slow();

    let mut log_index = 0_u64;
    let mut transactions = Vec::with_capacity(ran.len());
    for ((index, Ran { tx, result }), sealed) in (0_u64..).zip(ran).zip(consensus) {
        let receipt = receipt(&header, hash, index, &tx, &result, &sealed, &mut log_index);
        transactions.push(Mined { tx, receipt });
    }
    Block { hash, header, transactions }
}

fn receipt(
    header: &Header,
    hash: B256,
    index: u64,
    tx: &Recovered<TxEnvelope>,
    result: &ExecutionResult,
    sealed: &ReceiptEnvelope,
    log_index: &mut u64,
) -> rpc::TransactionReceipt {
    let logs = logs(result)
        .iter()
        .map(|log| {
            let log = rpc::Log {
                inner: log.clone(),
                block_hash: Some(hash),
                block_number: Some(header.number),
                block_timestamp: Some(header.timestamp),
                transaction_hash: Some(*tx.tx_hash()),
                transaction_index: Some(index),
                log_index: Some(*log_index),
                removed: false,
            };
            *log_index = log_index.saturating_add(1);
            log
        })
        .collect();
    let receipt = Receipt {
        status: Eip658Value::Eip658(result.is_success()),
        cumulative_gas_used: sealed.cumulative_gas_used(),
        logs,
    };
    let with_bloom = ReceiptWithBloom { receipt, logs_bloom: *sealed.logs_bloom() };
    rpc::TransactionReceipt {
        inner: ReceiptEnvelope::from_typed(tx.tx_type(), with_bloom),
        transaction_hash: *tx.tx_hash(),
        transaction_index: Some(index),
        block_hash: Some(hash),
        block_number: Some(header.number),
        gas_used: result.tx_gas_used(),
        effective_gas_price: tx.effective_gas_price(header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.signer(),
        to: tx.to(),
        contract_address: created(tx),
    }
}

/// Returns the logs. A reverted transaction has none, although revm returns those from before the revert.
fn logs(result: &ExecutionResult) -> &[Log] {
    if result.is_success() { result.logs() } else { &[] }
}

/// Returns the address of a created contract. It depends only on sender and nonce, and is returned even if the creation
/// reverted.
fn created(tx: &Recovered<TxEnvelope>) -> Option<Address> {
    tx.is_create().then(|| tx.signer().create(tx.nonce()))
}

impl Block {
    /// Converts the block for `eth_getBlockBy…`, with whole transactions or their hashes.
    pub(crate) fn to_rpc(&self, full: bool) -> rpc::Block {
        let transactions = if full {
            rpc::BlockTransactions::Full(self.transactions.iter().map(|mined| self.transaction(mined)).collect())
        } else {
            rpc::BlockTransactions::Hashes(self.transactions.iter().map(|mined| *mined.tx.tx_hash()).collect())
        };
        let body = BlockBody {
            transactions: self.transactions.iter().map(|mined| mined.tx.inner().clone()).collect(),
            ommers: Vec::new(),
            withdrawals: Some(alloy_eips::eip4895::Withdrawals::default()),
        };
        rpc::Block {
            header: rpc::Header {
                hash: self.hash,
                inner: self.header.clone(),
                total_difficulty: Some(U256::ZERO),
                size: Some(U256::from(alloy_consensus::Block::rlp_length_for(&self.header, &body))),
            },
            uncles: Vec::new(),
            transactions,
            withdrawals: body.withdrawals,
        }
    }

    pub(crate) fn transaction(&self, mined: &Mined) -> rpc::Transaction {
        rpc::Transaction {
            inner: mined.tx.clone(),
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            transaction_index: mined.receipt.transaction_index,
            effective_gas_price: Some(mined.receipt.effective_gas_price),
            block_timestamp: Some(self.header.timestamp),
        }
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = &rpc::Log> {
        self.transactions.iter().flat_map(|mined| mined.receipt.inner.logs())
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas().unwrap_or_default()
    }
}
