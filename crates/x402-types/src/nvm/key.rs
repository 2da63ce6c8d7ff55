//! Payment keys: the identity of an authorization of this extension.

use crate::nvm::Payload;
use crate::{AmountRule, AuthorizationKind, Claim, PaymentKey, Rejection};

/// Derives the identity of a claim's authorization from the claim alone.
///
/// A v3 statement is (kind, network, account, nonce): it is spent once, whoever presents it. A v2 statement is a bearer
/// token for many requests: (kind, network, account, plan, caller, request id), so the claim's identity must be set
/// first. In version 0.2 the account is not part of the text, and is empty here. The contract is empty in both, so that
/// [`PaymentKey::prefix`] finds every payment of an account.
///
/// # Errors
/// `INVALID_PAYLOAD`: the payload cannot be parsed, or the terms are not of this scheme.
pub fn payment_key(claim: &Claim) -> Result<PaymentKey, Rejection> {
    let payload = Payload::from_raw(&claim.payload)?;
    let authorization = payload.authorization();
    let account = authorization.from().map(|from| from.to_bytes());
    let account = account.as_ref().map_or(&[][..], |account| account.as_slice());
    let key = |nonce: &[u8]| PaymentKey::new(AuthorizationKind::NvmErc4337, claim.terms.network, &[], account, nonce);
    if let Some(proof) = authorization.proof() {
        return Ok(key(proof.nonce.as_slice()));
    }
    let plan = super::Requirements::try_from(&claim.terms)
        .map_err(|why| super::Code::InvalidPayload.because(format!("accepted: {why}")))?
        .plan_id;
    // The request part is longer than a nonce, so that neither can be mistaken for the other.
    let mut request = plan.value().to_be_bytes::<32>().to_vec();
    for part in [&claim.identity.caller, &claim.identity.request] {
        request.extend_from_slice(&(part.len() as u64).to_be_bytes());
        request.extend_from_slice(part.as_bytes());
    }
    Ok(key(&request))
}

/// The key function of a plan's payments, for [`Offer`](crate::Offer). Only the credits that were used are redeemed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanKey;

impl crate::PaymentKeyFn for PlanKey {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        payment_key(claim)
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }

    fn settles_upfront(&self) -> bool {
        false
    }
}
