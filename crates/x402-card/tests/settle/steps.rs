//! The order of the steps, and the limits.

use x402_facilitator_core::Outcome;
use x402_types::{Refusal, UnixSeconds};

use crate::shop::*;

#[tokio::test]
async fn missing_credits_are_bought_once_with_three_calls_and_then_used() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let before = shop.double.requests().len();
    let claim = shop.claim(&token, 1001, 3, "a");
    let outcome = shop.settle(&claim).await;
    assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "mint", "burn"]);
    let calls: Vec<String> =
        shop.double.requests()[before..].iter().map(|call| format!("{} {}", call.method, call.target)).collect();
    let intent = shop.double.book().debits[0].intent.clone();
    assert_eq!(
        calls,
        [
            "POST /v1/payment_intents".to_owned(),
            format!("POST /v1/payment_intents/{intent}/confirm"),
            format!("GET /v1/payment_intents/{intent}"),
        ]
    );
    let (burn, redeemed, remaining, order) = receipt(&outcome);
    assert!(burn.starts_with("burn-"));
    assert_eq!((redeemed.as_str(), remaining.as_deref(), order), ("3", Some("7"), Some(intent.clone())));
    let book = shop.double.book();
    assert_eq!((book.charged(), book.debits.len(), book.received(SELLER)), (700, 1, 683));
    assert_eq!((shop.counted(&id).await, shop.credits("user-7", 1001).await), ((700, 1), 7));
    assert_eq!(shop.charges(&id).await[0].end.as_ref().unwrap().intent, Some(intent));
    // No time has passed: nothing waited for an interval.
    assert_eq!(shop.now(), UnixSeconds(START));
}

#[tokio::test]
async fn credits_that_are_there_are_used_without_the_processor() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    shop.settle(&shop.claim(&token, 1001, 3, "a")).await.unwrap();
    let calls = shop.double.requests().len();
    let claim = shop.claim(&token, 1001, 4, "b");
    let (_, redeemed, remaining, order) = receipt(&shop.settle(&claim).await);
    assert_eq!((redeemed.as_str(), remaining.as_deref(), order), ("4", Some("3"), None));
    assert_eq!(shop.steps(&claim).await, ["burn"]);
    assert_eq!((shop.double.requests().len(), shop.counted(&id).await), (calls, (700, 1)));
}

#[tokio::test]
async fn three_purchases_are_one_charge() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_100).await;
    let (_, redeemed, remaining, _) = receipt(&shop.settle(&shop.claim(&token, 1001, 21, "a")).await);
    assert_eq!((redeemed.as_str(), remaining.as_deref()), ("21", Some("9")));
    assert_eq!((shop.double.book().debits[0].amount, shop.counted(&id).await), (2_100, (2_100, 1)));
    // The limit is reached: the delegation pays nothing, although there are credits.
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1001, 1, "b")).await), "DELEGATION_INACTIVE");
}

#[tokio::test]
async fn a_plan_without_credits_is_paid_by_the_charge() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let claim = shop.claim(&token, 1003, 1, "a");
    let outcome = shop.settle(&claim).await;
    let intent = shop.double.book().debits[0].intent.clone();
    assert_eq!(receipt(&outcome), (intent.clone(), "0".to_owned(), None, Some(intent)));
    assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "record"]);
    assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (500, (500, 1)));
}

#[tokio::test]
async fn what_cannot_be_bought_is_refused_before_the_processor_is_called() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 699).await;
    let calls = shop.double.requests().len();
    // By one cent.
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1001, 1, "a")).await), "INSUFFICIENT_BALANCE");
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1002, 1, "b")).await), "CURRENCY_MISMATCH");
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1004, 10, "c")).await), "INSUFFICIENT_BALANCE");
    assert_eq!(failed(shop.settle(&shop.claim(&token, 9, 1, "d")).await), "INVALID_PAYLOAD");
    assert_eq!((shop.double.requests().len(), shop.counted(&id).await), (calls, (0, 0)));
    let other = |it: &mut x402_card::Delegation| it.merchant = Some("acct_Buyer".to_owned());
    let (_, token) = shop.delegate_with("user-8", "pm_card_visa", 2_000, other).await;
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1001, 1, "a")).await), "MERCHANT_ACCOUNT_INVALID");
    let of_plan = |it: &mut x402_card::Delegation| it.plan = Some(plan_id(1003));
    let (_, token) = shop.delegate_with("user-9", "pm_card_visa", 2_000, of_plan).await;
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1001, 1, "a")).await), "INVALID_PAYLOAD");
    assert!(shop.double.book().debits.is_empty());
}

#[tokio::test]
async fn the_count_of_charges_is_kept() {
    let shop = Shop::new();
    let once = |it: &mut x402_card::Delegation| it.max_charges = Some(1);
    let (id, token) = shop.delegate_with("user-7", "pm_card_visa", 9_000, once).await;
    shop.settle(&shop.claim(&token, 1003, 1, "a")).await.unwrap();
    assert_eq!(failed(shop.settle(&shop.claim(&token, 1003, 1, "b")).await), "DELEGATION_INACTIVE");
    assert_eq!((shop.double.book().debits.len(), shop.counted(&id).await), (1, (500, 1)));
}

/// Two settlements are verified while one charge is left: both are claimed, and one is made.
#[tokio::test]
async fn of_two_settlements_at_the_limit_one_is_made() {
    for (plan, price, credits) in [(1003, 500, 1), (1001, 700, 10)] {
        let shop = Shop::new();
        let (id, token) = shop.delegate("user-7", "pm_card_visa", price).await;
        let claims = ["a", "b"].map(|request| shop.claim(&token, plan, credits, request));
        let requests = [0, 1].map(|_| shop.settlement.begin_request().named());
        for (request, claim) in requests.iter().zip(&claims) {
            let begun = shop.settlement.settle(request, claim, shop.now()).await.unwrap();
            assert!(matches!(begun, Outcome::Pending { .. }));
        }
        let keys = claims.each_ref().map(|claim| shop.settlement.key(claim).unwrap());
        for _ in 0..200 {
            for key in &keys {
                shop.round(key).await;
            }
            shop.wait(1);
        }
        let mut ends = Vec::new();
        for (request, key) in requests.iter().zip(&keys) {
            ends.push(shop.settlement.look(request, key).await.unwrap());
        }
        let made = ends.iter().filter(|end| matches!(end, Outcome::Settled { .. })).count();
        let lost: Vec<String> =
            ends.into_iter().filter(|end| matches!(end, Outcome::Failed { .. })).map(|end| failed(Ok(end))).collect();
        assert_eq!((made, lost.as_slice()), (1, ["DELEGATION_INACTIVE".to_owned()].as_slice()));
        assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (price, (price, 1)));
    }
}

/// Fifty requests of one subscriber need 50 credits: five purchases, and no more.
#[tokio::test]
async fn fifty_settlements_of_one_subscriber_buy_no_more_than_they_need() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 90_000).await;
    let claims: Vec<_> = (0..50).map(|at| shop.claim(&token, 1001, 1, &at.to_string())).collect();
    let requests: Vec<_> = claims.iter().map(|_| shop.settlement.begin_request().named()).collect();
    for (request, claim) in requests.iter().zip(&claims) {
        shop.settlement.settle(request, claim, shop.now()).await.unwrap();
    }
    let keys: Vec<_> = claims.iter().map(|claim| shop.settlement.key(claim).unwrap()).collect();
    for _ in 0..150 {
        for key in &keys {
            shop.round(key).await;
        }
        shop.wait(1);
    }
    for (request, key) in requests.iter().zip(&keys) {
        let end = shop.settlement.look(request, key).await.unwrap();
        assert!(matches!(end, Outcome::Settled { .. }), "{end:?}");
    }
    assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (3_500, (3_500, 5)));
    assert_eq!(shop.credits("user-7", 1001).await, 0);
}

#[tokio::test]
async fn a_request_is_settled_once_and_repeated_as_it_was() {
    let shop = Shop::new();
    let (_, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let claim = shop.claim(&token, 1001, 3, "a");
    let first = shop.settle(&claim).await;
    let again = shop.settle(&claim).await;
    assert!(matches!(again, Ok(Outcome::Settled { replayed: true, .. })), "{again:?}");
    assert_eq!(receipt(&first), receipt(&again));
    // Another amount under the same name is another request's.
    let other = shop.settle(&shop.claim(&token, 1001, 4, "a")).await;
    assert!(matches!(other, Ok(Outcome::Duplicate { .. })), "{other:?}");
    assert_eq!((shop.double.book().debits.len(), shop.credits("user-7", 1001).await), (1, 7));
}

/// A token with a nonce pays once, whatever the request's name.
#[tokio::test]
async fn a_token_with_a_nonce_pays_once() {
    let shop = Shop::new();
    let (id, _) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let record = x402_card::stores::Delegations::read(&*shop.stores, &id).await.unwrap().unwrap();
    let token = shop.token(&record, |claims| claims.binding.nonce = Some([9; 32]));
    receipt(&shop.settle(&shop.claim(&token, 1001, 3, "a")).await);
    let again = shop.settle(&shop.claim(&token, 1001, 3, "b")).await;
    assert!(matches!(again, Ok(Outcome::Duplicate { .. })), "{again:?}");
    let verified = shop.settlement.verify(&shop.claim(&token, 1001, 3, "c"), shop.now()).await;
    assert!(matches!(verified, Err(Refusal::Rejection(why)) if why.reason.as_str() == "duplicate_settlement"));
    assert_eq!(shop.credits("user-7", 1001).await, 7);
}
