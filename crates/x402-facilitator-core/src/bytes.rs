//! Bytes in stored rows: lower-case hex without a prefix, so that an operator can read a row.

use core::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;

/// Writes bytes as hex.
pub(crate) fn write(bytes: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    // Writing to a String cannot fail.
    let _ = write(bytes, &mut text);
    text
}

fn parse(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom("not lower-case hex"))
}

/// The serde functions of a `Vec<u8>`.
pub(crate) mod hex {
    use super::{Deserializer, Serializer, read, text};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        read(deserializer)
    }
}

/// The serde functions of a `[u8; 32]`.
pub(crate) mod hex32 {
    use super::{Deserializer, Error, Serializer, read, text};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        read(deserializer)?.try_into().map_err(|_| D::Error::custom("not 32 bytes"))
    }
}

/// The serde functions of a `PaymentKey`.
pub(crate) mod key {
    use super::{Deserializer, Serializer, read, text};
    use x402_types::PaymentKey;

    pub(crate) fn serialize<S: Serializer>(key: &PaymentKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(key.as_bytes()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PaymentKey, D::Error> {
        read(deserializer).map(|bytes| PaymentKey::from_bytes(&bytes))
    }
}

/// The serde functions of a `Vec<PaymentKey>`.
pub(crate) mod keys {
    use super::{Deserialize, Deserializer, Error, Serializer, parse, text};
    use x402_types::PaymentKey;

    pub(crate) fn serialize<S: Serializer>(keys: &[PaymentKey], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(keys.iter().map(|key| text(key.as_bytes())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PaymentKey>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let bytes = texts.iter().map(|text| parse(text).map(|bytes| PaymentKey::from_bytes(&bytes)));
        bytes.collect::<Option<_>>().ok_or_else(|| D::Error::custom("not lower-case hex"))
    }
}

/// The serde functions of a `u128` as decimal text: JSON parsers that buffer lose numbers beyond 64 bits.
pub(crate) mod decimal {
    use super::{Cow, Deserialize, Deserializer, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(text(&[0x00, 0xff, 0x1a]), "00ff1a");
        assert_eq!(parse("00ff1a"), Some(vec![0x00, 0xff, 0x1a]));
        for bad in ["0", "0x00", "FF", "gg", "0 "] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
