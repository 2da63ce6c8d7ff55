//! What a node answered about bundles (`bundles.json`), and what is made of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use alloy_primitives::{B256, U256};
use alloy_rpc_client::RpcClient;
use alloy_transport::mock::Asserter;
use serde_json::{Value, json};
use x402_erc4337::{
    Bundle, EntryPoint, EntryPointVersion, FindUserOps, Landed, RpcEntryPoint, SimulateUserOps, Simulated,
    UserOperation,
};
use x402_types::Fault;

use common::{address, word};

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/bundles.json")).unwrap()
}

const NAMES: [&str; 4] = ["deploy", "reverts", "stranger", "early"];

fn entry_point() -> EntryPoint {
    EntryPoint::canonical(EntryPointVersion::V07, 84532)
}

/// A node that answers with these, one after the other.
fn node(answers: &[Value]) -> RpcEntryPoint {
    let asserter = Asserter::new();
    for answer in answers {
        match answer.get("error") {
            Some(error) => {
                asserter.push(alloy_json_rpc::ResponsePayload::Failure(serde_json::from_value(error.clone()).unwrap()))
            }
            None => asserter.push_success(answer),
        }
    }
    RpcEntryPoint::new(RpcClient::mocked(asserter), entry_point())
}

fn bundles(names: &[&str]) -> Vec<Bundle> {
    let all = recorded();
    let payer = address(&all["payer"]);
    let bundle = |name: &&str| {
        let op = &all["operations"][*name];
        let operation = UserOperation::from_json(op["operation"].to_string().as_bytes()).unwrap();
        let bundle = Bundle::new(entry_point(), payer, &[operation]).unwrap();
        assert_eq!(bundle.hashes(), [word(&op["hash"])]);
        bundle
    };
    names.iter().map(bundle).collect()
}

fn hash(name: &str) -> B256 {
    word(&recorded()["operations"][name]["hash"])
}

#[tokio::test]
async fn each_bundle_is_judged_on_the_state_of_those_before() {
    let all = recorded();
    let answers = node(&[all["simulateV1"].clone()]).simulate_user_ops(&bundles(&NAMES)).await.unwrap();
    let [deploy, reverts, stranger, early] = answers.as_slice() else { panic!("{answers:?}") };
    let Simulated::Executed { operations, gas_used } = deploy else { panic!("{deploy:?}") };
    assert!(deploy.is_success() && gas_used.is_some());
    // The deposit of its call, and not the four events of its deployment.
    let logs = operations[0].logs.as_ref().unwrap();
    assert_eq!((operations[0].hash, logs.len(), logs[0].address), (hash("deploy"), 1, entry_point().address));
    let Simulated::Executed { operations, .. } = reverts else { panic!("{reverts:?}") };
    assert!(!reverts.is_success());
    assert_eq!(operations[0].revert.as_ref().unwrap().to_string(), "Withdraw amount too large");
    assert_eq!(operations[0].logs, Some(vec![]));
    let Simulated::Refused(refused) = stranger else { panic!("{stranger:?}") };
    assert_eq!(refused.to_string(), "operation 0: AA24 signature error");
    let Simulated::Refused(refused) = early else { panic!("{early:?}") };
    assert_eq!(refused.code(), Some("AA25"));
}

/// geth puts revert data into the error, and leaves `returnData` empty.
#[tokio::test]
async fn revert_data_are_found_in_the_error_too() {
    let mut answer = recorded()["simulateV1"].clone();
    let call = &mut answer[0]["calls"][3];
    let data = call["returnData"].take();
    call["returnData"] = json!("0x");
    call["error"] = json!({"code": 3, "message": "execution reverted", "data": data});
    let answers = node(&[answer]).simulate_user_ops(&bundles(&NAMES)).await.unwrap();
    assert!(matches!(&answers[3], Simulated::Refused(refused) if refused.code() == Some("AA25")));
}

#[tokio::test]
async fn answers_to_another_question_are_no_answers() {
    let all = recorded()["simulateV1"].clone();
    for (answer, names) in [
        (json!([]), &NAMES[..]),
        (all.clone(), &NAMES[..3]),
        // The events of `deploy` say nothing of `reverts`.
        (all, &["reverts", "deploy", "stranger", "early"]),
        (json!({"error": {"code": -32000, "message": "header not found"}}), &NAMES),
        (json!({"error": {"code": -32602, "message": "invalid argument 0"}}), &NAMES),
    ] {
        let found = node(&[answer]).simulate_user_ops(&bundles(names)).await;
        assert!(matches!(found, Err(Fault::Unreachable { .. })), "{found:?}");
    }
}

#[tokio::test]
async fn a_node_without_simulate_v1_is_asked_twice_otherwise() {
    let all = recorded();
    // Refused by validation: nothing is left to execute.
    let answers = [all["unknownMethod"].clone(), all["ethCallReverted"].clone()];
    let found = node(&answers).simulate_user_ops(&bundles(&["early"])).await.unwrap();
    assert!(matches!(&found[..], [Simulated::Refused(refused)] if refused.code() == Some("AA25")), "{found:?}");
    // A node that answers a plain call and ignores the override says nothing.
    let answers = [all["unknownMethod"].clone(), json!("0x"), json!("0x")];
    let found = node(&answers).simulate_user_ops(&bundles(&["deploy"])).await;
    assert!(matches!(found, Err(Fault::Unreachable { .. })), "{found:?}");
}

#[tokio::test]
async fn operations_are_found_in_anyones_transaction() {
    let all = recorded();
    let hashes = [hash("early"), hash("reverts"), hash("deploy")];
    let chain = node(&[all["getLogs"].clone(), all["receipt"].clone()]);
    let found = chain.find_user_ops(&hashes, 0..=16).await.unwrap();
    let [None, Some(reverts), Some(deploy)] = found.as_slice() else { panic!("{found:?}") };
    let Landed { transaction, block, executed } = reverts;
    assert_eq!((*transaction, *block), (word(&all["receipt"]["transactionHash"]), 3));
    assert_eq!((executed.success, executed.hash), (false, hash("reverts")));
    assert_eq!(executed.revert.as_ref().unwrap().to_string(), "Withdraw amount too large");
    assert_eq!((deploy.executed.success, deploy.executed.logs.len()), (true, 1));
    assert_eq!(deploy.executed.gas_cost, U256::ZERO);
}

#[tokio::test]
async fn a_receipt_of_another_block_or_a_missing_one_says_nothing() {
    let all = recorded();
    let mut other = all["receipt"].clone();
    other["blockNumber"] = json!("0x99");
    for receipt in [other, Value::Null] {
        let chain = node(&[all["getLogs"].clone(), receipt]);
        let found = chain.find_user_ops(&[hash("deploy"), hash("reverts")], 0..=16).await;
        assert!(matches!(found, Err(Fault::Unreachable { .. })), "{found:?}");
    }
    // Logs that were not asked for.
    let chain = node(&[all["getLogs"].clone()]);
    assert!(chain.find_user_ops(&[hash("deploy")], 0..=16).await.is_err());
    let chain = node(&[all["getLogs"].clone()]);
    assert!(chain.find_user_ops(&[hash("deploy"), hash("reverts")], 0..=2).await.is_err());
    assert_eq!(node(&[]).find_user_ops(&[], 0..=2).await, Ok(vec![]));
    assert_eq!(node(&[json!([])]).find_user_ops(&[hash("early")], 0..=2).await, Ok(vec![None]));
}
