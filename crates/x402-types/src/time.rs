//! Time as the protocol counts it: whole seconds since 1970. Nothing here reads a clock.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// Seconds since the Unix epoch.
///
/// On the wire it is a decimal string, as in authorizations, with one spelling: digits, no sign, no leading zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a decimal string of seconds, without sign or leading zero, at most 2^64-1";

    /// Adds seconds, saturating at the end of the range.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl FromStr for UnixSeconds {
    type Err = Malformed;

    #[inline]
    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(UnixSeconds::EXPECTED);
        let canonical = s.bytes().all(|b| b.is_ascii_digit()) && (s.len() == 1 || !s.starts_with('0'));
        match s.len() {
            1..=19 if canonical => {
                // The length was checked above, so the digits fit.
                let digit = |sum: u64, b: u8| sum.wrapping_mul(10).wrapping_add(u64::from(b & 15));
                Ok(Self(s.bytes().fold(0, digit)))
            }
            20 if canonical => s.parse().map(Self).map_err(|_| BAD),
            _ => Err(BAD),
        }
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for UnixSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}
