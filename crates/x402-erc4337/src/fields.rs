//! Parses the members of JSON documents: each value has one spelling, and errors name the member.

#[cfg(any(feature = "key", feature = "libsecp256k1"))]
mod keys;

use std::fmt;

use alloy_primitives::{Address, Bytes, FixedBytes, U256, hex};
use x402_codec::json::{Node, Value};

/// The error for a member that does not have its required form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The path of the member, such as `permissionParams.policies[0].policyParams.type`; `$` is the document itself.
    pub field: String,
    /// The reason why the member is refused.
    pub problem: Problem,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }
}

/// The reason why a member is refused. The offending text itself is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The member is absent or null although it is required.
    #[error("missing")]
    Missing,
    /// The member has another JSON type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The expected type.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// The type is right, but not the form.
    #[error("expected {0}")]
    Form(&'static str),
    /// The text is longer than the limit.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The array has more elements than the limit.
    #[error("more than {0} elements")]
    TooMany(usize),
    /// The number is out of range.
    #[error("does not fit in {0}")]
    Range(&'static str),
    /// The form is known to this crate, but not allowed here.
    #[error("{0}")]
    Refused(&'static str),
}

/// A node of the document with its path. The path is formatted only for errors.
#[derive(Clone, Copy)]
pub(crate) struct Field<'p> {
    node: &'p Node<'p>,
    parent: Option<&'p Self>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Root,
    Key(&'static str),
    #[cfg(any(feature = "key", feature = "libsecp256k1"))]
    Index(usize),
}

impl<'p> Field<'p> {
    pub(crate) fn root(node: &'p Node<'p>) -> Self {
        Self { node, parent: None, step: Step::Root }
    }

    pub(crate) fn error(&self, problem: Problem) -> FieldError {
        let path = self.to_string();
        FieldError { field: if path.is_empty() { "$".into() } else { path }, problem }
    }

    fn wrong_type(&self, expected: &'static str) -> FieldError {
        self.error(Problem::WrongType { expected, found: self.node.kind() })
    }

    pub(crate) fn object(self) -> Result<Self, FieldError> {
        if self.node.as_object().is_some() { Ok(self) } else { Err(self.wrong_type("an object")) }
    }

    /// Returns the member, if it is present and not null.
    pub(crate) fn optional(&'p self, key: &'static str) -> Option<Self> {
        let node = self.node.get(key).filter(|n| !n.is_null())?;
        Some(Self { node, parent: Some(self), step: Step::Key(key) })
    }

    pub(crate) fn required(&'p self, key: &'static str) -> Result<Self, FieldError> {
        self.optional(key).ok_or_else(|| {
            let at = Self { node: self.node, parent: Some(self), step: Step::Key(key) };
            at.error(Problem::Missing)
        })
    }

    pub(crate) fn refuse(&'p self, key: &'static str, why: &'static str) -> Result<(), FieldError> {
        self.optional(key).map_or(Ok(()), |f| Err(f.error(Problem::Refused(why))))
    }

    pub(crate) fn text(&self) -> Result<&'p str, FieldError> {
        match &self.node.value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong_type("a string")),
        }
    }

    /// Parses a JSON number that is an integer of at most `max`.
    pub(crate) fn integer(&self, max: u64, range: &'static str) -> Result<u64, FieldError> {
        let text = self.node.as_number().ok_or_else(|| self.wrong_type("a number"))?;
        // `1e3`, `1.0` and `-0` are integers too, but only one spelling is accepted.
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.error(Problem::Form("an integer")));
        }
        text.parse().ok().filter(|n| *n <= max).ok_or_else(|| self.error(Problem::Range(range)))
    }

    /// Parses a JSON-RPC quantity: `0x` and 1 to 64 hexadecimal digits. Leading zeros are accepted, since bundlers send
    /// them.
    pub(crate) fn quantity(&self) -> Result<U256, FieldError> {
        let digits = self.hex_digits()?;
        match digits.len() {
            0 => Err(self.error(Problem::Form("a quantity of at least one digit"))),
            // `U256` would skip underscores.
            1..=64 if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                U256::from_str_radix(digits, 16).map_err(|_| self.error(Problem::Form("0x and hexadecimal digits")))
            }
            1..=64 => Err(self.error(Problem::Form("0x and hexadecimal digits"))),
            _ => Err(self.error(Problem::Range("uint256"))),
        }
    }

    pub(crate) fn quantity128(&self) -> Result<u128, FieldError> {
        u128::try_from(self.quantity()?).map_err(|_| self.error(Problem::Range("uint128")))
    }

    /// Parses a quantity or a JSON number: real documents use both for chain ids and nonces of authorizations.
    pub(crate) fn quantity_or_integer(&self) -> Result<U256, FieldError> {
        match &self.node.value {
            Value::Number(_) => self.integer(u64::MAX, "uint64").map(U256::from),
            _ => self.quantity(),
        }
    }

    pub(crate) fn bytes(&self, max: usize) -> Result<Bytes, FieldError> {
        let digits = self.hex_digits()?;
        if digits.len() > max.saturating_mul(2) {
            return Err(self.error(Problem::TooLong(max)));
        }
        hex::decode(digits).map(Bytes::from).map_err(|_| self.error(Problem::Form("whole bytes of hexadecimal")))
    }

    pub(crate) fn fixed<const N: usize>(&self) -> Result<FixedBytes<N>, FieldError> {
        let digits = self.hex_digits()?;
        let mut out = [0; N];
        hex::decode_to_slice(digits, &mut out)
            .map_err(|_| self.error(Problem::Form("hexadecimal bytes of the exact length")))?;
        Ok(FixedBytes(out))
    }

    /// Parses an address in lower case or with its EIP-55 checksum.
    pub(crate) fn address(&self) -> Result<Address, FieldError> {
        let address = Address::from(self.fixed::<20>()?);
        let text = self.text()?;
        if is_lower(text) || address.to_checksum(None) == text {
            Ok(address)
        } else {
            Err(self.error(Problem::Form("an address in lower case or with a right checksum")))
        }
    }

    /// Returns the digits after `0x`. A second prefix is refused here: `x` is not a digit, but `hex` would strip it.
    fn hex_digits(&self) -> Result<&'p str, FieldError> {
        let digits = self.text()?.strip_prefix("0x").filter(|digits| !digits.starts_with("0x"));
        digits.ok_or_else(|| self.error(Problem::Form("0x and hexadecimal digits")))
    }
}

pub(crate) fn is_lower(text: &str) -> bool {
    !text.bytes().any(|b| b.is_ascii_uppercase())
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if matches!(self.parent.map(|p| p.step), Some(Step::Root)) => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            #[cfg(any(feature = "key", feature = "libsecp256k1"))]
            Step::Index(i) => write!(f, "[{i}]"),
        }
    }
}
