//! The only place where this crate reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use x402_types::UnixSeconds;

/// Returns the present time.
#[must_use]
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
