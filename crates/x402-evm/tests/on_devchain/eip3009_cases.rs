//! The recorded cases of `vectors/eip3009-cases.json`, payments by EIP-3009 with one fault each, beside what both SDKs'
//! facilitators answered. `UPDATE_GOLDEN=1` rewrites the table in `docs/interop.md`. A line that differs has its reason.

use serde_json::Value;
use x402_devchain::ACCOUNTS;
use x402_facilitator_core::{NextStep, Observation, Payment, Rail, RequestId, SlotId, Step, StepState};
use x402_types::Claim;

use crate::permit_cases::{Bench, DAY, bench, compare};
use crate::stage::{PAYER, cancel_call, transfer_call};

/// The reason of each line in which ours is not the answer of both SDKs.
const REASONS: &[(&str, &str)] = &[
    ("ok_lowercase_addresses", "an address in one case is as good (EIP-55); the Python SDK's library refuses it"),
    ("ok_valid_before_max", "seconds have 64 bits: a later time is none"),
    ("value_json_number", "numbers are strings in the document, and one spelling of a payment is accepted"),
    ("value_hex", "numbers are decimal in the document, and one spelling of a payment is accepted"),
    ("amount_zero", "`exact` of nothing is no payment: it would cost gas and move nothing"),
    ("to_zero", "nobody is paid at the zero address: the terms are refused before the chain is asked"),
    ("signature_empty", "an account without code has a key, and this is no signature of it"),
    ("signature_absent", "a payload that cannot be read is `invalid_payload`, not a server error"),
    ("signature_high_s", "FiatToken refuses a high `s`, so it is refused as a signature, at verify as at settle"),
    ("signature_eip2098_compact", "an account without code has a key, whose signature has 65 bytes"),
    ("signature_v_parity", "`v` is 27 or 28: a second spelling of a signature is not accepted"),
    ("nonce_31_bytes", "a payload that cannot be read is `invalid_payload`"),
    ("payload_without_authorization", "a payload that cannot be read is `invalid_payload`, not a server error"),
    ("extra_name_other", "the domain is read from the terms, and the code names what is wrong with it"),
    ("accepted_scheme_other", "a scheme that is not the one asked is a verdict, not a server error"),
    ("asset_is_eoa", "only configured tokens are served, so the chain is not asked"),
    ("balance_short", "the balance is read beside the simulation, at verify as at settle"),
    ("authorization_used", "the authorization's state is read beside the simulation, at verify as at settle"),
    ("authorization_cancelled", "the authorization's state is read beside the simulation, at verify as at settle"),
];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../x402-testkit/vectors/eip3009-cases.json")).unwrap()
}

/// The claim that the recorded payment would be, whatever is wrong with it.
fn claim(case: &Value) -> Claim {
    let terms =
        serde_json::from_value::<x402_types::v2::PaymentRequirements>(case["verifyRequirements"].clone()).unwrap();
    let payload = x402_types::RawJson::of(&case["paymentPayload"]["payload"]).unwrap();
    Claim::of_payload(terms.into(), payload)
}

/// Puts the chain into a recorded state.
async fn prepare(bench: &Bench, state: &str, case: &Value) {
    let stage = &bench.permits.stage;
    match state {
        "balance(payer)=9999" => {
            stage.chain.set_balance_of(ACCOUNTS[PAYER].address, alloy_primitives::U256::from(9_999));
        }
        "the authorization was used by another account" => {
            stage.other(6, x402_devchain::TOKEN, transfer_call(&claim(case))).await;
        }
        "the payer cancelled the authorization" => {
            stage.other(6, x402_devchain::TOKEN, cancel_call(&claim(case))).await;
        }
        other => panic!("a state that this test does not know: {other}"),
    }
    stage.chain.mine(1);
}

/// Returns the answer to a settlement, after the checks that it repeats: `settles` with the amount, or the code.
async fn settle(bench: &Bench, case: &Value) -> String {
    let (claim, answer) = bench.verify(&case["paymentPayload"], &case["verifyRequirements"]).await;
    let Some(claim) = claim else { return answer };
    let (mechanism, stage) = (bench.mechanism(&claim).unwrap(), &bench.permits.stage);
    let now = bench.permits.now();
    let verdict = mechanism.verify(&claim, now).await.unwrap();
    let request = RequestId { owner: "test".into(), number: 0 };
    let key = mechanism.key(&claim).unwrap();
    let mut payment = Payment::from_row(key, claim, verdict.payer, verdict.lanes[0].clone(), request);
    (payment.due, payment.keep_until) = (now, verdict.keep_until);
    let planned = mechanism.plan(&payment, now).await.unwrap();
    let NextStep::Do { name, once_key, parcel, .. } = planned else { panic!("{planned:?}") };
    let slot = SlotId { lane: stage.rail.lane().clone(), nonce: 0 };
    let attempt = stage.rail.sign(&slot, std::slice::from_ref(&parcel), None).await.unwrap();
    let mut step = Step::new(name, once_key);
    (step.state, step.parcels, step.carriers) = (StepState::InFlight, vec![parcel], vec![slot]);
    stage.rail.send(&attempt).await.unwrap();
    let before = stage.chain.balance_of(payment.claim.terms.pay_to.parse().unwrap());
    stage.chain.mine(1);
    let seen = mechanism.observe(&step, &[attempt.tx]).await.unwrap();
    let Observation::Proven(proof) = seen else { panic!("{seen:?}") };
    let moved = stage.chain.balance_of(payment.claim.terms.pay_to.parse().unwrap()) - before;
    assert_eq!(moved, proof.amount.value());
    format!("settles {moved}")
}

#[tokio::test]
async fn every_case_of_eip_3009_is_answered_as_the_sdks_do_or_for_a_reason() {
    let (vectors, mut ours) = (vectors(), Vec::new());
    let cases = vectors["facilitatorCases"].as_array().unwrap();
    assert_eq!(cases.len(), 33);
    for case in cases {
        let bench = bench(DAY);
        for state in case["chainState"].as_array().unwrap() {
            prepare(&bench, state.as_str().unwrap(), case).await;
        }
        let (_, verify) = bench.verify(&case["paymentPayload"], &case["verifyRequirements"]).await;
        ours.push([verify, settle(&bench, case).await]);
    }
    compare("eip3009", cases, &ours, REASONS);
}
