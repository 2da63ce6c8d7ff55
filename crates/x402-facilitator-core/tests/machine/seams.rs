//! Routing, wire forms and stored forms.

use std::sync::Arc;

use x402_facilitator_core::{Facilitator, Ledger, Mechanism, MemoryLedger, Outcome, Rail};
use x402_types::{ChainId, ErrorReason, Fault, NetworkName, RawJson, Refusal, Rejection, SchemeName, Terms, Version};

use crate::toy::*;

#[test]
fn what_is_not_served_is_refused_by_name() {
    let bench = Bench::new();
    let refused = |change: &dyn Fn(&mut Terms)| {
        let mut claim = claim(1, "a");
        change(&mut claim.terms);
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim, NOW)).unwrap_err()
    };
    let rejection = |reason| Refusal::from(Rejection::new(reason));
    assert_eq!(refused(&|terms| terms.scheme = SchemeName::UPTO), rejection(ErrorReason::UNSUPPORTED_SCHEME));
    assert_eq!(refused(&|terms| terms.network = ChainId::eip155(1)), rejection(ErrorReason::INVALID_NETWORK));
    assert_eq!(refused(&|terms| terms.version = Version::V1), rejection(ErrorReason::INVALID_X402_VERSION));
    let mut unreadable = claim(1, "a");
    unreadable.payload = RawJson::null();
    let refused = wait(bench.settlement.settle(&bench.settlement.begin_request(), &unreadable, NOW));
    assert_eq!(refused, Err(rejection(ErrorReason::INVALID_PAYLOAD)));
}

#[test]
fn a_kind_or_a_lane_is_served_once() {
    let bench = Bench::new();
    let twice = machine(&bench.toy, &bench.ledger, "two").with_mechanism(Arc::new(bench.toy.clone()));
    assert!(matches!(twice, Err(Fault::Broken { .. })));
    let twice = machine(&bench.toy, &bench.ledger, "two").with_rail(Arc::new(bench.toy.clone()));
    assert!(matches!(twice, Err(Fault::Broken { .. })));
    assert_eq!(bench.settlement.kinds(), bench.toy.kinds());
    assert_eq!(bench.settlement.lanes().collect::<Vec<_>>(), [&lane()]);
}

/// Two mechanisms of one kind: the claim says whose it is.
#[test]
fn several_mechanisms_serve_one_kind_by_a_method_each() {
    let ledger = Arc::new(MemoryLedger::new(|| NOW));
    let of_method = |method: Option<&'static str>| {
        let toy = Toy::default();
        toy.set(|world| (world.method, world.rejection) = (method, method.map(ErrorReason::defined)));
        toy
    };
    let (first, second) = (of_method(Some("first")), of_method(Some("second")));
    let with = |one: &Toy, other: &Toy| machine(one, &ledger, "one").with_mechanism(Arc::new(other.clone()));
    for other in [None, Some("first")] {
        assert!(matches!(with(&first, &of_method(other)), Err(Fault::Broken { .. })), "{other:?}");
    }
    assert!(matches!(with(&of_method(None), &first), Err(Fault::Broken { .. })));

    let both = with(&first, &second).unwrap();
    assert_eq!(both.kinds(), first.kinds(), "told once");
    let refused = |named: &[&str]| {
        let mut claim = claim(1, "a");
        named.iter().for_each(|method| claim.terms.extra.insert_text(method, "yes"));
        match wait(both.verify(&claim, NOW)).unwrap_err() {
            Refusal::Rejection(why) => (why.reason, why.message.map(String::from)),
            Refusal::Fault(fault) => panic!("{fault}"),
        }
    };
    // Each toy refuses by its own name.
    assert_eq!(refused(&["first"]), (ErrorReason::defined("first"), None));
    assert_eq!(refused(&["second"]), (ErrorReason::defined("second"), None));
    let ambiguous = |found: &str| {
        let why = format!("payload: expected one of first, second, found {found} of them");
        (ErrorReason::UNSUPPORTED_PAYLOAD_TYPE, Some(why))
    };
    assert_eq!(refused(&[]), ambiguous("none"));
    assert_eq!(refused(&["first", "second"]), ambiguous("several"));
    // A mechanism that stands alone takes every claim, and says itself what it thinks of it.
    let alone = machine(&first, &ledger, "two");
    assert_eq!(wait(alone.verify(&claim(1, "a"), NOW)), Err(Rejection::new(ErrorReason::defined("first")).into()));
}

#[test]
fn outcomes_on_the_wire() {
    let terms = claim(1, "a").terms;
    let json = |outcome: Outcome, terms: &Terms| serde_json::to_value(outcome.to_response(terms)).unwrap();
    assert_eq!(
        json(settled(true), &terms),
        serde_json::json!({"success": true, "payer": "payer", "transaction": "0x01", "network": "eip155:84532",
            "extensions": {"replayed": true}})
    );
    let v1 = terms.clone().with_version(Version::V1);
    assert_eq!(settled(false).to_response(&v1).network, NetworkName::from("base-sepolia"));
    assert!(settled(false).to_response(&terms).extensions.is_empty());
    let told = json(pending(Some("0x02")), &terms);
    assert_eq!(
        (&told["success"], &told["errorReason"], &told["transaction"], &told["payer"]),
        (&false.into(), &"settlement_pending".into(), &"0x02".into(), &"payer".into())
    );
    let told = json(duplicate(None), &terms);
    assert_eq!((&told["errorReason"], &told["transaction"]), (&"duplicate_settlement".into(), &"".into()));
}

/// The seams are object-safe.
#[test]
fn seams_are_objects() {
    fn object<T: ?Sized + Send + Sync>(_: Option<&T>) {}
    object::<dyn Mechanism>(None);
    object::<dyn Rail>(None);
    object::<dyn Ledger>(None);
    object::<dyn Facilitator>(None);
}
