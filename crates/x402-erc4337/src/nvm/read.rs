//! §5.1 Payload Validation: parses a claim of this scheme, and checks what its own bytes determine.

use alloy_primitives::{Address, U256, keccak256};
use x402_types::nvm::{Authorization, Code, Operation, Payload, PlanId, Requirements, payment_key};
use x402_types::{AuthorizationKind, Claim, PaymentKey, Rejection};

use super::{NamedKey, Statement, StatementBinding, is_resource};
use crate::session::zerodev::Approval;

/// A parsed claim of this scheme.
#[derive(Debug, Clone)]
pub(super) struct Presented {
    pub(super) payload: Payload,
    pub(super) plan: PlanId,
    /// The account that pays.
    pub(super) account: Address,
    /// The credits that the server requested.
    pub(super) asked: U256,
    /// The statement that the account signs.
    pub(super) statement: Statement,
}

/// The only provider whose keys are accepted.
const PROVIDER: &str = "zerodev";

impl Presented {
    /// Parses a claim.
    /// # Errors
    /// `INVALID_PAYLOAD`; `INVALID_SIGNATURE` for a copy of a signed member that differs from the member.
    pub(super) fn read(claim: &Claim) -> Result<Self, Rejection> {
        let invalid = |why: String| Code::InvalidPayload.because(why);
        let entry = Requirements::try_from(&claim.terms).map_err(|why| invalid(format!("accepted: {why}")))?;
        let payload = Payload::from_raw(&claim.payload)?;
        let authorization = payload.authorization();
        if authorization.provider() != PROVIDER {
            return Err(invalid(format!("sessionKeysProvider: expected {PROVIDER}")));
        }
        // "A `redeem` session key MUST be present", step 8.
        if authorization.key(Operation::Redeem).is_none() {
            return Err(invalid("sessionKeys: no redeem key".to_owned()).detail("nvmCode", "BCK.X402.0035"));
        }
        let account = account(authorization)?;
        let resource = claim.resource.as_ref().map(|resource| resource.url.as_str()).filter(|url| !url.is_empty());
        if entry.extra.agent_id.is_some() && resource.is_none() {
            return Err(
                invalid("resource.url: expected beside extra.agentId".to_owned()).detail("nvmCode", "BCK.X402.0012")
            );
        }
        let agent_id = entry.extra.agent_id.map(|id| id.to_string()).unwrap_or_default();
        let verb = entry.extra.http_verb.as_deref().map(str::to_ascii_uppercase);
        // "A copy of `agentId` or `httpVerb` there that differs is `INVALID_SIGNATURE`."
        let own_verb = verb.as_deref().unwrap_or_default();
        if authorization.agent_id().is_some_and(|copy| copy != agent_id)
            || authorization.http_verb().is_some_and(|copy| !copy.eq_ignore_ascii_case(own_verb))
        {
            return Err(Code::InvalidSignature.because("authorization: agentId or httpVerb is not the entry's"));
        }
        let binding = match authorization.proof() {
            None => None,
            Some(proof) => {
                let verb = verb.ok_or_else(|| invalid("extra.httpVerb: expected beside nonce".to_owned()))?;
                // The resource that the account signed must be the one that is served.
                if !resource.is_some_and(|served| is_resource(served, &proof.resource_url)) {
                    return Err(invalid("authorization.resourceUrl: another resource".to_owned())
                        .detail("nvmCode", "BCK.X402.0013"));
                }
                let resource_url = proof.resource_url.clone();
                Some(StatementBinding { agent_id, resource_url, http_verb: verb, nonce: proof.nonce.into() })
            }
        };
        let named = |key: &x402_types::nvm::SessionKey| NamedKey { id: key.id().to_owned(), hash: key.hash().into() };
        let statement = Statement {
            from: account,
            provider: authorization.provider().to_owned(),
            keys: authorization.session_keys().iter().map(named).collect(),
            plan: entry.plan_id.value(),
            binding,
        };
        Ok(Self { plan: entry.plan_id, account, asked: claim.terms.amount.value(), statement, payload })
    }
}

/// Returns `from`; in version 0.2, which has none, "the account that all `data` approvals agree on".
fn account(authorization: &Authorization) -> Result<Address, Rejection> {
    if let Some(from) = authorization.from() {
        return Ok(from.unchecked());
    }
    let mut agreed = None;
    for key in authorization.session_keys().iter().filter(|key| key.operation().is_some()) {
        let unknown = |why: &str| Code::InvalidPayload.because(format!("sessionKeys.{}: {why}", key.id()));
        let text = key.data().ok_or_else(|| unknown("a hash alone names no account"))?;
        let account = Approval::read(text).map_err(|why| unknown(&why.to_string()))?.account;
        if *agreed.get_or_insert(account) != account {
            return Err(unknown("another account than the key before it"));
        }
    }
    agreed.ok_or_else(|| Code::InvalidPayload.because("sessionKeys: no key names the account"))
}

/// Derives the identity of a claim's authorization. It contains the account even if the payment does not state it.
pub(super) fn key(claim: &Claim) -> Result<PaymentKey, Rejection> {
    let written = payment_key(claim)?;
    let payload = Payload::from_raw(&claim.payload)?;
    if payload.authorization().from().is_some() {
        return Ok(written);
    }
    let account = account(payload.authorization())?;
    let prefix = |payer: &[u8]| PaymentKey::prefix(AuthorizationKind::NvmErc4337, claim.terms.network, &[], payer);
    // The rest follows the account's length, and does not depend on the account.
    let rest = written.as_bytes().get(prefix(&[]).len()..).unwrap_or_default();
    Ok(PaymentKey::from_bytes(&[&prefix(account.as_slice()), rest].concat()))
}

/// Derives the seed that makes an order unique to the payment: the contract refuses a second order with the same seed.
pub(super) fn seed(key: &PaymentKey) -> alloy_primitives::B256 {
    keccak256(key.as_bytes())
}
