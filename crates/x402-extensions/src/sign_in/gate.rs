//! The seller's half: [sign-in-with-x](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md),
//! "PaymentRequired" and "Verification Logic".

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use ring::hmac;
use serde_json::json;
use sha2::{Digest, Sha256};
use x402_challenge::{Entitlement, Spent, Store, TokenHash};
use x402_types::challenge::{IsoTime, ResourceName};
use x402_types::extension::{Admission, Required, SettledClaim, Unpaid};
use x402_types::{ChainId, Extension, Fault, RawJson, Refusal, Rejection, UnixSeconds};

use super::origin::Origin;
use super::{
    HEADER, KeysAlone, MAX_AGE, NAME, NONCE, NOT_ENTITLED, SignIn, SignInAccount, SignInFields, SignedBy,
    UNSUPPORTED_CHAIN, VerifyAccount,
};

/// The schema of the declaration, as the TypeScript SDK writes it.
const SCHEMA: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"domain":{"type":"string"},"address":{"type":"string"},"statement":{"type":"string"},"uri":{"type":"string","format":"uri"},"version":{"type":"string"},"chainId":{"type":"string"},"type":{"type":"string"},"nonce":{"type":"string"},"issuedAt":{"type":"string","format":"date-time"},"expirationTime":{"type":"string","format":"date-time"},"notBefore":{"type":"string","format":"date-time"},"requestId":{"type":"string"},"resources":{"type":"array","items":{"type":"string","format":"uri"}},"signature":{"type":"string"}},"required":["domain","address","uri","version","chainId","type","nonce","issuedAt","signature"]}"#;

/// The error that a text is not an origin such as `https://api.example.com`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the public origin: http or https, a host, and a port if it is not the default one")]
pub struct OriginError;

/// The seller's half of `sign-in-with-x`: records who paid for which resource, and serves it again to the account that signs
/// in, as long as it is entitled.
///
/// Routes whose price depends on the request are never served so: an account that paid for a cheap request would get
/// an expensive one. The resource is the URL without its query.
pub struct SignInGate {
    origin: Box<str>,
    domain: Box<str>,
    secret: hmac::Key,
    store: Arc<dyn Store>,
    accounts: Arc<dyn VerifyAccount>,
    seconds: u64,
    statement: Option<Box<str>>,
    forgot: AtomicU64,
}

impl SignInGate {
    /// Creates the extension of a seller at this public origin, which is never taken from a request. `secret` marks the
    /// nonces that this seller made: processes that share a store share it, and a new one voids the challenges of the last
    /// five minutes. An account is entitled for an hour after its payment.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn new(origin: &str, secret: &[u8; 32], store: Arc<dyn Store>) -> Result<Self, OriginError> {
        let parsed = Origin::of(origin).ok_or(OriginError)?;
        let bare =
            origin.split_once("://").is_some_and(|(_, rest)| !rest.trim_end_matches('/').contains(['/', '?', '#']));
        bare.then(|| Self {
            origin: origin.trim_end_matches('/').into(),
            domain: parsed.host().into(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
            store,
            accounts: Arc::new(KeysAlone),
            seconds: 3_600,
            statement: None,
            forgot: AtomicU64::new(0),
        })
        .ok_or(OriginError)
    }

    /// Sets the seconds for which a payment entitles its account.
    #[must_use]
    pub const fn with_seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Sets the verifier of accounts of EVM chains: [`OnChains`](super::OnChains) for contracts.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Arc<dyn VerifyAccount>) -> Self {
        self.accounts = accounts;
        self
    }

    /// Sets the line that a wallet shows to its user. Line breaks become spaces.
    #[must_use]
    pub fn with_statement(mut self, statement: &str) -> Self {
        let line: String = statement.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
        self.statement = Some(line).filter(|line| !line.is_empty()).map(Into::into);
        self
    }

    /// Makes the nonce of a challenge: 8 random bytes, and 8 bytes by which this seller recognises it. A challenge needs no
    /// row then, and a stranger's requests cannot fill the store.
    fn nonce(&self, salt: &[u8; 8], uri: &str, issued_at: &str) -> String {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [&salt[..], self.domain.as_bytes(), b"\n", uri.as_bytes(), b"\n", issued_at.as_bytes()] {
            context.update(part);
        }
        let mark: Vec<u8> = context.sign().as_ref().iter().take(8).copied().collect();
        alloy_primitives::hex::encode(salt) + &alloy_primitives::hex::encode(mark)
    }

    /// Returns whether this seller made the nonce for this URL and time.
    fn made(&self, fields: &SignInFields) -> bool {
        let mut salt = [0; 8];
        let given =
            fields.nonce.get(..16).is_some_and(|hex| alloy_primitives::hex::decode_to_slice(hex, &mut salt).is_ok());
        // The comparison need not take constant time: a nonce is public, and is used once.
        given && self.nonce(&salt, &fields.uri, &fields.issued_at) == fields.nonce
    }

    fn chains<'a>(offers: impl Iterator<Item = &'a x402_types::Offer>) -> Vec<ChainId> {
        let mut chains = Vec::new();
        for chain in offers.map(|offer| offer.terms.network) {
            if matches!(chain.namespace(), "eip155" | "solana") && !chains.contains(&chain) {
                chains.push(chain);
            }
        }
        chains
    }

    async fn admit(&self, sign_in: &SignIn, request: &Unpaid<'_>) -> Result<Admission, Refusal> {
        let SignIn { fields, account, .. } = sign_in;
        fields.check(&self.origin, request.now)?;
        if !Self::chains(request.offers.iter()).contains(&fields.chain_id) {
            let why = format!("chainId: {} is no chain of this resource", fields.chain_id);
            return Err(Rejection::new(UNSUPPORTED_CHAIN).because(why).into());
        }
        let of_nonce = || Rejection::new(NONCE).because("nonce: expected a new one that this server made for this URL");
        if fields.uri != request.resource.url || !self.made(fields) {
            return Err(of_nonce().into());
        }
        let signed_by = sign_in.verify(&*self.accounts).await?;
        // The key of an EVM account is the same on every chain; the code of a contract is not.
        let chain = match (account, signed_by) {
            (SignInAccount::Evm(_), SignedBy::Key) => "eip155",
            _ => fields.chain_id.as_str(),
        };
        let (token, resource) =
            (token(chain, &account.text(), &request.resource.url), resource(&request.resource.url)?);
        if self.store.look(&token, &resource, request.now).await? == Spent::Refused {
            let why = "the account has not paid for this resource, or its time is over";
            return Err(Rejection::new(NOT_ENTITLED).because(why).into());
        }
        // The nonce is used last, so that only accounts that have paid leave a row.
        let used = TokenHash(digest(&["x402 sign-in nonce v1", &fields.nonce]));
        let until = request.now.plus(MAX_AGE.saturating_mul(2));
        let used = Entitlement { token: used, resource: resource.clone(), expires_at: until, left: Some(0) };
        if !self.store.grant(&used).await? {
            return Err(of_nonce().into());
        }
        self.forget(request.now).await;
        Ok(Admission::new(fields.chain_id, &account.text()))
    }

    /// Forgets what is over, at most once a minute.
    async fn forget(&self, now: UnixSeconds) {
        let before = self.forgot.load(Ordering::Relaxed);
        let due = now.0 >= before.saturating_add(60);
        if due && self.forgot.compare_exchange(before, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // Rows that are over are refused whether they exist or not.
            let _ = self.store.forget(now).await;
        }
    }
}

/// Hashes texts so that none runs into the next.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn token(chain: &str, account: &str, url: &str) -> TokenHash {
    TokenHash(digest(&["x402 sign-in entitlement v1", chain, account, url]))
}

/// Names the resource of a URL in the store, whose names are short.
fn resource(url: &str) -> Result<ResourceName, Fault> {
    let name = format!("sign-in-with-x:{}", alloy_primitives::hex::encode(digest(&[url])));
    name.parse().map_err(Fault::broken)
}

#[async_trait]
impl Extension for SignInGate {
    fn name(&self) -> &str {
        NAME
    }

    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let chains = Self::chains(required.offers.iter());
        let salt: [u8; 8] = *required.moment.entropy?.first_chunk()?;
        if chains.is_empty() {
            return None;
        }
        let (uri, now) = (&required.resource.url, required.moment.now);
        let issued_at = IsoTime::from(now).to_string();
        let mut info = json!({
            "domain": self.domain, "uri": uri, "version": "1", "nonce": self.nonce(&salt, uri, &issued_at),
            "issuedAt": issued_at, "resources": [uri], "expirationTime": IsoTime::from(now.plus(MAX_AGE)).to_string(),
        });
        if let (Some(statement), Some(members)) = (&self.statement, info.as_object_mut()) {
            members.insert("statement".into(), json!(statement));
        }
        let kind = |chain: &ChainId| if chain.namespace() == "solana" { "ed25519" } else { "eip191" };
        let supported: Vec<_> = chains.iter().map(|chain| json!({"chainId": chain, "type": kind(chain)})).collect();
        let supported = json!(supported);
        RawJson::parse(format!(r#"{{"info":{info},"supportedChains":{supported},"schema":{SCHEMA}}}"#)).ok()
    }

    /// Returns 0: each 402 document has a nonce of its own.
    fn lasts(&self) -> Option<u64> {
        Some(0)
    }

    /// Excludes what each document has of its own, as the TypeScript SDK does.
    fn not_compared(&self) -> &[&str] {
        &["nonce", "issuedAt", "expirationTime"]
    }

    fn headers(&self) -> &[&str] {
        &[HEADER]
    }

    async fn on_request(&self, request: &Unpaid<'_>) -> Result<Option<Admission>, Refusal> {
        let Some(value) = request.header(HEADER).filter(|_| request.has_fixed_price) else { return Ok(None) };
        let sign_in = SignIn::parse(value)?;
        self.admit(&sign_in, request).await.map(Some)
    }

    /// Entitles the payer. A payment that is recorded again only moves the end.
    async fn on_settled(&self, settled: &SettledClaim<'_>) -> Result<(), Fault> {
        let (Some(payer), Some(paid)) = (settled.receipt.payer.as_deref(), settled.resource) else { return Ok(()) };
        let network = settled.claim.terms.network;
        let (resource, expires_at) = (resource(&paid.url)?, settled.now.plus(self.seconds));
        let (account, anywhere) = match network.namespace() {
            "eip155" => match payer.parse::<alloy_primitives::Address>() {
                Ok(address) => (address.to_string(), Some("eip155")),
                // A payer that is no account cannot sign in.
                Err(_) => return Ok(()),
            },
            _ => (payer.to_owned(), None),
        };
        for chain in [Some(network.as_str()), anywhere].into_iter().flatten() {
            let token = token(chain, &account, &paid.url);
            self.store.grant(&Entitlement { token, resource: resource.clone(), expires_at, left: None }).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for SignInGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInGate")
            .field("origin", &self.origin)
            .field("seconds", &self.seconds)
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}
