//! ERC-7579 `execute`, EntryPoint errors and events, selectors: against the vectors and the chain's own data.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256};
use alloy_sol_types::SolValue;
use common::{bytes, text, vectors, word};
use x402_erc4337::session::zerodev::KernelVersion;
use x402_erc4337::{
    Call, CallAnswer, EntryPoint, EntryPointError, EntryPointEvent, EntryPointVersion, ExecutionError, Gas, NonceKey,
    NotAccount, OperationBuildError, OperationBuilder, Paymaster, error_name, is_account, probe_calldata,
};

fn call(n: u8) -> Call {
    Call { target: Address::repeat_byte(n), value: U256::from(n), data: Bytes::from(vec![n; usize::from(n)]) }
}

#[test]
fn the_vectors_are_read_and_written() {
    for case in vectors()["kernelPermissions"].as_array().unwrap() {
        let data = bytes(&case["executeCallData"]);
        let calls = Call::read(&data).unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].target.to_string(), text(&case["plansContract"]));
        assert_eq!(calls[0].execute(), data);
    }
    // A batch that the Rhinestone SDK made: the owner's set-up of Nexus.
    let setup = bytes(&vectors()["smartSessions"]["ownerSetup"]["userOperation"]["callData"]);
    let calls = Call::read(&setup).unwrap();
    assert!(calls.len() > 1);
    assert_eq!(Call::execute_batch(&calls), setup);
}

#[test]
fn other_modes_are_refused_by_name() {
    let good = call(5).execute();
    let with = |at: usize, to: u8| {
        let mut data = good.to_vec();
        data[at] = to;
        Call::read(&data)
    };
    assert_eq!(with(0, 0), Err(ExecutionError::NotExecute));
    assert_eq!(with(4, 0xff), Err(ExecutionError::Delegatecall));
    assert_eq!(with(4, 0xfe), Err(ExecutionError::UnknownMode));
    assert_eq!(with(5, 1), Err(ExecutionError::TryMode));
    assert_eq!(with(5, 2), Err(ExecutionError::UnknownMode));
    assert_eq!(with(10, 1), Err(ExecutionError::UnknownMode));
    assert_eq!(with(35, 1), Err(ExecutionError::UnknownMode));
    // The offset of the bytes: past the end, and into itself.
    assert_eq!(with(36, 0xff), Err(ExecutionError::Malformed));
    assert_eq!(with(67, 0x60), Err(ExecutionError::Malformed));
    for len in 4..good.len() {
        assert_eq!(Call::read(&good[..len]), Err(ExecutionError::Malformed), "cut at {len}");
    }
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(Call::read(&longer), Err(ExecutionError::Malformed));
    assert_eq!(Call::read(&Call::execute_batch(&[])), Err(ExecutionError::CallCount(0)));
    assert_eq!(Call::read(&Call::execute_batch(&vec![call(1); 65])), Err(ExecutionError::CallCount(65)));
}

#[test]
fn every_change_of_a_batch_is_another_batch_or_refused() {
    let calls = [call(5), call(40), call(0)];
    let good = Call::execute_batch(&calls);
    assert_eq!(Call::read(&good).unwrap(), calls);
    for i in 0..good.len() {
        for bit in [1, 0x80] {
            let mut other = good.to_vec();
            other[i] ^= bit;
            if let Ok(read) = Call::read(&other) {
                assert_ne!(read, calls, "byte {i}");
            }
        }
    }
}

#[test]
fn errors_of_the_chain() {
    let failures = &vectors()["execution"]["failures"];
    for (name, inner) in [
        ("badSignature", "InvalidSignature()"),
        ("wrongPlan", "CallViolatesParamRule()"),
        ("afterRevocation_default", "InvalidNonce()"),
    ] {
        let case = &failures[name];
        let error = EntryPointError::decode(&bytes(&case["data"])).unwrap();
        assert_eq!(error.code(), Some("AA23"));
        let EntryPointError::FailedOpWithRevert { index, reason, inner: data } = error else { panic!() };
        assert_eq!((index, reason.as_str()), (U256::ZERO, text(&case["args"][1])));
        assert_eq!(data, bytes(&case["args"][2]));
        assert_eq!(error_name(FixedBytes::from_slice(&data[..4])), Some(inner));
    }
    assert_eq!(EntryPointError::decode(&[]), None);
    assert_eq!(EntryPointError::decode(&bytes(&failures["wrongPlan"]["data"])[..40]), None);
}

#[test]
fn names_and_selectors_agree() {
    let vectors = vectors();
    let errors = vectors["selectors"]["errors"].as_object().unwrap();
    let mut known = 0;
    for (name, selector) in errors {
        let selector = FixedBytes::<4>::from_slice(&bytes(selector));
        assert_eq!(selector[..], keccak256(name)[..4]);
        if let Some(found) = error_name(selector) {
            assert_eq!(found, name);
            known += 1;
        }
    }
    // All but the error of the vectors' own contract.
    assert_eq!(known, errors.len() - 1);
}

#[test]
fn events() {
    let vectors = vectors();
    let topics = &vectors["selectors"]["events"];
    let topic = |name: &str| word(&topics[name]);
    let hash = B256::repeat_byte(7);
    let sender = Address::repeat_byte(1);
    let data = (U256::from(3), true, U256::from(4), U256::from(5)).abi_encode();
    let indexed = [
        topic("UserOperationEvent(bytes32,address,address,uint256,bool,uint256,uint256)"),
        hash,
        sender.into_word(),
        Address::ZERO.into_word(),
    ];
    assert_eq!(
        EntryPointEvent::decode(&indexed, &data),
        Some(EntryPointEvent::UserOperation {
            hash,
            sender,
            paymaster: Address::ZERO,
            nonce: U256::from(3),
            success: true,
            actual_gas_cost: U256::from(4),
            actual_gas_used: U256::from(5),
        })
    );
    assert_eq!(EntryPointEvent::decode(&indexed[..3], &data), None);
    assert_eq!(EntryPointEvent::decode(&indexed, &data[..100]), None);
    let reason = (U256::from(3), Bytes::from_static(&[9])).abi_encode_params();
    let indexed = [topic("UserOperationRevertReason(bytes32,address,uint256,bytes)"), hash, sender.into_word()];
    assert_eq!(
        EntryPointEvent::decode(&indexed, &reason),
        Some(EntryPointEvent::RevertReason { hash, sender, nonce: U256::from(3), reason: Bytes::from_static(&[9]) })
    );
    assert_eq!(EntryPointEvent::decode(&[topic("BeforeExecution()")], &[]), Some(EntryPointEvent::BeforeExecution));
    let two = |name: &str, data: &[u8]| EntryPointEvent::decode(&[topic(name), hash, sender.into_word()], data);
    let nonce = U256::from(3).abi_encode();
    assert!(two("UserOperationPrefundTooLow(bytes32,address,uint256)", &nonce).is_some());
    assert!(two("PostOpRevertReason(bytes32,address,uint256,bytes)", &reason).is_some());
    let pair = (sender, sender).abi_encode();
    assert!(two("AccountDeployed(bytes32,address,address,address)", &pair).is_some());
    assert!(two("IgnoredInitCode(bytes32,address,address)", &sender.abi_encode()).is_some());
    assert_eq!(EntryPointEvent::decode(&[B256::ZERO], &[]), None);
    assert_eq!(EntryPointEvent::decode(&[], &[]), None);
}

#[test]
fn the_builder_turns_inward_calls_away() {
    let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 1);
    let sender = Address::repeat_byte(1);
    let start = || OperationBuilder::new(entry_point, sender).nonce(NonceKey::default(), 0);
    assert_eq!(start().call(&call(1)).unwrap_err(), OperationBuildError::SelfTarget);
    let inward = Call { target: entry_point.address, ..call(2) };
    assert_eq!(start().batch(&[call(2), inward]).unwrap_err(), OperationBuildError::EntryPointTarget);
    assert_eq!(start().batch(&[]).unwrap_err(), OperationBuildError::NoCall);
    let paid = start()
        .batch(&[call(2), call(3)])
        .unwrap()
        .gas(Gas { call_gas_limit: 9, ..Gas::default() })
        .paymaster(Paymaster { address: Address::repeat_byte(4), ..Paymaster::default() })
        .unwrap();
    assert_eq!(paid.hash(), paid.operation().hash(&entry_point).unwrap());
    let old = EntryPoint::canonical(EntryPointVersion::V06, 1);
    let old =
        OperationBuilder::new(old, sender).nonce(NonceKey::default(), 0).call(&call(2)).unwrap().gas(Gas::default());
    assert_eq!(old.unsponsored().unwrap_err(), OperationBuildError::Version);
}

#[test]
fn accounts_are_told_from_contracts() {
    let vectors = vectors();
    let answer = |v: &serde_json::Value| match text(v).strip_prefix("revert ") {
        Some(data) => CallAnswer::Reverted(data.parse().unwrap()),
        None => CallAnswer::Returned(text(v).parse().unwrap()),
    };
    let mut kernels = Vec::new();
    for probe in vectors["accountProbes"].as_array().unwrap() {
        let code = vec![1; usize::try_from(probe["codeBytes"].as_u64().unwrap()).unwrap()];
        let stranger = answer(&probe["validateUserOp_fromStranger"]);
        let entry_point = answer(&probe["validateUserOp_fromEntryPoint"]);
        assert_eq!(is_account(&code, &stranger, &entry_point), Ok(()), "{}", probe["name"]);
        assert_eq!(is_account(&[], &stranger, &entry_point), Err(NotAccount::NoCode));
        assert_eq!(is_account(&code, &stranger, &stranger), Err(NotAccount::EntryPoint));
        if let CallAnswer::Returned(id) = answer(&probe["accountId"])
            && let Ok(id) = String::abi_decode(&id)
        {
            kernels.extend(KernelVersion::from_account_id(&id));
        }
    }
    assert_eq!(kernels, [KernelVersion::V031, KernelVersion::V033]);
    // "EOA answers 0x; a plain contract reverts empty both times".
    let nothing = CallAnswer::Returned(Bytes::new());
    let empty = CallAnswer::Reverted(Bytes::new());
    assert_eq!(is_account(&[1], &nothing, &nothing), Err(NotAccount::Stranger));
    assert_eq!(is_account(&[1], &empty, &empty), Err(NotAccount::Stranger));
    let open = CallAnswer::Reverted(Bytes::from_static(&[1]));
    assert_eq!(is_account(&[1], &open, &nothing), Err(NotAccount::EntryPoint));
    let selector = bytes(
        &vectors["selectors"]["functions"]["validateUserOp((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes),bytes32,uint256)"],
    );
    assert!(probe_calldata(Address::ZERO).starts_with(&selector));
}
