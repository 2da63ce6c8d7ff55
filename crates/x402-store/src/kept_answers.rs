//! The limits of the stores of kept answers.

use x402_types::UnixSeconds;

/// The time for which an answer is kept, in seconds.
const KEEP: u64 = 3_600;
/// The number of old answers that a new one deletes.
pub(crate) const FORGET: i64 = 100;

/// Returns the time before which answers are old.
pub(crate) fn oldest(now: UnixSeconds) -> i64 {
    i64::try_from(now.0.saturating_sub(KEEP)).unwrap_or(i64::MAX)
}
