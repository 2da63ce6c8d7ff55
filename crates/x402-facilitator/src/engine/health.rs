//! The health of an engine: its ledger, the networks, the gas of its signers, and payments that nothing here can
//! finish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use x402_facilitator_core::LaneId;
use x402_types::v2::SupportedKind;
use x402_types::{ChainId, Fault, PaymentKey, UnixSeconds};

use super::Engine;
use crate::clock::now;

/// The time that `/health` waits for the ledger and its writer.
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

/// The readiness of an engine: the signers that cannot work, and what does not work without them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Readiness {
    /// The signers that cannot pay for a transaction.
    pub short: Vec<ShortSigner>,
    /// The signers that can still pay, and have less than their network's low-water mark.
    pub low: Vec<LowSigner>,
    /// The kinds of payment that no signer can settle. The engine is ready if there are none.
    pub stopped: Vec<SupportedKind>,
}

/// A signer that cannot pay for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShortSigner {
    /// The lane of the signer.
    pub lane: LaneId,
    /// The consequence for new payments.
    pub shortage: Shortage,
    /// The balance and what a transaction needs, or the refusal of a node.
    pub fault: Fault,
}

/// A signer below its low-water mark.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LowSigner {
    /// The lane of the signer.
    pub lane: LaneId,
    /// The balance in wei, as last polled.
    pub balance: u128,
    /// The mark in wei.
    pub mark: u128,
}

/// The consequence of a signer's lack of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Other signers take the new payments of every kind that it serves.
    Spared,
    /// No signer takes the new payments of some kind that it serves.
    Stops,
}

impl Shortage {
    /// Returns the level of the log entry about it: `warning` or `error`.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::Spared => "warning",
            Self::Stops => "error",
        }
    }
}

impl Engine {
    /// Checks that the ledger and its writer answer, and measures the age of the last commit and of each network's
    /// head.
    ///
    /// # Errors
    /// The ledger or its writer does not answer, or the last change could not be stored.
    pub async fn health(&self) -> Result<Health, Fault> {
        let asked = async {
            // No payment has this key, so the ledger itself answers, and no memory in front of it.
            self.ledger.read(&PaymentKey::from_bytes(&[])).await?;
            match &self.database {
                None => Ok(None),
                Some(database) => database.check_writer().await.map(|age| Some(age.as_secs())),
            }
        };
        let late = |_| Fault::store("the ledger or its writer does not answer");
        let last_commit = tokio::time::timeout(WRITER_ANSWERS, asked).await.map_err(late)??;
        Ok(Health { last_commit, heads: self.head_ages() })
    }

    /// Returns the age of the newest block seen on each network, in seconds by this machine's clock.
    pub(crate) fn head_ages(&self) -> BTreeMap<ChainId, u64> {
        let now = now();
        self.seen().heads.iter().map(|(network, time)| (*network, now.0.saturating_sub(time.0))).collect()
    }

    /// Returns the signers' balances in wei as last polled; those that are unknown are left out.
    pub fn balances(&self) -> impl Iterator<Item = (&LaneId, u128)> {
        self.balances.iter().filter_map(|(lane, read)| Some((lane, read()?)))
    }

    /// Returns whether every served kind has a signer that can pay for a transaction, and names the signers that cannot,
    /// as far as is known. Those take no new payments.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let stopped = self.settlement.stopped_kinds();
        let needed: BTreeSet<LaneId> = stopped.iter().flat_map(|kind| self.settlement.lanes_of(kind)).collect();
        let short = self.settlement.unfunded().into_iter().map(|(lane, fault)| {
            let shortage = if needed.contains(&lane) { Shortage::Stops } else { Shortage::Spared };
            ShortSigner { lane, shortage, fault }
        });
        let short: Vec<ShortSigner> = short.collect();
        let low = self.low_signers().filter(|low| !short.iter().any(|short| short.lane == low.lane)).collect();
        Readiness { short, low, stopped }
    }

    fn low_signers(&self) -> impl Iterator<Item = LowSigner> {
        self.balances().filter_map(|(lane, balance)| {
            let mark = *self.low_balances.get(&lane.network()?)?;
            (balance < mark).then(|| LowSigner { lane: lane.clone(), balance, mark })
        })
    }

    /// Logs once for each signer that its balance fell below the low-water mark.
    fn note_low(&self, low: &[LowSigner]) {
        let now: BTreeSet<LaneId> = low.iter().map(|low| low.lane.clone()).collect();
        let before = std::mem::replace(&mut self.seen().low, now);
        for LowSigner { lane, balance, mark } in low.iter().filter(|low| !before.contains(&low.lane)) {
            tracing::warn!(%lane, balance, mark, "a signer's balance is below its low-water mark");
        }
    }

    /// Logs once for each signer that it ran out of gas: as a warning while others carry every kind in its place, as an
    /// error once they do not. Logs once that it has gas again.
    pub fn note_funds(&self) {
        let Readiness { short, low, .. } = self.readiness();
        self.note_low(&low);
        let now: BTreeMap<LaneId, Shortage> = short.iter().map(|it| (it.lane.clone(), it.shortage)).collect();
        let before = std::mem::replace(&mut self.seen().short, now.clone());
        for ShortSigner { lane, shortage, fault } in &short {
            if before.get(lane) == Some(shortage) {
                continue;
            }
            match shortage {
                Shortage::Spared => {
                    tracing::warn!(%lane, %fault, "a signer has no gas; other signers take its new payments");
                }
                Shortage::Stops => {
                    tracing::error!(%lane, %fault, "a signer has no gas, and no other signer can take its new payments");
                }
            }
        }
        for lane in before.keys().filter(|lane| !now.contains_key(lane)) {
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
