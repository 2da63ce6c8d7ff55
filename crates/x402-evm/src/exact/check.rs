//! What can be checked of an EIP-3009 payment without a chain, in the order of `scheme_exact_evm.md` §1 "Verification".

use alloy_primitives::{Address, B256};
use x402_types::{Claim, ErrorReason, EvmAddress, Rejection, SchemeName, Terms, UnixSeconds};

use crate::eip3009::{Authorization, Payload};
use crate::signature::{Signature, recover};
use crate::token::{Domain, Token, Tokens};

/// What a facilitator leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Seconds that must be left before `validBefore`: 6, as the SDKs have it, to land in a block.
    pub margin: u64,
    /// Seconds beyond `maxTimeoutSeconds` that `validBefore` may lie in the future; `None`: any.
    pub skew: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { margin: 6, skew: Some(60) }
    }
}

impl Policy {
    /// With so many seconds beyond `maxTimeoutSeconds`, or any with `None`.
    #[must_use]
    pub const fn skew(mut self, skew: Option<u64>) -> Self {
        self.skew = skew;
        self
    }

    /// With so many seconds left before `validBefore`.
    #[must_use]
    pub const fn margin(mut self, seconds: u64) -> Self {
        self.margin = seconds;
        self
    }
}

/// A payment that is good as far as its own bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The token.
    pub token: Address,
    /// What the payer signed.
    pub authorization: Authorization,
    /// The signature, recovered to `authorization.from`.
    pub signature: Signature,
    /// The digest that was signed.
    pub digest: B256,
    /// The domain that it was signed under; from `extra` where the token's own is not pinned.
    pub domain: Domain,
}

impl Policy {
    /// Checks everything that needs no chain, with one recovery.
    ///
    /// # Errors
    /// The first rule that is broken, with the payer where the payload could be read.
    pub fn check(&self, tokens: &Tokens, claim: &Claim, now: UnixSeconds) -> Result<Checked, Rejection> {
        let terms = &claim.terms;
        let (token, domain, pay_to) = terms_of(tokens, terms)?;
        let payload = Payload::read(&claim.payload)?;
        let checked = self.payment(token, domain, pay_to, terms, &payload, now);
        checked.map_err(|rejection| rejection.of(EvmAddress::from(payload.authorization.from).as_str()))
    }

    fn payment(
        &self,
        token: &Token,
        domain: Domain,
        pay_to: Address,
        terms: &Terms,
        payload: &Payload,
        now: UnixSeconds,
    ) -> Result<Checked, Rejection> {
        let authorization = payload.authorization;
        let refuse = |reason| Err(Rejection::new(reason));

        // "1. Verify the signature is valid and recovers to the authorization.from address."
        let bad = |why: &dyn core::fmt::Display| {
            Rejection::new(ErrorReason::INVALID_SIGNATURE).because(format!("payload.signature: {why}"))
        };
        let signature = Signature::from_bytes(&payload.signature).map_err(|why| bad(&why))?;
        let digest = authorization.digest(domain.separator);
        let signer = recover(digest, &signature).map_err(|why| bad(&why))?;
        if signer != authorization.from {
            return Err(bad(&"it is not the payer's"));
        }

        // "3. Verify the authorization parameters (amount, validity window) meet the requirements": equal, not at least.
        if authorization.to != pay_to {
            return refuse(ErrorReason::RECIPIENT_MISMATCH);
        }
        if authorization.value != terms.amount {
            return refuse(ErrorReason::INVALID_VALUE);
        }
        // The token asks `now < validBefore`; the margin is what a transaction needs to get into a block.
        if authorization.valid_before < now.plus(self.margin) {
            return refuse(ErrorReason::INVALID_VALID_BEFORE);
        }
        if let Some(skew) = self.skew
            && authorization.valid_before > now.plus(terms.max_timeout_seconds.get()).plus(skew)
        {
            return refuse(ErrorReason::INVALID_VALID_BEFORE);
        }
        // The token asks `now > validAfter`, so equal is too early.
        if authorization.valid_after >= now {
            return refuse(ErrorReason::INVALID_VALID_AFTER);
        }
        Ok(Checked { token: token.address, authorization, signature, digest, domain })
    }
}

/// "4. Verify the token and network match the requirement", before anything is computed for an unknown one.
fn terms_of<'a>(tokens: &'a Tokens, terms: &Terms) -> Result<(&'a Token, Domain, Address), Rejection> {
    let refuse = |reason, why: &'static str| Rejection::new(reason).because(why);
    if terms.scheme != SchemeName::EXACT {
        return Err(refuse(ErrorReason::UNSUPPORTED_SCHEME, "scheme: expected `exact`"));
    }
    if !tokens.iter().any(|token| token.network == terms.network) {
        return Err(refuse(ErrorReason::INVALID_NETWORK, "network: not served here"));
    }
    if let Some(method) = terms.extra.get("assetTransferMethod")
        && method.read::<String>().ok().as_deref() != Some("eip3009")
    {
        return Err(refuse(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE, "extra.assetTransferMethod: expected `eip3009`"));
    }
    let requirements = |why| refuse(ErrorReason::INVALID_PAYMENT_REQUIREMENTS, why);
    let token = tokens.of(terms).ok_or_else(|| requirements("asset: not configured here"))?;
    let pay_to = terms.pay_to.parse::<EvmAddress>().and_then(Address::try_from);
    let pay_to = pay_to.map_err(|_| requirements("payTo: expected an EVM address"))?;
    if pay_to.is_zero() {
        return Err(requirements("payTo: the zero address"));
    }
    if terms.amount.is_zero() {
        return Err(requirements("amount: zero"));
    }
    let (Some(name), Some(version)) = (terms.extra.text("name"), terms.extra.text("version")) else {
        return Err(refuse(ErrorReason::MISSING_EIP712_DOMAIN, "extra.name and extra.version: expected strings"));
    };
    // `extra` is compared with what is known of the token and decides nothing itself: a domain of the seller's
    // choosing would let a signature for one contract pass for another's.
    match &token.domain {
        Some(domain) if *domain.name != *name => Err(Rejection::new(ErrorReason::TOKEN_NAME_MISMATCH)),
        Some(domain) if *domain.version != *version => Err(Rejection::new(ErrorReason::TOKEN_VERSION_MISMATCH)),
        Some(domain) => Ok((token, domain.clone(), pay_to)),
        None => Ok((token, Domain::new(&name, &version, token.chain_id, token.address), pay_to)),
    }
}
