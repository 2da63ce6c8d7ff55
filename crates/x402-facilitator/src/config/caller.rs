//! The callers in the configuration: their names, and their tokens or the hashes of these.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use alloy_primitives::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{ConfigError, Misplaced, SecretSource};

/// A caller that presents a bearer token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// The caller's name, part of a payment's identity.
    pub name: String,
    /// The place of the caller's bearer token, if the token is not given by its hash.
    #[serde(default)]
    pub token: Option<SecretSource>,
    /// The SHA-256 hash of the caller's bearer token, so that no file of this machine holds the token.
    #[serde(default)]
    pub token_sha256: Option<BearerHash>,
    /// Whether a repeated body without `Idempotency-Key` gets the success again. Set it only for a server that settles
    /// each customer's request by a body of its own, or that understands the mark `replayed`: any other server would
    /// deliver once for each repetition of one payment. Default: false.
    #[serde(default)]
    pub replay_success: bool,
}

impl CallerConfig {
    /// Returns the hash of the caller's token.
    ///
    /// # Errors
    /// The token is missing or empty.
    pub fn token_hash(&self) -> Result<BearerHash, ConfigError> {
        match (&self.token_sha256, &self.token) {
            (Some(hash), _) => Ok(*hash),
            (None, Some(token)) => Ok(BearerHash::of(&token.read("caller.token")?)),
            (None, None) => Err(NO_TOKEN),
        }
    }
}

/// The SHA-256 hash of a bearer token. Tokens are random and long, so that a plain hash cannot be inverted by guesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BearerHash([u8; 32]);

impl BearerHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    pub(crate) fn of_bytes(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Returns the 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for BearerHash {
    type Err = BearerHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one_spelling = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; 32];
        if !one_spelling || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(BearerHashError);
        }
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for BearerHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A token that was written here by mistake must not be repeated.
        let text = String::deserialize(deserializer).map_err(|_| serde::de::Error::custom(BearerHashError))?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for BearerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for BearerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerHash")
    }
}

/// The text is not the hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 digits in lower-case hex: the output of `printf %s TOKEN | sha256sum`")]
pub struct BearerHashError;

const NO_TOKEN: ConfigError = ConfigError::Range { field: "caller", expected: "either token or token_sha256" };

/// Checks that each caller has a name of its own and one kind of token.
pub(super) fn check(callers: &[CallerConfig]) -> Result<(), Misplaced> {
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    for (entry, caller) in callers.iter().enumerate() {
        let misplaced = |error| Misplaced { entry, error };
        if caller.token.is_some() == caller.token_sha256.is_some() {
            return Err(misplaced(NO_TOKEN));
        }
        if caller.name.is_empty() {
            return Err(misplaced(ConfigError::Range { field: "caller.name", expected: "a name" }));
        }
        if !names.insert(&caller.name) {
            let error = ConfigError::Range { field: "caller.name", expected: "a name that no other caller has" };
            return Err(misplaced(error));
        }
        if !caller.token_sha256.is_none_or(|hash| hashes.insert(hash)) {
            let expected = "a token that no other caller has";
            return Err(misplaced(ConfigError::Range { field: "caller.token_sha256", expected }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const NETWORK: &str = "ledger = \"x402.sqlite\"\n[[network]]\nid = \"eip155:84532\"\nrpc = { env = \"RPC\" }\n\
        finality = 2\nmax_fee_per_gas = 1\nsigners = [{ file = \"key\" }]\n";
    /// `printf %s secret-token | sha256sum`.
    const HASH: &str = "930bbdc51b6aed5c2a5678fd6e28dee7a05e8a4b643cfc0b4427c3efb86c0d94";

    #[test]
    fn a_hash_is_the_shells_and_has_one_spelling() {
        assert_eq!(BearerHash::of("secret-token").to_string(), HASH);
        assert_eq!(HASH.parse(), Ok(BearerHash::of("secret-token")));
        for wrong in [&*HASH.to_uppercase(), &HASH[2..], &format!("0x{HASH}"), "secret-token", ""] {
            assert_eq!(wrong.parse::<BearerHash>(), Err(BearerHashError), "{wrong}");
        }
    }

    #[test]
    fn a_caller_has_one_name_and_one_token() {
        let with = |text: &str| Config::parse(&format!("{NETWORK}{text}"));
        let (hash, token) = (format!("token_sha256 = \"{HASH}\"\n"), "token = { env = \"A\" }\n");
        let named = |name: &str, token: &str| format!("[[caller]]\nname = \"{name}\"\n{token}");
        let good = with(&format!("{}{}", named("a", &hash), named("b", token))).unwrap();
        assert_eq!(good.callers[0].token_hash().unwrap().to_string(), HASH);
        for (text, expected) in [
            (named("a", ""), "line 8, column 1: caller: expected either token or token_sha256"),
            (named("a", &format!("{hash}{token}")), "caller: expected either token or token_sha256"),
            (
                format!("{}{}", named("a", &hash), named("a", token)),
                "line 12, column 8: caller.name: expected a name that",
            ),
            (
                format!("{}{}", named("a", &hash), named("b", &hash)),
                "line 13, column 16: caller.token_sha256: expected a token",
            ),
            (named("", token), "line 9, column 8: caller.name: expected a name"),
            (named("a", "token_sha256 = \"hunter2\""), "line 10, column 16: caller.token_sha256: expected 64 digits"),
        ] {
            let error = with(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{expected}: {error}");
        }
    }
}
