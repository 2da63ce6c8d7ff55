//! Members of a scheme's payload that are hex digits, for `#[serde(deserialize_with)]`, and the refusal of a malformed one.

use core::fmt;
use core::marker::PhantomData;

use alloy_primitives::{B256, Bytes, hex};
use serde::Deserializer;
use serde::de::{Error, Visitor};
use x402_codec::{DecodeError, DecodeErrorKind};
use x402_types::{ErrorReason, Malformed, Rejection};

use crate::signature::MAX_SIGNATURE;

/// Decodes `0x` and the hex digits of a signature. The length is checked before anything is allocated.
pub(crate) fn signature<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    text(deserializer, "`0x` and hex digits, at most 8192", |digits| {
        let fits = digits.len().is_multiple_of(2) && digits.len() / 2 <= MAX_SIGNATURE;
        Some(hex::decode(fits.then_some(digits)?).ok()?.into())
    })
}

/// Decodes `0x` and the hex digits of a signed transaction of at most 512 bytes. The length is checked before anything is
/// allocated.
#[cfg(feature = "facilitator")]
pub(crate) fn transaction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    text(deserializer, "`0x` and hex digits, at most 1024", |digits| {
        let fits = digits.len().is_multiple_of(2) && digits.len() <= 1024;
        Some(hex::decode(fits.then_some(digits)?).ok()?.into())
    })
}

/// Decodes `0x` and 64 hex digits.
pub(crate) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<B256, D::Error> {
    text(deserializer, "`0x` and 64 hex digits", |digits| {
        let mut word = B256::ZERO;
        hex::decode_to_slice(digits, word.as_mut_slice()).ok().map(|()| word)
    })
}

/// Names the member as a payment has it: `$.authorization.value` of the payload is `payload.authorization.value`.
#[cold]
pub(crate) fn refused(why: &DecodeError) -> Rejection {
    let path = why.at().to_string().replacen('$', "payload", 1);
    let message = match path.rsplit_once('.') {
        Some((object, name)) if why.kind() == DecodeErrorKind::DuplicateKey => {
            format!("{object}: duplicate field `{name}`")
        }
        _ => format!("{path}: expected {}", why.expected()),
    };
    Rejection::new(ErrorReason::INVALID_PAYLOAD).because(message)
}

/// Reads the digits after `0x`. A second prefix is refused here, because `hex` would strip it.
fn text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Digits<T, F>(&'static str, F, PhantomData<T>);
    impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Digits<T, F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        #[inline]
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with("0x"));
            digits.and_then(self.1).ok_or_else(|| E::custom(Malformed::new(self.0)))
        }
    }
    deserializer.deserialize_str(Digits(expected, read, PhantomData))
}
