//! One run: two processes over one ledger and one chain, in simulated time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::{SolCall, sol};
use tokio::task::JoinSet;
use x402_devchain::{ACCOUNTS, Orphans, TOKEN, TestToken, signer};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, allowance_call, approve_call};
use x402_facilitator_core::MemoryLedger;
use x402_types::{Claim, SchemeName};

use crate::approvals::Flaw;
use crate::bugs::Bug;
use crate::check::check;
use crate::payments::{OPEN, OUTSIDER, Pay, SPECIAL, SPONSORED, payments, settle_call};
use crate::process::Process;
use crate::world::{CALM, DEPTH, END, Seen, World};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
    function balanceOf(address account) external view returns (uint256);
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub violations: Vec<String>,
    pub tally: BTreeMap<&'static str, u64>,
}

const PROCESSES: usize = 2;

/// A request to come.
struct Ask {
    block: u64,
    pay: usize,
    claim: Claim,
}

pub fn run(seed: u64, bug: Bug) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(seed, bug).await;
        run.run().await;
        let Run { world, ledger, pays, tasks, .. } = run;
        drop(tasks);
        check(&world, &ledger, &pays).await;
        world
            .with(|inner| Report { violations: inner.violations.iter().cloned().collect(), tally: inner.tally.clone() })
    })
}

struct Run {
    world: World,
    ledger: Arc<MemoryLedger>,
    bug: Bug,
    pays: Vec<Pay>,
    asks: Vec<Ask>,
    tasks: Vec<JoinSet<()>>,
    processes: Vec<Option<Process>>,
    /// When which process starts again.
    starts: Vec<(u64, usize)>,
    lives: u64,
    /// The code of a token that takes a fee, and the block from which the special one has it.
    fee: (Bytes, u64),
    /// The payers who took their allowance back.
    back: Vec<usize>,
}

impl Run {
    async fn new(seed: u64, bug: Bug) -> Self {
        let world = World::new(seed);
        world.chain.mine(3);
        let scratch = Address::repeat_byte(0x78);
        world.chain.put_token(TestToken::Fee, scratch).unwrap();
        world.chain.put_token(TestToken::TransferFirst, SPECIAL).unwrap();
        let fee = world.chain.provider().get_code_at(scratch).await.unwrap();
        for payer in OPEN {
            for token in [TOKEN, SPECIAL] {
                send(&world, payer, token, approve_call(PERMIT2, U256::MAX)).await;
            }
        }
        world.chain.mine(1 + DEPTH);
        let pays = payments(&world).await;
        let asks = asks(&world, &pays);
        let by = world.clone();
        let ledger = Arc::new(MemoryLedger::new(move || by.now()));
        let starts = (0..PROCESSES).map(|process| (0, process)).collect();
        world.with(|inner| inner.lives = vec![None; PROCESSES]);
        let from = world.with(|inner| if inner.chance.percent(70) { 6 + inner.chance.below(8) } else { u64::MAX });
        Self {
            world,
            ledger,
            bug,
            pays,
            asks,
            tasks: (0..PROCESSES).map(|_| JoinSet::new()).collect(),
            processes: vec![None; PROCESSES],
            starts,
            lives: 0,
            fee: (fee, from),
            back: Vec::new(),
        }
    }

    async fn run(&mut self) {
        self.record().await;
        for block in 0..END {
            self.world.with(|inner| inner.calm = block >= CALM);
            self.bury(block);
            self.begin(block);
            if block < CALM {
                self.disturb(block).await;
            }
            self.world.chain.mine(1);
            if block >= self.fee.1 {
                self.world.chain.set_code(SPECIAL, self.fee.0.clone()).unwrap();
            }
            if block == self.fee.1 {
                self.world.tally("token began to take a fee");
            }
            self.record().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.asks.is_empty() && block > CALM + 24 && self.is_done() {
                return;
            }
        }
    }

    fn is_done(&self) -> bool {
        let rows = self.ledger.all_payments();
        rows.iter().all(|row| row.answer.is_some()) && self.ledger.all_slots().iter().all(|slot| slot.used)
    }

    /// Ends what dead processes still run.
    fn bury(&mut self, block: u64) {
        for number in 0..PROCESSES {
            let dead = self.world.with(|inner| inner.lives[number].is_none());
            if dead && self.processes[number].take().is_some() {
                self.tasks[number].abort_all();
                let down = self.world.with(|inner| 1 + inner.chance.below(8));
                self.starts.push((block + down, number));
            }
        }
    }

    /// Starts processes and requests.
    fn begin(&mut self, block: u64) {
        for (_, number) in self.starts.extract_if(.., |(at, _)| *at <= block) {
            self.lives += 1;
            let process = Process::start(&self.world, number, self.lives, &self.ledger, self.bug);
            self.tasks[number] = JoinSet::new();
            self.tasks[number].spawn(process.clone().run());
            self.processes[number] = Some(process);
        }
        for ask in self.asks.extract_if(.., |ask| ask.block <= block) {
            let number = self.world.with(|inner| inner.chance.below(PROCESSES as u64)) as usize;
            // Nobody there: the caller asks the other.
            let Some((number, process)) =
                [number, 1 - number].into_iter().find_map(|number| Some((number, self.processes[number].clone()?)))
            else {
                continue;
            };
            self.tasks[number].spawn(process.ask(ask.pay, ask.claim));
        }
    }

    async fn disturb(&mut self, block: u64) {
        let world = self.world.clone();
        let happens = |percent: fn(&crate::world::Troubles) -> u64| {
            world.with(|inner| {
                let odds = percent(&inner.troubles);
                inner.chance.percent(odds)
            })
        };
        if happens(|troubles| troubles.lost) {
            let hash = world.with(|inner| inner.sent.pop());
            if hash.is_some_and(|hash| world.chain.drop_transaction(hash)) {
                world.tally("transaction lost");
            }
        }
        if happens(|troubles| troubles.reorg) {
            let (depth, orphans) = world.with(|inner| (1 + inner.chance.below(DEPTH), inner.chance.below(3)));
            let orphans = [Orphans::Remine, Orphans::Requeue, Orphans::Drop][orphans as usize];
            world.chain.reorg(depth, orphans).unwrap();
            world.tally("reorganisation");
            self.record().await;
        }
        if happens(|troubles| troubles.surge) {
            let gwei = world.with(|inner| 1 + inner.chance.below(8));
            world.chain.set_base_fee(gwei * 1_000_000_000);
            world.tally("base fee raised");
        }
        if happens(|troubles| troubles.foreign) {
            self.meddle(block).await;
        }
        for payer in SPONSORED {
            let allowance = self.seen(payer).map(|seen| seen.allowance);
            if allowance.is_some_and(|it| !it.is_zero()) && !self.back.contains(&payer) && happens(|it| it.back) {
                self.back.push(payer);
                send(&world, payer, TOKEN, approve_call(PERMIT2, U256::ZERO)).await;
                world.tally("allowance taken back");
            }
        }
    }

    fn seen(&self, payer: usize) -> Option<Seen> {
        let account = (ACCOUNTS[payer].address, TOKEN);
        self.world.with(|inner| inner.history.get(&account).and_then(|all| all.last()).copied())
    }

    /// Others act on a payment that was asked for.
    async fn meddle(&mut self, block: u64) {
        let world = self.world.clone();
        let (at, what) = world.with(|inner| (inner.chance.below(self.pays.len() as u64), inner.chance.below(4)));
        let pay = &self.pays[at as usize];
        if self.asks.iter().any(|ask| ask.pay == at as usize && ask.block > block && ask.block < CALM) {
            return;
        }
        match what {
            0 | 1 if pay.claim.terms.scheme == SchemeName::EXACT => {
                if let Some(hash) = send(&world, OUTSIDER, EXACT_PROXY, settle_call(&pay.claim).call()).await {
                    world.with(|inner| inner.outsiders.insert(hash));
                    world.tally("settled by others");
                }
            }
            2 => {
                let nonce = pay.permit.nonce;
                let call = invalidateUnorderedNoncesCall {
                    wordPos: nonce >> 8,
                    mask: U256::from(1) << (nonce & U256::from(255)),
                };
                send(&world, pay.payer, PERMIT2, call.abi_encode().into()).await;
                world.tally("permit invalidated");
            }
            3 if pay.flaw == Flaw::None && OPEN.contains(&pay.payer) => {
                let left = world.with(|inner| inner.chance.below(2)) * 1_000_000_000;
                send(&world, pay.payer, pay.permit.token, approve_call(PERMIT2, U256::from(left))).await;
                world.tally("allowance taken back");
            }
            _ => {}
        }
    }

    /// Notes what the newest block has of each payer.
    async fn record(&self) {
        let (chain, provider) = (&self.world.chain, self.world.chain.provider());
        let time = chain.time();
        let accounts: std::collections::BTreeSet<_> =
            self.pays.iter().map(|pay| (ACCOUNTS[pay.payer].address, pay.permit.token)).collect();
        for (payer, token) in accounts {
            let read = async |data: Bytes| {
                let call = TransactionRequest::default().to(token).input(data.into());
                U256::from_be_slice(&provider.call(call).await.unwrap())
            };
            let seen = Seen {
                time,
                nonce: chain.nonce_of(payer),
                ether: chain.ether_of(payer),
                allowance: read(allowance_call(payer, PERMIT2)).await,
                balance: read(balanceOfCall { account: payer }.abi_encode().into()).await,
                base_fee: chain.base_fee(),
            };
            self.world.with(|inner| inner.history.entry((payer, token)).or_default().push(seen));
        }
    }
}

/// When each payment is asked for, in which spelling and by whom.
fn asks(world: &World, pays: &[Pay]) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (at, pay) in pays.iter().enumerate() {
        let mut ask = |block, twin, request: &str| {
            asks.push(Ask { block, pay: at, claim: pay.asked(twin, request) });
        };
        let (start, again, later) =
            world.with(|inner| (inner.chance.below(14), inner.chance.below(3), inner.chance.below(12)));
        ask(start, false, "key:first");
        if pay.twin.is_some() {
            world.tally("both spellings asked for");
            ask(start, true, "key:twin");
        }
        if pay.is_above() {
            world.tally("more than the maximum asked for");
        }
        if pay.flaw != Flaw::None {
            world.tally("bad approval asked for");
        }
        for _ in 0..again {
            ask(start + later, false, "key:first");
        }
        ask(start + later, false, "unnamed");
        ask(CALM + 18, false, "key:first");
    }
    asks
}

/// A transaction of somebody else, in the pool.
async fn send(world: &World, from: usize, to: Address, data: Bytes) -> Option<B256> {
    let request = TransactionRequest::default()
        .to(to)
        .input(data.into())
        .gas_limit(300_000)
        .max_priority_fee_per_gas(5_000_000_000)
        .max_fee_per_gas(200_000_000_000);
    let sent = world.chain.wallet(signer(from).unwrap()).send_transaction(request).await;
    sent.ok().map(|pending| *pending.tx_hash())
}
