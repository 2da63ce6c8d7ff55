//! The owner's file: the limits of an agent.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use x402_types::Dollars;

/// The limits of payments, in US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policy {
    /// The most that one payment may cost.
    #[serde(deserialize_with = "dollars")]
    per_payment: Dollars,
    /// The most that all hosts together may be paid in a UTC day.
    #[serde(deserialize_with = "dollars")]
    per_day: Dollars,
    /// The most that one host may be paid in a UTC day.
    #[serde(deserialize_with = "dollars")]
    per_host_day: Dollars,
    /// The amount above which a payment needs a person's consent.
    #[serde(deserialize_with = "dollars")]
    confirm_above: Dollars,
    /// Other limits for single hosts, with the port if it is not the default one.
    host: BTreeMap<String, HostPolicy>,
}

/// The limits of one host, where they differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostPolicy {
    #[serde(deserialize_with = "some_dollars")]
    per_payment: Option<Dollars>,
    #[serde(deserialize_with = "some_dollars")]
    per_day: Option<Dollars>,
    #[serde(deserialize_with = "some_dollars")]
    confirm_above: Option<Dollars>,
}

impl Default for Policy {
    /// Creates the limits of an owner without a file: a dollar a payment, above ten cents with consent; five dollars a day,
    /// two of them for one host.
    fn default() -> Self {
        let of = |digits: &str| digits.parse().unwrap_or(Dollars::ONE);
        Self {
            per_payment: Dollars::ONE,
            per_day: of("5"),
            per_host_day: of("2"),
            confirm_above: of("0.10"),
            host: BTreeMap::new(),
        }
    }
}

fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dollars, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn some_dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Dollars>, D::Error> {
    dollars(deserializer).map(Some)
}

impl Policy {
    /// Reads the owner's file. A host is written in lower case, with the port if it is not the default one.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let ill = |host: &&String| {
            let url = url::Url::parse(&format!("https://{host}/")).ok();
            url.as_ref().and_then(|url| url.host_str().map(|name| authority(name, url.port()))).as_ref() != Some(*host)
        };
        match policy.host.keys().find(ill) {
            Some(host) => {
                Err(format!("host.{host:?}: expected a host in lower case, with its port if it is not the default"))
            }
            None => Ok(policy),
        }
    }

    /// Returns the most that one payment to this host may cost.
    pub(super) fn per_payment(&self, host: &str) -> Dollars {
        self.host.get(host).and_then(|host| host.per_payment).unwrap_or(self.per_payment)
    }

    /// Returns the most that all hosts together may be paid in a day.
    pub(super) const fn per_day(&self) -> Dollars {
        self.per_day
    }

    /// Returns the most that this host may be paid in a day.
    pub(super) fn per_host_day(&self, host: &str) -> Dollars {
        self.host.get(host).and_then(|host| host.per_day).unwrap_or(self.per_host_day)
    }

    /// Returns the amount above which a payment to this host needs a person's consent.
    pub(super) fn confirm_above(&self, host: &str) -> Dollars {
        self.host.get(host).and_then(|host| host.confirm_above).unwrap_or(self.confirm_above)
    }

    /// Iterates over the hosts that have limits of their own.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.host.keys().map(String::as_str)
    }
}

/// Returns the name under which a host is counted.
pub(super) fn authority(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_own_limits_and_the_others_by_default() {
        let text = "per_payment = \"0.10\"\nper_day = \"3\"\n[host.\"api.example.com\"]\nper_payment = \"$0.50\"\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.per_payment("api.example.com").to_string(), "$0.50");
        assert_eq!(policy.per_payment("other.example"), "0.10".parse().unwrap());
        assert_eq!(policy.per_host_day("api.example.com"), "2".parse().unwrap());
        assert_eq!(policy.per_day(), "3".parse().unwrap());
        assert_eq!(policy.confirm_above("api.example.com"), "0.10".parse().unwrap());
    }

    #[test]
    fn what_is_misspelled_is_refused_by_name() {
        for (text, named) in [
            ("per_dya = \"1\"", "per_dya"),
            ("per_day = 1", "per_day"),
            ("per_day = \"1.\"", "a sum in dollars"),
            ("[host.\"API.example.com\"]\nper_day = \"1\"", "API.example.com"),
            ("[host.\"https://a.example\"]\nper_day = \"1\"", "https://a.example"),
            ("[host.\"a.example\"]\nper_host_day = \"1\"", "per_host_day"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
