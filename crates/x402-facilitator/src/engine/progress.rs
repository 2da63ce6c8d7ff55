//! The progress of long work, in the log: the payments that a former process left, and those that a stop finishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use x402_types::{Fault, PaymentKey};

use super::Engine;

/// The interval of the lines.
const EVERY: Duration = Duration::from_secs(5);

impl Engine {
    async fn open_payments(&self) -> Result<BTreeSet<PaymentKey>, Fault> {
        Ok(self.ledger.unanswered(&[]).await?.iter().map(|payment| payment.key.clone()).collect())
    }

    /// Logs how many of the payments that are open now are still open, until none is or `stop` is set. A ledger that does not
    /// answer is the lanes' to report.
    pub(super) async fn show_recovery(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Ok(found) = self.open_payments().await else { return };
        if found.is_empty() {
            return;
        }
        tracing::info!(open = found.len(), "payments of a former process are taken up");
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let Ok(open) = self.open_payments().await else { continue };
            let open = found.intersection(&open).count();
            if open == 0 {
                tracing::info!(of = found.len(), "the payments of a former process have their end");
                return;
            }
            tracing::info!(open, of = found.len(), "payments of a former process are still open");
        }
    }

    /// Logs how many payments a stop still finishes, for as long as it is polled.
    pub(crate) async fn show_draining(self: Arc<Self>) {
        loop {
            if let Ok(open) = self.open_payments().await
                && !open.is_empty()
            {
                tracing::info!(open = open.len(), "stopping: open payments are finished first");
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
