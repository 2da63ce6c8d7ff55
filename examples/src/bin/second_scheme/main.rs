//! A scheme of one's own, from outside of the crates: `collect.rs` has all of it, one line here plugs it in. It is paid
//! once on a chain in this process.

mod collect;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use x402_devchain::{ACCOUNTS, DevChain, key};
use x402_evm::chain::RpcChain;
use x402_evm::rail::EoaRail;
use x402_facilitator_core::{Ledger, MemoryLedger, Outcome, OwnerId, Settlement};
use x402_http::client::{Clock, SystemClock};
use x402_types::{ChainId, Claim, MakePayment, SigningContext, UnixSeconds};

use collect::Collect;

const BUYER: usize = 1;
const SELLER: usize = 2;
const PRICE: u64 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let chain = DevChain::new()?;
    let (buyer, seller) = (ACCOUNTS[BUYER].address, ACCOUNTS[SELLER].address);
    let before = [buyer, seller].map(|account| chain.balance_of(account));
    let now = UnixSeconds(chain.time());

    // The facilitator: rail, ledger and machine are those of every other scheme.
    let network = ChainId::eip155(chain.chain_id());
    let reader = Arc::new(RpcChain::new(chain.client(), network, 0).with_freshness(Duration::ZERO));
    let rail = Arc::new(EoaRail::new(Arc::clone(&reader), key(SELLER).ok_or("no such account")?)?);
    let lane = rail.lane().clone();
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(0)));
    let collect = Collect::new(reader, rail.address(), lane.clone())?;
    let settlement = Settlement::new(OwnerId::from("this run"), Arc::clone(&ledger) as _)
        .with_rail(rail)?
        .with_mechanism(Arc::new(collect))?;

    // The seller asks, the buyer signs.
    let offer = collect::requirements(network, seller, "$0.01".parse()?)?;
    let entropy = SystemClock.entropy().ok_or("no randomness")?;
    let context = SigningContext { now, entropy, url: "https://shop.example/paid", method: "GET" };
    let payer = collect::Payer::new(key(BUYER).ok_or("no such account")?);
    let made = payer.make_payment(&offer.terms, &context).await?;
    let claim = Claim::of_payload(offer.terms, made.payload);

    // Verified, claimed, and worked until it has its end. A facilitator's process has a loop for this.
    let request = settlement.begin_request();
    let mut outcome = settlement.settle(&request, &claim, now).await?;
    let key = settlement.key(&claim)?;
    let lease = ledger.lease(&lane, settlement.owner(), 60).await?.ok_or("the lane has another worker")?;
    for _ in 0..10 {
        if outcome.is_final() {
            break;
        }
        settlement.advance(&lease, &key, now).await?;
        settlement.carry(&lease, now).await?;
        outcome = settlement.look(&request, &key).await?;
    }

    let Outcome::Settled { receipt, replayed: false } = &outcome else { return Err(format!("{outcome:?}").into()) };
    let transfer = chain.transfers().pop().ok_or("the chain has no transfer")?;
    assert_eq!(receipt.transaction.as_ref().map(|tx| tx.as_str()), Some(&*transfer.transaction.to_string()));
    assert_eq!((transfer.from, transfer.to, transfer.value), (buyer, seller, U256::from(PRICE)));
    let after = [before[0] - U256::from(PRICE), before[1] + U256::from(PRICE)];
    assert_eq!([buyer, seller].map(|account| chain.balance_of(account)), after);
    assert!(settlement.verify(&claim, now).await.is_err(), "a payment that was made is good no more");
    println!("{seller} collected {PRICE} in {}", transfer.transaction);
    Ok(())
}
