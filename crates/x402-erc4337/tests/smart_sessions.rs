//! Smart Sessions and Safe4337Module: against `@rhinestone/module-sdk` and the executed operations.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, Bytes, FixedBytes, U256};
use common::{address, bytes, text, vectors, word};
use serde_json::Value;
use x402_erc4337::flz::{FlzError, MAX_UNPACKED, decompress, literals};
use x402_erc4337::scope::{Calls, ScopeViolation, Signatures};
use x402_erc4337::session::SerializedKey;
use x402_erc4337::session::biconomy::{DetailsError, SessionDetails};
use x402_erc4337::session::safe::{SAFE_4337_MODULE, SafeError, SafeOperation, read_signature};
use x402_erc4337::session::smart::{
    ActionData, ChainDigest, ERC7739Data, EnableMode, PolicyData, SMART_SESSION, Session, SessionSignature,
    SmartSessionError, check_enable, multi_chain_hash, permission_id, remove_session, scope, session_digest,
};
use x402_erc4337::{Call, EntryPoint, EntryPointVersion, NonceKey, UserOperation};
use x402_types::UnixSeconds;

const CHAIN: u64 = 84532;

fn policies(v: &Value) -> Vec<PolicyData> {
    let policy = |p: &Value| PolicyData { policy: address(&p["policy"]), initData: bytes(&p["initData"]) };
    v.as_array().unwrap().iter().map(policy).collect()
}

fn session(v: &Value) -> Session {
    Session {
        sessionValidator: address(&v["sessionValidator"]),
        sessionValidatorInitData: bytes(&v["sessionValidatorInitData"]),
        salt: word(&v["salt"]),
        userOpPolicies: policies(&v["userOpPolicies"]),
        erc7739Policies: ERC7739Data { allowedERC7739Content: vec![], erc1271Policies: vec![] },
        actions: v["actions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| ActionData {
                actionTargetSelector: FixedBytes::from_slice(&bytes(&a["actionTargetSelector"])),
                actionTarget: address(&a["actionTarget"]),
                actionPolicies: policies(&a["actionPolicies"]),
            })
            .collect(),
        permitERC4337Paymaster: v["permitERC4337Paymaster"].as_bool().unwrap(),
    }
}

#[test]
fn ids_digests_and_hashes() {
    let vectors = vectors();
    let smart = &vectors["smartSessions"];
    for key in ["use", "unsafeEnable"] {
        assert_eq!(permission_id(&session(&smart[key]["session"])), word(&smart[key]["permissionId"]));
    }
    let case = &smart["unsafeEnable"];
    let account = address(&case["userOperation"]["sender"]);
    let digest = session_digest(&session(&case["session"]), account, U256::ZERO, EnableMode::UnsafeEnable);
    assert_eq!(digest, word(&case["sessionDigest"]));
    assert_ne!(digest, session_digest(&session(&case["session"]), account, U256::ZERO, EnableMode::Enable));
    let digests = [ChainDigest { chainId: CHAIN, sessionDigest: digest }];
    assert_eq!(multi_chain_hash(&digests), word(&case["multiChainSessionHash"]));
    assert_eq!(NonceKey::nexus(SMART_SESSION, [0; 3]).0.to_string(), text(&smart["use"]["nonceKey"]));
}

#[test]
fn use_mode() {
    let vectors = vectors();
    let case = &vectors["smartSessions"]["use"];
    let encoded = bytes(&case["signature"]);
    let decoded = SessionSignature::decode(&encoded).unwrap();
    let SessionSignature::Use { permission_id, signature } = &decoded else { panic!() };
    assert_eq!(*permission_id, word(&case["permissionId"]));
    assert_eq!(signature.len(), 65);
    assert_eq!(decoded.encode(), encoded);
}

#[test]
fn enable_modes() {
    let vectors = vectors();
    let case = &vectors["smartSessions"]["unsafeEnable"];
    let encoded = bytes(&case["userOperation"]["signature"]);
    assert_eq!(decompress(&encoded[1..]).unwrap(), bytes(&case["enablePayloadUncompressed"]));
    let decoded = SessionSignature::decode(&encoded).unwrap();
    let SessionSignature::Enable { mode, enable, signature } = &decoded else { panic!() };
    assert_eq!(*mode, EnableMode::UnsafeEnable);
    assert_eq!(enable.sessionToEnable, session(&case["session"]));
    assert_eq!(enable.permissionEnableSig, bytes(&case["permissionEnableSigPacked"]));
    assert_eq!(signature.len(), 65);
    // By literal runs, which the chain takes as well.
    let ours = decoded.encode();
    assert_eq!(ours.len(), 4753);
    assert_eq!(SessionSignature::decode(&ours), Ok(decoded.clone()));
    let registry =
        SessionSignature::Enable { mode: EnableMode::Enable, enable: enable.clone(), signature: signature.clone() };
    assert_eq!(registry.encode()[0], 1);
    assert_eq!(SessionSignature::decode(&registry.encode()), Ok(registry));

    let account = address(&case["userOperation"]["sender"]);
    let validator = address(&vectors["smartSessions"]["addresses"]["K1Validator"]);
    let owner = address(&vectors["kernelPermissions"][0]["owner"]);
    let check = |chain, nonce: u64, validator, owner| {
        check_enable(enable, *mode, account, U256::from(nonce), chain, validator, owner)
    };
    assert_eq!(check(CHAIN, 0, validator, owner), Ok(()));
    assert_eq!(check(1, 0, validator, owner), Err(SmartSessionError::ChainDigest));
    assert_eq!(check(CHAIN, 1, validator, owner), Err(SmartSessionError::Digest));
    assert_eq!(check(CHAIN, 0, owner, owner), Err(SmartSessionError::EnableSignature));
    assert_eq!(check(CHAIN, 0, validator, validator), Err(SmartSessionError::EnableSignature));
    let mut wider = enable.as_ref().clone();
    wider.sessionToEnable.actions[0].actionPolicies.pop();
    let wider = check_enable(&wider, *mode, account, U256::ZERO, CHAIN, validator, owner);
    assert_eq!(wider, Err(SmartSessionError::Digest));
}

#[test]
fn every_change_of_an_enabling_signature_is_refused() {
    let vectors = vectors();
    let case = &vectors["smartSessions"]["unsafeEnable"];
    let encoded = bytes(&case["userOperation"]["signature"]);
    let good = SessionSignature::decode(&encoded).unwrap();
    let account = address(&case["userOperation"]["sender"]);
    let validator = address(&vectors["smartSessions"]["addresses"]["K1Validator"]);
    let owner = address(&vectors["kernelPermissions"][0]["owner"]);
    for len in 0..encoded.len() {
        assert!(SessionSignature::decode(&encoded[..len]).is_err(), "cut at {len}");
    }
    for i in 0..encoded.len() {
        let mut other = encoded.to_vec();
        other[i] ^= 1;
        let Ok(read) = SessionSignature::decode(&other) else { continue };
        if read == good {
            // A copy of the same zeros from another place.
            continue;
        }
        let SessionSignature::Enable { mode, enable, signature } = read else { continue };
        let SessionSignature::Enable { signature: signed, .. } = &good else { panic!() };
        let checked = check_enable(&enable, mode, account, U256::ZERO, CHAIN, validator, owner);
        assert!(checked.is_err() || signature != *signed, "byte {i}");
    }
    assert_eq!(SessionSignature::decode(&[3]), Err(SmartSessionError::Mode(3)));
    assert_eq!(SessionSignature::decode(&[]), Err(SmartSessionError::Malformed));
    assert_eq!(SessionSignature::decode(&[0; 32]), Err(SmartSessionError::Malformed));
}

#[test]
fn the_scope_of_a_session() {
    let vectors = vectors();
    let smart = &vectors["smartSessions"];
    let case = &smart["unsafeEnable"];
    let account = address(&case["userOperation"]["sender"]);
    let mut session = session(&case["session"]);
    let allowed = scope(&session, account);
    assert_eq!((allowed.signatures.clone(), allowed.unknown.len()), (Signatures::Closed, 0));
    let window = allowed.widest_window();
    assert_eq!((window.valid_after, window.valid_until), (Some(1_780_000_000), Some(1_900_000_000)));
    let Calls::Only(kinds) = &allowed.calls else { panic!() };
    assert_eq!(kinds[0].value_limit, Some(U256::ZERO));
    assert!(!kinds[0].rules.is_empty());

    let at = UnixSeconds(1_800_000_000);
    let call_data = bytes(&case["userOperation"]["callData"]);
    assert_eq!(allowed.permits_call_data(&call_data, at), Ok(()));
    let call = Call::read(&call_data).unwrap().remove(0);
    assert!(matches!(allowed.permits(&call, UnixSeconds(1_900_000_001)), Err(ScopeViolation::Expired(_))));
    let mut data = call.data.to_vec();
    data[4] ^= 1;
    let other = Call { target: call.target, value: call.value, data: data.into() };
    assert_eq!(allowed.permits(&other, at), Err(ScopeViolation::Argument(0)));
    let dear = Call { value: U256::from(1), ..call.clone() };
    assert_eq!(allowed.permits(&dear, at), Err(ScopeViolation::Value(U256::ZERO)));

    session.actions[0].actionPolicies[0].policy = Address::repeat_byte(9);
    let unknown = scope(&session, account);
    assert_eq!(unknown.permits(&call, at), Err(ScopeViolation::UnknownPolicy(Address::repeat_byte(9))));
    session.actions[0].actionPolicies.clear();
    assert_eq!(scope(&session, account).permits(&call, at), Err(ScopeViolation::NothingLeft));

    let remove = remove_session(permission_id(&session));
    assert_eq!(remove.target, SMART_SESSION);
    assert_eq!(remove.data.len(), 36);
}

#[test]
fn fastlz() {
    assert_eq!(decompress(&[]), Ok(vec![]));
    assert_eq!(decompress(&[0, 7]), Ok(vec![7]));
    // Three more of the byte before: a copy that reads what it writes.
    assert_eq!(decompress(&[0, 7, 0x20, 0]), Ok(vec![7; 4]));
    assert_eq!(decompress(&[0, 7, 0xe0, 255, 0]), Ok(vec![7; 265]));
    assert_eq!(decompress(&[1, 7]), Err(FlzError::Truncated));
    assert_eq!(decompress(&[0, 7, 0x20]), Err(FlzError::Truncated));
    assert_eq!(decompress(&[0, 7, 0xe0, 1]), Err(FlzError::Truncated));
    assert_eq!(decompress(&[0, 7, 0x20, 1]), Err(FlzError::Distance));
    assert_eq!(decompress(&[0x20, 0]), Err(FlzError::Distance));
    let bomb: Vec<u8> = [0, 7].into_iter().chain([0xe0, 255, 0].repeat(300)).collect();
    assert_eq!(decompress(&bomb), Err(FlzError::TooLong));
    let longest = vec![9; MAX_UNPACKED];
    assert_eq!(decompress(&literals(&longest)), Ok(longest));
}

#[test]
fn safe_op_hash_and_signature() {
    let vectors = vectors();
    let case = &vectors["safe4337"];
    let op = UserOperation::from_json(case["userOperation"].to_string().as_bytes()).unwrap();
    let v07 = EntryPoint::canonical(EntryPointVersion::V07, CHAIN);
    assert_eq!(op.hash(&v07).unwrap(), word(&case["userOpHash"]));
    assert_eq!(SAFE_4337_MODULE, address(&case["safe4337Module"]));
    let (valid_after, valid_until, owners) = read_signature(&op.signature).unwrap();
    let message = &case["safeOpTypedData"]["message"];
    assert_eq!(Some(valid_after), message["validAfter"].as_u64());
    assert_eq!(Some(valid_until), message["validUntil"].as_u64());
    let safe = SafeOperation { op: &op, valid_after, valid_until, module: SAFE_4337_MODULE };
    let hash = safe.hash(&v07).unwrap();
    // The chain took this signature: it is one of the owner's, over the same hash.
    let signer = alloy_primitives::Signature::from_raw(owners).unwrap().recover_address_from_prehash(&hash).unwrap();
    assert_eq!(signer, address(&vectors["kernelPermissions"][0]["owner"]));
    assert_eq!(safe.signature(owners).unwrap(), op.signature);

    assert_eq!(read_signature(&[0; 11]), Err(SafeError::Signature(11)));
    let late = SafeOperation { valid_until: 1 << 48, ..safe };
    assert_eq!((late.hash(&v07), late.signature(&[])), (Err(SafeError::Time), Err(SafeError::Time)));
    let other = SafeOperation { valid_until: valid_until + 1, ..safe };
    assert_ne!(other.hash(&v07).unwrap(), hash);
}

proptest::proptest! {
    #[test]
    fn roundtrip_literals(data: Vec<u8>) {
        proptest::prop_assert_eq!(decompress(&literals(&data)).unwrap(), data);
    }

    #[test]
    fn decode_session_signature_never_panics(data: Vec<u8>) {
        let _ = SessionSignature::decode(&data);
        let _ = decompress(&data);
        let _ = scope(&Session {
            sessionValidator: Address::ZERO,
            sessionValidatorInitData: Bytes::new(),
            salt: Default::default(),
            userOpPolicies: vec![PolicyData {
                policy: x402_erc4337::session::smart::contracts::UNIVERSAL_ACTION,
                initData: data.into(),
            }],
            erc7739Policies: ERC7739Data { allowedERC7739Content: vec![], erc1271Policies: vec![] },
            actions: vec![],
            permitERC4337Paymaster: false,
        }, Address::ZERO);
    }
}

/// The sessions of the vectors in the envelope of Biconomy's SDK.
fn details() -> Value {
    let big = |n: u64| serde_json::json!({"__type": "bigint", "value": n.to_string()});
    let vectors = vectors();
    let case = &vectors["smartSessions"]["unsafeEnable"];
    let mut session = case["session"].clone();
    session["chainId"] = big(CHAIN);
    serde_json::json!([{
        "mode": "0x02",
        "permissionId": case["permissionId"],
        "signature": "0x",
        "enableSessionData": {
            "enableSession": {
                "chainDigestIndex": 0,
                "hashesAndChainIds": [{"chainId": big(CHAIN), "sessionDigest": case["sessionDigest"]}],
                "sessionToEnable": session,
                "permissionEnableSig": case["ownerSignature"],
            },
            "validator": vectors["smartSessions"]["addresses"]["K1Validator"],
            "accountType": "nexus",
        },
    }])
}

#[test]
fn serialized_details_make_the_signature_of_the_chain() {
    let vectors = vectors();
    let case = &vectors["smartSessions"]["unsafeEnable"];
    let read = SessionDetails::read(&details().to_string()).unwrap();
    assert_eq!(SerializedKey::provider(&read), "biconomy");
    let detail = &read.sessions[0];
    let executed = SessionSignature::decode(&bytes(&case["userOperation"]["signature"])).unwrap();
    let SessionSignature::Enable { mode, enable, .. } = executed else { panic!() };
    assert_eq!(detail.mode, Some(mode));
    assert_eq!(detail.enable, *enable);
    let account = address(&case["userOperation"]["sender"]);
    let call_data = bytes(&case["userOperation"]["callData"]);
    assert_eq!(detail.scope(account).permits_call_data(&call_data, UnixSeconds(1_800_000_000)), Ok(()));
}

/// No document says how bytes are spelt: they are what they say, in either case.
#[test]
fn bytes_in_upper_case_are_the_same_bytes() {
    let lower = details();
    let mut upper = lower.clone();
    let rewrite = |value: &mut Value, spelling: fn(&str) -> String| {
        let digits = value.as_str().unwrap().strip_prefix("0x").unwrap();
        *value = format!("0x{}", spelling(digits)).into();
    };
    let mixed = |digits: &str| {
        let one = |(at, digit): (usize, char)| if at % 2 == 0 { digit.to_ascii_uppercase() } else { digit };
        digits.chars().enumerate().map(one).collect()
    };
    rewrite(&mut upper[0]["permissionId"], str::to_uppercase);
    let enable = &mut upper[0]["enableSessionData"]["enableSession"];
    rewrite(&mut enable["permissionEnableSig"], mixed);
    rewrite(&mut enable["hashesAndChainIds"][0]["sessionDigest"], str::to_uppercase);
    let session = &mut enable["sessionToEnable"];
    rewrite(&mut session["sessionValidatorInitData"], mixed);
    rewrite(&mut session["salt"], str::to_uppercase);
    rewrite(&mut session["actions"][0]["actionTargetSelector"], str::to_uppercase);
    rewrite(&mut session["actions"][0]["actionPolicies"][0]["initData"], mixed);
    let read = |details: &Value| SessionDetails::read(&details.to_string()).unwrap();
    assert_ne!(upper, lower);
    assert_eq!(read(&upper).sessions, read(&lower).sessions);
    // The hash is that of the text, as ever.
    assert_ne!(SerializedKey::hash(&read(&upper)), SerializedKey::hash(&read(&lower)));

    let refused = |change: fn(&mut Value)| {
        let mut details = lower.clone();
        change(&mut details[0]["enableSessionData"]["validator"]);
        match SessionDetails::read(&details.to_string()) {
            Err(DetailsError::Field(error)) => error.field,
            other => panic!("{other:?}"),
        }
    };
    // Upper case throughout is no checksum, and `0X` is no prefix.
    let shout: fn(&mut Value) = |value| *value = value.as_str().unwrap().to_uppercase().replace("0X", "0x").into();
    assert_eq!(refused(shout), "[0].enableSessionData.validator");
    let prefix: fn(&mut Value) = |value| *value = value.as_str().unwrap().replace("0x", "0X").into();
    assert_eq!(refused(prefix), "[0].enableSessionData.validator");
}

#[test]
fn other_details_are_refused() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = details();
        change(&mut json);
        SessionDetails::read(&json.to_string()).unwrap_err()
    };
    let unsupported = refused(&|j| j[0]["enableSessionData"]["accountType"] = "kernel".into());
    assert_eq!(unsupported, DetailsError::UnsupportedProvider);
    let salt = format!("0x{:064x}", 9);
    let other =
        refused(&|j| j[0]["enableSessionData"]["enableSession"]["sessionToEnable"]["salt"] = salt.clone().into());
    assert_eq!(other, DetailsError::PermissionId(0));
    let named = |change: &dyn Fn(&mut Value)| match refused(change) {
        DetailsError::Field(e) => e.field,
        e => panic!("{e:?}"),
    };
    assert_eq!(named(&|j| j[0]["mode"] = "0x03".into()), "[0].mode");
    assert_eq!(named(&|j| j[0]["permissionId"] = Value::Null), "[0].permissionId");
    let data = "[0].enableSessionData";
    assert_eq!(named(&|j| j[0]["enableSessionData"]["validator"] = "0x".into()), format!("{data}.validator"));
    assert_eq!(
        named(&|j| j[0]["enableSessionData"]["enableSession"]["hashesAndChainIds"][0]["chainId"] = 1.into()),
        format!("{data}.enableSession.hashesAndChainIds[0].chainId")
    );
    assert_eq!(named(&|j| *j = serde_json::json!([])), "$");
    assert!(matches!(SessionDetails::read("{"), Err(DetailsError::Json(_))));
    assert!(matches!(SessionDetails::read(&" ".repeat(64 * 1024 + 1)), Err(DetailsError::Json(_))));
}

#[test]
fn sessions_of_the_sdk_with_every_list_filled() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../x402-testkit/vectors/smart-sessions.json")).unwrap();
    assert_eq!(cases.len(), 2);
    for case in &cases {
        let encoded = bytes(&case["encoded"]);
        let decoded = SessionSignature::decode(&encoded).unwrap();
        assert_eq!(SessionSignature::decode(&decoded.encode()).as_ref(), Ok(&decoded));
        let SessionSignature::Enable { mode, enable, signature } = decoded else { panic!() };
        assert_eq!(format!("0x{:02x}", mode as u8), text(&case["mode"]));
        assert_eq!(signature, Bytes::from_static(&[0xab, 0xcd, 0xef]));
        assert_eq!(permission_id(&enable.sessionToEnable), word(&case["permissionId"]));
        let account = address(&case["account"]);
        let nonce = U256::from(case["nonce"].as_u64().unwrap());
        let digest = session_digest(&enable.sessionToEnable, account, nonce, mode);
        assert_eq!(digest, word(&case["sessionDigests"][0]));
        assert_eq!(multi_chain_hash(&enable.hashesAndChainIds), word(&case["multiChainSessionHash"]));
        let (validator, owner) = (address(&case["validator"]), address(&case["owner"]));
        assert_eq!(check_enable(&enable, mode, account, nonce, CHAIN, validator, owner), Ok(()));

        let read = SessionDetails::read(text(&case["biconomyText"])).unwrap();
        assert_eq!((read.sessions[0].mode, &read.sessions[0].enable), (Some(mode), enable.as_ref()));

        let allowed = scope(&enable.sessionToEnable, account);
        assert_eq!((allowed.signatures.clone(), allowed.unknown.len()), (Signatures::Open, 0));
        let at = UnixSeconds(1_800_000_000);
        let call = |target, value: u64, data: &'static [u8]| Call {
            target,
            value: U256::from(value),
            data: Bytes::from_static(data),
        };
        // The fallback action is sudo; what limits native value in all limits it here as well.
        let other = Address::repeat_byte(6);
        assert_eq!(allowed.permits(&call(other, 9, &[1, 2, 3, 4]), at), Ok(()));
        assert_eq!(allowed.permits(&call(other, 10, &[1, 2, 3, 4]), at), Err(ScopeViolation::Value(U256::from(9))));
        assert_eq!(
            allowed.permits(&call(SMART_SESSION, 0, &[1, 2, 3, 4]), at),
            Err(ScopeViolation::ModuleTarget(SMART_SESSION))
        );
        let plans = enable.sessionToEnable.actions[0].actionTarget;
        let spending = call(plans, 0, &[0x7c, 0xbc, 0x23, 0x73]);
        assert_eq!(allowed.permits(&spending, at), Err(ScopeViolation::UnsupportedLimit));
    }
}
