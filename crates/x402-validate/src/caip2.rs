//! [CAIP-2](https://chainagnostic.org/CAIPs/caip-2) as in the document's field rules:
//! `/^[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}$/`.

/// A network identifier. Only its form is checked: `eip155:abc` is well-formed, although no such network exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caip2<'a> {
    namespace: &'a str,
    reference: &'a str,
}

impl<'a> Caip2<'a> {
    /// Parses `namespace:reference`; returns `None` if the text has another form.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (namespace, reference) = text.split_once(':')?;
        let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let fits = (3..=8).contains(&namespace.len())
            && namespace.bytes().all(small)
            && (1..=32).contains(&reference.len())
            && reference.bytes().all(word);
        fits.then_some(Self { namespace, reference })
    }

    /// Finds the first character that no part of an identifier has, in a text that has a colon; a second colon is one.
    pub(crate) fn stray(text: &str) -> Option<char> {
        let (namespace, reference) = text.split_once(':')?;
        let word = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '_';
        namespace.chars().chain(reference.chars()).find(|c| !word(c))
    }

    /// Returns the part before the colon: `eip155`, `solana`, …
    #[must_use]
    pub const fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// Returns the part after the colon.
    #[must_use]
    pub const fn reference(&self) -> &'a str {
        self.reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_of_the_document_decides() {
        for text in ["eip155:8453", "abc:-", "-a-:_", "12345678:a", "eip155:0x1"] {
            assert!(Caip2::parse(text).is_some(), "{text}");
        }
        let long = format!("eip155:{}", "a".repeat(33));
        for text in [
            "",
            ":",
            "eip155",
            "eip155:",
            ":1",
            "ab:1",
            "123456789:a",
            "EIP155:1",
            "eip155:1:2",
            "eip155:1\n",
            " eip155:1",
            "eip155:ü",
            &long,
        ] {
            assert!(Caip2::parse(text).is_none(), "{text}");
        }
        let parsed = Caip2::parse("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp").unwrap();
        assert_eq!((parsed.namespace(), parsed.reference()), ("solana", "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"));
    }
}
