//! Strings of the dialect. Each has a maximum length, and none may hold a control character, so that no value can carry
//! CR or LF into a header or a canonical text.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $most:literal $expected:literal $also:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The grammar that a string must match.
            pub const EXPECTED: &'static str = $expected;

            /// Returns the text as it was received.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(s: &str) -> Result<Self, Malformed> {
                let also: fn(&str) -> bool = $also;
                // A text has at most 4 bytes a character, so its length in bytes is tested first: counting characters
                // walks the text.
                let fits = !s.is_empty() && s.len() <= 4 * $most && s.chars().count() <= $most;
                if fits && !s.chars().any(char::is_control) && also(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(Malformed::new(Self::EXPECTED))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::parsed::deserialize(deserializer, Self::EXPECTED)
            }
        }
    )* };
}

texts! {
    /// `challengeId`. [`ChallengeId::from_random`] generates UUIDv4.
    ChallengeId 128 "1 to 128 characters without controls" |_| true;
    /// `nonce`. [`Nonce::from_random`] generates 22 characters of base64url.
    Nonce 128 "1 to 128 characters without controls" |_| true;
    /// `version`. Any short text can be parsed, so that another version is refused as a mismatch and not as malformed.
    DialectVersion 32 "a version: 1 to 32 characters without controls" |_| true;
    /// `resource`: the resource that is sold, compared byte for byte.
    ResourceName 1024 "a resource: 1 to 1024 characters without controls" |_| true;
    /// `bind.method`, the HTTP method.
    HttpMethod 32 "an HTTP method: 1 to 32 characters of a token" |s| s.bytes().all(is_token);
    /// `bind.host`: a host, with its port unless that is the default one.
    HostName 261 "a host: 1 to 261 printable ASCII characters without `/`" |s| {
        s.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    };
    /// `bind.path`: the path as sent, followed by the query if the server binds that too.
    UrlPath 2048 "a path: `/` and at most 2047 printable ASCII characters" |s| {
        s.starts_with('/') && s.bytes().all(|b| b.is_ascii_graphic())
    };
}

/// Returns whether the byte is a `tchar` of RFC 9110 §5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl DialectVersion {
    /// The only version of the dialect.
    pub const X402_V1: &'static str = "x402.v1";

    /// Creates the version `x402.v1`.
    #[must_use]
    pub fn x402_v1() -> Self {
        Self(Self::X402_V1.into())
    }

    /// Returns whether the version is `x402.v1`.
    #[must_use]
    pub fn is_x402_v1(&self) -> bool {
        &*self.0 == Self::X402_V1
    }
}

impl ChallengeId {
    /// Creates a UUIDv4 ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#section-5.4) §5.4) from 16 random bytes; 6
    /// of their bits are overwritten.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid_v4(bytes).into())
    }
}

impl Nonce {
    /// Creates 22 characters of unpadded base64url from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(bytes);
        // 128 bits are 21 sextets and 2 bits; those 2 are the high bits of the last sextet.
        let sextet = |i: u32| if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
        let letter = |i: u32| ALPHABET.get(usize::from((sextet(i) & 63) as u8)).copied().unwrap_or(b'A');
        Self((0..22).map(|i| char::from(letter(i))).collect::<String>().into())
    }
}

/// Formats 16 bytes as a UUIDv4.
pub(crate) fn uuid_v4(bytes: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// `bind.bodySha256`: the SHA-256 of the request's body, 64 hex digits; written in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodySha256(pub [u8; 32]);

impl BodySha256 {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a SHA-256: 64 hex digits";
}

impl FromStr for BodySha256 {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(BodySha256::EXPECTED);
        let digits: &[u8; 64] = s.as_bytes().try_into().map_err(|_| BAD)?;
        let digit = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(BAD);
        let mut out = [0u8; 32];
        for (to, pair) in out.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = *pair;
            *to = (digit(high)? << 4) | digit(low)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for BodySha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BodySha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BodySha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BodySha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_a_uuid_v4_and_22_characters() {
        // RFC 9562 appendix A.3, and its 16 bytes as Python's base64.urlsafe_b64encode writes them.
        let bytes = 0x919108f7_52d1_4320_9bac_f847db4148a8_u128.to_be_bytes();
        assert_eq!(ChallengeId::from_random(bytes).as_str(), "919108f7-52d1-4320-9bac-f847db4148a8");
        assert_eq!(Nonce::from_random(bytes).as_str(), "kZEI91LRQyCbrPhH20FIqA");
        assert_eq!(ChallengeId::from_random([0xff; 16]).as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(Nonce::from_random([0xff; 16]).as_str(), "_____________________w");
    }

    #[test]
    fn lengths_and_controls() {
        assert!("x".repeat(128).parse::<Nonce>().is_ok());
        assert!("é".repeat(128).parse::<ChallengeId>().is_ok());
        for bad in ["", &"x".repeat(129), "a\r\nb", "a\nb", "\0", "\u{7f}", "\u{85}"] {
            assert!(bad.parse::<ChallengeId>().is_err(), "{bad:?}");
            assert!(bad.parse::<Nonce>().is_err(), "{bad:?}");
        }
        for bad in ["", "GET ", "G ET", "GET\n", "é"] {
            assert!(bad.parse::<HttpMethod>().is_err(), "{bad:?}");
        }
        for bad in ["", "a", "*", "/a b", "/a\n"] {
            assert!(bad.parse::<UrlPath>().is_err(), "{bad:?}");
        }
        for bad in ["", "zz", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            assert!(bad.parse::<BodySha256>().is_err(), "{bad:?}");
        }
        assert_eq!("AB".repeat(32).parse::<BodySha256>().unwrap().to_string(), "ab".repeat(32));
    }
}
