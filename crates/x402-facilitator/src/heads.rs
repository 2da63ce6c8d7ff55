//! The pollers of the served chains' heads: their pace, and the notices of new blocks.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use tokio::task::JoinSet;
use tokio::time::Instant;
use x402_evm::batching::MULTICALL3;
use x402_evm::chain::{At, BatchRead, ReadChain, RpcChain};
use x402_evm::token_trial::Trial;
use x402_types::{ChainId, Fault, UnixSeconds};

mod news;
mod schedule;

pub use self::news::HeadNews;
use self::schedule::Schedule;
use crate::backoff;
use crate::clock::now;
use crate::engine::Engine;
use crate::mechanisms::TokenTrial;

/// The default of [`Polling::busy`], in ms.
pub(crate) const BUSY_MILLISECONDS: u64 = 100;
/// The default of [`Polling::rest`], in ms.
pub(crate) const REST_MILLISECONDS: u64 = 2_000;

/// The pace at which a network's head is polled. Nodes charge by the call: a longer `busy` delays the answers to
/// settlements, and `rest` determines the cost of a network without payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// The shortest interval while a payment on the network is unfinished. Where blocks come by the clock, the head is
    /// polled when one is expected, and so often until it is there; elsewhere, the longer a block is awaited the longer the
    /// interval, up to an eighth of the wait, and to 20 times this one. Each poll is one call, and a new block needs some more.
    pub busy: Duration,
    /// The interval while no payment is unfinished. It has no effect if it is the shorter one.
    pub rest: Duration,
}

impl Default for Polling {
    /// Polls every 100 ms, and every 2 s at rest.
    fn default() -> Self {
        Self { busy: Duration::from_millis(BUSY_MILLISECONDS), rest: Duration::from_millis(REST_MILLISECONDS) }
    }
}

impl Polling {
    fn at_rest(self) -> Duration {
        self.rest.max(self.busy)
    }

    /// Returns the beginning of the next poll. A poll that finds a new block is followed by another one at once, which
    /// brings the account nonces; blocks that are faster than the polls are read several at a time. A node that failed
    /// repeatedly is polled ever less often: it may be refusing because of too many calls.
    fn next(self, poll: &Poll, schedule: &Schedule) -> Instant {
        let Poll { began, behind, found, failures, since, .. } = *poll;
        let next = match since {
            _ if behind && found == 1 => began,
            None => schedule.at_rest(self.at_rest()),
            Some(_) if found > 1 && !schedule.is_regular() => began + self.busy / 4,
            Some(since) => schedule.next(since),
        };
        next.max(began + backoff::rest(backoff::FIRST, failures))
    }

    /// The age up to which the result of a poll is used: no caller waits for a poll while they succeed at this pace.
    pub(crate) fn fresh(self) -> Duration {
        self.at_rest().saturating_mul(4)
    }
}

/// The state of a poller after a poll.
#[derive(Debug, Clone, Copy)]
struct Poll {
    /// The beginning of the poll.
    began: Instant,
    /// Whether the account nonces may be those of a block before.
    behind: bool,
    /// The number of consecutive polls that found a new block.
    found: u32,
    /// The number of blocks that were found since payments are unfinished.
    blocks: u32,
    /// The number of consecutive polls that failed.
    failures: u32,
    /// The time since which the newest payment is unfinished; `None` at rest.
    since: Option<Instant>,
}

/// The poller of one chain's head.
pub(crate) struct HeadPoller {
    pub(crate) chain: Arc<RpcChain>,
    pub(crate) polling: Polling,
    /// The accounts that send operations: the EntryPoint accepts operations only from accounts without code.
    pub(crate) bundlers: Vec<Address>,
    /// The trials of the tokens, at start.
    pub(crate) trials: Vec<TokenTrial>,
    /// The notices of new heads that the node sends by itself, if it does.
    pub(crate) news: Option<Arc<HeadNews>>,
    /// Whether payments share transactions, for which the network must have [`MULTICALL3`].
    pub(crate) batching: bool,
}

/// The pollers of all the chains that are served.
pub struct HeadPollers(pub(crate) Vec<HeadPoller>);

impl std::fmt::Debug for HeadPollers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeadPollers")
    }
}

impl HeadPollers {
    /// Checks that every node serves the expected network, and that every token passes a simulated payment. A node's
    /// peculiarities are logged.
    ///
    /// # Errors
    /// A node serves another network, a token fails, or a node does not answer.
    pub async fn check(&self) -> Result<(), Fault> {
        for poller in &self.0 {
            poller.chain.check_network().await?;
            for peculiarity in poller.chain.peculiarities(now()).await? {
                tracing::warn!(network = %poller.chain.network(), "the node is peculiar: {peculiarity}");
            }
            // The signers' balances are known from here on.
            poller.chain.poll().await?;
            let sizes = poller.bundlers.iter().fold(BatchRead::new(), |reads, account| reads.code_size(*account));
            let answers = poller.chain.run(&sizes, At::Latest).await?;
            if let Some((account, _)) = poller.bundlers.iter().zip(&answers.sizes).find(|(_, size)| **size != 0) {
                return Err(Fault::broken(format_args!("{account} has code, so it cannot send operations")));
            }
            poller.check_batching().await?;
            poller.try_tokens().await?;
        }
        Ok(())
    }

    /// Polls until it is dropped. Wakes the engine at every new block, and again when the nonces as of that block are
    /// known.
    #[must_use]
    pub fn watch(self, engine: &Arc<Engine>) -> JoinSet<()> {
        self.0.into_iter().map(|poller| poller.run_and_listen(Arc::clone(engine))).collect()
    }
}

/// A network on which payments cannot share transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("network.batching: expected Multicall3 at {MULTICALL3} on {network}, found no contract")]
pub struct NoMulticall3 {
    /// The network without the contract.
    pub network: ChainId,
}

impl HeadPoller {
    async fn check_batching(&self) -> Result<(), Fault> {
        if !self.batching {
            return Ok(());
        }
        let answers = self.chain.run(&BatchRead::new().code_size(MULTICALL3), At::Latest).await?;
        match answers.sizes.first() {
            Some(1..) => Ok(()),
            Some(0) => Err(Fault::broken(NoMulticall3 { network: self.chain.network() })),
            None => Err(Fault::unreachable("the node", "an answer of another form")),
        }
    }

    async fn try_tokens(&self) -> Result<(), Fault> {
        let network = self.chain.network();
        for trial in &self.trials {
            let (name, address) = (trial.name(), trial.address());
            match trial.run(&self.chain).await? {
                Trial::Good => {}
                Trial::Unfit(why) => {
                    let why = format_args!("the token {name} ({address}) on {network} cannot be served: {why}");
                    return Err(Fault::broken(why));
                }
                Trial::WithoutLogs => {
                    tracing::warn!(%network, %address, name, "the node has no eth_simulateV1: the token's logs were not tried");
                }
                Trial::Untried(why) => {
                    tracing::warn!(%network, %address, name, %why, "the token could not be tried; it is served all the same");
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn run_and_listen(self, engine: Arc<Engine>) {
        match self.news.as_ref().and_then(|news| news.listener()) {
            None => self.run(engine).await,
            Some(listens) => tokio::select! {
                () = self.run(engine) => {}
                () = listens => {}
            },
        }
    }

    async fn run(self, engine: Arc<Engine>) {
        let network = self.chain.network();
        let mut unfinished = engine.unfinished();
        let mut schedule = Schedule::new(self.polling.busy);
        let (mut last, mut highest, mut open) = (None, None, None);
        let mut told: Option<Fault> = None;
        let mut poll = Poll { began: Instant::now(), behind: false, found: 0, blocks: 0, failures: 0, since: None };
        loop {
            poll.began = Instant::now();
            let accounts = poll.behind;
            // Directly behind a block that comes by the clock there is no other.
            let head = !accounts || !schedule.is_regular() || poll.found != 1;
            let polled = match accounts {
                false => self.chain.poll_head().await,
                true => self.chain.poll_accounts(head, engine.is_short(network)).await,
            };
            match polled {
                Ok(found) => {
                    if let Some(fault) = told.take() {
                        tracing::info!(%network, %fault, "the head can be read again");
                    }
                    engine.note_head(network, UnixSeconds(found.timestamp));
                    engine.note_funds();
                    poll.failures = 0;
                    let new = last.replace(found.number) != Some(found.number);
                    if new {
                        engine.new_block();
                    }
                    if accounts {
                        engine.new_nonces();
                    }
                    // Behind the first block since something began, nonces are only needed if something was sent.
                    let is_awaited = poll.since.is_some() && poll.blocks > 0;
                    let is_wanted = is_awaited || self.chain.has_sent() || engine.is_short(network);
                    poll.behind = (new && is_wanted) || self.chain.is_account_poll_due();
                    // Several nodes may answer at one URL, and one may lag: a head that alternates is no new block each
                    // time.
                    let higher = Some(found.number) > highest;
                    highest = highest.max(Some(found.number));
                    poll.found = if higher { poll.found.saturating_add(1) } else { 0 };
                    poll.blocks = poll.blocks.saturating_add(u32::from(higher));
                    if head {
                        schedule.note(poll.began, higher.then_some((found.number, found.timestamp)));
                    }
                }
                Err(fault) => {
                    poll.failures = poll.failures.saturating_add(1);
                    // The next poll reads the head; the nonces are requested behind the next block.
                    (poll.found, poll.behind) = (0, false);
                    // The poll is repeated until it succeeds: the first reason is logged.
                    if told.is_none() {
                        tracing::warn!(%network, %fault, failures = poll.failures, "the head could not be read");
                        told = Some(fault);
                    }
                }
            }
            loop {
                // The number of times that a lane of the network took on payments, if one has some.
                let now_open = {
                    let lanes = unfinished.borrow_and_update();
                    let ours = lanes.iter().filter(|(lane, _)| lane.network() == Some(network));
                    ours.map(|(_, times)| *times).reduce(u64::saturating_add)
                };
                if now_open != open {
                    if open.is_none() {
                        poll.blocks = 0;
                    }
                    open = now_open;
                    poll.since = open.map(|_| Instant::now());
                }
                // While the node sends notices of new heads, no poll looks for one beside them. At rest not every head is worth
                // its calls.
                let next = self.polling.next(&poll, &schedule);
                let is_busy = poll.since.is_some();
                let rests = self.news.as_ref().filter(|_| is_busy && !poll.behind && poll.failures == 0);
                let rests = rests.and_then(|news| news.rests_until());
                tokio::select! {
                    () = tokio::time::sleep_until(rests.map_or(next, |rests| rests.max(next))) => break,
                    () = told_by(self.news.as_deref()), if is_busy => break,
                    Ok(()) = unfinished.changed() => {}
                    // A node reported a new block.
                    () = self.chain.reported() => break,
                }
            }
        }
    }
}

async fn told_by(news: Option<&HeadNews>) {
    match news {
        Some(news) => news.told().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use x402_devchain::{DevChain, MiningMode, NodeFault};
    use x402_evm::chain::ReadNonces;
    use x402_facilitator_core::{LaneId, Ledger, MemoryLedger, Settlement};
    use x402_testkit::Log;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(1);
    const BUSY: Duration = Duration::from_millis(100);

    fn lane(network: &str) -> LaneId {
        LaneId::new(network.parse().unwrap(), "0x00")
    }

    #[tokio::test]
    async fn a_peculiar_node_is_named_at_start() {
        for (fault, words) in [
            (None, ""),
            (Some(NodeFault::CallTime(1)), "eth_call on the newest block sees the second 1"),
            (Some(NodeFault::NoBlockHash { code: -32602, message: "no such thing".into() }), "EIP-1898"),
        ] {
            let log = Log::default();
            let _here = crate::captured::capture(&log);
            let (chain, heads) = heads(SHORT);
            fault.into_iter().for_each(|fault| chain.node_fault(fault));
            heads.check().await.unwrap();
            let text = log.text();
            assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{text}");
        }
    }

    /// Two nodes answer at one URL, and one lags: an alternating head is polled at the usual pace.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_goes_to_and_fro_is_no_new_block_each_time() {
        let (chain, engine, _heads) = watched(BUSY);
        chain.mine(5);
        chain.node_fault(NodeFault::SecondNode(1));
        engine.note_unfinished(&lane("eip155:84532"), true);
        polled(&chain, 2).await;
        let began = Instant::now();
        polled(&chain, 40).await;
        // The test's clock measures the pause from one poll to the next, which a round trip of 1 ms would hide.
        assert!(began.elapsed() >= BUSY * 37, "{:?}", began.elapsed());
    }

    /// The head of a chain that mines on command.
    fn heads(busy: Duration) -> (DevChain, HeadPollers) {
        let chain = DevChain::builder().block_time(MiningMode::Manual).rpc_delay(SHORT).build().unwrap();
        let poller = HeadPoller {
            chain: Arc::new(RpcChain::new(chain.client(), "eip155:84532".parse().unwrap(), 0)),
            polling: Polling { busy, rest: HOUR },
            bundlers: Vec::new(),
            trials: Vec::new(),
            news: None,
            batching: false,
        };
        (chain, HeadPollers(vec![poller]))
    }

    /// An engine that is notified of its chain's blocks. At rest its head is polled once.
    fn watched(busy: Duration) -> (DevChain, Arc<Engine>, JoinSet<()>) {
        let (chain, heads) = heads(busy);
        watching(chain, heads)
    }

    fn watching(chain: DevChain, heads: HeadPollers) -> (DevChain, Arc<Engine>, JoinSet<()>) {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
        let engine = Arc::new(Engine::new(Settlement::new("test".into(), Arc::clone(&ledger)), ledger));
        let heads = heads.watch(&engine);
        (chain, engine, heads)
    }

    async fn polled(chain: &DevChain, times: u64) {
        while chain.calls().of("eth_getBlockByNumber") < times {
            tokio::time::sleep(SHORT).await;
        }
    }

    #[test]
    fn a_node_is_asked_often_while_a_payment_is_open_and_at_once_behind_a_new_block() {
        let (polling, began) = (Polling::default(), Instant::now());
        let mut schedule = Schedule::new(polling.busy);
        schedule.note(began, Some((1, 1)));
        let poll = Poll { began, behind: false, found: 0, blocks: 0, failures: 0, since: None };
        let pause = |polling: Polling, poll| polling.next(&poll, &schedule).duration_since(began).as_millis();
        assert_eq!(pause(polling, poll), 2_000);
        assert_eq!(pause(polling, Poll { behind: true, found: 1, ..poll }), 0);
        let open = Poll { since: Some(began), ..poll };
        let found = (0..4).map(|found| pause(polling, Poll { found, behind: found > 0, ..open }));
        assert_eq!(found.collect::<Vec<_>>(), [100, 0, 25, 25]);
        // A node that does not answer is polled ever less often, down to once in half a minute.
        let failed = (1..9).map(|failures| pause(polling, Poll { failures, ..open }));
        assert_eq!(failed.collect::<Vec<_>>(), [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        assert_eq!(pause(polling, Poll { failures: 1, ..poll }), 2_000);
        // A busy pace that is slower than the pace at rest also applies at rest.
        let seldom = Polling { busy: Duration::from_secs(5), ..polling };
        assert_eq!(pause(seldom, poll), 5_000);
        assert_eq!(seldom.fresh(), Duration::from_secs(20));
    }

    #[tokio::test]
    async fn the_payments_of_a_network_hurry_its_own_head_only() {
        let (chain, engine, _heads) = watched(SHORT);
        let ours = lane("eip155:84532");
        polled(&chain, 1).await;
        engine.note_unfinished(&lane("eip155:1"), true);
        tokio::time::sleep(SHORT * 50).await;
        assert_eq!(chain.calls().of("eth_getBlockByNumber"), 1);
        engine.note_unfinished(&ours, true);
        polled(&chain, 10).await;
        engine.note_unfinished(&ours, false);
        // The call in flight may still be answered.
        let most = chain.calls().of("eth_getBlockByNumber") + 1;
        tokio::time::sleep(SHORT * 50).await;
        assert!(chain.calls().of("eth_getBlockByNumber") <= most);
    }

    #[tokio::test]
    async fn between_two_blocks_a_poll_is_one_call() {
        let (chain, heads) = heads(SHORT);
        heads.0[0].chain.account_nonces(Address::ZERO).await.unwrap();
        let (chain, engine, _heads) = watching(chain, heads);
        let (mut blocks, mut nonces) = (engine.blocks(), engine.nonces());
        engine.note_unfinished(&lane("eip155:84532"), true);
        polled(&chain, 5).await;
        blocks.borrow_and_update();
        nonces.borrow_and_update();
        chain.reset_calls();
        polled(&chain, 20).await;
        let calls = chain.calls();
        assert_eq!(calls.total(), calls.of("eth_getBlockByNumber"), "{calls:?}");
        assert!(!blocks.has_changed().unwrap() && !nonces.has_changed().unwrap());

        // A new block is reported at once. Nonces are asked for behind one that something waited for or was sent before,
        // and are reported once they are those of the block.
        chain.mine(1);
        blocks.changed().await.unwrap();
        polled(&chain, 25).await;
        assert_eq!(chain.calls().of("eth_getTransactionCount"), 0);
        chain.mine(1);
        blocks.changed().await.unwrap();
        assert!(!nonces.has_changed().unwrap());
        nonces.changed().await.unwrap();
        assert_eq!(chain.calls().of("eth_getTransactionCount"), 1);
        chain.reset_calls();
        polled(&chain, 20).await;
        let calls = chain.calls();
        assert_eq!(calls.total(), calls.of("eth_getBlockByNumber"), "{calls:?}");
        assert!(!blocks.has_changed().unwrap() && !nonces.has_changed().unwrap());
    }
}
