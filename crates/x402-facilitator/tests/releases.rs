//! A file of an earlier release is opened, migrated, and what it left open is finished.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use alloy_provider::Provider;
use x402_devchain::{ACCOUNTS, DevChain, MiningMode};
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, Payment};
use x402_http::server::{GrantState, Grants};
use x402_store::requests::Requests;
use x402_store::session_keys::{KeyName, SessionKeys};
use x402_store::sqlite::{Database, SealKey, SqliteGrants, SqliteLedger, SqliteRequests, SqliteSessionKeys};
use x402_types::{ChainId, PaymentKey};

use crate::support::SELLER;

/// When the file was written, by its rows.
const WRITTEN: u64 = 1_795_939_312;

/// The rows' bytes and keys as they stand in the file, read without the code under test.
fn raw(path: &std::path::Path, sql: &str) -> Vec<String> {
    let file = rusqlite::Connection::open(path).unwrap();
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_17f55ea_is_migrated_and_its_open_payments_are_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/releases/17f55ea.sqlite"), &path).unwrap();
    // The rows may be forgotten two hours after they were written; here they are looked at once they are answered.
    let keep = "UPDATE payments SET keep_until = 4102444800, row = json_set(row, '$.keep_until', '4102444800')";
    rusqlite::Connection::open(&path).unwrap().execute(keep, []).unwrap();
    let sent = raw(&path, "SELECT json_extract(row, '$.attempts[0].bytes') FROM slots ORDER BY nonce");
    let keys = raw(&path, "SELECT hex(key) FROM payments ORDER BY key");
    assert_eq!((sent.len(), keys.len()), (3, 3));

    // The chain as it was: the first transaction is mined, the second waits in the pool, the third never arrived.
    let chain = DevChain::builder().block_time(MiningMode::Manual).time(WRITTEN).build().unwrap();
    let bytes = |text: &str| alloy_primitives::hex::decode(text).unwrap();
    drop(chain.provider().send_raw_transaction(&bytes(&sent[0])).await.unwrap());
    chain.mine(1);
    drop(chain.provider().send_raw_transaction(&bytes(&sent[1])).await.unwrap());
    assert_eq!(chain.transfers().len(), 1);

    let database = Database::open(&path).unwrap();
    let store = SqliteLedger::new(database.clone());
    store.take_over().await.unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(store);
    let network = ChainId::eip155(chain.chain_id());
    let evm = Evm::new(chain.client(), network, 0, x402_devchain::key(0).into_iter().collect());
    let builder = Builder::new(owner(), Arc::clone(&ledger))
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(2))));
    let (engine, heads) = builder.build().unwrap();
    let running = engine.start();
    let heads = heads.watch(&engine);

    let row = async |key: &str| -> Payment {
        let key = PaymentKey::from_bytes(&alloy_primitives::hex::decode(key).unwrap());
        ledger.read(&key).await.unwrap().unwrap()
    };
    for key in &keys {
        while row(key).await.answer.is_none() {
            chain.mine(1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let transfers = chain.transfers();
    assert_eq!(transfers.len(), 3, "each once");
    for payer in &ACCOUNTS[1..=3] {
        assert!(transfers.iter().any(|transfer| transfer.from == payer.address), "{}", payer.address);
    }
    for key in &keys {
        let receipt = row(key).await.answer.unwrap().unwrap();
        let transfer = transfers.iter().find(|transfer| transfer.from.to_string() == receipt.payer).unwrap();
        assert_eq!(transfer.to, ACCOUNTS[SELLER].address);
        assert_eq!(receipt.transaction.unwrap().as_str(), transfer.transaction.to_string());
    }

    let state = async |key: &[u8]| {
        let grants = SqliteGrants::new(database.clone());
        grants.look(&PaymentKey::from_bytes(key)).await.unwrap().map(|standing| standing.state)
    };
    assert_eq!(state(&[1, 1]).await, Some(GrantState::Granted));
    assert_eq!(state(&[1, 2]).await, Some(GrantState::Pending));
    let request = SqliteRequests::new(database.clone()).read("shop", "agent").await.unwrap().unwrap();
    assert_eq!((request.digest, request.max_amount.to_string()), ([7; 32], "5".to_owned()));
    let seal = SealKey::from_hex(&"ab".repeat(32)).unwrap();
    let name = KeyName { network, account: [7; 20], provider: "zerodev".into(), hash: [9; 32] };
    let key = SqliteSessionKeys::new(database.clone(), &seal).unwrap().read(&name).await.unwrap().unwrap();
    assert_eq!(key.as_str(), "dGVzdA==");

    // What was written since has the number of its format.
    let formats = raw(&path, "SELECT DISTINCT coalesce(json_extract(row, '$.format'), 0) || '' FROM payments");
    assert!(formats.contains(&"1".to_owned()), "{formats:?}");
    drop((running, heads));
}
