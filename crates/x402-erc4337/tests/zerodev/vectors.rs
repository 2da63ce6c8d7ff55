//! Every value that the ZeroDev SDK made: accounts, policies, permissions, approvals, operations, signatures.

use alloy_primitives::{Address, Bytes, U256, eip191_hash_message};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use base64_simd::STANDARD;
use serde_json::{Value, json};
use x402_erc4337::session::zerodev::{
    Approval, Counterfactual, ECDSA_VALIDATOR, KernelAccount, KernelSignature, KernelVersion, Permission,
    PermissionSigner, PolicyItem, domain_separator, user_op_signature, wrapped_digest,
};
use x402_erc4337::{
    Call, EntryPoint, EntryPointVersion, Gas, Init, KernelMode, NonceKey, OperationBuilder, PackedUserOperation,
    UserOperation,
};

use crate::cases::{CHAIN, approval, cases, serialize, version};
use crate::common::{address, bytes, text, vectors, word};

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
            let ready = OperationBuilder::new(entry_point, approval.account)
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
