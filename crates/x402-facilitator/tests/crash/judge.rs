//! What must be so when the processes were killed and have come to rest, judged from the chain's own blocks and logs.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::U256;
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain};

use super::store::Store;
use crate::support::{SELLER, at_last};

/// Whether a row of a ledger holds no end yet.
const OPEN: &str = "due IS NOT NULL";

/// The transactions of the facilitator's accounts that are in blocks.
async fn mined(chain: &DevChain) -> BTreeSet<String> {
    let payers: Vec<String> = (1..5).map(|payer| format!("{:?}", ACCOUNTS[payer].address)).collect();
    let mut mined = BTreeSet::new();
    for number in 0..=chain.block_number() {
        let parameters = (format!("{number:#x}"), true);
        let block: Value = chain.client().request("eth_getBlockByNumber", parameters).await.unwrap();
        for transaction in block["transactions"].as_array().unwrap() {
            assert!(!payers.iter().any(|payer| transaction["from"] == payer.as_str()), "{transaction}");
            mined.insert(transaction["hash"].as_str().unwrap().to_owned());
        }
    }
    mined
}

/// Judges all payments at once. `told` has the transaction that each payment's caller was told, by the name of his
/// request: every one was made.
///
/// I1: a transfer for each payment, and none besides. I2: each was told to one request. I3: what the chain has stands in
/// the ledger. I6: what was told is a transaction with one transfer to the seller. I7: everything has ended. I16: the
/// books are equal.
pub(crate) async fn judge(chain: &DevChain, store: &Store, told: &BTreeMap<String, String>) {
    at_last("the end of every payment", async || store.count("payments", OPEN).await == 0).await;
    at_last("the end of every transaction", async || store.count("slots", "NOT used").await == 0).await;
    let transfers = chain.transfers();
    let of = |transaction: &str| {
        let hash: alloy_primitives::B256 = transaction.parse().unwrap();
        transfers.iter().filter(|transfer| transfer.transaction == hash).collect::<Vec<_>>()
    };
    let each: BTreeSet<&String> = told.values().collect();
    assert_eq!(each.len(), told.len(), "I2 two payments were told one transaction");
    assert_eq!(transfers.len(), told.len(), "I1 a transfer for each payment");
    for (name, transaction) in told {
        let made = of(transaction);
        assert_eq!(made.len(), 1, "I6 {name}: {transaction}");
        assert_eq!(made[0].to, ACCOUNTS[SELLER].address, "I6 {name}: {transaction}");
    }
    let mut stored = BTreeSet::new();
    for slot in store.rows("slots").await {
        for attempt in slot["attempts"].as_array().unwrap() {
            stored.insert(attempt["tx"].as_str().unwrap().to_owned());
        }
    }
    let unknown: Vec<String> = mined(chain).await.difference(&stored).cloned().collect();
    assert_eq!(unknown, Vec::<String>::new(), "I3 in a block and not in the ledger");
    let mut confirmed = U256::ZERO;
    let rows = store.rows("payments").await;
    for row in &rows {
        let receipt = &row["answer"]["Ok"];
        let transaction = receipt["transaction"].as_str().unwrap_or_else(|| panic!("I5 not settled: {row}"));
        assert!(each.contains(&transaction.to_owned()), "I2 {transaction} was told to nobody");
        // `exact` moves what was asked.
        confirmed += row["claim"]["terms"]["amount"].as_str().unwrap().parse::<U256>().unwrap();
    }
    assert_eq!(rows.len(), told.len(), "I3 a row for each payment");
    let moved = transfers.iter().map(|transfer| transfer.value).sum::<U256>();
    assert_eq!(confirmed, moved, "I16 the books");
}
