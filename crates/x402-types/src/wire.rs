//! The serialization of every message: lenient when reading, strict when writing.
//!
//! Absent and `null` are the same for optional members. Unknown members are kept in `rest`, in their order, and written
//! again after the known ones, so that a document survives being forwarded.

/// Declares a message: the struct, its strict `Serialize` and its lenient `Deserialize`.
///
/// Each field is followed by its wire name and the way it is read and written: `required` (must be present and not
/// `null`), `object` (the same for a [`crate::RawJson`] that must be an object), `version_1` and `version_2` (the same
/// for a [`crate::Version`] that must be this one), `optional` (an `Option`, written only if present), `or EXPR`
/// (absent or `null` reads as EXPR, always written), `unless_empty` (absent or `null` reads as the default, written
/// unless `is_empty`), `lenient` (the same, and a malformed value is kept in `rest`; for messages that are only read).
macro_rules! wire {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fmeta:meta])* $field:ident: $type:ty => $key:literal $kind:ident $($default:expr)?; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(unreachable_pub, reason = "some messages are read inside the crate only")]
        $vis struct $name {
            $( $(#[$fmeta])* pub $field: $type, )*
            /// Unknown members, as they were received.
            pub rest: $crate::Members,
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $( $crate::wire::wire!(@write map, self.$field, $key, $kind); )*
                for (key, value) in self.rest.iter() {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[allow(non_camel_case_types, reason = "variants are the field names")]
                enum Key { $($field,)* Unknown(smol_str::SmolStr) }
                impl<'de> serde::Deserialize<'de> for Key {
                    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                        struct Text;
                        impl serde::de::Visitor<'_> for Text {
                            type Value = Key;
                            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                                f.write_str("a member name")
                            }
                            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Key, E> {
                                Ok(match s { $($key => Key::$field,)* other => Key::Unknown(other.into()) })
                            }
                        }
                        deserializer.deserialize_identifier(Text)
                    }
                }
                struct Object;
                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $name;
                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str(concat!("a JSON object (", stringify!($name), ")"))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $( let mut $field = None; )*
                        let mut rest = $crate::Members::default();
                        while let Some(key) = map.next_key::<Key>()? {
                            match key {
                                $( Key::$field => {
                                    if $field.is_some() {
                                        return Err(<A::Error as serde::de::Error>::duplicate_field($key));
                                    }
                                    $field = Some($crate::wire::wire!(@read map, $type, $kind, rest, $key));
                                } )*
                                Key::Unknown(key) => rest.push(key, map.next_value()?),
                            }
                        }
                        Ok($name {
                            $( $field: $crate::wire::wire!(@take $field, $key, $kind $($default)?), )*
                            rest,
                        })
                    }
                }
                deserializer.deserialize_map(Object)
            }
        }
    };
    (@write $map:ident, $value:expr, $key:literal, required) => { $map.serialize_entry($key, &$value)?; };
    (@write $map:ident, $value:expr, $key:literal, object) => { $map.serialize_entry($key, &$value)?; };
    (@write $map:ident, $value:expr, $key:literal, version_1) => { $map.serialize_entry($key, &$value)?; };
    (@write $map:ident, $value:expr, $key:literal, version_2) => { $map.serialize_entry($key, &$value)?; };
    (@write $map:ident, $value:expr, $key:literal, or) => { $map.serialize_entry($key, &$value)?; };
    (@write $map:ident, $value:expr, $key:literal, optional) => {
        if let Some(value) = &$value { $map.serialize_entry($key, value)?; }
    };
    (@write $map:ident, $value:expr, $key:literal, unless_empty) => {
        if !$value.is_empty() { $map.serialize_entry($key, &$value)?; }
    };
    (@read $map:ident, $type:ty, required, $rest:ident, $key:literal) => { $map.next_value::<$type>()? };
    (@read $map:ident, $type:ty, object, $rest:ident, $key:literal) => { $map.next_value::<$crate::raw::ObjectJson>()?.into() };
    (@read $map:ident, $type:ty, version_1, $rest:ident, $key:literal) => { $map.next_value::<$crate::scalar::Only<1>>()?.into() };
    (@read $map:ident, $type:ty, version_2, $rest:ident, $key:literal) => { $map.next_value::<$crate::scalar::Only<2>>()?.into() };
    (@read $map:ident, $type:ty, optional, $rest:ident, $key:literal) => { $map.next_value::<$type>()? };
    (@read $map:ident, $type:ty, or, $rest:ident, $key:literal) => { $map.next_value::<Option<$type>>()? };
    (@read $map:ident, $type:ty, unless_empty, $rest:ident, $key:literal) => { $map.next_value::<Option<$type>>()? };
    (@read $map:ident, $type:ty, lenient, $rest:ident, $key:literal) => {
        $crate::wire::leniently(&mut $rest, $key, $map.next_value()?)
    };
    (@write $map:ident, $value:expr, $key:literal, lenient) => {
        $crate::wire::wire!(@write $map, $value, $key, required)
    };
    (@take $field:ident, $key:literal, lenient) => { $field.unwrap_or_default() };
    (@take $field:ident, $key:literal, required) => {
        $field.ok_or_else(|| <A::Error as serde::de::Error>::missing_field($key))?
    };
    (@take $field:ident, $key:literal, object) => { $crate::wire::wire!(@take $field, $key, required) };
    (@take $field:ident, $key:literal, version_1) => { $crate::wire::wire!(@take $field, $key, required) };
    (@take $field:ident, $key:literal, version_2) => { $crate::wire::wire!(@take $field, $key, required) };
    (@take $field:ident, $key:literal, optional) => { $field.unwrap_or_default() };
    (@take $field:ident, $key:literal, unless_empty) => { $field.flatten().unwrap_or_default() };
    (@take $field:ident, $key:literal, or $default:expr) => { $field.flatten().unwrap_or_else(|| $default) };
}
pub(crate) use wire;

/// Reads the value of a member that does not affect money: a malformed one goes to `rest`, and the rest of the document
/// stays usable.
pub(crate) fn leniently<T: serde::de::DeserializeOwned + Default>(
    rest: &mut crate::Members,
    key: &str,
    raw: crate::RawJson,
) -> T {
    if let Ok(value) = raw.read::<Option<T>>() {
        return value.unwrap_or_default();
    }
    rest.push(key.into(), raw);
    T::default()
}
