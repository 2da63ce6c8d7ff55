//! The section `[limits]`: what strangers may use of this process.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, within};

/// The limits of requests and connections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The requests of one caller in a second on average, 1 to 1,000,000. Default: 100.
    pub caller_requests_per_second: u32,
    /// The requests of one caller at once, 1 to 1,000,000. Default: 200.
    pub caller_burst: u32,
    /// The requests of one address in a second on average, 1 to 1,000,000. Default: 200. An IPv6 network of 64 bits counts
    /// as one address.
    pub address_requests_per_second: u32,
    /// The requests of one address at once, 1 to 1,000,000. Default: 400.
    pub address_burst: u32,
    /// The most connections, 1 to 100,000. Default: 4,096.
    pub connections: usize,
    /// The most connections of one address, 1 to 100,000. Default: 1,024.
    pub address_connections: usize,
    /// The time for the head of a request, and for which a connection may be idle, 1 to 300 s. Default: 30.
    pub head_seconds: u64,
    /// The time for the body of a request, 1 to 300 s. Default: 10.
    pub body_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            caller_requests_per_second: 100,
            caller_burst: 200,
            address_requests_per_second: 200,
            address_burst: 400,
            connections: 4_096,
            address_connections: 1_024,
            head_seconds: 30,
            body_seconds: 10,
        }
    }
}

const MILLION: &str = "1 to 1000000";

impl LimitsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let rates = [
            ("limits.caller_requests_per_second", self.caller_requests_per_second),
            ("limits.caller_burst", self.caller_burst),
            ("limits.address_requests_per_second", self.address_requests_per_second),
            ("limits.address_burst", self.address_burst),
        ];
        for (field, value) in rates {
            within(field, u64::from(value), 1, 1_000_000, MILLION)?;
        }
        for (field, value) in
            [("limits.connections", self.connections), ("limits.address_connections", self.address_connections)]
        {
            if !(1..=100_000).contains(&value) {
                return Err(ConfigError::Range { field, expected: "1 to 100000" });
            }
        }
        within("limits.head_seconds", self.head_seconds, 1, 300, "1 to 300")?;
        within("limits.body_seconds", self.body_seconds, 1, 300, "1 to 300")
    }

    /// Returns the rate of one caller: the average in a second, and the burst.
    pub(crate) fn caller_rate(&self) -> (NonZeroU32, NonZeroU32) {
        (least_one(self.caller_requests_per_second), least_one(self.caller_burst))
    }

    /// Returns the rate of one address.
    pub(crate) fn address_rate(&self) -> (NonZeroU32, NonZeroU32) {
        (least_one(self.address_requests_per_second), least_one(self.address_burst))
    }

    pub(crate) const fn head_time(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub(crate) const fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
}

fn least_one(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}
