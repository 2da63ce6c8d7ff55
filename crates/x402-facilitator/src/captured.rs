//! The log of one thread, for tests.

use std::sync::OnceLock;

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};
use x402_testkit::Log;

/// Captures what this thread logs from now on, until the guard is dropped.
///
/// While a process has a single subscriber, `tracing` decides by the subscriber of the thread that reaches a log line first
/// whether the line is on. If that is another test's thread, which has none, the line stays off for all threads. With two
/// further subscribers, which take nothing, the decision is by all of them.
pub(crate) fn capture(log: &Log) -> DefaultGuard {
    static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
    OTHERS.get_or_init(|| [NoSubscriber::default(), NoSubscriber::default()].map(Dispatch::new));
    let log = log.clone();
    set_default(tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish())
}
