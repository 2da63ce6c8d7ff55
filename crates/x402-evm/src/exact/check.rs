//! What can be checked of an EIP-3009 payment without a chain, in the order of `scheme_exact_evm.md` §1 "Verification".

use alloy_primitives::{Address, B256};
use x402_types::{Claim, ErrorReason, EvmAddress, Rejection, Terms, UnixSeconds};

use super::terms::{self, Asked};
use crate::eip3009::{Authorization, Payload};
use crate::signature::SignatureError;
use crate::token::{Domain, Tokens};
use crate::wallet::{NotSigned, Signers, UnverifiedSignature};

/// Seconds that an authorization may last unless told.
const LONGEST: u64 = 3_600;

/// What a facilitator leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Seconds that must be left before `validBefore`: 6, as the SDKs have it, to land in a block.
    pub margin: u64,
    /// Seconds beyond `maxTimeoutSeconds` that `validBefore` may lie in the future; `None`: any.
    pub skew: Option<u64>,
    /// Seconds that an authorization may last, whatever the terms ask for: one hour. The skew, or a minute, comes on top.
    pub longest: u64,
    /// Who may have signed: keys and deployed contracts. Contracts that are not there yet need a factory of its list.
    pub signers: Signers,
}

impl Default for Policy {
    fn default() -> Self {
        Self { margin: 6, skew: Some(60), longest: LONGEST, signers: Signers::any() }
    }
}

impl Policy {
    /// With so many seconds beyond `maxTimeoutSeconds`, or any with `None`.
    #[must_use]
    pub const fn with_skew(mut self, skew: Option<u64>) -> Self {
        self.skew = skew;
        self
    }

    /// With so many seconds left before `validBefore`.
    #[must_use]
    pub const fn with_margin(mut self, seconds: u64) -> Self {
        self.margin = seconds;
        self
    }

    /// With so many seconds that an authorization may last.
    #[must_use]
    pub const fn with_longest(mut self, seconds: u64) -> Self {
        self.longest = seconds;
        self
    }

    /// With other signers.
    #[must_use]
    pub fn with_signers(mut self, signers: Signers) -> Self {
        self.signers = signers;
        self
    }
}

/// A payment that is good as far as its own bytes say. Whose signature it is the chain knows: the code at
/// `authorization.from` decides, and [`Checked::signed_by_key`] has what is known without it.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The token.
    pub token: Address,
    /// What the payer signed.
    pub authorization: Authorization,
    /// The signature, and what is known of it without a chain.
    pub signature: UnverifiedSignature,
    /// The digest that was signed.
    pub digest: B256,
    /// The domain that it was signed under; from `extra` where the token's own is not pinned.
    pub domain: Domain,
}

impl Policy {
    /// Checks everything that needs no chain, with one recovery. The signature is read, not yet believed.
    ///
    /// # Errors
    /// The first rule that is broken, with the payer where the payload could be read.
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

        // "1. Verify the signature is valid and recovers to the authorization.from address", as far as it goes here.
        let digest = authorization.digest(domain.separator);
        let signature = self.signers.read(authorization.from, digest, &payload.signature).map_err(not_signed)?;

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
        // A payment that does not land is open, and costs reads, until then.
        if authorization.valid_before > now.plus(self.longest).plus(self.skew.unwrap_or(60)) {
            let why = format!("validBefore: an authorization lasts {} s at most here", self.longest);
            return Err(Rejection::new(ErrorReason::INVALID_VALID_BEFORE).because(why));
        }
        // The token asks `now > validAfter`, so equal is too early.
        if authorization.valid_after >= now {
            return refuse(ErrorReason::INVALID_VALID_AFTER);
        }
        Ok(Checked { token, authorization, signature, digest, domain })
    }
}

impl Checked {
    /// Whether it is signed by the payer's key: all there is to know of an account without code.
    ///
    /// # Errors
    /// `invalid_exact_evm_payload_signature`, or `…undeployed_smart_wallet` for what no key makes.
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
        // Whose it is instead is nobody's business.
        NotSigned::Other(_) => &"it is not the payer's",
        why => why,
    };
    Rejection::new(reason).because(format!("payload.signature: {why}"))
}

/// "4. Verify the token and network match the requirement", before anything is computed for an unknown one.
fn terms_of(tokens: &Tokens, terms: &Terms) -> Result<Asked, Rejection> {
    let served = tokens.iter().find(|token| token.network == terms.network).map(|token| token.chain_id);
    let why = || Rejection::new(ErrorReason::INVALID_NETWORK).because("network: not served here");
    terms::read(terms, served.ok_or_else(why), |asset| {
        tokens.find(terms.network, asset).map(Some).ok_or("asset: not configured here")
    })
}
