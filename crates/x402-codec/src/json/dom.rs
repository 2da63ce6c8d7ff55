//! A document as a tree whose nodes know their positions in the text.

use std::borrow::Cow;
use std::ops::Range;

use super::lexer::Lexer;
use super::reader::{Reader, within};
use crate::error::Segment;
use crate::{DecodeError, Limits};

/// A value and its position in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// The value of the node.
    pub value: Value<'a>,
    /// The bytes of the value, without white space around it; for a string, with its quotes.
    pub span: Range<usize>,
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The value `null`.
    Null,
    /// The value `true` or `false`.
    Bool(bool),
    /// A number as it is spelled: `1e3` and `1000` are two texts.
    Number(&'a str),
    /// A string without its escapes; borrowed if there are none.
    String(Cow<'a, str>),
    /// An array of values.
    Array(Vec<Node<'a>>),
    /// An object, in the order of the text, without duplicate keys.
    Object(Vec<Member<'a>>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'a> {
    /// The key without its escapes.
    pub key: Cow<'a, str>,
    /// The bytes of the key, with its quotes.
    pub key_span: Range<usize>,
    /// The value of the member.
    pub value: Node<'a>,
}

impl<'a> Node<'a> {
    /// Returns the value of this key, if the node is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.member(key).map(|m| &m.value)
    }

    /// Returns the member of this key with its position, if the node is an object that has it.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Member<'a>> {
        self.as_object()?.iter().find(|m| m.key == key)
    }

    /// Returns the members, if the node is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&[Member<'a>]> {
        match &self.value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Returns the elements, if the node is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the text, if the node is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the spelling, if the node is a number.
    #[must_use]
    pub fn as_number(&self) -> Option<&'a str> {
        match self.value {
            Value::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the number, if it is spelled as an integer and fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.parse().ok()
    }

    /// Returns the boolean, if the node is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// Returns whether the node is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Returns the type for messages: `an object`, `a string`, …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// Parses one document into a tree, at most `limits.body` bytes and `limits.depth` levels.
///
/// Time and memory are linear in the input. The other limits are not used.
/// # Errors
/// `too_large`, `invalid_utf8`, `invalid_json`, `duplicate_key`, `too_deep`, `trailing_data`.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Node<'a>, DecodeError> {
    within(bytes.len(), limits.body)?;
    let mut reader = Reader::new(Lexer::new(bytes)?, limits);
    let node = reader.node()?;
    reader.lex.end()?;
    Ok(node)
}

impl<'a> Reader<'a> {
    fn node(&mut self) -> Result<Node<'a>, DecodeError> {
        let token = self.lex.next_token();
        let start = self.lex.at;
        let value = match token {
            Some(b'"') => Value::String(self.lex.string()?),
            Some(b'{') => Value::Object(self.members()?),
            Some(b'[') => Value::Array(self.elements()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.lex.number()?.text),
            Some(b't') => self.lex.word("true").map(|()| Value::Bool(true))?,
            Some(b'f') => self.lex.word("false").map(|()| Value::Bool(false))?,
            Some(b'n') => self.lex.word("null").map(|()| Value::Null)?,
            _ => return Err(self.lex.syntax("expected a JSON value")),
        };
        Ok(Node { value, span: start..self.lex.at })
    }

    fn members(&mut self) -> Result<Vec<Member<'a>>, DecodeError> {
        let mut members = Vec::new();
        let mut open = self.open()?;
        while let Some(key) = self.key(&mut open)? {
            let key_span = key.at - 1..key.at + key.length + 1;
            let at = self.lex.at;
            let mut value = self.node();
            if let Err(error) = &mut value {
                self.in_member(error, key, at);
            }
            members.push(Member { key: self.text(key), key_span, value: value? });
        }
        self.close(&open);
        Ok(members)
    }

    fn elements(&mut self) -> Result<Vec<Node<'a>>, DecodeError> {
        let mut elements = Vec::new();
        self.enter()?;
        while self.element(elements.is_empty())? {
            let at = self.lex.at;
            let node = self.node().map_err(|e| e.inside(Segment::Index(elements.len()), at))?;
            elements.push(node);
        }
        self.leave();
        Ok(elements)
    }
}
