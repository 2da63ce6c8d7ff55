//! What the bundler alto answered (`bundler.json`), and what a paymaster's service may answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use alloy_json_rpc::ResponsePayload;
use alloy_primitives::{Address, U256};
use alloy_rpc_client::RpcClient;
use alloy_transport::mock::Asserter;
use serde_json::{Value, json};
use x402_erc4337::bundler::{BundlerClient, BundlerCode};
use x402_erc4337::paymaster::{PaymasterService, ServiceError};
use x402_erc4337::{EntryPoint, EntryPointVersion, FindUserOps, SendError, SendUserOp, Sent, UserOperation};
use x402_types::Fault;

use common::{address, word};

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/bundler.json")).unwrap()
}

fn entry_point() -> EntryPoint {
    EntryPoint::canonical(EntryPointVersion::V07, 84532)
}

/// A peer that gives these answers, one after the other.
fn peer(answers: &[&Value]) -> RpcClient {
    let asserter = Asserter::new();
    for answer in answers {
        match answer.get("error") {
            Some(error) => asserter.push(ResponsePayload::Failure(serde_json::from_value(error.clone()).unwrap())),
            None => asserter.push_success(&answer["result"]),
        }
    }
    RpcClient::mocked(asserter)
}

fn bundler(answers: &[&Value]) -> BundlerClient {
    BundlerClient::new(peer(answers), entry_point())
}

fn good(all: &Value) -> UserOperation {
    let op = UserOperation::from_json(all["good"]["operation"].to_string().as_bytes()).unwrap();
    assert_eq!(op.hash(&entry_point()).unwrap(), word(&all["good"]["hash"]));
    op
}

#[tokio::test]
async fn chain_and_entry_point_are_checked() {
    let all = recorded();
    assert_eq!(bundler(&[&all["chainId"], &all["supportedEntryPoints"]]).check().await, Ok(()));
    let other = json!({"result": "0x1"});
    assert!(bundler(&[&other, &all["supportedEntryPoints"]]).check().await.is_err());
    let other = json!({"result": [Address::ZERO]});
    assert!(bundler(&[&all["chainId"], &other]).check().await.is_err());
}

#[tokio::test]
async fn gas_is_estimated_or_the_call_reverts() {
    let all = recorded();
    let op = good(&all);
    let estimate = bundler(&[&all["estimate"]]).estimate(&op).await.unwrap();
    assert_eq!((estimate.call_gas_limit, estimate.verification_gas_limit), (0xb233, 0x14a9f2));
    assert_eq!(estimate.pre_verification_gas, U256::from(0x1554e));
    let Err(SendError::Bundler(error)) = bundler(&[&all["estimateReverts"]]).estimate(&op).await else { panic!() };
    assert_eq!(error.code, BundlerCode::Execution);
}

#[tokio::test]
async fn each_refusal_has_its_code() {
    let all = recorded();
    let nothing = &all["receiptBefore"];
    for (name, code, entry_point_code) in [
        ("wrongSignature", BundlerCode::Signature, Some("AA24")),
        ("notEnoughFunds", BundlerCode::Account, Some("AA21")),
        ("nonceNotNext", BundlerCode::Account, Some("AA25")),
        ("missingField", BundlerCode::Fields, None),
        ("unknownEntryPoint", BundlerCode::Fields, None),
    ] {
        // Looked up before it is sent, and again after the refusal: by its receipt and by its hash.
        let bundler = bundler(&[nothing, &all[name], nothing, &all["byHashBefore"]]);
        let Err(SendError::Bundler(error)) = bundler.send_user_op(&good(&all)).await else { panic!("{name}") };
        assert_eq!((error.code, error.entry_point_code()), (code, entry_point_code), "{name}");
    }
}

#[tokio::test]
async fn a_second_time_is_no_second_operation() {
    let all = recorded();
    let (op, hash) = (good(&all), word(&all["good"]["hash"]));
    let nothing = &all["receiptBefore"];
    let handed = Ok(Sent::Handed { hash, transaction: None });
    assert_eq!(bundler(&[nothing, &all["sent"]]).send_user_op(&op).await, handed);
    // While it waits.
    assert_eq!(bundler(&[nothing, &all["sentTwice"], nothing]).send_user_op(&op).await, handed);
    let pending = json!({"result": {"userOperation": {}, "blockNumber": null}});
    assert_eq!(bundler(&[nothing, &all["nonceNotNext"], nothing, &pending]).send_user_op(&op).await, handed);
    // After it landed: nothing is sent, or what is said of a second time is looked up.
    for answers in [&[&all["receipt"]][..], &[nothing, &all["sentAfterLanding"], &all["receipt"]]] {
        let Ok(Sent::Landed(landed)) = bundler(answers).send_user_op(&op).await else { panic!() };
        assert_eq!(landed.transaction, word(&all["receipt"]["result"]["receipt"]["transactionHash"]));
        // The transfer, and the account's own event of its ETH.
        assert!(landed.executed.success && !landed.executed.logs.is_empty());
        assert_eq!(landed.executed.sender, address(&all["receipt"]["result"]["sender"]));
    }
}

#[tokio::test]
async fn what_says_nothing_of_the_operation_is_unknown() {
    let all = recorded();
    let nothing = &all["receiptBefore"];
    for answer in [
        json!({"error": {"code": -32603, "message": "internal error"}}),
        json!({"error": {"code": -32005, "message": "too many requests"}}),
        json!({"error": {"code": -32000, "message": "timeout"}}),
        // Another operation's hash.
        json!({"result": format!("0x{}", "11".repeat(32))}),
        json!({"result": {}}),
    ] {
        let sent = bundler(&[nothing, &answer]).send_user_op(&good(&all)).await;
        assert!(matches!(sent, Err(SendError::Unknown(Fault::Unreachable { .. }))), "{answer} {sent:?}");
    }
    // No answer at all, at each of the requests.
    for answers in [&[][..], &[nothing], &[nothing, &all["nonceNotNext"]], &[nothing, &all["nonceNotNext"], nothing]] {
        let sent = bundler(answers).send_user_op(&good(&all)).await;
        assert!(matches!(sent, Err(SendError::Unknown(_))), "{} {sent:?}", answers.len());
    }
}

#[tokio::test]
async fn a_receipt_counts_by_the_operation_s_event_alone() {
    let all = recorded();
    let hash = word(&all["good"]["hash"]);
    let found = bundler(&[&all["receipt"]]).find_user_ops(&[hash], 0..=u64::MAX).await.unwrap();
    assert!(found[0].as_ref().unwrap().executed.success);
    assert_eq!(bundler(&[&all["receipt"]]).find_user_ops(&[hash], 0..=1).await, Ok(vec![None]));
    assert_eq!(bundler(&[&all["receiptBefore"]]).receipt(hash).await, Ok(None));
    assert_eq!(bundler(&[&all["byHash"]]).knows(hash).await, Ok(true));
    assert_eq!(bundler(&[&all["byHashBefore"]]).knows(hash).await, Ok(false));
    // `success` without the event is worth nothing.
    let mut bare = all["receipt"].clone();
    bare["result"]["receipt"]["logs"] = json!([]);
    assert_eq!(bare["result"]["success"], true);
    assert!(bundler(&[&bare]).receipt(hash).await.is_err());
}

/// ERC-7677's answers for EntryPoint 0.7.
#[tokio::test]
async fn a_paymaster_service_is_asked_twice() {
    let op = good(&recorded());
    let service = |answers: &[&Value]| PaymasterService::new(peer(answers), entry_point(), json!({"policyId": "p"}));
    let paymaster = Address::repeat_byte(0x77);
    let stub = json!({"result": {
        "sponsor": {"name": "My App"},
        "paymaster": paymaster,
        "paymasterData": "0x0102",
        "paymasterVerificationGasLimit": "0x9c40",
        "paymasterPostOpGasLimit": "0x1",
        "isFinal": false,
    }});
    let data = json!({"result": {"paymaster": paymaster, "paymasterData": "0x0304"}});
    let service_with = service(&[&stub, &data]);
    let first = service_with.stub(&op).await.unwrap();
    assert_eq!((first.paymaster.verification_gas_limit, first.is_final), (40_000, false));
    let priced = UserOperation { paymaster: Some(first.paymaster), ..op.clone() };
    let second = service_with.sponsor(&priced).await.unwrap();
    assert_eq!((second.verification_gas_limit, second.post_op_gas_limit), (40_000, 1));
    assert_eq!((second.address, &second.data[..]), (paymaster, &[3, 4][..]));

    let refused = json!({"error": {"code": -32002, "message": "policy exhausted"}});
    assert!(matches!(service(&[&refused]).stub(&op).await, Err(ServiceError::Refused { code: -32002, .. })));
    for bad in [
        json!({"result": {"paymasterAndData": "0x01"}}),
        json!({"result": {"paymaster": Address::ZERO}}),
        json!({"result": {"paymaster": paymaster, "paymasterPostOpGasLimit": U256::MAX}}),
        json!({"result": null}),
    ] {
        let answer = service(&[&bad]).stub(&op).await;
        assert!(matches!(answer, Err(ServiceError::Fault(_))), "{bad} {answer:?}");
    }
}
