//! The EIP-3009 parameters in `exact` terms, read alike by payer and facilitator.

use alloy_primitives::Address;
use x402_types::{ErrorReason, EvmAddress, Rejection, SchemeName, Terms};

use crate::token::{Domain, Token};

/// Terms that one authorization can pay.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) token: Address,
    pub(super) pay_to: Address,
    /// The token's own domain, or the one that `extra` names if the token's is not pinned.
    pub(super) domain: Domain,
}

/// Reads the terms. `chain` is the number of their network, or why it is refused. `known` finds the token and decides
/// about one that is not known: `None` takes it under the domain that `extra` names.
pub(super) fn read<'t>(
    terms: &Terms,
    chain: Result<u64, Rejection>,
    known: impl FnOnce(Address) -> Result<Option<&'t Token>, &'static str>,
) -> Result<Asked, Rejection> {
    if terms.scheme != SchemeName::EXACT {
        return Err(Rejection::new(ErrorReason::UNSUPPORTED_SCHEME).because("scheme: expected `exact`"));
    }
    let chain_id = chain?;
    if let Some(method) = terms.extra.get("assetTransferMethod")
        && method.read::<String>().ok().as_deref() != Some("eip3009")
    {
        let why = "extra.assetTransferMethod: expected `eip3009`";
        return Err(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE).because(why));
    }
    let asset = address(&terms.asset).ok_or_else(|| bad("asset: expected an EVM address"))?;
    let token = known(asset).map_err(bad)?;
    let pay_to = address(&terms.pay_to).ok_or_else(|| bad("payTo: expected an EVM address"))?;
    if pay_to.is_zero() {
        return Err(bad("payTo: the zero address"));
    }
    if terms.amount.is_zero() {
        return Err(bad("amount: zero"));
    }
    let (Some(name), Some(version)) = (terms.extra.text("name"), terms.extra.text("version")) else {
        let why = "extra.name and extra.version: expected strings";
        return Err(Rejection::new(ErrorReason::MISSING_EIP712_DOMAIN).because(why));
    };
    // An EIP-3009 token is its own verifying contract: a signature for another address is one for another token.
    if let Some(named) = terms.extra.text("verifyingContract")
        && address(&named) != Some(asset)
    {
        return Err(bad("extra.verifyingContract: another contract than the asset"));
    }
    // `extra` is compared with the known domain of the token and decides nothing itself: a domain chosen by the seller
    // would let a signature for one contract pass for another's.
    let domain = match token.and_then(|token| token.domain.as_ref()) {
        Some(domain) if *domain.name != *name => {
            let why = format!("extra.name: {name:?}, but the token's domain is named {:?}", &*domain.name);
            return Err(Rejection::new(ErrorReason::TOKEN_NAME_MISMATCH).because(why));
        }
        Some(domain) if *domain.version != *version => {
            let why = format!("extra.version: {version:?}, but the token's domain has {:?}", &*domain.version);
            return Err(Rejection::new(ErrorReason::TOKEN_VERSION_MISMATCH).because(why));
        }
        Some(domain) => domain.clone(),
        None => Domain::new(&name, &version, chain_id, asset),
    };
    Ok(Asked { token: asset, pay_to, domain })
}

/// Parses an address, whose EIP-55 checksum must hold if it has one.
fn address(text: &str) -> Option<Address> {
    text.parse::<EvmAddress>().and_then(Address::try_from).ok()
}

/// Returns the refusal of terms that cannot be paid.
fn bad(why: &'static str) -> Rejection {
    Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because(why)
}
