//! [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259) tokens, in bytes that are known to be UTF-8.

use std::borrow::Cow;

use crate::{DecodeError, DecodeErrorKind};

/// A cursor in one JSON text.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(crate) at: usize,
}

/// A number as it is written: its text, and whether it is spelled as an integer. `-0` is not one: only a double
/// represents it.
pub(crate) struct Number<'a> {
    pub(crate) text: &'a str,
    pub(crate) integer: bool,
}

impl<'a> Lexer<'a> {
    /// Creates a cursor. RFC 8259 §8.1: "JSON text exchanged between systems ... MUST be encoded using UTF-8", and
    /// "MUST NOT add a byte order mark".
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::of(core::str::from_utf8(bytes).map_err(|e| not_utf8(e.valid_up_to()))?)
    }

    pub(crate) fn of(text: &'a str) -> Result<Self, DecodeError> {
        if text.starts_with('\u{FEFF}') {
            return Err(DecodeError::at_byte(DecodeErrorKind::InvalidJson, 0, "expected no byte order mark"));
        }
        Ok(Self { text, bytes: text.as_bytes(), at: 0 })
    }

    /// Returns the byte at the cursor; `None` at the end.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Returns the rest of the text.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn bump(&mut self) {
        self.at += 1;
    }

    #[inline(always)]
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Skips white space and returns the byte after it.
    #[inline]
    pub(crate) fn next_token(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.bump(),
                other => return other,
            }
        }
    }

    #[cold]
    pub(crate) fn syntax(&self, expected: &'static str) -> DecodeError {
        DecodeError::at_byte(DecodeErrorKind::InvalidJson, self.at, expected)
    }

    /// Checks that only white space follows.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        match self.next_token() {
            None => Ok(()),
            Some(_) => Err(DecodeError::at_byte(DecodeErrorKind::TrailingData, self.at, "expected one document")),
        }
    }

    /// Consumes `true`, `false` or `null`, whose first letter is at the cursor.
    pub(crate) fn word(&mut self, word: &'static str) -> Result<(), DecodeError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.syntax("expected a JSON value"))
        }
    }

    /// Consumes `number = [ minus ] int [ frac ] [ exp ]`, whose first byte is at the cursor.
    ///
    /// A number beyond the range of a double is refused: parsers disagree about it, `serde_json` among them.
    pub(crate) fn number(&mut self) -> Result<Number<'a>, DecodeError> {
        let start = self.at;
        let mut integer = true;
        if self.peek() == Some(b'-') {
            self.bump();
        }
        match self.peek() {
            Some(b'0') => self.bump(),
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.syntax("expected a digit")),
        }
        if self.peek() == Some(b'.') {
            integer = false;
            self.bump();
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.bump();
            if let Some(b'+' | b'-') = self.peek() {
                self.bump();
            }
            self.some_digits()?;
        }
        let text = self.slice(start, self.at);
        let may_overflow = !integer || text.len() > 300;
        if may_overflow && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            self.at = start;
            return Err(self.syntax("expected a number in the range of a double"));
        }
        Ok(Number { text, integer: integer && text != "-0" })
    }

    /// Consumes an integer of at most 19 digits without a sign, which fits into a `u64`; otherwise the cursor does not
    /// move, and [`Lexer::number`] determines the token.
    #[inline]
    pub(crate) fn short_integer(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut at = self.at;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(at) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        let leading_zero = self.peek() == Some(b'0') && at - self.at > 1;
        let ends = !matches!(self.bytes.get(at), Some(b'.' | b'e' | b'E'));
        if !(1..=19).contains(&(at - self.at)) || leading_zero || !ends {
            return None;
        }
        self.at = at;
        Some(value)
    }

    #[inline]
    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.bump();
        }
    }

    fn some_digits(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Some(b'0'..=b'9') => {
                self.digits();
                Ok(())
            }
            _ => Err(self.syntax("expected a digit")),
        }
    }

    /// Consumes a string whose opening quote is at the cursor. The result is borrowed unless the string has escapes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        match self.plain_string() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.escaped_string().map(Cow::Owned),
        }
    }

    /// Consumes a string without escapes; otherwise the cursor does not move.
    #[inline]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let end = start + plain_length(self.bytes.get(start..)?);
        if self.bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// Skips a string without escapes, whose opening quote is at the cursor; otherwise the cursor does not move.
    #[inline]
    pub(crate) fn skip_plain_string(&mut self) -> bool {
        let [b'"', inside @ ..] = self.rest() else { return false };
        let length = plain_length(inside);
        let plain = inside.get(length) == Some(&b'"');
        if plain {
            self.at += length + 2;
        }
        plain
    }

    /// Returns the text of a string that was consumed before, from the bytes between its quotes.
    #[cold]
    pub(crate) fn unescaped(spelt: &'a str) -> Cow<'a, str> {
        if !spelt.contains('\\') {
            return Cow::Borrowed(spelt);
        }
        let quoted = format!("\"{spelt}\"");
        let mut lexer = Lexer { text: &quoted, bytes: quoted.as_bytes(), at: 0 };
        lexer.escaped_string().map_or(Cow::Borrowed(spelt), Cow::Owned)
    }

    #[cold]
    fn escaped_string(&mut self) -> Result<String, DecodeError> {
        self.bump();
        let mut out = String::new();
        loop {
            let from = self.at;
            self.plain();
            out.push_str(self.slice(from, self.at));
            match self.peek() {
                Some(b'"') => {
                    self.bump();
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.control()),
                None => return Err(self.syntax("expected the end of a string")),
            }
        }
    }

    /// Skips a string whose opening quote is at the cursor.
    #[inline]
    pub(crate) fn skip_string(&mut self) -> Result<(), DecodeError> {
        self.bump();
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.bump();
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape()?;
                }
                Some(_) => return Err(self.control()),
                None => return Err(self.syntax("expected the end of a string")),
            }
        }
    }

    #[cold]
    fn control(&self) -> DecodeError {
        self.syntax("expected control characters in a string to be escaped")
    }

    /// Moves to the next `"`, `\` or control character. Those bytes never occur inside a UTF-8 sequence.
    #[inline]
    fn plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += plain_length(rest);
    }

    /// Consumes `\` and the rest of the escape.
    #[cold]
    fn escape(&mut self) -> Result<char, DecodeError> {
        let start = self.at;
        self.bump();
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.bump();
                return self.unicode(start);
            }
            _ => return Err(self.syntax("expected an escape: one of `\"\\/bfnrtu`")),
        };
        self.bump();
        Ok(plain)
    }

    /// Consumes a `\u` escape. RFC 8259 §7: beyond the BMP "the character is represented as a 12-character sequence,
    /// encoding the UTF-16 surrogate pair". Half a pair is not a character.
    fn unicode(&mut self, start: usize) -> Result<char, DecodeError> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if self.peek() != Some(b'\\') || self.bytes.get(self.at + 1) != Some(&b'u') {
                    return Err(Self::lone(start));
                }
                self.at += 2;
                match self.hex4()? {
                    second @ 0xDC00..=0xDFFF => 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                    _ => return Err(Self::lone(start)),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| Self::lone(start))
    }

    #[cold]
    fn lone(start: usize) -> DecodeError {
        DecodeError::at_byte(DecodeErrorKind::InvalidJson, start, "expected a pair of surrogates")
    }

    fn hex4(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.syntax("expected four hex digits"))?;
            self.bump();
        }
        Ok(code)
    }
}

#[cold]
pub(crate) fn not_utf8(at: usize) -> DecodeError {
    DecodeError::at_byte(DecodeErrorKind::InvalidUtf8, at, "expected UTF-8 text")
}

/// Counts the bytes before the first `"`, `\` or control character, eight at a time.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut length = 0;
    for word in words {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return length + (stops.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + tail_length(tail)
}

/// Counts the same in the last bytes of a document, which are few and seldom a string's.
#[inline(never)]
fn tail_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1F)).unwrap_or(bytes.len())
}

/// Computes the high bit of each byte that ends a plain run. Borrows may set bits above the lowest true one, which is
/// the only one that is used.
#[inline]
const fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    ((quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash) | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_runs_end_at_every_byte_that_must_stop_them_and_no_other() {
        for byte in 0..=255u8 {
            let is_stop = byte < 0x20 || byte == b'"' || byte == b'\\';
            for place in 0..61 {
                let mut bytes = [b'x'; 61];
                bytes[place] = byte;
                assert_eq!(plain_length(&bytes), if is_stop { place } else { 61 }, "{byte:#x} at {place}");
            }
            let all = [byte; 45];
            assert_eq!(plain_length(&all), if is_stop { 0 } else { 45 }, "{byte:#x}");
            // The first of several counts, and none beyond the end.
            let mut two = [b'x'; 45];
            (two[30], two[41]) = (byte, b'"');
            assert_eq!(plain_length(&two), if is_stop { 30 } else { 41 }, "{byte:#x}");
            for length in 0..30 {
                assert_eq!(plain_length(&two[..length]), length, "{byte:#x}");
            }
        }
    }
}
