//! The token's signature: [RFC 7515](https://www.rfc-editor.org/rfc/rfc7515) compact serialization, with ES256 or RS256
//! of [RFC 7518](https://www.rfc-editor.org/rfc/rfc7518).
//!
//! A facilitator checks tokens of its own alone. The key comes from its own set, by `kid`, and each key has one
//! algorithm, which the header must name: no symmetric algorithm exists here, and no key is fetched from anywhere.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use x402_codec::{Limits, json as strict};
use x402_types::nvm::card::CardCode;
use x402_types::{Malformed, RawJson, Rejection};

/// The longest token, in bytes.
const LONGEST: usize = 4096;
/// The longest name of a key, in bytes.
const LONGEST_KID: usize = 64;

/// The private key that signs new tokens, by ES256. Signatures are deterministic (RFC 6979); the key is wiped when it is
/// dropped, and `Debug` omits it.
#[derive(Clone)]
pub struct TokenSigner {
    kid: String,
    key: SigningKey,
}

impl TokenSigner {
    /// Creates the signer with the 32 bytes of a P-256 private key, and the key's name.
    ///
    /// # Errors
    /// The bytes are no private key, or the name is empty or longer than 64 bytes.
    pub fn new(kid: &str, secret: &[u8; 32]) -> Result<Self, Malformed> {
        let kid = named(kid)?;
        let key = SigningKey::from_slice(secret);
        Ok(Self { kid, key: key.map_err(|_| Malformed::new("a private key of P-256: 32 bytes, not 0"))? })
    }

    /// Signs claims, which must be a JSON object.
    #[must_use]
    pub fn sign(&self, claims: &RawJson) -> String {
        let header = json!({ "alg": Algorithm::Es256.as_str(), "typ": "JWT", "kid": self.kid }).to_string();
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.as_str(), &mut token);
        let signature: Signature = self.key.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut token);
        token
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The algorithms that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A public key. Its kind is its algorithm.
#[derive(Clone)]
enum PublicKey {
    Es256(VerifyingKey),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::Rs256 { .. } => Algorithm::Rs256,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            // `from_slice` takes r and s of 32 bytes each, neither of them 0: a DER signature is none.
            Self::Es256(key) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Self::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
        }
    }
}

/// The public keys of the current and the former signers.
#[derive(Clone, Default)]
pub struct TokenKeys(Vec<(String, PublicKey)>);

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    alg: String,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    /// A private key's member: such a key is not published.
    #[serde(default)]
    d: Option<IgnoredAny>,
}

impl TokenKeys {
    /// Creates a set without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the public key of a signer.
    ///
    /// # Errors
    /// Another key has its name.
    pub fn with_signer(self, signer: &TokenSigner) -> Result<Self, Malformed> {
        self.with(signer.kid.clone(), PublicKey::Es256(*signer.key.verifying_key()))
    }

    /// Adds a former key, as the key set has it: [RFC 7517](https://www.rfc-editor.org/rfc/rfc7517) with `kid` and `alg`.
    ///
    /// # Errors
    /// The key is private, malformed or of another algorithm, or another key has its name.
    pub fn with_jwk(self, jwk: &str) -> Result<Self, Malformed> {
        const EXPECTED: Malformed =
            Malformed::new("a public JWK with `kid`, and `alg` ES256 on P-256 or RS256 of 2048 to 8192 bits");
        let jwk: Jwk = strict::from_slice(jwk.as_bytes(), &Limits::DEFAULT).map_err(|_| EXPECTED)?;
        if jwk.d.is_some() {
            return Err(Malformed::new("a public JWK: this one has a private key"));
        }
        let bytes = |text: Option<String>| text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(EXPECTED);
        let key = match (jwk.kty.as_str(), jwk.alg.as_str(), jwk.crv.as_deref()) {
            ("EC", "ES256", Some("P-256")) => {
                let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(EXPECTED);
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                PublicKey::Es256(VerifyingKey::from_sec1_bytes(&point).map_err(|_| EXPECTED)?)
            }
            ("RSA", "RS256", None) => {
                let (n, e) = (bytes(jwk.n)?, bytes(jwk.e)?);
                if !(256..=1024).contains(&n.len()) || n.first() == Some(&0) || e.is_empty() || e.len() > 8 {
                    return Err(EXPECTED);
                }
                PublicKey::Rs256 { n, e }
            }
            _ => return Err(EXPECTED),
        };
        self.with(named(&jwk.kid)?, key)
    }

    fn with(mut self, kid: String, key: PublicKey) -> Result<Self, Malformed> {
        if self.0.iter().any(|(other, _)| *other == kid) {
            return Err(Malformed::new("keys with different names"));
        }
        self.0.push((kid, key));
        Ok(self)
    }

    /// Returns the key set for `/.well-known/jwks.json`.
    #[must_use]
    pub fn to_jwks(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys: Vec<Value> = self
            .0
            .iter()
            .map(|(kid, key)| {
                let alg = key.algorithm().as_str();
                match key {
                    PublicKey::Es256(key) => {
                        let point = key.to_sec1_point(false);
                        let half =
                            |at: Option<&p256::FieldBytes>| text(at.map(|half| half.as_slice()).unwrap_or_default());
                        json!({ "kty": "EC", "crv": "P-256", "x": half(point.x()), "y": half(point.y()),
                                "kid": kid, "alg": alg, "use": "sig" })
                    }
                    PublicKey::Rs256 { n, e } => {
                        json!({ "kty": "RSA", "n": text(n), "e": text(e), "kid": kid, "alg": alg, "use": "sig" })
                    }
                }
            })
            .collect();
        json!({ "keys": keys })
    }

    /// Verifies a token's form, key, algorithm and signature, in this order, and returns its payload. No claim is read
    /// before.
    ///
    /// # Errors
    /// `INVALID_TOKEN`.
    pub fn verify(&self, token: &str) -> Result<Vec<u8>, Rejection> {
        let parts = Parts::read(token)?;
        let key = self.0.iter().find(|(kid, _)| *kid == parts.header.kid).map(|(_, key)| key);
        let key = key.ok_or_else(|| refused("kid: no key of this facilitator"))?;
        if key.algorithm().as_str() != parts.header.alg {
            return Err(refused("alg: not the key's algorithm"));
        }
        if !key.has_signed(parts.signed, &parts.signature) {
            return Err(refused("the signature is not the key's"));
        }
        Ok(parts.payload)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(kid, _)| kid)).finish()
    }
}

/// The header. Other members are ignored: `jku`, `jwk`, `x5u` and `x5c` among them, which are never followed.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    crit: Option<RawJson>,
}

/// The parts of a token.
pub(crate) struct Parts<'t> {
    header: Header,
    pub(crate) payload: Vec<u8>,
    signature: Vec<u8>,
    signed: &'t [u8],
}

impl<'t> Parts<'t> {
    /// Splits a token and decodes its parts; nothing is verified. Base64url has no padding and no spare bits, so that a
    /// token has one spelling.
    ///
    /// # Errors
    /// `INVALID_TOKEN`: the form is not that of a compact JWS, or the header has `crit`.
    pub(crate) fn read(token: &'t str) -> Result<Self, Rejection> {
        let form = || malformed("expected three parts in base64url without padding");
        if token.len() > LONGEST {
            return Err(malformed("expected at most 4096 bytes"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(form)?;
        let (header, payload) = signed.split_once('.').ok_or_else(form)?;
        let part = |text: &str| match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(form()),
        };
        let header: Header = strict::from_slice(&part(header)?, &Limits::DEFAULT)
            .map_err(|_| malformed("header: expected a JSON object with `alg` and `kid`"))?;
        if header.crit.is_some() {
            return Err(malformed("crit: not understood"));
        }
        Ok(Self { header, payload: part(payload)?, signature: part(signature)?, signed: signed.as_bytes() })
    }
}

fn named(kid: &str) -> Result<String, Malformed> {
    if (1..=LONGEST_KID).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(kid.to_owned())
    } else {
        Err(Malformed::new("the name of a key: 1 to 64 visible ASCII characters"))
    }
}

/// Refuses a token that is not one of this facilitator's.
pub(crate) fn refused(why: &str) -> Rejection {
    CardCode::InvalidToken.because(format!("payload.token: {why}")).detail("nvmCode", "BCK.X402.0005")
}

/// Refuses a token that cannot be read.
pub(crate) fn malformed(why: &str) -> Rejection {
    CardCode::InvalidToken.because(format!("payload.token: {why}")).detail("nvmCode", "BCK.X402.0010")
}
