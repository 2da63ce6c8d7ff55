//! What happened, by the chain's own log. No answer of a facilitator is believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use alloy_primitives::{Address, B256, b256};
use serde_json::json;

use crate::anvil::TOKEN;
use crate::fault::Fallible;
use crate::load::Answer;
use crate::payments::Batch;
use crate::rpc::{Rpc, quantity};

/// `Transfer(address,address,uint256)`.
const TRANSFER: B256 = b256!("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// A `Transfer` to the recipient of a batch.
pub struct Transfer {
    pub from: Address,
    pub value: u64,
    pub transaction: B256,
    pub block: u64,
}

/// Reads all transfers to a recipient.
pub async fn transfers(rpc: &Rpc, recipient: Address, since: u64) -> Fallible<Vec<Transfer>> {
    let filter = json!({ "address": TOKEN, "fromBlock": format!("{since:#x}"), "toBlock": "latest",
        "topics": [TRANSFER, null, recipient.into_word()] });
    let logs = rpc.call("eth_getLogs", json!([filter])).await?;
    let read = |log: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).ok_or("a log without its parts");
        Fallible::Ok(Transfer {
            from: Address::from_word(text(&log["topics"][1])?.parse()?),
            value: u64::try_from(alloy_primitives::U256::from_be_bytes(text(&log["data"])?.parse::<B256>()?.0))?,
            transaction: text(&log["transactionHash"])?.parse()?,
            block: quantity(&log["blockNumber"])?,
        })
    };
    logs.as_array().ok_or("logs were expected")?.iter().map(read).collect()
}

/// The gas of the transactions that moved these payments, failed members of a batch included.
pub async fn gas(rpc: &Rpc, transfers: &[Transfer]) -> Fallible<u64> {
    let moving: HashSet<_> = transfers.iter().map(|transfer| transfer.transaction).collect();
    let blocks: BTreeSet<_> = transfers.iter().map(|transfer| transfer.block).collect();
    let mut gas = 0;
    for block in blocks {
        let receipts = rpc.call("eth_getBlockReceipts", json!([format!("{block:#x}")])).await?;
        for receipt in receipts.as_array().into_iter().flatten() {
            let transaction = receipt["transactionHash"].as_str().ok_or("a receipt without its transaction")?;
            if moving.contains(&transaction.parse::<B256>()?) {
                gas += quantity(&receipt["gasUsed"])?;
            }
        }
    }
    Ok(gas)
}

/// What became of a batch.
#[derive(Default)]
pub struct Verdict {
    /// Payments that moved money.
    pub settled: usize,
    /// Answers of success.
    pub successes: usize,
    /// All other answers by kind.
    pub answers: BTreeMap<String, usize>,
    /// The blocks from the first transfer to the last, both included.
    pub blocks: u64,
}

/// Compares the answers, which may be none, with the chain.
///
/// # Errors
/// A payment moved money twice or moved what it did not say; a success whose transaction did not move it.
pub fn judge(batch: &Batch, answers: &[Answer], transfers: &[Transfer]) -> Fallible<Verdict> {
    let mut moved = HashMap::new();
    for transfer in transfers {
        if moved.insert(transfer.value, transfer).is_some() {
            return Err(format!("DOUBLE: the payment of {} was transferred twice", transfer.value).into());
        }
    }
    let mut verdict = Verdict { settled: moved.len(), ..Verdict::default() };
    for (payment, answer) in batch.payments.iter().zip(answers) {
        let kind = kind(answer);
        let moved = moved.get(&payment.value);
        if let Ok(transaction) = &kind
            && moved.is_none_or(|transfer| transfer.transaction != *transaction)
        {
            return Err(format!("LOST: {transaction} was answered for {} and did not move it", payment.value).into());
        }
        match kind {
            Ok(_) => verdict.successes += 1,
            Err(kind) => *verdict.answers.entry(kind).or_default() += 1,
        }
    }
    let known: HashMap<_, _> = batch.payments.iter().map(|payment| (payment.value, payment.from)).collect();
    if let Some(transfer) = transfers.iter().find(|transfer| known.get(&transfer.value) != Some(&transfer.from)) {
        return Err(format!("a transfer of {} from {} belongs to no payment", transfer.value, transfer.from).into());
    }
    let blocks = transfers.iter().map(|transfer| transfer.block);
    verdict.blocks = match (blocks.clone().min(), blocks.max()) {
        (Some(first), Some(last)) => last - first + 1,
        _ => 0,
    };
    Ok(verdict)
}

/// The transaction of a success, or the kind of any other answer.
fn kind(answer: &Answer) -> Result<B256, String> {
    let (status, body) = answer.got.as_ref().map_err(Clone::clone)?;
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if *status == 200 && body["success"] == true {
        let transaction = body["transaction"].as_str().and_then(|hash| hash.parse().ok());
        return transaction.ok_or_else(|| "success without a transaction".to_owned());
    }
    let reason = ["errorReason", "error", "errorMessage"].iter().find_map(|key| body[key].as_str());
    let reason: String = reason.unwrap_or("no reason").chars().take(60).collect();
    Err(format!("{status} {reason}"))
}
