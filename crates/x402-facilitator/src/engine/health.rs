//! The health of an engine: its ledger, the networks, the gas of its signers, and payments that nothing here can
//! finish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use x402_facilitator_core::LaneId;
use x402_types::{ChainId, Fault, UnixSeconds};

use super::Engine;
use crate::clock::now;

/// The time that `/health` waits for the writer.
const WRITER_ANSWERS: Duration = Duration::from_secs(2);

/// The health of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The seconds since the ledger's database last took a write; `None` if the ledger is in memory.
    pub last_commit: Option<u64>,
    /// The age of the newest block seen on each network, in seconds by this machine's clock.
    pub heads: BTreeMap<ChainId, u64>,
}

impl Engine {
    /// Checks that the ledger and its writer answer, and measures the age of the last commit and of each network's
    /// head.
    ///
    /// # Errors
    /// The ledger or its writer does not answer, or the last change could not be stored.
    pub async fn health(&self) -> Result<Health, Fault> {
        for lane in self.settlement.lanes() {
            self.ledger.due(lane, now(), 1).await?;
        }
        let last_commit = match &self.database {
            None => None,
            Some(database) => {
                let asked = tokio::time::timeout(WRITER_ANSWERS, database.check_writer()).await;
                Some(asked.map_err(|_| Fault::store("the writer does not answer"))??.as_secs())
            }
        };
        let now = now();
        let heads = self.seen().heads.iter().map(|(network, time)| (*network, now.0.saturating_sub(time.0))).collect();
        Ok(Health { last_commit, heads })
    }

    /// Returns the signers that cannot pay for a transaction, as far as is known, with the reason. They take no new
    /// payments.
    #[must_use]
    pub fn unfunded(&self) -> Vec<(LaneId, Fault)> {
        self.settlement.unfunded()
    }

    /// Logs once for each signer that it ran out of gas, and once that it has gas again.
    pub fn note_funds(&self) {
        let unfunded = self.unfunded();
        let now: BTreeSet<LaneId> = unfunded.iter().map(|(lane, _)| lane.clone()).collect();
        let before = std::mem::replace(&mut self.seen().unfunded, now.clone());
        for (lane, fault) in unfunded.iter().filter(|(lane, _)| !before.contains(lane)) {
            tracing::error!(%lane, %fault, "a signer has no gas; it takes no new payments");
        }
        for lane in before.difference(&now) {
            tracing::info!(%lane, "a signer has gas again");
        }
    }

    pub(crate) fn note_head(&self, network: ChainId, time: UnixSeconds) {
        self.seen().heads.insert(network, time);
    }

    /// Logs every unfinished payment that nothing here can finish, for example because its scheme, network, token or
    /// plan was removed from the configuration. Returns their number.
    ///
    /// # Errors
    /// The ledger failed.
    pub async fn name_unserved(&self) -> Result<usize, Fault> {
        let mut unserved = 0;
        for row in self.ledger.unanswered(&[]).await? {
            let terms = &row.claim.terms;
            let lane = &row.lane;
            let why = match self.settlement.key(&row.claim) {
                Err(rejection) => rejection.to_string(),
                Ok(_) if !self.settlement.lanes().any(|served| served == lane) => "no signer for its lane".to_owned(),
                Ok(_) => continue,
            };
            unserved += 1;
            tracing::warn!(
                key = %row.key, scheme = %terms.scheme, network = %terms.network, %lane, %why,
                "a payment is not finished, and nothing here can finish it"
            );
        }
        Ok(unserved)
    }
}
