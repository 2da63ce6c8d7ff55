//! The plans' contract against what is known of Nevermined's: selectors, refusals, events, clamping, expiry.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::{SolCall, SolError, SolEvent};
use common::{NOW, address, chain};
use x402_devchain::{DevChain, DevPlan, PLANS, Plans, TOKEN, TOKENS_EACH, Token, signer};

const PLAN: U256 = U256::from_limbs([7, 0, 0, 0]);
const SEED: B256 = B256::repeat_byte(1);
const BUYER: usize = 1;
const SELLER: usize = 2;
const PRICE: u64 = 1_000_000;

async fn send(chain: &DevChain, to: Address, call: impl SolCall) -> TransactionReceipt {
    let request = TransactionRequest::default().to(to).input(Bytes::from(call.abi_encode()).into()).gas_limit(500_000);
    let pending = chain.wallet(signer(BUYER).unwrap()).send_transaction(request).await.unwrap();
    chain.provider().get_transaction_receipt(*pending.tx_hash()).await.unwrap().unwrap()
}

/// What the contract reverts with.
async fn refusal(chain: &DevChain, from: usize, call: impl SolCall) -> Bytes {
    let request =
        TransactionRequest::default().from(address(from)).to(PLANS).input(Bytes::from(call.abi_encode()).into());
    let error = chain.provider().call(request).await.unwrap_err();
    error.as_error_resp().unwrap().as_revert_data().unwrap()
}

fn order(seed: B256, plan: U256, purchases: u64) -> Plans::order_0Call {
    Plans::order_0Call {
        seed,
        planId: plan,
        creditsReceiver: address(BUYER),
        numberOfPurchases: U256::from(purchases),
        params: Vec::new(),
    }
}

fn burn(amount: u64) -> Plans::burnCall {
    let from = address(BUYER);
    Plans::burnCall { from, planId: PLAN, amount: U256::from(amount), keyspace: U256::ZERO, sig: Bytes::new() }
}

async fn approve(chain: &DevChain, value: u64) {
    assert!(send(chain, TOKEN, Token::approveCall { spender: PLANS, value: U256::from(value) }).await.status());
}

fn transfers(receipt: &TransactionReceipt) -> Vec<(Address, Address, u64)> {
    let logs = receipt.logs().iter().filter(|log| log.address() == PLANS);
    logs.filter_map(|log| Plans::TransferSingle::decode_log(&log.inner).ok())
        .map(|event| (event.from, event.to, event.value.to()))
        .collect()
}

#[test]
fn the_functions_are_those_of_the_deployed_contracts() {
    assert_eq!(Plans::burnCall::SELECTOR, hex!("69cd5d3b"));
    assert_eq!(Plans::order_0Call::SELECTOR, hex!("f9314107"));
    assert_eq!(Plans::order_1Call::SELECTOR, hex!("2c83443e"));
    assert_eq!(Plans::balanceOfCall::SELECTOR, hex!("00fdd58e"));
    assert_eq!(Plans::getPlanCall::SELECTOR, hex!("26cd5274"));
    let topic = hex!("c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62");
    assert_eq!(Plans::TransferSingle::SIGNATURE_HASH, topic);
}

#[tokio::test]
async fn credits_are_bought_and_redeemed() {
    let chain = chain();
    chain.register_plan(PLAN, DevPlan::credits(address(SELLER), PRICE, 100).taking(2, 10)).unwrap();
    approve(&chain, 2 * PRICE).await;
    let receipt = send(&chain, PLANS, order(SEED, PLAN, 2)).await;
    assert_eq!(transfers(&receipt), [(Address::ZERO, address(BUYER), 200)]);
    assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::from(200));
    assert_eq!(chain.balance_of(address(SELLER)), U256::from(TOKENS_EACH + 2 * PRICE));

    // What is taken lies within the plan's minimum and maximum.
    let mut left = 200;
    for (asked, taken) in [(5, 5), (1, 2), (50, 10)] {
        let receipt = send(&chain, PLANS, burn(asked)).await;
        assert_eq!(transfers(&receipt), [(address(BUYER), Address::ZERO, taken)]);
        left -= taken;
        assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::from(left));
    }
    let stranger = refusal(&chain, SELLER, burn(5)).await;
    assert_eq!(stranger, Plans::NotHolder { caller: address(SELLER), holder: address(BUYER) }.abi_encode());
}

#[tokio::test]
async fn an_order_is_made_once() {
    let chain = chain();
    chain.register_plan(PLAN, DevPlan::credits(address(SELLER), PRICE, 100)).unwrap();
    approve(&chain, 10 * PRICE).await;
    assert!(send(&chain, PLANS, order(SEED, PLAN, 1)).await.status());
    let id = Plans::agreementIdOfCall { sender: address(BUYER), seed: SEED, planId: PLAN };
    let request = TransactionRequest::default().to(PLANS).input(Bytes::from(id.abi_encode()).into());
    let id = Plans::agreementIdOfCall::abi_decode_returns(&chain.provider().call(request).await.unwrap()).unwrap();
    let again = refusal(&chain, BUYER, order(SEED, PLAN, 1)).await;
    assert_eq!(again, Plans::AgreementAlreadyRegistered { agreementId: id }.abi_encode());
    assert!(!send(&chain, PLANS, order(SEED, PLAN, 1)).await.status());
    // Another seed is another order.
    assert!(send(&chain, PLANS, order(B256::repeat_byte(2), PLAN, 1)).await.status());
    assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::from(200));
}

#[tokio::test]
async fn orders_that_cannot_be_are_refused() {
    let chain = chain();
    let used = U256::from(8);
    chain.register_plan(PLAN, DevPlan::credits(address(SELLER), PRICE, 100)).unwrap();
    chain.register_plan(used, DevPlan::pay_as_you_go(address(SELLER), PRICE)).unwrap();
    let unknown = U256::from(9);
    let as_used = |plan| Plans::order_1Call { seed: SEED, planId: plan, params: Vec::new() };
    for (call, error) in [
        (order(B256::ZERO, PLAN, 1), Plans::InvalidSeed { seed: B256::ZERO }.abi_encode()),
        (order(SEED, U256::ZERO, 1), Plans::InvalidPlanId { planId: U256::ZERO }.abi_encode()),
        (order(SEED, unknown, 1), Plans::PlanNotFound { planId: unknown }.abi_encode()),
        (order(SEED, used, 1), Plans::OnlyFixedPrice { planId: used }.abi_encode()),
        (order(SEED, PLAN, 0), Plans::InvalidPurchases { numberOfPurchases: U256::ZERO }.abi_encode()),
    ] {
        assert_eq!(refusal(&chain, BUYER, call).await, error);
    }
    assert_eq!(refusal(&chain, BUYER, as_used(PLAN)).await, Plans::OnlyPayAsYouGo { planId: PLAN }.abi_encode());
    // Without approval the token refuses, and nothing is minted.
    assert!(!send(&chain, PLANS, order(SEED, PLAN, 1)).await.status());
    let few = Plans::NotEnoughCredits { holder: address(BUYER), planId: PLAN, needed: U256::ONE, balance: U256::ZERO };
    assert_eq!(refusal(&chain, BUYER, burn(1)).await, few.abi_encode());
    for (id, plan) in [
        (PLAN, DevPlan::credits(address(SELLER), PRICE, 100)),
        (U256::ZERO, DevPlan::credits(address(SELLER), PRICE, 100)),
        (unknown, DevPlan::credits(address(SELLER), PRICE, 100).taking(2, 1)),
    ] {
        assert!(chain.register_plan(id, plan).is_err(), "{id}");
    }
}

#[tokio::test]
async fn credits_end_by_time_and_those_that_end_first_go_first() {
    let chain = chain();
    chain.register_plan(PLAN, DevPlan::credits(address(SELLER), PRICE, 10).ending_after(100)).unwrap();
    approve(&chain, 2 * PRICE).await;
    send(&chain, PLANS, order(SEED, PLAN, 1)).await;
    chain.set_time(NOW + 60);
    send(&chain, PLANS, order(B256::repeat_byte(2), PLAN, 1)).await;
    send(&chain, PLANS, burn(4)).await;
    assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::from(16));
    // The last second of the first order, and the one after it.
    for (time, credits) in [(NOW + 100, 16), (NOW + 101, 10), (NOW + 160, 10), (NOW + 161, 0)] {
        chain.set_time(time);
        chain.mine(1);
        assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::from(credits), "{}", time - NOW);
    }
    assert!(!send(&chain, PLANS, burn(1)).await.status());
}

#[tokio::test]
async fn what_is_paid_as_it_is_used_mints_nothing() {
    let chain = chain();
    chain.register_plan(PLAN, DevPlan::pay_as_you_go(address(SELLER), PRICE)).unwrap();
    approve(&chain, PRICE).await;
    let receipt = send(&chain, PLANS, Plans::order_1Call { seed: SEED, planId: PLAN, params: Vec::new() }).await;
    assert!(receipt.status());
    assert_eq!(transfers(&receipt), []);
    assert_eq!(chain.balance_of(address(SELLER)), U256::from(TOKENS_EACH + PRICE));
    assert_eq!(chain.credits_of(address(BUYER), PLAN).unwrap(), U256::ZERO);
}

/// Unknown is not none.
#[test]
fn a_contract_that_does_not_say_the_credits_has_not_said_none() {
    let chain = chain();
    chain.register_plan(PLAN, DevPlan::credits(address(SELLER), PRICE, 100)).unwrap();
    assert_eq!(chain.credits_of(address(BUYER), PLAN), Ok(U256::ZERO));
    // No code answers with nothing, and INVALID does not answer.
    for code in [&[][..], &[0xfe]] {
        chain.set_code(PLANS, Bytes::copy_from_slice(code)).unwrap();
        let unknown = chain.credits_of(address(BUYER), PLAN).unwrap_err();
        assert!(unknown.to_string().starts_with("the credits cannot be read: "), "{unknown}");
    }
}
