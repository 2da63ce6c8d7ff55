//! The checks of an EIP-3009 payment that need no chain, in the order of `scheme_exact_evm.md` §1 "Verification".

use alloy_primitives::{Address, B256};
use x402_types::{Claim, ErrorReason, EvmAddress, Rejection, Terms, UnixSeconds};

use super::terms::{self, Asked};
use crate::eip3009::{Authorization, Payload};
use crate::signature::SignatureError;
use crate::token::{Domain, Tokens};
use crate::wallet::{NotSigned, Signers, UnverifiedSignature};

/// The default maximum validity of an authorization, in seconds.
const LONGEST: u64 = 3_600;

/// Settings an operator may relax: time margin, clock skew, accepted signers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExactPolicy {
    /// The seconds that must remain until `validBefore`: 6, as in the SDKs, to land in a block.
    pub margin: u64,
    /// The seconds beyond `maxTimeoutSeconds` that `validBefore` may be in the future; `None` means any.
    pub skew: Option<u64>,
    /// The maximum validity of an authorization in seconds, whatever the terms allow: one hour. The skew, or a minute,
    /// is added.
    pub longest: u64,
    /// The accepted signers: keys and deployed contracts. Contracts that are not deployed yet need a listed factory.
    pub signers: Signers,
}

impl Default for ExactPolicy {
    fn default() -> Self {
        Self { margin: 6, skew: Some(60), longest: LONGEST, signers: Signers::any() }
    }
}

impl ExactPolicy {
    /// Sets the seconds beyond `maxTimeoutSeconds`, or any with `None`.
    #[must_use]
    pub const fn with_skew(mut self, skew: Option<u64>) -> Self {
        self.skew = skew;
        self
    }

    /// Sets the seconds that must remain until `validBefore`.
    #[must_use]
    pub const fn with_margin(mut self, seconds: u64) -> Self {
        self.margin = seconds;
        self
    }

    /// Sets the maximum validity of an authorization, in seconds.
    #[must_use]
    pub const fn with_longest(mut self, seconds: u64) -> Self {
        self.longest = seconds;
        self
    }

    /// Sets the accepted signers.
    #[must_use]
    pub fn with_signers(mut self, signers: Signers) -> Self {
        self.signers = signers;
        self
    }
}

/// A payment that is valid as far as its own bytes show. The chain determines whose signature it is: the code at
/// `authorization.from` decides, and [`Checked::signed_by_key`] returns what is known without it.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The token of the payment.
    pub token: Address,
    /// The authorization that the payer signed.
    pub authorization: Authorization,
    /// The signature, and the facts about it that need no chain.
    pub signature: UnverifiedSignature,
    /// The digest that was signed.
    pub digest: B256,
    /// The domain under which it was signed; from `extra` if the token's own is not pinned.
    pub domain: Domain,
}

impl ExactPolicy {
    /// Performs every check that needs no chain, with one recovery. The signature is parsed, but not verified yet.
    /// # Errors
    /// The first rule that is violated, with the payer if the payload could be parsed.
    pub fn check(&self, tokens: &Tokens, claim: &Claim, now: UnixSeconds) -> Result<Checked, Rejection> {
        let terms = &claim.terms;
        let asked = terms_of(tokens, terms)?;
        let payload = Payload::read(&claim.payload)?;
        let checked = self.payment(asked, terms, &payload, now);
        checked.map_err(|rejection| rejection.of(EvmAddress::from(payload.authorization.from).as_str()))
    }

    fn payment(
        &self,
        Asked { token, pay_to, domain }: Asked,
        terms: &Terms,
        payload: &Payload,
        now: UnixSeconds,
    ) -> Result<Checked, Rejection> {
        let authorization = payload.authorization;
        let refuse = |reason| Err(Rejection::new(reason));

        // "1. Verify the signature is valid and recovers to the authorization.from address", as far as possible without
        // the chain.
        let digest = authorization.digest(domain.separator);
        let signature = self.signers.read(authorization.from, digest, &payload.signature).map_err(not_signed)?;

        // "3. Verify the authorization parameters (amount, validity window) meet the requirements": equal, not at
        // least.
        if authorization.to != pay_to {
            return refuse(ErrorReason::RECIPIENT_MISMATCH);
        }
        if authorization.value != terms.amount {
            return refuse(ErrorReason::INVALID_VALUE);
        }
        // The token requires `now < validBefore`; the margin is the time that a transaction needs to get into a block.
        self.ends_in_time("validBefore", ErrorReason::INVALID_VALID_BEFORE, authorization.valid_before, terms, now)?;
        // The token requires `now > validAfter`, so equal is too early.
        if authorization.valid_after >= now {
            return refuse(ErrorReason::INVALID_VALID_AFTER);
        }
        Ok(Checked { token, authorization, signature, digest, domain })
    }
}

impl ExactPolicy {
    /// Checks that an authorization ends neither too soon nor too late. `member` names its end for people.
    pub(crate) fn ends_in_time(
        &self,
        member: &str,
        reason: ErrorReason,
        ends: UnixSeconds,
        terms: &Terms,
        now: UnixSeconds,
    ) -> Result<(), Rejection> {
        let too_late = |skew: &u64| ends > now.plus(terms.max_timeout_seconds.get()).plus(*skew);
        if ends < now.plus(self.margin) || self.skew.as_ref().is_some_and(too_late) {
            return Err(Rejection::new(reason));
        }
        // A payment that does not land stays open until then, and costs reads.
        if ends > now.plus(self.longest).plus(self.skew.unwrap_or(60)) {
            let why = format!("{member}: an authorization lasts {} s at most here", self.longest);
            return Err(Rejection::new(reason).because(why));
        }
        Ok(())
    }
}

impl Checked {
    /// Checks that the payer's key signed, which is sufficient for an account without code.
    /// # Errors
    /// `invalid_exact_evm_payload_signature`, or `…undeployed_smart_wallet` for a signature that no key produces.
    pub fn signed_by_key(&self) -> Result<(), Rejection> {
        let payer = EvmAddress::from(self.authorization.from);
        self.signature.of_key().map_err(|why| not_signed(why).of(payer.as_str()))
    }
}

pub(super) fn not_signed(why: NotSigned) -> Rejection {
    let reason = match why {
        NotSigned::Factory(_) => ErrorReason::FACTORY_NOT_ALLOWED,
        NotSigned::Deployment(_) => ErrorReason::SMART_WALLET_DEPLOYMENT_FAILED,
        NotSigned::NotDeployed => ErrorReason::UNDEPLOYED_SMART_WALLET,
        // No key's signature is longer.
        NotSigned::Key(SignatureError::Length(66..)) => ErrorReason::UNDEPLOYED_SMART_WALLET,
        _ => ErrorReason::INVALID_SIGNATURE,
    };
    let why: &dyn core::fmt::Display = match &why {
        // The other signer's address is not revealed.
        NotSigned::Other(_) => &"it is not the payer's",
        why => why,
    };
    Rejection::new(reason).because(format!("payload.signature: {why}"))
}

/// Checks "4. Verify the token and network match the requirement", before anything is computed for an unknown token.
fn terms_of(tokens: &Tokens, terms: &Terms) -> Result<Asked, Rejection> {
    let served = tokens.iter().find(|token| token.network == terms.network).map(|token| token.chain_id);
    let why = || Rejection::new(ErrorReason::INVALID_NETWORK).because("network: not served here");
    terms::read(terms, served.ok_or_else(why), |asset| {
        tokens.find(terms.network, asset).map(Some).ok_or("asset: not configured here")
    })
}
