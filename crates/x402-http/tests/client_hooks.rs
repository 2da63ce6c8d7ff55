//! The hooks of a client: what they may refuse, and what they observe.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod buyer;
mod common;

use std::sync::{Arc, Mutex};

use buyer::*;
use common::{TRANSACTION, terms};
use x402_http::client::{ClientError, PayError};
use x402_types::hooks::{HookedPurchase, PayHooks, PurchaseEvent};
use x402_types::{ErrorReason, Fault, Refusal, Rejection};

fn watching(hooks: PayHooks) -> (Purse, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let events = Arc::clone(&seen);
    let hooks = hooks.with_observer(move |purchase, event| {
        assert_eq!((&*purchase.url, &*purchase.method), (URL, "POST"));
        assert_eq!(purchase.terms.as_deref(), Some(&terms()));
        events.lock().unwrap().push(match event {
            PurchaseEvent::Signed { valid_until } => format!("signed until {}", valid_until.0),
            PurchaseEvent::NotSigned { why } => format!("not signed: {why}"),
            PurchaseEvent::Paid { receipt } => format!("paid {}", receipt.unwrap().transaction),
            PurchaseEvent::Refused { receipt } => format!("refused {:?}", receipt.unwrap().error_reason),
            PurchaseEvent::Unknown { .. } => "unknown".into(),
            other => format!("{other:?}"),
        });
    });
    let mut purse = purse();
    purse.payer = purse.payer.with_hooks(hooks);
    (purse, seen)
}

fn lines(seen: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut seen.lock().unwrap())
}

#[tokio::test]
async fn observers_learn_what_became_of_a_payment() {
    let (purse, seen) = watching(PayHooks::default());
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    let events = lines(&seen);
    assert!(events[0].starts_with("signed until "), "{events:?}");
    assert_eq!(events[1..], [format!("paid {TRANSACTION}")]);
    ask(&purse, &Wire::default().says([asks(&[terms()]), refused("insufficient_funds")])).await.unwrap();
    assert_eq!(lines(&seen)[1..], [r#"refused Some("insufficient_funds")"#]);
    // A refusal after an unknown result proves nothing about it.
    ask(&purse, &Wire::default().says([asks(&[terms()]), pending(), refused("insufficient_funds")])).await.unwrap();
    assert_eq!(lines(&seen)[1..], ["unknown"]);
}

#[tokio::test]
async fn what_a_hook_refuses_is_neither_reserved_nor_signed() {
    let no = |purchase: HookedPurchase| async move {
        assert_eq!(purchase.terms.as_deref(), Some(&terms()));
        Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("the person said no").into())
    };
    let fails = |_: HookedPurchase| async { Err(Refusal::Fault(Fault::store("no connection"))) };
    let panics = |_: HookedPurchase| async { panic!("a bug of the application") };
    let hooks = [
        (PayHooks::default().with_before_payment(no), "the person said no"),
        (PayHooks::default().with_before_payment(fails), "no connection"),
        (PayHooks::default().with_before_payment(panics), "a hook panicked"),
    ];
    for (hooks, words) in hooks {
        let (purse, seen) = watching(hooks);
        let error = ask(&purse, &Wire::default().says([asks(&[terms()])])).await.unwrap_err();
        let ClientError::Pay(error) = error else { panic!("{error:?}") };
        assert!(
            matches!(error, PayError::Hook(_) | PayError::Fault(_)) && error.to_string().contains(words),
            "{error}"
        );
        assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"));
        let events = lines(&seen);
        assert!(events.len() == 1 && events[0].starts_with("not signed: "), "{events:?}");
    }
    // An observer that panics changes nothing, and those behind it are called.
    let (purse, seen) = watching(PayHooks::default().with_observer(|_, _| panic!("a bug of the application")));
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!(lines(&seen).len(), 2);
}
