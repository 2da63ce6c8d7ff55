//! The entry point for types: a serde deserializer over the text, in one pass.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, CowStrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::lexer::{Lexer, Number};
use super::reader::{Key, Open, Reader, within};
use crate::error::Segment;
use crate::{DecodeError, DecodeErrorKind, Limits};

/// The name by which `serde_json::value::RawValue` requests the text of a value from a deserializer.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Parses one document into a type, at most `limits.body` bytes.
///
/// Strings without escapes can be borrowed. A `serde_json::value::RawValue` gets the text unchanged, after all of it
/// was checked. An array named `accepts` of the outermost object has at most `limits.accepts` entries. Objects are not
/// parsed from arrays, nor integers from numbers with a fraction or an exponent.
/// # Errors
/// Every kind except those of base64 and headers; `at` is the byte of a syntax error, the path of any other.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8], limits: &Limits) -> Result<T, DecodeError> {
    within(bytes.len(), limits.body)?;
    read(bytes, limits)
}

/// Parses a document in text that was decoded before, of at most `limits.body` bytes or `limits.header` if that is more.
///
/// # Errors
/// Those of [`from_slice`].
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str, limits: &Limits) -> Result<T, DecodeError> {
    within(text.len(), limits.body.max(limits.header))?;
    read_str(text, limits)
}

/// Parses a document whose size was checked before.
pub(crate) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8], limits: &Limits) -> Result<T, DecodeError> {
    document(Reader::new(Lexer::new(bytes)?, limits))
}

/// Parses a document whose size and UTF-8 were checked before.
pub(crate) fn read_str<'de, T: Deserialize<'de>>(text: &'de str, limits: &Limits) -> Result<T, DecodeError> {
    document(Reader::new(Lexer::of(text)?, limits))
}

/// Parses one object of at most `limits.body` bytes, member by member.
pub(crate) fn read_object<'de, T>(
    bytes: &'de [u8],
    limits: &Limits,
    members: impl FnOnce(&mut Object<'_, 'de>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    within(bytes.len(), limits.body)?;
    let mut reader = Reader::new(Lexer::new(bytes)?, limits);
    if reader.lex.next_token() != Some(b'{') {
        return Err(reader.lex.syntax("expected a JSON object"));
    }
    ended(reader.object(members), &mut reader)
}

fn document<'de, T: Deserialize<'de>>(mut reader: Reader<'de>) -> Result<T, DecodeError> {
    ended(T::deserialize(&mut reader), &mut reader)
}

/// Completes a result in place: messages are large, so the result is never moved apart and rebuilt.
#[inline]
fn ended<T>(mut value: Result<T, DecodeError>, reader: &mut Reader<'_>) -> Result<T, DecodeError> {
    if value.is_ok()
        && let Err(error) = reader.lex.end()
    {
        value = Err(error);
    }
    value
}

impl<'de> Reader<'de> {
    fn visit_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let Number { text, integer } = self.lex.number()?;
        if integer {
            if let Ok(n) = text.parse::<u64>() {
                return visitor.visit_u64(n);
            }
            if let Ok(n) = text.parse::<i64>() {
                return visitor.visit_i64(n);
            }
        }
        match text.parse::<f64>() {
            Ok(n) => visitor.visit_f64(n),
            Err(_) => Err(self.lex.syntax("expected a number")),
        }
    }

    /// Visits an integer. A number that is not spelled as an integer is refused: `2.0` and `2e0` are not accepted for
    /// 2.
    #[inline]
    fn visit_integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let Some(b'-' | b'0'..=b'9') = self.lex.next_token() else { return self.deserialize_any(visitor) };
        if let Some(n) = self.lex.short_integer() {
            return visitor.visit_u64(n);
        }
        let Number { text, integer } = self.lex.number()?;
        if integer {
            if let Ok(n) = text.parse::<u64>() {
                return visitor.visit_u64(n);
            }
            if let Ok(n) = text.parse::<i64>() {
                return visitor.visit_i64(n);
            }
        }
        let message = if integer { "expected an integer of 64 bits" } else { "expected an integer" };
        Err(DecodeError::at_path(DecodeErrorKind::InvalidField, "", message))
    }

    #[inline]
    fn visit_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some(text) = self.lex.plain_string() {
            return visitor.visit_borrowed_str(text);
        }
        visitor.visit_string(self.lex.string()?.into_owned())
    }

    fn visit_object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        self.object(|object| visitor.visit_map(object))
    }

    /// Parses the object whose brace is at the cursor.
    #[inline]
    pub(crate) fn object<T>(
        &mut self,
        read: impl FnOnce(&mut Object<'_, 'de>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let open = self.open()?;
        let mut object = Object { reader: self, open, current: Key { at: 0, length: 0 }, ended: false };
        // The result is modified in place, as in `ended`.
        let mut value = read(&mut object);
        if value.is_ok()
            && let Err(error) = object.end()
        {
            value = Err(error);
        }
        value
    }

    fn visit_array<V: Visitor<'de>>(&mut self, visitor: V, most: usize) -> Result<V::Value, DecodeError> {
        self.enter()?;
        let mut array = Array { reader: self, next: 0, most, ended: false };
        let value = visitor.visit_seq(&mut array)?;
        array.end()?;
        Ok(value)
    }

    #[inline]
    fn visit_raw<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        self.lex.next_token();
        let start = self.lex.at;
        self.skip()?;
        visitor.visit_map(Raw(Some(self.lex.slice(start, self.lex.at))))
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.lex.next_token() {
            Some(b'"') => self.visit_string(visitor),
            Some(b'{') => self.visit_object(visitor),
            Some(b'[') => self.visit_array(visitor, usize::MAX),
            Some(b'-' | b'0'..=b'9') => self.visit_number(visitor),
            Some(b't') => {
                self.lex.word("true")?;
                visitor.visit_bool(true)
            }
            Some(b'f') => {
                self.lex.word("false")?;
                visitor.visit_bool(false)
            }
            Some(b'n') => {
                self.lex.word("null")?;
                visitor.visit_unit()
            }
            _ => Err(self.lex.syntax("expected a JSON value")),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.lex.next_token() {
            Some(b'"') => self.visit_string(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_integer(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.lex.next_token() {
            Some(b'n') => {
                self.lex.word("null")?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == RAW_VALUE { self.visit_raw(visitor) } else { visitor.visit_newtype_struct(self) }
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.lex.next_token() {
            Some(b'{') => self.visit_object(visitor),
            Some(b'[') => Err(Error::invalid_type(de::Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    /// Deserializes a variant without content from a string, one with content from an object of one member, as
    /// `serde_json` does.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.lex.next_token() {
            Some(b'"') => match self.lex.string()? {
                Cow::Borrowed(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
                Cow::Owned(text) => visitor.visit_enum(text.into_deserializer()),
            },
            Some(b'{') => self.object(|object| visitor.visit_enum(de::value::MapAccessDeserializer::new(object))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct
    }
}

/// The members of an object. An error inside a member gets the member's key on the way out.
pub(crate) struct Object<'r, 'de> {
    reader: &'r mut Reader<'de>,
    open: Open<'de>,
    /// The key whose value is next.
    current: Key,
    ended: bool,
}

impl<'de> Object<'_, 'de> {
    /// Reads the next key.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Option<Cow<'de, str>>, DecodeError> {
        let Some(key) = self.reader.key(&mut self.open)? else {
            self.ended = true;
            return Ok(None);
        };
        self.current = key;
        Ok(Some(self.reader.text(key)))
    }

    /// Reads the next value, which must be an object, one member after the other.
    #[inline]
    pub(crate) fn next_object<T>(
        &mut self,
        members: impl FnOnce(&mut Object<'_, 'de>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        match self.reader.lex.next_token() {
            Some(b'{') => self.reader.object(members),
            _ => Err(self.reader.lex.syntax("expected a JSON object")),
        }
    }

    /// Reads the next value and returns its text beside it.
    #[inline]
    pub(crate) fn next_value_and_text<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<(T::Value, &'de str), DecodeError> {
        let at = self.reader.lex.at;
        let value = MapAccess::next_value_seed(&mut &mut *self, seed)?;
        Ok((value, self.reader.lex.slice(at, self.reader.lex.at)))
    }

    /// Skips the next value, if its text equals that of an object parsed before.
    #[inline]
    pub(crate) fn skip_object(&mut self, text: &str) -> bool {
        let same = self.reader.lex.rest().starts_with(text.as_bytes());
        if same {
            self.reader.lex.at += text.len();
        }
        same
    }

    #[inline]
    fn end(mut self) -> Result<(), DecodeError> {
        if !self.ended && self.reader.key(&mut self.open)?.is_some() {
            return Err(DecodeError::at_path(DecodeErrorKind::InvalidField, "", "expected fewer members"));
        }
        self.reader.close(&self.open);
        Ok(())
    }
}

impl<'de> MapAccess<'de> for &mut Object<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let key = match self.key()? {
            None => return Ok(None),
            Some(Cow::Borrowed(text)) => seed.deserialize(BorrowedStrDeserializer::new(text)),
            Some(Cow::Owned(text)) => seed.deserialize(CowStrDeserializer::new(Cow::Owned(text))),
        };
        key.map(Some)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let at = self.reader.lex.at;
        let mut value = if self.reader.depth() == 1 && self.reader.text(self.current) == "accepts" {
            let most = self.reader.limits.accepts;
            seed.deserialize(Accepts { reader: self.reader, most })
        } else {
            seed.deserialize(&mut *self.reader)
        };
        if let Err(error) = &mut value {
            self.reader.in_member(error, self.current, at);
        }
        value
    }
}

/// The elements of an array. An error inside an element gets the element's index on the way out.
struct Array<'r, 'de> {
    reader: &'r mut Reader<'de>,
    next: usize,
    most: usize,
    ended: bool,
}

impl Array<'_, '_> {
    fn end(self) -> Result<(), DecodeError> {
        if !self.ended && self.reader.element(self.next == 0)? {
            let message = format!("expected an array of {} elements", self.next);
            return Err(DecodeError::at_path(DecodeErrorKind::InvalidField, "", message));
        }
        self.reader.leave();
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for &mut Array<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        if !self.reader.element(self.next == 0)? {
            self.ended = true;
            return Ok(None);
        }
        let at = self.reader.lex.at;
        let index = self.next;
        if index >= self.most {
            let message = format!("expected at most {} entries", self.most);
            let error = DecodeError::at_path(DecodeErrorKind::TooManyAccepts, "", message);
            return Err(error.inside(Segment::Index(index), at));
        }
        self.next += 1;
        seed.deserialize(&mut *self.reader).map(Some).map_err(|e| e.inside(Segment::Index(index), at))
    }
}

/// The value of `accepts`: an array with a limit of its own.
struct Accepts<'r, 'de> {
    reader: &'r mut Reader<'de>,
    most: usize,
}

impl<'de> Deserializer<'de> for Accepts<'_, 'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.lex.next_token() {
            Some(b'[') => self.reader.visit_array(visitor, self.most),
            _ => self.reader.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.lex.next_token() {
            Some(b'n') => self.reader.deserialize_option(visitor),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == RAW_VALUE { self.reader.visit_raw(visitor) } else { visitor.visit_newtype_struct(self) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The form in which `RawValue` receives its text: a map of one member.
struct Raw<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for Raw<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW_VALUE)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().unwrap_or_default()))
    }
}
