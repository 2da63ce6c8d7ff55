//! The heads of the chains that are served: how often each is asked for, and who is told of new blocks.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, keccak256};
use tokio::task::JoinSet;
use tokio::time::Instant;
use x402_evm::chain::{At, BatchRead, ReadChain, RpcChain};
use x402_evm::key::Key;
use x402_evm::token::Token;
use x402_evm::token_trial::Trial;
use x402_types::{Fault, UnixSeconds};

use crate::backoff;
use crate::clock::now;
use crate::engine::Engine;

/// [`Polling::busy`] unless told, ms.
pub(crate) const BUSY_MILLISECONDS: u64 = 100;
/// [`Polling::rest`] unless told, ms.
pub(crate) const REST_MILLISECONDS: u64 = 2_000;

/// How often a network's head is asked for. Nodes bill by the call: a settlement is answered the later the longer
/// `busy` is, and a network without payments costs what `rest` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// While a payment on the network is unfinished. One call each time, and some more behind a new block.
    pub busy: Duration,
    /// While none is. Of no effect where it is the shorter one.
    pub rest: Duration,
}

impl Default for Polling {
    /// Every 100 ms, at rest every 2 s.
    fn default() -> Self {
        Self { busy: Duration::from_millis(BUSY_MILLISECONDS), rest: Duration::from_millis(REST_MILLISECONDS) }
    }
}

impl Polling {
    fn at_rest(self) -> Duration {
        self.rest.max(self.busy)
    }

    /// From the beginning of one poll to that of the next, the last of which found a new block, or did not. A node that
    /// did not answer so often in a row is asked ever less often: it may refuse for being asked too much.
    fn pause(self, busy: bool, found: bool, failures: u32) -> Duration {
        let pause = match (busy, found) {
            (false, _) => self.at_rest(),
            (true, false) => self.busy,
            (true, true) => Duration::ZERO,
        };
        pause.max(backoff::rest(backoff::FIRST, failures))
    }

    /// For how long a poll answers: nobody waits for one while they come as they should.
    pub(crate) fn fresh(self) -> Duration {
        self.at_rest().saturating_mul(4)
    }
}

/// A head that is polled.
pub(crate) struct HeadPoller {
    pub(crate) chain: Arc<RpcChain>,
    pub(crate) polling: Polling,
    /// Accounts that send operations: the EntryPoint takes them from accounts without code only.
    pub(crate) bundlers: Vec<Address>,
    /// Tokens to be tried at start, each in a simulated transaction of this account.
    pub(crate) trials: Vec<(Token, Address)>,
}

/// The heads of the chains that are served.
pub struct HeadPollers(pub(crate) Vec<HeadPoller>);

impl std::fmt::Debug for HeadPollers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeadPollers")
    }
}

impl HeadPollers {
    /// Whether every node serves the network that it should, and every token does in a simulation what a payment needs.
    /// What a node does otherwise than most is logged.
    ///
    /// # Errors
    /// One does not, or a node does not answer.
    pub async fn check(&self) -> Result<(), Fault> {
        for poller in &self.0 {
            poller.chain.check_network().await?;
            for peculiarity in poller.chain.peculiarities(now()).await? {
                tracing::warn!(network = %poller.chain.network(), "the node is peculiar: {peculiarity}");
            }
            // What the signers have is known from here on.
            poller.chain.poll().await?;
            let sizes = poller.bundlers.iter().fold(BatchRead::new(), |reads, account| reads.code_size(*account));
            let answers = poller.chain.run(&sizes, At::Latest).await?;
            if let Some((account, _)) = poller.bundlers.iter().zip(&answers.sizes).find(|(_, size)| **size != 0) {
                return Err(Fault::broken(format_args!("{account} has code, so it cannot send operations")));
            }
            poller.try_tokens().await?;
        }
        Ok(())
    }

    /// Polls until it is dropped; wakes the engine at every new block, and when the nonces as of it are there.
    #[must_use]
    pub fn watch(self, engine: &Arc<Engine>) -> JoinSet<()> {
        self.0.into_iter().map(|poller| poller.run(Arc::clone(engine))).collect()
    }
}

impl HeadPoller {
    async fn try_tokens(&self) -> Result<(), Fault> {
        let network = self.chain.network();
        for (token, sender) in &self.trials {
            let name = token.domain.as_ref().map_or("of unknown name", |domain| &*domain.name);
            let address = token.address;
            match self.chain.try_token(token, &trial_payer()?, *sender).await? {
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

    async fn run(self, engine: Arc<Engine>) {
        let network = self.chain.network();
        let mut unfinished = engine.unfinished();
        let mut last = None;
        let mut highest = None;
        // The account nonces may be those of the block before: the next poll brings them.
        let mut behind = false;
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            let found = match self.chain.poll().await {
                Ok(head) => {
                    engine.note_head(network, UnixSeconds(head.timestamp));
                    engine.note_funds();
                    failures = 0;
                    let new = last.replace(head.number) != Some(head.number);
                    if new {
                        engine.new_block();
                    }
                    if behind {
                        engine.new_nonces();
                    }
                    behind = new;
                    // Behind one URL may be nodes of which one lags: a head that goes to and fro is no new block each time.
                    let higher = Some(head.number) > highest;
                    highest = highest.max(Some(head.number));
                    higher
                }
                Err(fault) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%network, %fault, failures, "the head could not be read");
                    false
                }
            };
            loop {
                let busy = unfinished.borrow_and_update().iter().any(|lane| lane.network() == Some(network));
                tokio::select! {
                    () = tokio::time::sleep_until(began + self.polling.pause(busy, found, failures)) => break,
                    Ok(()) = unfinished.changed() => {}
                }
            }
        }
    }
}

/// Signs the trials of tokens. Its key is public, and it holds nothing.
fn trial_payer() -> Result<Key, Fault> {
    Key::from_bytes(&keccak256("x402: the payer of a token's trial")).map_err(Fault::broken)
}

#[cfg(test)]
mod tests {
    use x402_devchain::{DevChain, MiningMode, NodeFault};
    use x402_facilitator_core::{LaneId, Ledger, MemoryLedger, Settlement};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(1);
    const BUSY: Duration = Duration::from_millis(100);

    fn lane(network: &str) -> LaneId {
        LaneId::new(network.parse().unwrap(), "0x00")
    }

    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_peculiar_node_is_named_at_start() {
        for (fault, words) in [
            (None, ""),
            (Some(NodeFault::CallTime(1)), "eth_call on the newest block sees the second 1"),
            (Some(NodeFault::NoBlockHash { code: -32602, message: "no such thing".into() }), "EIP-1898"),
        ] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            let _here = tracing::subscriber::set_default(subscriber);
            let (chain, heads) = heads(SHORT);
            fault.into_iter().for_each(|fault| chain.node_fault(fault));
            heads.check().await.unwrap();
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{text}");
        }
    }

    /// Two nodes behind one URL, of which one lags: a head that goes to and fro is waited for like any other.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_goes_to_and_fro_is_no_new_block_each_time() {
        let (chain, engine, _heads) = watched(BUSY);
        chain.mine(5);
        chain.node_fault(NodeFault::SecondNode(1));
        engine.note_unfinished(&lane("eip155:84532"), true);
        polled(&chain, 2).await;
        let began = Instant::now();
        polled(&chain, 40).await;
        // By the clock of the test: the pause from one poll to the next, which a round trip of 1 ms would hide.
        assert!(began.elapsed() >= BUSY * 37, "{:?}", began.elapsed());
    }

    /// The head of a chain, which mines by hand.
    fn heads(busy: Duration) -> (DevChain, HeadPollers) {
        let chain = DevChain::builder().block_time(MiningMode::Manual).rpc_delay(SHORT).build().unwrap();
        let poller = HeadPoller {
            chain: Arc::new(RpcChain::new(chain.client(), "eip155:84532".parse().unwrap(), 0)),
            polling: Polling { busy, rest: HOUR },
            bundlers: Vec::new(),
            trials: Vec::new(),
        };
        (chain, HeadPollers(vec![poller]))
    }

    /// An engine that is told of its blocks. At rest its head is asked for once.
    fn watched(busy: Duration) -> (DevChain, Arc<Engine>, JoinSet<()>) {
        let (chain, heads) = heads(busy);
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
        let polling = Polling::default();
        assert_eq!(polling.pause(false, false, 0), Duration::from_secs(2));
        assert_eq!(polling.pause(false, true, 0), Duration::from_secs(2));
        assert_eq!(polling.pause(true, false, 0), Duration::from_millis(100));
        assert_eq!(polling.pause(true, true, 0), Duration::ZERO);
        // One that does not answer, up to half a minute.
        let failed: Vec<u128> = (1..9).map(|failures| polling.pause(true, false, failures).as_millis()).collect();
        assert_eq!(failed, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        assert_eq!(polling.pause(false, false, 1), Duration::from_secs(2));
        // Who polls seldom does not poll more often at rest.
        let seldom = Polling { busy: Duration::from_secs(5), ..polling };
        assert_eq!(seldom.pause(false, false, 0), Duration::from_secs(5));
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
        // The one that is on its way may still be answered.
        let most = chain.calls().of("eth_getBlockByNumber") + 1;
        tokio::time::sleep(SHORT * 50).await;
        assert!(chain.calls().of("eth_getBlockByNumber") <= most);
    }

    #[tokio::test]
    async fn between_two_blocks_a_poll_is_one_call() {
        let (chain, engine, _heads) = watched(SHORT);
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

        // A new block is told of at once, and fees and nonces when they are those of the block.
        chain.mine(1);
        blocks.changed().await.unwrap();
        assert!(!nonces.has_changed().unwrap());
        nonces.changed().await.unwrap();
        assert_eq!(chain.calls().of("eth_maxPriorityFeePerGas"), 1);
        chain.reset_calls();
        polled(&chain, 20).await;
        assert_eq!(chain.calls().of("eth_maxPriorityFeePerGas"), 0);
        assert!(!blocks.has_changed().unwrap() && !nonces.has_changed().unwrap());
    }
}
