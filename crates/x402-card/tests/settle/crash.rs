//! A crash after every round, with each mishap around it: one charge and one mint, or none.

use x402_card::double::Mishap;
use x402_facilitator_core::Outcome;

use crate::mishaps::judge;
use crate::shop::*;

#[tokio::test]
async fn a_crash_at_every_round_charges_once_or_not_at_all() {
    let mishaps = [
        None,
        Some(Mishap::LostBefore),
        Some(Mishap::LostAfter),
        Some(Mishap::Status500Before),
        Some(Mishap::Status500After),
        Some(Mishap::Conflict),
        Some(Mishap::Cut),
        Some(Mishap::Stale),
    ];
    for (method, path) in [("POST", "/v1/payment_intents"), ("POST", "/confirm"), ("GET", "/v1/payment_intents")] {
        for mishap in mishaps {
            for rounds in 0..12 {
                let mut shop = Shop::new();
                let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
                if let Some(mishap) = mishap {
                    shop.double.fail(method, path, 1, mishap);
                }
                let claim = shop.claim(&token, 1001, 3, "a");
                let request = shop.settlement.begin_request().named();
                let begun = shop.settlement.settle(&request, &claim, shop.now()).await.unwrap();
                assert!(matches!(begun, Outcome::Pending { .. }));
                let key = shop.settlement.key(&claim).unwrap();
                for _ in 0..rounds {
                    shop.round(&key).await;
                }
                drop(request);
                shop.restart();
                let outcome = shop.settle_for(&claim, 130_000).await.unwrap();
                let what = format!("{method} {path} {mishap:?}, crash after {rounds} rounds: {outcome:?}");
                judge(&shop, &claim, &id, &what).await;
                // And after another crash: nothing changes any more.
                let before = (shop.double.book(), shop.counted(&id).await, shop.credits("user-7", 1001).await);
                shop.restart();
                for _ in 0..5 {
                    shop.round(&key).await;
                    shop.wait(100_000);
                }
                assert_eq!(
                    (shop.double.book(), shop.counted(&id).await, shop.credits("user-7", 1001).await),
                    before,
                    "{what}"
                );
            }
        }
    }
}

/// A crash between the answer of the creation and its proof: the intent is found by its metadata, not made again.
#[tokio::test]
async fn an_intent_is_found_after_a_crash() {
    for rounds in 0..8 {
        let mut shop = Shop::new();
        let (_, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
        let claim = shop.claim(&token, 1001, 3, "a");
        let request = shop.settlement.begin_request().named();
        shop.settlement.settle(&request, &claim, shop.now()).await.unwrap();
        let key = shop.settlement.key(&claim).unwrap();
        for _ in 0..rounds {
            shop.round(&key).await;
        }
        drop(request);
        shop.restart();
        receipt(&shop.settle(&claim).await);
        let made = shop
            .double
            .requests()
            .iter()
            .filter(|call| call.method == "POST" && call.target == "/v1/payment_intents")
            .count();
        assert!(made <= 2 && shop.double.book().debits.len() == 1, "{rounds} rounds: {made}");
    }
}
