//! `accepts[].amount`: "String of digits only, > 0 (atomic units, not decimals)".

/// 2^256 - 1, the largest amount.
const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

/// Strips leading zeros from the digits, down to `0`; returns `None` if the text is not a number of at most 2^256-1.
#[must_use]
pub fn digits(text: &str) -> Option<&str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let stripped = text.trim_start_matches('0');
    if stripped.is_empty() {
        return text.get(text.len().saturating_sub(1)..);
    }
    let fits = stripped.len() < MAX.len() || (stripped.len() == MAX.len() && stripped <= MAX);
    fits.then_some(stripped)
}

/// Formats atomic units with a decimal point: `10000` of 6 decimals is `0.01`.
#[must_use]
pub fn human(digits: &str, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let padded = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, fraction) = padded.split_at_checked(padded.len() - decimals).unwrap_or((&padded, ""));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// Converts a sum of whole units, as people write it, to atomic units: `$0.01` of 6 decimals is `10000`. A currency sign
/// in front and a symbol behind are allowed; `None` if the text is something else, or finer than the token.
pub(crate) fn atomic(text: &str, decimals: u8, symbol: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let text = text.trim().trim_start_matches('$').trim_start();
    let unit = [symbol, "USD"].iter().find_map(|unit| {
        let (number, end) = text.split_at_checked(text.len().checked_sub(unit.len())?)?;
        end.eq_ignore_ascii_case(unit).then_some(number)
    });
    let (whole, fraction) = match unit.unwrap_or(text).trim_end().split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (unit.unwrap_or(text).trim_end(), ""),
    };
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let decimals = usize::from(decimals);
    if whole.is_empty() && fraction.is_empty() || !plain(whole) || !plain(fraction) || fraction.len() > decimals {
        return None;
    }
    digits(&format!("{whole}{fraction:0<decimals$}")).map(str::to_owned)
}

/// Formats a whole number in English words: `10000` is `ten thousand`. `None` from 10^18 on.
pub(crate) fn in_words(number: u64) -> Option<String> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    const GROUPS: [(u64, &str); 5] = [
        (1_000_000_000_000_000, "quadrillion"),
        (1_000_000_000_000, "trillion"),
        (1_000_000_000, "billion"),
        (1_000_000, "million"),
        (1_000, "thousand"),
    ];
    let word = |words: &[&'static str], at: u64| usize::try_from(at).ok().and_then(|at| words.get(at).copied());
    let group = |number: u64| {
        let mut out = Vec::new();
        if number >= 100 {
            out.extend([word(&SMALL, number / 100)?, "hundred"]);
        }
        match number % 100 {
            0 if number > 0 => {}
            rest @ 0..20 => out.push(word(&SMALL, rest)?),
            rest => {
                out.push(word(&TENS, rest / 10)?);
                out.extend((rest % 10 > 0).then(|| word(&SMALL, rest % 10)).flatten());
            }
        }
        Some(out.join(" "))
    };
    if number >= 1_000_000_000_000_000_000 {
        return None;
    }
    let (mut out, mut left) = (Vec::new(), number);
    for (size, name) in GROUPS {
        if left >= size {
            out.push(format!("{} {name}", group(left / size)?));
            left %= size;
        }
    }
    if left > 0 || out.is_empty() {
        out.push(group(left)?);
    }
    Some(out.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_lose_leading_zeros_and_end_at_256_bits() {
        for (text, want) in [("1", "1"), ("0", "0"), ("000", "0"), ("0010", "10"), (MAX, MAX)] {
            assert_eq!(digits(text), Some(want));
        }
        let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        for text in ["", "-1", "+1", "1.0", "1e3", " 1", "1 ", "0x1", "1_000", "١", over, &format!("{MAX}0")] {
            assert_eq!(digits(text), None, "{text}");
        }
        assert_eq!(digits(&format!("{}{MAX}", "0".repeat(1000))), Some(MAX));
    }

    #[test]
    fn human_amounts() {
        for (amount, decimals, want) in [
            ("10000", 6, "0.01"),
            ("1", 6, "0.000001"),
            ("1000000", 6, "1"),
            ("1500000", 6, "1.5"),
            ("0", 6, "0"),
            ("12", 0, "12"),
            ("1", 18, "0.000000000000000001"),
        ] {
            assert_eq!(human(amount, decimals), want);
        }
    }

    #[test]
    fn sums_of_people_become_atomic_units() {
        for (text, decimals, want) in [
            ("$0.01", 6, Some("10000")),
            ("0.01", 6, Some("10000")),
            (" 0.01 USDC ", 6, Some("10000")),
            ("1 usd", 6, Some("1000000")),
            (".5", 6, Some("500000")),
            ("5.", 6, Some("5000000")),
            ("0.0000001", 6, None),
            ("0.01 EUR", 6, None),
            ("1,5", 6, None),
            ("-1", 6, None),
            (".", 6, None),
            ("$", 6, None),
            ("USDC", 6, None),
            ("1e3", 6, None),
            ("1.2.3", 6, None),
        ] {
            assert_eq!(atomic(text, decimals, "USDC").as_deref(), want, "{text}");
        }
    }

    #[test]
    fn numbers_in_words() {
        for (number, want) in [
            (0, "zero"),
            (7, "seven"),
            (42, "forty two"),
            (100, "one hundred"),
            (10_000, "ten thousand"),
            (1_000_019, "one million nineteen"),
            (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
            (2_000_000_000_000_000, "two quadrillion"),
        ] {
            assert_eq!(in_words(number).as_deref(), Some(want));
        }
        assert_eq!(in_words(u64::MAX), None);
    }
}
