//! What both faces share: nesting, and keys that may stand once.
//!
//! RFC 8259 §4: "The names within an object SHOULD be unique ... When the names within an object are not unique, the
//! behavior of software that receives such an object is unpredictable." Two readers of one payment must not see two
//! payments, so a second key is refused at every depth, in values nobody looks at too.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::lexer::Lexer;
use crate::error::Segment;
use crate::{DecodeError, DecodeErrorKind, Limits};

/// From this many keys on, an object's keys are found by hash: 64 KiB hold 10,000 of them.
const LINEAR: usize = 16;

pub(crate) struct Reader<'a> {
    pub(crate) lex: Lexer<'a>,
    /// The keys of every open object, innermost last.
    keys: Vec<Cow<'a, str>>,
    depth: u8,
    pub(crate) limits: Limits,
}

/// A key that was read: its place among the open keys, and its bytes with the quotes.
pub(crate) struct Found {
    pub(crate) index: usize,
    pub(crate) span: Range<usize>,
}

/// An open object: where its keys begin.
pub(crate) struct Open<'a> {
    start: usize,
    seen: Option<HashSet<Cow<'a, str>>>,
    first: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lex: Lexer<'a>, limits: &Limits) -> Self {
        Self { lex, keys: Vec::with_capacity(24), depth: 0, limits: *limits }
    }

    /// Steps over the bracket at the cursor.
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

    /// How many brackets are open.
    #[inline]
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    /// Opens the object whose brace is at the cursor.
    #[inline]
    pub(crate) fn open(&mut self) -> Result<Open<'a>, DecodeError> {
        self.enter()?;
        Ok(Open { start: self.keys.len(), seen: None, first: true })
    }

    /// Closes an object whose closing brace was read.
    #[inline]
    pub(crate) fn close(&mut self, open: &Open<'a>) {
        self.keys.truncate(open.start);
        self.leave();
    }

    /// Reads the next key and leaves the cursor on its value; `None` behind the closing brace.
    #[inline]
    pub(crate) fn key(&mut self, open: &mut Open<'a>) -> Result<Option<Found>, DecodeError> {
        let mut token = self.lex.next_token();
        if token == Some(b'}') {
            self.lex.bump();
            return Ok(None);
        }
        if open.first {
            open.first = false;
        } else {
            if token != Some(b',') {
                return Err(self.lex.syntax("expected `,` or `}`"));
            }
            self.lex.bump();
            token = self.lex.next_token();
        }
        if token != Some(b'"') {
            return Err(self.lex.syntax("expected a key in quotes"));
        }
        let at = self.lex.at;
        let key = self.lex.string()?;
        let found = Found { index: self.keys.len(), span: at..self.lex.at };
        self.once(open, key, at)?;
        if self.lex.next_token() != Some(b':') {
            return Err(self.lex.syntax("expected `:`"));
        }
        self.lex.bump();
        if self.lex.next_token().is_none() {
            return Err(self.lex.syntax("expected a JSON value"));
        }
        Ok(Some(found))
    }

    /// Keys are compared as the text they mean: `"a"` and `"\u0061"` are one key.
    #[inline]
    fn once(&mut self, open: &mut Open<'a>, key: Cow<'a, str>, at: usize) -> Result<(), DecodeError> {
        let mine = self.keys.get(open.start..).unwrap_or_default();
        let again = if mine.len() < LINEAR {
            mine.iter().any(|k| **k == *key)
        } else {
            !open.seen.get_or_insert_with(|| mine.iter().cloned().collect()).insert(key.clone())
        };
        if again {
            let mut path = String::new();
            Segment::Key(&key).write(&mut path);
            let error = DecodeError::at_path(DecodeErrorKind::DuplicateKey, &path, "expected each key once");
            return Err(error.at_offset(at));
        }
        self.keys.push(key);
        Ok(())
    }

    /// A key of an open object.
    #[inline]
    pub(crate) fn key_at(&self, index: usize) -> &Cow<'a, str> {
        const NONE: &Cow<'static, str> = &Cow::Borrowed("");
        self.keys.get(index).unwrap_or(NONE)
    }

    /// The path of an error, seen from the object that holds the member.
    #[cold]
    pub(crate) fn in_member(&self, error: DecodeError, index: usize, offset: usize) -> DecodeError {
        error.inside(Segment::Key(self.key_at(index)), offset)
    }

    /// Moves to the next element of an array; `false` behind the closing bracket.
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

    /// Steps over one value and checks all of it.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        match self.lex.next_token() {
            Some(b'"') => self.lex.skip_string(),
            Some(b'{') => {
                let mut open = self.open()?;
                while let Some(found) = self.key(&mut open)? {
                    let at = self.lex.at;
                    self.skip().map_err(|e| self.in_member(e, found.index, at))?;
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

/// Refuses a document that is longer than it may be, before anything is allocated for it.
pub(crate) fn within(length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit {
        return Err(DecodeError::at_byte(DecodeErrorKind::TooLarge, limit, format!("expected at most {limit} bytes")));
    }
    Ok(())
}
