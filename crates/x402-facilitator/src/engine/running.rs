//! The tasks of an engine: a worker for each lane, one that announces this process among the others, and one that deletes
//! expired records.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use x402_types::UnixSeconds;

use super::Engine;
use crate::clock::now;
use crate::lane::Lane;

/// The number of answered payments that one pass deletes.
const FORGET_AT_ONCE: usize = 1_000;
/// The interval between two passes.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The tasks of an engine.
#[derive(Debug)]
pub struct Running {
    engine: Arc<Engine>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Waits until a task ends, which is always a fault.
    pub async fn broken(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if !matches!(&ended, Err(error) if error.is_cancelled()) {
                return;
            }
        }
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    /// Finishes the running settlements, within `grace`. The next start resumes the remaining ones.
    pub async fn finish(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(grace, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("settlements still run; the next start takes them up");
        }
    }
}

impl Engine {
    /// Starts a task for each lane, one that lets the extensions record settled payments, and one that deletes expired
    /// records.
    #[must_use]
    pub fn start(self: &Arc<Self>) -> Running {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for lane in self.settlement.lanes() {
            tasks.spawn(Lane::new(Arc::clone(self), lane.clone()).run(stop.subscribe()));
        }
        tasks.spawn(Arc::clone(self).announce(stop.subscribe()));
        let (engine, mut stopped) = (Arc::clone(self), stop.subscribe());
        tasks.spawn(async move {
            while !*stopped.borrow() {
                match engine.ledger.forget(UnixSeconds(now().0.saturating_sub(engine.keep)), FORGET_AT_ONCE).await {
                    Ok(FORGET_AT_ONCE) => continue,
                    Ok(_) => {}
                    Err(fault) => tracing::warn!(%fault, "nothing was forgotten"),
                }
                tokio::select! { _ = stopped.changed() => {} () = tokio::time::sleep(FORGET_EVERY) => {} }
            }
        });
        let gas = self.gas.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gas) = gas {
            let mut stopped = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = gas.run() => {}
                }
            });
        }
        let corrections = self.corrections.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(corrections), Some(budgets)) = (corrections, self.budgets.clone()) {
            tasks.spawn(corrections.run(budgets, stop.subscribe()));
        }
        if let Some(webhooks) = self.webhooks.clone() {
            let (metrics, stopped) = (self.metrics.clone(), stop.subscribe());
            tasks.spawn(async move { webhooks.run(metrics, stopped).await });
        }
        if let Some(waiting) = self.records.take() {
            let (engine, stopped) = (Arc::clone(self), stop.subscribe());
            tasks.spawn(async move { waiting.run(&engine.extensions, stopped).await });
        }
        if let Some(database) = self.database.clone() {
            let mut stopped = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = database.stopped() => tracing::error!("the ledger cannot be used any more"),
                }
            });
        }
        // This task has an end of its own, which is no fault.
        tokio::spawn(Arc::clone(self).show_recovery(stop.subscribe()));
        Running { engine: Arc::clone(self), tasks, stop }
    }

    /// Announces this process to the others until it stops, and learns its share of the lanes.
    async fn announce(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let (owner, seconds) = (self.settlement.owner(), self.lease_seconds());
        let lanes = self.settlement.lanes().count();
        while !*stopped.borrow() {
            if !self.keep_mark().await {
                return;
            }
            match self.ledger.share(owner, seconds).await {
                Ok(share) if self.shares.set(share.of_lanes(lanes)) => {
                    let most = share.of_lanes(lanes);
                    tracing::info!(lanes = most, of = lanes, processes = share.of, "this process works its share");
                }
                Ok(_) => {}
                Err(fault) => tracing::warn!(%fault, "this process is not announced to the others"),
            }
            let pause = tokio::time::sleep(Duration::from_secs(seconds) / 3);
            tokio::select! { _ = stopped.wait_for(|stop| *stop) => {} () = pause => {} }
        }
        // The last mark is newer than every copy that was made before.
        self.keep_mark().await;
        if let Err(fault) = self.ledger.share(owner, 0).await {
            tracing::debug!(%fault, "the others learn by the clock that this process ends");
        }
    }
}
