//! Members of a scheme's payload, read one by one so that an error names the member: `payload.authorization.value`.

use core::ops::RangeInclusive;
use core::str::FromStr;
use std::borrow::Cow;

use alloy_primitives::{Address, hex};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use x402_types::{EvmAddress, Malformed, Rejection};

/// The named members of one JSON object; others are ignored, a repeated one is refused.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: &'static str,
    found: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn read(text: &'a str, path: &'static str, names: &'static [&'static str]) -> Result<Self, Rejection> {
        let mut json = serde_json::Deserializer::from_str(text);
        let object = json.deserialize_map(Object { path, names });
        object.and_then(|fields| json.end().map(|()| fields)).map_err(|error| {
            let message = if error.is_data() && text.trim_start().starts_with('{') {
                format!("{path}: {error}")
            } else {
                format!("{path}: expected a JSON object")
            };
            Rejection::new(x402_types::ErrorReason::INVALID_PAYLOAD).because(message)
        })
    }

    pub(crate) fn object(
        &self,
        name: &'static str,
        path: &'static str,
        names: &'static [&'static str],
    ) -> Result<Self, Rejection> {
        Self::read(self.raw(name, "a JSON object")?.get(), path, names)
    }

    pub(crate) fn with<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, Rejection> {
        let raw = self.raw(name, "a JSON string")?.get();
        // The text is one JSON value, so between its quotes only escapes are left to read.
        let plain = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')).filter(|text| !text.contains('\\'));
        let text: Cow<'_, str> = match plain {
            Some(text) => Cow::Borrowed(text),
            None => serde_json::from_str::<Text<'_>>(raw)
                .map(|text| text.0)
                .map_err(|_| self.refuse(name, Malformed::new("a JSON string")))?,
        };
        read(&text).map_err(|why| self.refuse(name, why))
    }

    pub(crate) fn parsed<T: FromStr<Err = Malformed>>(&self, name: &'static str) -> Result<T, Rejection> {
        self.with(name, str::parse)
    }

    /// An address is used here, so its EIP-55 checksum counts.
    pub(crate) fn address(&self, name: &'static str) -> Result<Address, Rejection> {
        self.with(name, |text| text.parse::<EvmAddress>().and_then(Address::try_from))
    }

    /// The member, which may not be absent or `null`.
    fn raw(&self, name: &'static str, expected: &'static str) -> Result<&'a RawValue, Rejection> {
        let found = self.found.iter().find(|(key, value)| *key == name && value.get() != "null");
        found.map(|(_, value)| *value).ok_or_else(|| self.refuse(name, Malformed::new(expected)))
    }

    fn refuse(&self, name: &str, why: Malformed) -> Rejection {
        Rejection::field(&format!("{}.{name}", self.path), why)
    }
}

/// `0x` and hex digits of so many bytes.
pub(crate) fn hex_bytes(text: &str, lengths: RangeInclusive<usize>) -> Result<Vec<u8>, Malformed> {
    let bad = Malformed::new(if lengths.start() == lengths.end() {
        "`0x` and 64 hex digits"
    } else {
        "`0x` and hex digits, at most 8192"
    });
    let digits = text.strip_prefix("0x").ok_or(bad)?;
    // Stands before any allocation. A second prefix is caught here too: `x` is no hex digit, but hex::decode strips one.
    if digits.len() % 2 != 0 || !lengths.contains(&(digits.len() / 2)) || digits.starts_with("0x") {
        return Err(bad);
    }
    hex::decode(digits).map_err(|_| bad)
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl<'de> Visitor<'de> for Str {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a JSON string")
            }
            fn visit_borrowed_str<E: Error>(self, s: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(s)))
            }
            fn visit_str<E: Error>(self, s: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(s.to_owned())))
            }
        }
        deserializer.deserialize_str(Str)
    }
}

struct Object {
    path: &'static str,
    names: &'static [&'static str],
}

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut found: Vec<(&'static str, &'de RawValue)> = Vec::with_capacity(self.names.len());
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.names.iter().find(|name| **name == key.0) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(name) if found.iter().any(|(known, _)| known == name) => {
                    return Err(A::Error::duplicate_field(name));
                }
                Some(name) => found.push((name, map.next_value()?)),
            }
        }
        Ok(Fields { path: self.path, found })
    }
}
