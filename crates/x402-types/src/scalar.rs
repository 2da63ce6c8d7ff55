//! Small wire scalars: the protocol version, timeouts, and values that may be blank.

use core::fmt;

use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// `x402Version`: the JSON integer 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Version 1: terms are in the 402 body, the payment in `X-PAYMENT`.
    V1,
    /// Version 2: terms are in `PAYMENT-REQUIRED`, the payment in `PAYMENT-SIGNATURE`.
    V2,
}

impl Version {
    /// Returns the integer on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Returns whether a payment of the version echoes the terms that it accepts.
    #[must_use]
    pub const fn echoes_terms(self) -> bool {
        matches!(self, Self::V2)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Version;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the integer 1 or 2")
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<Version, E> {
                match n {
                    1 => Ok(Version::V1),
                    2 => Ok(Version::V2),
                    _ => Err(E::custom(Malformed::new("the integer 1 or 2"))),
                }
            }
        }
        deserializer.deserialize_u64(Number)
    }
}

/// The version that a message of one version must name.
pub(crate) struct Only<const N: u8>(Version);

impl<const N: u8> From<Only<N>> for Version {
    fn from(version: Only<N>) -> Self {
        version.0
    }
}

impl<'de, const N: u8> Deserialize<'de> for Only<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = Version::deserialize(deserializer)?;
        if version.number() == N {
            Ok(Self(version))
        } else {
            Err(D::Error::custom(Malformed::new(if N == 1 { "the integer 1" } else { "the integer 2" })))
        }
    }
}

/// `maxTimeoutSeconds`: a JSON integer, 1 to 2^53-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeoutSeconds(u64);

impl TimeoutSeconds {
    /// The default that servers write: 300 s.
    pub const DEFAULT: Self = Self(300);
    /// The meaning of an absent member: 60 s.
    pub const ABSENT: Self = Self(60);
    /// The largest integer that every JSON parser represents exactly: 2^53-1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Returns the number of seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Converts a JSON number that is whole, however it is spelled.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "in range")]
    pub fn whole(number: f64) -> Option<Self> {
        let fits = number.fract() == 0.0 && number >= 1.0 && number <= Self::MAX.0 as f64;
        fits.then_some(Self(number as u64))
    }
}

impl TryFrom<u64> for TimeoutSeconds {
    type Error = Malformed;

    fn try_from(seconds: u64) -> Result<Self, Malformed> {
        if (1..=Self::MAX.0).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(Malformed::new("an integer of seconds, 1 to 2^53-1"))
        }
    }
}

impl Serialize for TimeoutSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for TimeoutSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = TimeoutSeconds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of seconds, 1 to 2^53-1")
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<TimeoutSeconds, E> {
                TimeoutSeconds::try_from(n).map_err(E::custom)
            }
            // `60.0` and `6e1` are the same number as `60` to JSON, and to every SDK that parses it as a double.
            fn visit_f64<E: Error>(self, n: f64) -> Result<TimeoutSeconds, E> {
                let whole = TimeoutSeconds::whole(n).ok_or(Malformed::new("an integer of seconds, 1 to 2^53-1"));
                whole.map_err(E::custom)
            }
        }
        deserializer.deserialize_u64(Number)
    }
}

/// A value that peers write as `""` if it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blank<T> {
    /// The empty string `""`.
    Blank,
    /// A value that is present.
    Value(T),
}

impl<T> Blank<T> {
    /// Returns the value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Blank => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Blank<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Blank => serializer.serialize_str(""),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: core::str::FromStr<Err = Malformed> + DeserializeOwned> Deserialize<'de> for Blank<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() { Ok(Self::Blank) } else { text.parse().map(Self::Value).map_err(D::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_has_many_spellings() {
        let read = |text: &str| serde_json::from_str::<TimeoutSeconds>(text).ok().map(TimeoutSeconds::get);
        for text in ["60", "60.0", "6e1", "0.6E2", "600e-1"] {
            assert_eq!(read(text), Some(60), "{text}");
        }
        assert_eq!(read("9007199254740991"), Some((1 << 53) - 1));
        for text in
            ["0", "0.0", "-60", "-60.0", "59.5", "9007199254740992", "9007199254740993", "1e18", "\"60\"", "true"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
