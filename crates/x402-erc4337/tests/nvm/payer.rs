//! Why the client's half pays an entry or not.

use alloy_primitives::{Address, U256};
use x402_devchain::{ACCOUNTS, PLANS, TOKEN, signer};
use x402_erc4337::nvm::{Payer, Plan, PlanCalls, Plans};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_types::nvm::Requirements;
use x402_types::{AtomicAmount, ChainId, MakePayment, SchemeName, SigningContext, Terms, UnixSeconds};

use crate::stage::{CHAIN, CREDITS, OWNER, PLAN, PRICE, SESSION, START, URL};

fn payer(listed: Vec<Address>) -> Payer<alloy_signer_local::PrivateKeySigner> {
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
    let plan = Plan {
        id: U256::from(PLAN).into(),
        credits: PLANS,
        calls: PlanCalls::fixed(PLANS, PLANS, TOKEN, PLANS),
        price: U256::from(PRICE),
        credits_per_order: U256::from(CREDITS),
        minimum: U256::from(1),
        maximum: U256::from(CREDITS),
    };
    Payer::new(signer(OWNER).unwrap(), account, Plans::new([plan]).unwrap(), listed)
}

fn terms(entry: &Requirements) -> Terms {
    entry.to_terms(AtomicAmount::ZERO).unwrap()
}

#[tokio::test]
async fn the_session_signer_is_the_entrys_or_the_one_that_was_set() {
    let session = ACCOUNTS[SESSION].address;
    let unnamed = Requirements::new(ChainId::eip155(CHAIN), U256::from(PLAN).into());
    let named = unnamed.clone().with_session_signer(&session.to_string());
    let why = |payer: &Payer<_>, entry: &Requirements| {
        let objection = payer.objection(&terms(entry)).map(|objection| objection.message.unwrap().into_string());
        assert_eq!(objection.is_none(), payer.can_pay(&terms(entry)));
        objection.unwrap_or_default()
    };
    let listing = payer(vec![session]);
    assert_eq!(why(&listing, &named), "");
    assert_eq!(
        why(&listing, &unnamed),
        "extra.sessionSigner: the 402 names no session signer, and the client is given none"
    );
    assert_eq!(why(&payer(vec![]), &named), "extra.sessionSigner: not on our list");
    // The one that was set serves entries that name none, and no others.
    let set = payer(vec![]).with_session_signer(session);
    assert_eq!(why(&set, &unnamed), "");
    assert_eq!(why(&set, &named), "extra.sessionSigner: not on our list");
    let context = SigningContext { now: UnixSeconds(START), entropy: [1; 32], url: URL, method: "GET" };
    set.make_payment(&terms(&unnamed), &context).await.unwrap();

    let other = Requirements::new(ChainId::eip155(CHAIN), U256::from(PLAN + 1).into());
    assert_eq!(why(&listing, &other), "accepted.planId: no plan of ours");
    let exact = terms(&named).with_scheme(SchemeName::EXACT);
    assert!(listing.objection(&exact).is_some());
}
