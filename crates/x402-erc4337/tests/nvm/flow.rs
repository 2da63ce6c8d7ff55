//! §4.1, branch by branch.

use std::sync::Arc;

use alloy_primitives::U256;
use x402_devchain::{ACCOUNTS, DevPlan, Orphans, PLANS};
use x402_erc4337::nvm::{NvmPolicy, ORDER};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion, issue};
use x402_facilitator_core::{Outcome, Receipt, StepState};
use x402_types::nvm::{Code, RequestProof, SessionKey};
use x402_types::{Claim, RawJson, Refusal};

use crate::stage::*;

pub(crate) fn receipt(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Settled { receipt, .. } => receipt,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn names(stage: &Stage, claim: &x402_types::Claim) -> Vec<String> {
    let steps = stage.row(claim).steps;
    steps
        .iter()
        .map(|step| {
            let state = match step.state {
                StepState::Proven(_) => "proven",
                StepState::Dead(_) => "dead",
                _ => "open",
            };
            format!("{} {state}", step.name)
        })
        .collect()
}

#[tokio::test]
async fn enough_balance_is_redeemed_alone() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.verify(&claim).await.unwrap();
    assert_eq!(stage.credits(), 10, "verification moves nothing");
    let receipt = receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(stage.credits(), 7);
    assert_eq!(names(&stage, &claim), ["redeem proven"]);
    assert_eq!(receipt.extra.text("creditsRedeemed").as_deref(), Some("3"));
    assert_eq!(receipt.extra.text("remainingBalance").as_deref(), Some("7"));
    assert_eq!(receipt.extra.get("orderTx"), None);
}

#[tokio::test]
async fn short_of_credits_it_orders_and_then_redeems() {
    let stage = stage().await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.verify(&claim).await.unwrap();
    let receipt = receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(names(&stage, &claim), ["order proven", "redeem proven"]);
    assert_eq!(stage.credits(), 7, "one order of 10, 3 redeemed");
    assert_eq!(receipt.extra.text("creditsRedeemed").as_deref(), Some("3"));
    assert!(receipt.extra.text("orderTx").is_some_and(|tx| Some(tx) != receipt.transaction.map(|tx| tx.to_string())));
    assert_eq!(stage.chain.transfers().len(), 1, "one payment to the seller");
    assert_eq!(stage.chain.transfers()[0].to, x402_devchain::ACCOUNTS[SELLER].address);
}

#[tokio::test]
async fn short_of_credits_without_an_order_key_is_insufficient() {
    let stage = stage().await;
    let rejection = stage.refused(&stage.draft(1, 3).await.sign()).await;
    assert_eq!(rejection.reason, Code::InsufficientBalance.reason());
    let detail = |name| rejection.details.text(name).unwrap();
    assert_eq!(detail("clientAddress"), stage.account.address().to_string());
    assert_eq!((&*detail("requiredBalance"), &*detail("currentBalance")), ("3", "0"));
    assert_eq!(rejection.payer.as_deref(), Some(&*stage.account.address().to_string()));
}

/// Step 15: "IF the `order` UserOperation verification is INVALID, the Facilitator returns an error to the server".
#[tokio::test]
async fn an_order_that_cannot_be_executed_is_refused_and_nothing_is_sent() {
    let stage = stage().await;
    let poor = stage.draft_with_order(1, 3).await.sign();
    let account = stage.account.address();

    // Its operation is valid, and its call reverts: the account has one unit less than the price.
    stage.chain.set_balance_of(account, U256::from(PRICE - 1));
    let rejection = stage.refused(&poor).await;
    assert_eq!(rejection.reason, Code::InvalidUserOperation.reason());
    assert!(rejection.message.as_deref().unwrap().starts_with("order: "), "{rejection}");
    // Asked to settle, it finds the same, and sends nothing either.
    let refusal = stage.settle(&poor).await.unwrap_err();
    let Refusal::Rejection(again) = refusal else { panic!("{refusal:?}") };
    assert_eq!(again, rejection);
    assert!(stage.ledger.all_payments().is_empty());
    assert_eq!((stage.chain.transfers().len(), stage.orders(), stage.credits()), (0, 0, 0));

    // Its operation is not valid: the account lets the key send one, and that was the first order.
    stage.chain.set_balance_of(account, U256::from(2 * PRICE));
    let mut draft = stage.draft(2, 8).await;
    draft.keys.insert(0, stage.key("order", &order_grant(10).times(1)).await);
    receipt(stage.settle(&draft.sign()).await.unwrap());
    draft.proof = draft.proof.map(|proof| RequestProof { nonce: [3; 32], ..proof });
    let rejection = stage.refused(&draft.sign()).await;
    assert_eq!(rejection.reason, Code::InvalidUserOperation.reason());
    assert!(rejection.message.as_deref().unwrap().starts_with("order: operation 0: AA23"), "{rejection}");
    assert_eq!((stage.chain.transfers().len(), stage.orders(), stage.credits()), (1, 1, 2));
}

#[tokio::test]
async fn an_order_serves_the_payments_after_it() {
    let stage = stage().await;
    for (nonce, left) in [(1, 6), (2, 2), (3, 8)] {
        let claim = stage.draft_with_order(nonce, 4).await.sign();
        receipt(stage.settle(&claim).await.unwrap());
        assert_eq!(stage.credits(), left);
        let expected: &[&str] = if nonce == 2 { &["redeem proven"] } else { &["order proven", "redeem proven"] };
        assert_eq!(names(&stage, &claim), expected, "{nonce}");
    }
    assert_eq!(stage.chain.transfers().len(), 2);
}

/// Step 12 in both forms: the account is there, or the order's operation makes it.
#[tokio::test]
async fn the_first_operation_makes_the_account_where_factories_are_allowed() {
    let closed = Setup { deployed: false, ..Setup::default() }.build().await;
    let draft = closed.draft_with_order(1, 3).await;
    let wrapped = closed.wrapped(&draft);
    assert_eq!(closed.refused(&draft.signed(wrapped.clone())).await.reason, Code::InvalidSignature.reason());
    assert_eq!(closed.refused(&draft.sign()).await.reason, Code::InvalidPayload.reason(), "no code and no EIP-6492");

    let open = Setup { deployed: false, policy: NvmPolicy::default().with_kernel_factories(), ..Setup::default() };
    let stage = open.build().await;
    let claim = draft.signed(wrapped);
    stage.verify(&claim).await.unwrap();
    receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(names(&stage, &claim), ["order proven", "redeem proven"]);
    assert_eq!(stage.credits(), 7);
    // The same bytes once it is there; and what is not wrapped.
    receipt(stage.settle(&stage.draft(2, 3).await.sign()).await.unwrap());
    assert_eq!(stage.credits(), 4);
}

#[tokio::test]
async fn pay_as_you_go_is_paid_by_the_order() {
    let plan = DevPlan::pay_as_you_go(ACCOUNTS[SELLER].address, PRICE);
    let stage = Setup { plan, ..Setup::default() }.build().await;
    let mut draft = stage.draft(1, 1).await;
    let refused = stage.refused(&draft.sign()).await;
    assert_eq!(refused.reason, Code::InsufficientBalance.reason());
    draft.keys.insert(0, stage.key("order", &use_grant()).await);
    let claim = draft.sign();
    let receipt = receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(names(&stage, &claim), ["order proven"]);
    assert_eq!(receipt.extra.text("creditsRedeemed").as_deref(), Some("0"));
    assert_eq!(receipt.extra.text("orderTx"), receipt.transaction.map(|tx| tx.to_string()));
    assert_eq!(stage.chain.transfers().len(), 1);
}

#[tokio::test]
async fn one_key_may_serve_order_and_redemption() {
    let stage = stage().await;
    let mut draft = stage.draft(1, 3).await;
    let both = stage.key("redeem", &order_grant(10).call(PLANS, selector(BURN))).await;
    let order = SessionKey::with_data("order", both.data().unwrap());
    draft.keys = vec![order, both];
    let claim = draft.sign();
    stage.verify(&claim).await.unwrap();
    receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(names(&stage, &claim), ["order proven", "redeem proven"]);
}

#[tokio::test]
async fn a_v2_token_pays_once_a_request() {
    let stage = stage().await;
    stage.give(1).await;
    let mut draft = stage.draft(1, 3).await;
    draft.proof = None;
    let first = draft.sign();
    receipt(stage.settle(&first).await.unwrap());
    // The same request: the stored answer. Another one: another redemption.
    assert!(matches!(stage.settle(&first).await.unwrap(), Outcome::Settled { replayed: true, .. }));
    draft.identity.request = "another".to_owned();
    receipt(stage.settle(&draft.sign()).await.unwrap());
    draft.identity.caller = "elsewhere".to_owned();
    receipt(stage.settle(&draft.sign()).await.unwrap());
    assert_eq!(stage.credits(), 1);
}

#[tokio::test]
async fn a_v3_token_pays_once() {
    let stage = stage().await;
    stage.give(1).await;
    let mut draft = stage.draft(1, 3).await;
    let first = draft.sign();
    receipt(stage.settle(&first).await.unwrap());
    draft.identity.request = "another".to_owned();
    let second = draft.sign();
    assert!(matches!(stage.settle(&second).await.unwrap(), Outcome::Duplicate { .. }));
    assert!(matches!(stage.verify(&second).await, Err(Refusal::Rejection(_))));
    // The same id with another amount is another payment under its name.
    draft.identity = first.identity.clone();
    draft.amount = 2;
    assert!(matches!(stage.settle(&draft.sign()).await.unwrap(), Outcome::Duplicate { .. }));
    assert_eq!(stage.credits(), 7);
}

#[tokio::test]
async fn two_settlements_of_one_request_at_once_redeem_once() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft(1, 3).await.sign();
    let (one, two) = (stage.settlement.begin_request(), stage.settlement.begin_request());
    let now = stage.now();
    assert!(matches!(stage.settlement.settle(&one, &claim, now).await.unwrap(), Outcome::Pending { .. }));
    assert!(matches!(stage.settlement.settle(&two, &claim, now).await.unwrap(), Outcome::Duplicate { .. }));
    stage.work(60).await;
    assert!(matches!(
        stage.settlement.look(&one, &stage.key_of(&claim)).await.unwrap(),
        Outcome::Settled { replayed: false, .. }
    ));
    assert_eq!(stage.credits(), 7);
}

/// "One order in flight per (network, account, plan)": the second sees the credits of the first.
#[tokio::test]
async fn two_payments_at_once_order_once() {
    let stage = stage().await;
    // Different order keys: nothing on the chain would stop the second.
    let first = stage.draft_with_order(1, 5).await;
    let mut second = stage.draft_with_order(2, 5).await;
    second.keys[0] = stage.key("order", &order_grant(9)).await;
    for draft in [&first, &second] {
        let call = stage.settlement.begin_request();
        stage.settlement.settle(&call, &draft.sign(), stage.now()).await.unwrap();
    }
    stage.work(100).await;
    let mut steps = [names(&stage, &first.sign()), names(&stage, &second.sign())];
    steps.sort_by_key(Vec::len);
    assert_eq!(steps, [vec!["redeem proven"], vec!["order proven", "redeem proven"]]);
    assert_eq!((stage.credits(), stage.chain.transfers().len()), (0, 1));
}

/// "Balances … count redeems in flight."
#[tokio::test]
async fn what_is_under_way_counts_beside_the_balance() {
    let stage = stage().await;
    stage.give(1).await;
    let (first, second) = (stage.draft(1, 6).await.sign(), stage.draft(2, 6).await.sign());
    stage.settlement.settle(&stage.settlement.begin_request(), &first, stage.now()).await.unwrap();
    let rejection = stage.refused(&second).await;
    assert_eq!(rejection.reason, Code::InsufficientBalance.reason());
    assert_eq!(rejection.details.text("currentBalance").as_deref(), Some("4"));
    // Another request of a bearer token counts alike.
    let bearer = Draft { proof: None, amount: 4, ..stage.draft(3, 6).await }.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &bearer, stage.now()).await.unwrap();
    assert_eq!(stage.refused(&second).await.details.text("currentBalance").as_deref(), Some("0"));
    stage.work(60).await;
    assert_eq!(stage.credits(), 0);
}

/// Two that both were claimed on the same credits: one is paid, the other fails; neither waits for the other.
#[tokio::test]
async fn two_claims_on_the_same_credits_have_one_winner() {
    let stage = stage().await;
    stage.give(1).await;
    let claims = [stage.draft(1, 6).await.sign(), stage.draft(2, 6).await.sign()];
    let mut verified = Vec::new();
    for claim in &claims {
        verified.push(stage.settlement.verify(claim, stage.now()).await.unwrap());
    }
    for verified in verified {
        stage.settlement.claim(&stage.settlement.begin_request(), verified, stage.now()).await.unwrap();
    }
    stage.work(100).await;
    let answers: Vec<_> = claims.iter().map(|claim| stage.row(claim).answer.unwrap().is_ok()).collect();
    assert!(answers == [true, false] || answers == [false, true], "{answers:?}");
    assert_eq!(stage.credits(), 4);
}

/// "A redeem that reverts in enable mode is retried in default mode", under another slot.
#[tokio::test]
async fn a_redemption_that_reverts_while_it_enables_is_made_in_default_mode() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft(1, 3).await.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
    stage.plan_only().await;
    // The owner spends the credits before it lands.
    stage.owner_burns(10).await;
    stage.carry_only().await;
    stage.give(1).await;
    stage.work(60).await;
    assert_eq!(names(&stage, &claim), ["redeem dead", "redeem proven"]);
    let once_keys: Vec<_> =
        stage.row(&claim).steps.iter().map(|step| step.once_key.0[step.once_key.0.len() - 32]).collect();
    assert_eq!(once_keys, [1, 0], "the mode is the first byte of the nonce key");
    assert_eq!(stage.credits(), 7);
}

/// Somebody else lands our operation first.
#[tokio::test]
async fn an_operation_in_another_s_transaction_counts() {
    let stage = stage().await;
    stage.give(1).await;
    let claim = stage.draft(1, 3).await.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
    stage.plan_only().await;
    let parcel = stage.row(&claim).steps[0].parcels[0].clone();
    let call = x402_evm::chain::Call::from_bytes(&parcel.bytes).unwrap();
    let theirs = stage.send(7, call.to, call.data).await;
    stage.work(60).await;
    let receipt = stage.row(&claim).answer.unwrap().unwrap();
    assert_eq!(receipt.transaction.unwrap().as_str(), theirs.to_string());
    assert_eq!(stage.credits(), 7);
}

/// After the order a redemption for which credits are missing waits until the key ends, and then has failed.
#[tokio::test]
async fn an_order_without_redemption_fails_when_the_key_ends() {
    let stage = stage().await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.ordered(&claim).await;
    stage.owner_burns(10).await;
    stage.work(20).await;
    assert_eq!((names(&stage, &claim), stage.row(&claim).answer), (vec!["order proven".to_owned()], None));
    stage.chain.set_time(UNTIL);
    stage.chain.mine(1);
    stage.work(5).await;
    let row = stage.row(&claim);
    assert_eq!(row.answer, Some(Err(Code::SettlementFailed.reason())));
    assert!(row.proven(&ORDER).is_some(), "the order's transaction is kept");
}

/// "`/settle` with the same id runs redeem alone."
#[tokio::test]
async fn a_failed_settlement_is_reopened_for_the_redemption_alone() {
    let stage = stage().await;
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.ordered(&claim).await;
    // Three operations land and revert: each time the credits are gone before.
    for _ in 0..3 {
        let credits = stage.credits();
        stage.plan_only().await;
        stage.owner_burns(credits).await;
        stage.carry_only().await;
        stage.give(1).await;
        stage.plan_only().await;
    }
    assert_eq!(names(&stage, &claim), ["order proven", "redeem dead", "redeem dead", "redeem dead"]);
    assert_eq!(stage.row(&claim).answer, Some(Err(Code::SettlementFailed.reason())));
    stage.work(10).await;
    let (credits, orders) = (stage.credits(), stage.orders());
    assert_eq!(credits, 10, "it never redeems by itself");

    receipt(stage.settle(&claim).await.unwrap());
    assert_eq!((stage.credits(), stage.orders()), (7, orders));
    assert_eq!(names(&stage, &claim).last().unwrap(), "redeem proven");
    assert_eq!(stage.row(&claim).reopened, 1);
}

/// Keys that are named by their hash.
#[tokio::test]
async fn registered_keys_are_named_by_their_hash() {
    let registered = Arc::new(Registered::default());
    let stage = Setup { keys: Arc::clone(&registered) as _, ..Setup::default() }.build().await;
    stage.give(1).await;
    let draft = stage.draft(1, 3).await;
    let text = draft.keys[0].data().unwrap().to_owned();
    let by_hash = Draft { keys: vec![SessionKey::with_hash("redeem", draft.keys[0].hash())], ..draft.clone() };
    // Both forms sign alike.
    assert_eq!(by_hash.signature(), draft.signature());
    let claim = by_hash.sign();
    let unknown = stage.refused(&claim).await;
    assert_eq!(unknown.reason, Code::InvalidPayload.reason());
    // A key of another account, and a text that the hash is not of: the same answer.
    for (account, text) in [(ACCOUNTS[5].address, text.clone()), (stage.account.address(), format!("{text} "))] {
        registered.put(account, draft.keys[0].hash().into(), &text);
        assert_eq!(stage.refused(&claim).await, unknown);
    }
    registered.put(stage.account.address(), draft.keys[0].hash().into(), &text);
    receipt(stage.settle(&claim).await.unwrap());
}

/// Version 0.2: no `from`, `provider`, and the statement without a binding.
#[tokio::test]
async fn a_payment_of_version_0_2_names_its_account_by_its_keys() {
    let stage = stage().await;
    stage.give(1).await;
    let draft = Draft { proof: None, ..stage.draft_with_order(1, 3).await };
    let old = |claim: &Claim| {
        let mut payload: serde_json::Value = claim.payload.read().unwrap();
        let authorization = payload["authorization"].as_object_mut().unwrap();
        authorization.remove("from").unwrap();
        let provider = authorization.remove("sessionKeysProvider").unwrap();
        authorization.insert("provider".to_owned(), provider);
        claim.clone().with_payload(RawJson::of(&payload).unwrap())
    };
    let claim = old(&draft.sign());
    stage.verify(&claim).await.unwrap();
    receipt(stage.settle(&claim).await.unwrap());
    assert_eq!(stage.credits(), 7);
    // Its key is that of the same payment with its account written out.
    assert_eq!(stage.key_of(&claim), stage.key_of(&draft.sign()));
    // A hash names no account, and two keys must name the same one.
    let hash = SessionKey::with_hash("redeem", draft.keys[1].hash());
    let hashed = Draft { keys: vec![draft.keys[0].clone(), hash], ..draft.clone() };
    let other = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, alloy_primitives::U256::from(1));
    let session = ACCOUNTS[SESSION].address;
    let other = issue(&key_of(OWNER), &other, session, &order_grant(1), CHAIN, 1).await.unwrap();
    let mixed = Draft { keys: vec![SessionKey::with_data("order", &other.write()), draft.keys[1].clone()], ..draft };
    for draft in [hashed, mixed] {
        let rejection = stage.settlement.key(&old(&draft.sign())).unwrap_err();
        assert_eq!(rejection.reason, Code::InvalidPayload.reason());
    }
}

/// Nothing is proven before it is final.
#[tokio::test]
async fn an_order_is_waited_for_until_it_is_final() {
    let stage = Setup { depth: 3, ..Setup::default() }.build().await;
    stage.chain.mine(3);
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
    while stage.orders_at_head() == 0 {
        stage.round().await;
    }
    let landed = stage.chain.block_number();
    while stage.row(&claim).proven(&ORDER).is_none() {
        assert_eq!(stage.row(&claim).steps.len(), 1, "nothing follows what is not final");
        stage.work(1).await;
    }
    assert!(stage.chain.block_number() >= landed + 3);
    stage.work(100).await;
    assert_eq!(names(&stage, &claim), ["order proven", "redeem proven"]);
    assert_eq!(stage.credits(), 7);
}

/// The order is taken back by a reorganisation and lands again: still one order.
#[tokio::test]
async fn a_reorganisation_orders_no_second_time() {
    let stage = Setup { depth: 3, ..Setup::default() }.build().await;
    stage.chain.mine(3);
    let claim = stage.draft_with_order(1, 3).await.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
    while stage.orders_at_head() == 0 {
        stage.round().await;
    }
    stage.chain.reorg(1, Orphans::Drop).unwrap();
    assert_eq!(stage.orders_at_head(), 0);
    stage.work(200).await;
    stage.chain.mine(3);
    assert_eq!(names(&stage, &claim), ["order proven", "redeem proven"]);
    assert_eq!((stage.orders(), stage.credits()), (1, 7));
}

/// "`/supported` lists the session signer."
#[tokio::test]
async fn the_session_signer_is_named() {
    let stage = stage().await;
    let [kind] = stage.settlement.kinds() else { panic!() };
    assert_eq!((kind.scheme.as_str(), kind.network.as_str()), ("nvm:erc4337", "eip155:84532"));
    let signer = kind.extra.text("sessionSigner").unwrap();
    assert_eq!(signer, ACCOUNTS[SESSION].address.to_string());
}

/// "A permission's first operation flies alone; later ones take lanes of the nonce key."
#[tokio::test]
async fn one_key_serves_many_payments_side_by_side_once_it_is_enabled() {
    let stage = stage().await;
    stage.give(2).await;
    let claims = async |nonces: core::ops::Range<u8>| {
        let mut claims = Vec::new();
        for nonce in nonces {
            let claim = stage.draft(nonce, 2).await.sign();
            stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
            claims.push(claim);
        }
        claims
    };
    // Nothing is enabled: one of them goes, the others wait for it.
    let first = claims(1..4).await;
    stage.plan_only().await;
    let planned = |claims: &[Claim]| claims.iter().filter(|claim| !stage.row(claim).steps.is_empty()).count();
    assert_eq!(planned(&first), 1);
    stage.work(100).await;
    assert_eq!((stage.credits(), first.len()), (14, 3));
    // Now they go together, in slots of their own.
    let second = claims(4..8).await;
    stage.plan_only().await;
    assert_eq!(planned(&second), second.len());
    let slots: std::collections::BTreeSet<_> =
        second.iter().map(|claim| stage.row(claim).steps[0].once_key.clone()).collect();
    assert_eq!(slots.len(), second.len());
    stage.work(100).await;
    assert_eq!(stage.credits(), 6);
    for claim in first.iter().chain(&second) {
        assert_eq!(names(&stage, claim), ["redeem proven"]);
    }
}
