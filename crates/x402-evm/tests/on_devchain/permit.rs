//! Payments by Permit2 on a chain with Permit2's own code: what is verified, what is proven, and in how many requests.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, SolValue, sol};
use async_trait::async_trait;
use serde_json::{Value, json};
use x402_devchain::contracts::MULTICALL3;
use x402_devchain::{ACCOUNTS, TOKEN, TestToken, Token as DevToken, signer};
use x402_evm::chain::{Call, ReadChain, RpcChain};
use x402_evm::eip712::DomainSeparator;
use x402_evm::exact::{ExactMechanism, SignAs};
use x402_evm::permit2::sponsored::{EIP2612_GAS_SPONSORING, PermittedAllowance, SponsoredPermit};
use x402_evm::permit2::{
    ByPermit2, EXACT_PROXY, Eip2612Permit, PERMIT2, Payer, Permit, PermitMechanism, PermitPayload, PermitScheme,
    SettleCall, UPTO_PROXY, domain,
};
use x402_evm::signature::Signature;
use x402_evm::token::Tokens;
use x402_facilitator_core::{
    Attempt, LaneId, Ledger, Mechanism, MemoryLedger, NextStep, Observation, Payment, Rail, RequestId, SlotId, Step,
    StepProof, StepState, TxId,
};
use x402_types::{
    Asset, Assets, AtomicAmount, ChainId, Claim, ErrorReason, Fault, MakePayment, Members, RawJson, Refusal, Rejection,
    SigningContext, Terms, TimeoutSeconds, TransferMethod, UnixSeconds,
};

use crate::stage::{PAYEE, PAYER, PRICE, Stage, claim_of, stage, transfer_call};
use crate::wallet::{OWNER, WALLET, wallet_code, wallet_of};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
    function transfer(address to, uint256 value) external returns (bool);
    struct Call3 { address target; bool allowFailure; bytes callData; }
    function aggregate3(Call3[] calldata calls) external payable;
}

const SPECIAL: Address = Address::repeat_byte(0x77);

fn network() -> ChainId {
    "eip155:84532".parse().unwrap()
}

/// A facilitator of both schemes, on a chain whose payer has approved Permit2.
pub(crate) struct Permits {
    pub(crate) stage: Stage,
    pub(crate) exact: PermitMechanism<RpcChain>,
    pub(crate) upto: PermitMechanism<RpcChain>,
}

pub(crate) fn permits_with(stage: Stage, tokens: &Tokens) -> Permits {
    let lanes = || stage.rail.lanes();
    let mechanism = |scheme| PermitMechanism::new(scheme, stage.reader.clone(), tokens.clone(), lanes());
    let (exact, upto) = (mechanism(PermitScheme::Exact), mechanism(PermitScheme::Upto));
    Permits { stage, exact, upto }
}

pub(crate) async fn permits(depth: u64) -> Permits {
    let permits = permits_with(stage(depth), &Tokens::for_permit2(&Assets::default()));
    permits.approve(PAYER, TOKEN, U256::MAX).await;
    permits
}

pub(crate) fn exact_terms() -> Terms {
    let offer = ByPermit2::default().exact(network(), ACCOUNTS[PAYEE].address, "$0.01".parse().unwrap()).unwrap();
    offer.terms.with_max_timeout_seconds(TimeoutSeconds::try_from(60).unwrap())
}

pub(crate) fn upto_terms(facilitator: Address) -> Terms {
    let (network, to, most) = (network(), ACCOUNTS[PAYEE].address, "$0.01".parse().unwrap());
    let offer = ByPermit2::default().upto(network, to, most, facilitator).unwrap();
    offer.terms.with_max_timeout_seconds(TimeoutSeconds::try_from(60).unwrap())
}

pub(crate) fn payload(claim: &Claim) -> PermitPayload {
    PermitPayload::read(&claim.payload).unwrap()
}

pub(crate) fn settle_call(claim: &Claim) -> SettleCall {
    let PermitPayload { authorization, signature } = payload(claim);
    SettleCall { authorization, amount: claim.terms.amount, signature, permit2612: None }
}

/// The claim with another permit, signed by the payer again.
pub(crate) fn signed_again(claim: &Claim, change: impl FnOnce(&mut Permit)) -> Claim {
    let mut permit = payload(claim).authorization;
    change(&mut permit);
    let signature = signer(PAYER).unwrap().sign_hash_sync(&permit.digest(domain(84532))).unwrap();
    let signature = Signature::try_from(signature).unwrap().to_bytes().to_vec().into();
    claim.clone().with_payload(PermitPayload { authorization: permit, signature }.to_json())
}

impl Permits {
    pub(crate) async fn approve(&self, owner: usize, token: Address, value: U256) {
        let data = DevToken::approveCall { spender: PERMIT2, value }.abi_encode();
        self.stage.other(owner, token, data.into()).await;
        self.stage.chain.mine(1);
    }

    pub(crate) async fn claim_by(&self, signer: impl SignAs, terms: Terms, nonce: u8) -> Claim {
        let (now, entropy) = (self.now(), [nonce; 32]);
        let context = SigningContext { now, entropy, url: "https://example.com/", method: "GET" };
        let payer = Payer::new(signer).with_any_token();
        let made = payer.make_payment(&terms, &context).await.unwrap();
        claim_of(terms, made.payload)
    }

    pub(crate) async fn claim(&self, nonce: u8) -> Claim {
        self.claim_by(signer(PAYER).unwrap(), exact_terms(), nonce).await
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        UnixSeconds(self.stage.chain.time())
    }

    pub(crate) fn of(&self, claim: &Claim) -> &PermitMechanism<RpcChain> {
        if claim.terms.scheme == PermitScheme::Upto.name() { &self.upto } else { &self.exact }
    }

    async fn refusal(&self, claim: &Claim) -> Rejection {
        match self.of(claim).verify(claim, self.now()).await {
            Err(Refusal::Rejection(rejection)) => rejection,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&self, claim: &Claim) -> ErrorReason {
        let rejection = self.refusal(claim).await;
        assert!(rejection.payer.is_some(), "{rejection:?}");
        rejection.reason
    }

    /// Verified and claimed.
    pub(crate) async fn payment(&self, claim: &Claim) -> Payment {
        let verdict = self.of(claim).verify(claim, self.now()).await.unwrap();
        let key = self.of(claim).key(claim).unwrap();
        let request = RequestId { owner: "test".into(), number: 0 };
        let mut payment = Payment::from_row(key, claim.clone(), verdict.payer, verdict.lanes[0].clone(), request);
        (payment.due, payment.keep_until) = (self.now(), verdict.keep_until);
        payment
    }

    pub(crate) async fn planned(&self, payment: &Payment) -> NextStep {
        self.of(&payment.claim).plan(payment, self.now()).await.unwrap()
    }

    /// Plans what comes next, signs it for this account nonce, and sends it.
    pub(crate) async fn carry(&self, payment: &mut Payment, nonce: u64) -> Attempt {
        let plan = self.planned(payment).await;
        let NextStep::Do { name, once_key, exclusive, parcel } = plan else { panic!("{plan:?}") };
        assert_eq!(exclusive, None);
        let slot = SlotId { lane: self.stage.rail.lane().clone(), nonce };
        let attempt = self.stage.rail.sign(&slot, std::slice::from_ref(&parcel), None).await.unwrap();
        let mut step = Step::new(name, once_key);
        (step.state, step.parcels, step.carriers) = (StepState::InFlight, vec![parcel], vec![slot]);
        payment.steps.push(step);
        self.stage.rail.send(&attempt).await.unwrap();
        attempt
    }

    pub(crate) async fn observe(&self, payment: &Payment, sent: &[TxId]) -> Observation {
        self.of(&payment.claim).observe(payment.steps.last().unwrap(), sent).await.unwrap()
    }

    pub(crate) async fn balance(&self, token: Address, of: Address) -> U256 {
        let data = DevToken::balanceOfCall { account: of }.abi_encode();
        let call = TransactionRequest::default().to(token).input(Bytes::from(data).into());
        U256::from_be_slice(&self.stage.chain.provider().call(call).await.unwrap())
    }

    pub(crate) fn after_the_deadline(&self) {
        self.stage.chain.increase_time(200);
        self.stage.chain.mine(1);
    }
}

fn proven(transaction: B256, amount: u64) -> Observation {
    Observation::Proven(StepProof::new(hex::encode_prefixed(transaction).into(), AtomicAmount::from(amount)))
}

#[tokio::test]
async fn a_permit_is_verified_in_one_round_trip_and_proven_by_its_transfer() {
    let permits = permits(2).await;
    let claim = permits.claim(7).await;
    assert!(permits.exact.is_own(&claim) && !permits.stage.mechanism.is_own(&claim));
    permits.stage.chain.reset_calls();
    let mut payment = permits.payment(&claim).await;
    let calls = permits.stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));
    assert_eq!(payment.payer, ACCOUNTS[PAYER].address.to_string());

    let attempt = permits.carry(&mut payment, 0).await;
    let sent = [attempt.tx.clone()];
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending);
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending, "the block is not final");
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    permits.stage.chain.mine(2);
    let proof = permits.observe(&payment, &sent).await;
    assert_eq!(proof, Observation::Proven(StepProof::new(attempt.tx.clone(), PRICE.into())));
    // After a crash the hashes are those of the ledger; without them the call itself proves it.
    assert_eq!(permits.observe(&payment, &[]).await, proof);
    let Observation::Proven(proof) = proof else { panic!() };
    payment.steps.last_mut().unwrap().state = StepState::Proven(proof);
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (Some(attempt.tx), None));
    // The nonce is used now, and the refusal names the transaction.
    let why = permits.refusal(&claim).await;
    assert_eq!(why.reason, ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(why.details.text("transaction").as_deref(), Some(sent[0].as_str()));
}

#[tokio::test]
async fn whatever_the_chain_objects_to_is_refused_by_its_code() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let chain = &permits.stage.chain;
    let payer = ACCOUNTS[PAYER].address;

    permits.approve(PAYER, TOKEN, U256::from(PRICE - 1)).await;
    let claim_now = permits.claim(8).await;
    assert_eq!(permits.refused(&claim_now).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    assert_eq!(ErrorReason::PERMIT2_ALLOWANCE_REQUIRED.row().unwrap().status, 412);
    permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
    assert!(permits.exact.verify(&claim, permits.now()).await.is_ok());

    chain.set_balance_of(payer, U256::from(PRICE - 1));
    assert_eq!(permits.refused(&claim).await, ErrorReason::INSUFFICIENT_FUNDS);
    chain.set_balance_of(payer, U256::from(PRICE));
    assert!(permits.exact.verify(&claim, permits.now()).await.is_ok());

    let nonce = payload(&claim).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    chain.mine(1);
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_INVALID_NONCE);
    // The next nonce of the same word is another bit.
    let next = signed_again(&claim, |permit| permit.nonce ^= U256::from(1));
    assert!(permits.exact.verify(&next, permits.now()).await.is_ok());

    for (contract, reason) in [
        (EXACT_PROXY, ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED),
        (PERMIT2, ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED),
        (TOKEN, ErrorReason::ASSET_NOT_DEPLOYED),
    ] {
        let code = chain.provider().get_code_at(contract).await.unwrap();
        chain.set_code(contract, Bytes::new()).unwrap();
        assert_eq!(permits.refused(&next).await, reason);
        chain.set_code(contract, code).unwrap();
    }
    assert!(permits.exact.verify(&next, permits.now()).await.is_ok());
}

#[tokio::test]
async fn whatever_the_permit_itself_lacks_is_refused_without_the_chain() {
    let permits = permits(0).await;
    let good = permits.claim(7).await;
    assert!(permits.exact.verify(&good, permits.now()).await.is_ok());
    permits.stage.chain.reset_calls();
    let now = U256::from(permits.now().0);
    let with = |change: &dyn Fn(&mut Permit)| signed_again(&good, |permit| change(permit));
    let seconds = U256::from;
    for (claim, reason) in [
        (with(&|permit| permit.spender = UPTO_PROXY), ErrorReason::INVALID_PERMIT2_SPENDER),
        (with(&|permit| permit.witness.to = permit.from), ErrorReason::INVALID_PERMIT2_RECIPIENT),
        (with(&|permit| permit.deadline = now + seconds(5)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = now - seconds(1)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = now + seconds(121)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = U256::MAX), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.witness.valid_after = now + seconds(1)), ErrorReason::PERMIT2_NOT_YET_VALID),
        (with(&|permit| permit.witness.valid_after = U256::MAX), ErrorReason::PERMIT2_NOT_YET_VALID),
        (with(&|permit| permit.amount = (PRICE + 1).into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
        (with(&|permit| permit.amount = (PRICE - 1).into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
        (with(&|permit| permit.token = PERMIT2), ErrorReason::PERMIT2_TOKEN_MISMATCH),
        (with(&|permit| permit.from = ACCOUNTS[5].address), ErrorReason::INVALID_PERMIT2_SIGNATURE),
        (with(&|permit| permit.witness.facilitator = Some(permit.from)), ErrorReason::UNSUPPORTED_PAYLOAD_TYPE),
    ] {
        if reason == ErrorReason::INVALID_PERMIT2_SIGNATURE {
            // The code at the payer's address could have agreed to it, so the chain is asked.
            assert_eq!(permits.refused(&claim).await, reason);
            assert_eq!(permits.stage.chain.calls().of("eth_call"), 1);
            permits.stage.chain.reset_calls();
            continue;
        }
        assert_eq!(permits.refused(&claim).await, reason);
        let calls = permits.stage.chain.calls().total();
        // The end of a permit that is over may have been in time for another transaction.
        assert!(calls == 0 || reason == ErrorReason::PERMIT2_DEADLINE_EXPIRED, "{reason}: {calls}");
        permits.stage.chain.reset_calls();
    }
    for (deadline, after) in [(now + seconds(6), now - seconds(4)), (now + seconds(120), U256::ZERO)] {
        let claim = signed_again(&good, |permit| (permit.deadline, permit.witness.valid_after) = (deadline, after));
        assert!(permits.exact.verify(&claim, permits.now()).await.is_ok(), "{deadline}");
    }
    let terms = |change: &dyn Fn(&mut Terms)| {
        let mut terms = good.terms.clone();
        change(&mut terms);
        good.clone().with_terms(terms)
    };
    for (claim, reason) in [
        (terms(&|terms| terms.network = "eip155:1".parse().unwrap()), ErrorReason::INVALID_NETWORK),
        (terms(&|terms| terms.asset = PERMIT2.to_string()), ErrorReason::INVALID_PAYMENT_REQUIREMENTS),
        (terms(&|terms| terms.pay_to = Address::ZERO.to_string()), ErrorReason::PERMIT2_INVALID_DESTINATION),
        (terms(&|terms| terms.amount = 0.into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
    ] {
        assert_eq!(permits.refusal(&claim).await.reason, reason);
    }
    let zero = signed_again(&terms(&|terms| terms.amount = 0.into()), |permit| permit.amount = 0.into());
    assert_eq!(permits.refused(&zero).await, ErrorReason::PERMIT2_INVALID_AMOUNT);
}

/// Checks that both spellings of `s` settle, under one key, and once.
#[tokio::test]
async fn the_twin_of_a_signature_is_the_same_payment() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let PermitPayload { authorization, signature } = payload(&claim);
    let mut high = signature.to_vec();
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let twin = order - U256::from_be_slice(&signature[32..64]);
    high[32..64].copy_from_slice(&twin.to_be_bytes::<32>());
    high[64] = 55 - high[64];
    let twin = claim.clone().with_payload(PermitPayload { authorization, signature: high.into() }.to_json());
    assert_eq!(permits.exact.key(&twin), permits.exact.key(&claim));
    let mut payment = permits.payment(&twin).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await.clone(), permits.observe(&payment, &[]).await);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_INVALID_NONCE);
}

#[tokio::test]
async fn whoever_sends_the_permit_it_is_paid() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let theirs = permits.stage.other(5, EXACT_PROXY, settle_call(&claim).call()).await;
    permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &[]).await, proven(theirs, PRICE));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

/// Checks a payment that another account settled before this facilitator sent anything: it is not sent, and names the
/// transaction.
#[tokio::test]
async fn a_permit_that_was_settled_elsewhere_is_not_sent() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let theirs = permits.stage.other(5, EXACT_PROXY, settle_call(&claim).call()).await;
    permits.stage.chain.mine(1);
    payment.due = UnixSeconds(0);
    let spent =
        NextStep::Spent { reason: ErrorReason::DUPLICATE_SETTLEMENT, transaction: hex::encode_prefixed(theirs).into() };
    assert_eq!(permits.planned(&payment).await, spent);
    // The seller learns of it even when the permit is over.
    permits.after_the_deadline();
    let why = permits.refusal(&claim).await;
    assert_eq!(why.reason, ErrorReason::PERMIT2_INVALID_NONCE);
    assert!(why.details.get("transaction").is_some());
}

#[tokio::test]
async fn an_invalidated_nonce_beside_a_plain_transfer_pays_nothing() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let nonce = payload(&claim).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    let attempt = permits.carry(&mut payment, 0).await;
    let to = ACCOUNTS[PAYEE].address;
    permits.stage.other(PAYER, TOKEN, transferCall { to, value: U256::from(PRICE) }.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    let sent = [attempt.tx];
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending);
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE));
}

/// Checks two permits of one payer with nonces of one word, for the same sum and recipient: one is settled, and the
/// other's nonce is used up in the same block.
#[tokio::test]
async fn one_transfer_is_the_payment_of_one_permit() {
    let permits = permits(0).await;
    let first = permits.claim(7).await;
    let second = signed_again(&first, |permit| permit.nonce ^= U256::from(1));
    let (mut paid, mut unpaid) = (permits.payment(&first).await, permits.payment(&second).await);
    let attempt = permits.carry(&mut paid, 0).await;
    let nonce = payload(&second).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    let reverted = permits.carry(&mut unpaid, 1).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    assert!(matches!(permits.observe(&paid, &[attempt.tx]).await, Observation::Proven(_)));
    assert_eq!(permits.observe(&unpaid, std::slice::from_ref(&reverted.tx)).await, Observation::Pending);
    permits.after_the_deadline();
    let dead = Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(permits.observe(&unpaid, &[reverted.tx]).await, dead);
}

/// Checks a settlement inside of another contract's transaction: its calldata are the sender's to choose, so that they
/// prove nothing, and an unknown outcome is never told as failed.
#[tokio::test]
async fn a_settlement_by_another_contract_stays_unknown() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let call = Call3 { target: EXACT_PROXY, allowFailure: false, callData: settle_call(&claim).call() };
    permits.stage.other(5, MULTICALL3, aggregate3Call { calls: vec![call] }.abi_encode().into()).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await, Observation::Pending);
}

#[tokio::test]
async fn a_permit_ends_by_the_time_of_a_final_block() {
    let permits = permits(2).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let plan = permits.planned(&payment).await;
    let NextStep::Do { name, once_key, parcel, .. } = plan else { panic!("{plan:?}") };
    let mut step = Step::new(name, once_key);
    (step.state, step.parcels) = (StepState::InFlight, vec![parcel]);
    payment.steps.push(step);
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[]).await, Observation::Pending, "the block is not final");
    permits.stage.chain.mine(2);
    let dead = Observation::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED);
    assert_eq!(permits.observe(&payment, &[]).await, dead);
}

/// A contract wallet whose owner signs, and an account that is delegated to its code.
struct Account(Address, usize);

#[async_trait]
impl SignAs for Account {
    fn account(&self) -> Address {
        self.0
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        Ok(signer(self.1).unwrap().sign_hash_sync(&digest).unwrap().as_bytes().into())
    }
}

#[tokio::test]
async fn contracts_and_delegated_accounts_pay_by_the_word_of_their_code() {
    let permits = permits(0).await;
    let chain = &permits.stage.chain;
    chain.set_code(WALLET, wallet_code()).unwrap();
    wallet_of(&permits.stage, WALLET, ACCOUNTS[OWNER].address, 0);
    chain.set_balance_of(WALLET, U256::from(PRICE));
    // `allowance` is in slot 2 of the token.
    let slot = keccak256((PERMIT2, keccak256((WALLET, U256::from(2)).abi_encode())).abi_encode());
    chain.set_storage(TOKEN, slot.into(), B256::repeat_byte(0xff));
    let delegated = ACCOUNTS[PAYER].address;
    let code = [&hex!("ef0100")[..], WALLET.as_slice()].concat();
    wallet_of(&permits.stage, delegated, ACCOUNTS[OWNER].address, 0);

    for (account, nonce) in [(WALLET, 1u8), (delegated, 2)] {
        if account == delegated {
            chain.set_code(delegated, code.clone().into()).unwrap();
        }
        let claim = permits.claim_by(Account(account, OWNER), exact_terms(), nonce).await;
        let forged = permits.claim_by(Account(account, PAYER), exact_terms(), nonce).await;
        assert_eq!(permits.refused(&forged).await, ErrorReason::INVALID_PERMIT2_SIGNATURE, "{account}");
        let mut payment = permits.payment(&claim).await;
        let attempt = permits.carry(&mut payment, u64::from(nonce) - 1).await;
        chain.mine(1);
        assert!(matches!(permits.observe(&payment, &[attempt.tx]).await, Observation::Proven(_)), "{account}");
    }
    assert_eq!(permits.stage.paid(), U256::from(2 * PRICE));
}

/// Checks tokens that would not pay what is signed: refused before anything is sent.
#[tokio::test]
async fn a_token_that_pays_less_or_nothing_is_refused() {
    for (kind, why) in [(TestToken::Fee, "9900 would arrive"), (TestToken::False, "TRANSFER_FROM_FAILED")] {
        let mut assets = Assets::none();
        let mut asset = Asset::new(network(), SPECIAL, "ODD", kind.name(), "1", 6);
        asset.transfer = TransferMethod::Permit2;
        assets.add(asset);
        let permits = permits_with(stage(0), &Tokens::for_permit2(&assets));
        permits.stage.chain.put_token(kind, SPECIAL).unwrap();
        permits.approve(PAYER, SPECIAL, U256::MAX).await;
        let mut terms = exact_terms();
        terms.asset = SPECIAL.to_string();
        let claim = permits.claim_by(signer(PAYER).unwrap(), terms, 7).await;
        let refusal = permits.refusal(&claim).await;
        assert_eq!(refusal.reason, ErrorReason::PERMIT2_SIMULATION_FAILED);
        assert!(refusal.message.as_deref().unwrap().contains(why), "{refusal:?}");
    }
}

/// Permit2 answers `TRANSFER_FROM_FAILED`, whatever the token says.
#[tokio::test]
async fn a_payer_or_recipient_that_the_token_blocks_is_told_so() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    for account in [ACCOUNTS[PAYER].address, ACCOUNTS[PAYEE].address] {
        permits.stage.other(5, TOKEN, DevToken::blacklistCall { account }.abi_encode().into()).await;
        permits.stage.chain.mine(1);
        let refusal = permits.refusal(&claim).await;
        assert_eq!(refusal.reason, ErrorReason::PAYER_BLOCKED, "{refusal:?}");
        permits.stage.other(5, TOKEN, DevToken::unBlacklistCall { account }.abi_encode().into()).await;
        permits.stage.chain.mine(1);
    }
    permits.stage.other(5, TOKEN, DevToken::pauseCall {}.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.refusal(&claim).await.reason, ErrorReason::PERMIT2_SIMULATION_FAILED);
}

/// Checks a token that begins to keep a part after verification: what this facilitator's own transaction settled is not
/// the payment, and is never told as failed.
#[tokio::test]
async fn what_was_settled_for_less_is_neither_paid_nor_failed() {
    let mut assets = Assets::none();
    let mut asset = Asset::new(network(), SPECIAL, "ODD", TestToken::TransferFirst.name(), "1", 6);
    asset.transfer = TransferMethod::Permit2;
    assets.add(asset);
    let permits = permits_with(stage(0), &Tokens::for_permit2(&assets));
    permits.stage.chain.put_token(TestToken::TransferFirst, SPECIAL).unwrap();
    permits.approve(PAYER, SPECIAL, U256::MAX).await;
    let mut terms = exact_terms();
    terms.asset = SPECIAL.to_string();
    let claim = permits.claim_by(signer(PAYER).unwrap(), terms, 7).await;
    let mut payment = permits.payment(&claim).await;
    permits.stage.chain.put_token(TestToken::Fee, SPECIAL).unwrap();
    permits.approve(PAYER, SPECIAL, U256::MAX).await;
    let before = permits.balance(SPECIAL, ACCOUNTS[PAYEE].address).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let after = permits.balance(SPECIAL, ACCOUNTS[PAYEE].address).await;
    assert_eq!(after - before, U256::from(PRICE - PRICE / 100), "the money moved");
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await, Observation::Pending);
    // What others did may have been an invalidation.
    let dead = Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(permits.observe(&payment, &[]).await, dead);
}

/// Checks that a payer's pending permits count against balance and allowance, whatever the proxy.
#[tokio::test]
async fn permits_under_way_count_against_balance_and_allowance() {
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(1)));
    let mut permits = permits(0).await;
    permits.exact = permits.exact.with_ledger(ledger.clone());
    let (first, second) = (permits.claim(1).await, permits.claim(2).await);
    let payer = ACCOUNTS[PAYER].address;
    let payment = permits.payment(&first).await;
    ledger.claim(payment.clone()).await.unwrap();
    assert!(permits.exact.verify(&second, permits.now()).await.is_ok());
    permits.stage.chain.set_balance_of(payer, U256::from(2 * PRICE - 1));
    assert_eq!(permits.refused(&second).await, ErrorReason::INSUFFICIENT_FUNDS);
    permits.stage.chain.set_balance_of(payer, U256::from(2 * PRICE));
    permits.approve(PAYER, TOKEN, U256::from(2 * PRICE - 1)).await;
    assert_eq!(permits.refused(&second).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    // One that was settled meanwhile has already been taken from both.
    permits.stage.other(5, EXACT_PROXY, settle_call(&first).call()).await;
    permits.stage.chain.mine(1);
    permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
    assert!(permits.exact.verify(&second, permits.now()).await.is_ok());
}

/// Checks that a payer who gives an authorization of EIP-3009 and a permit for one balance is refused the second, whichever
/// comes first.
#[tokio::test]
async fn one_balance_is_not_promised_by_two_methods() {
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(1)));
    let mut permits = permits(0).await;
    permits.exact = permits.exact.with_ledger(ledger.clone());
    let lanes = permits.stage.rail.lanes();
    let mechanism = ExactMechanism::new(permits.stage.reader.clone(), Tokens::default(), lanes);
    permits.stage.mechanism = mechanism.with_ledger(ledger.clone());
    let one = || permits.stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    one();
    let (permit, authorization) = (permits.claim(1).await, permits.stage.claim(PAYER, 2).await);
    ledger.claim(permits.stage.payment(authorization.clone()).await).await.unwrap();
    assert_eq!(permits.refused(&permit).await, ErrorReason::INSUFFICIENT_FUNDS);
    // Used meanwhile, it is subtracted from the balance already.
    permits.stage.other(5, TOKEN, transfer_call(&authorization)).await;
    permits.stage.chain.mine(1);
    one();
    ledger.claim(permits.payment(&permit).await).await.unwrap();
    let third = permits.stage.claim(PAYER, 3).await;
    assert_eq!(permits.stage.refused(&third).await, "insufficient_funds");
    permits.stage.other(5, EXACT_PROXY, settle_call(&permit).call()).await;
    permits.stage.chain.mine(1);
    one();
    permits.stage.verify(&third).await.unwrap();
}

#[tokio::test]
async fn upto_settles_what_was_used_by_the_account_of_the_witness() {
    let permits = permits(0).await;
    let facilitator = permits.stage.rail.address();
    let kind = &permits.upto.kinds()[0];
    assert_eq!(kind.extra.text("facilitatorAddress"), Some(facilitator.to_string()));
    let most = permits.claim_by(signer(PAYER).unwrap(), upto_terms(facilitator), 7).await;
    permits.stage.chain.reset_calls();
    assert!(permits.upto.verify(&most, permits.now()).await.is_ok());
    let calls = permits.stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));

    let settling = |amount: u64| {
        let mut terms = most.terms.clone();
        terms.amount = amount.into();
        most.clone().with_terms(terms)
    };
    assert_eq!(permits.refused(&settling(PRICE + 1)).await, ErrorReason::UPTO_EXCEEDS_AMOUNT);
    // Only the account that the payer named can settle, and only accounts of this facilitator are named.
    let of_other = permits.claim_by(signer(PAYER).unwrap(), upto_terms(ACCOUNTS[5].address), 7).await;
    assert_eq!(permits.refused(&of_other).await, ErrorReason::UPTO_FACILITATOR_MISMATCH);
    let without = signed_again(&most, |permit| permit.witness.facilitator = None);
    assert_eq!(permits.refused(&without).await, ErrorReason::UNSUPPORTED_PAYLOAD_TYPE);

    // The balance has to cover what was used, not the maximum.
    permits.stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(1_234));
    assert_eq!(permits.refused(&most).await, ErrorReason::INSUFFICIENT_FUNDS);
    let used = settling(1_234);
    let mut payment = permits.payment(&used).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let Observation::Proven(proof) = permits.observe(&payment, std::slice::from_ref(&attempt.tx)).await else {
        panic!()
    };
    assert_eq!(proof, StepProof::new(attempt.tx.clone(), 1_234.into()));
    assert_eq!(permits.stage.paid(), U256::from(1_234));
    payment.steps.last_mut().unwrap().state = StepState::Proven(proof);
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (Some(attempt.tx), Some(1_234.into())));
}

/// The payment with a permit of the token beside it, which gives Permit2 the allowance, as the extension carries it.
fn sponsored(claim: &Claim, change: impl FnOnce(&mut Value)) -> Claim {
    let permit = payload(claim).authorization;
    let (value, deadline) = (permit.amount.value(), permit.deadline);
    let allowance = PermittedAllowance { owner: permit.from, value, nonce: U256::ZERO, deadline };
    let digest = allowance.digest(DomainSeparator::new("USDC", "2", 84532, TOKEN));
    let signature = signer(PAYER).unwrap().sign_hash_sync(&digest).unwrap();
    let mut info = json!({
        "description": "as declared", "from": permit.from.to_string(), "asset": TOKEN.to_string(),
        "spender": PERMIT2.to_string(), "amount": value.to_string(), "nonce": "0", "deadline": deadline.to_string(),
        "signature": hex::encode_prefixed(signature.as_bytes()), "version": "1",
    });
    change(&mut info);
    let mut extensions = Members::new();
    extensions.insert(EIP2612_GAS_SPONSORING, RawJson::of(&json!({ "info": info })).unwrap());
    claim.clone().with_extensions(extensions)
}

#[tokio::test]
async fn a_permit_of_the_token_gives_the_allowance_in_the_settlement_itself() {
    let permits = permits_with(stage(0), &Tokens::for_permit2(&Assets::default()));
    let claim = permits.claim(7).await;
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    let with = |member: &'static str, value: Value| sponsored(&claim, move |info| info[member] = value);
    let other = || json!(ACCOUNTS[5].address.to_string());
    for (changed, reason) in [
        (with("from", other()), ErrorReason::EIP2612_FROM_MISMATCH),
        (with("asset", other()), ErrorReason::EIP2612_ASSET_MISMATCH),
        (with("spender", other()), ErrorReason::EIP2612_SPENDER_NOT_PERMIT2),
        (with("amount", json!("9999")), ErrorReason::PERMIT2_2612_AMOUNT_MISMATCH),
        (with("deadline", json!((permits.now().0 + 5).to_string())), ErrorReason::EIP2612_DEADLINE_EXPIRED),
        (with("nonce", json!("0x0")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        (with("version", json!("1.")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        (with("signature", json!("0x00")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        // The simulation shows what the token would say.
        (with("signature", json!(format!("0x{}1b", "11".repeat(64)))), ErrorReason::PERMIT2_ALLOWANCE_REQUIRED),
        // A declaration that is only echoed is none.
        (sponsored(&claim, |info| *info = json!({ "version": "1" })), ErrorReason::PERMIT2_ALLOWANCE_REQUIRED),
    ] {
        assert_eq!(permits.refused(&changed).await, reason);
    }
    let good = sponsored(&claim, |_| {});
    let mut payment = permits.payment(&good).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let sent = [attempt.tx];
    assert!(matches!(permits.observe(&payment, &sent).await, Observation::Proven(_)));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

/// Checks that a permit of the token which somebody used before does not hold up the payment.
#[tokio::test]
async fn a_permit_of_the_token_that_was_used_before_is_as_good() {
    let permits = permits_with(stage(0), &Tokens::for_permit2(&Assets::default()));
    let claim = sponsored(&permits.claim(7).await, |_| {});
    let mut payment = permits.payment(&claim).await;
    let permit = SponsoredPermit::read(&claim.extensions, &payload(&claim).authorization).unwrap().unwrap();
    let Eip2612Permit { value, deadline, r, s, v } = Eip2612Permit::from(&permit);
    let owner = ACCOUNTS[PAYER].address;
    let front = DevToken::permit_0Call { owner, spender: PERMIT2, value, deadline, v, r, s };
    permits.stage.other(5, TOKEN, front.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert!(matches!(permits.observe(&payment, &[attempt.tx]).await, Observation::Proven(_)));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn upto_of_nothing_needs_no_transaction() {
    let permits = permits(0).await;
    let mut terms = upto_terms(permits.stage.rail.address());
    let most = permits.claim_by(signer(PAYER).unwrap(), terms.clone(), 7).await;
    terms.amount = 0.into();
    let unused = most.clone().with_terms(terms);
    permits.approve(PAYER, TOKEN, U256::ZERO).await;
    let payment = permits.payment(&unused).await;
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (None, Some(0.into())));
    // A signature that is not the payer's is refused even then.
    let forged = signed_again(&unused, |permit| permit.from = ACCOUNTS[5].address);
    assert_eq!(permits.refused(&forged).await, ErrorReason::INVALID_PERMIT2_SIGNATURE);
}

/// Checks that a parcel says what it settles, whatever has happened to the process.
#[tokio::test]
async fn a_parcel_is_the_call_of_the_proxy() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let payment = permits.payment(&claim).await;
    let plan = permits.planned(&payment).await;
    let NextStep::Do { parcel, .. } = plan else { panic!("{plan:?}") };
    let call = Call::from_bytes(&parcel.bytes).unwrap();
    assert_eq!((call.to, SettleCall::of_call(&call.data)), (EXACT_PROXY, Some(settle_call(&claim))));
    let lanes: Vec<LaneId> = permits.exact.lanes();
    assert_eq!(lanes, [permits.stage.rail.lane().clone()]);
    assert_eq!(permits.stage.reader.network(), network());
}
