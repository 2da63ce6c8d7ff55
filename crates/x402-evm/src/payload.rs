//! Members of a scheme's payload, read in one pass so that an error names the member: `payload.authorization.value`.

use core::ops::RangeInclusive;
use core::str::FromStr;
use std::borrow::Cow;

use alloy_primitives::{B256, hex};
use x402_types::{ErrorReason, Malformed, RawJson, Rejection};

/// The members of one JSON object that are strings and looked at; others are ignored. A repeated one is refused.
#[derive(Debug)]
pub(crate) struct Texts<'a, const N: usize> {
    /// Where the object stands: `payload.authorization`.
    path: &'static str,
    /// In the order in which they are mostly written.
    names: [&'static str; N],
    found: [Option<Cow<'a, str>>; N],
    /// A bit for each name: one of another type, too, may stand once. The bit behind them is the inner object's.
    seen: u32,
    /// Whether there was an object to read.
    is_there: bool,
}

/// An object inside of another.
type Inner<'i, 'a, const M: usize> = Option<(&'static str, &'i mut Texts<'a, M>)>;

impl<'a, const N: usize> Texts<'a, N> {
    pub(crate) const fn new(path: &'static str, names: [&'static str; N]) -> Self {
        assert!(N < 32, "a bit each");
        Self { path, names, found: [const { None }; N], seen: 0, is_there: false }
    }

    /// Reads the object, and the one in its member of that name.
    pub(crate) fn read<const M: usize>(
        &mut self,
        json: &'a RawJson,
        inside: &'static str,
        inner: &mut Texts<'a, M>,
    ) -> Result<(), Rejection> {
        let mut scan = Scan { text: json.as_str(), at: 0 };
        let read = match scan.token() {
            Some(b'{') => scan.members(self, &mut Some((inside, &mut *inner))),
            _ => Err(None),
        };
        read.map_err(|why| {
            let message = why.unwrap_or_else(|| format!("{}: expected a JSON object", self.path));
            Rejection::new(ErrorReason::INVALID_PAYLOAD).because(message)
        })?;
        if inner.is_there { Ok(()) } else { Err(self.refuse(inside, Malformed::new("a JSON object"))) }
    }

    #[inline]
    pub(crate) fn with<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, Rejection> {
        let place = self.names.iter().position(|known| *known == name);
        let found = place.and_then(|place| self.found.get(place)?.as_deref());
        let text = found.ok_or_else(|| self.refuse(name, Malformed::new("a JSON string")))?;
        read(text).map_err(|why| self.refuse(name, why))
    }

    #[inline]
    pub(crate) fn parsed<T: FromStr<Err = Malformed>>(&self, name: &'static str) -> Result<T, Rejection> {
        self.with(name, str::parse)
    }

    #[cold]
    pub(crate) fn refuse(&self, name: &str, why: Malformed) -> Rejection {
        Rejection::field(&format!("{}.{name}", self.path), why)
    }

    /// Marks a member, unless it was there before.
    fn once(&mut self, place: usize, name: &str) -> Result<(), Wrong> {
        if self.seen & (1 << place) != 0 {
            return Err(Some(format!("{}: duplicate field `{name}`", self.path)));
        }
        self.seen |= 1 << place;
        Ok(())
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

/// A cursor over the text of a [`RawJson`], which is one JSON value: where strings and values end is all there is to
/// find out. Where the text is none after all, it ends in `Err(None)`.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// What was wrong, where more can be said than that it is no object.
type Wrong = Option<String>;

impl<'a> Scan<'a> {
    /// The byte behind white space.
    fn token(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'\r')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// The object at the cursor.
    fn members<const N: usize, const M: usize>(
        &mut self,
        texts: &mut Texts<'a, N>,
        inner: &mut Inner<'_, 'a, M>,
    ) -> Result<(), Wrong> {
        texts.is_there = true;
        let mut next = 0;
        self.at += 1;
        loop {
            match self.token() {
                Some(b',') => self.at += 1,
                Some(b'"') => {
                    if texts.names.get(next).is_some_and(|name| self.begins(name)) {
                        texts.once(next, texts.names.get(next).copied().unwrap_or_default())?;
                        if let Some(found) = texts.found.get_mut(next) {
                            *found = Some(self.string()?);
                        }
                        next += 1;
                        continue;
                    }
                    let key = self.string()?;
                    if self.token() != Some(b':') {
                        return Err(None);
                    }
                    self.at += 1;
                    let first = self.token();
                    if let Some((name, inner)) = inner
                        && key == *name
                    {
                        texts.once(N, &key)?;
                        match first {
                            Some(b'{') => self.members(inner, &mut Inner::<0>::None)?,
                            _ => self.value()?,
                        }
                    } else if let Some(place) = texts.names.iter().position(|name| *name == key) {
                        texts.once(place, &key)?;
                        next = place + 1;
                        match (first, texts.found.get_mut(place)) {
                            (Some(b'"'), Some(found)) => *found = Some(self.string()?),
                            _ => self.value()?,
                        }
                    } else {
                        self.value()?;
                    }
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(None),
            }
        }
    }

    /// Whether a member of this name whose value is a string is at the cursor, without white space: then the cursor is
    /// on the value.
    #[inline]
    fn begins(&mut self, name: &str) -> bool {
        let rest = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
        let value = rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"\":"));
        let begins = value.and_then(<[u8]>::first) == Some(&b'"');
        if begins {
            self.at += name.len() + 3;
        }
        begins
    }

    /// The string at the cursor.
    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Wrong> {
        let start = self.at;
        let mut end = start + 1;
        let mut plain = true;
        loop {
            let rest = self.text.as_bytes().get(end..).ok_or(None)?;
            let stop = memchr::memchr2(b'"', b'\\', rest).ok_or(None)?;
            end += stop;
            if rest.get(stop) == Some(&b'"') {
                break;
            }
            plain = false;
            end += 2;
        }
        self.at = end + 1;
        if plain {
            return self.text.get(start + 1..end).map(Cow::Borrowed).ok_or(None);
        }
        let quoted = self.text.get(start..self.at).ok_or(None)?;
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| None)
    }

    /// Steps over the value at the cursor.
    fn value(&mut self) -> Result<(), Wrong> {
        let mut depth = 0usize;
        loop {
            match self.token().ok_or(None)? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(None)?;
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
                    let ends = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r');
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
