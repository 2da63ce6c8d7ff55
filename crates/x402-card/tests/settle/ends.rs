//! Payments that are not made: declined, revoked, expired, late, refunded, owed.

use x402_card::double::Mishap;
use x402_card::stores::{Cards as _, ChargeResult, ChargeState, Delegations as _};
use x402_facilitator_core::Outcome;
use x402_types::UnixSeconds;

use crate::shop::*;

/// The intent of the only charge.
async fn status(shop: &Shop) -> String {
    let call = shop.double.requests()[shop.changed("/cancel")[0]].clone();
    let id = call.target.split('/').nth(3).unwrap().to_owned();
    shop.double.intent(&id).unwrap()["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_declined_card_is_told_in_no_time_and_the_same_request_gets_the_same() {
    for (method, code, decline) in [
        ("pm_card_visa_chargeDeclined", "CARD_DECLINED", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "CARD_DECLINED", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "CARD_DECLINED", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "CARD_DECLINED", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "PAYMENT_FAILED", "processing_error"),
        ("pm_card_authenticationRequired", "PAYMENT_FAILED", "authentication_required"),
        ("pm_card_chargeCustomerFail", "CARD_DECLINED", "generic_decline"),
    ] {
        let shop = Shop::new();
        let (id, token) = shop.delegate("user-7", method, 2_000).await;
        let claim = shop.claim(&token, 1001, 3, "a");
        assert_eq!(failed(shop.settle(&claim).await), code, "{method}");
        assert!(shop.now() <= UnixSeconds(START + 1), "{method}: {}", shop.now().0 - START);
        assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "release"]);
        assert_eq!((status(&shop).await.as_str(), shop.counted(&id).await), ("canceled", (0, 0)), "{method}");
        let row = shop.row(&shop.settlement.key(&claim).unwrap()).await;
        let released = String::from_utf8(row.steps[3].parcels[0].bytes.clone()).unwrap();
        assert!(released.contains(&format!(r#""decline":"{decline}""#)), "{released}");
        let charge = shop.charges(&id).await.remove(0);
        assert_eq!((charge.state, charge.end.unwrap().result), (ChargeState::Released, ChargeResult::Failed));
        // The same request: the same answer, and no call.
        let calls = shop.double.requests().len();
        assert_eq!(failed(shop.settle(&claim).await), code);
        assert_eq!((shop.double.requests().len(), shop.double.book().debits.len()), (calls, 0));
        // Another request may charge again: the delegation is active.
        assert_eq!(failed(shop.settle(&shop.claim(&token, 1001, 3, "b")).await), code);
        assert!(shop.double.requests().len() > calls);
    }
}

#[tokio::test]
async fn a_delegation_that_was_revoked_after_its_verification_is_refused_and_nothing_is_charged() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let claim = shop.claim(&token, 1001, 3, "a");
    shop.settlement.verify(&claim, shop.now()).await.unwrap();
    assert!(shop.stores.revoke(&id, "user-7", shop.now()).await.unwrap());
    let calls = shop.double.requests().len();
    assert_eq!(failed(shop.settle(&claim).await), "DELEGATION_INACTIVE");
    assert_eq!((shop.double.requests().len(), shop.double.book().debits.len()), (calls, 0));
}

/// Runs a payment until the step of this name is proven.
async fn until(shop: &Shop, claim: &x402_types::Claim, name: &str) -> x402_types::PaymentKey {
    let request = shop.settlement.begin_request().named();
    shop.settlement.settle(&request, claim, shop.now()).await.unwrap();
    let key = shop.settlement.key(claim).unwrap();
    let lease = shop.lease().await;
    for _ in 0..50 {
        shop.settlement.carry(&lease, shop.now()).await.unwrap();
        if shop.row(&key).await.steps.last().is_some_and(|step| step.name.as_str() == name) {
            return key;
        }
        shop.settlement.advance(&lease, &key, shop.now()).await.unwrap();
    }
    panic!("the step {name} was never planned");
}

#[tokio::test]
async fn what_ends_before_the_confirmation_left_is_canceled_and_taken_back() {
    enum End {
        Revoked,
        CardRemoved,
        Expired,
        Late,
    }
    for (end, code) in [
        (End::Revoked, "DELEGATION_INACTIVE"),
        (End::CardRemoved, "DELEGATION_INACTIVE"),
        (End::Expired, "DELEGATION_INACTIVE"),
        (End::Late, "PAYMENT_FAILED"),
    ] {
        let shop = Shop::new();
        let soon = |it: &mut x402_card::Delegation| it.expires_at = UnixSeconds(START + 300);
        let (id, token) = match end {
            End::Expired => shop.delegate_with("user-7", "pm_card_visa", 2_000, soon).await,
            _ => shop.delegate("user-7", "pm_card_visa", 2_000).await,
        };
        let claim = shop.claim(&token, 1001, 3, "a");
        until(&shop, &claim, "open").await;
        match end {
            End::Revoked => assert!(shop.stores.revoke(&id, "user-7", shop.now()).await.unwrap()),
            End::CardRemoved => {
                let method = shop.stores.read(&id).await.unwrap().unwrap().payment_method;
                assert!(shop.stores.remove("user-7", &method, shop.now()).await.unwrap());
            }
            End::Expired => shop.wait(301),
            End::Late => shop.wait(16 * 60),
        }
        assert_eq!(failed(shop.settle(&claim).await), code);
        assert_eq!(shop.changes("/confirm"), 0);
        assert_eq!((shop.double.book().debits.len(), shop.counted(&id).await), (0, (0, 0)));
    }
}

#[tokio::test]
async fn a_revocation_after_the_confirmation_left_stops_nothing() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let claim = shop.claim(&token, 1001, 3, "a");
    shop.double.fail("GET", "/v1/payment_intents/", 1, Mishap::LostBefore);
    let key = until(&shop, &claim, "charge").await;
    shop.round(&key).await;
    assert_eq!(shop.double.book().debits.len(), 1);
    assert!(shop.stores.revoke(&id, "user-7", shop.now()).await.unwrap());
    receipt(&shop.settle(&claim).await);
    assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (700, (700, 1)));
}

/// The books refuse what was bought: the money goes back, and only then the counter.
#[tokio::test]
async fn refused_credits_are_refunded_or_owed() {
    use x402_card::stores::{Books as _, CreditMove, MoveKind};
    for refund in [true, false] {
        let shop = Shop::new();
        let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
        // One more than nothing: a purchase of the most credits is over what the books count.
        let one = CreditMove::new("given".to_owned(), plan_id(1005), "user-7".to_owned(), 1, MoveKind::Mint);
        shop.stores.post(&one).await.unwrap();
        if !refund {
            shop.double.fail("POST", "/v1/refunds", 1, Mishap::Refused);
        }
        let claim = shop.claim(&token, 1005, 2, "a");
        let outcome = shop.settle(&claim).await;
        assert_eq!(failed(outcome), "MINT_FAILED");
        let book = shop.double.book();
        let charge = shop.charges(&id).await.remove(0);
        let end = charge.end.unwrap();
        if refund {
            assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "mint", "refund", "release"]);
            assert_eq!((book.charged(), book.refunded(), shop.counted(&id).await), (0, 700, (0, 0)));
            assert_eq!((charge.state, end.result), (ChargeState::Released, ChargeResult::Refunded));
            assert!(end.refund.unwrap().starts_with("re_"));
        } else {
            assert_eq!(shop.steps(&claim).await, ["reserve", "open", "charge", "mint", "refund", "record"]);
            assert_eq!((book.charged(), book.refunded(), shop.counted(&id).await), (700, 0, (700, 1)));
            assert_eq!((charge.state, end.result), (ChargeState::Counted, ChargeResult::Owed));
        }
        // The same request: the same answer.
        let calls = shop.double.requests().len();
        assert_eq!(failed(shop.settle(&claim).await), "MINT_FAILED");
        assert_eq!(shop.double.requests().len(), calls);
    }
}

/// Another payment takes the credits between the read and the burn: they are bought then.
#[tokio::test]
async fn credits_that_another_takes_first_are_bought() {
    use x402_card::stores::{Books as _, CreditMove, MoveKind};
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    let of = |name: &str, kind| CreditMove::new(name.to_owned(), plan_id(1001), "user-7".to_owned(), 3, kind);
    shop.stores.post(&of("given", MoveKind::Mint)).await.unwrap();
    let claim = shop.claim(&token, 1001, 3, "a");
    let request = shop.settlement.begin_request().named();
    shop.settlement.settle(&request, &claim, shop.now()).await.unwrap();
    let key = shop.settlement.key(&claim).unwrap();
    let lease = shop.lease().await;
    shop.settlement.advance(&lease, &key, shop.now()).await.unwrap();
    shop.stores.post(&of("taken", MoveKind::Burn)).await.unwrap();
    drop(request);
    receipt(&shop.settle(&claim).await);
    assert_eq!(shop.steps(&claim).await, ["burn", "reserve", "open", "charge", "mint", "burn"]);
    assert_eq!((shop.credits("user-7", 1001).await, shop.counted(&id).await), (7, (700, 1)));
}

#[tokio::test]
async fn an_intent_that_is_processed_is_waited_for() {
    let shop = Shop::new();
    let (id, token) = shop.delegate("user-7", "pm_card_visa", 2_000).await;
    shop.double.fail("POST", "/confirm", 1, Mishap::Processing(50));
    let claim = shop.claim(&token, 1001, 3, "a");
    let pending = shop.settle_for(&claim, 1).await;
    assert!(matches!(pending, Ok(Outcome::Pending { .. })), "{pending:?}");
    assert_eq!(shop.counted(&id).await, (700, 1));
    receipt(&shop.settle(&claim).await);
    assert_eq!((shop.changes("/confirm"), shop.changes("/cancel")), (1, 0));
    assert_eq!((shop.double.book().charged(), shop.counted(&id).await), (700, (700, 1)));
}
