//! Times of the dialect: ISO 8601 in the profile of [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6)
//! §5.6, with a mandatory zone.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        let at = UnixSeconds(at.0.min(LAST));
        let (year, month, day) = date(at.0 / DAY);
        let (h, m, s) = (at.0 / 3600 % 24, at.0 / 60 % 60, at.0 % 60);
        let text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z").into();
        Self { text, at, fraction: false }
    }
}

impl FromStr for IsoTime {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        let (at, fraction) = parse(s.as_bytes()).ok_or(Malformed::new(Self::EXPECTED))?;
        Ok(Self { text: s.into(), at, fraction })
    }
}

const DAY: u64 = 86_400;
/// The last second that can be written, 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// Parses `full-date "T" full-time` with upper-case `T` and `Z`, and one to nine digits of a fraction if there is one.
/// Leap seconds are refused: a clock that counts Unix seconds never shows one.
fn parse(s: &[u8]) -> Option<(UnixSeconds, bool)> {
    let (head, mut rest) = s.split_first_chunk::<19>()?;
    let number = |from: usize, to: usize| -> Option<u64> {
        head.get(from..to)?.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| head.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=length(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut fraction = false;
    if let Some(digits) = rest.strip_prefix(b".") {
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&count) {
            return None;
        }
        fraction = digits.iter().take(count).any(|b| *b != b'0');
        rest = digits.get(count..)?;
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()) => {
            let two = |high: &u8, low: &u8| i64::from(high - b'0') * 10 + i64::from(low - b'0');
            let (hours, minutes) = (two(a, b), two(c, d));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'+' { 60 } else { -60 }
        }
        _ => return None,
    };
    let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let at = local.checked_add_signed(-offset)?;
    (at <= LAST).then_some((UnixSeconds(at), fraction))
}

const fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

const fn length(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + leap(year) as u64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01 to a later date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let before = |y: u64| y * 365 + y / 4 - y / 100 + y / 400;
    let years = before(year - 1) - before(1969);
    years + (1..month).map(|m| length(year, m)).sum::<u64>() + day - 1
}

/// Returns the date that many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let (mut year, mut month, mut left) = (1970 + days / 366, 1, 0);
    left += days - self::days(year, 1, 1);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    while left >= length(year, month) {
        left -= length(year, month);
        month += 1;
    }
    (year, month, left + 1)
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
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(at(text), seconds, "{text}");
            assert_eq!(IsoTime::from(UnixSeconds(seconds)).as_str(), text);
        }
        assert_eq!(at("2025-10-19T14:00:00+02:00"), 1_760_875_200);
        assert_eq!(at("2025-10-19T06:30:00-05:30"), 1_760_875_200);
        assert_eq!(IsoTime::from(UnixSeconds(u64::MAX)).as_str(), "9999-12-31T23:59:59Z");
        for day in 0..60_000 {
            let time = IsoTime::from(UnixSeconds(day * DAY));
            assert_eq!(at(time.as_str()), day * DAY);
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
