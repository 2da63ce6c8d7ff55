//! The part that both entry points share: nesting, and unique keys.
//!
//! RFC 8259 §4: "The names within an object SHOULD be unique ... When the names within an object are not unique, the
//! behavior of software that receives such an object is unpredictable." Two parsers of one payment must not see two
//! payments, so a duplicate key is refused at every depth, even in values that are skipped.

use std::borrow::Cow;
use std::collections::HashSet;

use super::lexer::{Lexer, plain_length};
use crate::error::Segment;
use crate::{DecodeError, DecodeErrorKind, Limits};

/// The number of keys from which an object's keys are looked up by hash: 64 KiB can contain 10,000 of them.
const LINEAR: usize = 16;

pub(crate) struct Reader<'a> {
    pub(crate) lex: Lexer<'a>,
    /// The keys of every open object, innermost last.
    keys: Keys,
    /// Whether any key has an escape, so that equal keys may be spelled differently.
    escapes: bool,
    depth: u8,
    pub(crate) limits: Limits,
}

/// The position of a key's spelling, without its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) at: usize,
    pub(crate) length: usize,
}

/// A stack of keys. The first ones, which suffice for nearly every document, need no allocation.
struct Keys {
    near: [Key; NEAR],
    far: Vec<Key>,
    length: usize,
}

const NEAR: usize = 32;

impl Keys {
    #[inline]
    fn push(&mut self, key: Key) {
        match self.near.get_mut(self.length) {
            Some(place) => *place = key,
            None => self.far.push(key),
        }
        self.length += 1;
    }

    fn truncate(&mut self, length: usize) {
        self.length = length;
        self.far.truncate(length.saturating_sub(NEAR));
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Key> {
        self.near.get(index).or_else(|| self.far.get(index.checked_sub(NEAR)?)).copied()
    }

    /// Iterates over the keys from this index on.
    fn since(&self, start: usize) -> impl Iterator<Item = Key> {
        (start..self.length).filter_map(|index| self.get(index))
    }
}

/// An open object: the index at which its keys begin.
pub(crate) struct Open<'a> {
    start: usize,
    seen: Option<HashSet<Cow<'a, str>>>,
    /// A bit for each key so far, see [`mark`]: none before the first.
    marks: u64,
}

/// Maps a key to one of 64 bits: a key whose bit is not set yet is new, and need not be compared with the others.
#[inline]
fn mark(first: u8, length: usize) -> u64 {
    1 << ((usize::from(first) + 11 * length) % 64)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lex: Lexer<'a>, limits: &Limits) -> Self {
        Self {
            lex,
            keys: Keys { near: [Key { at: 0, length: 0 }; NEAR], far: Vec::new(), length: 0 },
            escapes: false,
            depth: 0,
            limits: *limits,
        }
    }

    /// Consumes the bracket at the cursor.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), DecodeError> {
        if self.depth >= self.limits.depth {
            let message = format!("expected at most {} levels", self.limits.depth);
            return Err(DecodeError::at_byte(DecodeErrorKind::TooDeep, self.lex.at, message));
        }
        self.depth += 1;
        self.lex.bump();
        Ok(())
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Returns the number of open brackets.
    #[inline]
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    /// Opens the object whose brace is at the cursor.
    #[inline]
    pub(crate) fn open(&mut self) -> Result<Open<'a>, DecodeError> {
        self.enter()?;
        Ok(Open { start: self.keys.length, seen: None, marks: 0 })
    }

    /// Closes an object whose closing brace was consumed.
    #[inline]
    pub(crate) fn close(&mut self, open: &Open<'a>) {
        self.keys.truncate(open.start);
        self.leave();
    }

    /// Consumes the next key and moves the cursor to its value; returns `None` after the closing brace.
    #[inline(always)]
    pub(crate) fn key(&mut self, open: &mut Open<'a>) -> Result<Option<Key>, DecodeError> {
        // Nearly every document is written without white space, and its keys without escapes.
        let is_first = open.marks == 0;
        let (comma, inside) = match self.lex.rest() {
            [b',', b'"', inside @ ..] if !is_first => (1, inside),
            [b'"', inside @ ..] if is_first => (0, inside),
            [b'}', ..] => {
                self.lex.bump();
                return Ok(None);
            }
            _ => return self.spaced_key(open),
        };
        let length = plain_length(inside);
        let Some([b'"', b':', b'!'..=b'~', ..]) = inside.get(length..) else { return self.spaced_key(open) };
        let key = Key { at: self.lex.at + comma + 1, length };
        self.lex.at = key.at + length + 2;
        self.keep(open, key, inside.first().copied())
    }

    /// Consumes the next key in any spelling.
    #[inline(never)]
    fn spaced_key(&mut self, open: &mut Open<'a>) -> Result<Option<Key>, DecodeError> {
        let mut token = self.lex.next_token();
        if token == Some(b'}') {
            self.lex.bump();
            return Ok(None);
        }
        if open.marks != 0 {
            if token != Some(b',') {
                return Err(self.lex.syntax("expected `,` or `}`"));
            }
            self.lex.bump();
            token = self.lex.next_token();
        }
        if token != Some(b'"') {
            return Err(self.lex.syntax("expected a key in quotes"));
        }
        let at = self.lex.at + 1;
        self.escapes |= matches!(self.lex.string()?, Cow::Owned(_));
        let key = Key { at, length: self.lex.at - 1 - at };
        let first = self.spelt(key).as_bytes().first().copied();
        let key = self.keep(open, key, first)?;
        if self.lex.next_token() != Some(b':') {
            return Err(self.lex.syntax("expected `:`"));
        }
        self.lex.bump();
        if self.lex.next_token().is_none() {
            return Err(self.lex.syntax("expected a JSON value"));
        }
        Ok(key)
    }

    #[inline(always)]
    fn keep(&mut self, open: &mut Open<'a>, key: Key, first: Option<u8>) -> Result<Option<Key>, DecodeError> {
        let mark = mark(first.unwrap_or_default(), key.length);
        if open.marks & mark != 0 || open.seen.is_some() || self.escapes {
            self.once(open, key)?;
        }
        open.marks |= mark;
        self.keys.push(key);
        Ok(Some(key))
    }

    /// Checks that a key is new. Keys are compared without escapes: `"a"` and `"\u0061"` are the same key.
    #[inline(never)]
    fn once(&mut self, open: &mut Open<'a>, key: Key) -> Result<(), DecodeError> {
        let text = self.text(key);
        let again = if self.keys.length - open.start < LINEAR {
            self.keys.since(open.start).any(|mine| self.text(mine) == text)
        } else {
            let mine = || self.keys.since(open.start).map(|mine| self.text(mine)).collect();
            !open.seen.get_or_insert_with(mine).insert(text.clone())
        };
        if again {
            let mut path = String::new();
            Segment::Key(&text).write(&mut path);
            let error = DecodeError::at_path(DecodeErrorKind::DuplicateKey, &path, "expected each key once");
            return Err(error.at_offset(key.at - 1));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn spelt(&self, key: Key) -> &'a str {
        self.lex.slice(key.at, key.at + key.length)
    }

    /// Returns a key's text. A key that was consumed once is decoded again without error.
    #[inline]
    pub(crate) fn text(&self, key: Key) -> Cow<'a, str> {
        if self.escapes { Lexer::unescaped(self.spelt(key)) } else { Cow::Borrowed(self.spelt(key)) }
    }

    /// Sets the path of an error, relative to the object that contains the member.
    #[cold]
    pub(crate) fn in_member(&self, error: &mut DecodeError, key: Key, offset: usize) {
        error.put_inside(&Segment::Key(&self.text(key)), offset);
    }

    /// Moves to the next element of an array; returns `false` after the closing bracket.
    #[inline]
    pub(crate) fn element(&mut self, first: bool) -> Result<bool, DecodeError> {
        let token = self.lex.next_token();
        if token == Some(b']') {
            self.lex.bump();
            return Ok(false);
        }
        if !first {
            if token != Some(b',') {
                return Err(self.lex.syntax("expected `,` or `]`"));
            }
            self.lex.bump();
            if self.lex.next_token() == Some(b']') {
                return Err(self.lex.syntax("expected a JSON value"));
            }
        }
        Ok(true)
    }

    /// Skips one value, and checks all of it.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        match self.lex.next_token() {
            Some(b'"') => self.lex.skip_string(),
            Some(b'{') => {
                let mut open = self.open()?;
                while let Some(key) = self.key(&mut open)? {
                    // Most skipped values are the payload's strings.
                    if self.lex.skip_plain_string() {
                        continue;
                    }
                    let at = self.lex.at;
                    if let Err(mut error) = self.skip() {
                        self.in_member(&mut error, key, at);
                        return Err(error);
                    }
                }
                self.close(&open);
                Ok(())
            }
            Some(b'[') => {
                self.enter()?;
                let mut index = 0;
                while self.element(index == 0)? {
                    let at = self.lex.at;
                    self.skip().map_err(|e| e.inside(Segment::Index(index), at))?;
                    index += 1;
                }
                self.leave();
                Ok(())
            }
            _ => self.skip_scalar(),
        }
    }

    fn skip_scalar(&mut self) -> Result<(), DecodeError> {
        match self.lex.peek() {
            Some(b'-' | b'0'..=b'9') => self.lex.number().map(|_| ()),
            Some(b't') => self.lex.word("true"),
            Some(b'f') => self.lex.word("false"),
            Some(b'n') => self.lex.word("null"),
            _ => Err(self.lex.syntax("expected a JSON value")),
        }
    }
}

/// Refuses a document that is longer than the limit, before anything is allocated for it.
pub(crate) fn within(length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit {
        return Err(DecodeError::at_byte(DecodeErrorKind::TooLarge, limit, format!("expected at most {limit} bytes")));
    }
    Ok(())
}
