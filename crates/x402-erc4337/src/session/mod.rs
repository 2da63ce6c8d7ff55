//! Session keys: keys that act for an account within limits that its owner signed.
//!
//! One trait covers the keys of every provider, one module the format of each provider.

use core::fmt;

use alloy_primitives::{Address, B256, keccak256};

use crate::scope::Scope;

pub mod biconomy;
pub mod safe;
pub mod smart;
pub mod zerodev;

/// The data of a serialized session key, whatever its provider.
pub trait SerializedKey: fmt::Debug + Send + Sync {
    /// Returns the provider's name as payments write it: `zerodev`, `biconomy`, …
    fn provider(&self) -> &str;
    /// Returns the `keccak256` of the text, by which payments refer to the key.
    fn hash(&self) -> B256;
    /// Returns the account for which the key acts, if it is known.
    fn account(&self) -> Option<Address>;
    /// Returns the scope of the key, if it is known. Unknown does not mean "anything": a caller that needs a scope must
    /// refuse.
    fn scope(&self) -> Option<Scope>;
    /// Returns whether the text contains a private key.
    fn embeds_private_key(&self) -> bool;
}

impl SerializedKey for zerodev::Approval {
    fn provider(&self) -> &str {
        "zerodev"
    }

    fn hash(&self) -> B256 {
        Self::hash(self)
    }

    fn account(&self) -> Option<Address> {
        Some(self.account)
    }

    fn scope(&self) -> Option<Scope> {
        let signer = self.private_key.as_ref().map(zerodev::SessionPrivateKey::address);
        let permission = signer.and_then(|signer| self.permission_for(signer));
        Some(Self::scope(self, permission.as_ref()))
    }

    fn embeds_private_key(&self) -> bool {
        self.private_key.is_some()
    }
}

/// A key of a provider that this crate does not know: it is stored, hashed and forwarded, but never interpreted.
///
/// The text may hold a secret: it is zeroized, and never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct OpaqueKey {
    provider: String,
    text: zeroize::Zeroizing<String>,
}

impl OpaqueKey {
    /// Creates a key from the text that was sent.
    #[must_use]
    pub fn new(provider: impl Into<String>, text: impl Into<String>) -> Self {
        Self { provider: provider.into(), text: zeroize::Zeroizing::new(text.into()) }
    }

    /// Returns the text that was sent.
    #[must_use]
    pub fn expose_text(&self) -> &str {
        &self.text
    }
}

impl SerializedKey for OpaqueKey {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn hash(&self) -> B256 {
        keccak256(self.text.as_bytes())
    }

    fn account(&self) -> Option<Address> {
        None
    }

    fn scope(&self) -> Option<Scope> {
        None
    }

    fn embeds_private_key(&self) -> bool {
        false
    }
}

impl fmt::Debug for OpaqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaqueKey").field("provider", &self.provider).field("hash", &self.hash()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe_and_unknown_keys_tell_nothing() {
        let key: Box<dyn SerializedKey> = Box::new(OpaqueKey::new("other", "secret"));
        assert_eq!((key.account(), key.scope()), (None, None));
        assert_eq!(key.hash(), keccak256("secret"));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
