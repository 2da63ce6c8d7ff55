//! Members of a scheme's payload, read in one pass so that an error names the member: `payload.authorization.value`.

use core::ops::RangeInclusive;
use core::str::FromStr;
use std::borrow::Cow;

use alloy_primitives::{B256, hex};
use x402_types::{ErrorReason, Malformed, RawJson, Rejection};

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
    pub(crate) fn read(json: &'a RawJson, shape: &'static Shape) -> Result<Self, Rejection> {
        let mut scan = Scan { text: json.as_str(), at: 0 };
        let fields = if scan.token() == Some(b'{') { scan.fields(shape) } else { Err(None) };
        fields.map_err(|why| {
            let message = why.unwrap_or_else(|| format!("{}: expected a JSON object", shape.path));
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
    fn fields(&mut self, shape: &'static Shape) -> Result<Fields<'a>, Wrong> {
        let mut fields = Fields {
            path: shape.path,
            texts: Vec::with_capacity(shape.texts.len()),
            objects: Vec::with_capacity(shape.objects.len()),
        };
        // Members of another type than they must have: they too may stand once.
        let mut unfit = Vec::new();
        self.at += 1;
        loop {
            match self.token() {
                Some(b',') => self.at += 1,
                Some(b'"') => {
                    let key = self.string()?;
                    if self.token() != Some(b':') {
                        return Err(None);
                    }
                    self.at += 1;
                    let first = self.token();
                    let text = shape.texts.iter().find(|name| **name == key);
                    let object = shape.objects.iter().find(|(name, _)| *name == key);
                    let Some(name) = text.or_else(|| object.map(|(name, _)| name)).copied() else {
                        self.value()?;
                        continue;
                    };
                    let again = fields.texts.iter().any(|(known, _)| *known == name)
                        || fields.objects.iter().any(|(known, _)| *known == name)
                        || unfit.contains(&name);
                    if again {
                        return Err(Some(format!("{}: duplicate field `{name}`", shape.path)));
                    }
                    match (object, first) {
                        (None, Some(b'"')) => fields.texts.push((name, self.string()?)),
                        (Some((_, inner)), Some(b'{')) => fields.objects.push((name, self.fields(inner)?)),
                        _ => {
                            self.value()?;
                            unfit.push(name);
                        }
                    }
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(fields);
                }
                _ => return Err(None),
            }
        }
    }

    /// The string at the cursor.
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
