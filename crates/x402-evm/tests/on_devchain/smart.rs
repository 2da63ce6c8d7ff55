//! Smart accounts pay with EIP-3009: deployed, not deployed yet, delegated. Beside each, what is refused.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_signer::SignerSync;
use async_trait::async_trait;
use x402_devchain::{ACCOUNTS, Disturbance, TOKENS_EACH, signer};
use x402_evm::chain::Call;
use x402_evm::eip6492::Counterfactual;
use x402_evm::exact::{ExactMechanism, ExactPolicy, Payer, SignAs, TRANSFER_GAS};
use x402_evm::rail::EoaRail;
use x402_evm::token::Tokens;
use x402_evm::wallet::Signers;
use x402_facilitator_core::{Ledger, Mechanism, MemoryLedger, NextStep, Observation, Payment, Rail, StepState};
use x402_types::{Claim, ErrorReason, Fault, MakePayment, SigningContext, TimeoutSeconds, UnixSeconds};

use crate::stage::{PRICE, Stage, claim_of, payload, stage, terms};
use crate::wallet::{FACTORY, FACTORY_CODE, OWNER, WALLET, init_code, made_by_factory, wallet_code, wallet_of};

/// An account whose owner signs for it, and what deploys it where it is not there.
#[derive(Clone)]
pub(crate) struct Account {
    address: Address,
    owner: usize,
    factory: Option<(Address, Bytes)>,
}

#[async_trait]
impl SignAs for Account {
    fn account(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        let signature: Bytes = signer(self.owner).unwrap().sign_hash_sync(&digest).unwrap().as_bytes().into();
        Ok(match self.factory.clone() {
            None => signature,
            Some((factory, factory_data)) => Counterfactual { factory, factory_data, signature }.encode(),
        })
    }
}

fn owner() -> Address {
    ACCOUNTS[OWNER].address
}

/// A contract with tokens, its owner account 4.
pub(crate) fn deployed(stage: &Stage) -> Account {
    stage.chain.set_code(WALLET, wallet_code()).unwrap();
    wallet_of(stage, WALLET, owner(), 0);
    stage.chain.set_balance_of(WALLET, U256::from(TOKENS_EACH));
    Account { address: WALLET, owner: OWNER, factory: None }
}

/// The same, not there yet, and the deployment proxy that makes it.
pub(crate) fn undeployed(stage: &Stage) -> Account {
    stage.chain.set_code(FACTORY, FACTORY_CODE.to_vec().into()).unwrap();
    let address = made_by_factory(owner());
    stage.chain.set_balance_of(address, U256::from(TOKENS_EACH));
    let data = [B256::ZERO.as_slice(), &init_code(owner())].concat();
    Account { address, owner: OWNER, factory: Some((FACTORY, data.into())) }
}

/// A facilitator that calls this factory.
pub(crate) fn listing(mut stage: Stage, factory: Address) -> Stage {
    let signers = Signers::any().with_factory(factory);
    stage.mechanism = ExactMechanism::new(stage.reader.clone(), Tokens::default(), stage.rail.lanes())
        .with_policy(ExactPolicy::default().with_signers(signers));
    stage
}

pub(crate) async fn claim(stage: &Stage, account: &Account) -> Claim {
    claim_within(stage, account, 60).await
}

async fn claim_within(stage: &Stage, account: &Account, seconds: u64) -> Claim {
    claim_with(stage, account, seconds, [7; 32]).await
}

async fn claim_under(stage: &Stage, account: &Account, entropy: [u8; 32]) -> Claim {
    claim_with(stage, account, 60, entropy).await
}

async fn claim_with(stage: &Stage, account: &Account, seconds: u64, entropy: [u8; 32]) -> Claim {
    let mut terms = terms();
    terms.max_timeout_seconds = TimeoutSeconds::try_from(seconds).unwrap();
    let context = SigningContext { now: stage.now, entropy, url: "https://example.com/", method: "GET" };
    let made = Payer::new(account.clone()).make_payment(&terms, &context).await.unwrap();
    claim_of(terms, made.payload)
}

async fn plan(stage: &Stage, payment: &Payment) -> NextStep {
    stage.mechanism.plan(payment, stage.now).await.unwrap()
}

/// What is seen becomes the state of the last step.
async fn decide(stage: &Stage, payment: &mut Payment) {
    let state = match stage.observe(payment).await {
        Observation::Proven(proof) => StepState::Proven(proof),
        Observation::Dead(reason) => StepState::Dead(reason),
        Observation::Pending => panic!("pending"),
    };
    payment.steps.last_mut().unwrap().state = state;
}

async fn verified_in_one_round_trip(stage: &Stage, claim: &Claim) {
    stage.chain.reset_calls();
    stage.verify(claim).await.unwrap();
    let calls = stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));
}

#[tokio::test]
async fn a_deployed_contract_pays_in_the_overload_with_bytes() {
    let stage = stage(0);
    let account = deployed(&stage);
    let claim = claim(&stage, &account).await;
    verified_in_one_round_trip(&stage, &claim).await;
    let mut payment = stage.payment(claim.clone()).await;
    assert_eq!(payment.payer, WALLET.to_string());
    let NextStep::Do { parcel, .. } = plan(&stage, &payment).await else { panic!() };
    let call = Call::from_bytes(&parcel.bytes).unwrap();
    let signed = payload(&claim);
    assert_eq!(call.data, signed.authorization.transfer_call_with_bytes(signed.signature));
    // What isValidSignature may use comes on top, and is bounded.
    assert_eq!(call.gas, TRANSFER_GAS + 500_000 + 65 * 16);
    let attempt = stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    assert_eq!(payment.steps[0].proven().unwrap().tx, attempt.tx);
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn an_account_that_is_not_there_is_deployed_first() {
    let stage = listing(stage(2), FACTORY);
    let account = undeployed(&stage);
    let claim = claim(&stage, &account).await;
    verified_in_one_round_trip(&stage, &claim).await;
    let mut payment = stage.payment(claim.clone()).await;

    let NextStep::Do { name, once_key, parcel, .. } = plan(&stage, &payment).await else { panic!() };
    assert_eq!(name.as_str(), "deploy");
    assert_eq!(once_key.0, [b"eip155:84532", account.address.as_slice()].concat());
    // The factory of the list, the payer's exact data, a bound on gas. The rail sends no value with anything.
    let call = Call::from_bytes(&parcel.bytes).unwrap();
    let (factory, data) = account.factory.clone().unwrap();
    assert_eq!((call.to, call.data, call.gas), (factory, data, 2_150_000));

    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    // There, but not final.
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.mine(2);
    decide(&stage, &mut payment).await;
    let NextStep::Do { name, .. } = plan(&stage, &payment).await else { panic!() };
    assert_eq!(name.as_str(), "transfer");
    let attempt = stage.carry(&mut payment, 1).await;
    stage.chain.mine(3);
    decide(&stage, &mut payment).await;
    let NextStep::Settled(receipt) = plan(&stage, &payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.payer), (Some(attempt.tx), account.address.to_string()));
    assert_eq!(stage.paid(), U256::from(PRICE));

    // The same bytes pay again under another nonce, without the factory: it is there now.
    let context = SigningContext { now: stage.now, entropy: [8; 32], url: "https://example.com/", method: "GET" };
    let made = Payer::new(account).make_payment(&terms(), &context).await.unwrap();
    let payment = stage.payment(claim_of(terms(), made.payload)).await;
    let NextStep::Do { name, .. } = plan(&stage, &payment).await else { panic!() };
    assert_eq!(name.as_str(), "transfer");
}

#[tokio::test]
async fn a_deployment_by_anybody_counts() {
    let stage = listing(stage(0), FACTORY);
    let account = undeployed(&stage);
    let (factory, data) = account.factory.clone().unwrap();
    let mut payment = stage.payment(claim(&stage, &account).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    stage.other(5, factory, data).await;
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    assert!(matches!(plan(&stage, &payment).await, NextStep::Settled(_)));
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn a_deployment_that_never_happens_ends_with_the_authorization() {
    let stage = listing(stage(1), FACTORY);
    let account = undeployed(&stage);
    let mut payment = stage.payment(claim(&stage, &account).await).await;
    let ends = payload(&payment.claim).authorization.valid_before.0;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    stage.chain.set_next_timestamp(ends - 1);
    stage.chain.mine(1);
    stage.chain.set_next_timestamp(ends);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Pending, "the final block is older");
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    assert_eq!(plan(&stage, &payment).await, NextStep::Failed(ErrorReason::SMART_WALLET_DEPLOYMENT_FAILED));
}

/// What the newest block says is not what a final one says, nor need two answers be of one node.
#[tokio::test]
async fn a_deployment_that_one_node_sees_and_another_does_not_is_waited_for() {
    let stage = listing(stage(1), FACTORY);
    let account = undeployed(&stage);
    let (factory, data) = account.factory.clone().unwrap();
    let mut payment = stage.payment(claim(&stage, &account).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    payment.steps[0].state = StepState::Unaccounted;
    let wait = NextStep::Wait(stage.now.plus(2));
    // Still not there: once more, under the same once key. There by somebody's hand, not final yet: wait.
    let NextStep::Do { name, once_key, .. } = plan(&stage, &payment).await else { panic!() };
    assert_eq!((&name, &once_key), (&payment.steps[0].name, &payment.steps[0].once_key));
    stage.other(5, factory, data).await;
    stage.chain.mine(1);
    assert_eq!(plan(&stage, &payment).await, wait);
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    // Proven, and a node that lags knows nothing of it: it is not deployed again.
    let there: U256 = stage.chain.client().request("evm_snapshot", ()).await.unwrap();
    stage.chain.set_code(account.address, Bytes::new()).unwrap();
    stage.chain.set_storage(account.address, U256::ZERO, B256::ZERO);
    stage.chain.client().request::<_, ()>("anvil_setNonce", (account.address, U256::ZERO)).await.unwrap();
    assert_eq!(plan(&stage, &payment).await, wait);
    assert!(stage.chain.client().request::<_, bool>("evm_revert", (there,)).await.unwrap());
    let NextStep::Do { name, .. } = plan(&stage, &payment).await else { panic!() };
    assert_eq!(name.as_str(), "transfer");
}

/// Between the deployment and the transfer everything is looked at again: nothing of the transfer has left.
#[tokio::test]
async fn what_changes_while_it_is_deployed_is_seen() {
    for (change, expected) in [
        ("emptied", ErrorReason::INSUFFICIENT_FUNDS),
        ("another owner", ErrorReason::INVALID_SIGNATURE),
        ("settled by somebody", ErrorReason::DUPLICATE_SETTLEMENT),
    ] {
        let stage = listing(stage(0), FACTORY);
        let account = undeployed(&stage);
        let claim = claim(&stage, &account).await;
        let mut payment = stage.payment(claim.clone()).await;
        stage.carry(&mut payment, 0).await;
        stage.chain.mine(1);
        decide(&stage, &mut payment).await;
        let mut end = NextStep::Failed(expected.clone());
        match change {
            "emptied" => stage.chain.set_balance_of(account.address, U256::ZERO),
            "another owner" => wallet_of(&stage, account.address, ACCOUNTS[5].address, 0),
            _ => {
                let signed = payload(&claim);
                let inner = Counterfactual::decode(&signed.signature).unwrap().signature;
                let transfer = signed.authorization.transfer_call_with_bytes(inner);
                let transaction = stage.other(5, x402_devchain::TOKEN, transfer).await.to_string().into();
                end = NextStep::Spent { reason: expected, transaction };
                stage.chain.mine(1);
            }
        }
        assert_eq!(plan(&stage, &payment).await, end, "{change}");
    }
}

/// [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702): the code that an account has delegated to decides, not its key.
#[tokio::test]
async fn a_delegated_account_is_asked_and_its_key_alone_is_not_enough() {
    let stage = stage(0);
    stage.chain.set_code(WALLET, wallet_code()).unwrap();
    let account = ACCOUNTS[6].address;
    stage.chain.set_code(account, [&hex!("ef0100")[..], WALLET.as_slice()].concat().into()).unwrap();
    let by = |owner| Account { address: account, owner, factory: None };

    wallet_of(&stage, account, owner(), 0);
    assert_eq!(stage.refused(&claim(&stage, &by(6)).await).await, "invalid_exact_evm_payload_signature");
    let owned = claim(&stage, &by(OWNER)).await;
    verified_in_one_round_trip(&stage, &owned).await;
    let mut payment = stage.payment(owned).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    assert_eq!(stage.paid(), U256::from(PRICE));

    // Its own key, where the code takes it.
    let stage = crate::stage::stage(0);
    stage.chain.set_code(WALLET, wallet_code()).unwrap();
    stage.chain.set_code(account, [&hex!("ef0100")[..], WALLET.as_slice()].concat().into()).unwrap();
    wallet_of(&stage, account, account, 0);
    let mut payment = stage.payment(claim(&stage, &by(6)).await).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    decide(&stage, &mut payment).await;
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn what_a_contract_does_not_sign_is_refused() {
    let stage = stage(0);
    let account = deployed(&stage);
    let good = claim(&stage, &account).await;
    let bad = "invalid_exact_evm_payload_signature";
    let stranger = claim(&stage, &Account { owner: 5, ..account.clone() }).await;
    assert_eq!(stage.refused(&stranger).await, bad);
    // The wrong magic, a revert, 4 bytes, dirt behind the magic.
    for misbehave in 1..=4 {
        wallet_of(&stage, WALLET, owner(), misbehave);
        assert_eq!(stage.refused(&good).await, bad, "{misbehave}");
    }
    // Burns all that it is given; writes; says yes to anything by its input.
    for code in [&hex!("5b5f56")[..], &hex!("60015f55631626ba7e60e01b5f5260205ff3"), &hex!("365f5f37365ff3")] {
        stage.chain.set_code(WALLET, code.to_vec().into()).unwrap();
        stage.chain.reset_calls();
        assert_eq!(stage.refused(&good).await, bad, "{}", hex::encode(code));
        assert_eq!(stage.chain.calls().round_trips, 1);
    }
    // Gone, as after an authorization that undelegates: it is no key's either.
    stage.chain.set_code(WALLET, Bytes::new()).unwrap();
    assert_eq!(stage.refused(&good).await, bad);
}

#[tokio::test]
async fn what_cannot_be_deployed_here_is_refused() {
    let stage = stage(0);
    let account = undeployed(&stage);
    let good = claim(&stage, &account).await;
    // The list is empty unless told.
    assert_eq!(stage.refused(&good).await, "eip6492_factory_not_allowed");
    let stage = listing(stage, FACTORY);
    stage.verify(&good).await.unwrap();

    // A signature of somebody else within; an account that this factory does not make, with the same wrapping.
    let forged = claim(&stage, &Account { owner: 5, ..account.clone() }).await;
    assert_eq!(stage.refused(&forged).await, "invalid_exact_evm_payload_signature");
    let elsewhere = Account { address: made_by_factory(ACCOUNTS[5].address), ..account.clone() };
    stage.chain.set_balance_of(elsewhere.address, U256::from(TOKENS_EACH));
    assert_eq!(stage.refused(&claim(&stage, &elsewhere).await).await, "smart_wallet_deployment_failed");
    let nothing = Account { factory: Some((FACTORY, Bytes::new())), ..account.clone() };
    assert_eq!(stage.refused(&claim(&stage, &nothing).await).await, "smart_wallet_deployment_failed");

    // Not wrapped, so nobody knows what would make it; and wrapped by somebody who cannot.
    let bare = Account { factory: None, ..account.clone() };
    assert_eq!(stage.refused(&claim(&stage, &bare).await).await, "invalid_exact_evm_payload_signature");
    let long = x402_evm::eip3009::Payload { signature: vec![1; 66].into(), ..payload(&good) };
    let long = claim_of(terms(), long.to_json());
    assert_eq!(stage.refused(&long).await, "invalid_exact_evm_payload_undeployed_smart_wallet");
    let cut = payload(&good);
    let cut = x402_evm::eip3009::Payload { signature: cut.signature.slice(1..), ..cut };
    assert_eq!(stage.refused(&claim_of(terms(), cut.to_json())).await, "invalid_exact_evm_payload_signature");

    // Two transactions do not get into 29 seconds.
    let stage_time = stage.chain.time();
    assert_eq!(stage_time, stage.now.0);
    let code = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(stage.refused(&claim_within(&stage, &account, 27).await).await, code);
    stage.verify(&claim_within(&stage, &account, 30).await).await.unwrap();
}

/// `isValidSignature` that says yes while `tx.gasprice` is zero, as it is in `eth_call`, and reverts in a transaction.
const BY_GAS_PRICE: [u8; 22] = hex!("3a601257631626ba7e60e01b5f5260205ff35b5f5ffd");
/// The same by `tx.origin`, which is zero in an `eth_call` that names nobody.
const BY_ORIGIN: [u8; 22] = hex!("32601257631626ba7e60e01b5f5260205ff35b5f5ffd");

fn two_faced(stage: &Stage, code: [u8; 22]) -> Account {
    stage.chain.set_balance_of(WALLET, U256::from(TOKENS_EACH));
    stage.chain.set_code(WALLET, code.to_vec().into()).unwrap();
    Account { address: WALLET, owner: OWNER, factory: None }
}

#[tokio::test]
async fn a_contract_that_looks_at_the_origin_is_refused_at_verification() {
    let stage = stage(0);
    let account = two_faced(&stage, BY_ORIGIN);
    let claim = claim(&stage, &account).await;
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_payload_signature");
    // `contracts/TwoFacedWallet.sol`: it agrees where the origin is not the account that will send.
    let artifact = include_str!("../../../x402-devchain/contracts/artifacts/TwoFacedWallet.json");
    let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
    let code: Bytes = artifact["deployedBytecode"].as_str().unwrap().parse().unwrap();
    stage.chain.set_code(WALLET, code).unwrap();
    stage.chain.set_storage(WALLET, U256::ZERO, B256::with_last_byte(1));
    stage.chain.set_storage(WALLET, U256::ONE, stage.rail.address().into_word());
    assert_eq!(stage.refused(&claim).await, "invalid_exact_evm_payload_signature");
    stage.chain.set_storage(WALLET, U256::ONE, ACCOUNTS[8].address.into_word());
    stage.verify(&claim).await.unwrap();
}

/// With several accounts, the one that will send is chosen after verification: a wallet that agrees with the first alone
/// costs no transaction.
#[tokio::test]
async fn a_contract_that_refuses_one_of_several_accounts_is_sent_by_none() {
    let mut stage = stage(0);
    let other = EoaRail::new(stage.reader.clone(), x402_devchain::signer(7).unwrap()).unwrap();
    let lanes = [stage.rail.lanes(), other.lanes()].concat();
    stage.mechanism = ExactMechanism::new(stage.reader.clone(), Tokens::default(), lanes);
    let account = two_faced(&stage, BY_ORIGIN);
    let artifact = include_str!("../../../x402-devchain/contracts/artifacts/TwoFacedWallet.json");
    let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
    let code: Bytes = artifact["deployedBytecode"].as_str().unwrap().parse().unwrap();
    stage.chain.set_code(WALLET, code).unwrap();
    stage.chain.set_storage(WALLET, U256::ZERO, B256::with_last_byte(1));
    stage.chain.set_storage(WALLET, U256::ONE, ACCOUNTS[7].address.into_word());
    let mut payment = stage.payment(claim(&stage, &account).await).await;
    assert!(matches!(plan(&stage, &payment).await, NextStep::Do { .. }), "the first account settles it");
    payment.lane = other.lane().clone();
    assert_eq!(plan(&stage, &payment).await, NextStep::Failed(ErrorReason::INVALID_SIGNATURE));
}

#[tokio::test]
async fn a_contract_that_fools_the_simulation_costs_three_transactions() {
    // A contract with an owner, and one that a key has delegated to, which signs by that key.
    let delegated = Account { address: ACCOUNTS[6].address, owner: 6, factory: None };
    for account in [Account { address: WALLET, owner: OWNER, factory: None }, delegated] {
        let stage = stage(0);
        two_faced(&stage, BY_GAS_PRICE);
        if account.address != WALLET {
            let delegation = [&hex!("ef0100")[..], WALLET.as_slice()].concat();
            stage.chain.set_code(account.address, delegation.into()).unwrap();
        }
        let mut payment = stage.payment(claim(&stage, &account).await).await;
        for nonce in 0..3 {
            stage.carry(&mut payment, nonce).await;
            stage.chain.mine(1);
            assert_eq!(stage.observe(&payment).await, Observation::Pending);
            payment.steps[0].state = StepState::Unaccounted;
        }
        assert_eq!(stage.chain.nonce_of(stage.rail.address()), 3);
        assert_eq!(plan(&stage, &payment).await, NextStep::Wait(stage.now.plus(2)));
        stage.chain.set_next_timestamp(payload(&payment.claim).authorization.valid_before.0);
        stage.chain.mine(1);
        assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
        assert_eq!(stage.paid(), U256::ZERO);
    }
}

/// After that its payments are refused for an hour, and others' are not. A new process knows it by the ledger's rows.
#[tokio::test]
async fn a_payer_whose_transactions_reverted_is_refused_for_an_hour() {
    let mut stage = stage(0);
    let account = two_faced(&stage, BY_GAS_PRICE);
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(0)));
    let tokens = Tokens::default;
    let mechanism = |stage: &Stage| {
        ExactMechanism::new(stage.reader.clone(), tokens(), stage.rail.lanes()).with_ledger(ledger.clone())
    };
    stage.mechanism = mechanism(&stage);
    let mut payment = stage.payment(claim(&stage, &account).await).await;
    for nonce in 0..3 {
        stage.carry(&mut payment, nonce).await;
        stage.chain.mine(1);
        payment.steps[0].state = StepState::Unaccounted;
    }
    let next = claim_under(&stage, &account, [8; 32]).await;
    stage.verify(&next).await.unwrap();
    // Noted when its next step is planned.
    assert_eq!(plan(&stage, &payment).await, NextStep::Wait(stage.now.plus(2)));
    assert_eq!(stage.refused(&next).await, "payer_reverts");
    stage.verify(&stage.claim(1, 1).await).await.unwrap();

    // Another process: by the row, which has no answer yet.
    stage.mechanism = mechanism(&stage);
    stage.verify(&next).await.unwrap();
    ledger.claim(payment).await.unwrap();
    assert_eq!(stage.refused(&next).await, "payer_reverts");
    let until = stage.now.plus(3_600);
    stage.chain.set_next_timestamp(until.0 - 1);
    stage.chain.mine(1);
    stage.now = UnixSeconds(until.0 - 1);
    assert_eq!(stage.refused(&claim_under(&stage, &account, [8; 32]).await).await, "payer_reverts");
    stage.now = until;
    let next = claim_under(&stage, &account, [8; 32]).await;
    stage.verify(&next).await.unwrap();
}
