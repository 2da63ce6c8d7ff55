//! The claims that this process holds: a set in memory, a row in the database that shows that the process lives, and a
//! task that renews the row and gives released claims back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use x402_http::server::GrantLock;
use x402_types::{Fault, PaymentKey};

use super::{Sql, signed};
use crate::postgres::connect::Postgres;
use crate::postgres::failure::Abort;
use crate::postgres::run::{Kind, execute};

/// The time for which this process holds its grants without a renewal, in seconds.
const LEASE: i64 = 30;
/// The interval between renewals.
const RENEW: Duration = Duration::from_secs(10);
/// The most locks that wait to be given back. Beyond it they stay until this process ends.
const MOST_RELEASED: usize = 10_000;

/// The claims that this process holds.
#[derive(Debug)]
pub(super) struct Keeper {
    holder: Arc<str>,
    last: AtomicU64,
    held: Mutex<BTreeSet<u64>>,
    released: UnboundedSender<GrantLock>,
}

impl Keeper {
    /// Registers this process, deletes what ended processes held and never began to settle, and starts the task.
    pub(super) async fn start(database: Postgres) -> Result<Self, Fault> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Fault::store)?;
        let holder: Arc<str> = id.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        renew(&database, &holder).await?;
        database
            .run(Kind::Single { writes: true }, |client| {
                Box::pin(async move {
                    const SQL: &str =
                        "DELETE FROM x402_grants WHERE state = 'open' AND (holder IS NULL OR holder NOT IN
                                       (SELECT holder FROM x402_grant_holders WHERE until > CURRENT_TIMESTAMP))";
                    execute(client, SQL, &[]).await?;
                    Ok::<_, Abort<Fault>>(())
                })
            })
            .await?;
        let (released, waiting) = unbounded_channel();
        tokio::spawn(keep(database, Arc::clone(&holder), waiting));
        Ok(Self { holder, last: AtomicU64::new(0), held: Mutex::default(), released })
    }

    /// Returns the name of this process among the holders.
    pub(super) fn holder(&self) -> Arc<str> {
        Arc::clone(&self.holder)
    }

    /// Returns whether a claim of this process still holds its key, as far as this process knows.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.held().contains(&number)
    }

    /// Begins a claim.
    pub(super) fn hold(self: &Arc<Self>, key: PaymentKey) -> Hold {
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.held().insert(number);
        Hold { keeper: Arc::clone(self), lock: GrantLock { key, holder: number }, is_kept: false }
    }

    /// Forgets a claim whose row is decided.
    pub(super) fn forget(&self, number: u64) {
        self.held().remove(&number);
    }

    /// Gives back a claim: for this process at once, for others as soon as the task has written it.
    pub(super) fn release(&self, lock: GrantLock) {
        if self.held().remove(&lock.holder) {
            // Without a task the runtime has ended, and this process with it.
            drop(self.released.send(lock));
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim that is given back unless it is kept.
pub(super) struct Hold {
    keeper: Arc<Keeper>,
    lock: GrantLock,
    is_kept: bool,
}

impl Hold {
    pub(super) const fn number(&self) -> u64 {
        self.lock.holder
    }

    pub(super) fn keep(mut self) -> GrantLock {
        self.is_kept = true;
        self.lock.clone()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_kept {
            self.keeper.release(self.lock.clone());
        }
    }
}

async fn renew(database: &Postgres, holder: &Arc<str>) -> Result<(), Fault> {
    database
        .run(Kind::Single { writes: true }, |client| {
            let holder = Arc::clone(holder);
            Box::pin(async move {
                execute(
                    client,
                    "INSERT INTO x402_grant_holders (holder, until)
                     VALUES ($1, CURRENT_TIMESTAMP + $2::bigint * INTERVAL '1 second')
                     ON CONFLICT (holder) DO UPDATE SET until = EXCLUDED.until",
                    &[&&*holder, &LEASE],
                )
                .await?;
                Ok::<_, Abort<Fault>>(())
            })
        })
        .await
}

/// Renews this process's row, and gives back what it released, until the store is dropped.
async fn keep(database: Postgres, holder: Arc<str>, mut waiting: UnboundedReceiver<GrantLock>) {
    let mut back: Vec<GrantLock> = Vec::new();
    let mut next = tokio::time::Instant::now() + RENEW;
    loop {
        let is_open = tokio::select! {
            lock = waiting.recv() => {
                let is_open = lock.is_some();
                back.extend(lock);
                is_open
            }
            () = tokio::time::sleep_until(next) => true,
        };
        while let Ok(lock) = waiting.try_recv() {
            back.push(lock);
        }
        // A fault is logged where it occurs; the next turn tries again.
        if let Ok(()) = give_back(&database, &holder, &back).await {
            back.clear();
        }
        back.truncate(MOST_RELEASED);
        if !is_open {
            drop(end(&database, &holder).await);
            return;
        }
        if next <= tokio::time::Instant::now() {
            next = tokio::time::Instant::now() + RENEW;
            drop(renew(&database, &holder).await);
        }
    }
}

/// Deletes the released rows whose settlement never began, and takes this process off the others.
async fn give_back(database: &Postgres, holder: &Arc<str>, back: &[GrantLock]) -> Result<(), Fault> {
    if back.is_empty() {
        return Ok(());
    }
    let shared: Arc<[GrantLock]> = back.into();
    database
        .run(Kind::Write, |client| {
            let (shared, holder) = (Arc::clone(&shared), Arc::clone(holder));
            Box::pin(async move {
                let (keys, numbers): (Vec<&[u8]>, Vec<i64>) =
                    shared.iter().map(|lock| (lock.key.as_bytes(), signed(lock.holder))).unzip();
                execute(
                    client,
                    "DELETE FROM x402_grants WHERE state = 'open' AND holder = $1
                     AND (key, lock) IN (SELECT * FROM unnest($2::bytea[], $3::bigint[]))",
                    &[&&*holder, &keys, &numbers],
                )
                .await?;
                execute(
                    client,
                    "UPDATE x402_grants SET holder = NULL WHERE state = 'pending' AND holder = $1
                     AND (key, lock) IN (SELECT * FROM unnest($2::bytea[], $3::bigint[]))",
                    &[&&*holder, &keys, &numbers],
                )
                .await?;
                Ok::<_, Abort<Fault>>(())
            })
        })
        .await
}

/// Ends this process's row, which frees all that it still holds.
async fn end(database: &Postgres, holder: &Arc<str>) -> Result<(), Fault> {
    database
        .run(Kind::Single { writes: true }, |client| {
            let holder = Arc::clone(holder);
            Box::pin(async move {
                let sql: Sql<u64> =
                    Ok(execute(client, "DELETE FROM x402_grant_holders WHERE holder = $1", &[&&*holder]).await?);
                sql.map(drop)
            })
        })
        .await
}
