//! The recognition of a payment's dialect.

use http::HeaderMap;
use serde::Deserialize;
use x402_codec::header::{self, PaymentHeader};
use x402_codec::{Limits, challenge as codec};
use x402_types::RawJson;

/// The dialect of a request's payment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PaymentDialect {
    /// There is no payment.
    Nothing,
    /// A payment of this dialect: its JSON text.
    Challenge(String),
    /// A payment of this dialect that is longer than the dialect allows.
    TooLong,
    /// A payment of version 1 or 2, or one that is answered as such.
    Offers,
    /// A payment of neither, with the fault.
    Neither(String),
}

/// The member by which each dialect names itself. The dialect judges its value.
#[derive(Deserialize)]
struct Marks {
    version: Option<RawJson>,
    #[serde(rename = "x402Version")]
    x402_version: Option<RawJson>,
}

/// Detects the dialect. "The dialects that share `X-PAYMENT` are told apart after decoding by `version` and
/// `x402Version`."
///
/// `offers`: the limits of version 2 where the route offers it. A payment with neither mark, or both, or that
/// cannot be decoded, is answered as version 2 there, and is malformed elsewhere.
pub(super) fn payment_dialect(headers: &HeaderMap, offers: Option<&Limits>) -> PaymentDialect {
    let neither = |why: String| if offers.is_some() { PaymentDialect::Offers } else { PaymentDialect::Neither(why) };
    let text = match header::payment_text(headers, offers.unwrap_or(&codec::LIMITS)) {
        Ok(None) => return PaymentDialect::Nothing,
        Ok(Some(text)) => text,
        Err(error) => return neither(error.to_string()),
    };
    if text.header() == PaymentHeader::PaymentSignature {
        return neither("X-PAYMENT: expected the payment in it".to_owned());
    }
    let marks = match text.read::<Marks>(offers.unwrap_or(&codec::LIMITS)) {
        Ok(marks) => marks,
        Err(error) => return neither(error.to_string()),
    };
    match (marks.version, marks.x402_version) {
        (Some(_), None) => {
            let sent = headers.get(&header::X_PAYMENT).map_or(0, |value| value.as_bytes().trim_ascii().len());
            if sent > codec::HEADER {
                PaymentDialect::TooLong
            } else {
                PaymentDialect::Challenge(text.json().to_owned())
            }
        }
        (None, Some(_)) => neither("x402Version: expected `version`, which is `x402.v1`".to_owned()),
        (None, None) => neither("version: expected `x402.v1`".to_owned()),
        (Some(_), Some(_)) => neither("version: expected it without `x402Version`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect_of(value: &str, offers: bool) -> PaymentDialect {
        let mut headers = HeaderMap::new();
        headers.insert(&header::X_PAYMENT, x402_codec::base64::encode(value.as_bytes()).parse().unwrap());
        payment_dialect(&headers, offers.then_some(&Limits::DEFAULT))
    }

    #[test]
    fn the_mark_decides_and_only_the_mark() {
        for offers in [false, true] {
            for text in [r#"{"version":"x402.v1"}"#, r#"{"scheme":"exact","version":7}"#, r#"{"version":"2"}"#] {
                assert_eq!(dialect_of(text, offers), PaymentDialect::Challenge(text.to_owned()), "{text}");
            }
        }
        for text in [
            r#"{"x402Version":1}"#,
            r#"{"x402Version":2,"payload":{}}"#,
            r#"{"version":"x402.v1","x402Version":2}"#,
            r#"{"version":null}"#,
            r#"{"Version":"x402.v1"}"#,
            r#"{"version":"x402.v1","version":"x402.v1"}"#,
            "{}",
            "[]",
            "\"version\"",
            "null",
            "{",
            "",
        ] {
            assert_eq!(
                dialect_of(text, true),
                if text.is_empty() { PaymentDialect::Nothing } else { PaymentDialect::Offers },
                "{text}"
            );
            let alone = dialect_of(text, false);
            assert!(text.is_empty() || matches!(alone, PaymentDialect::Neither(_)), "{text}: {alone:?}");
        }
    }

    #[test]
    fn this_dialect_has_its_own_limit() {
        let long = format!(r#"{{"version":"x402.v1","more":"{}"}}"#, "x".repeat(4096));
        assert_eq!(dialect_of(&long, true), PaymentDialect::TooLong);
        assert!(matches!(dialect_of(&long, false), PaymentDialect::Neither(_)));
    }

    #[test]
    fn a_header_of_version_2_is_not_for_this_dialect() {
        let mut headers = HeaderMap::new();
        let value = x402_codec::base64::encode(br#"{"version":"x402.v1"}"#);
        headers.insert(&header::PAYMENT_SIGNATURE, value.parse().unwrap());
        assert_eq!(payment_dialect(&headers, Some(&Limits::DEFAULT)), PaymentDialect::Offers);
        assert!(matches!(payment_dialect(&headers, None), PaymentDialect::Neither(_)));
        headers.insert(&header::X_PAYMENT, value.parse().unwrap());
        assert!(matches!(payment_dialect(&headers, None), PaymentDialect::Neither(_)));
    }
}
