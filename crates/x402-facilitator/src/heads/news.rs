//! The notices of new heads that a node sends by itself. A notice is a hint: the head is read all the same.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The bounds of the time without a notice after which the head is polled.
const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The time without a notice as a multiple of the usual distance of two notices.
const DISTANCES: u32 = 3;

/// The notices of one node.
#[derive(Default)]
pub struct HeadNews {
    told: Notify,
    heard: Mutex<Heard>,
    /// The future that listens for them, until the poller takes it along.
    listener: Mutex<Option<Listener>>,
}

type Listener = Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for HeadNews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadNews").field("heard", &self.heard).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<Instant>,
    /// The longest of the distances so far, which shrinks slowly.
    distance: Duration,
}

impl HeadNews {
    /// Creates the notices that this listener receives. The poller of the head runs it as long as itself.
    #[must_use]
    pub fn heard_by(listens: impl FnOnce(Arc<Self>) -> Listener) -> Arc<Self> {
        let news = Arc::new(Self::default());
        let listener = listens(Arc::clone(&news));
        *news.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        news
    }

    pub(crate) fn listener(&self) -> Option<Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes a notice.
    pub fn tell(&self, now: Instant) {
        let mut heard = self.heard();
        if let Some(last) = heard.last.replace(now) {
            heard.distance = (heard.distance / 8 * 7).max(now.saturating_duration_since(last));
        }
        drop(heard);
        self.told.notify_one();
    }

    /// Notes that no more notices come.
    pub fn end(&self) {
        *self.heard() = Heard::default();
        self.told.notify_one();
    }

    /// Waits for the next notice, or for their end.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// Returns the time up to which nothing has to be polled for a new head; `None` if no notices come, or too few to know
    /// how often they do.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let heard = self.heard();
        let silence = (heard.distance * DISTANCES).clamp(SILENCE.0, SILENCE.1);
        (!heard.distance.is_zero()).then_some(heard.last? + silence)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_falls_silent_is_polled_after_three_blocks() {
        let (news, began) = (HeadNews::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(news.rests_until(), None);
        news.tell(at(0));
        assert_eq!(news.rests_until(), None, "how often they come is not known");
        news.tell(at(2));
        assert_eq!(news.rests_until(), Some(at(2 + 6)));
        news.tell(at(14));
        assert_eq!(news.rests_until(), Some(at(14 + 30)), "half a minute at most");
        news.end();
        assert_eq!(news.rests_until(), None);
        news.told().await;
    }
}
