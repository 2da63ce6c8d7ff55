//! The facilitator at nodes as they are: each fault of a node that devchain makes on demand, pairs of them, and 200
//! payments under mixtures by seed. Every payment reaches its true end, none is made twice, and the node is not asked
//! more often than a count says. A failure names its seed: `NODE_FAULTS_SEED=7` runs that mixture alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, Bytes, U256, b256, keccak256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, SolValue};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use x402_devchain::{
    ACCOUNTS, DevChain, Disturbance, Failure, MiningMode, NodeFault, Orphans, TOKEN, Token, When, signer,
};
use x402_evm::eip712::DomainSeparator;
use x402_evm::eip3009::Payload;
use x402_evm::signature::Signature;
use x402_facilitator::engine::{Engine, Patience, Running};
use x402_facilitator::heads::Polling;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::v2::SettleResponse;
use x402_types::{ChainId, Claim, ErrorReason, UnixSeconds};

use crate::support::{SELLER, payment};

const NETWORK: u64 = 84_532;
const PAYERS: usize = 3;
/// An account that sends cancellations.
const OTHER: usize = 6;
/// One poll each while a payment is open.
const BUSY: Duration = Duration::from_millis(200);
/// Between two blocks, long enough for two polls.
const BLOCK: Duration = Duration::from_millis(450);
const CANCEL_TYPE: B256 = b256!("0x158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429");

/// [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()].clone()
    }
}

/// All that stand until they are taken back, but for the time of `eth_call`: with that no payment is good.
fn standing() -> Vec<NodeFault> {
    let limited = Failure::Error { code: 429, message: "capacity exceeded".into() };
    let free_tier = "Under the free tier, eth_getLogs requests may have up to a 10 block range.";
    let many = "query returned more than 2 results";
    vec![
        NodeFault::NumberAhead(20_000_000),
        NodeFault::Surcharge { transaction: 200_000, byte: 100 },
        NodeFault::StateWindow(4),
        NodeFault::LogLag(1),
        NodeFault::LogSpan { most: 10, code: -32600, message: free_tier.into() },
        NodeFault::LogSpan { most: 1, code: -1, message: "no".into() },
        NodeFault::LogCount { most: 2, code: -32005, message: many.into() },
        NodeFault::SecondNode(1),
        NodeFault::Every(3, Failure::Status(429)),
        NodeFault::Every(3, limited),
        NodeFault::Every(5, Failure::Lost),
        NodeFault::Every(7, Failure::Malformed),
        NodeFault::Padded(10_000_000),
        NodeFault::NoBlockHash { code: -32602, message: "invalid argument 1".into() },
    ]
}

/// Answers of 10 MB cost this machine more than all the rest, so they stand alone.
fn light(fault: NodeFault) -> NodeFault {
    match fault {
        NodeFault::Padded(_) => NodeFault::Padded(200_000),
        fault => fault,
    }
}

fn same_kind(one: &NodeFault, other: &NodeFault) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// A facilitator on a chain whose blocks are mined by hand.
struct Scene {
    name: String,
    chain: DevChain,
    engine: Arc<Engine>,
    running: Running,
    heads: JoinSet<()>,
    began: Instant,
    blocks: u64,
    payments: u64,
}

/// How a payment ended for its seller, who asks until it has ended.
type Ending = JoinHandle<SettleResponse>;

impl Scene {
    async fn start(name: String, finality: u64, faults: &[NodeFault]) -> Self {
        let chain = DevChain::builder().block_time(MiningMode::Manual).finality_depth(finality).build().unwrap();
        chain.mine(2);
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| UnixSeconds(unix_time())));
        let evm = Evm {
            polling: Polling { busy: BUSY, rest: BUSY * 5 },
            ..Evm::new(chain.client(), ChainId::eip155(NETWORK), finality, vec![x402_devchain::key(0).unwrap()])
        };
        let builder = Builder::new(owner(), ledger)
            .with_evm(evm)
            .unwrap()
            .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(2))));
        let (engine, heads) = builder.build().unwrap();
        for fault in faults {
            chain.node_fault(fault.clone());
        }
        // A start under the faults, as `serve` makes it: a node that is only in the way for a moment is no reason to end.
        let mut tries = 0;
        while let Err(fault) = heads.check().await {
            tries += 1;
            assert!(tries < 10, "{name}: {fault}");
        }
        let (heads, running) = (heads.watch(&engine), engine.start());
        Self { name, chain, engine, running, heads, began: Instant::now(), blocks: 0, payments: 0 }
    }

    fn settle(&mut self, claim: Claim) -> Ending {
        self.payments += 1;
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            // How often is limited by the blocks that the scene waits for an end.
            loop {
                match engine.settle_claim(&claim).await {
                    Ok(answer) if answer.error_reason != Some(ErrorReason::SETTLEMENT_PENDING) => return answer,
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(BUSY).await,
                }
            }
        })
    }

    async fn claim(&self, payer: usize) -> Claim {
        payment(payer, self.chain.time()).await.0
    }

    /// Puts the payer's cancellation into the pool: it is in the next block, before everything that comes later.
    async fn cancel(&self, claim: &Claim, payer: usize) {
        let authorization = Payload::read(&claim.payload).unwrap().authorization;
        let digest = keccak256((CANCEL_TYPE, authorization.from, authorization.nonce).abi_encode());
        let digest = DomainSeparator::new("USDC", "2", NETWORK, TOKEN).digest(digest);
        let signature = signer(payer).unwrap().sign_hash_sync(&digest).unwrap();
        let signature = Signature::try_from(signature).unwrap().to_bytes().to_vec().into();
        let call =
            Token::cancelAuthorization_1Call { authorizer: authorization.from, nonce: authorization.nonce, signature };
        let tx = TransactionRequest::default().to(TOKEN).input(Bytes::from(call.abi_encode()).into());
        let tx = tx.gas_limit(600_000).max_fee_per_gas(100_000_000_000).max_priority_fee_per_gas(1_000_000_000);
        drop(self.chain.wallet(signer(OTHER).unwrap()).send_transaction(tx).await.unwrap());
    }

    /// On a slow machine blocks come as slowly: each is polled twice, unless failures make the poller rest.
    async fn block(&mut self) {
        self.chain.mine(1);
        self.blocks += 1;
        let polls = || self.chain.calls().of("eth_getBlockByNumber");
        let before = polls();
        tokio::time::sleep(BLOCK).await;
        for _ in 0..40 {
            if polls() >= before + 2 {
                break;
            }
            tokio::time::sleep(BLOCK / 4).await;
        }
    }

    /// Mines until all have ended.
    async fn until_ended(&mut self, endings: &[Ending], mut each: impl FnMut(&DevChain, u64)) {
        while !endings.iter().all(JoinHandle::is_finished) {
            each(&self.chain, self.blocks);
            self.block().await;
            assert!(self.blocks < 400, "{}: payments without an end", self.name);
        }
    }

    /// No more calls than so many a payment, a block and a second: a loop without a pause makes some hundreds a second.
    fn assert_calls(&self, what: &str, payments: u64, blocks: u64, elapsed: Duration) {
        let calls = self.chain.calls();
        let most = 30 + 20 * payments + 15 * blocks + 30 * (elapsed.as_secs() + 1);
        println!(
            "{}: {what}: {} calls of {most} in {elapsed:?}, {payments} payments, {blocks} blocks: {:?}",
            self.name,
            calls.total(),
            calls.by_method
        );
        assert!(calls.total() <= most, "{}: {what}: {calls:?} in {elapsed:?}", self.name);
    }

    /// A payment that cannot land while its authorization lasts. Meanwhile no block is mined, and calls are counted.
    async fn expires(&mut self) -> Ending {
        self.chain.set_base_fee(1_000_000_000_000_000);
        let claim = self.claim(1).await;
        let ending = self.settle(claim);
        tokio::time::sleep(BLOCK * 2).await;
        self.chain.reset_calls();
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.assert_calls("nothing moves", 1, 0, began.elapsed());
        self.chain.increase_time(3_600);
        ending
    }

    /// The answers are those of the chain: each success is one transfer, and there is no other.
    async fn end(self, endings: Vec<SettleResponse>) {
        let Self { name, chain, .. } = self;
        chain.clear_faults();
        chain.mine(4);
        let seller = ACCOUNTS[SELLER].address;
        let made: Vec<_> = chain.transfers().into_iter().filter(|it| it.to == seller && !it.from.is_zero()).collect();
        let mut hashes = BTreeSet::new();
        for answer in endings.iter().filter(|answer| answer.success) {
            let of_answer = made.iter().filter(|it| it.transaction.to_string() == answer.transaction);
            assert_eq!(of_answer.count(), 1, "{name}: {answer:?}");
            assert!(hashes.insert(answer.transaction.clone()), "{name}: two payments by {}", answer.transaction);
        }
        assert_eq!(made.len(), hashes.len(), "{name}: a transfer that nobody was told of: {endings:?}");
        let held = chain.balance_of(seller) - U256::from(x402_devchain::TOKENS_EACH);
        assert_eq!(held, U256::from(10_000 * made.len()), "{name}");
        self.running.finish(Duration::ZERO).await;
        drop(self.heads);
    }
}

fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

async fn answers(endings: Vec<Ending>) -> Vec<SettleResponse> {
    join_all(endings).await.into_iter().map(Result::unwrap).collect()
}

/// Four payments under faults that stand: two are made, one was cancelled, one expires.
async fn four_payments(name: String, finality: u64, faults: Vec<NodeFault>) {
    let mut scene = Scene::start(name.clone(), finality, &faults).await;
    let canceled = scene.claim(1).await;
    scene.chain.clear_faults();
    scene.cancel(&canceled, 1).await;
    faults.iter().for_each(|fault| scene.chain.node_fault(fault.clone()));
    scene.chain.reset_calls();
    let mut endings = Vec::new();
    for claim in [scene.claim(1).await, scene.claim(2).await, canceled] {
        endings.push(scene.settle(claim));
    }
    tokio::time::sleep(BLOCK).await;
    scene.until_ended(&endings, |_, _| {}).await;
    scene.assert_calls("payments", scene.payments, scene.blocks, scene.began.elapsed());
    let expiring = scene.expires().await;
    scene.until_ended(std::slice::from_ref(&expiring), |_, _| {}).await;
    endings.push(expiring);
    let endings = answers(endings).await;
    let made: Vec<bool> = endings.iter().map(|answer| answer.success).collect();
    assert_eq!(made, [true, true, false, false], "{name}: {endings:?}");
    assert_eq!(endings[3].error_reason, Some(ErrorReason::INVALID_VALID_BEFORE), "{name}");
    scene.end(endings).await;
}

/// Scenes side by side, but not so many that this machine could not serve them.
async fn side_by_side(scenes: impl IntoIterator<Item: Future<Output = ()> + Send + 'static>) {
    let room = Arc::new(Semaphore::new(14));
    let mut running = JoinSet::new();
    for scene in scenes {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _place = room.acquire().await.unwrap();
            scene.await;
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_end_as_they_should_under_each_fault() {
    let scenes = standing().into_iter().enumerate().map(|(number, fault)| {
        // Both kinds of finality.
        let finality = [0, 2][number % 2];
        let padded = matches!(fault, NodeFault::Padded(_));
        (padded, four_payments(format!("{fault:?}, final after {finality}"), finality, vec![fault]))
    });
    let (padded, others): (Vec<_>, Vec<_>) = scenes.partition(|(padded, _)| *padded);
    for (_, scene) in padded {
        scene.await;
    }
    side_by_side(others.into_iter().map(|(_, scene)| scene)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_end_as_they_should_under_pairs_of_faults() {
    let mut dice = Dice(11);
    // By turns one of the two lacks the block that is read by number.
    let no_hash = NodeFault::NoBlockHash { code: -32602, message: "invalid argument 1".into() };
    let mut pairs = vec![(NodeFault::SecondNode(1), no_hash)];
    // Logs are read block by block, and now and then an answer cannot be read.
    let of_one = NodeFault::LogSpan { most: 1, code: -1, message: "no".into() };
    pairs.push((of_one, NodeFault::Every(7, Failure::Malformed)));
    while pairs.len() < 13 {
        let (one, other) = (light(dice.of(&standing())), light(dice.of(&standing())));
        if !same_kind(&one, &other) {
            pairs.push((one, other));
        }
    }
    let scenes = pairs.into_iter().map(|(one, other)| {
        let finality = dice.of(&[0, 2]);
        four_payments(format!("{one:?} and {other:?}, final after {finality}"), finality, vec![one, other])
    });
    side_by_side(scenes.collect::<Vec<_>>()).await;
}

/// Where `eth_call` sees another second no payment is good, but what is under way ends.
#[tokio::test(flavor = "multi_thread")]
async fn payments_under_way_end_where_eth_call_sees_another_second() {
    let mut scene = Scene::start("CallTime".into(), 0, &[]).await;
    let (first, second) = (scene.claim(1).await, scene.claim(2).await);
    let paying = scene.settle(first);
    while scene.chain.calls().of("eth_sendRawTransaction") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.chain.node_fault(NodeFault::CallTime(unix_time() + 7_200));
    let refused = scene.settle(second);
    let mut endings = vec![paying, refused];
    scene.until_ended(&endings, |_, _| {}).await;
    scene.chain.clear_faults();
    let expiring = scene.expires().await;
    scene.chain.node_fault(NodeFault::CallTime(1));
    scene.until_ended(std::slice::from_ref(&expiring), |_, _| {}).await;
    endings.push(expiring);
    let endings = answers(endings).await;
    let made: Vec<bool> = endings.iter().map(|answer| answer.success).collect();
    assert_eq!(made, [true, false, false], "{endings:?}");
    assert_eq!(endings[2].error_reason, Some(ErrorReason::INVALID_VALID_BEFORE));
    scene.end(endings).await;
}

/// Other faults than before.
fn shuffle(chain: &DevChain, dice: &mut Dice, reorgs: bool) {
    chain.clear_faults();
    for _ in 0..dice.below(4) {
        chain.node_fault(light(dice.of(&standing())));
    }
    if dice.one_in(2) {
        let failures = [
            Failure::Error { code: -32603, message: "internal".into() },
            Failure::Error { code: 429, message: "no words".into() },
            Failure::Error { code: -32000, message: "already known".into() },
            Failure::Malformed,
            Failure::Lost,
            Failure::Status(502),
        ];
        let method = dice.of(&["eth_sendRawTransaction", "eth_getLogs", "eth_call", "eth_getBlockByNumber"]);
        let when = dice.of(&[When::Before, When::After]);
        chain.fail_calls(method, 1 + u32::try_from(dice.below(3)).unwrap(), when, dice.of(&failures));
    }
    if dice.one_in(3) {
        chain.disturb_transactions(1, dice.of(&[Disturbance::Delay(2), Disturbance::Replace, Disturbance::Delay(1)]));
    }
    if reorgs && dice.one_in(3) {
        chain.reorg(1, dice.of(&[Orphans::Remine, Orphans::Requeue])).unwrap();
    }
}

/// Twenty payments, of which two were cancelled and one expires.
async fn mixture(seed: u64) {
    let mut dice = Dice(seed);
    let finality = dice.of(&[0, 2]);
    let name = format!("seed {seed}, final after {finality}");
    let mut scene = Scene::start(name.clone(), finality, &[]).await;
    let (mut claims, mut canceled) = (Vec::new(), BTreeSet::new());
    for number in 0..19 {
        let payer = 1 + number % PAYERS;
        let claim = scene.claim(payer).await;
        if number % 8 == 7 {
            scene.cancel(&claim, payer).await;
            canceled.insert(number);
        }
        claims.push(claim);
    }
    // A transaction of ours that the node forgets is sent again after a while.
    scene.chain.disturb_transactions(usize::from(dice.one_in(2)), Disturbance::Drop);
    scene.chain.reset_calls();
    let mut endings: Vec<Ending> = Vec::new();
    let mut claims = claims.into_iter();
    while endings.len() < 19 {
        shuffle(&scene.chain, &mut dice, finality > 0 && scene.blocks > 3);
        for claim in claims.by_ref().take(usize::try_from(1 + dice.below(6)).unwrap()) {
            endings.push(scene.settle(claim));
        }
        scene.block().await;
    }
    scene
        .until_ended(&endings, |chain, blocks| {
            if dice.one_in(3) {
                shuffle(chain, &mut dice, finality > 0 && blocks < 60);
            }
        })
        .await;
    scene.assert_calls("payments", scene.payments, scene.blocks, scene.began.elapsed());
    let expiring = scene.expires().await;
    scene.until_ended(std::slice::from_ref(&expiring), |_, _| {}).await;
    endings.push(expiring);
    let endings = answers(endings).await;
    for (number, answer) in endings.iter().enumerate() {
        let good = number < 19 && !canceled.contains(&number);
        assert_eq!(answer.success, good, "{name}: payment {number}: {answer:?}");
    }
    scene.end(endings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_payments_under_mixtures_of_faults_end_as_they_should() {
    let seeds: Vec<u64> = match std::env::var("NODE_FAULTS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=10).collect(),
    };
    side_by_side(seeds.into_iter().map(mixture)).await;
}
