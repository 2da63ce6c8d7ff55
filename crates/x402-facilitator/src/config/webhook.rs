//! The targets that are notified of payments' ends: `[[webhook]]`.

use std::collections::BTreeSet;

use reqwest::Url;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ConfigError, Misplaced, SecretSource, within};

/// A target that is notified when a payment has its end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The caller of whose payments it is notified. Default: every caller that has no target of its own.
    #[serde(default)]
    pub caller: Option<String>,
    /// The `http` or `https` URL that is posted to.
    pub url: String,
    /// The key of the signatures: `whsec_` and 24 to 64 bytes in base64.
    pub secret: SecretSource,
    /// The number of tries before an end is given up, 1 to 100. Default: 15, about half a day.
    #[serde(default = "default_tries")]
    pub tries: u64,
    /// The pause after the first failure, 1 to 3,600 s; it doubles with each further one, up to an hour. Default: 5.
    #[serde(default = "default_pause")]
    pub pause_seconds: u64,
}

const fn default_tries() -> u64 {
    15
}
const fn default_pause() -> u64 {
    5
}

impl WebhookConfig {
    /// Returns the URL.
    pub(crate) fn target(&self) -> Result<Url, ConfigError> {
        let range = ConfigError::Range { field: "webhook.url", expected: "an http or https URL without user" };
        let url = Url::parse(&self.url).map_err(|_| range.clone())?;
        let fits = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        if fits { Ok(url) } else { Err(range) }
    }

    /// Reads the key of the signatures.
    pub(crate) fn key(&self) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        let range = ConfigError::Range { field: "webhook.secret", expected: "whsec_ and 24 to 64 bytes in base64" };
        let text = self.secret.read("webhook.secret")?;
        let key = text.strip_prefix("whsec_").and_then(|text| x402_codec::base64::decode(text.as_bytes(), 64).ok());
        key.filter(|key| key.len() >= 24).map(Zeroizing::new).ok_or(range)
    }
}

pub(super) fn check(webhooks: &[WebhookConfig], callers: &BTreeSet<&str>) -> Result<(), Misplaced> {
    let mut known = BTreeSet::new();
    for (entry, webhook) in webhooks.iter().enumerate() {
        let misplaced = |error| Misplaced { entry, error };
        webhook.target().map_err(misplaced)?;
        within("webhook.tries", webhook.tries, 1, 100, "1 to 100").map_err(misplaced)?;
        within("webhook.pause_seconds", webhook.pause_seconds, 1, 3_600, "1 to 3600").map_err(misplaced)?;
        if webhook.caller.as_deref().is_some_and(|name| !callers.contains(name)) {
            let expected = "the name of a [[caller]]";
            return Err(misplaced(ConfigError::Range { field: "webhook.caller", expected }));
        }
        if !known.insert(&webhook.caller) {
            let expected = "one target for each caller, and one for all others";
            return Err(misplaced(ConfigError::Range { field: "webhook.caller", expected }));
        }
    }
    Ok(())
}
