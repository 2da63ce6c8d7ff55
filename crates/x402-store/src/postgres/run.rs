//! One transaction, or one statement: repeated where the database could not serialize it, and within a time limit.

use core::future::Future;
use core::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Client, ClientWrapper, Object};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use x402_types::Fault;

use super::connect::Postgres;
use super::failure::{Abort, is_serialization, text};

/// The number of times that a transaction is tried.
const TRIES: u32 = 8;
/// The pause before the second try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(5);
/// The time within which one try must end. The statements have a limit of their own; this one is for a database that
/// does not answer.
const ANSWER: Duration = Duration::from_secs(15);

/// The beginning of a transaction that writes.
const READ_COMMITTED: &str = "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// The work of a transaction.
pub(super) type Work<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, Abort<E>>> + Send + 'c>>;

/// The way in which the statements of the work belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is one statement, which is a transaction by itself.
    Single {
        /// Whether the statement writes.
        writes: bool,
    },
    /// Several reads see one state.
    #[cfg(feature = "ledger")]
    Snapshot,
    /// All or nothing.
    Write,
    /// All or nothing, and possibly nothing: its success does not prove that the database takes writes.
    #[cfg(feature = "ledger")]
    Attempt,
}

impl Kind {
    const fn begin(self) -> Option<&'static str> {
        match self {
            Self::Single { .. } => None,
            #[cfg(feature = "ledger")]
            Self::Snapshot => Some("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
            Self::Write => Some(READ_COMMITTED),
            #[cfg(feature = "ledger")]
            Self::Attempt => Some(READ_COMMITTED),
        }
    }

    const fn writes(self) -> bool {
        matches!(self, Self::Single { writes: true } | Self::Write)
    }
}

/// A connection in use. If it is dropped in the middle of the work, it is closed and not used again, because
/// the rest of its work is unknown.
struct Session(Option<Client>);

impl Session {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

impl Postgres {
    /// Runs work as one transaction. It may run several times, each time from the beginning and after the last one was
    /// undone. Dropping the future undoes it, unless its commit was sent.
    /// # Errors
    /// The work's refusal; or a fault of the database: then a write may have taken effect.
    pub(super) async fn run<T, E, F>(&self, kind: Kind, work: F) -> Result<T, E>
    where
        E: From<Fault>,
        F: for<'c> Fn(&'c ClientWrapper) -> Work<'c, T, E>,
    {
        let mut tries = 1;
        loop {
            let abort = match self.once(kind, &work).await {
                Ok(value) => {
                    self.note(None, kind.writes());
                    return Ok(value);
                }
                Err(Ended::Fault(fault)) => return Err(self.noted(fault)),
                Err(Ended::Abort(abort)) => abort,
            };
            let why = match abort {
                Abort::Refused(refusal) => return Err(refusal),
                Abort::Database(error) if is_serialization(&error) => text(&error),
                Abort::Database(error) => return Err(self.noted(self.fault(text(&error)))),
                #[cfg(any(feature = "challenges", feature = "ledger", feature = "requests", feature = "session-keys"))]
                Abort::Unstable => "rows changed between two statements".to_owned(),
            };
            if tries == TRIES {
                return Err(self.noted(self.fault(format_args!("{why}, {TRIES} times in a row"))));
            }
            tokio::time::sleep(pause(tries)).await;
            tries = tries.saturating_add(1);
        }
    }

    fn noted<E: From<Fault>>(&self, fault: Fault) -> E {
        self.note(Some(&fault), false);
        fault.into()
    }

    async fn once<T, E, F>(&self, kind: Kind, work: &F) -> Result<T, Ended<E>>
    where
        F: for<'c> Fn(&'c ClientWrapper) -> Work<'c, T, E>,
    {
        let client = self.client().await.map_err(|error| Ended::Fault(self.fault(error)))?;
        let session = Session(Some(client));
        let Some(client) = &session.0 else { return Err(Ended::Fault(self.fault("no connection"))) };
        let late = |_| Ended::Fault(self.fault(format_args!("no answer within {} s", ANSWER.as_secs())));
        let done = tokio::time::timeout(ANSWER, conduct(client, kind, work)).await.map_err(late)?;
        if done.is_clean {
            session.give_back();
        }
        done.result.map_err(Ended::Abort)
    }
}

/// The reason why one try ended without a result.
enum Ended<E> {
    Abort(Abort<E>),
    Fault(Fault),
}

/// The end of one try.
struct Done<T, E> {
    result: Result<T, Abort<E>>,
    /// Whether the connection has nothing left to do.
    is_clean: bool,
}

async fn conduct<T, E, F>(client: &ClientWrapper, kind: Kind, work: &F) -> Done<T, E>
where
    F: for<'c> Fn(&'c ClientWrapper) -> Work<'c, T, E>,
{
    let Some(begin) = kind.begin() else {
        let result = work(client).await;
        return Done { result, is_clean: !client.is_closed() };
    };
    // No statement is sent before the answer: without its beginning each would be a transaction of its own.
    if let Err(error) = client.batch_execute(begin).await {
        return Done { result: Err(Abort::Database(error)), is_clean: false };
    }
    match work(client).await {
        // Work that had an error has returned it: the commit of a failed transaction would be acknowledged as well.
        Ok(value) => match client.batch_execute("COMMIT").await {
            Ok(()) => Done { result: Ok(value), is_clean: true },
            Err(error) => {
                let is_clean = is_serialization(&error);
                Done { result: Err(Abort::Database(error)), is_clean }
            }
        },
        Err(abort) => {
            let is_clean = client.batch_execute("ROLLBACK").await.is_ok();
            Done { result: Err(abort), is_clean }
        }
    }
}

/// Returns the pause after this many tries. Processes that met are apart the next time.
fn pause(tries: u32) -> Duration {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(u64::from(std::process::id()) | 1, Ordering::Relaxed) % 8;
    PAUSE.saturating_mul(1 << tries.min(8)) / 2 + Duration::from_millis(turn)
}

/// Executes a statement, and returns the number of rows that it changed.
pub(super) async fn execute(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, values).await
}

/// Executes a statement that returns rows.
pub(super) async fn query(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, values).await
}

/// Runs a statement that is planned for these values: one whose best plan depends on them, which a prepared statement forgets
/// after five runs.
#[cfg(feature = "catalog")]
pub(super) async fn query_planned(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[(&(dyn ToSql + Sync), tokio_postgres::types::Type)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    client.query_typed(sql, values).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_all_of_them_take_less_than_two_seconds() {
        let all: Duration = (1..TRIES).map(pause).sum();
        assert!(pause(1) < Duration::from_millis(20) && pause(7) >= Duration::from_millis(320));
        assert!(all < Duration::from_secs(2), "{all:?}");
    }
}
