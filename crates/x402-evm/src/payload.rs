//! Members of a scheme's payload, read in one pass so that an error names the member: `payload.authorization.value`.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::borrow::Cow;

use alloy_primitives::{B256, hex};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use x402_types::{ErrorReason, Malformed, Rejection};

/// The members of an object that are looked at; others are ignored.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Where the object stands: `payload.authorization`.
    pub(crate) path: &'static str,
    /// Members that are strings.
    pub(crate) texts: &'static [&'static str],
    /// Members that are objects.
    pub(crate) objects: &'static [(&'static str, Self)],
}

/// The members of one JSON object that its shape names. A repeated one is refused.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: &'static str,
    texts: Vec<(&'static str, Cow<'a, str>)>,
    objects: Vec<(&'static str, Self)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn read(text: &'a str, shape: &'static Shape) -> Result<Self, Rejection> {
        let mut json = serde_json::Deserializer::from_str(text);
        let object = json.deserialize_map(Object(shape));
        object.and_then(|fields| json.end().map(|()| fields)).map_err(|error| {
            // A member twice has said where. There is no other fault inside of an object: a payload is one JSON value.
            let message = if error.is_data() && text.trim_start().starts_with('{') {
                error.to_string()
            } else {
                format!("{}: expected a JSON object", shape.path)
            };
            Rejection::new(ErrorReason::INVALID_PAYLOAD).because(message)
        })
    }

    pub(crate) fn object(&self, name: &'static str) -> Result<&Self, Rejection> {
        let found = self.objects.iter().find(|(key, _)| *key == name);
        found.map(|(_, fields)| fields).ok_or_else(|| self.refuse(name, Malformed::new("a JSON object")))
    }

    pub(crate) fn with<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, Rejection> {
        let found = self.texts.iter().find(|(key, _)| *key == name);
        let text = found.ok_or_else(|| self.refuse(name, Malformed::new("a JSON string")));
        read(&text?.1).map_err(|why| self.refuse(name, why))
    }

    pub(crate) fn parsed<T: FromStr<Err = Malformed>>(&self, name: &'static str) -> Result<T, Rejection> {
        self.with(name, str::parse)
    }

    fn refuse(&self, name: &str, why: Malformed) -> Rejection {
        Rejection::field(&format!("{}.{name}", self.path), why)
    }
}

/// `0x` and hex digits of so many bytes.
pub(crate) fn hex_bytes(text: &str, lengths: RangeInclusive<usize>) -> Result<Vec<u8>, Malformed> {
    const BAD: Malformed = Malformed::new("`0x` and hex digits, at most 8192");
    let digits = hex_digits(text).ok_or(BAD)?;
    // Stands before any allocation.
    if digits.len() % 2 != 0 || !lengths.contains(&(digits.len() / 2)) {
        return Err(BAD);
    }
    hex::decode(digits).map_err(|_| BAD)
}

/// `0x` and 64 hex digits.
pub(crate) fn hex_word(text: &str) -> Result<B256, Malformed> {
    const BAD: Malformed = Malformed::new("`0x` and 64 hex digits");
    let digits = hex_digits(text).filter(|digits| digits.len() == 64).ok_or(BAD)?;
    let mut word = B256::ZERO;
    hex::decode_to_slice(digits, word.as_mut_slice()).map_err(|_| BAD)?;
    Ok(word)
}

/// What stands behind `0x`. A second prefix is refused here: `x` is no hex digit, but `hex` strips one.
fn hex_digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").filter(|digits| !digits.starts_with("0x"))
}

struct Object(&'static Shape);

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let Self(shape) = self;
        let mut fields = Fields {
            path: shape.path,
            texts: Vec::with_capacity(shape.texts.len()),
            objects: Vec::with_capacity(shape.objects.len()),
        };
        // What was seen and has another type than it must have: there once, it may not come again.
        let mut unfit = Vec::new();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let text = shape.texts.iter().find(|name| **name == key.0);
            let object = shape.objects.iter().find(|(name, _)| *name == key.0);
            let (name, inner) = match (text, object) {
                (Some(name), _) => (*name, None),
                (None, Some((name, inner))) => (*name, Some(inner)),
                (None, None) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let again = fields.texts.iter().any(|(known, _)| *known == name)
                || fields.objects.iter().any(|(known, _)| *known == name)
                || unfit.contains(&name);
            if again {
                return Err(A::Error::custom(format_args!("{}: duplicate field `{name}`", shape.path)));
            }
            match map.next_value_seed(Value(inner))? {
                Member::Text(text) if inner.is_none() => fields.texts.push((name, text)),
                Member::Object(inner) => fields.objects.push((name, inner)),
                _ => unfit.push(name),
            }
        }
        Ok(fields)
    }
}

enum Member<'a> {
    Text(Cow<'a, str>),
    Object(Fields<'a>),
    Other,
}

/// A value that may be of the wrong type; the shape is that of an object which may stand here.
struct Value(Option<&'static Shape>);

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Member<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Member<'de>, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member<'de>, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member<'de>, A::Error> {
        match self.0 {
            Some(shape) => Object(shape).visit_map(map).map(Member::Object),
            None => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'de>, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Member<'de>, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Member<'de>, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Member<'de>, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
        Ok(Member::Other)
    }
}

/// A member's name.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl<'de> Visitor<'de> for Str {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
