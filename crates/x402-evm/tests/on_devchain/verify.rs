//! Each thing that only the chain knows, alone, with its code; one request for all of it.

use std::sync::Arc;

use alloy_primitives::{U256, hex};
use alloy_sol_types::SolCall;
use x402_devchain::{ACCOUNTS, Failure, TOKEN, Token, When};
use x402_evm::exact::ExactMechanism;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Ledger, Mechanism, MemoryLedger, NextStep, Rail};
use x402_types::{Asset, Assets, ErrorReason, Fault, Refusal, UnixSeconds, Version};

use crate::stage::{
    PAYEE, PAYER, PRICE, Stage, cancel_call, claim_of, payload, sign, stage, stage_with, terms, transfer_call,
};

#[tokio::test]
async fn a_good_payment_takes_one_request() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    stage.chain.reset_calls();
    let verdict = stage.verify(&claim).await.unwrap();
    let calls = stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));
    assert_eq!(verdict.payer, ACCOUNTS[PAYER].address.to_string());
    assert_eq!(verdict.lanes[0].as_str(), "eip155:84532/0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    assert!(verdict.keep_until > stage.now.plus(60));
}

#[tokio::test]
async fn what_its_own_bytes_refuse_takes_none() {
    let stage = stage(0);
    let mut claim = stage.claim(PAYER, 1).await;
    claim.terms.amount = 1.into();
    stage.chain.reset_calls();
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_payload_authorization_value_mismatch");
    assert_eq!(stage.chain.calls().total(), 0);
}

/// The payer paid, though not by us: the seller has to learn by what, also when the authorization has expired since.
#[tokio::test]
async fn what_another_mined_in_time_is_told_with_its_transaction_after_it_expired() {
    let stage = stage(0);
    let [paid, unused, cancelled] =
        [stage.claim(PAYER, 1).await, stage.claim(PAYER, 2).await, stage.claim(PAYER, 3).await];
    let hash = stage.other(5, TOKEN, transfer_call(&paid)).await;
    stage.other(5, TOKEN, cancel_call(&cancelled)).await;
    stage.chain.mine(1);
    let end = payload(&paid).authorization.valid_before;
    stage.chain.set_next_timestamp(end.plus(60).0);
    stage.chain.mine(1);
    // Within the margin before its end it is too late for us already.
    for now in [UnixSeconds(end.0 - 1), end.plus(60)] {
        let refused = stage.mechanism.verify(&paid, now).await.unwrap_err();
        let Refusal::Rejection(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.reason, ErrorReason::NONCE_ALREADY_USED);
        assert_eq!(refused.details.text("transaction").as_deref(), Some(hash.to_string().as_str()));
        assert!(refused.to_string().contains("paid what is asked"), "{refused}");
        assert_eq!(refused.payer.as_deref(), Some(ACCOUNTS[PAYER].address.to_string().as_str()));
        for claim in [&unused, &cancelled] {
            let refused = stage.mechanism.verify(claim, now).await.unwrap_err();
            assert!(matches!(refused, Refusal::Rejection(it) if it.reason == ErrorReason::INVALID_VALID_BEFORE));
        }
    }
    // Whoever knows the nonce and cannot sign costs no search.
    let mut forged = payload(&paid);
    forged.signature = payload(&unused).signature;
    let forged = claim_of(terms(), forged.to_json());
    stage.chain.reset_calls();
    let refused = stage.mechanism.verify(&forged, end.plus(60)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejection(it) if it.reason == ErrorReason::INVALID_VALID_BEFORE));
    assert!(stage.chain.calls().total() <= 1, "{:?}", stage.chain.calls());
}

#[tokio::test]
async fn each_fault_of_the_chain_s_has_its_code() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let payer = ACCOUNTS[PAYER].address;
    let before = stage.chain.balance_of(payer);

    stage.chain.set_balance_of(payer, U256::from(9_999));
    assert_eq!(stage.refused(&claim).await, "insufficient_funds");
    stage.chain.set_balance_of(payer, before);

    // EIP-7702: the key still signs, but the code is asked, and there is none where it points.
    let delegated = hex!("ef01001111111111111111111111111111111111111111").to_vec();
    stage.chain.set_code(payer, delegated.into()).unwrap();
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_payload_signature");
    stage.chain.set_code(payer, vec![].into()).unwrap();

    for (account, index) in [(payer, PAYER), (ACCOUNTS[PAYEE].address, PAYEE)] {
        stage.other(5, TOKEN, Token::blacklistCall { account }.abi_encode().into()).await;
        stage.chain.mine(1);
        assert_eq!(stage.refused(&claim).await, "payer_blocked", "{index}");
        stage.other(5, TOKEN, Token::unBlacklistCall { account }.abi_encode().into()).await;
        stage.chain.mine(1);
    }

    stage.other(5, TOKEN, Token::pauseCall {}.abi_encode().into()).await;
    stage.chain.mine(1);
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_transaction_simulation_failed");
    stage.other(5, TOKEN, Token::unpauseCall {}.abi_encode().into()).await;
    stage.chain.mine(1);

    stage.verify(&claim).await.unwrap();
    stage.other(5, TOKEN, transfer_call(&claim)).await;
    stage.chain.mine(1);
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_nonce_already_used");

    let claim = stage.claim(PAYER, 2).await;
    stage.other(5, TOKEN, cancel_call(&claim)).await;
    stage.chain.mine(1);
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_nonce_already_used");
}

#[tokio::test]
async fn the_asset_must_be_a_token_with_eip_3009() {
    let mut assets = Assets::none();
    let network = "eip155:84532".parse().unwrap();
    for (address, code) in [(ACCOUNTS[7].address, ""), (ACCOUNTS[8].address, "5f5ffd"), (ACCOUNTS[9].address, "00")] {
        assets.add(Asset::new(network, address, "FAKE", "USDC", "2", 6).dollar());
        let tokens = Tokens::new(&assets);
        let stage = stage_with(0, tokens.clone());
        stage.chain.set_code(address, hex::decode(code).unwrap().into()).unwrap();
        let mut terms = terms();
        terms.asset = address.to_string();
        let domain = tokens.find(network, address).unwrap().domain.clone().unwrap().separator;
        let authorization = crate::stage::payload(&stage.claim(PAYER, 1).await).authorization;
        let claim = claim_of(terms, sign(authorization, domain).to_json());
        let expected =
            if code.is_empty() { "asset_not_deployed_contract" } else { "invalid_exact_evm_eip3009_not_supported" };
        assert_eq!(stage.refused(&claim).await, expected, "{code}");
    }
}

#[tokio::test]
async fn a_domain_that_is_not_pinned_is_read_in_the_same_request_and_kept() {
    let mut assets = Assets::none();
    assets.add(Asset::new("eip155:84532".parse().unwrap(), TOKEN, "USDC", "", "", 6).dollar());
    let stage = stage_with(0, Tokens::new(&assets));
    for (name, version, expected) in [
        ("USD Coin", "2", "invalid_exact_evm_token_name_mismatch"),
        ("USDC", "1", "invalid_exact_evm_token_version_mismatch"),
    ] {
        let mut terms = terms();
        terms.extra.insert_text("name", name);
        terms.extra.insert_text("version", version);
        let authorization = crate::stage::payload(&stage.claim(PAYER, 1).await).authorization;
        let domain = x402_evm::eip712::DomainSeparator::new(name, version, 84532, TOKEN);
        let claim = claim_of(terms, sign(authorization, domain).to_json());
        assert_eq!(stage.refused(&claim).await, expected);
    }
    let claim = stage.claim(PAYER, 1).await;
    stage.chain.reset_calls();
    stage.verify(&claim).await.unwrap();
    assert_eq!(stage.chain.calls().total(), 1);

    // Known now: what disagrees is refused without a request.
    let mut other = stage.claim(PAYER, 1).await;
    other.terms.extra.insert_text("name", "USD Coin");
    let authorization = crate::stage::payload(&other).authorization;
    let domain = x402_evm::eip712::DomainSeparator::new("USD Coin", "2", 84532, TOKEN);
    let other = claim_of(other.terms, sign(authorization, domain).to_json());
    stage.chain.reset_calls();
    let Err(Refusal::Rejection(rejection)) = stage.verify(&other).await else { panic!() };
    assert_eq!(rejection.reason.as_str(), "invalid_exact_evm_token_name_mismatch");
    assert_eq!(stage.chain.calls().total(), 0);
}

#[tokio::test]
async fn the_chain_s_own_clock_counts() {
    let mut stage = stage(0);
    let mut authorization = crate::stage::payload(&stage.claim(PAYER, 1).await).authorization;
    // Ours says that it is valid already; the newest block is older.
    authorization.valid_after = UnixSeconds(stage.now.0);
    stage.now = stage.now.plus(1);
    let claim = claim_of(terms(), sign(authorization, crate::stage::domain()).to_json());
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_payload_authorization_valid_after");
    stage.chain.mine(3);
    stage.verify(&claim).await.unwrap();
}

#[tokio::test]
async fn a_node_that_fails_is_our_fault_not_the_payer_s() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    for failure in [
        Failure::Error { code: -32603, message: "internal".to_owned() },
        Failure::Malformed,
        Failure::Lost,
        Failure::Status(503),
    ] {
        stage.chain.fail_calls("eth_call", 1, When::Before, failure);
        assert!(matches!(stage.verify(&claim).await, Err(Refusal::Fault(Fault::Unreachable { .. }))));
    }
    stage.verify(&claim).await.unwrap();
}

/// One balance of a cent, and many authorizations of a cent: what is under way counts.
#[tokio::test]
async fn what_a_payer_has_under_way_counts_against_the_balance() {
    let mut stage = stage(0);
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(0)));
    stage.mechanism =
        ExactMechanism::new(stage.reader.clone(), Tokens::default(), stage.rail.lanes()).with_ledger(ledger.clone());
    stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    let first = stage.claim(PAYER, 1).await;
    let mut payment = stage.payment(first.clone()).await;
    ledger.claim(payment.clone()).await.unwrap();
    // Its own row takes nothing from it; another payer is not concerned.
    stage.verify(&first).await.unwrap();
    stage.verify(&stage.claim(2, 1).await).await.unwrap();
    for nonce in 2..=200 {
        assert_eq!(stage.refused(&stage.claim(PAYER, nonce).await).await, "insufficient_funds", "{nonce}");
    }
    // One request still says all.
    let second = stage.claim(PAYER, 2).await;
    stage.chain.reset_calls();
    assert_eq!(stage.refused(&second).await, "insufficient_funds");
    assert_eq!(stage.chain.calls().total(), 1);

    // Used on chain and not answered yet: the balance is the one behind it.
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    stage.verify(&second).await.unwrap();
}

/// A balance that covered everything a moment ago is taken on trust by nobody: whether it still does is read, and what is
/// under way is looked at only if it does not.
#[tokio::test]
async fn what_is_under_way_is_looked_at_once_the_balance_no_longer_covers_it() {
    let mut stage = stage(0);
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(0)));
    stage.mechanism =
        ExactMechanism::new(stage.reader.clone(), Tokens::default(), stage.rail.lanes()).with_ledger(ledger.clone());
    let payer = ACCOUNTS[PAYER].address;
    stage.chain.set_balance_of(payer, U256::from(3 * PRICE));
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    ledger.claim(payment.clone()).await.unwrap();
    let second = stage.claim(PAYER, 2).await;
    let calls = async |stage: &Stage, expected: Option<&str>| {
        stage.chain.reset_calls();
        match expected {
            None => drop(stage.verify(&second).await.unwrap()),
            Some(reason) => assert_eq!(stage.refused(&second).await, reason),
        }
        stage.chain.calls().total()
    };
    assert_eq!(calls(&stage, None).await, 1);
    // The first is under way, and the balance covers one of the two.
    stage.chain.set_balance_of(payer, U256::from(PRICE));
    assert_eq!(calls(&stage, Some("insufficient_funds")).await, 2);
    // The same balance behind the first.
    stage.chain.set_balance_of(payer, U256::from(3 * PRICE));
    assert_eq!(calls(&stage, None).await, 1);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    stage.chain.set_balance_of(payer, U256::from(PRICE));
    assert_eq!(calls(&stage, None).await, 2);
    // One that is known to be short is looked at with the first request.
    assert_eq!(calls(&stage, None).await, 1);
}

/// 2 were verified at once, before either was claimed: the one that comes first is sent, the other is told why not.
#[tokio::test]
async fn of_two_that_one_balance_cannot_pay_one_is_sent() {
    let mut stage = stage(0);
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(0)));
    stage.mechanism =
        ExactMechanism::new(stage.reader.clone(), Tokens::default(), stage.rail.lanes()).with_ledger(ledger.clone());
    stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    let (low, high) = (stage.claim(PAYER, 1).await, stage.claim(PAYER, 2).await);
    let (low, high) = (stage.payment(low).await, stage.payment(high).await);
    assert!(low.key < high.key);
    for payment in [&low, &high] {
        ledger.claim(payment.clone()).await.unwrap();
    }
    let plan = stage.mechanism.plan(&high, stage.now).await.unwrap();
    assert_eq!(plan, NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS));
    stage.chain.reset_calls();
    let plan = stage.mechanism.plan(&low, stage.now).await.unwrap();
    assert!(matches!(plan, NextStep::Do { .. }), "{plan:?}");
    assert_eq!(stage.chain.calls().of("eth_call"), 0, "nobody comes before it, so nothing is read");
}

#[tokio::test]
async fn kinds_are_those_of_both_versions() {
    let kinds = stage(0).mechanism.kinds();
    let names: Vec<_> = kinds.iter().map(|kind| (kind.x402_version, kind.network.as_str())).collect();
    assert_eq!(names, [(Version::V2, "eip155:84532"), (Version::V1, "base-sepolia")]);
}
