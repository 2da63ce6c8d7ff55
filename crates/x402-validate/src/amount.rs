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
}
