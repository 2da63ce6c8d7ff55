//! The members that documents of session keys have, besides those of operations.

use alloy_primitives::{Bytes, FixedBytes, U256};

use super::{Field, FieldError, Problem, Step, is_lower};

impl<'p> Field<'p> {
    /// Returns the elements, of which there may be at most `max`.
    pub(crate) fn items(&'p self, max: usize) -> Result<impl Iterator<Item = Self>, FieldError> {
        let items = self.node.as_array().ok_or_else(|| self.wrong_type("an array"))?;
        if items.len() > max {
            return Err(self.error(Problem::TooMany(max)));
        }
        Ok(items.iter().enumerate().map(move |(i, node)| Self { node, parent: Some(self), step: Step::Index(i) }))
    }

    pub(crate) fn boolean(&self) -> Result<bool, FieldError> {
        self.node.as_bool().ok_or_else(|| self.wrong_type("a boolean"))
    }

    /// Parses a decimal string without sign or leading zero, at most 2^256-1.
    pub(crate) fn decimal(&self) -> Result<U256, FieldError> {
        let text = self.text()?;
        let canonical =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
        if !canonical {
            return Err(self.error(Problem::Form("a decimal string without leading zero")));
        }
        if text.len() > 78 {
            return Err(self.error(Problem::Range("uint256")));
        }
        U256::from_str_radix(text, 10).map_err(|_| self.error(Problem::Range("uint256")))
    }

    /// Parses bytes in lower case only, as the SDKs write them. A second spelling would be the same key with another
    /// hash.
    pub(crate) fn lower_bytes(&self, max: usize) -> Result<Bytes, FieldError> {
        self.lower_case()?;
        self.bytes(max)
    }

    pub(crate) fn lower_fixed<const N: usize>(&self) -> Result<FixedBytes<N>, FieldError> {
        self.lower_case()?;
        self.fixed()
    }

    fn lower_case(&self) -> Result<(), FieldError> {
        if is_lower(self.text()?) { Ok(()) } else { Err(self.error(Problem::Form("lower-case hexadecimal"))) }
    }
}
