//! Section "The JWT in `payload.token`": its claims.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use x402_codec::{Limits, json as strict};
use x402_types::nvm::card::{CardCode, Processor};
use x402_types::nvm::{AgentId, PlanId};
use x402_types::{Malformed, RawJson, Rejection, UnixSeconds};

use crate::jws::{Parts, TokenKeys, TokenSigner, malformed, refused};
use crate::money::MAX_SAFE;
use crate::{Cents, Currency, Delegation};

/// The only audience.
const AUDIENCE: &str = "nvm:card-delegation";
/// The seconds by which `iat` may be ahead of this clock.
const AHEAD: u64 = 60;
/// The longest life of a token, in seconds, by default: 30 days.
pub const LONGEST_LIFE: u64 = 30 * 86_400;

/// The id of a delegation: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DelegationId(Box<str>);

impl DelegationId {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes the id of a new delegation, a UUID of version 4, from random bytes.
    #[must_use]
    pub fn of_random(random: [u8; 16]) -> Self {
        let mut bytes = random;
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text.into())
    }
}

impl FromStr for DelegationId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(is_letter) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::new("a delegation's id: 1 to 64 of A-Z, a-z, 0-9, _ and -"))
        }
    }
}

impl fmt::Display for DelegationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The claims of a token whose form is right. Times and the record of the delegation are checked elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenClaims {
    /// The facilitator's URL.
    pub issuer: String,
    /// The user that made the delegation, 1 to 128 bytes.
    pub subject: String,
    /// The delegation: `jti` and `nvm.delegationId`. Every token of one delegation has it.
    pub delegation: DelegationId,
    /// The time of issue.
    pub issued_at: UnixSeconds,
    /// The time of its end.
    pub expires_at: UnixSeconds,
    /// The time before which the token is not valid.
    pub not_before: Option<UnixSeconds>,
    /// The processor; `None` for a delegation of a smart account, which never pays by card.
    pub processor: Option<Processor>,
    /// The customer at the processor.
    pub customer: String,
    /// The payment method at the processor.
    pub payment_method: String,
    /// The currency of its charges.
    pub currency: Currency,
    /// The limit of the delegation, for information: its record decides.
    pub limit: Cents,
    /// The most charges, for information.
    pub max_charges: Option<u64>,
    /// The only seller's account that may be paid. It restricts, and never routes.
    pub merchant: Option<String>,
    /// The only plan.
    pub plan: Option<PlanId>,
    /// The claims that bind the token to one request.
    pub binding: TokenBinding,
}

/// The claims that bind a token to one request; each that is there must fit it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TokenBinding {
    /// The agent that serves.
    pub agent: Option<AgentId>,
    /// The resource's URL.
    pub resource: Option<String>,
    /// The HTTP method.
    pub verb: Option<String>,
    /// The single use: such a token pays once.
    pub nonce: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    sub: String,
    aud: String,
    jti: String,
    iat: u64,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    nvm: Nvm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Nvm {
    delegation_id: String,
    provider: String,
    provider_customer_id: String,
    provider_payment_method_id: String,
    spending_limit_cents: u64,
    currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merchant_account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_transactions: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_verb: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
}

impl TokenClaims {
    /// Creates the claims of a delegation's token, from now until the delegation's end.
    #[must_use]
    pub fn of(delegation: &Delegation, issuer: &str, now: UnixSeconds) -> Self {
        Self {
            issuer: issuer.to_owned(),
            subject: delegation.owner.clone(),
            delegation: delegation.id.clone(),
            issued_at: now,
            expires_at: delegation.expires_at,
            not_before: None,
            processor: Some(delegation.processor),
            customer: delegation.customer.clone(),
            payment_method: delegation.payment_method.clone(),
            currency: delegation.currency,
            limit: delegation.limit,
            max_charges: delegation.max_charges,
            merchant: delegation.merchant.clone(),
            plan: delegation.plan,
            binding: TokenBinding::default(),
        }
    }

    /// Verifies the signature of a token, and then parses its claims.
    ///
    /// # Errors
    /// `INVALID_TOKEN`.
    pub fn verified(token: &str, keys: &TokenKeys) -> Result<Self, Rejection> {
        Self::read(&keys.verify(token)?)
    }

    /// Parses the claims of a token without a key: a resource server cannot check the signature, and a client need not.
    /// Nothing may be granted for them.
    ///
    /// # Errors
    /// `INVALID_TOKEN`.
    pub fn unverified(token: &str) -> Result<Self, Rejection> {
        Self::read(&Parts::read(token)?.payload)
    }

    fn read(payload: &[u8]) -> Result<Self, Rejection> {
        let claims: Wire =
            strict::from_slice(payload, &Limits::DEFAULT).map_err(|error| malformed(&format!("claims: {error}")))?;
        let bad = |member: &str, why: &str| malformed(&format!("{member}: {why}"));
        if claims.aud != AUDIENCE {
            return Err(refused("aud: expected nvm:card-delegation"));
        }
        let nvm = claims.nvm;
        if claims.jti != nvm.delegation_id {
            return Err(refused("jti: expected nvm.delegationId"));
        }
        let delegation = claims.jti.parse().map_err(|why: Malformed| bad("jti", why.expected()))?;
        if !(1..=128).contains(&claims.sub.len()) {
            return Err(bad("sub", "expected 1 to 128 bytes"));
        }
        if [claims.iat, claims.exp, claims.nbf.unwrap_or_default()].iter().any(|time| *time > MAX_SAFE) {
            return Err(bad("exp", "expected times of at most 2^53-1"));
        }
        let processor = match nvm.provider.as_str() {
            "erc4337" => None,
            name => Some(Processor::of_name(name).ok_or_else(|| bad("nvm.provider", "expected a known provider"))?),
        };
        let limit = Cents::try_from(nvm.spending_limit_cents).ok().filter(|limit| *limit > Cents::ZERO);
        let limit = limit.ok_or_else(|| bad("nvm.spendingLimitCents", "expected 1 to 2^53-1"))?;
        if nvm.max_transactions.is_some_and(|most| most == 0 || most > MAX_SAFE) {
            return Err(bad("nvm.maxTransactions", "expected 1 to 2^53-1"));
        }
        let nonce = nvm.nonce.map(|text| word(&text).ok_or_else(|| bad("nvm.nonce", "expected 0x and 64 hex digits")));
        let agent = nvm.agent_id.map(|id| id.parse().map_err(|_| bad("nvm.agentId", AgentId::EXPECTED))).transpose()?;
        Ok(Self {
            issuer: claims.iss,
            subject: claims.sub,
            delegation,
            issued_at: UnixSeconds(claims.iat),
            expires_at: UnixSeconds(claims.exp),
            not_before: claims.nbf.map(UnixSeconds),
            processor,
            customer: nvm.provider_customer_id,
            payment_method: nvm.provider_payment_method_id,
            currency: nvm.currency.parse().map_err(|why: Malformed| bad("nvm.currency", why.expected()))?,
            limit,
            max_charges: nvm.max_transactions,
            merchant: nvm.merchant_account_id,
            plan: nvm.plan_id.map(|id| id.parse().map_err(|_| bad("nvm.planId", PlanId::EXPECTED))).transpose()?,
            binding: TokenBinding { agent, resource: nvm.resource_url, verb: nvm.http_verb, nonce: nonce.transpose()? },
        })
    }

    /// Compares issuer and times: `iss` and `iat` and `nbf` first, then `exp`.
    ///
    /// # Errors
    /// `INVALID_TOKEN`; `EXPIRED_TOKEN` at `exp` and after it.
    pub fn check(&self, issuer: &str, longest_life: u64, now: UnixSeconds) -> Result<(), Rejection> {
        if self.issuer != issuer {
            return Err(refused("iss: another facilitator"));
        }
        if self.issued_at > now.plus(AHEAD) {
            return Err(refused("iat: in the future"));
        }
        if self.not_before.is_some_and(|from| from > now) {
            return Err(refused("nbf: not valid yet"));
        }
        if self.expires_at.0.saturating_sub(self.issued_at.0) > longest_life {
            return Err(refused("exp: longer than this facilitator issues"));
        }
        if self.expires_at <= now {
            let why = CardCode::ExpiredToken.because("payload.token: exp: the token has expired");
            return Err(why.detail("nvmCode", "BCK.X402.0005"));
        }
        Ok(())
    }

    /// Signs the claims.
    ///
    /// # Errors
    /// The claims cannot be written.
    pub fn to_token(&self, signer: &TokenSigner) -> Result<String, serde_json::Error> {
        let binding = self.binding.clone();
        let wire = Wire {
            iss: self.issuer.clone(),
            sub: self.subject.clone(),
            aud: AUDIENCE.to_owned(),
            jti: self.delegation.to_string(),
            iat: self.issued_at.0,
            exp: self.expires_at.0,
            nbf: self.not_before.map(|time| time.0),
            nvm: Nvm {
                delegation_id: self.delegation.to_string(),
                provider: self.processor.map_or("erc4337", Processor::as_str).to_owned(),
                provider_customer_id: self.customer.clone(),
                provider_payment_method_id: self.payment_method.clone(),
                spending_limit_cents: self.limit.value(),
                currency: self.currency.as_str().to_owned(),
                merchant_account_id: self.merchant.clone(),
                plan_id: self.plan.map(|plan| plan.to_string()),
                max_transactions: self.max_charges,
                agent_id: binding.agent.map(|agent| agent.to_string()),
                resource_url: binding.resource,
                http_verb: binding.verb,
                nonce: binding.nonce.map(|nonce| format!("0x{}", hex(&nonce))),
            },
        };
        RawJson::of(&wire).map(|claims| signer.sign(&claims))
    }
}

/// Writes bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses 64 hex digits.
pub(crate) fn unhex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Parses `0x` and 64 hex digits.
pub(crate) fn word(text: &str) -> Option<[u8; 32]> {
    unhex(text.strip_prefix("0x")?)
}
