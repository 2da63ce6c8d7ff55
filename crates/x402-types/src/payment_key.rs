//! Payment keys: the identity of an authorization, whatever document carries it.

use core::fmt;
use std::sync::Arc;

use crate::{AuthorizationKind, ChainId};

/// The identity of an authorization, in canonical bytes: kind, network, contract, payer, nonce.
///
/// A key never contains text that the payer can choose, a signature, a header or a scheme: every spelling of one
/// authorization has the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaymentKey(Arc<[u8]>);

impl core::hash::Hash for PaymentKey {
    /// Hashes only the end of the key, payer and nonce, because that is where keys differ.
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        let start = self.0.len().saturating_sub(54);
        state.write(self.0.get(start..).unwrap_or_default());
    }
}

impl PaymentKey {
    /// Builds the key of an authorization. Each part is preceded by its length.
    #[must_use]
    pub fn new(kind: AuthorizationKind, network: ChainId, contract: &[u8], payer: &[u8], nonce: &[u8]) -> Self {
        Self(joined(kind, &[network.as_str().as_bytes(), contract, payer, nonce]).into())
    }

    /// Builds the common prefix of the keys of all authorizations of this kind that a payer gave for one contract.
    #[must_use]
    pub fn prefix(kind: AuthorizationKind, network: ChainId, contract: &[u8], payer: &[u8]) -> Vec<u8> {
        joined(kind, &[network.as_str().as_bytes(), contract, payer])
    }

    /// Returns the payer that the key names.
    #[must_use]
    pub fn payer(&self) -> Option<&[u8]> {
        let (_kind, parts) = self.0.split_first()?;
        let part = |bytes| -> Option<(&[u8], &[u8])> {
            let (length, rest) = <[u8]>::split_first_chunk::<2>(bytes)?;
            rest.split_at_checked(u16::from_be_bytes(*length).into())
        };
        let (_network, rest) = part(parts)?;
        let (_contract, rest) = part(rest)?;
        part(rest).map(|(payer, _nonce)| payer)
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Restores a key from stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// Joins the kind and the parts, each preceded by its length.
fn joined(kind: AuthorizationKind, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| 2 + part.len()).sum();
    let mut bytes = Vec::with_capacity(1 + length);
    bytes.push(kind as u8);
    for part in parts {
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl fmt::Display for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_payer() {
        let network = ChainId::eip155(8453);
        let key = PaymentKey::new(AuthorizationKind::Eip3009, network, &[1; 20], &[2; 20], &[3; 32]);
        assert_eq!(key.payer(), Some([2; 20].as_slice()));
        for bytes in [&b""[..], b"\x01", b"\x01\x00", b"\x01\x00\x01a\x00\x00\x00\x05b"] {
            assert_eq!(PaymentKey::from_bytes(bytes).payer(), None, "{bytes:?}");
        }
    }
}
