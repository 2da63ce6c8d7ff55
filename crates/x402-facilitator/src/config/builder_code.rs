//! The section `[builder_code]`: the codes at the end of the calls that settle payments.

use serde::Deserialize;
use x402_extensions::builder_code::BuilderCode;

use super::ConfigError;

/// The codes of this facilitator. The section without keys passes on the codes of sellers and payers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderCodeConfig {
    /// The code of the accounts that send transactions: 1 to 32 lower-case letters, digits and `_`. Default: none.
    #[serde(default)]
    pub wallet: Option<String>,
    /// The code of this facilitator among the services. Default: none.
    #[serde(default)]
    pub service: Option<String>,
}

impl BuilderCodeConfig {
    /// Returns the codes of the wallet and of the service.
    ///
    /// # Errors
    /// A code is malformed.
    pub fn codes(&self) -> Result<[Option<BuilderCode>; 2], ConfigError> {
        let wallet = code("builder_code.wallet", self.wallet.as_deref())?;
        Ok([wallet, code("builder_code.service", self.service.as_deref())?])
    }
}

fn code(field: &'static str, text: Option<&str>) -> Result<Option<BuilderCode>, ConfigError> {
    let expected = "1 to 32 lower-case letters, digits and underscores";
    text.map(|text| text.parse().map_err(|_| ConfigError::Range { field, expected })).transpose()
}
