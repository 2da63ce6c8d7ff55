//! Payments by Permit2 that are not what was signed, or no longer: swapped members, words of nonces, ends between two steps.

use alloy_primitives::{Address, U256};
use x402_devchain::ACCOUNTS;
use x402_evm::permit2::{PERMIT2, Permit, PermitPayload};
use x402_facilitator_core::{Mechanism, NextStep, Observation};
use x402_types::{AtomicAmount, Claim, ErrorReason, UnixSeconds};

use crate::permit::{Permits, exact_terms, payload, permits, signed_again, upto_terms};
use crate::stage::{PAYER, PRICE};

/// What is swapped after the permit was signed.
type Change<'c> = &'c dyn Fn(&mut Permit);

/// The claim with another permit under the signature of the first, and the terms that it would fit.
fn swapped(claim: &Claim, change: &dyn Fn(&mut Permit)) -> Claim {
    let PermitPayload { authorization: mut permit, signature } = payload(claim);
    change(&mut permit);
    let mut terms = claim.terms.clone();
    terms.pay_to = permit.witness.to.to_string();
    terms.amount = permit.amount;
    claim.clone().with_terms(terms).with_payload(PermitPayload { authorization: permit, signature }.to_json())
}

#[tokio::test]
async fn every_member_is_signed() {
    let permits = permits(0).await;
    let facilitator = permits.stage.rail.address();
    let other = ACCOUNTS[5].address;
    let changes: [(&str, Change<'_>); 9] = [
        ("from", &|permit| permit.from = other),
        ("permitted.token", &|permit| permit.token = PERMIT2),
        ("permitted.amount", &|permit| permit.amount = AtomicAmount::from(PRICE + 1)),
        ("permitted.amount", &|permit| permit.amount = AtomicAmount::from(1)),
        ("nonce", &|permit| permit.nonce += U256::from(1)),
        ("deadline", &|permit| permit.deadline += U256::from(1)),
        ("witness.to", &|permit| permit.witness.to = other),
        ("witness.validAfter", &|permit| permit.witness.valid_after += U256::from(1)),
        ("witness.facilitator", &|permit| {
            permit.witness.facilitator = permit.witness.facilitator.map(|_| ACCOUNTS[6].address);
        }),
    ];
    for terms in [exact_terms(), upto_terms(facilitator)] {
        let claim = permits.claim_by(x402_devchain::signer(PAYER).unwrap(), terms, 7).await;
        assert!(permits.of(&claim).verify(&claim, permits.now()).await.is_ok());
        for (member, change) in &changes {
            let bad = swapped(&claim, change);
            if payload(&bad) == payload(&claim) {
                continue;
            }
            let reason = permits.refused(&bad).await;
            let code = match *member {
                "permitted.token" => ErrorReason::PERMIT2_TOKEN_MISMATCH,
                "witness.facilitator" => ErrorReason::UPTO_FACILITATOR_MISMATCH,
                _ => ErrorReason::INVALID_PERMIT2_SIGNATURE,
            };
            assert_eq!(reason, code, "{member} of {}", claim.terms.scheme);
        }
    }
    assert_eq!(permits.stage.paid(), U256::ZERO);
}

/// Checks that payments whose nonces share a word of Permit2's bitmap are told apart by their bits alone.
#[tokio::test]
async fn a_word_of_nonces_is_shared_by_payments() {
    let permits = permits(0).await;
    let word = U256::from(9) << 8;
    let first = signed_again(&permits.claim(1).await, |permit| permit.nonce = word);
    let second = signed_again(&permits.claim(2).await, |permit| permit.nonce = word | U256::from(255));
    assert_ne!(permits.exact.key(&first), permits.exact.key(&second));
    let (mut one, mut two) = (permits.payment(&first).await, permits.payment(&second).await);
    for (nonce, payment) in [(0, &mut one), (1, &mut two)] {
        let attempt = permits.carry(payment, nonce).await;
        let sent = [attempt.tx];
        assert_eq!(permits.observe(payment, &sent).await, Observation::Pending, "the other's bit proves nothing");
        permits.stage.chain.mine(1);
        assert!(matches!(permits.observe(payment, &sent).await, Observation::Proven(_)));
    }
    assert_eq!(permits.stage.paid(), U256::from(2 * PRICE));
    assert_eq!(permits.refused(&first).await, ErrorReason::PERMIT2_INVALID_NONCE);
    let third = signed_again(&permits.claim(3).await, |permit| permit.nonce = word | U256::from(1));
    permits.payment(&third).await;
}

async fn planned_later(permits: &Permits, claim: &Claim, seconds: u64) -> NextStep {
    let payment = permits.payment(claim).await;
    permits.stage.chain.increase_time(seconds);
    permits.stage.chain.mine(1);
    let now = UnixSeconds(permits.stage.chain.time());
    permits.of(claim).plan(&payment, now).await.unwrap()
}

/// Checks permits that end, or are used, between verification and settlement: nothing is sent for them.
#[tokio::test]
async fn a_permit_that_ends_before_it_is_sent_is_not_sent() {
    let permits = permits(0).await;
    let soon = permits.now().plus(6);
    let ends = signed_again(&permits.claim(1).await, |permit| permit.deadline = U256::from(soon.0));
    let expired = NextStep::Failed(ErrorReason::PERMIT2_DEADLINE_EXPIRED);
    assert_eq!(planned_later(&permits, &ends, 10).await, expired);
    // It was in time: a second that is not over yet still settles it.
    let soon = permits.now().plus(30);
    let lasts = signed_again(&permits.claim(2).await, |permit| permit.deadline = U256::from(soon.0));
    assert!(matches!(planned_later(&permits, &lasts, 20).await, NextStep::Do { .. }));
    assert_eq!(permits.stage.chain.nonce_of(permits.stage.rail.address()), 0);
}

#[tokio::test]
async fn nobody_is_paid_at_the_zero_address() {
    let permits = permits(0).await;
    for mut terms in [exact_terms(), upto_terms(permits.stage.rail.address())] {
        let claim = permits.claim_by(x402_devchain::signer(PAYER).unwrap(), terms.clone(), 7).await;
        terms.pay_to = Address::ZERO.to_string();
        let claim = signed_again(&claim.with_terms(terms), |permit| permit.witness.to = Address::ZERO);
        let refused = permits.of(&claim).verify(&claim, permits.now()).await.unwrap_err();
        assert!(format!("{refused:?}").contains("permit2_invalid_destination"), "{refused:?}");
    }
}
