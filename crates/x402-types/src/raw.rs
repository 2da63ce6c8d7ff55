//! JSON that this crate does not look into, kept as the text it came in.

use core::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as its own text: scheme payloads, extensions, entries of schemes unknown here.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The text of the value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Writes a value.
    ///
    /// # Errors
    /// Whatever the value's `Serialize` reports.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Reads the value as a type.
    ///
    /// # Errors
    /// What `serde_json` says of a value that does not fit, with line and column within this value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Takes text that is one JSON value.
    ///
    /// # Errors
    /// If the text is not exactly one JSON value.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// Whether both are the same JSON value: order of members and white space do not count.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        if self.as_str() == other.as_str() {
            return true;
        }
        match (self.read::<serde_json::Value>(), other.read::<serde_json::Value>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// JSON that must be an object: `payload`, x402 v2 §5.2.
pub(crate) struct ObjectJson(RawJson);

impl From<ObjectJson> for RawJson {
    fn from(object: ObjectJson) -> Self {
        object.0
    }
}

impl<'de> Deserialize<'de> for ObjectJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        if raw.as_str().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err(serde::de::Error::custom(crate::Malformed::new("a JSON object")))
        }
    }
}

/// The members of a JSON object in their order, each value as its own text.
#[derive(Clone, Default)]
pub struct Members(Vec<(Box<str>, RawJson)>);

impl Members {
    /// No members.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&RawJson> {
        self.0.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }

    /// The value of a member, if it is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.read().ok()
    }

    /// Adds a member at the end, or replaces the one of that name.
    pub fn insert(&mut self, key: &str, value: RawJson) {
        match self.0.iter_mut().find(|(k, _)| &**k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Adds a string member, or replaces the one of that name.
    pub fn insert_text(&mut self, key: &str, value: &str) {
        if let Ok(value) = RawJson::of(value) {
            self.insert(key, value);
        }
    }

    /// Adds a member that may be absent.
    pub(crate) fn keep<T: Serialize>(&mut self, key: &str, value: Option<T>) {
        if let Some(Ok(value)) = value.map(|value| RawJson::of(&value)) {
            self.insert(key, value);
        }
    }

    pub(crate) fn push(&mut self, key: Box<str>, value: RawJson) {
        self.0.push((key, value));
    }

    /// The members in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.0.iter().map(|(k, v)| (&**k, v))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every member of `other` is here with the same value.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(k, v)| self.get(k).is_some_and(|mine| mine.same(v)))
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.contains(other)
    }
}

impl Eq for Members {}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::new();
                while let Some((key, value)) = map.next_entry::<Box<str>, RawJson>()? {
                    members.push(key, value);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_and_text() {
        let text = r#"{"b":1.50,"a":{"x":[1,2]}}"#;
        let members: Members = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&members).unwrap(), text);
        assert_eq!(members.get("b").unwrap().as_str(), "1.50");
    }

    #[test]
    fn superset_compares_values_not_text() {
        let have: Members = serde_json::from_str(r#"{"a":{"x":1,"y":2},"b":"q"}"#).unwrap();
        let want: Members = serde_json::from_str(r#"{"a":{"y":2, "x":1}}"#).unwrap();
        assert!(have.contains(&want));
        assert!(!want.contains(&have));
    }
}
