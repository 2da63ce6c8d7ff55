//! Time and chance for the server; tests bring their own.

use core::fmt;
use std::time::SystemTime;

use x402_types::UnixSeconds;

/// What issuing and checking challenges needs from the machine it runs on.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> UnixSeconds;

    /// 16 fresh random bytes, or `None` where there are none to be had: then nothing is issued or granted.
    fn random(&self) -> Option<[u8; 16]>;
}

/// The system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the server is where time enters")]
    fn now(&self) -> UnixSeconds {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixSeconds(since.map_or(0, |since| since.as_secs()))
    }

    fn random(&self) -> Option<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }
}
