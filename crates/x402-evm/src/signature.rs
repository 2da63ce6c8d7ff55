//! Signatures of externally owned accounts: the Yellow Paper's appendix F, low `s` as
//! [EIP-2](https://eips.ethereum.org/EIPS/eip-2) requires, and the compact form of
//! [EIP-2098](https://eips.ethereum.org/EIPS/eip-2098).
//!
//! A digest and an account have exactly one accepted spelling each: 65 bytes, `v` 27 or 28, `s` in the lower half. A
//! second spelling would let the same authorization pass a check that compares bytes.

#[cfg(any(feature = "key", feature = "libsecp256k1"))]
use alloy_primitives::{Address, keccak256};
use alloy_primitives::{B256, U256, b256};

/// The order of the group, n.
const ORDER: B256 = b256!("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
/// n / 2, rounded down.
const HALF_ORDER: B256 = b256!("0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");

/// The maximum length of a signature in bytes: 8 KiB of hex. With factory data and a passkey they have about 2 KiB.
pub const MAX_SIGNATURE: usize = 4096;

/// The reason why bytes are not a signature of an account, or not one of this digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The length is not 65 bytes.
    #[error("expected 65 bytes, got {0}")]
    Length(usize),
    /// The last byte is not 27 or 28.
    #[error("expected v to be 27 or 28, got {0}")]
    V(u8),
    /// `r` is zero or not below the order of the group.
    #[error("r is out of range")]
    R,
    /// `s` is zero or not below the order of the group.
    #[error("s is out of range")]
    S,
    /// `s` is in the upper half: the malleated twin of a valid signature.
    #[error("s is in the upper half of its range")]
    HighS,
    /// No key gives this signature of the digest.
    #[error("no account has signed this")]
    NoKey,
}

/// A signature in its one accepted spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    r: B256,
    s: B256,
    odd: bool,
}

impl Signature {
    /// Creates a signature from its parts. `odd` is the parity of the y coordinate of R.
    /// # Errors
    /// `R`, `S` or `HighS`.
    pub fn new(r: B256, s: B256, odd: bool) -> Result<Self, SignatureError> {
        // Yellow Paper (310), (311): 0 < r < n, 0 < s < n; EIP-2: s <= n/2.
        if r.is_zero() || r >= ORDER {
            return Err(SignatureError::R);
        }
        if s.is_zero() || s >= ORDER {
            return Err(SignatureError::S);
        }
        if s > HALF_ORDER {
            return Err(SignatureError::HighS);
        }
        Ok(Self { r, s, odd })
    }

    /// Parses `r ‖ s ‖ v`, 65 bytes with `v` 27 or 28.
    /// # Errors
    /// The length, `v` or range is another.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: &[u8; 65] = bytes.try_into().map_err(|_| SignatureError::Length(bytes.len()))?;
        let [rs @ .., v] = bytes;
        let odd = match v {
            27 => false,
            28 => true,
            v => return Err(SignatureError::V(*v)),
        };
        let (r, s) = rs.split_at(32);
        Self::new(B256::from_slice(r), B256::from_slice(s), odd)
    }

    /// Parses `r ‖ s ‖ v`, 65 bytes with `v` 27 or 28 and `s` in either half, and converts a high `s` to its lower twin.
    /// Only contracts that themselves accept both halves may be given such a signature, and what is used up must not
    /// depend on its spelling.
    /// # Errors
    /// The length, `v` or range is another.
    pub fn of_either_half(bytes: &[u8]) -> Result<Self, SignatureError> {
        match Self::from_bytes(bytes) {
            Err(SignatureError::HighS) => {}
            other => return other,
        }
        let bytes: &[u8; 65] = bytes.try_into().map_err(|_| SignatureError::Length(bytes.len()))?;
        let [rs @ .., v] = bytes;
        let (r, s) = rs.split_at(32);
        let twin = U256::from_be_bytes(ORDER.0).wrapping_sub(U256::from_be_slice(s));
        Self::new(B256::from_slice(r), twin.into(), *v == 27)
    }

    /// Parses the compact form of EIP-2098, `r ‖ yParityAndS`, 64 bytes. No other function accepts it.
    /// # Errors
    /// The length or range is another.
    pub fn from_compact(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: &[u8; 64] = bytes.try_into().map_err(|_| SignatureError::Length(bytes.len()))?;
        let (r, s) = bytes.split_at(32);
        let mut s = B256::from_slice(s);
        let odd = s.0[0] & 0x80 != 0;
        s.0[0] &= 0x7f;
        Self::new(B256::from_slice(r), s, odd)
    }

    /// Encodes `r ‖ s ‖ v`, `v` 27 or 28.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 65] {
        let mut bytes = [0; 65];
        let (r, rest) = bytes.split_at_mut(32);
        let (s, v) = rest.split_at_mut(32);
        r.copy_from_slice(self.r.as_slice());
        s.copy_from_slice(self.s.as_slice());
        v.fill(self.v());
        bytes
    }

    /// Returns the value `r`.
    #[must_use]
    pub const fn r(&self) -> B256 {
        self.r
    }

    /// Returns the value `s`.
    #[must_use]
    pub const fn s(&self) -> B256 {
        self.s
    }

    /// Returns the parity of the y coordinate of R.
    #[must_use]
    pub const fn is_odd(&self) -> bool {
        self.odd
    }

    /// Returns `v`, 27 or 28.
    #[must_use]
    pub const fn v(&self) -> u8 {
        if self.odd { 28 } else { 27 }
    }
}

impl TryFrom<alloy_primitives::Signature> for Signature {
    type Error = SignatureError;

    /// Converts a signer's output; a high `s`, as some hardware produces it, is converted to its lower twin.
    fn try_from(signature: alloy_primitives::Signature) -> Result<Self, SignatureError> {
        let signature = signature.normalized_s();
        Self::new(signature.r().into(), signature.s().into(), signature.v())
    }
}

/// Recovers the account that has signed this digest.
///
/// Recovery uses libsecp256k1 if the feature of that name is enabled, otherwise k256. Both accept the same set.
/// # Errors
/// `NoKey`: `r` is not the x coordinate of a point, or the key would be the point at infinity.
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
pub fn recover(digest: B256, signature: &Signature) -> Result<Address, SignatureError> {
    #[cfg(feature = "libsecp256k1")]
    return libsecp256k1::recover(digest, signature);
    #[cfg(not(feature = "libsecp256k1"))]
    pure::recover(digest, signature)
}

/// Computes the address: the last 20 bytes of the keccak256 of the key's 64 bytes.
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
fn address_of(uncompressed: &[u8]) -> Result<Address, SignatureError> {
    match uncompressed {
        [4, key @ ..] if key.len() == 64 => Ok(Address::from_word(keccak256(key))),
        _ => Err(SignatureError::NoKey),
    }
}

/// Recovery and signing in pure Rust.
#[cfg(feature = "key")]
pub mod pure {
    use super::{Address, B256, Signature, SignatureError, address_of};
    #[cfg(any(test, not(feature = "libsecp256k1")))]
    use k256::ecdsa::SigningKey;
    use k256::ecdsa::VerifyingKey;
    use k256::elliptic_curve::ff::PrimeField;
    use k256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
    use k256::elliptic_curve::point::DecompressPoint;
    use k256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};

    /// Recovers the account that has signed this digest, by k256.
    ///
    /// `Q = r⁻¹(sR - zG)` satisfies the verification equation by construction, so nothing is verified again, which k256
    /// 0.13 does at more than twice the cost. Signatures are public, so constant time is unnecessary: inverting `r` in
    /// variable time makes this take 66 µs where k256 0.14's own recovery takes 69.
    /// # Errors
    /// `NoKey`.
    pub fn recover(digest: B256, signature: &Signature) -> Result<Address, SignatureError> {
        let key = key(digest, signature).ok_or(SignatureError::NoKey)?;
        address_of(key.to_sec1_point(false).as_bytes())
    }

    fn key(digest: B256, signature: &Signature) -> Option<VerifyingKey> {
        let scalar = |bytes: B256| Scalar::from_repr(bytes.0.into()).into_option();
        let (r, s) = (scalar(signature.r)?, scalar(signature.s)?);
        let z = <Scalar as Reduce<FieldBytes>>::reduce(&digest.0.into());
        let point = AffinePoint::decompress(&signature.r.0.into(), u8::from(signature.odd).into()).into_option()?;
        let inverse = r.invert_vartime().into_option()?;
        let (u1, u2) = (-(inverse * z), inverse * s);
        let key = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&u1, &u2, &point.into());
        // This refuses the point at infinity.
        VerifyingKey::from_affine(key.to_affine()).ok()
    }

    /// A private key; its memory is overwritten when it is dropped.
    #[cfg(any(test, not(feature = "libsecp256k1")))]
    #[derive(Clone)]
    pub(crate) struct Secret(SigningKey);

    #[cfg(any(test, not(feature = "libsecp256k1")))]
    impl Secret {
        pub(crate) fn read(bytes: &[u8; 32]) -> Option<Self> {
            SigningKey::from_slice(bytes).ok().map(Self)
        }

        pub(crate) fn address(&self) -> Result<Address, SignatureError> {
            address_of(self.0.verifying_key().to_sec1_point(false).as_bytes())
        }

        /// Signs with the nonce that RFC 6979 derives by SHA-256; `s` is in the lower half.
        pub(crate) fn sign(&self, digest: B256) -> Result<Signature, SignatureError> {
            let (rs, id) = self.0.sign_prehash_recoverable(digest.as_slice());
            let (r, s) = rs.split_bytes();
            Signature::new(B256::from(<[u8; 32]>::from(r)), B256::from(<[u8; 32]>::from(s)), id.is_y_odd())
        }
    }
}

/// Recovery and signing by libsecp256k1.
#[cfg(feature = "libsecp256k1")]
pub mod libsecp256k1 {
    use super::{Address, B256, Signature, SignatureError, address_of};
    use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
    use secp256k1::{Message, PublicKey, SecretKey};

    /// Recovers the account that has signed this digest, by libsecp256k1.
    /// # Errors
    /// `NoKey`.
    pub fn recover(digest: B256, signature: &Signature) -> Result<Address, SignatureError> {
        let id = if signature.odd { RecoveryId::One } else { RecoveryId::Zero };
        let bytes = signature.to_bytes();
        let [rs @ .., _] = &bytes;
        let rs = RecoverableSignature::from_compact(rs, id).map_err(|_| SignatureError::NoKey)?;
        let key = rs.recover_ecdsa(Message::from_digest(digest.0)).map_err(|_| SignatureError::NoKey)?;
        address_of(&key.serialize_uncompressed())
    }

    /// A private key; its memory is overwritten when it is dropped.
    #[derive(Clone)]
    pub(crate) struct Secret(SecretKey);

    impl Secret {
        pub(crate) fn read(bytes: &[u8; 32]) -> Option<Self> {
            SecretKey::from_secret_bytes(*bytes).ok().map(Self)
        }

        pub(crate) fn address(&self) -> Result<Address, SignatureError> {
            address_of(&PublicKey::from_secret_key(&self.0).serialize_uncompressed())
        }

        /// Signs with the nonce that RFC 6979 derives by SHA-256; `s` is in the lower half.
        pub(crate) fn sign(&self, digest: B256) -> Result<Signature, SignatureError> {
            let signed = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.0);
            let (id, rs) = signed.serialize_compact();
            let (r, s) = rs.split_at(32);
            Signature::new(B256::from_slice(r), B256::from_slice(s), matches!(id, RecoveryId::One | RecoveryId::Three))
        }
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            self.0.non_secure_erase();
        }
    }
}
