//! A scheme whose authorizations emit no event when they are used, as Permit2's: a test mechanism over a contract with
//! Permit2's nonce bitmap. A bit of state and the `Transfer` show the use; the candidate's call tells whose it was.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256, hex, keccak256};
use alloy_sol_types::{SolCall, sol};
use async_trait::async_trait;
use x402_devchain::{ACCOUNTS, TOKEN};
use x402_evm::chain::{
    Call, Fate, ReadCalls, ReadChain, RpcChain, Sharing, StateBit, WatchEvents, Watched, WatchedEvent,
};
use x402_facilitator_core::{
    Attempt, LaneId, Mechanism, NextStep, Observation, OnceKey, Parcel, Payment, Rail, Receipt, RequestId, SlotId,
    Step, StepName, StepProof, StepState, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Fault, Members, PaymentKey, RawJson, Refusal,
    Rejection, SchemeName, UnixSeconds, Version,
};

use crate::stage::{PAYEE, PAYER, PRICE, Stage, claim_of, stage, terms};

const PULL: Address = Address::repeat_byte(0x22);
const PAY: StepName = StepName::new("pay");

/// `nonceBitmap(owner, word)` as Permit2 has it. Any other call is `settle`: it sets the bit of a nonce or reverts, and
/// then pulls the value if it is not zero.
const CODE: &[&str] = &[
    // 0 CALLDATALOAD 0xe0 SHR #4fe02b44 EQ @view JUMPI
    "60003560e01c634fe02b4414607057",
    // The slot is the hash of owner and word: 0x24 CALLDATALOAD 0 MSTORE
    "602435600052",
    // 0x84 CALLDATALOAD 8 SHR 0x20 MSTORE
    "60843560081c602052",
    // 0x40 0 KECCAK256 DUP1 SLOAD
    "60406000208054",
    // 1 0x84 CALLDATALOAD 0xff AND SHL
    "600160843560ff161b",
    // DUP1 DUP3 AND @fail JUMPI
    "808216608b57",
    // OR SWAP1 SSTORE
    "179055",
    // 0x64 CALLDATALOAD ISZERO @done JUMPI
    "60643515606e57",
    // transferFrom(owner, to, value): #23b872dd 0xe0 SHL 0 MSTORE
    "6323b872dd60e01b600052",
    // 0x24 CALLDATALOAD 4 MSTORE 0x44 CALLDATALOAD 0x24 MSTORE 0x64 CALLDATALOAD 0x44 MSTORE
    "602435600452604435602452606435604452",
    // 0x20 0 0x64 0 0 4 CALLDATALOAD GAS CALL ISZERO @fail JUMPI
    "602060006064600060006004355af115608b57",
    // :done STOP
    "5b00",
    // :view 4 CALLDATALOAD 0 MSTORE 0x24 CALLDATALOAD 0x20 MSTORE 0x40 0 KECCAK256 SLOAD 0 MSTORE 0x20 0 RETURN
    "5b60043560005260243560205260406000205460005260206000f3",
    // :fail 0 0 REVERT
    "5b60006000fd",
];

sol! {
    function settle(address token, address owner, address to, uint256 value, uint256 nonce) external;
    function nonceBitmap(address owner, uint256 word) external view returns (uint256);
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
}

/// What the payer of this scheme signs, without the signature.
fn settlement(nonce: u64, value: u64) -> settleCall {
    let (owner, to) = (ACCOUNTS[PAYER].address, ACCOUNTS[PAYEE].address);
    settleCall { token: TOKEN, owner, to, value: U256::from(value), nonce: U256::from(nonce) }
}

fn watched(call: &settleCall, since: u64) -> Watched {
    let word: U256 = call.nonce >> 8;
    let used = StateBit {
        contract: PULL,
        selector: nonceBitmapCall::SELECTOR,
        arguments: [call.owner.into_word(), word.into()],
        mask: U256::from(1) << (call.nonce & U256::from(0xff)),
    };
    Watched::by_state(used, WatchedEvent::transfer(call.token, call.owner, call.to), call.value, since)
}

/// The mechanism. A payload is the number of a nonce.
struct Pull {
    chain: Arc<RpcChain>,
    lane: LaneId,
}

impl Pull {
    fn call_of(claim: &Claim) -> settleCall {
        settlement(claim.payload.read().unwrap(), PRICE)
    }
}

#[async_trait]
impl Mechanism for Pull {
    fn kinds(&self) -> Vec<SupportedKind> {
        let (extra, rest) = (Members::new(), Members::new());
        let network = self.chain.network().into();
        vec![SupportedKind { x402_version: Version::V2, scheme: SchemeName::EXACT, network, extra, rest }]
    }

    fn method(&self) -> Option<&'static str> {
        Some("pull")
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let call = Self::call_of(claim);
        let nonce = call.nonce.to_be_bytes::<32>();
        let network: ChainId = claim.terms.network;
        Ok(PaymentKey::new(AuthorizationKind::Permit2, network, PULL.as_slice(), call.owner.as_slice(), &nonce))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        Ok(Verdict::new(Self::call_of(claim).owner.to_string(), vec![self.lane.clone()], now.plus(3_600)))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        match payment.steps.last().map(|step| &step.state) {
            None => {}
            Some(StepState::Proven(proof)) => {
                let receipt = Receipt::new(Some(proof.tx.clone()), self.chain.network(), payment.payer.clone());
                return Ok(NextStep::Settled(receipt));
            }
            Some(StepState::Dead(reason)) => return Ok(NextStep::Failed(reason.clone())),
            Some(_) => return Ok(NextStep::Wait(now.plus(1))),
        }
        let call = Self::call_of(&payment.claim);
        let since = self.chain.head().await?.finalized;
        self.chain.watch(watched(&call, since));
        let data: Bytes = call.abi_encode().into();
        let until = Some(now.plus(payment.claim.terms.max_timeout_seconds.get()));
        let parcel = Parcel::new(
            keccak256(&data).0,
            Call { to: PULL, data, gas: 150_000, since, until, sharing: Sharing::Alone }.to_bytes(),
        );
        let once_key = OnceKey(payment.key.as_bytes().to_vec());
        Ok(NextStep::Do { name: PAY, once_key, exclusive: None, parcel })
    }

    async fn observe(&self, step: &Step, _: &[TxId]) -> Result<Observation, Fault> {
        let parcel = Call::from_bytes(&step.parcels.last().unwrap().bytes)?;
        let call = settleCall::abi_decode(&parcel.data).unwrap();
        let watched = watched(&call, parcel.since);
        let sighting = self.chain.sighting(watched).await?;
        let Fate::Set { candidates } = sighting.fate else {
            assert_eq!(sighting.fate, Fate::Unseen);
            return Ok(Observation::Pending);
        };
        for transaction in candidates {
            // Its success means that the contract set this nonce's bit in it, and pulled the value.
            if let Some(mined) = self.chain.mined_call(transaction).await?
                && (mined.success, mined.to, &mined.input) == (true, Some(PULL), &parcel.data)
            {
                let tx: TxId = hex::encode_prefixed(transaction).into();
                return Ok(Observation::Proven(StepProof::new(tx, AtomicAmount::from(call.value))));
            }
        }
        // A lagging node may not have had the log of the transfer.
        self.chain.look_again(watched);
        let now = self.chain.head().await?.timestamp;
        let late = parcel.until.is_some_and(|until| until.0 < now);
        Ok(if late { Observation::Dead(ErrorReason::NONCE_ALREADY_USED) } else { Observation::Pending })
    }
}

/// Puts the contract on the chain, and lets it pull the payer's tokens.
async fn pulling() -> (Stage, Pull) {
    let stage = stage(0);
    stage.chain.set_code(PULL, hex::decode(CODE.concat()).unwrap().into()).unwrap();
    stage.other(PAYER, TOKEN, approveCall { spender: PULL, value: U256::MAX }.abi_encode().into()).await;
    stage.chain.mine(1);
    let pull = Pull { chain: stage.reader.clone(), lane: stage.rail.lane().clone() };
    (stage, pull)
}

/// Plans a payment, signs it for this account nonce, and sends it.
async fn sent(stage: &Stage, pull: &Pull, nonce: u64, slot: u64) -> (Payment, Attempt) {
    let claim = claim_of(terms(), RawJson::of(&nonce).unwrap());
    let (key, verdict) = (pull.key(&claim).unwrap(), pull.verify(&claim, stage.now).await.unwrap());
    let request = RequestId { owner: "test".into(), number: 0 };
    let mut payment = Payment::from_row(key, claim, verdict.payer, verdict.lanes[0].clone(), request);
    let plan = pull.plan(&payment, UnixSeconds(stage.chain.time())).await.unwrap();
    let NextStep::Do { name, once_key, parcel, .. } = plan else { panic!("{plan:?}") };
    let slot = SlotId { lane: pull.lane.clone(), nonce: slot };
    let attempt = stage.rail.sign(&slot, std::slice::from_ref(&parcel), None).await.unwrap();
    let mut step = Step::new(name, once_key);
    (step.state, step.parcels, step.carriers) = (StepState::InFlight, vec![parcel], vec![slot]);
    payment.steps.push(step);
    stage.rail.send(&attempt).await.unwrap();
    (payment, attempt)
}

async fn observed(pull: &Pull, payment: &Payment) -> Observation {
    pull.observe(payment.steps.last().unwrap(), &[]).await.unwrap()
}

fn proven(transaction: &str) -> Observation {
    Observation::Proven(StepProof::new(transaction.into(), PRICE.into()))
}

#[tokio::test]
async fn a_use_without_an_event_is_proven_by_state_and_transfer() {
    let (stage, pull) = pulling().await;
    let (payment, attempt) = sent(&stage, &pull, 7, 0).await;
    assert_eq!(observed(&pull, &payment).await, Observation::Pending);
    stage.chain.mine(1);
    assert_eq!(observed(&pull, &payment).await, proven(attempt.tx.as_str()));
    assert_eq!(stage.paid(), U256::from(PRICE));
}

/// Checks that whoever sends the authorization, it is paid: the facilitator's own transaction then reverts.
#[tokio::test]
async fn another_accounts_transaction_proves_the_use() {
    let (stage, pull) = pulling().await;
    let since = stage.chain.block_number();
    let theirs = stage.other(5, PULL, settlement(7, PRICE).abi_encode().into()).await;
    stage.chain.mine(1);
    let watched = watched(&settlement(7, PRICE), since);
    let found = pull.chain.search(watched, UnixSeconds(0)).await.unwrap();
    assert_eq!(found, Fate::Set { candidates: vec![theirs] });
    assert_eq!(pull.chain.sighting(watched).await.unwrap().fate, Fate::Set { candidates: vec![theirs] });
    let mut row = sent(&stage, &pull, 7, 0).await.0;
    let step = row.steps.last_mut().unwrap();
    // The row was claimed before their transaction was mined.
    let mut call = Call::from_bytes(&step.parcels[0].bytes).unwrap();
    call.since = since;
    step.parcels[0].bytes = call.to_bytes();
    stage.chain.mine(1);
    assert_eq!(observed(&pull, &row).await, proven(&hex::encode_prefixed(theirs)));
    assert_eq!(stage.paid(), U256::from(PRICE));
}

/// Checks that a nonce which was used up for nothing pays nothing, however many such transfers the payer makes besides.
#[tokio::test]
async fn a_plain_transfer_beside_a_used_nonce_is_not_the_payment() {
    let (stage, pull) = pulling().await;
    stage.other(5, PULL, settlement(7, 0).abi_encode().into()).await;
    stage.chain.mine(1);
    let (payment, _) = sent(&stage, &pull, 7, 0).await;
    let to = ACCOUNTS[PAYEE].address;
    stage.other(PAYER, TOKEN, transferCall { to, value: U256::from(PRICE) }.abi_encode().into()).await;
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
    assert_eq!(observed(&pull, &payment).await, Observation::Pending);
    stage.chain.increase_time(100);
    stage.chain.mine(1);
    assert_eq!(observed(&pull, &payment).await, Observation::Dead(ErrorReason::NONCE_ALREADY_USED));
}

/// Checks two authorizations whose nonces share a word, and which ask for the same transfer: one is paid, the other is
/// used up in the same block.
#[tokio::test]
async fn one_transfer_is_the_payment_of_one_authorization() {
    let (stage, pull) = pulling().await;
    let (paid, attempt) = sent(&stage, &pull, 1, 0).await;
    stage.other(5, PULL, settlement(2, 0).abi_encode().into()).await;
    let (unpaid, _) = sent(&stage, &pull, 2, 1).await;
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
    assert_eq!(observed(&pull, &paid).await, proven(attempt.tx.as_str()));
    assert_eq!(observed(&pull, &unpaid).await, Observation::Pending);
    stage.chain.increase_time(100);
    stage.chain.mine(1);
    assert_eq!(observed(&pull, &unpaid).await, Observation::Dead(ErrorReason::NONCE_ALREADY_USED));
}

/// Checks that all of these authorizations cost one read of the state a block, and no logs until one is used.
#[tokio::test]
async fn unused_authorizations_share_one_read() {
    let (stage, pull) = pulling().await;
    let since = stage.chain.block_number();
    let unused: Vec<Watched> = (10..30).map(|nonce| watched(&settlement(nonce, PRICE), since)).collect();
    unused.iter().for_each(|watched| pull.chain.watch(*watched));
    for _ in 0..3 {
        stage.chain.mine(1);
        stage.chain.reset_calls();
        for watched in &unused {
            assert_eq!(pull.chain.sighting(*watched).await.unwrap().fate, Fate::Unseen);
        }
        let calls = stage.chain.calls();
        assert_eq!((calls.of("eth_call"), calls.of("eth_getLogs")), (1, 0));
    }
    stage.other(5, PULL, settlement(12, PRICE).abi_encode().into()).await;
    stage.chain.mine(1);
    stage.chain.reset_calls();
    for watched in &unused {
        let is_used = watched.used == unused[2].used;
        assert_eq!(pull.chain.sighting(*watched).await.unwrap().fate != Fate::Unseen, is_used);
    }
    assert_eq!((stage.chain.calls().of("eth_call"), stage.chain.calls().of("eth_getLogs")), (1, 1));
}

/// Checks that a contract without such a view is a fault, never a verdict.
#[tokio::test]
async fn an_unreadable_state_is_unknown() {
    let (stage, pull) = pulling().await;
    let watched = watched(&settlement(7, PRICE), stage.chain.block_number());
    stage.chain.set_code(PULL, Bytes::new()).unwrap();
    stage.chain.mine(1);
    assert!(pull.chain.sighting(watched).await.is_err());
}
