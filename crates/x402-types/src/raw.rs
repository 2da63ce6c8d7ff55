//! JSON that this crate does not interpret, kept as the text in which it was received.

use core::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, Error, MapAccess, Unexpected, Visitor};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use smol_str::SmolStr;

/// The name by which `serde_json::value::RawValue` requests the text of a value from a deserializer, and passes it to a
/// serializer.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// One JSON value as its own text: scheme payloads, extensions, entries of unknown schemes.
///
/// To serde it behaves like [`RawValue`]. Text of up to 23 bytes, which most values of `extra` are, is stored inline; a
/// clone of longer text shares it instead of copying it.
#[derive(Clone)]
pub struct RawJson(SmolStr);

impl RawJson {
    /// Returns the text of the value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Serializes a value.
    ///
    /// # Errors
    /// The error of the value's `Serialize`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// Deserializes the value as a type.
    ///
    /// # Errors
    /// The error of `serde_json` for a value that does not fit, with line and column within this value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Accepts text that is one JSON value.
    ///
    /// # Errors
    /// The text is not exactly one JSON value.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(raw.get().into()))
    }

    /// Creates JSON `null`.
    #[must_use]
    pub const fn null() -> Self {
        Self(SmolStr::new_static("null"))
    }

    /// Returns whether both are the same JSON value: the order of members and white space do not count.
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
        serialize_raw(self.as_str(), serializer)
    }
}

fn serialize_raw<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut raw = serializer.serialize_struct(RAW_VALUE, 1)?;
    raw.serialize_field(RAW_VALUE, text)?;
    raw.end()
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = RawJson;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any valid JSON value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawJson, A::Error> {
                match map.next_key::<Asked>()? {
                    Some(Asked) => map.next_value().map(RawJson),
                    None => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_newtype_struct(RAW_VALUE, Text)
    }
}

/// A deserializer that has understood [`RAW_VALUE`]. One that has not would pass any map.
struct Asked;

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Asked;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("raw value")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Asked, E> {
                if name == RAW_VALUE { Ok(Asked) } else { Err(E::custom("unexpected raw value")) }
            }
        }
        deserializer.deserialize_identifier(Name)
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
///
/// A parsed object is kept as its text until a member is read, and an object built here is serialized when its text is
/// needed: most objects are only compared or forwarded. A clone copies neither.
#[derive(Clone, Default)]
pub struct Members(Option<Arc<Object>>);

/// An object that has members. The other form is computed on demand.
#[derive(Clone)]
enum Object {
    Read { text: SmolStr, list: OnceLock<List> },
    Made { list: List, text: OnceLock<SmolStr> },
}

#[derive(Clone, Default)]
struct List(Vec<(SmolStr, RawJson)>);

impl Members {
    /// Creates an object without members.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Returns the value of a member.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&RawJson> {
        self.list().iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Returns the value of a member, if it is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.read().ok()
    }

    /// Adds a member at the end, or replaces the one with the same name.
    pub fn insert(&mut self, key: &str, value: RawJson) {
        self.change(|list| match list.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => list.push((key.into(), value)),
        });
    }

    /// Adds a string member, or replaces the one with the same name.
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

    /// Removes a member.
    pub(crate) fn remove(&mut self, key: &str) {
        if self.get(key).is_some() {
            self.change(|list| list.retain(|(name, _)| name != key));
        }
    }

    pub(crate) fn push(&mut self, key: SmolStr, value: RawJson) {
        self.change(|list| list.push((key, value)));
    }

    /// Iterates over the members in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.list().iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Returns whether there are no members.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Returns whether every member of `other` is present with the same value.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (_, None) => true,
            // This is the usual case: the payer echoes what it received.
            (Some(mine), Some(other)) if mine.text() == other.text() => true,
            _ => other.iter().all(|(k, v)| self.get(k).is_some_and(|mine| mine.same(v))),
        }
    }

    fn list(&self) -> &[(SmolStr, RawJson)] {
        self.0.as_ref().map_or(&[], |object| object.list())
    }

    /// Modifies the list, and discards the text, which no longer matches.
    fn change(&mut self, change: impl FnOnce(&mut Vec<(SmolStr, RawJson)>)) {
        let made = Object::Made { list: List::default(), text: OnceLock::new() };
        let object = Arc::make_mut(self.0.get_or_insert_with(|| made.clone().into()));
        object.list();
        let List(mut list) = match core::mem::replace(object, made) {
            Object::Made { list, .. } => list,
            Object::Read { list, .. } => list.into_inner().unwrap_or_default(),
        };
        change(&mut list);
        *object = Object::Made { list: List(list), text: OnceLock::new() };
    }
}

impl Object {
    fn list(&self) -> &[(SmolStr, RawJson)] {
        match self {
            Self::Made { list, .. } => &list.0,
            // Parsing cannot fail: see `Members::deserialize`.
            Self::Read { text, list } => &list.get_or_init(|| serde_json::from_str(text).unwrap_or_default()).0,
        }
    }

    fn text(&self) -> &SmolStr {
        match self {
            Self::Read { text, .. } => text,
            Self::Made { list, text } => text.get_or_init(|| serde_json::to_string(list).unwrap_or_default().into()),
        }
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
        serialize_raw(self.0.as_ref().map_or("{}", |object| object.text()), serializer)
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawJson(text) = RawJson::deserialize(deserializer)?;
        let found = match text.as_bytes() {
            [b'{', inside @ ..] => {
                if inside.trim_ascii_start() == b"}" {
                    return Ok(Self::new());
                }
                // Only an escape can be wrong inside a JSON value: half a surrogate pair in a key.
                let list = if inside.contains(&b'\\') {
                    serde_json::from_str::<List>(&text).map_err(D::Error::custom)?.into()
                } else {
                    OnceLock::new()
                };
                return Ok(Self(Some(Object::Read { text, list }.into())));
            }
            [b'"', ..] => Unexpected::Str(""),
            [b'[', ..] => Unexpected::Seq,
            [b't' | b'f', ..] => Unexpected::Bool(false),
            [b'n', ..] => Unexpected::Unit,
            number if number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => Unexpected::Float(0.0),
            _ => Unexpected::Signed(0),
        };
        Err(D::Error::invalid_type(found, &"a JSON object"))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = List;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_map(Entries)
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
    fn an_object_is_forwarded_as_it_came_until_it_is_changed() {
        let text = r#"{ "b" : 1.50, "\u0061":{"x":[1,2]} }"#;
        let mut members: Members = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&members).unwrap(), text);
        assert_eq!(members.get("a").unwrap().as_str(), r#"{"x":[1,2]}"#);
        let before = members.clone();
        members.insert_text("b", "x");
        assert_eq!(serde_json::to_string(&members).unwrap(), r#"{"b":"x","a":{"x":[1,2]}}"#);
        assert_eq!(serde_json::to_string(&before).unwrap(), text);
        // This goes through a tree, which knows no text.
        let tree = serde_json::to_value(&members).unwrap();
        assert_eq!(serde_json::from_value::<Members>(tree).unwrap(), members);
        assert!(serde_json::from_str::<Members>(" { } ").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_is_refused_when_it_is_read() {
        for text in ["[]", "\"{}\"", "null", "true", "1", "-1.5", r#"{"\ud800":1}"#] {
            assert!(serde_json::from_str::<Members>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn superset_compares_values_not_text() {
        let have: Members = serde_json::from_str(r#"{"a":{"x":1,"y":2},"b":"q"}"#).unwrap();
        let want: Members = serde_json::from_str(r#"{"a":{"y":2, "x":1}}"#).unwrap();
        assert!(have.contains(&want));
        assert!(!want.contains(&have));
    }
}
