//! The checks of a payment by Permit2 that need no chain, in the order of the TypeScript SDK: `scheme_exact_evm.md` §2
//! "Phase 2: Verification Logic", `scheme_upto_evm.md` "Phase 2".

use alloy_primitives::{Address, U256};
use x402_types::{AtomicAmount, Claim, ErrorReason, EvmAddress, Rejection, SchemeName, Terms, UnixSeconds};

use super::calls::{Eip2612Permit, SettleCall};
use super::message::{self, Permit};
use super::payload::PermitPayload;
use super::signed_approval::SignedApproval;
use super::sponsored::SponsoredPermit;
use super::{EXACT_PROXY, UPTO_PROXY};
use crate::eip6492::Counterfactual;
use crate::exact::ExactPolicy;
use crate::token::Tokens;
use crate::wallet::{NotSigned, UnverifiedSignature};

/// A scheme of which Permit2 moves the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PermitScheme {
    /// The permitted amount is settled, by whichever account.
    Exact,
    /// At most the permitted amount is settled, by the account that the payer named.
    Upto,
}

impl PermitScheme {
    /// Returns the name of the scheme.
    #[must_use]
    pub const fn name(self) -> SchemeName {
        match self {
            Self::Exact => SchemeName::EXACT,
            Self::Upto => SchemeName::UPTO,
        }
    }

    /// Returns the proxy that settles payments of the scheme.
    #[must_use]
    pub const fn proxy(self) -> Address {
        match self {
            Self::Exact => EXACT_PROXY,
            Self::Upto => UPTO_PROXY,
        }
    }
}

/// A payment by Permit2 that is valid as far as its own bytes show. The code at `permit.from` decides whose signature it
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckedPermit {
    pub(super) permit: Permit,
    /// The amount to settle, at most the permitted one.
    pub(super) amount: AtomicAmount,
    pub(super) signature: UnverifiedSignature,
    /// The permit of the token that gives Permit2 its allowance before.
    pub(super) permit2612: Option<Eip2612Permit>,
    /// The payer's transaction that gives Permit2 its allowance before. A permit of the token comes first.
    pub(super) approval: Option<SignedApproval>,
}

impl CheckedPermit {
    /// Returns the call that settles the payment.
    pub(super) fn call(&self) -> SettleCall {
        SettleCall {
            authorization: self.permit,
            amount: self.amount,
            signature: self.signature.inner().clone(),
            permit2612: self.permit2612,
        }
    }

    /// Returns the last second in which the permit can be used.
    pub(super) fn deadline(&self) -> UnixSeconds {
        seconds(&self.permit)
    }
}

/// Returns the deadline in the seconds of this program; one beyond them never comes.
pub(super) fn seconds(permit: &Permit) -> UnixSeconds {
    UnixSeconds(u64::try_from(permit.deadline).unwrap_or(u64::MAX))
}

/// The parts of the terms that a permit must match.
pub(super) struct PermitTerms {
    token: Address,
    chain_id: u64,
    pay_to: Address,
}

/// Performs every check that needs no chain, with one recovery. `senders` are the accounts that may settle.
/// # Errors
/// The first rule that is violated, with the payer if the payload could be parsed.
pub(super) fn check(
    scheme: PermitScheme,
    policy: &ExactPolicy,
    tokens: &Tokens,
    senders: &[Address],
    claim: &Claim,
    now: UnixSeconds,
) -> Result<CheckedPermit, Rejection> {
    let asked = terms_of(scheme, tokens, &claim.terms)?;
    let PermitPayload { authorization: permit, signature } = PermitPayload::read(&claim.payload)?;
    let checked = matches(scheme, policy, senders, &asked, &claim.terms, &permit, now);
    let checked = checked.and_then(|()| {
        let sponsored = SponsoredPermit::read(&claim.extensions, &permit)?;
        // The token compares the deadline with a block's time, as Permit2 does.
        if let Some(sponsored) = &sponsored
            && sponsored.allowance.deadline < U256::from(now.plus(policy.margin).0)
        {
            return Err(Rejection::new(ErrorReason::EIP2612_DEADLINE_EXPIRED));
        }
        let signature = signed(policy, &permit, &signature, asked.chain_id)?;
        let approval = SignedApproval::read(&claim.extensions, &permit, asked.chain_id)?;
        let permit2612 = sponsored.as_ref().map(Eip2612Permit::from);
        let approval = approval.filter(|_| permit2612.is_none());
        Ok(CheckedPermit { permit, amount: claim.terms.amount, signature, permit2612, approval })
    });
    match checked {
        Ok(checked) => Ok(checked),
        Err(rejection) => Err(rejection.of(EvmAddress::from(permit.from).as_str())),
    }
}

/// Reads the signature, and recovers its key.
pub(super) fn signed(
    policy: &ExactPolicy,
    permit: &Permit,
    signature: &alloy_primitives::Bytes,
    chain_id: u64,
) -> Result<UnverifiedSignature, Rejection> {
    // Permit2 knows no accounts that are not deployed yet: it would hand the wrapping to the account.
    if Counterfactual::is_one(signature) {
        return Err(not_signed(NotSigned::NotDeployed));
    }
    let signers = policy.signers.clone().with_either_half();
    let digest = permit.digest(message::domain(chain_id));
    signers.read(permit.from, digest, signature).map_err(not_signed)
}

fn matches(
    scheme: PermitScheme,
    policy: &ExactPolicy,
    senders: &[Address],
    asked: &PermitTerms,
    terms: &Terms,
    permit: &Permit,
    now: UnixSeconds,
) -> Result<(), Rejection> {
    let refuse = |reason| Err(Rejection::new(reason));
    let member = "payload.permit2Authorization.witness.facilitator";
    match (scheme, permit.witness.facilitator) {
        (PermitScheme::Exact, Some(_)) => {
            let why = format!("{member}: expected none, as `exact` is signed without it");
            return Err(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE).because(why));
        }
        (PermitScheme::Upto, None) => {
            let why = format!("{member}: expected the account that settles");
            return Err(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE).because(why));
        }
        _ => {}
    }
    if permit.spender != scheme.proxy() {
        return refuse(ErrorReason::INVALID_PERMIT2_SPENDER);
    }
    if permit.witness.to != asked.pay_to {
        return refuse(ErrorReason::INVALID_PERMIT2_RECIPIENT);
    }
    if permit.witness.facilitator.is_some_and(|facilitator| !senders.contains(&facilitator)) {
        return refuse(ErrorReason::UPTO_FACILITATOR_MISMATCH);
    }
    // Permit2 accepts the second of the deadline itself; the margin is the time that a transaction needs to get into a
    // block.
    policy.ends_in_time("deadline", ErrorReason::PERMIT2_DEADLINE_EXPIRED, seconds(permit), terms, now)?;
    if permit.witness.valid_after > U256::from(now.0) {
        return refuse(ErrorReason::PERMIT2_NOT_YET_VALID);
    }
    match scheme {
        PermitScheme::Exact if permit.amount != terms.amount => return refuse(ErrorReason::PERMIT2_AMOUNT_MISMATCH),
        PermitScheme::Upto if permit.amount < terms.amount => return refuse(ErrorReason::UPTO_EXCEEDS_AMOUNT),
        PermitScheme::Exact | PermitScheme::Upto => {}
    }
    if permit.amount.is_zero() {
        return refuse(ErrorReason::PERMIT2_INVALID_AMOUNT);
    }
    if permit.token != asked.token {
        return refuse(ErrorReason::PERMIT2_TOKEN_MISMATCH);
    }
    Ok(())
}

/// Returns the refusal of a signature that is not the payer's.
pub(super) fn not_signed(why: NotSigned) -> Rejection {
    let why: &dyn core::fmt::Display = match &why {
        // The other signer's address is not revealed.
        NotSigned::Other(_) => &"it is not the payer's",
        why => why,
    };
    Rejection::new(ErrorReason::INVALID_PERMIT2_SIGNATURE).because(format!("payload.signature: {why}"))
}

/// Reads the terms: a network and a token that are served here, and the recipient. The payload's shape decides on the
/// method, whatever `extra.assetTransferMethod` contains, as it does for the SDKs.
pub(super) fn terms_of(scheme: PermitScheme, tokens: &Tokens, terms: &Terms) -> Result<PermitTerms, Rejection> {
    let bad = |why: &'static str| Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because(why);
    if terms.scheme != scheme.name() {
        return Err(
            Rejection::new(ErrorReason::UNSUPPORTED_SCHEME).because(format!("scheme: expected `{}`", scheme.name()))
        );
    }
    let served = tokens.iter().find(|token| token.network == terms.network).map(|token| token.chain_id);
    let why = || Rejection::new(ErrorReason::INVALID_NETWORK).because("network: not served here");
    let chain_id = served.ok_or_else(why)?;
    let address = |text: &str| text.parse::<EvmAddress>().and_then(Address::try_from).ok();
    let asset = address(&terms.asset).ok_or_else(|| bad("asset: expected an EVM address"))?;
    let token = tokens.find(terms.network, asset).ok_or_else(|| bad("asset: not configured here"))?.address;
    let pay_to = address(&terms.pay_to).ok_or_else(|| bad("payTo: expected an EVM address"))?;
    if pay_to.is_zero() {
        return Err(Rejection::new(ErrorReason::PERMIT2_INVALID_DESTINATION).because("payTo: the zero address"));
    }
    Ok(PermitTerms { token, chain_id, pay_to })
}
