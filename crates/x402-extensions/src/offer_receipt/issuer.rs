//! The seller's half: [offer and receipt
//! extension](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-offer-and-receipt.md) §4.1, §4.6, §5.1.

use core::fmt;

use alloy_primitives::B256;
use sha2::{Digest, Sha256};
use x402_evm::key::Key;
use x402_types::extension::{Required, SettledClaim};
use x402_types::{Extension, RawJson, UnixSeconds};

use super::{ArtifactError, ArtifactPayload, NAME, OfferPayload, ReceiptPayload, SignedArtifact, digest};
use crate::keys::{Ed25519Key, JwsAlgorithm, PublicKey};

/// The default validity of an offer in seconds, which is that of the TypeScript SDK.
const VALIDITY: u64 = 300;

/// The schema of the declaration, as the TypeScript SDK writes it.
const OFFER_SCHEMA: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"offers":{"type":"array","items":{"type":"object","properties":{"format":{"type":"string"},"acceptIndex":{"type":"integer"},"payload":{"type":"object","properties":{"version":{"type":"integer"},"resourceUrl":{"type":"string"},"scheme":{"type":"string"},"network":{"type":"string"},"asset":{"type":"string"},"payTo":{"type":"string"},"amount":{"type":"string"},"validUntil":{"type":"integer"}},"required":["version","resourceUrl","scheme","network","asset","payTo","amount"]},"signature":{"type":"string"}},"required":["format","signature"]}}},"required":["offers"]}"#;
/// The schema of the receipt, as the TypeScript SDK writes it.
const RECEIPT_SCHEMA: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"receipt":{"type":"object","properties":{"format":{"type":"string"},"payload":{"type":"object","properties":{"version":{"type":"integer"},"network":{"type":"string"},"resourceUrl":{"type":"string"},"payer":{"type":"string"},"issuedAt":{"type":"integer"},"transaction":{"type":"string"}},"required":["version","network","resourceUrl","payer","issuedAt"]},"signature":{"type":"string"}},"required":["format","signature"]}},"required":["receipt"]}"#;

/// The key with which a seller signs, and the form of its signatures.
///
/// §4.5.1: "Production deployments SHOULD use a dedicated signing key separate from the `payTo` address."
pub struct IssuerKey(Signing);

enum Signing {
    Eip712(Key),
    Ed25519 { key: Ed25519Key, kid: Box<str> },
    Es256K { key: Key, kid: Box<str> },
}

impl IssuerKey {
    /// Creates the key of an account, which signs by EIP-712.
    #[must_use]
    pub const fn eip712(key: Key) -> Self {
        Self(Signing::Eip712(key))
    }

    /// Creates a key of Ed25519, which signs JWS. Its identifier is the `did:key` that contains it.
    #[must_use]
    pub fn ed25519(key: Ed25519Key) -> Self {
        let did = PublicKey::Ed25519(*key.public()).to_did().unwrap_or_default();
        let kid = format!("{did}#{}", did.trim_start_matches("did:key:")).into();
        Self(Signing::Ed25519 { key, kid })
    }

    /// Creates the key of an account, which signs JWS by ES256K. `kid` is a DID URL that leads to the public key.
    #[must_use]
    pub fn es256k(key: Key, kid: &str) -> Self {
        Self(Signing::Es256K { key, kid: kid.into() })
    }

    /// Sets the identifier of a key that signs JWS, for example `did:web:api.example.com#key-1`.
    ///
    /// The DID document should have this whole text as the key's `id`: the TypeScript SDK does not find a relative
    /// `#key-1`.
    #[must_use]
    pub fn with_kid(mut self, id: &str) -> Self {
        match &mut self.0 {
            Signing::Eip712(_) => {}
            Signing::Ed25519 { kid, .. } | Signing::Es256K { kid, .. } => *kid = id.into(),
        }
        self
    }

    /// Signs a payload.
    ///
    /// # Errors
    /// The key identifier or the payload is too long.
    pub fn sign<P: ArtifactPayload>(&self, payload: P) -> Result<SignedArtifact<P>, ArtifactError> {
        match &self.0 {
            Signing::Eip712(key) => {
                let signature = key.signature_of(digest(&payload))?;
                Ok(SignedArtifact::eip712(payload, signature))
            }
            Signing::Ed25519 { key, kid } => {
                SignedArtifact::jws(payload, JwsAlgorithm::EdDsa, kid, |text| key.sign(text))
            }
            Signing::Es256K { key, kid } => {
                let mut fault = None;
                let sign = |text: &[u8]| match key.signature_of(B256::from_slice(&Sha256::digest(text))) {
                    Ok(signature) => {
                        let mut bytes = [0; 64];
                        let (r, s) = bytes.split_at_mut(32);
                        r.copy_from_slice(signature.r().as_slice());
                        s.copy_from_slice(signature.s().as_slice());
                        bytes
                    }
                    Err(why) => {
                        fault = Some(why);
                        [0; 64]
                    }
                };
                let signed = SignedArtifact::jws(payload, JwsAlgorithm::Es256K, kid, sign);
                fault.map_or(signed, |why| Err(why.into()))
            }
        }
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Signing::Eip712(key) => f.debug_tuple("Eip712").field(&key.address()).finish(),
            Signing::Ed25519 { kid, .. } | Signing::Es256K { kid, .. } => f.debug_tuple("Jws").field(kid).finish(),
        }
    }
}

/// The seller's half of `offer-receipt`: signs an offer for each entry of `accepts`, and a receipt for each settlement.
///
/// An offer lasts five minutes by default, so a 402 is signed again every two and a half minutes. A receipt has no transaction
/// by default: §5.2, "privacy-minimal".
#[derive(Debug)]
pub struct OfferIssuer {
    key: IssuerKey,
    validity: Option<u64>,
    transaction: bool,
}

impl OfferIssuer {
    /// Creates the extension for a seller that signs with this key.
    #[must_use]
    pub const fn new(key: IssuerKey) -> Self {
        Self { key, validity: Some(VALIDITY), transaction: false }
    }

    /// Sets the validity of an offer in seconds, at least 2. The seller does not refuse payments after it: §4.6, "MAY".
    #[must_use]
    pub const fn with_validity(mut self, seconds: u64) -> Self {
        self.validity = Some(if seconds < 2 { 2 } else { seconds });
        self
    }

    /// Signs offers that do not end. Whoever has one can prove this price at any later time.
    #[must_use]
    pub const fn without_end(mut self) -> Self {
        self.validity = None;
        self
    }

    /// Writes the transaction into receipts, by which anyone can look up the payer's account and the amount.
    #[must_use]
    pub const fn with_transaction(mut self) -> Self {
        self.transaction = true;
        self
    }

    fn offer(&self, url: &str, at: usize, terms: &x402_types::Terms, now: UnixSeconds) -> Option<String> {
        let mut payload = OfferPayload::new(url, terms);
        payload.valid_until = self.validity.map(|seconds| UnixSeconds(now.0.saturating_add(seconds)));
        let index = u64::try_from(at).ok()?;
        Some(self.key.sign(payload).ok()?.with_accept_index(index).to_json())
    }
}

impl Extension for OfferIssuer {
    fn name(&self) -> &str {
        NAME
    }

    /// Declares the signed offers. An entry whose offer cannot be signed makes the whole declaration absent, since a client
    /// could not distinguish it from an offer that was removed.
    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let sign = |(at, offer): (usize, &x402_types::Offer)| {
            self.offer(&required.resource.url, at, &offer.terms, required.moment.now)
        };
        let offers: Vec<String> = required.offers.iter().enumerate().map(sign).collect::<Option<_>>()?;
        if offers.is_empty() {
            return None;
        }
        RawJson::parse(format!(r#"{{"info":{{"offers":[{}]}},"schema":{OFFER_SCHEMA}}}"#, offers.join(","))).ok()
    }

    fn lasts(&self) -> Option<u64> {
        self.validity.map(|seconds| seconds / 2)
    }

    /// Excludes the offers from the comparison, as the TypeScript SDK does: they are signed again for each 402, and the
    /// seller believes its own terms, not the echo.
    fn not_compared(&self) -> &[&str] {
        &["offers"]
    }

    fn on_receipt(&self, settled: &SettledClaim<'_>) -> Option<RawJson> {
        let (url, payer) = (&settled.resource?.url, settled.receipt.payer.as_deref()?);
        let mut payload = ReceiptPayload::new(url, settled.claim.terms.network, payer, settled.now);
        if self.transaction {
            payload = payload.with_transaction(&settled.receipt.transaction);
        }
        let receipt = self.key.sign(payload).ok()?.to_json();
        RawJson::parse(format!(r#"{{"info":{{"receipt":{receipt}}},"schema":{RECEIPT_SCHEMA}}}"#)).ok()
    }
}
