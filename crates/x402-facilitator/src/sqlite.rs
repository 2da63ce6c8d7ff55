//! The embedded database: one file, one writer with group commit, WAL, `synchronous=FULL`.
//!
//! Every write is durable before its caller hears of it. Writes that arrive together share one commit; each runs in
//! its own savepoint, so that one that is refused takes nothing else with it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::oneshot;
use x402_types::Fault;

/// Writes that share one commit at most.
const GROUP: usize = 128;
/// Jobs that wait at most; then callers are told that the store is busy.
const QUEUE: usize = 4096;
/// SQLite up to 3.51.2 can corrupt a database whose WAL is reset (fixed in 3.51.3).
const OLDEST: i32 = 3_051_003;

/// What a job answers: its value, or what failed.
type Answer<T> = Result<T, rusqlite::Error>;
/// A write, and how its caller hears of the outcome once the commit is done.
type Job = Box<dyn FnOnce(&Transaction<'_>) -> Done + Send>;
/// Called with whether the commit succeeded.
type Done = Box<dyn FnOnce(Result<(), &rusqlite::Error>) + Send>;
/// A read.
type Look = Box<dyn FnOnce(&Connection) + Send>;

/// A handle to the file. Cloning it shares the writer.
#[derive(Clone)]
pub struct Database {
    writer: SyncSender<Job>,
    reader: SyncSender<Look>,
    /// Held by the one process that works the lanes.
    _alone: Option<Arc<File>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the file for this process alone: nobody else works its lanes as long as the lock is held.
    ///
    /// # Errors
    /// As [`Database::open`]; or another process has the file.
    pub fn open_alone(path: &Path) -> Result<Self, Fault> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = File::create(&name).map_err(Fault::store)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Fault::store(format_args!("{}: another process uses it", path.display())),
            TryLockError::Error(error) => Fault::store(error),
        })?;
        Ok(Self { _alone: Some(Arc::new(lock)), ..Self::open(path)? })
    }

    /// Opens or makes the file and brings its tables up to date.
    ///
    /// # Errors
    /// The file cannot be used, or the SQLite compiled in is older than 3.51.3.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        Self::open_prepared(path, |_| Ok(()))
    }

    /// The same, where something more is done with the writer's connection before it is used: a progress handler set,
    /// for example.
    ///
    /// # Errors
    /// As [`Database::open`]; or that failed.
    pub fn open_prepared(
        path: &Path,
        further: impl FnOnce(&mut Connection) -> Result<(), rusqlite::Error>,
    ) -> Result<Self, Fault> {
        if rusqlite::version_number() < OLDEST {
            return Err(Fault::broken(format_args!("sqlite {} is older than 3.51.3", rusqlite::version())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut write = Connection::open_with_flags(path, flags).map_err(Fault::store)?;
        prepare(&mut write).map_err(Fault::store)?;
        further(&mut write).map_err(Fault::store)?;
        let read = Connection::open_with_flags(path, flags).map_err(Fault::store)?;
        read.execute_batch("PRAGMA busy_timeout=5000; PRAGMA query_only=ON;").map_err(Fault::store)?;
        let (writer, jobs) = sync_channel(QUEUE);
        let (reader, looks) = sync_channel::<Look>(QUEUE);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(Fault::store)
        };
        spawn("ledger-write", Box::new(move || write_loop(&mut write, &jobs)))?;
        spawn("ledger-read", Box::new(move || looks.iter().for_each(|look| look(&read))))?;
        Ok(Self { writer, reader, _alone: None })
    }

    /// Runs a write; the answer comes after the commit. Dropping the future does not take the write back.
    ///
    /// # Errors
    /// The store is busy, or the write or its commit failed: it may have happened all the same.
    pub async fn write<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Answer<Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let outcome = in_savepoint(transaction, work);
            Box::new(move |commit| {
                let answer = match (outcome, commit) {
                    (Ok(answer), Ok(())) => answer,
                    (Ok(_), Err(error)) => Err(Fault::store(error).into()),
                    (Err(error), _) => Err(Fault::store(error).into()),
                };
                drop(tell.send(answer));
            })
        });
        self.writer.try_send(job).map_err(refused)?;
        told.await.unwrap_or_else(|_| Err(Fault::store("the writer stopped").into()))
    }

    /// Runs a read of what is committed.
    ///
    /// # Errors
    /// The store is busy, or the read failed.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Answer<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (tell, told) = oneshot::channel();
        let look: Look = Box::new(move |connection| drop(tell.send(work(connection).map_err(Fault::store))));
        self.reader.try_send(look).map_err(refused)?;
        told.await.unwrap_or_else(|_| Err(Fault::store("the reader stopped")))
    }
}

fn refused<T>(error: TrySendError<T>) -> Fault {
    match error {
        TrySendError::Full(_) => Fault::store("busy: too many operations wait"),
        TrySendError::Disconnected(_) => Fault::store("stopped"),
    }
}

fn prepare(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON;",
    )?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(include_str!("schema.sql"))?;
    transaction.commit()
}

/// Undoes a write that failed or was refused; what others did in the same commit stays.
fn in_savepoint<T, E>(
    transaction: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Answer<Result<T, E>>,
) -> Answer<Result<T, E>> {
    transaction.execute_batch("SAVEPOINT job")?;
    let outcome = work(transaction);
    if !matches!(outcome, Ok(Ok(_))) {
        transaction.execute_batch("ROLLBACK TO job")?;
    }
    transaction.execute_batch("RELEASE job")?;
    outcome
}

fn write_loop(connection: &mut Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) => {
                // The job is dropped; its caller hears that the writer did not answer.
                tracing::error!(%error, "the ledger cannot begin a transaction");
                continue;
            }
        };
        let mut done: Vec<Done> = vec![first(&transaction)];
        while done.len() < GROUP {
            let Ok(next) = jobs.try_recv() else { break };
            done.push(next(&transaction));
        }
        let commit = transaction.commit();
        if let Err(error) = &commit {
            tracing::error!(%error, "the ledger cannot commit");
        }
        for tell in done {
            tell(commit.as_ref().copied());
        }
    }
}
