//! The examples do what they say, as processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use alloy_primitives::U256;
use x402_devchain::ACCOUNTS;
use x402_facilitator::dev::DevFacilitator;

#[test]
fn a_scheme_of_ones_own_is_paid() {
    let done = Command::new(env!("CARGO_BIN_EXE_second_scheme")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_buyer_pays_the_seller() {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let (buyer, pay_to) = (ACCOUNTS[1], ACCOUNTS[2].address);
    let mut seller = Command::new(env!("CARGO_BIN_EXE_seller"))
        .env("FACILITATOR_URL", facilitator.url())
        .env("PAY_TO", pay_to.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(seller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let first: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("{}/paid", first["listening"].as_str().unwrap());

    let chain = facilitator.chain();
    let before = chain.balance_of(pay_to);
    let paid = Command::new(env!("CARGO_BIN_EXE_buyer"))
        .arg(&url)
        .env("X402_PRIVATE_KEY", buyer.key.to_string())
        .output()
        .unwrap();
    assert!(paid.status.success(), "{paid:?}");
    assert_eq!(String::from_utf8(paid.stdout).unwrap(), "{\"report\":\"paid content\"}\n");
    let transfer = chain.transfers().pop().unwrap();
    assert!(String::from_utf8(paid.stderr).unwrap().contains(&transfer.transaction.to_string()));
    assert_eq!((transfer.from, chain.balance_of(pay_to) - before), (buyer.address, U256::from(10_000)));

    let told = Command::new("kill").args(["-TERM", &seller.id().to_string()]).status().unwrap();
    assert!(told.success() && seller.wait().unwrap().success());
    facilitator.stop().await;
}
