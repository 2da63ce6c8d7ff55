//! SIGKILL while payments by Permit2 are settled that bring a signed approval: at each point between claim, approval,
//! settlement and answer. After a restart every payment is made once, and no approval is left without its settlement.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{U256, hex, keccak256};
use alloy_signer::SignerSync;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, TOKENS_EACH, signer};
use x402_evm::permit2::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use x402_evm::permit2::{ByPermit2, PERMIT2, Payer, approve_call};
use x402_types::{ChainId, MakePayment, SigningContext, UnixSeconds};

use crate::support::process::{Facilitator, configuration};
use crate::support::{SELLER, body, post_named, tls};

/// Kills at each point.
const TIMES: usize = 5;
const PRICE: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    /// The payment's row is there.
    Claim,
    /// The signed bytes of a step are there.
    Store,
    /// The node has been given the approval.
    Approve,
    /// The approval is in a block, and nothing is settled.
    Approved,
    /// The second step's bytes are there.
    Settle,
    /// The seller has the money, and nobody an answer.
    Paid,
}

fn count(ledger: &Path, sql: &str) -> i64 {
    let Ok(file) = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return 0 };
    file.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
}

const PAYMENTS: &str = "SELECT count(*) FROM payments";
const SLOTS: &str = "SELECT count(*) FROM slots";

/// The state of the world that shows a point, as a number that each payment raises.
fn seen(point: Point, ledger: &Path, chain: &DevChain, payer: usize) -> i64 {
    let number = |of: u64| i64::try_from(of).unwrap();
    match point {
        Point::Claim => count(ledger, PAYMENTS),
        Point::Store => count(ledger, SLOTS),
        Point::Approve => number(chain.calls().of("eth_sendRawTransaction")),
        Point::Approved => number(chain.nonce_of(ACCOUNTS[payer].address)),
        Point::Settle => count(ledger, SLOTS) - 1,
        Point::Paid => number(u64::try_from(paid(chain)).unwrap()),
    }
}

fn paid(chain: &DevChain) -> U256 {
    chain.balance_of(ACCOUNTS[SELLER].address) - U256::from(TOKENS_EACH)
}

/// The body of `/settle` for a payment of this account, with the approval that it needs.
async fn request(chain: &DevChain, payer: usize, turn: usize, name: &str) -> Value {
    let (network, pay_to) = (ChainId::eip155(84_532), ACCOUNTS[SELLER].address);
    let price = "$0.01".parse().unwrap();
    let offers = ByPermit2::default();
    let terms = match turn % 2 {
        0 => offers.exact(network, pay_to, price).unwrap().terms,
        _ => offers.upto(network, pay_to, price, ACCOUNTS[0].address).unwrap().terms,
    };
    let entropy = keccak256(format!("{name} {payer}")).0;
    let now = UnixSeconds(chain.time());
    let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
    let by = signer(payer).unwrap();
    let payload = Payer::new(by.clone()).make_payment(&terms, &context).await.unwrap().payload;
    let token: alloy_primitives::Address = terms.asset.parse().unwrap();
    let approval = TxEip1559 {
        chain_id: 84_532,
        nonce: chain.nonce_of(ACCOUNTS[payer].address),
        max_priority_fee_per_gas: 1_000_000,
        max_fee_per_gas: 50_000_000_000,
        gas_limit: 70_000,
        to: token.into(),
        input: approve_call(PERMIT2, U256::from(PRICE)),
        ..TxEip1559::default()
    };
    let mut signed = Vec::new();
    approval.eip2718_encode(&by.sign_hash_sync(&approval.signature_hash()).unwrap(), &mut signed);
    let mut body = body(&terms, &payload);
    body["paymentPayload"]["extensions"] = json!({ ERC20_APPROVAL_GAS_SPONSORING: { "info": {
        "version": "1", "from": by.address().to_string(), "asset": token.to_string(), "spender": PERMIT2.to_string(),
        "amount": PRICE.to_string(), "signedTransaction": hex::encode_prefixed(signed),
    } } });
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_it_approves_and_settles_each_payment_once() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.sqlite");
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    // A little distance, so that the points lie apart.
    chain.rpc_delay(Duration::from_millis(4));
    let config = configuration(directory.path(), &ledger);
    let mut expected = 0;
    for point in [Point::Claim, Point::Store, Point::Approve, Point::Approved, Point::Settle, Point::Paid] {
        for turn in 0..TIMES {
            let payer = 1 + turn % 4;
            let transactions = chain.nonce_of(ACCOUNTS[payer].address);
            let name = format!("{point:?} {turn}");
            let sent = request(&chain, payer, turn, &name).await.to_string();
            let mut facilitator = Facilitator::start(&config, &node.url);
            let before = seen(point, &ledger, &chain, payer);
            // The second slot of a payment comes after the first.
            let before = if point == Point::Settle { before + 1 } else { before };
            let url = format!("{}/settle", facilitator.url);
            let (key, text) = (name.clone(), sent.clone());
            let answer = tokio::spawn(async move { post_named(&url, text, &key).await });
            while !answer.is_finished() && seen(point, &ledger, &chain, payer) <= before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            facilitator.kill();
            drop(answer.await.unwrap());

            let facilitator = Facilitator::start(&config, &node.url);
            let settle = format!("{}/settle", facilitator.url);
            let (status, after) = post_named(&settle, sent, &name).await.unwrap();
            assert_eq!((status, &after["success"]), (200, &Value::Bool(true)), "{name}: {after}");
            expected += PRICE;
            assert_eq!(paid(&chain), U256::from(expected), "{name}: one transfer a payment");
            let used = chain.nonce_of(ACCOUNTS[payer].address);
            assert_eq!(used, transactions + 1, "{name}: the approval is sent once");
        }
    }
    assert_eq!(count(&ledger, "SELECT count(*) FROM payments WHERE due IS NOT NULL"), 0);
    assert_eq!(count(&ledger, "SELECT count(*) FROM payments WHERE row NOT LIKE '%\"Ok\"%'"), 0);
}
