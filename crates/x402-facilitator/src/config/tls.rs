//! The section `[tls]`: the certificate of the callers' port.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, SecretSource};
use crate::edge::tls::Tls;

/// The certificate of the callers' port for TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The path of the certificate and those that link it to a root, in PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub key: SecretSource,
}

impl TlsConfig {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// One of them is missing or unusable, or they do not belong together.
    pub fn read(&self) -> Result<Tls, ConfigError> {
        let unreadable = |error: std::io::Error| ConfigError::Unreadable {
            path: self.certificate.display().to_string(),
            detail: error.to_string(),
        };
        let certificate = std::fs::read(&self.certificate).map_err(unreadable)?;
        let key = self.key.read("tls.key")?;
        Tls::new(&certificate, key.as_bytes()).map_err(|error| ConfigError::Malformed(format!("tls: {error}")))
    }
}
