//! The identity of a payment, and a server's offer.

use sha2::{Digest, Sha256};
use x402_types::nvm::card::{CardCode, CardPayload, CardRequirements};
use x402_types::{
    AmountRule, AtomicAmount, AuthorizationKind, Claim, Malformed, Offer, PaymentKey, PaymentKeyFn, Rejection,
};

use crate::TokenClaims;

/// Creates a server's offer for this request: the entry, with the most credits that it may cost.
///
/// # Errors
/// The entry is not of this scheme and version.
pub fn offer(entry: &CardRequirements, credits: AtomicAmount) -> Result<Offer, Malformed> {
    Ok(Offer { terms: entry.to_terms(credits)?, key: std::sync::Arc::new(CardKey) })
}

/// The key function of payments by card, for [`Offer`]. Only the credits that were used are burned.
#[derive(Debug, Clone, Copy)]
struct CardKey;

impl PaymentKeyFn for CardKey {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        payment_key(claim, &TokenClaims::unverified(&CardPayload::from_raw(&claim.payload)?.token)?)
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }

    fn settles_upfront(&self) -> bool {
        false
    }
}

/// Derives the identity of a payment: for a token that pays once, its nonce; for any other, the delegation, the plan, the
/// caller and the request, so the claim's identity must be set first. The contract is empty, so that
/// [`PaymentKey::prefix`] finds every payment of a subscriber.
pub(crate) fn payment_key(claim: &Claim, token: &TokenClaims) -> Result<PaymentKey, Rejection> {
    let key = |nonce: &[u8]| {
        let subject = token.subject.as_bytes();
        PaymentKey::new(AuthorizationKind::NvmCardDelegation, claim.terms.network, &[], subject, nonce)
    };
    if let Some(nonce) = &token.binding.nonce {
        return Ok(key(nonce));
    }
    let plan = CardRequirements::try_from(&claim.terms)
        .map_err(|why| CardCode::InvalidPayload.because(format!("accepted: {why}")))?
        .plan_id;
    let mut hash = Sha256::new();
    let plan = plan.to_string();
    for part in [token.delegation.as_str(), &plan, &claim.identity.caller, &claim.identity.request] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(key(&hash.finalize()))
}
