//! The machine's time and randomness; tests supply their own.

use core::fmt;
#[cfg(feature = "client")]
use core::time::Duration;
use std::time::SystemTime;

#[cfg(feature = "client")]
use async_trait::async_trait;
use x402_types::UnixSeconds;

/// The access of client and server to the machine's time and randomness.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time.
    fn now(&self) -> UnixSeconds;

    /// Returns 32 fresh random bytes, or `None` if there is no source: then nothing is signed, issued or granted.
    fn entropy(&self) -> Option<[u8; 32]>;
}

/// A clock that can also wait, as a client does between two attempts.
#[cfg(feature = "client")]
#[async_trait]
pub trait Timer: Clock {
    /// Waits for this time.
    async fn sleep(&self, time: Duration);
}

/// The system's clock and randomness. It waits on tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "time enters here")]
    fn now(&self) -> UnixSeconds {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixSeconds(since.map_or(0, |since| since.as_secs()))
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }
}

#[cfg(feature = "client")]
#[async_trait]
impl Timer for SystemClock {
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
