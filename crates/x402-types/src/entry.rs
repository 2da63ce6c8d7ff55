//! Entries of a list that may hold kinds unknown here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RawJson;

/// An entry of `accepts` or `kinds`.
///
/// One that cannot be read (another scheme's fields, a network name that is not CAIP-2) stays as it came,
/// survives forwarding and is never chosen; it does not sink the document.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<T> {
    /// Read.
    Known(T),
    /// Not read.
    Opaque(RawJson),
}

impl<T> Entry<T> {
    /// The entry, if it could be read.
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
