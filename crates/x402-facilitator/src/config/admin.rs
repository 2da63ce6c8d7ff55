//! The section `[admin]`: a port of its own for the operator.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{BearerHash, ConfigError, SecretSource};

/// The operator's port. Every answer but `/health` and `/ready` needs its token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// The address to listen on. Default: `127.0.0.1:4021`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The place of the operator's bearer token, if the token is not given by its hash.
    #[serde(default)]
    pub token: Option<SecretSource>,
    /// The SHA-256 hash of the operator's bearer token.
    #[serde(default)]
    pub token_sha256: Option<BearerHash>,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4021))
}

impl AdminConfig {
    pub(super) const fn check(&self) -> Result<(), ConfigError> {
        if self.token.is_some() == self.token_sha256.is_some() {
            return Err(ConfigError::Range { field: "admin", expected: "either token or token_sha256" });
        }
        Ok(())
    }

    /// Returns the hash of the operator's token.
    ///
    /// # Errors
    /// The token is missing or empty.
    pub fn token_hash(&self) -> Result<BearerHash, ConfigError> {
        match (&self.token_sha256, &self.token) {
            (Some(hash), _) => Ok(*hash),
            (None, Some(token)) => Ok(BearerHash::of(&token.read("admin.token")?)),
            (None, None) => Err(ConfigError::Range { field: "admin", expected: "either token or token_sha256" }),
        }
    }
}
