//! Time and randomness for the client; tests supply their own.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;
use std::time::SystemTime;

use x402_types::UnixSeconds;

/// The future of a wait.
pub type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The client's access to the machine's time and randomness.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time.
    fn now(&self) -> UnixSeconds;
    /// Waits for this time.
    fn sleep(&self, time: Duration) -> Pause;
    /// Returns 32 fresh random bytes, or `None` if there is no source: then nothing is signed.
    fn entropy(&self) -> Option<[u8; 32]>;
}

/// The system's clock and randomness; waits on tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the client is where time enters")]
    fn now(&self) -> UnixSeconds {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixSeconds(since.map_or(0, |since| since.as_secs()))
    }

    fn sleep(&self, time: Duration) -> Pause {
        Box::pin(tokio::time::sleep(time))
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }
}
