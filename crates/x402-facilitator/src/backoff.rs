//! The backoff between attempts.

use std::time::Duration;

/// The delay after the first failure.
pub(crate) const FIRST: Duration = Duration::from_millis(250);
/// The longest delay, reached after several failures.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// The delay after `failures` consecutive failures: `first`, doubled with each, up to [`LONGEST`]. It is zero before
/// the first failure.
pub(crate) fn rest(first: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_doubles_up_to_half_a_minute() {
        let milliseconds: Vec<u128> = (0..10).map(|failures| rest(FIRST, failures).as_millis()).collect();
        assert_eq!(milliseconds, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(rest(FIRST, 33), LONGEST);
        assert_eq!(rest(FIRST, u32::MAX), LONGEST);
    }
}
