//! The paths of requests: which spellings are forwarded, and which pattern one fits.
//!
//! An upstream reads a path in its own way: it may decode it, join slashes, resolve dots, ignore case, a last slash or
//! what follows a semicolon. A spelling that two readers could take for two paths is therefore refused, and paid
//! patterns are compared as the most lenient reader would, free ones exactly: [RFC 3986
//! §6.2.2](https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2).

use std::str::FromStr;

use serde::Deserialize;

/// The reason why a path is not forwarded, for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous(pub(super) &'static str);

/// Checks that a path has one meaning for every reader.
pub(super) fn check(path: &str) -> Result<(), Ambiguous> {
    let fault = |why| Err(Ambiguous(why));
    let Some(rest) = path.strip_prefix('/') else { return fault("the path does not begin with a slash") };
    if rest.split('/').rev().skip(1).any(str::is_empty) {
        return fault("the path has an empty segment");
    }
    // `/..;x/` is `/../` to a reader that drops parameters.
    if rest.split('/').any(|segment| matches!(bare(segment), "." | "..")) {
        return fault("the path has a segment of dots");
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return fault("the path has a backslash"),
            0..=0x20 | 0x7f.. => return fault("the path has a character that must be encoded"),
            b'%' => {
                let decoded = hex(bytes.next()).zip(hex(bytes.next())).map(|(high, low)| high << 4 | low);
                match decoded {
                    None => return fault("the path has a percent sign without two hex digits"),
                    Some(b'/' | b'\\') => return fault("the path has an encoded slash"),
                    Some(b'%') => return fault("the path has an encoded percent sign"),
                    Some(b';') => return fault("the path has an encoded semicolon"),
                    Some(0..=0x1f | 0x7f) => return fault("the path has an encoded control character"),
                    Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                        return fault("the path encodes a character that needs no encoding");
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn hex(byte: Option<u8>) -> Option<u8> {
    match byte? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'a'..=b'f' => Some(letter - b'a' + 10),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

/// Returns a segment without its parameters.
fn bare(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

/// A pattern of paths. A segment `*` is any one segment, a last one is everything below.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern {
    text: Box<str>,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check(text).map_err(|Ambiguous(why)| format!("path: {why}"))?;
        let whole = text.split('/').all(|segment| segment == "*" || !segment.contains('*'));
        if !whole {
            return Err("path: expected `*` as a whole segment".into());
        }
        if text.contains(['?', '#', ';']) {
            return Err("path: expected no query, fragment or parameter".into());
        }
        Ok(Self { text: text.into() })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The degree to which a pattern names a path closely: the literal segments, then whether it names nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closeness(usize, bool);

impl Pattern {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns a path that fits, for looking at a route.
    pub(super) fn example(&self) -> String {
        self.text.replace('*', "x")
    }

    /// Compares a path exactly.
    pub(super) fn fits(&self, path: &str) -> Option<Closeness> {
        self.compare(path, |pattern, segment| pattern == segment)
    }

    /// Compares a path as the most lenient reader does: without case, parameters and a last slash.
    pub(super) fn may_fit(&self, path: &str) -> Option<Closeness> {
        let trimmed = |path: &'_ str| path.strip_suffix('/').filter(|rest| !rest.is_empty()).map(str::to_owned);
        let path = trimmed(path).unwrap_or_else(|| path.to_owned());
        let same = |pattern: &str, segment: &str| pattern.eq_ignore_ascii_case(bare(segment));
        let pattern = trimmed(&self.text).map(|text| Self { text: text.into() });
        pattern.as_ref().unwrap_or(self).compare(&path, same)
    }

    fn compare(&self, path: &str, same: impl Fn(&str, &str) -> bool) -> Option<Closeness> {
        let (mut literal, mut is_exact) = (0usize, true);
        let mut segments = path.split('/');
        let mut patterns = self.text.split('/').peekable();
        while let Some(pattern) = patterns.next() {
            let is_last = patterns.peek().is_none();
            if pattern == "*" && is_last {
                return Some(Closeness(literal, false));
            }
            let segment = segments.next()?;
            if pattern == "*" {
                is_exact = false;
            } else if same(pattern, segment) {
                literal = literal.saturating_add(1);
            } else {
                return None;
            }
        }
        segments.next().is_none().then_some(Closeness(literal, is_exact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_two_readers_take_for_two_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/a/..",
            "/a/../b",
            "/./a",
            "/..;x/a",
            "/a\\b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/%2e%2e/a",
            "/%61",
            "/a%7eb",
            "/a%",
            "/a%g0",
            "/a%252f",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a%3bx",
            "/ä",
            "/a b",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a/b", "/a;x=1", "/caf%C3%A9", "/a%20b", "/@a,b", "/a..b", "/...", "/a.json"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_paid_pattern_is_compared_leniently_and_a_free_one_exactly() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        for (text, path, lenient, exact) in [
            ("/a", "/a", true, true),
            ("/a", "/A", true, false),
            ("/a", "/a/", true, false),
            ("/a/", "/a", true, false),
            ("/a", "/a;x=1", true, false),
            ("/a", "/a/b", false, false),
            ("/a/*", "/a/b", true, true),
            ("/a/*", "/a/b/c", true, true),
            ("/a/*", "/a", true, true),
            ("/a/*", "/A/b", true, false),
            ("/*", "/", true, true),
            ("/*", "/x/y", true, true),
            ("/u/*/r", "/u/7/r", true, true),
            ("/u/*/r", "/u/7/8/r", false, false),
            ("/u/*/r", "/u/r", false, false),
            ("/", "/", true, true),
            ("/", "/a", false, false),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.may_fit(path).is_some(), lenient, "{text} {path}");
            assert_eq!(pattern.fits(path).is_some(), exact, "{text} {path}");
        }
        let close = |text: &str, path| pattern(text).fits(path).unwrap();
        assert!(close("/api/x", "/api/x") > close("/api/*", "/api/x"));
        assert!(close("/api/*", "/api/x") > close("/*", "/api/x"));
        for wrong in ["a", "/a*", "/a//b", "/%41", "/a?b", "/a;b"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
