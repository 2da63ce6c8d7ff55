//! Settlements by `upto`, and permits of the token beside the payment.

use alloy_primitives::{U256, hex};
use alloy_signer::SignerSync;
use alloy_sol_types::SolCall;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, TOKEN, Token as DevToken, signer};
use x402_evm::chain::{Call, ReadChain};
use x402_evm::eip712::DomainSeparator;
use x402_evm::permit2::sponsored::{EIP2612_GAS_SPONSORING, PermittedAllowance, SponsoredPermit};
use x402_evm::permit2::{EXACT_PROXY, Eip2612Permit, PERMIT2, SettleCall};
use x402_evm::token::Tokens;
use x402_facilitator_core::{LaneId, Mechanism, NextStep, Observation, StepProof, StepState};
use x402_types::{Assets, Claim, ErrorReason, Members, RawJson};

use crate::permit::{network, payload, permits, permits_with, settle_call, signed_again, upto_terms};
use crate::stage::{PAYER, PRICE, stage};

#[tokio::test]
async fn upto_settles_what_was_used_by_the_account_of_the_witness() {
    let permits = permits(0).await;
    let facilitator = permits.stage.rail.address();
    let kind = &permits.upto.kinds()[0];
    assert_eq!(kind.extra.text("facilitatorAddress"), Some(facilitator.to_string()));
    let most = permits.claim_by(signer(PAYER).unwrap(), upto_terms(facilitator), 7).await;
    permits.stage.chain.reset_calls();
    assert!(permits.upto.verify(&most, permits.now()).await.is_ok());
    let calls = permits.stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total(), calls.of("eth_call")), (1, 1, 1));

    let settling = |amount: u64| {
        let mut terms = most.terms.clone();
        terms.amount = amount.into();
        most.clone().with_terms(terms)
    };
    assert_eq!(permits.refused(&settling(PRICE + 1)).await, ErrorReason::UPTO_EXCEEDS_AMOUNT);
    // Only the account that the payer named can settle, and only accounts of this facilitator are named.
    let of_other = permits.claim_by(signer(PAYER).unwrap(), upto_terms(ACCOUNTS[5].address), 7).await;
    assert_eq!(permits.refused(&of_other).await, ErrorReason::UPTO_FACILITATOR_MISMATCH);
    let without = signed_again(&most, |permit| permit.witness.facilitator = None);
    assert_eq!(permits.refused(&without).await, ErrorReason::UNSUPPORTED_PAYLOAD_TYPE);

    // The balance has to cover what was used, not the maximum.
    permits.stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(1_234));
    assert_eq!(permits.refused(&most).await, ErrorReason::INSUFFICIENT_FUNDS);
    let used = settling(1_234);
    let mut payment = permits.payment(&used).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let Observation::Proven(proof) = permits.observe(&payment, std::slice::from_ref(&attempt.tx)).await else {
        panic!()
    };
    assert_eq!(proof, StepProof::new(attempt.tx.clone(), 1_234.into()));
    assert_eq!(permits.stage.paid(), U256::from(1_234));
    payment.steps.last_mut().unwrap().state = StepState::Proven(proof);
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (Some(attempt.tx), Some(1_234.into())));
}

/// The payment with a permit of the token beside it, which gives Permit2 the allowance, as the extension carries it.
pub(crate) fn sponsored(claim: &Claim, change: impl FnOnce(&mut Value)) -> Claim {
    let permit = payload(claim).authorization;
    let (value, deadline) = (permit.amount.value(), permit.deadline);
    let allowance = PermittedAllowance { owner: permit.from, value, nonce: U256::ZERO, deadline };
    let digest = allowance.digest(DomainSeparator::new("USDC", "2", 84532, TOKEN));
    let signature = signer(PAYER).unwrap().sign_hash_sync(&digest).unwrap();
    let mut info = json!({
        "description": "as declared", "from": permit.from.to_string(), "asset": TOKEN.to_string(),
        "spender": PERMIT2.to_string(), "amount": value.to_string(), "nonce": "0", "deadline": deadline.to_string(),
        "signature": hex::encode_prefixed(signature.as_bytes()), "version": "1",
    });
    change(&mut info);
    let mut extensions = Members::new();
    extensions.insert(EIP2612_GAS_SPONSORING, RawJson::of(&json!({ "info": info })).unwrap());
    claim.clone().with_extensions(extensions)
}

#[tokio::test]
async fn a_permit_of_the_token_gives_the_allowance_in_the_settlement_itself() {
    let permits = permits_with(stage(0), &Tokens::for_permit2(&Assets::default()));
    let claim = permits.claim(7).await;
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    let with = |member: &'static str, value: Value| sponsored(&claim, move |info| info[member] = value);
    let other = || json!(ACCOUNTS[5].address.to_string());
    for (changed, reason) in [
        (with("from", other()), ErrorReason::EIP2612_FROM_MISMATCH),
        (with("asset", other()), ErrorReason::EIP2612_ASSET_MISMATCH),
        (with("spender", other()), ErrorReason::EIP2612_SPENDER_NOT_PERMIT2),
        (with("amount", json!("9999")), ErrorReason::PERMIT2_2612_AMOUNT_MISMATCH),
        (with("deadline", json!((permits.now().0 + 5).to_string())), ErrorReason::EIP2612_DEADLINE_EXPIRED),
        (with("nonce", json!("0x0")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        (with("version", json!("1.")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        (with("signature", json!("0x00")), ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT),
        // The simulation shows what the token would say.
        (with("signature", json!(format!("0x{}1b", "11".repeat(64)))), ErrorReason::PERMIT2_ALLOWANCE_REQUIRED),
        // A declaration that is only echoed is none.
        (sponsored(&claim, |info| *info = json!({ "version": "1" })), ErrorReason::PERMIT2_ALLOWANCE_REQUIRED),
    ] {
        assert_eq!(permits.refused(&changed).await, reason);
    }
    let good = sponsored(&claim, |_| {});
    let mut payment = permits.payment(&good).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let sent = [attempt.tx];
    assert!(matches!(permits.observe(&payment, &sent).await, Observation::Proven(_)));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

/// Checks that a permit of the token which somebody used before does not hold up the payment.
#[tokio::test]
async fn a_permit_of_the_token_that_was_used_before_is_as_good() {
    let permits = permits_with(stage(0), &Tokens::for_permit2(&Assets::default()));
    let claim = sponsored(&permits.claim(7).await, |_| {});
    let mut payment = permits.payment(&claim).await;
    let permit = SponsoredPermit::read(&claim.extensions, &payload(&claim).authorization).unwrap().unwrap();
    let Eip2612Permit { value, deadline, r, s, v } = Eip2612Permit::from(&permit);
    let owner = ACCOUNTS[PAYER].address;
    let front = DevToken::permit_0Call { owner, spender: PERMIT2, value, deadline, v, r, s };
    permits.stage.other(5, TOKEN, front.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert!(matches!(permits.observe(&payment, &[attempt.tx]).await, Observation::Proven(_)));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn upto_of_nothing_needs_no_transaction() {
    let permits = permits(0).await;
    let mut terms = upto_terms(permits.stage.rail.address());
    let most = permits.claim_by(signer(PAYER).unwrap(), terms.clone(), 7).await;
    terms.amount = 0.into();
    let unused = most.clone().with_terms(terms);
    permits.approve(PAYER, TOKEN, U256::ZERO).await;
    let payment = permits.payment(&unused).await;
    let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
    assert_eq!((receipt.transaction, receipt.amount), (None, Some(0.into())));
    // A signature that is not the payer's is refused even then.
    let forged = signed_again(&unused, |permit| permit.from = ACCOUNTS[5].address);
    assert_eq!(permits.refused(&forged).await, ErrorReason::INVALID_PERMIT2_SIGNATURE);
}

/// Checks that a parcel says what it settles, whatever has happened to the process.
#[tokio::test]
async fn a_parcel_is_the_call_of_the_proxy() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let payment = permits.payment(&claim).await;
    let plan = permits.planned(&payment).await;
    let NextStep::Do { parcel, .. } = plan else { panic!("{plan:?}") };
    let call = Call::from_bytes(&parcel.bytes).unwrap();
    assert_eq!((call.to, SettleCall::of_call(&call.data)), (EXACT_PROXY, Some(settle_call(&claim))));
    let lanes: Vec<LaneId> = permits.exact.lanes();
    assert_eq!(lanes, [permits.stage.rail.lane().clone()]);
    assert_eq!(permits.stage.reader.network(), network());
}
