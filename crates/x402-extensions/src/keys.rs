//! Keys of JWS signatures, and the key identifiers that contain them:
//! [`did:key`](https://w3c-ccg.github.io/did-key-spec/), [`did:jwk`](https://github.com/quartzjer/did-jwk) and
//! [RFC 7517](https://www.rfc-editor.org/rfc/rfc7517).

use core::fmt;

use alloy_primitives::{Address, keccak256};
use k256::ecdsa::signature::hazmat::PrehashVerifier;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use x402_codec::json::{Node, parse};
use x402_codec::{Limits, base64};

/// The maximum length of a key identifier in bytes. A `did:jwk` of a P-256 key has about 250.
pub const MAX_KID: usize = 1024;

/// The algorithm of a JWS: [RFC 7518](https://www.rfc-editor.org/rfc/rfc7518),
/// [RFC 8037](https://www.rfc-editor.org/rfc/rfc8037), [RFC 8812](https://www.rfc-editor.org/rfc/rfc8812).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwsAlgorithm {
    /// The algorithm `EdDSA` with a key of Ed25519.
    EdDsa,
    /// The algorithm `ES256K`: ECDSA with secp256k1 and SHA-256.
    Es256K,
    /// The algorithm `ES256`: ECDSA with P-256 and SHA-256. Such signatures are verified only.
    Es256,
}

impl JwsAlgorithm {
    /// Returns the value of `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256K => "ES256K",
            Self::Es256 => "ES256",
        }
    }

    /// Returns the algorithm of this name; `none` and everything else has no value here.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::EdDsa, Self::Es256K, Self::Es256].into_iter().find(|of| of.name() == name)
    }
}

/// A public key that verifies a JWS.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublicKey {
    /// The 32 bytes of a key of Ed25519.
    Ed25519([u8; 32]),
    /// The coordinates of a key of secp256k1.
    Secp256k1([u8; 64]),
    /// The coordinates of a key of P-256.
    P256([u8; 64]),
}

/// The reason why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// The text is longer than [`MAX_KID`].
    #[error("expected at most {MAX_KID} bytes")]
    TooLong,
    /// The identifier is no DID.
    #[error("expected a DID: did:key, did:jwk, or another method whose key is given beside it")]
    NotADid,
    /// The identifier names its key by a method that needs the network, such as `did:web`.
    #[error("the key of this identifier is found only over the network")]
    NotContained,
    /// The identifier is malformed inside of its method.
    #[error("the identifier is malformed")]
    Malformed,
    /// The key is of a kind that is not supported, or its coordinates are on no curve.
    #[error("expected a key of Ed25519, secp256k1 or P-256; a P-256 key must have both coordinates")]
    Unsupported,
}

impl PublicKey {
    /// Reads the key that a key identifier contains: `did:key:z…` or `did:jwk:…`, with or without a fragment.
    ///
    /// # Errors
    /// The identifier contains no supported key, or refers to a document on the network.
    pub fn of_did(kid: &str) -> Result<Self, KeyTextError> {
        if kid.len() > MAX_KID {
            return Err(KeyTextError::TooLong);
        }
        let did = kid.split('#').next().unwrap_or_default();
        let (method, id) =
            did.strip_prefix("did:").and_then(|rest| rest.split_once(':')).ok_or(KeyTextError::NotADid)?;
        match method {
            "key" => Self::of_multikey(id),
            "jwk" => {
                let bytes = base64url(id).ok_or(KeyTextError::Malformed)?;
                let node = parse(&bytes, &Limits::DEFAULT).map_err(|_| KeyTextError::Malformed)?;
                Self::of_jwk(&node)
            }
            _ => Err(KeyTextError::NotContained),
        }
    }

    /// Reads a multibase key: `z`, base58 of a multicodec prefix and the key.
    fn of_multikey(id: &str) -> Result<Self, KeyTextError> {
        let text = id.strip_prefix('z').ok_or(KeyTextError::Malformed)?;
        let mut buffer = [0; 64];
        let length = bs58::decode(text).onto(&mut buffer).map_err(|_| KeyTextError::Malformed)?;
        match buffer.get(..length).unwrap_or_default() {
            [0xed, 0x01, key @ ..] => key.try_into().map(Self::Ed25519).map_err(|_| KeyTextError::Malformed),
            [0xe7, 0x01, key @ ..] if key.len() == 33 => Self::of_point(key),
            [0xe7, 0x01, ..] => Err(KeyTextError::Malformed),
            _ => Err(KeyTextError::Unsupported),
        }
    }

    /// Reads a point of secp256k1 in either form of SEC 1.
    fn of_point(bytes: &[u8]) -> Result<Self, KeyTextError> {
        let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map_err(|_| KeyTextError::Malformed)?;
        let point = key.to_sec1_point(false);
        let coordinates = point.as_bytes().get(1..).and_then(|bytes| bytes.try_into().ok());
        coordinates.map(Self::Secp256k1).ok_or(KeyTextError::Malformed)
    }

    /// Reads a JWK.
    ///
    /// # Errors
    /// The object is no key of a supported kind.
    pub fn of_jwk(node: &Node<'_>) -> Result<Self, KeyTextError> {
        let text = |name: &str| node.get(name).and_then(Node::as_str);
        let coordinate = |name: &str| -> Result<[u8; 32], KeyTextError> {
            let bytes = text(name).filter(|text| text.len() <= 64).and_then(base64url);
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(KeyTextError::Malformed)
        };
        match (text("kty"), text("crv")) {
            (Some("OKP"), Some("Ed25519")) => Ok(Self::Ed25519(coordinate("x")?)),
            (Some("EC"), Some(curve @ ("secp256k1" | "P-256"))) => {
                let mut both = [0; 64];
                let (x, y) = both.split_at_mut(32);
                x.copy_from_slice(&coordinate("x")?);
                y.copy_from_slice(&coordinate("y")?);
                if curve == "P-256" {
                    return Ok(Self::P256(both));
                }
                Self::of_point(&uncompressed(&both))
            }
            _ => Err(KeyTextError::Unsupported),
        }
    }

    /// Returns the algorithm of the key's signatures.
    #[must_use]
    pub const fn algorithm(&self) -> JwsAlgorithm {
        match self {
            Self::Ed25519(_) => JwsAlgorithm::EdDsa,
            Self::Secp256k1(_) => JwsAlgorithm::Es256K,
            Self::P256(_) => JwsAlgorithm::Es256,
        }
    }

    /// Returns the EVM account of a key of secp256k1.
    #[must_use]
    pub fn account(&self) -> Option<Address> {
        match self {
            Self::Secp256k1(key) => Some(Address::from_word(keccak256(key))),
            Self::Ed25519(_) | Self::P256(_) => None,
        }
    }

    /// Returns whether the key has made this signature of 64 bytes.
    ///
    /// A signature of secp256k1 may have a high `s`: RFC 8812 allows it, and a JWS is no authorization that counts its
    /// spellings.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
            Self::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, uncompressed(key)).verify(message, signature).is_ok()
            }
            Self::Secp256k1(key) => {
                let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&uncompressed(key));
                let signature = k256::ecdsa::Signature::from_slice(signature);
                let (Ok(key), Ok(signature)) = (key, signature) else { return false };
                key.verify_prehash(&Sha256::digest(message), &signature.normalize_s()).is_ok()
            }
        }
    }

    /// Returns the `did:key` of a key of Ed25519 or secp256k1.
    #[must_use]
    pub fn to_did(&self) -> Option<String> {
        let mut bytes = Vec::with_capacity(35);
        match self {
            Self::Ed25519(key) => {
                bytes.extend([0xed, 0x01]);
                bytes.extend(key);
            }
            Self::Secp256k1(key) => {
                let (x, y) = key.split_at(32);
                let odd = y.last().is_some_and(|byte| byte % 2 == 1);
                bytes.extend([0xe7, 0x01, if odd { 3 } else { 2 }]);
                bytes.extend(x);
            }
            Self::P256(_) => return None,
        }
        Some(format!("did:key:z{}", bs58::encode(bytes).into_string()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(key) => write!(f, "Ed25519({})", bs58::encode(key).into_string()),
            Self::Secp256k1(_) => write!(f, "Secp256k1({:?})", self.account()),
            Self::P256(key) => write!(f, "P256({})", bs58::encode(key).into_string()),
        }
    }
}

/// A private key of Ed25519 in this process: [RFC 8032](https://www.rfc-editor.org/rfc/rfc8032). A message has one
/// signature. `Debug` shows the public key.
pub struct Ed25519Key {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl Ed25519Key {
    /// Creates the key of this seed. `None` means that the library refuses the seed, which it does for none that is known.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// Returns the public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        let signature = self.pair.sign(message);
        for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Key").field("public", &bs58::encode(self.public).into_string()).finish_non_exhaustive()
    }
}

fn uncompressed(coordinates: &[u8; 64]) -> [u8; 65] {
    let mut point = [4; 65];
    let (_, rest) = point.split_at_mut(1);
    rest.copy_from_slice(coordinates);
    point
}

/// Decodes base64url without padding, in its one spelling.
pub(crate) fn base64url(text: &str) -> Option<Vec<u8>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!text.is_empty() && text.bytes().all(plain)).then(|| base64::decode(text.as_bytes(), text.len()).ok())?
}
