//! A chain, a ledger, and the processes that are killed.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use x402_devchain::{DevChain, DevNode};

use super::store::Store;
use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, post_named};

/// The point at which a process ends, as it is seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The payment's row is there.
    Claim,
    /// The signed bytes are there.
    Store,
    /// The node has been given them.
    Send,
    /// The ledger has it that the node took them.
    Mark,
    /// The node has been asked what became of them.
    Observe,
    /// The ledger has the answer.
    Confirm,
    /// The answer has arrived.
    Answer,
}

impl Point {
    pub(crate) const ALL: [Self; 7] =
        [Self::Claim, Self::Store, Self::Send, Self::Mark, Self::Observe, Self::Confirm, Self::Answer];
}

pub(crate) struct Scene {
    _directory: tempfile::TempDir,
    config: PathBuf,
    pub(crate) chain: DevChain,
    node: DevNode,
    pub(crate) store: Store,
    pub(crate) processes: Vec<Facilitator>,
}

impl Scene {
    /// One process on a SQLite file, or that many on a PostgreSQL database.
    pub(crate) async fn new(replicas: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = if replicas == 1 { Store::sqlite(directory.path()) } else { Store::postgres().await };
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        // A little distance, so that the points lie apart.
        chain.rpc_delay(Duration::from_millis(4));
        let config = configuration(directory.path(), store.name());
        let mut scene = Self { config, chain, node, store, processes: Vec::new(), _directory: directory };
        for _ in 0..replicas {
            scene.processes.push(scene.start());
        }
        scene
    }

    pub(crate) fn start(&self) -> Facilitator {
        Facilitator::restart(&self.config, &self.node.url)
    }

    pub(crate) fn url(&self, process: usize) -> String {
        format!("{}/settle", self.processes[process].url)
    }

    /// What is to be seen at a point, counted up by every payment.
    pub(crate) async fn seen(&self, point: Point) -> i64 {
        let calls = |method| i64::try_from(self.chain.calls().of(method)).unwrap();
        match point {
            Point::Claim => self.store.count("payments", "true").await,
            Point::Store => self.store.count("slots", "true").await,
            Point::Send => calls("eth_sendRawTransaction"),
            Point::Mark => self.store.count("slots", "row LIKE '%\"taken\":\"%'").await,
            Point::Observe => calls("eth_getLogs"),
            Point::Confirm => self.store.count("payments", "due IS NULL").await,
            Point::Answer => 0,
        }
    }

    /// The process that works the lane, once one of those that live does.
    async fn worker(&self) -> usize {
        let mut found = 0;
        if self.processes.len() > 1 {
            at_last("a worker", async || {
                let worker = self.store.worker().await;
                let at = self.processes.iter().position(|process| Some(process.child.id()) == worker);
                found = at.unwrap_or(found);
                at.is_some()
            })
            .await;
        }
        found
    }

    /// Posts a payment, kills a process at the point, and starts another in its place. Returns the first answer, if one
    /// came, and a process that can be asked.
    pub(crate) async fn killed_at(
        &mut self,
        point: Point,
        turn: usize,
        body: &str,
        name: &str,
    ) -> (Option<(u16, Value)>, usize) {
        let worker = self.worker().await;
        let asked = turn % self.processes.len();
        // A claim and an answer are the work of the process that was asked, the rest that of the lane's worker.
        let victim = if matches!(point, Point::Claim | Point::Answer) { asked } else { worker };
        let before = self.seen(point).await;
        let (url, sent, key) = (self.url(asked), body.to_owned(), name.to_owned());
        let answer = tokio::spawn(async move { post_named(&url, sent, &key).await });
        while !answer.is_finished() && (point == Point::Answer || self.seen(point).await == before) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.kill(victim).await;
        let first = answer.await.unwrap().ok();
        (first, if self.processes.len() == 1 { 0 } else { (victim + 1) % self.processes.len() })
    }

    /// Kills a process and starts another in its place.
    pub(crate) async fn kill(&mut self, victim: usize) {
        let process = &mut self.processes[victim];
        process.kill();
        self.store.lapse(process.child.id()).await;
        self.processes[victim] = self.start();
    }
}

/// Asks until the answer says what became of the payment: the process may be gone (no answer), not know (503), or have
/// another at the same request. It must never say that the payment failed.
pub(crate) async fn settled(url: impl Fn() -> String + Send + Sync, body: &str, name: &str) -> Value {
    for _ in 0..10_000 {
        if let Ok((status, said)) = post_named(&url(), body.to_owned(), name).await {
            let pending = said["errorReason"] == "settlement_pending" || said["errorReason"] == "duplicate_settlement";
            let known = said["success"] == true;
            assert!(known || pending || status == 503, "I5 {name}: {status} {said}");
            if known {
                return said;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("I7 {name}: it never came to an end");
}
