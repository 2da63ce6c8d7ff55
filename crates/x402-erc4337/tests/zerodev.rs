//! Kernel permissions: every value of the vectors that the ZeroDev SDK made and the chain executed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use base64_simd::STANDARD;
use common::{address, bytes, now, text, vectors, word};
use serde_json::{Value, json};
use x402_erc4337::scope::{Calls, Limit, Signatures, Violation, Window};
use x402_erc4337::session::zerodev::{
    AccountError, Approval, ApprovalError, CallPolicyVersion, CheckError, Counterfactual, Draft, ECDSA_VALIDATOR,
    EnableStatus, Grant, IssueError, KernelAccount, KernelSignature, KernelVersion, Permission, PermissionError,
    PermissionSigner, Policy, PolicyError, PolicyItem, Root, domain_separator, invalidate_nonce, issue, uninstall,
    user_op_signature, wrapped_digest,
};
use x402_erc4337::{
    Builder, Call, EntryPoint, EntryPointVersion, FieldError, Gas, Init, KernelMode, NonceKey, PackedUserOperation,
    Problem, UserOperation,
};
use x402_evm::signature::Signature;
use x402_types::UnixSeconds;

const CHAIN: u64 = 84532;

fn cases() -> Vec<Value> {
    vectors()["kernelPermissions"].as_array().unwrap().clone()
}

fn version(case: &Value) -> KernelVersion {
    KernelVersion::ALL.into_iter().find(|v| v.as_str() == text(&case["kernelVersion"])).unwrap()
}

fn approval(case: &Value) -> Approval {
    Approval::read(text(&case["serialized"])).unwrap()
}

/// The base64 text of a changed document.
fn serialize(json: &Value) -> String {
    STANDARD.encode_to_string(json.to_string().as_bytes())
}

#[test]
fn account_address_by_create2() {
    for case in cases() {
        let account = KernelAccount::from_factory_data(&bytes(&case["factoryData"])).unwrap();
        assert_eq!(account, KernelAccount::new(version(&case), address(&case["owner"]), U256::ZERO));
        assert_eq!(account.address(), address(&case["account"]));
        assert_eq!(account.factory(), address(&case["factory"]));
        assert_eq!(account.factory_data(), bytes(&case["factoryData"]));
    }
}

#[test]
fn policy_items() {
    let vectors = vectors();
    for case in vectors["policyItems"].as_array().unwrap() {
        // The same params as they stand in an approval.
        let mut json: Value = cases()[0]["serializedJson"].clone();
        json["permissionParams"]["policies"] = json!([{ "policyParams": case["policyParams"] }]);
        let approval = Approval::read(&serialize(&json)).unwrap();
        let item = &approval.policies[0];
        assert_eq!(item.item(), bytes(&case["item"]), "{case}");
        assert_eq!(PolicyItem::from_item(&bytes(&case["item"])).as_ref(), Ok(item));
        // Written as the SDK writes them.
        let written = String::from_utf8(STANDARD.decode_to_vec(approval.write().as_bytes()).unwrap()).unwrap();
        let written: Value = serde_json::from_str(&written).unwrap();
        // Addresses are written with their checksum; some of the vectors' are in lower case.
        let params = |v: &Value| v.to_string().to_lowercase();
        assert_eq!(params(&written["permissionParams"]["policies"][0]["policyParams"]), params(&case["policyParams"]));
    }
}

#[test]
fn permission_id_under_each_flag() {
    let vectors = vectors();
    let by_flag = &vectors["permissionIdByFlag"];
    let policy = PolicyItem::from_item(&bytes(&by_flag["policies"][0])).unwrap();
    let session = address(&cases()[0]["sessionKey"]);
    for (flag, id) in by_flag["flags"].as_object().unwrap() {
        let flag = u16::from_str_radix(flag.trim_start_matches("0x"), 16).unwrap();
        let permission = Permission { policies: vec![policy.clone()], flag, signer: PermissionSigner::ecdsa(session) };
        assert_eq!(permission.id().to_string(), text(id));
        assert_eq!(Permission::from_enable_data(&permission.enable_data()), Ok(permission));
    }
}

#[test]
fn permissions_enable_data_digests_and_signatures() {
    for case in cases() {
        let approval = approval(&case);
        let session = address(&case["sessionKey"]);
        let permission = approval.check(session, CHAIN, 1).unwrap();
        assert_eq!(permission.flag, 0);
        let items: Vec<Bytes> = permission.policies.iter().map(PolicyItem::item).collect();
        let expected: Vec<Bytes> = case["policies"].as_array().unwrap().iter().map(|p| bytes(&p["item"])).collect();
        assert_eq!(items, expected);
        assert_eq!(permission.id().to_string(), text(&case["permissionId"]));
        assert_eq!(permission.validation_id().to_string(), text(&case["validationId"]));
        assert_eq!(permission.enable_data(), bytes(&case["enableData"]));
        assert_eq!(Permission::from_enable_data(&bytes(&case["enableData"])).as_ref(), Ok(&permission));

        let account = address(&case["account"]);
        assert_eq!(domain_separator(account, version(&case), CHAIN), word(&case["domainSeparator"]));
        let digest = permission.enable_digest(account, version(&case), CHAIN, 1);
        assert_eq!(digest, word(&case["enableDigest"]));

        let owner: PrivateKeySigner = text(&case["ownerPrivateKey"]).parse().unwrap();
        let signature = owner.sign_hash_sync(&digest).unwrap();
        assert_eq!(Bytes::from(signature.as_bytes()), bytes(&case["enableSignature"]));
    }
}

#[test]
fn serialized_approvals_read_and_written() {
    for case in cases() {
        let approval = approval(&case);
        assert_eq!(approval.write().as_str(), text(&case["serialized"]));
        assert_eq!(approval.hash(), word(&case["serializedKeccak256OfBase64Ascii"]));
        assert_eq!(approval.account, address(&case["account"]));
        assert_eq!(approval.owner(), address(&case["owner"]));
        assert_eq!(approval.version(), version(&case));
        assert_eq!(approval.enable_signature, Some(bytes(&case["enableSignature"])));
        let embedded = case["privateKeyEmbedded"].as_bool().unwrap();
        assert_eq!(approval.private_key.is_some(), embedded);
        if let Some(key) = &approval.private_key {
            assert_eq!(key.address(), address(&case["sessionKey"]));
        }
        let secret = text(&case["sessionPrivateKey"]).trim_start_matches("0x");
        assert!(!format!("{approval:?}").contains(secret));
    }
}

#[test]
fn operations_in_enable_and_default_mode() {
    for case in cases() {
        let approval = approval(&case);
        let session: PrivateKeySigner = text(&case["sessionPrivateKey"]).parse().unwrap();
        let permission = approval.check(session.address(), CHAIN, 1).unwrap();
        for op in case["operations"].as_array().unwrap() {
            let enable = text(&op["mode"]) == "enable";
            let mode = if enable { KernelMode::Enable } else { KernelMode::Default };
            let key = permission.nonce_key(mode, 0);
            assert_eq!(key.0.to_string(), text(&op["nonceKey"]));
            assert_eq!(key.nonce(0), text(&op["nonce"]).parse::<U256>().unwrap());
            assert_eq!(NonceKey::split(key.nonce(7)), (key, 7));

            let calls = Call::read(&bytes(&case["executeCallData"])).unwrap();
            let entry_point = EntryPoint::canonical(EntryPointVersion::V07, CHAIN);
            let expected = UserOperation::from_json(op["userOperation"].to_string().as_bytes()).unwrap();
            // The first operation of an account makes it.
            assert!(expected.init == Init::None || expected.init == approval.init());
            let gas = Gas {
                call_gas_limit: expected.call_gas_limit,
                verification_gas_limit: expected.verification_gas_limit,
                ..Gas::default()
            };
            let ready = Builder::new(entry_point, approval.account)
                .init(expected.init.clone())
                .nonce(key, 0)
                .call(&calls[0])
                .unwrap()
                .gas(gas)
                .unsponsored()
                .unwrap();
            assert_eq!(ready.hash(), word(&op["userOpHash"]));
            assert_eq!(eip191_hash_message(ready.hash()), word(&op["ethSignedMessageHash"]));
            let signature = session.sign_message_sync(ready.hash().as_slice()).unwrap().as_bytes();
            assert_eq!(Bytes::from(signature), bytes(&op["sessionKeySignature"]));
            let inner = user_op_signature(&signature);
            assert_eq!(inner, bytes(&op["userOpSignature"]));
            let signature = if enable {
                permission.enable_signature(approval.enable_signature.as_ref().unwrap(), &inner)
            } else {
                inner.clone()
            };
            assert_eq!(signature, bytes(&op["finalSignature"]));
            if enable {
                let (read, approved, signed) = Permission::from_enable_signature(&signature).unwrap();
                assert_eq!((&read, &approved, &signed), (&permission, &bytes(&case["enableSignature"]), &inner));
            }
            let finished = ready.signed(signature);
            assert_eq!(finished, expected);
            let packed = finished.pack(EntryPointVersion::V07).unwrap();
            let beneficiary = Address::from_slice(&bytes(&op["handleOpsCalldata"])[4 + 44..4 + 64]);
            let calldata = PackedUserOperation::handle_ops(std::slice::from_ref(&packed), beneficiary);
            assert_eq!(calldata, bytes(&op["handleOpsCalldata"]));
            assert_eq!(PackedUserOperation::from_handle_ops(&calldata), Some((vec![packed], beneficiary)));
        }
    }
}

#[test]
fn erc1271_and_erc6492_signatures() {
    let vectors = vectors();
    let case = &vectors["erc1271"][0];
    let account = address(&case["account"]);
    let digest = wrapped_digest(word(&case["hash"]), account, KernelVersion::V031, CHAIN);
    assert_eq!(digest, word(&case["wrappedDigest"]));
    let owner: PrivateKeySigner = text(&cases()[0]["ownerPrivateKey"]).parse().unwrap();
    let raw = Bytes::from(owner.sign_hash_sync(&digest).unwrap().as_bytes());
    assert_eq!(raw, bytes(&case["ownerRawSignature"]));

    let root = KernelSignature::Root(raw.clone());
    let validator = KernelSignature::Validator(ECDSA_VALIDATOR, raw.clone());
    assert_eq!(root.encode(), bytes(&case["signatureRootPrefix00"]));
    assert_eq!(validator.encode(), bytes(&case["signatureValidatorPrefix01"]));
    for form in [root, validator, KernelSignature::Permission([1, 2, 3, 4].into(), raw.clone())] {
        assert_eq!(KernelSignature::decode(&form.encode()), Some(form));
    }
    assert_eq!(KernelSignature::decode(&raw), None);
    assert_eq!(KernelSignature::decode(&[]), None);
    assert_eq!(KernelSignature::decode(&[1; 20]), None);

    let wrapped = bytes(&case["erc6492Signature"]);
    let read = Counterfactual::decode(&wrapped).unwrap();
    assert_eq!(read.encode(), wrapped);
    let made = KernelAccount::at(account, &read.factory_data).unwrap();
    assert_eq!((made.factory(), made.owner), (read.factory, owner.address()));
    let inner = KernelSignature::decode(&read.signature).unwrap();
    assert!(matches!(inner, KernelSignature::Root(s) | KernelSignature::Validator(_, s) if s == raw));
    for len in 0..wrapped.len() {
        assert_eq!(Counterfactual::decode(&wrapped[..len]), None);
    }
}

#[test]
fn inspection_says_only_what_is_known() {
    let cases = cases();
    let plain = approval(&cases[0]);
    let session = address(&cases[0]["sessionKey"]);
    let other = Address::repeat_byte(7);

    let nothing = plain.inspect(&[], &[CHAIN], 1).unwrap();
    assert_eq!((nothing.permission, nothing.chain_id), (None, None));
    assert_eq!(nothing.enable_signature, EnableStatus::Unchecked);

    let found = plain.inspect(&[other, session], &[1, CHAIN], 1).unwrap();
    assert_eq!((found.chain_id, found.enable_signature), (Some(CHAIN), EnableStatus::Valid));
    assert!(!found.signer_embedded);
    let wrong_chain = plain.inspect(&[session], &[1], 1).unwrap();
    assert_eq!((wrong_chain.chain_id, wrong_chain.enable_signature), (None, EnableStatus::Invalid));
    assert_eq!(plain.inspect(&[session], &[], 1).unwrap().enable_signature, EnableStatus::Unchecked);
    assert_eq!(plain.inspect(&[other], &[CHAIN], 1), Err(CheckError::PermissionId));
    assert_eq!(plain.check(session, 1, 1), Err(CheckError::EnableSignature));
    assert_eq!(plain.check(session, CHAIN, 2), Err(CheckError::EnableSignature));

    let embedded = approval(&cases[2]).inspect(&[], &[CHAIN], 1).unwrap();
    assert!(embedded.signer_embedded);
    assert_eq!(embedded.enable_signature, EnableStatus::Valid);
}

#[test]
fn pre_installed_permissions_have_no_signature() {
    let case = &cases()[0];
    let mut json = case["serializedJson"].clone();
    json["isPreInstalled"] = json!(true);
    let Err(ApprovalError::Field(e)) = Approval::read(&serialize(&json)) else { panic!() };
    assert_eq!(e.field, "enableSignature");
    json.as_object_mut().unwrap().remove("enableSignature");
    let approval = Approval::read(&serialize(&json)).unwrap();
    let session = address(&case["sessionKey"]);
    assert_eq!(approval.check(session, CHAIN, 1), Err(CheckError::PreInstalled));
    assert_eq!(approval.inspect(&[session], &[CHAIN], 1).unwrap().enable_signature, EnableStatus::Absent);
}

#[test]
fn eip7702_accounts_are_their_owner() {
    let mut json = cases()[0]["serializedJson"].clone();
    json["accountParams"]["initCode"] = json!("0x");
    let approval = Approval::read(&serialize(&json)).unwrap();
    assert_eq!((approval.root, approval.owner()), (Root::Eip7702, approval.account));
    assert_eq!((approval.version(), approval.init()), (KernelVersion::V033, Init::None));
    json["eip7702Auth"] = json!({"address": Address::repeat_byte(1).to_string(), "chainId": 1, "nonce": 0});
    let Err(ApprovalError::Field(e)) = Approval::read(&serialize(&json)) else { panic!() };
    assert_eq!(e.field, "eip7702Auth.address");
}

#[test]
fn the_scope_of_the_vectors() {
    let case = &cases()[1];
    let approval = approval(case);
    let permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    let scope = approval.scope(Some(&permission));
    assert_eq!(scope.signatures, Signatures::Open);
    assert_eq!(scope.window, Window { valid_after: Some(1_780_000_000), valid_until: Some(1_900_000_000) });
    assert!(scope.limits.contains(&Limit::Calls { count: 10, interval: 0, start_at: 0 }));
    let Calls::Only(kinds) = &scope.calls else { panic!() };
    assert_eq!(kinds.len(), 1);

    let call_data = bytes(&case["executeCallData"]);
    let call = Call::read(&call_data).unwrap().remove(0);
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(scope.permits(&call, at), Ok(()));
    assert_eq!(scope.permits_call_data(&call_data, at), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_780_000_000)), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_900_000_000)), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_779_999_999)), Err(Violation::NotYetValid(1_780_000_000)));
    assert_eq!(scope.permits(&call, UnixSeconds(1_900_000_001)), Err(Violation::Expired(1_900_000_000)));

    let with = |change: &dyn Fn(&mut Call)| {
        let mut other = call.clone();
        change(&mut other);
        scope.permits(&other, at)
    };
    let entry_point = EntryPointVersion::V07.address();
    assert_eq!(with(&|c| c.target = scope.account), Err(Violation::SelfTarget));
    assert_eq!(with(&|c| c.target = entry_point), Err(Violation::EntryPointTarget));
    let other = Address::repeat_byte(9);
    assert_eq!(with(&|c| c.target = other), Err(Violation::Target(other)));
    assert_eq!(with(&|c| c.value = U256::from(1)), Err(Violation::Value(U256::ZERO)));
    assert!(matches!(with(&|c| c.data = Bytes::from_static(&[1, 2, 3, 4])), Err(Violation::Selector(_))));
    assert_eq!(with(&|c| c.data = Bytes::from_static(&[1, 2, 3])), Err(Violation::NoSelector));
    assert!(matches!(with(&|c| c.data = Bytes::new()), Err(Violation::Selector(_))));
    assert_eq!(with(&|c| c.data = c.data.slice(..4)), Err(Violation::NoArgument(0)));
    // planId, then amount: the vectors' key redeems one plan, and at most so much.
    let changed = |at: usize, to: u8| {
        with(&|c| {
            let mut data = c.data.to_vec();
            data[at] = to;
            c.data = data.into();
        })
    };
    assert_eq!(changed(4, 0), Err(Violation::Argument(0)));
    assert_eq!(changed(4 + 32, 0xff), Err(Violation::Argument(32)));

    let hidden = [call.clone(), Call { target: scope.account, ..call.clone() }];
    assert_eq!(scope.permits_call_data(&Call::execute_batch(&hidden), at), Err(Violation::SelfTarget));
}

#[test]
fn flags_take_policies_away() {
    let case = &cases()[0];
    let approval = approval(case);
    let mut permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    permission.flag = 2;
    assert_eq!(permission.scope(approval.account).signatures, Signatures::Closed);
    permission.flag = 1;
    let call = Call { target: Address::repeat_byte(3), ..Call::default() };
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(permission.scope(approval.account).permits(&call, at), Err(Violation::Operations));
    permission.flag = 0;
    permission.policies[0].flag = 1;
    assert_eq!(permission.scope(approval.account).calls, Calls::Any);
    permission.policies[1].address = Address::repeat_byte(8);
    let unknown = Err(Violation::UnknownPolicy(Address::repeat_byte(8)));
    assert_eq!(permission.scope(approval.account).permits(&call, at), unknown);
}

#[test]
fn issue_reads_back_and_is_closed() {
    let case = &cases()[0];
    let owner: PrivateKeySigner = text(&case["ownerPrivateKey"]).parse().unwrap();
    let session = address(&case["sessionKey"]);
    let account = KernelAccount::new(KernelVersion::V031, owner.address(), U256::ZERO);
    let plans = address(&case["plansContract"]);
    let selector = alloy_primitives::fixed_bytes!("7cbc2373");
    let grant = Grant::new(1_780_000_000, 1_900_000_000)
        .times(3)
        .call(plans, selector)
        .equal(0, text(&case["planId"]).parse().unwrap())
        .at_most(32, U256::from(5));
    let issued = now(issue(&owner, &account, session, &grant, CHAIN, 1)).unwrap();
    let text = issued.write();
    let read = Approval::read(&text).unwrap();
    assert_eq!(read, issued);
    assert_eq!(read.hash(), keccak256(text.as_bytes()));
    let permission = read.check(session, CHAIN, 1).unwrap();
    let scope = read.scope(Some(&permission));
    assert_eq!(scope.signatures, Signatures::Closed);
    let mut data = selector.to_vec();
    data.extend_from_slice(&text_word(case));
    data.extend_from_slice(&U256::from(5).to_be_bytes::<32>());
    let call = Call { target: plans, value: U256::ZERO, data: data.clone().into() };
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(scope.permits(&call, at), Ok(()));
    *data.last_mut().unwrap() = 6;
    let more = Call { data: data.into(), ..call };
    assert_eq!(scope.permits(&more, at), Err(Violation::Argument(32)));

    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(5)).unwrap();
    let draft = Draft::new(&account, session, &grant, CHAIN, 1).unwrap();
    let forged = Signature::try_from(stranger.sign_hash_sync(&draft.digest()).unwrap()).unwrap();
    assert!(matches!(draft.approved(&forged), Err(IssueError::Owner { .. })));
    let refused = now(issue(&stranger, &account, session, &grant, CHAIN, 1));
    assert!(matches!(refused, Err(IssueError::Owner { .. })));
    let inward = Grant::new(0, 1_900_000_000).call(account.address(), selector);
    assert!(matches!(now(issue(&owner, &account, session, &inward, CHAIN, 1)), Err(IssueError::Target(_))));
    for (grant, expected) in [
        (Grant::new(0, 0).call(plans, selector), "a session key needs an expiry"),
        (Grant::new(9, 8).call(plans, selector), "a session key ends before it begins"),
        (Grant::new(0, 9), "a session key needs a call and a count above zero"),
        (Grant::new(0, 9).call(plans, selector).times(0), "a session key needs a call and a count above zero"),
        (
            Grant::new(0, 9).call(plans, selector).call(plans, selector),
            "two permissions for the same target and selector",
        ),
    ] {
        assert_eq!(grant.policies().unwrap_err().to_string(), expected);
    }
}

fn text_word(case: &Value) -> [u8; 32] {
    text(&case["planId"]).parse::<U256>().unwrap().to_be_bytes()
}

#[test]
fn revocation_calls() {
    let case = &cases()[0];
    let approval = approval(case);
    let permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    let selectors = &vectors()["selectors"]["functions"];
    let call = invalidate_nonce(approval.account, 2);
    assert_eq!(call.target, approval.account);
    assert_eq!(call.data[..4], bytes(&selectors["invalidateNonce(uint32)"])[..]);
    assert_eq!(call.data[4..], U256::from(2).to_be_bytes::<32>());
    let call = uninstall(approval.account, permission.id(), permission.policies.len());
    assert_eq!(call, approval.uninstall());
    assert_eq!(call.data[..4], bytes(&selectors["uninstallValidation(bytes21,bytes,bytes)"])[..]);
    assert_eq!(call.data[4..25], permission.validation_id()[..]);
}

// ---- bad input ----

fn refused(change: impl Fn(&mut Value)) -> ApprovalError {
    let mut json = cases()[0]["serializedJson"].clone();
    change(&mut json);
    Approval::read(&serialize(&json)).unwrap_err()
}

fn field(e: &ApprovalError) -> (&str, Problem) {
    match e {
        ApprovalError::Field(FieldError { field, problem }) => (field, *problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_are_named() {
    const P: &str = "permissionParams.policies";
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 12] = [
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["type"] = json!("any"), ".type"),
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["policyVersion"] = json!("0.0.6"), ".policyVersion"),
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["policyFlag"] = json!("0x0004"), ".policyFlag"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validUntil"] = json!("1900000000"), ".validUntil"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validUntil"] = json!(1u64 << 48), ".validUntil"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validAfter"] = json!(1.5), ".validAfter"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["policyAddress"] = Value::Null, ".policyAddress"),
        (|j| j["permissionParams"]["policies"][3]["policyParams"]["allowed"] = json!("01"), ".allowed"),
        (|j| j["permissionParams"]["policies"][3]["policyParams"]["allowed"] = json!("-1"), ".allowed"),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["valueLimit"] =
                    json!("9".repeat(79))
            },
            ".permissions[0].valueLimit",
        ),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["condition"] =
                    json!(8)
            },
            ".permissions[0].rules[0].condition",
        ),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"][0] =
                    json!("0x".to_owned() + &"AB".repeat(32));
            },
            ".permissions[0].rules[0].params[0]",
        ),
    ];
    for (edit, end) in cases {
        let error = refused(edit);
        let (field, _) = field(&error);
        assert!(field.starts_with(P) && field.ends_with(&format!("policyParams{end}")), "{field}");
    }
    for (edit, name) in [
        ((|j| j["action"]["selector"] = json!("0x12345678")) as Edit, "action.selector"),
        (|j| j["action"]["address"] = json!(Address::repeat_byte(1).to_string()), "action.address"),
        (|j| j["action"]["hook"] = json!({"address": "0x01"}), "action.hook"),
        (|j| _ = j.as_object_mut().unwrap().remove("enableSignature"), "enableSignature"),
        (|j| j["enableSignature"] = Value::Null, "enableSignature"),
        (|j| j["permissionParams"]["permissionId"] = json!("0x4d5974D5"), "permissionParams.permissionId"),
        (|j| j["accountParams"]["accountAddress"] = json!(""), "accountParams.accountAddress"),
        (|j| j["privateKey"] = json!("0x00"), "privateKey"),
        (|j| j["privateKey"] = json!(format!("0x{}", "00".repeat(32))), "privateKey"),
        (|j| j["isPreInstalled"] = json!("false"), "isPreInstalled"),
    ] {
        assert_eq!(field(&refused(edit)).0, name);
    }
}

#[test]
fn wider_keys_are_refused_by_name() {
    type Edit = fn(&mut Value);
    let policy = |edit: Edit| match refused(edit) {
        ApprovalError::Policy { error, .. } => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["callType"] = json!("0xff")),
        PolicyError::CallType([0xff].into())
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["callType"] = json!("0x01")),
        PolicyError::CallType([1].into())
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["condition"] =
            json!(7)),
        PolicyError::Condition(7)
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"] =
            json!([])),
        PolicyError::Parameters(0)
    );
    assert_eq!(
        policy(|j| {
            let p = &mut j["permissionParams"]["policies"][0]["policyParams"]["permissions"];
            let first = p[0].clone();
            p.as_array_mut().unwrap().push(first);
        }),
        PolicyError::Twice
    );
    assert_eq!(
        policy(|j| {
            j["permissionParams"]["policies"][0]["policyParams"]["policyAddress"] =
                json!(CallPolicyVersion::V003.address().to_string());
        }),
        PolicyError::Malformed(CallPolicyVersion::V003.address())
    );
    let twice = refused(|j| {
        let p = j["permissionParams"]["policies"].as_array_mut().unwrap();
        p.push(p[1].clone());
    });
    assert!(matches!(twice, ApprovalError::PolicyTwice(_)));

    let account = |edit: Edit| match refused(edit) {
        ApprovalError::Account(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        account(|j| j["accountParams"]["accountAddress"] = json!(format!("0x{}", "11".repeat(20)))),
        AccountError::Address
    );
    assert_eq!(account(|j| j["accountParams"]["initCode"] = json!("0x1234")), AccountError::NotKernel);
    assert!(matches!(
        account(|j| {
            let code = j["accountParams"]["initCode"].as_str().unwrap().replace("aac5d4", "aac5d5");
            j["accountParams"]["initCode"] = json!(code);
        }),
        AccountError::Factory(_)
    ));
    assert!(matches!(
        account(|j| {
            let code = j["accountParams"]["initCode"].as_str().unwrap().to_lowercase().replace("01845adb", "01845adc");
            j["accountParams"]["initCode"] = json!(code);
        }),
        AccountError::RootValidator(_)
    ));
}

/// "Every truncation and every single-byte change of a serialized approval … is an error, a different and refused
/// permission, or, in a member that is ignored, the same permission with another `hash`".
#[test]
fn every_change_of_an_approval() {
    for case in &cases()[1..2] {
        let good = text(&case["serialized"]);
        let session = address(&case["sessionKey"]);
        let expected = approval(case);
        for len in 0..good.len() {
            assert!(Approval::read(&good[..len]).is_err(), "cut at {len}");
        }
        let json = STANDARD.decode_to_vec(good).unwrap();
        // The members that are ignored, and the white space that JSON allows nowhere in this text.
        let validity = find(&json, b"\"validityData\"")..find(&json, b"\"accountParams\"");
        let mut ignored = 0;
        for i in 0..json.len() {
            for change in [0x01, 0x20] {
                let mut other = json.clone();
                other[i] ^= change;
                let text = STANDARD.encode_to_string(&other);
                let Ok(read) = Approval::read(&text) else { continue };
                assert_ne!(read.hash(), expected.hash());
                if read.check(session, CHAIN, 1).is_err() {
                    continue;
                }
                let tail = &json[i.saturating_sub(20)..(i + 4).min(json.len())];
                let at = String::from_utf8_lossy(tail);
                let dead = validity.contains(&i) || i > find(&json, b"\"isPreInstalled\"") - 1;
                assert!(dead, "byte {i} of …{at}");
                assert_eq!(read.policies, expected.policies);
                ignored += 1;
            }
        }
        assert!(ignored > 0);
        for i in 0..good.len() {
            let mut other = good.as_bytes().to_vec();
            other[i] = if other[i] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(other).unwrap();
            if let Ok(read) = Approval::read(&text)
                && read.check(session, CHAIN, 1).is_ok()
            {
                assert_eq!(read.policies, expected.policies, "character {i}");
                assert_ne!(read.hash(), expected.hash());
            }
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).position(|w| w == what).unwrap()
}

#[test]
fn every_change_of_enable_data_and_signature() {
    let case = &cases()[0];
    let good = bytes(&case["enableData"]);
    let permission = Permission::from_enable_data(&good).unwrap();
    for len in 0..good.len() {
        assert!(Permission::from_enable_data(&good[..len]).is_err(), "cut at {len}");
    }
    for i in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut other = good.to_vec();
            other[i] ^= bit;
            if let Ok(read) = Permission::from_enable_data(&other) {
                assert_ne!(read, permission, "byte {i}");
                assert_ne!(read.enable_data(), good);
            }
        }
    }
    let mut longer = good.to_vec();
    longer.extend_from_slice(&[0; 32]);
    assert_eq!(Permission::from_enable_data(&longer), Err(PermissionError::Malformed));

    let approval = approval(case);
    let digest = word(&case["enableDigest"]);
    let good = bytes(&case["operations"][0]["finalSignature"]);
    for len in (0..good.len()).step_by(7) {
        assert!(Permission::from_enable_signature(&good[..len]).is_err(), "cut at {len}");
    }
    for i in 0..good.len() {
        let mut other = good.to_vec();
        other[i] ^= 1;
        let Ok((read, approved, signed)) = Permission::from_enable_signature(&other) else { continue };
        let same_digest = read.enable_digest(approval.account, approval.version(), CHAIN, 1) == digest;
        let same_approval = Some(&approved) == approval.enable_signature.as_ref();
        let same_signature = signed == bytes(&case["operations"][0]["userOpSignature"]);
        assert!(!(same_digest && same_approval && same_signature), "byte {i}");
    }
}

#[test]
fn every_change_of_an_enable_signature_is_refused() {
    let case = &cases()[0];
    let session = address(&case["sessionKey"]);
    let good = bytes(&case["enableSignature"]);
    let check = |signature: Vec<u8>| {
        let mut other = approval(case);
        other.enable_signature = Some(signature.into());
        other.check(session, CHAIN, 1)
    };
    for i in 0..good.len() {
        let mut other = good.to_vec();
        other[i] ^= 1;
        assert_eq!(check(other), Err(CheckError::EnableSignature), "byte {i}");
    }
    assert_eq!(check(good[..64].to_vec()), Err(CheckError::EnableSignature));
    // The same signature with the other s.
    let signature = alloy_primitives::Signature::from_raw(&good).unwrap();
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
    let high = alloy_primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
    assert_eq!(check(high.as_bytes().to_vec()), Err(CheckError::EnableSignature));
    let mut zero_one = good.to_vec();
    zero_one[64] -= 27;
    assert_eq!(check(zero_one), Err(CheckError::EnableSignature));
}

#[test]
fn garbage_is_not_an_approval() {
    assert_eq!(Approval::read(&"A".repeat(16 * 1024 + 4)), Err(ApprovalError::TooLong));
    assert_eq!(Approval::read("not base64!"), Err(ApprovalError::Base64));
    assert!(matches!(Approval::read(&STANDARD.encode_to_string(b"{\"a\":1,\"a\":2}")), Err(ApprovalError::Json(_))));
    assert!(matches!(Approval::read(&STANDARD.encode_to_string(b"[]")), Err(ApprovalError::Field(_))));
    // Padding bits that say nothing are a second spelling.
    let text = STANDARD.encode_to_string(b"{}");
    assert_eq!(text, "e30=");
    assert_eq!(Approval::read("e31="), Err(ApprovalError::Base64));
}

#[test]
fn ids_of_77_digits_stand_as_words_or_nowhere() {
    const PERMISSION: &str = "permissionParams.policies[0].policyParams.permissions[0]";
    let id = text(&cases()[0]["planId"]).to_owned();
    assert_eq!(id.len(), 77);
    let error = refused(|j| {
        j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"][0] = json!(id);
    });
    assert_eq!(field(&error).0, format!("{PERMISSION}.rules[0].params[0]"));
    // "abi, functionName, args: ignore them, rules is authoritative".
    let mut json = cases()[0]["serializedJson"].clone();
    let permission = &mut json["permissionParams"]["policies"][0]["policyParams"]["permissions"][0];
    permission["abi"] = json!([{"type": "function", "name": "order"}]);
    permission["functionName"] = json!("order");
    permission["args"] = json!([{"condition": 0, "value": id}]);
    let read = Approval::read(&serialize(&json)).unwrap();
    let plain = approval(&cases()[0]);
    assert_eq!(read.policies, plain.policies);
    assert_ne!(read.hash(), plain.hash());
    assert!(read.check(address(&cases()[0]["sessionKey"]), CHAIN, 1).is_ok());
}

#[test]
fn offsets_past_the_end() {
    let approval = approval(&cases()[0]);
    let call = Call::read(&bytes(&cases()[0]["executeCallData"])).unwrap().remove(0);
    for offset in [32, 1 << 32, u64::MAX - 3, u64::MAX] {
        let mut permission = approval.permission_for(address(&cases()[0]["sessionKey"])).unwrap();
        let Policy::Call { permissions, .. } = &mut permission.policies[0].policy else { panic!() };
        permissions[0].rules[0].offset = offset;
        let scope = permission.scope(approval.account);
        assert_eq!(scope.permits(&call, UnixSeconds(1_800_000_000)), Err(Violation::NoArgument(offset)));
    }
}

#[test]
fn modules_are_no_targets() {
    let case = &cases()[0];
    let mut permission = approval(case).permission_for(address(&case["sessionKey"])).unwrap();
    permission.policies.remove(0);
    let scope = permission.scope(address(&case["account"]));
    assert_eq!(scope.calls, Calls::Any);
    let at = UnixSeconds(1_800_000_000);
    for module in [ECDSA_VALIDATOR, permission.signer.contract, permission.policies[0].address] {
        let call = Call { target: module, ..Call::default() };
        assert_eq!(scope.permits(&call, at), Err(Violation::ModuleTarget(module)));
    }
    assert_eq!(scope.permits(&Call { target: Address::repeat_byte(2), ..Call::default() }, at), Ok(()));
}

#[test]
fn any_target_and_unknown_contracts() {
    let mut json = cases()[0]["serializedJson"].clone();
    let policies = &mut json["permissionParams"]["policies"];
    policies[0]["policyParams"]["permissions"][0]["target"] = json!(Address::ZERO.to_string());
    let read = Approval::read(&serialize(&json)).unwrap();
    let Calls::Only(kinds) = read.scope(None).calls else { panic!() };
    assert_eq!(kinds[0].target, None);
    assert_eq!(read.inspect(&[address(&cases()[0]["sessionKey"])], &[CHAIN], 1), Err(CheckError::PermissionId));

    json["permissionParams"]["policies"][1]["policyParams"]["policyAddress"] =
        json!(Address::repeat_byte(9).to_string());
    let read = Approval::read(&serialize(&json)).unwrap();
    assert!(matches!(read.policies[1].policy, Policy::Timestamp { .. }));
    assert_eq!(read.scope(None).unknown, [Address::repeat_byte(9)]);
}

proptest::proptest! {
    #[test]
    fn decode_approval_never_panics(text: String, bytes: Vec<u8>) {
        let _ = Approval::read(&text);
        let _ = Approval::read(&STANDARD.encode_to_string(&bytes));
        let _ = Permission::from_enable_data(&bytes);
        let _ = Permission::from_enable_signature(&bytes);
        let _ = PolicyItem::from_item(&bytes);
        let _ = KernelAccount::from_factory_data(&bytes);
        let _ = Call::read(&bytes);
    }
}
