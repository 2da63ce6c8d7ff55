//! Simulations, overrides, delegations, receipts and logs, against what anvil answers: `vectors/anvil_1_7_1.json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use x402_devchain::DevChain;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn without<'a>(value: &'a Value, names: &[&str]) -> Vec<(&'a String, &'a Value)> {
    value.as_object().unwrap().iter().filter(|(name, _)| !names.contains(&name.as_str())).collect()
}

/// What anvil says of the same requests, in the same order. Where it leaves the specification, geth is followed, and
/// `simulate.rs` has the values: anvil gives a revert's data as `returnData` and its error the code -3200, says
/// -32003 where the table has -38014, fills no gap between numbers, and has no `maxUsedGas`.
#[tokio::test]
async fn anvil_answers_the_same() {
    let recorded: Value = serde_json::from_str(include_str!("vectors/anvil_1_7_1.json")).unwrap();
    let chain = DevChain::builder().build().unwrap();
    for case in recorded["cases"].as_array().unwrap() {
        let (name, method) = (case["name"].as_str().unwrap(), case["method"].as_str().unwrap());
        let ours = chain.client().request::<Value, Value>(method.to_owned(), case["params"].clone()).await;
        let (ours, theirs) = match (ours, case["answer"].get("result")) {
            (Ok(ours), Some(theirs)) => (ours, theirs),
            (Err(error), None) => {
                assert_eq!(error.as_error_resp().unwrap().code, -38014, "{name}");
                continue;
            }
            (ours, theirs) => panic!("{name}: {ours:?} for {theirs:?}"),
        };
        match method {
            "eth_simulateV1" => {
                let called = ours.as_array().unwrap().iter().filter(|block| block["calls"] != json!([]));
                for (ours, theirs) in called.zip(theirs.as_array().unwrap()) {
                    assert!(keys(ours).is_superset(&keys(theirs)), "{name}");
                    assert_eq!(ours["gasUsed"], theirs["gasUsed"], "{name}");
                    assert_eq!(ours["logsBloom"], theirs["logsBloom"], "{name}");
                    let (ours, theirs) = (ours["calls"].as_array().unwrap(), theirs["calls"].as_array().unwrap());
                    assert_eq!(ours.len(), theirs.len(), "{name}");
                    for (ours, theirs) in ours.iter().zip(theirs) {
                        same_call(name, ours, theirs);
                    }
                }
            }
            "eth_getTransactionReceipt" | "eth_getTransactionByHash" => {
                // Their block is another, at another price.
                // Their block is another, at another price. The price of blobs they give for every type, geth for blobs.
                let of_block = ["blockHash", "blockTimestamp", "effectiveGasPrice", "gasPrice", "blobGasPrice", "logs"];
                same_logs(name, ours.get("logs").unwrap_or(&json!([])), theirs.get("logs").unwrap_or(&json!([])));
                assert_eq!(without(&ours, &of_block), without(theirs, &of_block), "{name}");
                assert!(ours["blockHash"].is_string(), "{name}");
            }
            "eth_getLogs" => same_logs(name, &ours, theirs),
            _ => assert_eq!(&ours, theirs, "{name}"),
        }
    }
}

fn same_logs(name: &str, ours: &Value, theirs: &Value) {
    let (ours, theirs) = (ours.as_array().unwrap(), theirs.as_array().unwrap());
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let of_block = ["blockHash", "blockTimestamp"];
        assert_eq!(without(ours, &of_block), without(theirs, &of_block), "{name}");
        assert_eq!(keys(ours), keys(theirs), "{name}");
    }
}

fn same_call(name: &str, ours: &Value, theirs: &Value) {
    assert_eq!((&ours["status"], &ours["gasUsed"]), (&theirs["status"], &theirs["gasUsed"]), "{name}");
    let returned = match ours["error"]["data"].as_str() {
        Some(data) => json!(data),
        None => ours["returnData"].clone(),
    };
    assert_eq!(returned, theirs["returnData"], "{name}");
    assert_eq!(ours["error"].is_null(), theirs["error"].is_null(), "{name}");
    let (ours, theirs) = (ours["logs"].as_array().unwrap(), theirs["logs"].as_array().unwrap());
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let of_block = ["blockHash", "blockNumber", "blockTimestamp", "transactionHash"];
        assert_eq!(without(ours, &of_block), without(theirs, &of_block), "{name}");
        assert_eq!(keys(ours), keys(theirs), "{name}");
    }
}
