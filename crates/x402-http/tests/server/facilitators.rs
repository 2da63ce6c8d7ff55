//! Several facilitators: who gets a payment, and who alone is asked about it afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use tower::{Layer, ServiceExt};
use x402_http::checkout::Clock;
use x402_http::server::{Incident, IncidentStep, MemoryGrants, Seller, SellerError};
use x402_types::{Offer, UnixSeconds};

use crate::common::{Handler, ORIGIN, Script, call, offer, paying, payment_json, terms, upfront};
use crate::stage::{Paywalled, pending};

const SERVES: &str = r#"[{"x402Version":2,"scheme":"exact","network":"eip155:84532"}]"#;
const ELSEWHERE: &str = r#"[{"x402Version":2,"scheme":"exact","network":"eip155:8453"}]"#;

/// A clock that a test sets.
#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::SeqCst))
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        Some([7; 32])
    }
}

struct Two {
    first: Arc<Script>,
    second: Arc<Script>,
    grants: Arc<MemoryGrants>,
    clock: Arc<Hands>,
    incidents: Arc<Mutex<Vec<IncidentStep>>>,
}

fn two(first: &str, second: &str) -> Two {
    let script = |kinds: &str| {
        let script = Script::default();
        *script.kinds.lock().unwrap() = Some(kinds.into());
        Arc::new(script)
    };
    let (first, second) = (script(first), script(second));
    Two { first, second, grants: Arc::default(), clock: Arc::default(), incidents: Arc::default() }
}

impl Two {
    /// A seller with both, as a process builds it at its start.
    fn seller(&self) -> Seller {
        let incidents = Arc::clone(&self.incidents);
        self.only_first(self.first.clone())
            .with_facilitator("second", self.second.clone())
            .unwrap()
            .with_incident_hook(move |incident: &Incident<'_>| incidents.lock().unwrap().push(incident.step))
    }

    fn only_first(&self, first: Arc<Script>) -> Seller {
        Seller::new(ORIGIN, first).unwrap().with_grants(self.grants.clone()).with_clock(self.clock.clone())
    }

    fn sells(&self, offer: Offer) -> Paywalled {
        self.seller().charge([offer]).unwrap().layer(Handler::default().service()).boxed_clone()
    }

    fn logs(&self) -> (String, String) {
        (self.first.log(), self.second.log())
    }

    fn incidents(&self) -> Vec<IncidentStep> {
        self.incidents.lock().unwrap().clone()
    }
}

fn logs(first: &str, second: &str) -> (String, String) {
    (first.into(), second.into())
}

async fn pay(service: &Paywalled, nonce: u8) -> StatusCode {
    call(service, paying("/weather", &payment_json(&terms(), nonce))).await.0
}

#[tokio::test]
async fn the_first_that_serves_the_kind_gets_the_payment() {
    let both = two(SERVES, SERVES);
    let service = both.sells(offer(terms()));
    for nonce in 1..=2 {
        assert_eq!(pay(&service, nonce).await, StatusCode::OK);
    }
    assert_eq!(both.logs(), logs("verify, settle, verify, settle", ""));
    assert_eq!(both.first.listed.load(Ordering::SeqCst), 1, "the kinds are read once");

    let one = two(ELSEWHERE, SERVES);
    assert_eq!(pay(&one.sells(offer(terms())), 1).await, StatusCode::OK);
    assert_eq!(one.logs(), logs("", "verify, settle"));
    // A payment of the flow `upfront` is not verified before it is settled.
    let terms = upfront(terms());
    let service = one.sells(offer(terms.clone()));
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms, 2))).await.0, StatusCode::OK);
    assert_eq!(one.logs(), logs("", "verify, settle, settle"));

    let none = two(ELSEWHERE, "[]");
    assert_eq!(pay(&none.sells(offer(self::terms())), 1).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(none.logs(), logs("", ""));
}

/// `upto` names the account that settles, and each facilitator lists its own.
#[tokio::test]
async fn terms_that_name_another_account_are_another_facilitators() {
    let kind = |account: &str| {
        format!(
            r#"[{{"x402Version":2,"scheme":"exact","network":"eip155:84532","extra":{{"facilitatorAddress":"{account}"}}}}]"#
        )
    };
    let both = two(&kind(&format!("0x{}", "aa".repeat(20))), &kind(&format!("0x{}", "bb".repeat(20))));
    let mut terms = terms();
    terms.extra.insert_text("facilitatorAddress", &format!("0x{}", "BB".repeat(20)));
    let service = both.sells(offer(terms.clone()));
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms, 1))).await.0, StatusCode::OK);
    assert_eq!(both.logs(), logs("", "verify, settle"));
}

/// One that is down at start stops nothing of what the other serves, and is asked again after a pause.
#[tokio::test]
async fn one_that_is_down_is_passed_over_and_asked_again() {
    let both = two(SERVES, SERVES);
    both.first.down.store(true, Ordering::SeqCst);
    let seller = both.seller().checked().await.unwrap();
    assert_eq!(both.incidents(), [IncidentStep::Supported]);
    let service = seller.charge([offer(terms())]).unwrap().layer(Handler::default().service()).boxed_clone();
    both.clock.0.store(100, Ordering::SeqCst);
    for (now, nonce) in [(100, 1), (100, 2), (101, 3), (102, 4), (103, 5)] {
        both.clock.0.store(now, Ordering::SeqCst);
        assert_eq!(pay(&service, nonce).await, StatusCode::OK);
    }
    // At the start, at 100, at 101, and then not before two seconds have passed.
    assert_eq!(both.first.listed.load(Ordering::SeqCst), 4);
    assert_eq!(both.logs(), logs("", &["verify, settle"; 5].join(", ")));
    both.first.down.store(false, Ordering::SeqCst);
    both.clock.0.store(1_000, Ordering::SeqCst);
    assert_eq!(pay(&service, 6).await, StatusCode::OK);
    assert_eq!(both.first.log(), "verify, settle");

    both.first.down.store(true, Ordering::SeqCst);
    both.second.down.store(true, Ordering::SeqCst);
    assert!(matches!(both.seller().checked().await, Err(SellerError::Supported(_))));
    let service = both.sells(offer(terms()));
    assert_eq!(pay(&service, 7).await, StatusCode::SERVICE_UNAVAILABLE);
}

/// The second began it while the first was away. The first is back, and the seller was started anew: the first is not
/// asked about it.
#[tokio::test]
async fn a_begun_payment_stays_with_the_one_that_began_it() {
    let both = two(SERVES, SERVES);
    both.first.down.store(true, Ordering::SeqCst);
    both.second.settle_says(&pending());
    assert_eq!(pay(&both.sells(offer(terms())), 1).await, StatusCode::SERVICE_UNAVAILABLE);
    both.first.down.store(false, Ordering::SeqCst);
    let service = both.sells(offer(terms()));
    assert_eq!(pay(&service, 2).await, StatusCode::OK);
    assert_eq!(both.logs(), logs("verify, settle", "verify, settle"));
    both.second.settle_is_unreachable();
    assert_eq!(pay(&service, 1).await, StatusCode::SERVICE_UNAVAILABLE);
    // A seller that does not know the second cannot find out what became of it, and says so.
    let alone = both.only_first(both.first.clone());
    let alone = alone.charge([offer(terms())]).unwrap().layer(Handler::default().service()).boxed_clone();
    assert_eq!(pay(&alone, 1).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pay(&service, 1).await, StatusCode::OK);
    assert_eq!(both.logs(), logs("verify, settle", "verify, settle, settle, settle"));
    assert_eq!(pay(&service, 1).await, StatusCode::CONFLICT, "it bought one answer");
}

#[tokio::test]
async fn after_a_fault_the_next_one_verifies_and_after_a_refusal_none_does() {
    let both = two(SERVES, SERVES);
    let service = both.sells(offer(terms()));
    both.first.verify_is_unreachable();
    assert_eq!(pay(&service, 1).await, StatusCode::OK);
    assert_eq!(both.logs(), logs("verify", "verify, settle"));
    assert_eq!(both.incidents(), [IncidentStep::Verify]);
    both.first.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    assert_eq!(pay(&service, 2).await, StatusCode::PAYMENT_REQUIRED);
    // An unknown settlement is repeated at the same one alone.
    both.first.settle_is_unreachable();
    assert_eq!(pay(&service, 3).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pay(&service, 3).await, StatusCode::OK);
    assert_eq!(both.logs(), logs("verify, verify, verify, settle, settle", "verify, settle"));
    both.first.verify_is_unreachable();
    both.second.verify_is_unreachable();
    assert_eq!(pay(&service, 4).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pay(&service, 4).await, StatusCode::OK, "nothing began, so that anyone may serve it");
}

#[tokio::test]
async fn an_offer_that_none_serves_is_refused_at_start() {
    let none = two(ELSEWHERE, "[]").seller().checked().await.unwrap();
    assert!(matches!(none.charge([offer(terms())]), Err(SellerError::NotServed { entry: 0, version: 2, .. })));
    assert!(two(ELSEWHERE, SERVES).seller().checked().await.unwrap().charge([offer(terms())]).is_ok());
    let unnamed = two(SERVES, SERVES);
    for name in ["", "second", "a b", "a\nb", &"a".repeat(65)] {
        let error = unnamed.seller().with_facilitator(name, unnamed.first.clone()).unwrap_err();
        assert_eq!(error, SellerError::FacilitatorName, "{name:?}");
    }
}
