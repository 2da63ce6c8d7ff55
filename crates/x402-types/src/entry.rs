//! Entries of a list that may hold kinds unknown to this crate, and documents in a form that it does not type.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RawJson;

/// An entry of `accepts` or `kinds`.
///
/// An entry that cannot be parsed (fields of another scheme, a network name that is not CAIP-2) is kept as it was
/// received: it survives forwarding and is never chosen, and the rest of the document stays usable. An entry in
/// [the form of its scheme](crate::form::SchemeForm) is kept in the same way.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<T> {
    /// An entry that was parsed.
    Known(T),
    /// An entry that could not be parsed, or that has a form of its scheme's own.
    Opaque(RawJson),
}

impl<T> Entry<T> {
    /// Returns the entry, if it could be parsed.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(entry) => Some(entry),
            Self::Opaque(_) => None,
        }
    }
}

impl<T> From<T> for Entry<T> {
    fn from(entry: T) -> Self {
        Self::Known(entry)
    }
}

impl<T: Serialize> Serialize for Entry<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(entry) => entry.serialize(serializer),
            Self::Opaque(raw) => raw.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        Ok(raw.read().map_or_else(|_| Self::Opaque(raw), Self::Known))
    }
}
