//! The encryption of stored session keys: ChaCha20-Poly1305 under a key from the configuration.

use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use x402_types::Fault;
use zeroize::Zeroizing;

use crate::session_keys::KeyName;

/// The key that encrypts stored session keys: 32 bytes.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

/// The error for a malformed seal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 bytes in hex")]
pub struct SealError;

impl SealKey {
    /// Parses 64 hex digits, with or without `0x`.
    /// # Errors
    /// The text is anything else. It is not repeated in the error.
    pub fn from_hex(text: &str) -> Result<Self, SealError> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        let mut key = Zeroizing::new([0; 32]);
        if pairs.len() != key.len() || !rest.is_empty() {
            return Err(SealError);
        }
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4) | low).ok_or(SealError)?;
        }
        Ok(Self(key))
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// The cipher of a seal key.
#[derive(Clone)]
pub(crate) struct Seal(Arc<LessSafeKey>);

/// The nonce of an encrypted key, and the key.
pub(crate) type Sealed = ([u8; NONCE_LEN], Vec<u8>);

impl Seal {
    pub(crate) fn new(key: &SealKey) -> Result<Self, SealError> {
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &*key.0).map_err(|_| SealError)?;
        Ok(Self(Arc::new(LessSafeKey::new(cipher))))
    }

    /// Encrypts a text under a random nonce: 96 bits are enough for 2^32 keys, more than will ever be registered.
    pub(crate) fn seal(&self, name: &KeyName, text: &str) -> Result<([u8; NONCE_LEN], Vec<u8>), Fault> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(Fault::store)?;
        let mut sealed = text.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(name)), &mut sealed)
            .map_err(|_| Fault::store("a session key cannot be sealed"))?;
        Ok((nonce, sealed))
    }

    pub(crate) fn open(
        &self,
        name: &KeyName,
        nonce: [u8; NONCE_LEN],
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<String>, Fault> {
        let failed = || Fault::store("a session key does not open: another seal key, or a changed row");
        let mut sealed = Zeroizing::new(sealed);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = self.0.open_in_place(nonce, Aad::from(bound(name)), &mut sealed).map_err(|_| failed())?;
        core::str::from_utf8(text).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| failed())
    }
}

/// Builds the associated data of an encrypted key, each part preceded by its length: the key can be decrypted only in
/// its own row.
fn bound(name: &KeyName) -> Vec<u8> {
    let parts = [name.network.as_str().as_bytes(), &name.account[..], name.provider.as_bytes(), &name.hash[..]];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_key_is_32_bytes_in_hex() {
        assert!(SealKey::from_hex(&format!("0x{}", "ab".repeat(32))).is_ok());
        for bad in ["", "ab", &"ab".repeat(31), &"xy".repeat(32)] {
            assert!(matches!(SealKey::from_hex(bad), Err(SealError)), "{bad}");
        }
        assert_eq!(format!("{:?}", SealKey::from_hex(&"ab".repeat(32)).unwrap()), "SealKey(..)");
    }
}
