//! Permits that are verified: what is asked of the chain, and what is refused by which code.

use alloy_primitives::{Address, Bytes, U256};
use alloy_provider::Provider;
use alloy_sol_types::{SolCall, sol};
use x402_devchain::{ACCOUNTS, TOKEN, signer};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, Permit, UPTO_PROXY};
use x402_facilitator_core::{Mechanism, NextStep, Observation, StepProof, StepState};
use x402_types::{ErrorReason, Terms};

use crate::permit::{payload, permits, signed_again, upto_terms};
use crate::stage::{PAYER, PRICE};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
}

#[tokio::test]
async fn a_permit_is_verified_in_one_round_trip_and_proven_by_its_transfer() {
    let permits = permits(2).await;
    let claim = permits.claim(7).await;
    assert!(permits.exact.is_own(&claim) && !permits.stage.mechanism.is_own(&claim));
    permits.stage.chain.reset_calls();
    let mut payment = permits.payment(&claim).await;
    let calls = permits.stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));
    assert_eq!(payment.payer, ACCOUNTS[PAYER].address.to_string());

    let upto = permits.claim_by(signer(PAYER).unwrap(), upto_terms(permits.stage.rail.address()), 8).await;
    permits.stage.chain.reset_calls();
    permits.payment(&upto).await;
    let calls = permits.stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1), "upto");

    let attempt = permits.carry(&mut payment, 0).await;
    let sent = [attempt.tx.clone()];
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending);
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending, "the block is not final");
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    permits.stage.chain.mine(2);
    let proof = permits.observe(&payment, &sent).await;
    assert_eq!(proof, Observation::Proven(StepProof::new(attempt.tx.clone(), PRICE.into())));
    // After a crash the hashes are those of the ledger; without them the call itself proves it.
    assert_eq!(permits.observe(&payment, &[]).await, proof);
    let Observation::Proven(proof) = proof else { panic!() };
    payment.steps.last_mut().unwrap().state = StepState::Proven(proof);
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (Some(attempt.tx), None));
    // The nonce is used now, and the refusal names the transaction.
    let why = permits.refusal(&claim).await;
    assert_eq!(why.reason, ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(why.details.text("transaction").as_deref(), Some(sent[0].as_str()));
}

#[tokio::test]
async fn whatever_the_chain_objects_to_is_refused_by_its_code() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let chain = &permits.stage.chain;
    let payer = ACCOUNTS[PAYER].address;

    permits.approve(PAYER, TOKEN, U256::from(PRICE - 1)).await;
    let claim_now = permits.claim(8).await;
    assert_eq!(permits.refused(&claim_now).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    assert_eq!(ErrorReason::PERMIT2_ALLOWANCE_REQUIRED.row().unwrap().status, 412);
    permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
    assert!(permits.exact.verify(&claim, permits.now()).await.is_ok());

    chain.set_balance_of(payer, U256::from(PRICE - 1));
    assert_eq!(permits.refused(&claim).await, ErrorReason::INSUFFICIENT_FUNDS);
    chain.set_balance_of(payer, U256::from(PRICE));
    assert!(permits.exact.verify(&claim, permits.now()).await.is_ok());

    let nonce = payload(&claim).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    chain.mine(1);
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_INVALID_NONCE);
    // The next nonce of the same word is another bit.
    let next = signed_again(&claim, |permit| permit.nonce ^= U256::from(1));
    assert!(permits.exact.verify(&next, permits.now()).await.is_ok());

    for (contract, reason) in [
        (EXACT_PROXY, ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED),
        (PERMIT2, ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED),
        (TOKEN, ErrorReason::ASSET_NOT_DEPLOYED),
    ] {
        let code = chain.provider().get_code_at(contract).await.unwrap();
        chain.set_code(contract, Bytes::new()).unwrap();
        assert_eq!(permits.refused(&next).await, reason);
        chain.set_code(contract, code).unwrap();
    }
    assert!(permits.exact.verify(&next, permits.now()).await.is_ok());
}

#[tokio::test]
async fn whatever_the_permit_itself_lacks_is_refused_without_the_chain() {
    let permits = permits(0).await;
    let good = permits.claim(7).await;
    assert!(permits.exact.verify(&good, permits.now()).await.is_ok());
    permits.stage.chain.reset_calls();
    let now = U256::from(permits.now().0);
    let with = |change: &dyn Fn(&mut Permit)| signed_again(&good, |permit| change(permit));
    let seconds = U256::from;
    for (claim, reason) in [
        (with(&|permit| permit.spender = UPTO_PROXY), ErrorReason::INVALID_PERMIT2_SPENDER),
        (with(&|permit| permit.witness.to = permit.from), ErrorReason::INVALID_PERMIT2_RECIPIENT),
        (with(&|permit| permit.deadline = now + seconds(5)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = now - seconds(1)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = now + seconds(121)), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.deadline = U256::MAX), ErrorReason::PERMIT2_DEADLINE_EXPIRED),
        (with(&|permit| permit.witness.valid_after = now + seconds(1)), ErrorReason::PERMIT2_NOT_YET_VALID),
        (with(&|permit| permit.witness.valid_after = U256::MAX), ErrorReason::PERMIT2_NOT_YET_VALID),
        (with(&|permit| permit.amount = (PRICE + 1).into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
        (with(&|permit| permit.amount = (PRICE - 1).into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
        (with(&|permit| permit.token = PERMIT2), ErrorReason::PERMIT2_TOKEN_MISMATCH),
        (with(&|permit| permit.from = ACCOUNTS[5].address), ErrorReason::INVALID_PERMIT2_SIGNATURE),
        (with(&|permit| permit.witness.facilitator = Some(permit.from)), ErrorReason::UNSUPPORTED_PAYLOAD_TYPE),
    ] {
        if reason == ErrorReason::INVALID_PERMIT2_SIGNATURE {
            // The code at the payer's address could have agreed to it, so the chain is asked.
            assert_eq!(permits.refused(&claim).await, reason);
            assert_eq!(permits.stage.chain.calls().of("eth_call"), 1);
            permits.stage.chain.reset_calls();
            continue;
        }
        assert_eq!(permits.refused(&claim).await, reason);
        let calls = permits.stage.chain.calls().total();
        // The end of a permit that is over may have been in time for another transaction.
        assert!(calls == 0 || reason == ErrorReason::PERMIT2_DEADLINE_EXPIRED, "{reason}: {calls}");
        permits.stage.chain.reset_calls();
    }
    for (deadline, after) in [(now + seconds(6), now - seconds(4)), (now + seconds(120), U256::ZERO)] {
        let claim = signed_again(&good, |permit| (permit.deadline, permit.witness.valid_after) = (deadline, after));
        assert!(permits.exact.verify(&claim, permits.now()).await.is_ok(), "{deadline}");
    }
    let terms = |change: &dyn Fn(&mut Terms)| {
        let mut terms = good.terms.clone();
        change(&mut terms);
        good.clone().with_terms(terms)
    };
    for (claim, reason) in [
        (terms(&|terms| terms.network = "eip155:1".parse().unwrap()), ErrorReason::INVALID_NETWORK),
        (terms(&|terms| terms.asset = PERMIT2.to_string()), ErrorReason::INVALID_PAYMENT_REQUIREMENTS),
        (terms(&|terms| terms.pay_to = Address::ZERO.to_string()), ErrorReason::PERMIT2_INVALID_DESTINATION),
        (terms(&|terms| terms.amount = 0.into()), ErrorReason::PERMIT2_AMOUNT_MISMATCH),
    ] {
        assert_eq!(permits.refusal(&claim).await.reason, reason);
    }
    let zero = signed_again(&terms(&|terms| terms.amount = 0.into()), |permit| permit.amount = 0.into());
    assert_eq!(permits.refused(&zero).await, ErrorReason::PERMIT2_INVALID_AMOUNT);
}
