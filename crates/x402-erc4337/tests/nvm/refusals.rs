//! Everything of smart accounts v0.3 §3.3, §5 and §8 violated alone, with its code.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::Provider;
use serde_json::{Value, json};
use x402_devchain::contracts::KERNEL;
use x402_devchain::{ACCOUNTS, PLANS, TOKEN};
use x402_erc4337::nvm::NvmPolicy;
use x402_erc4337::session::zerodev::{
    ECDSA_VALIDATOR, Grant, KernelAccount, KernelVersion, Permission, Policy as Limit, invalidate_nonce, issue,
};
use x402_types::nvm::{AgentId, Code, SessionKey};
use x402_types::{Claim, RawJson};

use crate::stage::*;

/// A payment's JSON, changed after it was signed.
fn edited(claim: &Claim, edit: impl FnOnce(&mut Value)) -> Claim {
    let mut payload: Value = claim.payload.read().unwrap();
    edit(&mut payload);
    claim.clone().with_payload(RawJson::of(&payload).unwrap())
}

#[tokio::test]
async fn each_member_of_the_payload_missing_or_of_another_form() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.verify(&claim).await.unwrap();
    let set = |pointer: &str, value: Value| edited(&claim, |payload| *payload.pointer_mut(pointer).unwrap() = value);
    let without = |parent: &str, name: &str| {
        edited(&claim, |payload| {
            let removed = payload.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
            assert!(removed.is_some(), "{parent}/{name}");
        })
    };
    let a = "/authorization";
    let mut rows = vec![
        without("", "signature"),
        without("", "authorization"),
        without(a, "sessionKeysProvider"),
        without(a, "sessionKeys"),
        without(a, "resourceUrl"),
        without("/authorization/sessionKeys/0", "id"),
        without("/authorization/sessionKeys/0", "data"),
        set("/signature", json!("0x")),
        set("/signature", json!("0xzz")),
        set("/authorization/from", json!("0x12")),
        set("/authorization/from", json!("d4f58b60330bc59cb0a07ee6a1a66ad64244ec8c")),
        set("/authorization/sessionKeysProvider", json!("biconomy")),
        set("/authorization/sessionKeysProvider", json!("ZeroDev")),
        set("/authorization/sessionKeys", json!([])),
        set("/authorization/nonce", json!("0xabcd")),
        set("/authorization/nonce", json!(format!("{:#}", B256::repeat_byte(1)).trim_start_matches("0x"))),
        set("/authorization/sessionKeys/0/id", json!("")),
        set("/authorization/sessionKeys/1/id", json!("order")),
        set("/authorization/sessionKeys/0/id", json!("burn")),
        set("/authorization/sessionKeys/1/id", json!("consume")),
        set("/authorization/sessionKeys/0/data", json!("")),
        set("/authorization/sessionKeys/0/data", json!("bm90IGEga2V5")),
        set("/authorization/sessionKeys/0", json!({ "id": "order", "hash": "0x1234" })),
        set("/authorization/sessionKeys/0", json!({ "id": "order", "hash": B256::repeat_byte(7) })),
        set("/authorization/sessionKeys/1", json!({ "id": "redeem", "data": B256::repeat_byte(7) })),
        edited(&claim, |payload| {
            payload["authorization"]["sessionKeys"][0]["hash"] = json!(B256::repeat_byte(7));
        }),
        edited(&claim, |payload| {
            let key = payload["authorization"]["sessionKeys"][0].clone();
            payload["authorization"]["sessionKeys"].as_array_mut().unwrap().push(key);
        }),
    ];
    // Every member as every other kind of value.
    for pointer in [
        "/signature",
        "/authorization",
        "/authorization/from",
        "/authorization/sessionKeysProvider",
        "/authorization/sessionKeys",
        "/authorization/sessionKeys/0",
        "/authorization/sessionKeys/0/id",
        "/authorization/sessionKeys/0/data",
        "/authorization/resourceUrl",
    ] {
        for value in [json!(1), json!(true), json!({}), json!([[]])] {
            rows.push(set(pointer, value));
        }
    }
    for (at, row) in rows.iter().enumerate() {
        // Some are refused by what names the payment, before anything else reads it.
        let reason = match stage.settlement.key(row) {
            Err(rejection) => rejection,
            Ok(_) => stage.refused(row).await,
        };
        assert_eq!(reason.reason, Code::InvalidPayload.reason(), "row {at}: {reason}");
    }
}

#[tokio::test]
async fn what_is_changed_after_signing_fails_the_signature() {
    let stage = stage().await;
    stage.give(1).await;
    let mut draft = stage.draft_with_order(1, 3).await;
    draft.accepted = draft.accepted.with_agent(AgentId::from(U256::from(7)));
    let claim = draft.sign();
    stage.verify(&claim).await.unwrap();
    let set = |pointer: &str, value: Value| edited(&claim, |payload| *payload.pointer_mut(pointer).unwrap() = value);
    let other = |accepted| claim.clone().with_terms(accepted);
    let terms = |accepted: x402_types::nvm::Requirements| accepted.to_terms(3.into()).unwrap();
    let mut stripped = claim.clone();
    stripped = edited(&stripped, |payload| {
        payload["authorization"].as_object_mut().unwrap().remove("nonce");
    });
    let mut bearer = draft.clone();
    bearer.proof = None;
    let added = edited(&bearer.sign(), |payload| {
        payload["authorization"]["nonce"] = json!(B256::repeat_byte(1));
        payload["authorization"]["resourceUrl"] = json!(URL);
    });
    let rows = [
        ("nonce", set("/authorization/nonce", json!(B256::repeat_byte(2)))),
        ("nonce stripped", stripped),
        ("nonce of another type", set("/authorization/nonce", json!(1))),
        ("nonce blank", set("/authorization/nonce", json!("  "))),
        ("nonce added", added),
        (
            "keys in another order",
            edited(&claim, |payload| {
                payload["authorization"]["sessionKeys"].as_array_mut().unwrap().reverse();
            }),
        ),
        (
            "a key more",
            edited(&claim, |payload| {
                let more = json!({ "id": "other", "hash": B256::repeat_byte(1) });
                payload["authorization"]["sessionKeys"].as_array_mut().unwrap().push(more);
            }),
        ),
        (
            "a key less",
            edited(&claim, |payload| {
                payload["authorization"]["sessionKeys"].as_array_mut().unwrap().remove(0);
            }),
        ),
        ("another spelling of the resource", set("/authorization/resourceUrl", json!("https://AGENT.example/tasks"))),
        ("a copy of the agent", edited(&claim, |payload| payload["authorization"]["agentId"] = json!("8"))),
        ("a copy of the method", edited(&claim, |payload| payload["authorization"]["httpVerb"] = json!("GET"))),
        (
            "the plan",
            other(terms(x402_types::nvm::Requirements {
                plan_id: U256::from(OTHER_PLAN).into(),
                ..draft.accepted.clone()
            })),
        ),
        ("the agent", other(terms(draft.accepted.clone().with_agent(AgentId::from(U256::from(8)))))),
        ("the method", other(terms(draft.accepted.clone().with_verb("GET")))),
    ];
    for (what, row) in rows {
        assert_eq!(stage.refused(&row).await.reason, Code::InvalidSignature.reason(), "{what}");
    }
    // A copy that is equal, and members that nobody knows, change nothing.
    let copied = edited(&claim, |payload| {
        payload["authorization"]["agentId"] = json!("7");
        payload["authorization"]["httpVerb"] = json!("POST");
        payload["more"] = json!(1);
    });
    stage.verify(&copied).await.unwrap();
}

#[tokio::test]
async fn a_signature_is_the_owner_s_own() {
    let stage = stage().await;
    stage.give(1).await;
    let draft = stage.draft(1, 3).await;
    let good = draft.signature();
    let (mode, sig) = good.split_at(1);
    assert_eq!(mode, [0]);
    // The document's form: an installed validator.
    let validator = [&[1][..], ECDSA_VALIDATOR.as_slice(), sig].concat();
    stage.verify(&draft.signed(validator.clone().into())).await.unwrap();
    let permission = stage.approval(&redeem_grant(100)).await.permission_id;
    let by_session = [&[2][..], permission.as_slice(), &[0xff], sig].concat();
    let mut other = sig.to_vec();
    other[10] ^= 1;
    let rows: [(&str, Vec<u8>); 8] = [
        ("bare", sig.to_vec()),
        ("a session key's", by_session),
        ("another mode", [&[3][..], sig].concat()),
        ("too long", [&[0][..], sig, &[0]].concat()),
        ("cut", good[..65].to_vec()),
        ("another validator", [&[1][..], PLANS.as_slice(), sig].concat()),
        ("another key's", [&[0][..], &other].concat()),
        ("of the bare digest", {
            use alloy_signer::SignerSync;
            let digest = draft.statement().digest(&x402_erc4337::nvm::StatementDomain::default(), CHAIN);
            [&[0][..], &key_of(OWNER).sign_hash_sync(&digest).unwrap().as_bytes()].concat()
        }),
    ];
    for (what, signature) in rows {
        assert_eq!(
            stage.refused(&draft.signed(signature.into())).await.reason,
            Code::InvalidSignature.reason(),
            "{what}"
        );
    }
}

/// A key's text with other policies, approved by the owner as they are.
async fn with_policies(stage: &Stage, keep: impl Fn(&Limit) -> bool) -> SessionKey {
    use alloy_signer::SignerSync;
    let approval = stage.approval(&redeem_grant(100)).await;
    let permission = approval.permission_for(ACCOUNTS[SESSION].address).unwrap();
    let kept: Vec<usize> = (0..permission.policies.len()).filter(|i| keep(&permission.policies[*i].policy)).collect();
    let policies = kept.iter().map(|i| permission.policies[*i].clone()).collect();
    let permission = Permission { policies, ..permission };
    let digest = permission.enable_digest(stage.account.address(), KernelVersion::V031, CHAIN, 1);
    let signature = key_of(OWNER).sign_hash_sync(&digest).unwrap().as_bytes();
    let json = json_of(&approval.write(), |json| {
        let all = json["permissionParams"]["policies"].as_array().unwrap().clone();
        json["permissionParams"]["policies"] = kept.iter().map(|i| all[*i].clone()).collect();
        json["permissionParams"]["permissionId"] = json!(permission.id());
        json["enableSignature"] = json!(Bytes::from(signature.to_vec()));
    });
    SessionKey::with_data("redeem", &json)
}

/// A key's JSON, changed.
fn json_of(text: &str, edit: impl FnOnce(&mut Value)) -> String {
    use base64_simd::STANDARD;
    let mut json: Value = serde_json::from_slice(&STANDARD.decode_to_vec(text).unwrap()).unwrap();
    edit(&mut json);
    STANDARD.encode_to_string(json.to_string())
}

#[tokio::test]
async fn each_rule_of_a_session_key() {
    let stage = stage().await;
    stage.give(1).await;
    let good = stage.draft_with_order(1, 3).await;
    stage.verify(&good.sign()).await.unwrap();
    let burn = |until: u64, after: u64| Grant::new(after, until).times(9).call(PLANS, selector(BURN));
    let redeem = |key| Draft { keys: vec![good.keys[0].clone(), key], ..good.clone() };
    let order = |key| Draft { keys: vec![key, good.keys[1].clone()], ..good.clone() };
    let session = ACCOUNTS[SESSION].address;
    let owner = key_of(OWNER);
    let second = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::from(1));
    let issued = async |account: &KernelAccount, session: Address, chain: u64| {
        let approval = issue(&owner, account, session, &redeem_grant(100), chain, 1).await.unwrap();
        SessionKey::with_data("redeem", &approval.write())
    };
    let text = good.keys[1].data().unwrap().to_owned();
    let forged = json_of(&text, |json| {
        let signature = json["enableSignature"].as_str().unwrap().to_owned();
        let other = if &signature[10..11] == "0" { "1" } else { "0" };
        json["enableSignature"] = json!(format!("{}{other}{}", &signature[..10], &signature[11..]));
    });
    let leaked = json_of(&text, |json| json["privateKey"] = json!(ACCOUNTS[SESSION].key));
    let expired = Code::ExpiredSessionKey;
    let operation = Code::InvalidUserOperation;
    let buy = |until| Grant::new(0, until).times(9).call(TOKEN, selector(APPROVE)).call(PLANS, selector(BUY));
    let rows: Vec<(&str, Draft, Code)> = vec![
        ("ended", redeem(stage.key("redeem", &burn(START - 1, 0)).await), expired),
        ("ends in six seconds", redeem(stage.key("redeem", &burn(START + 6, 0)).await), expired),
        ("not valid yet", redeem(stage.key("redeem", &burn(UNTIL, START + 60)).await), expired),
        ("an order key that is not needed has ended", order(stage.key("order", &buy(START)).await), expired),
        ("without end", redeem(with_policies(&stage, |p| !matches!(p, Limit::Timestamp { .. })).await), expired),
        ("open", redeem(with_policies(&stage, |p| !matches!(p, Limit::SignatureCaller(_))).await), operation),
        ("any call", redeem(with_policies(&stage, |p| !matches!(p, Limit::Call { .. })).await), operation),
        (
            "another contract",
            redeem(stage.key("redeem", &Grant::new(0, UNTIL).times(9).call(TOKEN, selector(BURN))).await),
            operation,
        ),
        (
            "another function",
            redeem(stage.key("redeem", &Grant::new(0, UNTIL).times(9).call(PLANS, selector(BUY))).await),
            operation,
        ),
        (
            "a contract beside the plan's",
            redeem(stage.key("redeem", &burn(UNTIL, 0).call(TOKEN, selector("transfer(address,uint256)"))).await),
            operation,
        ),
        (
            "another plan",
            redeem(stage.key("redeem", &burn(UNTIL, 0).equal(32, U256::from(OTHER_PLAN))).await),
            operation,
        ),
        ("too few credits", redeem(stage.key("redeem", &burn(UNTIL, 0).at_most(64, U256::from(2))).await), operation),
        ("an order key that cannot order", order(stage.key("order", &burn(UNTIL, 0)).await), operation),
        ("another account's", redeem(issued(&second, session, CHAIN).await), operation),
        ("another signer's", redeem(issued(&stage.account, ACCOUNTS[7].address, CHAIN).await), operation),
        ("of another network", redeem(issued(&stage.account, session, 1).await), operation),
        ("not approved", redeem(SessionKey::with_data("redeem", &forged)), operation),
        ("with its private key", redeem(SessionKey::with_data("redeem", &leaked)), Code::InvalidPayload),
        ("a hash without a key", redeem(SessionKey::with_hash("redeem", B256::repeat_byte(1))), Code::InvalidPayload),
        ("no redeem key", Draft { keys: vec![good.keys[0].clone()], ..good.clone() }, Code::InvalidPayload),
    ];
    for (what, draft, code) in rows {
        let rejection = stage.refused(&draft.sign()).await;
        assert_eq!(rejection.reason, code.reason(), "{what}: {rejection}");
    }
    // A simulated block is 12 seconds ahead, and more is enough; `burn` is `redeem`.
    stage.verify(&redeem(stage.key("redeem", &burn(START + 20, 0)).await).sign()).await.unwrap();
    stage.verify(&redeem(SessionKey::with_data("burn", &text)).sign()).await.unwrap();
}

#[tokio::test]
async fn what_is_left_open_is_taken() {
    let policy = NvmPolicy::default().with_open_keys().with_endless_keys().with_private_keys();
    let stage = Setup { policy, ..Setup::default() }.build().await;
    stage.give(1).await;
    let good = stage.draft(1, 3).await;
    let text = good.keys[0].data().unwrap();
    let leaked = json_of(text, |json| json["privateKey"] = json!(ACCOUNTS[SESSION].key));
    for key in [
        with_policies(&stage, |p| !matches!(p, Limit::Timestamp { .. })).await,
        with_policies(&stage, |p| !matches!(p, Limit::SignatureCaller(_))).await,
        SessionKey::with_data("redeem", &leaked),
    ] {
        stage.verify(&Draft { keys: vec![key], ..good.clone() }.sign()).await.unwrap();
    }
}

#[tokio::test]
async fn account_plan_and_resource() {
    let stage = stage().await;
    stage.give(1).await;
    let good = stage.draft(1, 3).await;
    let invalid = Code::InvalidPayload.reason();
    // No account, a contract that is none, a plan that is not served, identifiers that are none.
    for from in [ACCOUNTS[5].address, TOKEN, PLANS] {
        let draft = Draft { from, ..good.clone() };
        assert_eq!(stage.refused(&draft.sign()).await.reason, invalid, "{from}");
    }
    let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    for plan in ["44", "", "0x2a", over] {
        let mut claim = good.sign();
        claim.terms.asset = plan.to_owned();
        assert_eq!(stage.refused(&claim).await.reason, invalid, "{plan}");
    }
    for agent in ["", "0x2a", over] {
        let mut claim = good.sign();
        claim.terms.extra.insert_text("agentId", agent);
        assert_eq!(stage.refused(&claim).await.reason, invalid, "{agent}");
    }
    let agent = Draft { accepted: good.accepted.clone().with_agent(AgentId::from(U256::from(7))), ..good.clone() };
    let nowhere = Draft { resource: None, proof: None, ..agent.clone() };
    assert_eq!(stage.refused(&nowhere.sign()).await.details.text("nvmCode").as_deref(), Some("BCK.X402.0012"));
    stage.verify(&agent.sign()).await.unwrap();
    // What only looks equal to the resource that was signed.
    for served in
        ["/task", "https://agent.example/%74asks", "https://agent.example/tasks/", "http://agent.example/tasks"]
    {
        let draft = Draft { resource: Some(served.to_owned()), ..good.clone() };
        assert_eq!(stage.refused(&draft.sign()).await.reason, invalid, "{served}");
    }
    // Nevermined's middleware names the resource by its path alone.
    for served in [format!("{URL}?page=2#x"), "/tasks".to_owned(), "/tasks?page=2".to_owned()] {
        stage.verify(&Draft { resource: Some(served), ..good.clone() }.sign()).await.unwrap();
    }
    // Another network, and none that is served.
    let mut elsewhere = good.sign();
    elsewhere.terms.network = x402_types::ChainId::eip155(8453);
    let reason = stage.refused(&elsewhere).await.reason;
    assert_eq!(Code::translate(reason), Code::UnsupportedNetwork.reason());
}

#[tokio::test]
async fn an_operation_that_would_fail_is_refused_before_the_work() {
    let stage = stage().await;
    // The order cannot be paid.
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.chain.set_balance_of(stage.account.address(), U256::from(PRICE - 1));
    let rejection = stage.refused(&claim).await;
    assert_eq!(rejection.reason, Code::InvalidUserOperation.reason());
    assert!(rejection.message.unwrap().starts_with("order: "));
    // A key whose count is used up: the redemption cannot be signed for.
    stage.give(1).await;
    let once = Grant::new(0, UNTIL).times(1).call(PLANS, selector(BURN));
    let mut draft = stage.draft(2, 3).await;
    draft.keys = vec![stage.key("redeem", &once).await];
    stage.settle(&draft.sign()).await.unwrap();
    assert_eq!(stage.credits(), 7);
    draft.proof = draft.proof.map(|proof| x402_types::nvm::RequestProof { nonce: [3; 32], ..proof });
    let rejection = stage.refused(&draft.sign()).await;
    assert_eq!(rejection.reason, Code::InvalidUserOperation.reason());
    assert!(rejection.message.unwrap().starts_with("redeem: "));
}

#[tokio::test]
async fn a_key_that_its_owner_has_taken_back_is_refused() {
    let stage = stage().await;
    stage.give(1).await;
    // Used once, and so enabled; and one that never was.
    let used = stage.draft(1, 1).await;
    stage.settle(&used.sign()).await.unwrap();
    let again = stage.draft(2, 1).await;
    let fresh = Draft { keys: vec![stage.key("redeem", &redeem_grant(99)).await], ..again.clone() };
    stage.verify(&again.sign()).await.unwrap();
    stage.verify(&fresh.sign()).await.unwrap();
    stage.owner_calls(&invalidate_nonce(stage.account.address(), 2)).await;
    for draft in [again, fresh] {
        let rejection = stage.refused(&draft.sign()).await;
        assert_eq!(rejection.reason, Code::InvalidUserOperation.reason(), "{rejection}");
    }
}

/// A Kernel whose owner has upgraded it to other code, which says of itself what Kernel 0.3.1 says.
#[tokio::test]
async fn an_account_that_was_upgraded_is_refused() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft(1, 3).await.sign();
    stage.verify(&claim).await.unwrap();
    let elsewhere = Address::repeat_byte(0x77);
    let code = stage.chain.provider().get_code_at(KERNEL).await.unwrap();
    stage.chain.set_code(elsewhere, code).unwrap();
    // ERC-1967: keccak256("eip1967.proxy.implementation") - 1.
    let slot = U256::from_be_bytes(alloy_primitives::keccak256("eip1967.proxy.implementation").0) - U256::ONE;
    stage.chain.set_storage(stage.account.address(), slot, elsewhere.into_word());
    let rejection = stage.refused(&claim).await;
    assert_eq!(rejection.reason, Code::InvalidPayload.reason(), "{rejection}");
    assert!(rejection.to_string().contains("its implementation is not the Kernel that it says"), "{rejection}");
    stage.chain.set_storage(stage.account.address(), slot, KERNEL.into_word());
    stage.verify(&claim).await.unwrap();
}

/// "All of it in a few round trips": one for account, signature and keys, one for the balance, one simulation.
#[tokio::test]
async fn a_verification_takes_three_requests() {
    let stage = stage().await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.chain.reset_calls();
    stage.verify(&claim).await.unwrap();
    let calls = stage.chain.calls();
    assert_eq!((calls.round_trips, calls.of("eth_call"), calls.of("eth_simulateV1")), (3, 2, 1));
}
