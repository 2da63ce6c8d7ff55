//! ERC-4337: hash and packing of every version, against viem and `EntryPoint.getUserOpHash`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, Bytes, U256};
use common::{address, text, vectors, word};
use serde_json::{Value, json};
use x402_erc4337::{
    Eip7702Authorization, EntryPoint, EntryPointVersion, FieldError, HashError, Init, PackError, PackedUserOperation,
    Problem, ReadError, UserOperation, UserOperationV06,
};

fn entry_point(v: &Value) -> EntryPoint {
    let version: EntryPointVersion = text(&v["entryPointVersion"]).parse().unwrap();
    let found = EntryPoint::canonical(version, v["chainId"].as_u64().unwrap());
    assert_eq!(found.address, address(&v["entryPoint"]));
    found
}

fn read(op: &Value) -> Result<UserOperation, ReadError> {
    UserOperation::from_json(op.to_string().as_bytes())
}

#[test]
fn hashes_equal_the_chain() {
    let vectors = vectors();
    let cases = vectors["userOpHash"].as_array().unwrap();
    assert_eq!(cases.len(), 19);
    for case in cases {
        let name = format!("{} {}", case["entryPointVersion"], case["name"]);
        let entry_point = entry_point(case);
        let expected = word(&case["userOpHash"]);
        let json = case["userOperation"].to_string();
        if entry_point.version == EntryPointVersion::V06 {
            let op = UserOperationV06::from_json(json.as_bytes()).unwrap();
            assert_eq!(op.hash(84532), expected, "{name}");
            assert_eq!(UserOperationV06::from_json(&serde_json::to_vec(&op).unwrap()).unwrap(), op);
            continue;
        }
        let op = UserOperation::from_json(json.as_bytes()).unwrap();
        assert_eq!(op.hash(&entry_point).unwrap(), expected, "{name}");
        let delegate = op.eip7702_auth.map(|a| a.address);

        let packed = PackedUserOperation::from_json(case["packed"].to_string().as_bytes()).unwrap();
        assert_eq!(op.pack(entry_point.version).unwrap(), packed, "{name}");
        assert_eq!(packed.hash(&entry_point, delegate).unwrap(), expected, "{name}");

        let mut unpacked = packed.unpack(entry_point.version).unwrap();
        assert_eq!(unpacked.hash_delegated(&entry_point, delegate).unwrap(), expected, "{name}");
        unpacked.eip7702_auth = op.eip7702_auth;
        assert_eq!(unpacked, op, "{name}");

        assert_eq!(read(&serde_json::to_value(&op).unwrap()).unwrap(), op, "{name}");
        let json = serde_json::to_vec(&packed).unwrap();
        assert_eq!(PackedUserOperation::from_json(&json).unwrap(), packed, "{name}");
    }
}

#[test]
fn executed_operations_have_the_hash_of_their_event() {
    let vectors = vectors();
    let kernel = vectors["kernelPermissions"].as_array().unwrap();
    let v07 = EntryPoint::canonical(EntryPointVersion::V07, 84532);
    for op in kernel.iter().flat_map(|k| k["operations"].as_array().unwrap()) {
        assert_eq!(read(&op["userOperation"]).unwrap().hash(&v07).unwrap(), word(&op["executed"]["userOpHashInEvent"]));
    }
    let v08 = EntryPoint::canonical(EntryPointVersion::V08, 84532);
    let simple = &vectors["eip7702"];
    for (key, hash) in [("simple7702_v08", "eventHash"), ("simple7702_v08_followup", "userOpHash")] {
        assert_eq!(read(&simple[key]["userOperation"]).unwrap().hash(&v08).unwrap(), word(&simple[key][hash]));
    }
    for key in ["ownerSetup", "use", "unsafeEnable"] {
        let case = &vectors["smartSessions"][key];
        assert_eq!(read(&case["userOperation"]).unwrap().hash(&v07).unwrap(), word(&case["userOpHash"]));
    }
}

fn case(version: &str, name: &str) -> Value {
    let vectors = vectors();
    let cases = vectors["userOpHash"].as_array().unwrap();
    cases.iter().find(|c| c["entryPointVersion"] == version && c["name"] == name).unwrap().clone()
}

#[test]
fn every_member_is_checked_and_named() {
    let good = case("0.7", "factory_and_paymaster")["userOperation"].clone();
    let required = [
        ("sender", "an address in lower case or with a right checksum"),
        ("nonce", ""),
        ("callData", ""),
        ("callGasLimit", ""),
        ("verificationGasLimit", ""),
        ("preVerificationGas", ""),
        ("maxFeePerGas", ""),
        ("maxPriorityFeePerGas", ""),
        ("factoryData", ""),
        ("paymasterVerificationGasLimit", ""),
        ("paymasterPostOpGasLimit", ""),
    ];
    let problem = |key: &str, value: Option<Value>| {
        let mut op = good.clone();
        match value {
            Some(v) => op[key] = v,
            None => _ = op.as_object_mut().unwrap().remove(key),
        }
        match read(&op) {
            Err(ReadError::Field(FieldError { field, problem })) => {
                assert_eq!(field, key);
                problem
            }
            other => panic!("{key}: {other:?}"),
        }
    };
    for (key, _) in required {
        assert_eq!(problem(key, None), Problem::Missing);
        assert_eq!(problem(key, Some(Value::Null)), Problem::Missing);
    }
    for key in good.as_object().unwrap().keys() {
        assert_eq!(problem(key, Some(json!(7))), Problem::WrongType { expected: "a string", found: "a number" });
        assert_eq!(problem(key, Some(json!([]))), Problem::WrongType { expected: "a string", found: "an array" });
        assert!(matches!(problem(key, Some(json!(""))), Problem::Form(_)));
        assert!(matches!(problem(key, Some(json!("0xzz"))), Problem::Form(_)));
        assert!(matches!(problem(key, Some(json!("0X11"))), Problem::Form(_)));
        let twice = text(&good[key]).replacen("0x", "0x0x", 1);
        assert!(matches!(problem(key, Some(json!(twice))), Problem::Form(_)));
    }
    assert_eq!(problem("callGasLimit", Some(json!(format!("0x1{}", "0".repeat(32))))), Problem::Range("uint128"));
    assert_eq!(problem("nonce", Some(json!(format!("0x1{}", "0".repeat(64))))), Problem::Range("uint256"));
    assert_eq!(problem("nonce", Some(json!("0x"))), Problem::Form("a quantity of at least one digit"));
    assert_eq!(problem("nonce", Some(json!("0x1_0"))), Problem::Form("0x and hexadecimal digits"));
    assert_eq!(problem("callData", Some(json!(format!("0x{}", "00".repeat(24 * 1024 + 1))))), Problem::TooLong(24576));
    assert_eq!(
        problem("sender", Some(json!("0x70997970c51812dc3A010C7d01b50e0d17dc79C8"))),
        Problem::Form("an address in lower case or with a right checksum")
    );
    assert!(matches!(problem("initCode", Some(json!("0x"))), Problem::Refused(_)));
}

#[test]
fn null_is_absent_and_a_missing_signature_is_empty() {
    let case = case("0.7", "minimal");
    let mut op = case["userOperation"].clone();
    op.as_object_mut().unwrap().remove("signature");
    for key in ["factory", "factoryData", "paymaster", "paymasterData", "paymasterVerificationGasLimit", "eip7702Auth"]
    {
        op[key] = Value::Null;
    }
    op["aMemberOfABundler"] = json!({"x": 1});
    let op = read(&op).unwrap();
    assert_eq!(op.signature, Bytes::new());
    assert_eq!(op.hash(&entry_point(&case)).unwrap(), word(&case["userOpHash"]));
}

#[test]
fn parts_without_their_head_are_refused() {
    for (key, value) in [
        ("factoryData", "0x01"),
        ("paymasterData", "0x01"),
        ("paymasterSignature", "0x01"),
        ("paymasterPostOpGasLimit", "0x1"),
    ] {
        let mut op = case("0.9", "minimal")["userOperation"].clone();
        op[key] = json!(value);
        let Err(ReadError::Field(e)) = read(&op) else { panic!("{key}") };
        assert_eq!(e.field, key);
        assert!(matches!(e.problem, Problem::Refused(_)));
    }
}

#[test]
fn members_of_a_later_version_have_no_hash() {
    let of = |version| EntryPoint::canonical(version, 84532);
    let delegated = read(&case("0.8", "eip7702_no_factory_data")["userOperation"]).unwrap();
    let too_early = HashError::Pack(PackError::Eip7702NeedsV08);
    assert_eq!(delegated.hash(&of(EntryPointVersion::V07)), Err(too_early));
    assert_eq!(delegated.pack(EntryPointVersion::V07), Err(PackError::Eip7702NeedsV08));
    let mut unknown = delegated.clone();
    unknown.eip7702_auth = None;
    assert_eq!(unknown.hash(&of(EntryPointVersion::V08)), Err(HashError::DelegateMissing));
    let other = Some(Address::repeat_byte(9));
    assert_eq!(delegated.hash_delegated(&of(EntryPointVersion::V08), other), Err(HashError::DelegateMismatch));

    let signed = read(&case("0.9", "paymaster_signature")["userOperation"]).unwrap();
    let too_early = HashError::Pack(PackError::PaymasterSignatureNeedsV09);
    assert_eq!(signed.hash(&of(EntryPointVersion::V08)), Err(too_early));
    assert_eq!(signed.hash(&of(EntryPointVersion::V06)), Err(HashError::Pack(PackError::NotPacked)));
}

#[test]
fn the_paymaster_signature_is_not_hashed_and_its_length_is_checked() {
    let case = case("0.9", "paymaster_signature");
    let v09 = entry_point(&case);
    let mut op = read(&case["userOperation"]).unwrap();
    op.paymaster.as_mut().unwrap().signature = Bytes::from_static(&[1, 2, 3]);
    assert_eq!(op.hash(&v09).unwrap(), word(&case["userOpHash"]));
    assert_eq!(op.pack(v09.version).unwrap().hash(&v09, None).unwrap(), word(&case["userOpHash"]));

    let mut packed = PackedUserOperation::from_json(case["packed"].to_string().as_bytes()).unwrap();
    let mut data = packed.paymaster_and_data.to_vec();
    let at = data.len() - 10;
    data[at..at + 2].copy_from_slice(&500u16.to_be_bytes());
    packed.paymaster_and_data = data.into();
    let long = PackError::PaymasterSignatureLength { data: packed.paymaster_and_data.len(), signature: 500 };
    assert_eq!(packed.hash(&v09, None), Err(HashError::Pack(long)));
    assert_eq!(packed.unpack(v09.version), Err(long));

    op.paymaster.as_mut().unwrap().signature = vec![0; 65_536].into();
    assert_eq!(op.pack(v09.version), Err(PackError::PaymasterSignatureTooLong(65_536)));
}

#[test]
fn truncated_packed_operations_are_refused() {
    let case = case("0.7", "factory_and_paymaster");
    let packed = PackedUserOperation::from_json(case["packed"].to_string().as_bytes()).unwrap();
    for len in 1..20 {
        let mut cut = packed.clone();
        cut.init_code = packed.init_code.slice(..len);
        assert_eq!(cut.unpack(EntryPointVersion::V07), Err(PackError::InitCodeTooShort(len)));
    }
    for len in 1..52 {
        let mut cut = packed.clone();
        cut.paymaster_and_data = packed.paymaster_and_data.slice(..len);
        assert_eq!(cut.unpack(EntryPointVersion::V07), Err(PackError::PaymasterDataTooShort(len)));
    }
    // Every byte but those of the signature changes the hash, or is refused.
    let v07 = entry_point(&case);
    let hash = packed.hash(&v07, None).unwrap();
    let json = serde_json::to_value(&packed).unwrap();
    for (key, value) in json.as_object().unwrap() {
        let digits = text(value).len();
        for at in 0..digits {
            let mut changed = text(value).as_bytes().to_vec();
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            let mut other = json.clone();
            other[key] = json!(String::from_utf8(changed).unwrap());
            if let Ok(read) = PackedUserOperation::from_json(other.to_string().as_bytes()) {
                assert_eq!(read.hash(&v07, None).unwrap() == hash, key == "signature", "{key} at {at}");
            }
        }
    }
}

#[test]
fn version_06_has_its_own_form() {
    let good = case("0.6", "factory_and_paymaster")["userOperation"].clone();
    let read = |op: &Value| UserOperationV06::from_json(op.to_string().as_bytes());
    let mut op = good.clone();
    op["factory"] = json!("0x1111111111111111111111111111111111111111");
    assert!(matches!(read(&op), Err(ReadError::Field(e)) if e.field == "factory"));
    for key in ["initCode", "paymasterAndData"] {
        let mut op = good.clone();
        op[key] = json!("0x22");
        assert!(matches!(read(&op), Err(ReadError::Field(e)) if e.field == key));
    }
    let mut op = good;
    op["callGasLimit"] = json!(format!("0x{}", "f".repeat(64)));
    assert_eq!(read(&op).unwrap().call_gas_limit, U256::MAX);
}

#[test]
fn short_markers_count_as_eip7702_in_the_hash() {
    // Eip7702Support of 0.8 and 0.9: initCode of 2 to 20 bytes, zero-padded, is the marker.
    let case = case("0.8", "eip7702_no_factory_data");
    let mut packed = PackedUserOperation::from_json(case["packed"].to_string().as_bytes()).unwrap();
    packed.init_code = Bytes::from_static(&[0x77, 0x02]);
    let delegate = Some(Address::repeat_byte(0x44));
    assert_eq!(packed.hash(&entry_point(&case), delegate).unwrap(), word(&case["userOpHash"]));
    assert_eq!(Init::Eip7702 { data: Bytes::new() }.code().len(), 20);
}

proptest::proptest! {
    #[test]
    fn roundtrip_user_op(
        sender: [u8; 20], nonce: [u8; 32], init in proptest::collection::vec(proptest::num::u8::ANY, 20..60),
        gas: [u128; 6], pvg: [u8; 32], data: Vec<u8>, pm: Option<([u8; 20], Vec<u8>, Vec<u8>)>,
    ) {
        let op = UserOperation {
            sender: sender.into(),
            nonce: U256::from_be_bytes(nonce),
            init: Init::Factory { factory: Address::from_slice(&init[..20]), data: init[20..].to_vec().into() },
            call_data: data.into(),
            call_gas_limit: gas[0],
            verification_gas_limit: gas[1],
            pre_verification_gas: U256::from_be_bytes(pvg),
            max_fee_per_gas: gas[2],
            max_priority_fee_per_gas: gas[3],
            paymaster: pm.map(|(address, data, signature)| x402_erc4337::Paymaster {
                address: address.into(),
                verification_gas_limit: gas[4],
                post_op_gas_limit: gas[5],
                data: data.into(),
                signature: signature.into(),
            }),
            ..UserOperation::default()
        };
        let v09 = EntryPoint::canonical(EntryPointVersion::V09, 1);
        let packed = op.pack(v09.version).unwrap();
        proptest::prop_assert_eq!(packed.hash(&v09, None).unwrap(), op.hash(&v09).unwrap());
        proptest::prop_assert_eq!(&packed.unpack(v09.version).unwrap(), &op);
        proptest::prop_assert_eq!(read(&serde_json::to_value(&op).unwrap()).unwrap(), op);
    }

    #[test]
    fn decode_user_op_never_panics(json: Vec<u8>) {
        let _ = UserOperation::from_json(&json);
        let _ = PackedUserOperation::from_json(&json);
        let _ = UserOperationV06::from_json(&json);
    }
}

#[test]
fn eip7702_authorizations_are_signed_by_their_account() {
    let vectors = vectors();
    let case = &vectors["eip7702"]["simple7702_v08"];
    let op = read(&case["userOperation"]).unwrap();
    let auth = op.eip7702_auth.unwrap();
    assert_eq!(auth.signing_hash(), word(&case["authorizationHash"]));
    assert_eq!(auth.authority(), Some(op.sender));
    let other = Eip7702Authorization { nonce: 200, ..auth };
    assert_ne!(other.authority(), Some(op.sender));
    assert_eq!(Eip7702Authorization { signature: None, ..auth }.authority(), None);
    assert_eq!(read(&serde_json::to_value(&op).unwrap()).unwrap(), op);
}

#[test]
fn handle_ops_of_each_version() {
    let functions = &vectors()["selectors"]["functions"];
    let old = common::bytes(
        &functions["handleOps((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address)"],
    );
    let new = common::bytes(
        &functions["handleOps((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes)[],address)"],
    );
    assert!(UserOperationV06::handle_ops(&[UserOperationV06::default()], Address::ZERO).starts_with(&old));
    assert!(PackedUserOperation::handle_ops(&[PackedUserOperation::default()], Address::ZERO).starts_with(&new));
    assert_eq!(PackedUserOperation::from_handle_ops(&old), None);
}

#[test]
fn names_of_versions() {
    for version in EntryPointVersion::ALL {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    assert!("0.5".parse::<EntryPointVersion>().is_err());
}
