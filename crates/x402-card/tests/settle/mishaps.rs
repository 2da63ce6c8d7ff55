//! Every mishap of every call: the card is charged once at most, and counters, credits and the money book agree.

use x402_card::double::Mishap;
use x402_types::Claim;

use crate::shop::*;

const MISHAPS: [Mishap; 9] = [
    Mishap::LostBefore,
    Mishap::LostAfter,
    Mishap::Status500Before,
    Mishap::Status500After,
    Mishap::Conflict,
    Mishap::TooMany,
    Mishap::Cut,
    Mishap::Garbled,
    Mishap::Stale,
];

/// The end of a payment, and that everything agrees on it.
pub async fn judge(shop: &Shop, claim: &Claim, id: &x402_card::DelegationId, what: &str) -> bool {
    let book = shop.double.book();
    let row = shop.row(&shop.settlement.key(claim).unwrap()).await;
    let settled = matches!(row.answer, Some(Ok(_)));
    let charged = book.charged();
    match &row.answer {
        Some(Ok(_)) => {
            assert_eq!((book.debits.len(), charged), (1, 700), "{what}");
            assert_eq!(shop.credits("user-7", 1001).await, 7, "{what}");
        }
        Some(Err(reason)) => {
            assert_eq!(charged, 0, "{what}: {reason}");
            assert_eq!(shop.credits("user-7", 1001).await, 0, "{what}");
        }
        None => panic!("{what}: no end: {row:?}"),
    }
    assert_eq!(shop.counted(id).await, (charged, u64::from(settled)), "{what}");
    settled
}

#[tokio::test]
async fn a_mishap_of_a_call_charges_once_or_not_at_all() {
    for (method, path) in [("POST", "/v1/payment_intents"), ("POST", "/confirm"), ("GET", "/v1/payment_intents")] {
        for mishap in MISHAPS {
            for nth in 1..=3 {
                let shop = Shop::new();
                let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
                shop.double.fail(method, path, nth, mishap);
                let claim = shop.claim(&token, 1001, 3, "a");
                // A day and a half: what an idempotency key has kept is forgotten by then.
                let outcome = shop.settle_for(&claim, 130_000).await.unwrap();
                let what = format!("{method} {path} {nth} {mishap:?}: {outcome:?}");
                let settled = judge(&shop, &claim, &id, &what).await;
                // A creation that answers 500 for a day is given up after 15 minutes; all else is made.
                let given_up = (path, mishap) == ("/v1/payment_intents", Mishap::Status500Before) && method == "POST";
                assert!(settled || given_up, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_lost_confirmation_is_looked_for_before_it_is_repeated() {
    for (mishap, confirmations) in [(Mishap::LostAfter, 1), (Mishap::LostBefore, 2)] {
        let shop = Shop::new();
        let (_, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
        shop.double.fail("POST", "/confirm", 1, mishap);
        let claim = shop.claim(&token, 1001, 3, "a");
        receipt(&shop.settle(&claim).await);
        assert_eq!((shop.changes("/confirm"), shop.double.book().debits.len()), (confirmations, 1));
        // Between two confirmations there is a look-up.
        let calls = shop.double.requests();
        let confirmed = shop.changed("/confirm");
        assert!(confirmed.windows(2).all(|pair| calls[pair[0]..pair[1]].iter().any(|call| call.method == "GET")));
    }
}

/// A 500 is repeated under its key for a day: the confirmation takes another key, after a look-up, and then gives up.
#[tokio::test]
async fn a_repeated_500_takes_one_further_key_and_ends() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    shop.double.fail("POST", "/confirm", 1, Mishap::Status500Before);
    let claim = shop.claim(&token, 1001, 3, "a");
    receipt(&shop.settle(&claim).await);
    let calls = shop.double.requests();
    let keys: Vec<String> = shop.changed("/confirm").into_iter().filter_map(|at| calls[at].key.clone()).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].ends_with("-c1") && keys[1].ends_with("-c2"), "{keys:?}");
    let shop = Shop::new();
    let (id_2, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    shop.double.fail("POST", "/confirm", 1, Mishap::Status500Before);
    shop.double.fail("POST", "/confirm", 2, Mishap::Status500Before);
    let claim = shop.claim(&token, 1001, 3, "a");
    assert_eq!(failed(shop.settle(&claim).await), "PAYMENT_FAILED");
    assert_eq!((shop.double.book().debits.len(), shop.changes("/cancel")), (0, 1));
    assert_eq!((shop.counted(&id).await, shop.counted(&id_2).await).1, (0, 0));
}

#[tokio::test]
async fn a_mishap_of_the_cancel_or_the_refund_ends_the_same() {
    use x402_card::stores::{Books as _, CreditMove, MoveKind};
    for mishap in MISHAPS {
        for nth in 1..=2 {
            let shop = Shop::new();
            let (id, token) = shop.delegate("user-7", "pm_card_visa_chargeDeclined", 2_000).await;
            shop.double.fail("POST", "/cancel", nth, mishap);
            let claim = shop.claim(&token, 1001, 3, "a");
            assert_eq!(failed(shop.settle_for(&claim, 130_000).await), "CARD_DECLINED", "{mishap:?}");
            assert_eq!((shop.counted(&id).await, shop.double.book().debits.len()), ((0, 0), 0));

            let shop = Shop::new();
            let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
            let one = CreditMove::new("given".to_owned(), plan_id(1005), "user-7".to_owned(), 1, MoveKind::Mint);
            shop.stores.post(&one).await.unwrap();
            shop.double.fail("POST", "/v1/refunds", nth, mishap);
            let claim = shop.claim(&token, 1005, 2, "a");
            assert_eq!(failed(shop.settle_for(&claim, 130_000).await), "MINT_FAILED", "{mishap:?}");
            let book = shop.double.book();
            assert_eq!((book.charged(), book.refunded(), shop.counted(&id).await), (0, 700, (0, 0)), "{mishap:?}");
        }
    }
}

/// The processor refuses every cancellation. The intent is never final, so that the charge ends by what can be known: the
/// card of a declined intent is gone, and no confirmation is sent after the deadline. The count stays until then.
#[tokio::test]
async fn a_charge_whose_cancellation_is_refused_ends() {
    use x402_card::stores::{ChargeResult, ChargeState};
    use x402_facilitator_core::Outcome;
    const QUARTER: u64 = 15 * 60;
    const DAY: u64 = 86_400;
    for (method, confirms, code, after) in [
        // Two confirmations that were not executed, and a cancellation: the three parcels of a step.
        ("pm_card_visa", 2, "PAYMENT_FAILED", QUARTER + DAY),
        ("pm_card_visa_chargeDeclined", 0, "CARD_DECLINED", QUARTER),
    ] {
        let shop = Shop::new();
        let (id, token) = shop.delegate("user-7", method, 2_000).await;
        (1..=confirms).for_each(|nth| shop.double.fail("POST", "/confirm", nth, Mishap::Status500Before));
        (1..=9).for_each(|nth| shop.double.fail("POST", "/cancel", nth, Mishap::Refused));
        let claim = shop.claim(&token, 1001, 3, "a");
        let early = shop.settle_for(&claim, after - 700).await;
        assert!(matches!(early, Ok(Outcome::Pending { .. })), "{method}: {early:?}");
        assert_eq!(shop.counted(&id).await, (700, 1), "{method}: unknown is counted");
        assert_eq!(failed(shop.settle_for(&claim, 130_000).await), code, "{method}");
        assert!(shop.now().0 >= START + after, "{method}");
        assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "release"], "{method}");
        let charge = shop.charges(&id).await.remove(0);
        assert_eq!((charge.state, charge.end.unwrap().result), (ChargeState::Released, ChargeResult::Failed));
        assert_eq!((shop.counted(&id).await, shop.double.book().debits.len()), ((0, 0), 0), "{method}");
        assert!((1..=3).contains(&shop.changes("/cancel")), "{method}: {}", shop.changes("/cancel"));
    }
}

/// Another party cancels the intent whose cancellation was refused: the payment ends at once.
#[tokio::test]
async fn a_refused_cancellation_ends_with_the_intent() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    (1..=2).for_each(|nth| shop.double.fail("POST", "/confirm", nth, Mishap::Status500Before));
    (1..=9).for_each(|nth| shop.double.fail("POST", "/cancel", nth, Mishap::Refused));
    let claim = shop.claim(&token, 1001, 3, "a");
    shop.settle_for(&claim, 3_000).await.unwrap();
    assert_eq!(shop.counted(&id).await, (700, 1));
    shop.double.recover();
    let mut cancel = shop.double.requests()[shop.changed("/cancel")[0]].clone();
    cancel.key = None;
    assert_eq!(shop.double.handle(&cancel, shop.now()).unwrap().status, 200);
    let before = shop.now();
    assert_eq!(failed(shop.settle_for(&claim, 3_000).await), "PAYMENT_FAILED");
    assert!(shop.now() < before.plus(700));
    assert_eq!((shop.counted(&id).await, shop.double.book().debits.len()), ((0, 0), 0));
}

/// The processor refuses the refund each time, and each time the process dies before it has noted that. A day later the
/// list of refunds has none: the charge is owed.
#[tokio::test]
async fn a_refund_whose_refusals_were_forgotten_is_owed() {
    use x402_card::stores::{Books as _, ChargeResult, ChargeState, CreditMove, MoveKind};
    let mut shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let one = CreditMove::new("given".to_owned(), plan_id(1005), "user-7".to_owned(), 1, MoveKind::Mint);
    shop.stores.post(&one).await.unwrap();
    (1..=9).for_each(|nth| shop.double.fail("POST", "/v1/refunds", nth, Mishap::Refused));
    let claim = shop.claim(&token, 1005, 2, "a");
    let request = shop.settlement.begin_request().named();
    shop.settlement.settle(&request, &claim, shop.now()).await.unwrap();
    let key = shop.settlement.key(&claim).unwrap();
    drop(request);
    let mut sent = 0;
    for _ in 0..400 {
        shop.round(&key).await;
        let refunds = shop.double.count("POST", "/v1/refunds");
        if refunds > sent {
            sent = refunds;
            shop.restart();
        }
    }
    assert!(sent >= 3, "{sent}");
    shop.wait(15 * 60 + 86_400);
    assert_eq!(failed(shop.settle_for(&claim, 6_000).await), "MINT_FAILED");
    let charge = shop.charges(&id).await.remove(0);
    assert_eq!((charge.state, charge.end.unwrap().result), (ChargeState::Counted, ChargeResult::Owed));
    assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (700, (700, 1)));
}
