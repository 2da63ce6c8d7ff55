//! A private key in this process.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{Address, B256, hex};
use async_trait::async_trait;
use x402_types::Fault;

use super::Sign;
#[cfg(feature = "libsecp256k1")]
use crate::signature::libsecp256k1::Secret;
#[cfg(not(feature = "libsecp256k1"))]
use crate::signature::pure::Secret;
use crate::signature::{Signature, SignatureError};

/// The reason why bytes or a text are not a private key. It does not repeat them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not 32 bytes in hex.
    #[error("expected a private key: 64 hex digits, with or without 0x")]
    Text,
    /// The number is zero, or not below the order of the group.
    #[error("expected a private key: a number from 1 to below the order of secp256k1")]
    Range,
}

/// A private key of secp256k1 in this process, and its account.
///
/// The nonce of a signature is derived by RFC 6979, so that a digest has one signature. `Debug` shows the account and
/// never the key, whose memory is overwritten when it is dropped.
///
/// ```
/// use x402_evm::key::Key;
///
/// // The first account of the mnemonic that every Ethereum tool uses for tests.
/// let key: Key = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80".parse()?;
/// assert_eq!(key.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// # Ok::<(), x402_evm::key::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key {
    secret: Secret,
    address: Address,
}

impl Key {
    /// Creates the key of these 32 bytes, most significant first.
    ///
    /// # Errors
    /// [`KeyError::Range`]: the number is zero, or not below the order of the group.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = Secret::read(bytes).ok_or(KeyError::Range)?;
        let address = secret.address().map_err(|_| KeyError::Range)?;
        Ok(Self { secret, address })
    }

    /// Returns the account of this key.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest.
    ///
    /// # Errors
    /// The nonce gives a signature of zero, which happens for no digest that can be found.
    pub fn signature_of(&self, digest: B256) -> Result<Signature, SignatureError> {
        self.secret.sign(digest)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Text)?;
        let key = Self::from_bytes(&bytes);
        bytes.fill(0);
        key
    }
}

#[async_trait]
impl Sign for Key {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign(&self, digest: B256) -> Result<Signature, Fault> {
        self.signature_of(digest).map_err(|why| Fault::unreachable("the signer", why))
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, keccak256};
    use alloy_signer::SignerSync;
    use alloy_signer_local::PrivateKeySigner;

    use super::*;
    use crate::signature::{libsecp256k1, pure, recover};

    /// Numbers that look random and are the same at each run.
    fn word(seed: u32) -> B256 {
        keccak256(seed.to_be_bytes())
    }

    #[test]
    fn both_libraries_sign_as_alloy_does() {
        for seed in 0..200 {
            let (bytes, digest) = (word(seed), word(seed + 1_000_000));
            let alloy = PrivateKeySigner::from_bytes(&bytes).unwrap();
            let expected = alloy.sign_hash_sync(&digest).unwrap().as_bytes();
            let (rust, c) = (pure::Secret::read(&bytes).unwrap(), libsecp256k1::Secret::read(&bytes).unwrap());
            assert_eq!(rust.sign(digest).unwrap().to_bytes(), expected);
            assert_eq!(c.sign(digest).unwrap().to_bytes(), expected);
            assert_eq!((rust.address(), c.address()), (Ok(alloy.address()), Ok(alloy.address())));
            let key = Key::from_bytes(&bytes).unwrap();
            assert_eq!(recover(digest, &key.signature_of(digest).unwrap()), Ok(key.address()));
        }
    }

    /// A digest at or above the group's order, which no hash will ever be: some libraries derive the nonce from its bytes,
    /// others from its remainder. Every signature is the account's nevertheless.
    #[test]
    fn digests_of_any_size_are_signed() {
        let bytes = word(7);
        let (rust, c) = (pure::Secret::read(&bytes).unwrap(), libsecp256k1::Secret::read(&bytes).unwrap());
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
        for digest in [B256::ZERO, B256::with_last_byte(1), order, B256::repeat_byte(0xff)] {
            let (rust, c) = (rust.sign(digest).unwrap(), c.sign(digest).unwrap());
            assert!(rust == c || digest >= order, "{digest}");
            let account = PrivateKeySigner::from_bytes(&bytes).unwrap().address();
            assert_eq!((recover(digest, &rust), recover(digest, &c)), (Ok(account), Ok(account)));
        }
    }

    #[tokio::test]
    async fn a_message_is_signed_as_alloy_does() {
        let alloy = PrivateKeySigner::from_bytes(&word(3)).unwrap();
        let key = Key::from_bytes(&word(3)).unwrap();
        let expected = alloy.sign_message_sync(b"x402").unwrap().as_bytes();
        assert_eq!(Sign::sign_message(&key, b"x402").await.unwrap().to_bytes(), expected);
        assert_eq!(Sign::sign_message(&alloy, b"x402").await.unwrap().to_bytes(), expected);
    }

    #[test]
    fn no_number_out_of_range_is_a_key() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let above = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364142";
        for bad in [&"00".repeat(32), order, above, &"ff".repeat(32)] {
            assert_eq!(bad.parse::<Key>().unwrap_err(), KeyError::Range, "{bad}");
            let bytes: B256 = bad.parse().unwrap();
            assert!(pure::Secret::read(&bytes).is_none() && libsecp256k1::Secret::read(&bytes).is_none());
        }
        let below: Key = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140".parse().unwrap();
        assert_eq!(below.address(), address!("80C0dbf239224071c59dD8970ab9d542E3414aB2"));
    }

    #[test]
    fn a_text_is_a_key_or_an_error_that_does_not_repeat_it() {
        let text = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let account = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        for good in [text.to_owned(), format!("0x{text}"), format!("0x{}", text.to_uppercase())] {
            assert_eq!(good.parse::<Key>().unwrap().address(), account);
        }
        for bad in ["", "0x", &text[2..], &format!("{text}00"), &format!("0x0x{}", &text[4..]), &format!(" {text}")] {
            let error = bad.parse::<Key>().unwrap_err();
            assert_eq!(error, KeyError::Text, "{bad:?}");
            assert!(!error.to_string().contains("ac09"));
        }
        let shown = format!("{:?}", text.parse::<Key>().unwrap());
        assert_eq!(shown, format!("Key {{ address: {account:?}, .. }}"));
    }
}
