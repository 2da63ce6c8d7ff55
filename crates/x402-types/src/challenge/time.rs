//! Times of the dialect: ISO 8601 in the profile of [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6)
//! §5.6, with a mandatory zone.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Malformed, UnixSeconds};

/// A moment since 1970. The text is kept as it was received, because it is part of the canonical payment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IsoTime {
    text: Box<str>,
    at: UnixSeconds,
    fraction: bool,
}

impl IsoTime {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a time such as `2025-10-19T12:00:00Z`, with its zone, 1970 to 9999";

    /// Returns the text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the last whole second that is not after this moment.
    #[must_use]
    pub const fn floor(&self) -> UnixSeconds {
        self.at
    }

    /// Returns the first whole second that is not before this moment.
    #[must_use]
    pub const fn ceil(&self) -> UnixSeconds {
        self.at.plus(self.fraction as u64)
    }
}

impl From<UnixSeconds> for IsoTime {
    /// Formats the time in UTC. A time after the year 9999 becomes the last second of that year.
    fn from(at: UnixSeconds) -> Self {
        let at = at.min(LAST);
        let moment = i64::try_from(at.0).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let text = moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default().into();
        Self { text, at, fraction: false }
    }
}

impl FromStr for IsoTime {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        let (at, fraction) = parse(s).ok_or(Malformed::new(Self::EXPECTED))?;
        Ok(Self { text: s.into(), at, fraction })
    }
}

/// The last second that can be written, 9999-12-31T23:59:59Z.
const LAST: UnixSeconds = UnixSeconds(253_402_300_799);

/// Narrows what [`Rfc3339`] reads to one spelling: an upper-case `T` and `Z`, at most nine digits of a fraction, and no
/// leap second, which a clock that counts Unix seconds never shows.
fn parse(s: &str) -> Option<(UnixSeconds, bool)> {
    let moment = OffsetDateTime::parse(s, &Rfc3339).ok()?;
    let digits = s.get(20..)?.bytes().take_while(u8::is_ascii_digit).count();
    let is_plain = s.get(10..11) == Some("T") && s.get(17..19) != Some("60") && !s.ends_with('z') && digits <= 9;
    let at = UnixSeconds(u64::try_from(moment.unix_timestamp()).ok()?);
    (is_plain && moment.year() >= 1970 && at <= LAST).then_some((at, moment.nanosecond() != 0))
}

impl fmt::Display for IsoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for IsoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for IsoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for IsoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> u64 {
        s.parse::<IsoTime>().unwrap().floor().0
    }

    #[test]
    fn moments_as_date_shows_them() {
        // The expected values are those of `date -u -d TEXT +%s` of GNU coreutils.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2025-10-19T12:00:00Z", 1_760_875_200),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", LAST.0),
        ] {
            assert_eq!(at(text), seconds, "{text}");
            assert_eq!(IsoTime::from(UnixSeconds(seconds)).as_str(), text);
        }
        assert_eq!(at("2025-10-19T14:00:00+02:00"), 1_760_875_200);
        assert_eq!(at("2025-10-19T06:30:00-05:30"), 1_760_875_200);
        assert_eq!(IsoTime::from(UnixSeconds(u64::MAX)).as_str(), "9999-12-31T23:59:59Z");
        for day in 0..60_000 {
            let time = IsoTime::from(UnixSeconds(day * 86_400));
            assert_eq!(at(time.as_str()), day * 86_400);
        }
    }

    #[test]
    fn a_fraction_rounds_away_from_the_window() {
        let time: IsoTime = "2025-10-19T12:00:00.001Z".parse().unwrap();
        assert_eq!((time.floor().0, time.ceil().0), (1_760_875_200, 1_760_875_201));
        let whole: IsoTime = "2025-10-19T12:00:00.000Z".parse().unwrap();
        assert_eq!(whole.ceil(), whole.floor());
        assert_eq!(whole.as_str(), "2025-10-19T12:00:00.000Z");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for s in [
            "",
            "2025-10-19",
            "2025-10-19T12:00:00",
            "2025-10-19T12:00Z",
            "2025-10-19t12:00:00Z",
            "2025-10-19T12:00:00z",
            "2025-10-19 12:00:00Z",
            "2025-10-19T12:00:00.Z",
            "2025-10-19T12:00:00.1234567890Z",
            "2025-10-19T12:00:00+0200",
            "2025-10-19T12:00:00+24:00",
            "2025-10-19T12:00:00Z\n",
            "2025-02-29T12:00:00Z",
            "2025-13-01T12:00:00Z",
            "2025-00-01T12:00:00Z",
            "2025-01-00T12:00:00Z",
            "2025-10-19T24:00:00Z",
            "2025-10-19T12:60:00Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+2025-10-19T12:00:00Z",
            "20251019T120000Z",
            "1760875200",
        ] {
            assert!(s.parse::<IsoTime>().is_err(), "{s:?}");
        }
    }
}
