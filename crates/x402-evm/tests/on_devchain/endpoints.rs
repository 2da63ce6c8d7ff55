//! Several endpoints of one network: who is asked, what is sent to whom, and what happens if they disagree.

use std::sync::Arc;

use x402_devchain::{DevChain, DevEndpoint, MiningMode};
use x402_evm::chain::{At, BatchRead, ReadChain, RpcChain, SendTransaction, endpoints};
use x402_evm::rail::EoaRail;
use x402_facilitator_core::{Attempt, Rail, SlotId};
use x402_types::{Fault, NotTaken};

use crate::stage::START;

struct Scene {
    chain: DevChain,
    one: DevEndpoint,
    two: DevEndpoint,
    reader: Arc<RpcChain>,
}

impl Scene {
    fn new(depth: u64) -> Self {
        let builder = DevChain::builder().time(START).time_step(2).block_time(MiningMode::Manual);
        let chain = builder.finality_depth(depth).build().unwrap();
        chain.mine(5);
        let (one, two) = (chain.endpoint(), chain.endpoint());
        let clients = vec![one.client(), two.client()];
        let reader = RpcChain::new(endpoints(&clients), "eip155:84532".parse().unwrap(), depth);
        Self { chain, one, two, reader: Arc::new(reader.with_compared(clients)) }
    }

    async fn attempt(&self, nonce: u64) -> Attempt {
        let rail = EoaRail::new(Arc::clone(&self.reader), x402_devchain::signer(0).unwrap()).unwrap();
        let slot = SlotId { lane: rail.lane().clone(), nonce };
        rail.sign(&slot, &[], None).await.unwrap()
    }

    async fn time(&self) -> Result<u64, Fault> {
        self.reader.run(&BatchRead::new(), At::Latest).await.map(|answers| answers.timestamp)
    }
}

#[tokio::test]
async fn a_read_goes_to_the_next_endpoint_if_one_fails_and_stays_there() {
    let scene = Scene::new(0);
    let time = scene.time().await;
    assert!(time.is_ok(), "{time:?}");
    assert_eq!((scene.one.round_trips(), scene.two.round_trips()), (1, 0));
    scene.one.set_down(true);
    for _ in 0..3 {
        assert_eq!(scene.time().await, time);
    }
    assert_eq!((scene.one.round_trips(), scene.two.round_trips()), (2, 3));
    // The first is back, and nobody asks it before the second fails.
    scene.one.set_down(false);
    scene.two.set_down(true);
    assert_eq!(scene.time().await, time);
    scene.one.set_down(true);
    assert!(matches!(scene.time().await, Err(Fault::Unreachable { .. })));
    assert!(matches!(Scene::none().await, Err(Fault::Unreachable { .. })));
}

impl Scene {
    async fn none() -> Result<u64, Fault> {
        let chain = RpcChain::new(endpoints(&[]), "eip155:84532".parse().unwrap(), 0);
        chain.run(&BatchRead::new(), At::Latest).await.map(|answers| answers.timestamp)
    }
}

#[tokio::test]
async fn a_transaction_goes_to_one_endpoint_and_to_the_next_if_that_does_not_take_it() {
    let scene = Scene::new(0);
    let attempts = [scene.attempt(0).await, scene.attempt(1).await, scene.attempt(2).await];
    let before = scene.two.round_trips();
    scene.reader.send_transaction(&attempts[0].bytes).await.unwrap();
    assert_eq!(scene.two.round_trips(), before);
    for (refusal, down, attempt) in [(Some("txpool is full"), false, 1), (None, true, 2)] {
        scene.one.set_refusal(refusal);
        scene.one.set_down(down);
        scene.reader.send_transaction(&attempts[attempt].bytes).await.unwrap();
    }
    scene.chain.mine(1);
    assert_eq!(scene.chain.nonce_of(x402_devchain::ACCOUNTS[0].address), 3);
}

/// It was refused only if every endpoint refused it: one that did not answer may have taken it.
#[tokio::test]
async fn a_refusal_is_one_of_all_endpoints() {
    let scene = Scene::new(0);
    let attempt = scene.attempt(0).await;
    let poor = "insufficient funds for gas * price + value";
    scene.one.set_refusal(Some(poor));
    scene.two.set_refusal(Some(poor));
    let refused = scene.reader.send_transaction(&attempt.bytes).await.unwrap_err();
    assert!(matches!(refused, Fault::NotTaken { why: NotTaken::NoGasFunds, .. }), "{refused}");
    scene.one.set_down(true);
    let unknown = scene.reader.send_transaction(&attempt.bytes).await.unwrap_err();
    assert!(matches!(unknown, Fault::Unreachable { .. }), "{unknown}");
}

/// The fault has both hashes; nothing is final beyond the last block on which they agreed, and all goes on when they agree.
#[tokio::test]
async fn two_endpoints_that_disagree_stop_the_head() {
    for depth in [0, 2] {
        let scene = Scene::new(depth);
        let agreed = scene.reader.poll().await.unwrap();
        scene.two.set_lying(true);
        assert_eq!(scene.reader.poll().await.unwrap(), agreed, "no new block, no question");
        scene.chain.mine(1);
        let fault = scene.reader.poll().await.unwrap_err();
        let words = fault.to_string();
        let number = agreed.finalized + 1;
        assert!(words.contains(&format!("two endpoints disagree: block {number} is 0x")), "{words}");
        assert!(scene.reader.poll().await.is_err());
        assert_eq!(scene.reader.head().await.unwrap().finalized, agreed.finalized);
        scene.two.set_lying(false);
        assert_eq!(scene.reader.poll().await.unwrap().finalized, number);
    }
}

#[tokio::test]
async fn an_endpoint_that_lags_or_is_away_does_not_object() {
    let scene = Scene::new(0);
    scene.two.set_lying(true);
    scene.two.set_behind(1);
    scene.chain.mine(1);
    assert_eq!(scene.reader.poll().await.unwrap().number, scene.chain.block_number());
    scene.two.set_down(true);
    scene.chain.mine(1);
    assert_eq!(scene.reader.poll().await.unwrap().number, scene.chain.block_number());
    scene.reader.check_network().await.unwrap();
}

#[tokio::test]
async fn an_endpoint_of_another_network_is_named() {
    let scene = Scene::new(0);
    let other = DevChain::builder().chain_id(1).block_time(MiningMode::Manual).build().unwrap();
    let clients = vec![scene.one.client(), other.client()];
    let reader = RpcChain::new(endpoints(&clients), "eip155:84532".parse().unwrap(), 0).with_compared(clients);
    let fault = reader.check_network().await.unwrap_err().to_string();
    assert!(fault.contains("endpoint 2 serves eip155:1, not eip155:84532"), "{fault}");
}
