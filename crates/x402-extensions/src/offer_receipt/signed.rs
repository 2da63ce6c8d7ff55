//! Signed artifacts: [offer and receipt
//! extension](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-offer-and-receipt.md) §3, §4.5, §5.5.
//!
//! A signature is verified over the bytes and the payload as they were received, never over what this side would have
//! written.

use core::fmt;

use alloy_primitives::{Address, B256, hex};
use x402_codec::json::{Node, Value, parse};
use x402_codec::{DecodeError, Limits, base64};
use x402_evm::eip712::DomainSeparator;
use x402_evm::signature::{Signature, SignatureError, recover};
use x402_types::{RawJson, Terms};

use super::{ArtifactPayload, OfferPayload, ReceiptPayload};
use crate::canonical::canonical;
use crate::keys::{JwsAlgorithm, KeyTextError, MAX_KID, PublicKey, base64url};

/// The maximum length of an artifact as JSON, in bytes.
pub const MAX_ARTIFACT: usize = 8 * 1024;

/// The limits for artifacts: [`MAX_ARTIFACT`] bytes, 8 levels.
const LIMITS: Limits = Limits { body: MAX_ARTIFACT, depth: 8, ..Limits::DEFAULT };

/// The reason why bytes are not a signed artifact, or why its signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The text is not strict JSON, or too long.
    #[error(transparent)]
    Json(#[from] DecodeError),
    /// A member is absent, of another type, or out of its range.
    #[error("{member}: expected {expected}")]
    Member {
        /// The name of the member.
        member: &'static str,
        /// The expected value.
        expected: &'static str,
    },
    /// The payload has a member that the document does not define.
    #[error("{member}: the signed payload has no such member")]
    Unknown {
        /// The name of the member, at most 64 characters of it.
        member: Box<str>,
    },
    /// The payload's version is not 1.
    #[error("version: expected 1")]
    Version,
    /// The signature of EIP-712 is not one of an account.
    #[error("signature: {0}")]
    Signature(#[from] SignatureError),
    /// The JWS is malformed, or its header demands something that is not supported.
    #[error("signature: expected a compact JWS: {0}")]
    Jws(&'static str),
    /// The key identifier of a JWS contains no key, and no other key is known for it.
    #[error("kid: {0}")]
    Key(#[from] KeyTextError),
    /// The key in the header is not the key that the identifier contains or that is known for it.
    #[error("jwk: expected the key of `kid`")]
    OtherKey,
    /// The signature of a JWS is not the key's.
    #[error("signature: the key has not signed this")]
    NotSigned,
}

impl ArtifactError {
    pub(super) const fn member(member: &'static str, expected: &'static str) -> Self {
        Self::Member { member, expected }
    }
}

/// A signed offer or receipt as it travels. [`SignedArtifact::verify`] alone gives access to a payload that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedArtifact<P> {
    form: Form<P>,
    accept_index: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form<P> {
    Eip712 { payload: P, signature: Signature },
    Jws(Jws<P>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Jws<P> {
    text: Box<str>,
    algorithm: JwsAlgorithm,
    kid: Box<str>,
    jwk: Option<PublicKey>,
    payload: P,
    signature: [u8; 64],
}

/// A signed offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested<P> {
    /// The payload that was signed.
    pub payload: P,
    /// The signer. A valid signature does not mean that the signer may sign for the resource: §4.5.1.
    pub signer: ArtifactSigner,
}

/// The signer of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArtifactSigner {
    /// The account whose key made a signature of EIP-712.
    Account(Address),
    /// The key that made a JWS.
    Key {
        /// The key identifier in the header.
        kid: Box<str>,
        /// The key that has signed.
        key: PublicKey,
        /// Whether the identifier contains the key, or the caller knows it. Otherwise the key came with the artifact itself,
        /// and proves nothing about the identifier.
        is_bound: bool,
    },
}

impl ArtifactSigner {
    /// Returns whether this is the signer of that name: an account, or a key identifier that is bound to its key.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Account(account) => name.parse() == Ok(*account),
            Self::Key { kid, key, is_bound } => {
                let account = key.account().is_some_and(|account| name.parse() == Ok(account));
                account || (*is_bound && (**kid == *name || kid.split('#').next() == Some(name)))
            }
        }
    }
}

impl fmt::Display for ArtifactSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => account.fmt(f),
            Self::Key { kid, is_bound: true, .. } => f.write_str(kid),
            Self::Key { kid, is_bound: false, key } => write!(f, "{key:?}, which claims to be {kid}"),
        }
    }
}

impl<P: ArtifactPayload> SignedArtifact<P> {
    /// Reads an artifact: §3.1.
    ///
    /// # Errors
    /// A member is absent, of another type, too long, or unknown inside of the payload.
    pub fn parse(text: &[u8]) -> Result<Self, ArtifactError> {
        let node = parse(text, &LIMITS)?;
        Self::of_node(&node)
    }

    /// Reads an artifact out of a larger document.
    ///
    /// # Errors
    /// The errors of [`SignedArtifact::parse`].
    pub fn of_node(node: &Node<'_>) -> Result<Self, ArtifactError> {
        if node.as_object().is_none() {
            return Err(ArtifactError::member("format", "an artifact: an object"));
        }
        let accept_index = match node.get("acceptIndex") {
            None => None,
            Some(index) => {
                Some(index.as_u64().ok_or(ArtifactError::member("acceptIndex", "an integer that is not negative"))?)
            }
        };
        let signature =
            node.get("signature").and_then(Node::as_str).ok_or(ArtifactError::member("signature", "a string"))?;
        let form = match node.get("format").and_then(Node::as_str) {
            Some("eip712") => {
                let payload = node.get("payload").ok_or(ArtifactError::member("payload", "an object"))?;
                Form::Eip712 { payload: P::read(payload)?, signature: signature_of(signature)? }
            }
            // §3.1.1: "`payload` MUST be omitted (the JWS compact string already contains the payload)".
            Some("jws") if node.get("payload").is_some() => {
                return Err(ArtifactError::member("payload", "no such member beside a JWS"));
            }
            Some("jws") => Form::Jws(Jws::parse(signature)?),
            _ => return Err(ArtifactError::member("format", "`eip712` or `jws`")),
        };
        Ok(Self { form, accept_index })
    }

    /// Verifies the signature, and returns the payload with its signer. A key identifier that contains its key needs no
    /// entry in `known`.
    ///
    /// # Errors
    /// No key is known, or it has not signed this payload.
    pub fn verify(&self, known: &KnownKeys) -> Result<Attested<P>, ArtifactError>
    where
        P: Clone,
    {
        match &self.form {
            Form::Eip712 { payload, signature } => {
                let signer = recover(digest(payload), signature)?;
                Ok(Attested { payload: payload.clone(), signer: ArtifactSigner::Account(signer) })
            }
            Form::Jws(jws) => jws.verify(known),
        }
    }

    /// Returns the payload although nothing is verified, to find the artifact in a list.
    #[must_use]
    pub const fn unverified(&self) -> &P {
        match &self.form {
            Form::Eip712 { payload, .. } | Form::Jws(Jws { payload, .. }) => payload,
        }
    }

    /// Returns the position in `accepts`, which no signature covers: §4.1.1, "MUST NOT be relied upon for integrity".
    #[must_use]
    pub const fn accept_index(&self) -> Option<u64> {
        self.accept_index
    }

    /// Sets the position in `accepts`.
    #[must_use]
    pub const fn with_accept_index(mut self, index: u64) -> Self {
        self.accept_index = Some(index);
        self
    }

    /// Creates an artifact by EIP-712 from a signature of [`digest`].
    #[must_use]
    pub const fn eip712(payload: P, signature: Signature) -> Self {
        Self { form: Form::Eip712 { payload, signature }, accept_index: None }
    }

    /// Creates an artifact by JWS. `sign` makes the 64 bytes over the text that it is given.
    ///
    /// # Errors
    /// The payload or the header is too long.
    pub fn jws(
        payload: P,
        algorithm: JwsAlgorithm,
        kid: &str,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, ArtifactError> {
        if kid.len() > MAX_KID {
            return Err(KeyTextError::TooLong.into());
        }
        let kid_text = serde_json::to_string(kid).unwrap_or_default();
        let header = format!(r#"{{"alg":"{}","kid":{kid_text}}}"#, algorithm.name());
        let body = canonical(payload.to_json(false).as_bytes(), &LIMITS)?;
        let mut text = format!("{}.{}", to_base64url(header.as_bytes()), to_base64url(body.as_bytes()));
        let signature = sign(text.as_bytes());
        text.push('.');
        text.push_str(&to_base64url(&signature));
        let jws = Jws { text: text.into(), algorithm, kid: kid.into(), jwk: None, payload, signature };
        Ok(Self { form: Form::Jws(jws), accept_index: None })
    }

    /// Returns the artifact as JSON, in the order of members that the document has.
    #[must_use]
    pub fn to_json(&self) -> String {
        let index = self.accept_index.map(|index| format!(r#""acceptIndex":{index},"#)).unwrap_or_default();
        match &self.form {
            Form::Eip712 { payload, signature } => format!(
                r#"{{"format":"eip712",{index}"payload":{},"signature":"{}"}}"#,
                payload.to_json(true),
                hex::encode_prefixed(signature.to_bytes())
            ),
            Form::Jws(jws) => format!(r#"{{"format":"jws",{index}"signature":"{}"}}"#, jws.text),
        }
    }
}

/// Computes the digest of EIP-712 that is signed for a payload: §3.2.
#[must_use]
pub fn digest<P: ArtifactPayload>(payload: &P) -> B256 {
    // §3.2: "The `chainId` is hardcoded to `1`", whatever the network of the payment.
    DomainSeparator::without_contract(P::DOMAIN, "1", 1).digest(payload.struct_hash())
}

fn signature_of(text: &str) -> Result<Signature, ArtifactError> {
    let mut bytes = [0; 65];
    let digits = text.strip_prefix("0x").ok_or(ArtifactError::member("signature", "65 bytes in hex with 0x"))?;
    let decoded = hex::decode_to_slice(digits, &mut bytes);
    decoded.map_err(|_| ArtifactError::member("signature", "65 bytes in hex with 0x"))?;
    Ok(Signature::from_bytes(&bytes)?)
}

/// Keys that the caller knows for key identifiers: from a DID document, a registry, or a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownKeys(Vec<(Box<str>, PublicKey)>);

impl KnownKeys {
    /// Creates an empty list, with which the identifiers `did:key` and `did:jwk` can be verified.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the key of an identifier.
    #[must_use]
    pub fn with(mut self, kid: &str, key: PublicKey) -> Self {
        self.0.push((kid.into(), key));
        self
    }

    fn get(&self, kid: &str) -> Option<PublicKey> {
        self.0.iter().find(|(known, _)| **known == *kid).map(|(_, key)| *key)
    }
}

impl<P: ArtifactPayload> Jws<P> {
    fn parse(text: &str) -> Result<Self, ArtifactError> {
        let mut parts = text.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ArtifactError::Jws("three parts"));
        };
        let decode = |part| base64url(part).ok_or(ArtifactError::Jws("base64url without padding"));
        let (header, body) = (decode(header)?, decode(body)?);
        let signature = decode(signature)?.try_into().map_err(|_| ArtifactError::Jws("a signature of 64 bytes"))?;
        let header = parse(&header, &LIMITS)?;
        // RFC 7515 §4.1.11: a critical extension that is not understood makes the JWS invalid.
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return Err(ArtifactError::Jws("no critical extension"));
        }
        let algorithm = header.get("alg").and_then(Node::as_str).and_then(JwsAlgorithm::of);
        let algorithm = algorithm.ok_or(ArtifactError::Jws("`alg`: EdDSA, ES256K or ES256"))?;
        let kid = header.get("kid").and_then(Node::as_str).filter(|kid| (1..=MAX_KID).contains(&kid.len()));
        let kid = kid.ok_or(ArtifactError::Jws("`kid`"))?;
        let jwk = match header.get("jwk") {
            None => None,
            Some(Node { value: Value::Object(_), .. }) => header.get("jwk").map(PublicKey::of_jwk).transpose()?,
            Some(_) => return Err(ArtifactError::Jws("`jwk`: an object")),
        };
        let payload = P::read(&parse(&body, &LIMITS)?)?;
        Ok(Self { text: text.into(), algorithm, kid: kid.into(), jwk, payload, signature })
    }

    /// Finds the key by §4.5: "if `jwk` is present in the header, use it; otherwise resolve `kid`. If `jwk` is present and
    /// `kid` resolution succeeds, the two keys MUST match".
    fn verify(&self, known: &KnownKeys) -> Result<Attested<P>, ArtifactError>
    where
        P: Clone,
    {
        let bound = match known.get(&self.kid) {
            Some(key) => Ok(key),
            None => PublicKey::of_did(&self.kid),
        };
        let (key, is_bound) = match (bound, self.jwk) {
            (Ok(bound), Some(jwk)) if bound != jwk => return Err(ArtifactError::OtherKey),
            (Ok(bound), _) => (bound, true),
            (Err(_), Some(jwk)) => (jwk, false),
            (Err(why), None) => return Err(why.into()),
        };
        let signed = self.text.rsplit_once('.').map_or("", |(signed, _)| signed);
        // The key decides on the algorithm: a header cannot choose a weaker one.
        if key.algorithm() != self.algorithm || !key.verifies(signed.as_bytes(), &self.signature) {
            return Err(ArtifactError::NotSigned);
        }
        let signer = ArtifactSigner::Key { kid: self.kid.clone(), key, is_bound };
        Ok(Attested { payload: self.payload.clone(), signer })
    }
}

impl SignedArtifact<OfferPayload> {
    /// Returns whether the offer is for these terms. The signature must be verified in addition.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        self.unverified().is_for(terms)
    }
}

/// Reads the offers in `info.offers` of a declaration, at most `most` of them.
///
/// # Errors
/// `offers` is no list, has too many entries, or an entry is no signed offer.
pub fn offers(offers: &RawJson, most: usize) -> Result<Vec<SignedArtifact<OfferPayload>>, ArtifactError> {
    let node = parse(offers.as_str().as_bytes(), &Limits { depth: 8, ..Limits::DEFAULT })?;
    let entries = node.as_array().filter(|entries| entries.len() <= most);
    let entries =
        entries.ok_or(ArtifactError::member("offers", "a list with no more entries than `accepts` may have"))?;
    entries.iter().map(SignedArtifact::of_node).collect()
}

/// Reads the receipt in the extension's value of a settlement response, `{info: {receipt}}`.
///
/// # Errors
/// The value has no receipt, or one that cannot be read.
pub fn receipt(value: &RawJson) -> Result<SignedArtifact<ReceiptPayload>, ArtifactError> {
    let node = parse(value.as_str().as_bytes(), &LIMITS)?;
    let receipt = node.get("info").and_then(|info| info.get("receipt"));
    SignedArtifact::of_node(receipt.ok_or(ArtifactError::member("receipt", "a signed receipt in `info`"))?)
}

/// Encodes base64url without padding.
fn to_base64url(bytes: &[u8]) -> String {
    let standard = base64::encode(bytes);
    let characters = standard.trim_end_matches('=').chars();
    characters
        .map(|c| {
            if c == '+' {
                '-'
            } else if c == '/' {
                '_'
            } else {
                c
            }
        })
        .collect()
}
