//! The stores on SQLite: one file, one writer with group commit, WAL, `synchronous=FULL`.
//!
//! Every write is durable before its caller learns the result. Writes that arrive together share one commit; each runs
//! in its own savepoint, so that a refused one does not affect the others.

#[cfg(feature = "ledger")]
mod budgets;
#[cfg(feature = "cards")]
mod cards;
#[cfg(feature = "catalog")]
mod catalog;
#[cfg(feature = "challenges")]
mod challenges;
#[cfg(feature = "ledger")]
mod ended;
#[cfg(feature = "grants")]
mod grants;
#[cfg(feature = "grants")]
mod kept_answers;
#[cfg(feature = "ledger")]
mod ledger;
#[cfg(feature = "ledger")]
mod marks;
mod migrate;
#[cfg(feature = "requests")]
mod requests;
#[cfg(feature = "session-keys")]
mod session_keys;

#[cfg(feature = "session-keys")]
pub use crate::seal::{SealError, SealKey};
#[cfg(feature = "ledger")]
pub use budgets::SqliteBudgets;
#[cfg(feature = "cards")]
pub use cards::SqliteCards;
#[cfg(feature = "catalog")]
pub use catalog::SqliteCatalog;
#[cfg(feature = "challenges")]
pub use challenges::SqliteChallenges;
#[cfg(feature = "ledger")]
pub use ended::SqliteEnded;
#[cfg(feature = "grants")]
pub use grants::SqliteGrants;
#[cfg(feature = "grants")]
pub use kept_answers::SqliteKeptAnswers;
#[cfg(feature = "ledger")]
pub use ledger::SqliteLedger;
#[cfg(feature = "ledger")]
#[doc(hidden)]
pub use ledger::{payment_row, slot_row};
#[cfg(feature = "ledger")]
pub use marks::SqliteMarks;
#[cfg(feature = "requests")]
pub use requests::SqliteRequests;
#[cfg(feature = "session-keys")]
pub use session_keys::SqliteSessionKeys;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use x402_types::Fault;

/// The maximum number of writes in one commit.
const GROUP: usize = 128;
/// The maximum number of waiting jobs of each thread; beyond it a caller waits until there is room.
const QUEUE: usize = 4096;
/// The room beyond that for checks, which do not wait for it.
const CHECKS: usize = 16;
/// The number of statements that each connection keeps prepared: more than the stores have of either kind.
const STATEMENTS: usize = 128;
/// The way in which the file is opened: each connection belongs to one thread.
const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_CREATE).union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// The oldest usable SQLite: up to 3.51.2 it can corrupt a database whose WAL is reset (fixed in 3.51.3).
const OLDEST: i32 = 3_051_003;

/// The result of a job: its value, or the error.
type Answer<T> = Result<T, rusqlite::Error>;
/// A write to execute.
type Work = Box<dyn FnOnce(&Transaction<'_>) -> Done + Send>;
/// A job of the writer.
enum Job {
    /// A write, which reports its result to its caller once the commit is done.
    Write(Work),
    /// An empty job: its completion shows that the writer is alive.
    Check(oneshot::Sender<()>),
}
/// The callback that receives whether the commit succeeded.
type Done = Box<dyn FnOnce(Result<(), &rusqlite::Error>) + Send>;
/// The reason why a write is undone.
#[derive(Debug)]
pub enum WriteError<E> {
    /// SQLite failed to write.
    Sqlite(rusqlite::Error),
    /// The stored rows do not allow the write.
    Refused(E),
}

impl<E> From<rusqlite::Error> for WriteError<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A read to execute.
type Look = Box<dyn FnOnce(&Connection) + Send>;

/// A handle to the file. Clones share the writer.
#[derive(Clone)]
pub struct Database {
    path: Arc<PathBuf>,
    writer: SyncSender<Job>,
    reader: SyncSender<Look>,
    /// The room for writes and for reads.
    room: [Arc<Semaphore>; 2],
    commits: Arc<Mutex<Commits>>,
    /// A signal that changes when one of the two threads ends.
    ended: watch::Receiver<()>,
    /// The lock of the one process that works the lanes.
    _alone: Option<Arc<File>>,
}

/// Signals that a thread has ended, even by a panic.
struct End(watch::Sender<()>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(());
    }
}

/// The results of the last commits.
struct Commits {
    /// The time of the last successful commit, or of opening the file.
    last: Instant,
    /// The fault of the newest commit, unless one has succeeded since.
    failing: Option<Fault>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the file for this process alone: no other process works its lanes as long as the lock is held.
    /// # Errors
    /// The errors of [`Database::open`]; or another process has the file.
    pub fn open_alone(path: impl AsRef<Path>) -> Result<Self, Fault> {
        let path = path.as_ref();
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let at = |error: std::io::Error| Fault::store(format_args!("{}: {error}", path.display()));
        let lock = File::create(&name).map_err(at)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Fault::store(format_args!("{}: another process uses it", path.display())),
            TryLockError::Error(error) => at(error),
        })?;
        Ok(Self { _alone: Some(Arc::new(lock)), ..Self::open(path)? })
    }

    /// Opens or creates the file and migrates its tables.
    /// # Errors
    /// The file cannot be used, or the SQLite compiled in is older than 3.51.3.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Fault> {
        Self::open_prepared(path.as_ref(), |_| Ok(()))
    }

    /// Opens the file, and prepares the writer's connection before its use, for example with a progress handler.
    /// # Errors
    /// The errors of [`Database::open`]; or the preparation failed.
    pub fn open_prepared(
        path: &Path,
        further: impl FnOnce(&mut Connection) -> Result<(), rusqlite::Error>,
    ) -> Result<Self, Fault> {
        if rusqlite::version_number() < OLDEST {
            return Err(Fault::broken(format_args!("sqlite {} is older than 3.51.3", rusqlite::version())));
        }
        let mut write = Connection::open_with_flags(path, FLAGS).map_err(Fault::store)?;
        prepare(&write).map_err(Fault::store)?;
        migrate::to_newest(&mut write)?;
        further(&mut write).map_err(Fault::store)?;
        let (writer, jobs) = sync_channel(QUEUE + CHECKS);
        let room = [(); 2].map(|()| Arc::new(Semaphore::new(QUEUE)));
        let commits = Arc::new(Mutex::new(Commits { last: Instant::now(), failing: None }));
        let noted = Arc::clone(&commits);
        let (end, ended) = watch::channel(());
        let (writes, reads) = (End(end.clone()), End(end));
        spawn(
            "ledger-write",
            Box::new(move || {
                let _end = writes;
                write_loop(&mut write, &jobs, &noted);
            }),
        )?;
        let reader = spawn_reader(path, "ledger-read", reads)?;
        Ok(Self { path: Arc::new(path.to_owned()), writer, reader, room, commits, ended, _alone: None })
    }

    /// Returns a handle to the same writer whose reads have a connection and a thread of their own: however long they take,
    /// other reads do not wait for them.
    /// # Errors
    /// The file cannot be opened once more.
    pub fn with_own_reader(&self) -> Result<Self, Fault> {
        // Nothing waits for the end of this thread: a read that it does not answer is a fault.
        let reader = spawn_reader(&self.path, "catalog-read", End(watch::channel(()).0))?;
        let [writes, _] = self.room.clone();
        Ok(Self { reader, room: [writes, Arc::new(Semaphore::new(QUEUE))], ..self.clone() })
    }

    /// Executes a write; the result follows the commit. A write that fails is undone; the others of the same commit are
    /// kept. Dropping the future does not cancel the write.
    /// # Errors
    /// The write or its commit failed: it may have taken effect nevertheless.
    pub async fn write<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError<E>> + Send + 'static,
    ) -> Result<T, E> {
        let [room, _] = &self.room;
        let place = place(room).await?;
        let (tell, told) = oneshot::channel();
        let job = Job::Write(Box::new(move |transaction| {
            drop(place);
            let outcome = in_savepoint(transaction, work);
            Box::new(move |commit| {
                let answer = match (outcome, commit) {
                    (Ok(answer), Ok(())) => Ok(answer),
                    (Ok(_), Err(error)) => Err(Fault::store(error).into()),
                    // The write's savepoint is undone; a failed commit matters more than the refusal of one write.
                    (Err(WriteError::Refused(why)), Ok(())) => Err(why),
                    (Err(WriteError::Refused(_)), Err(error)) => Err(Fault::store(error).into()),
                    (Err(WriteError::Sqlite(error)), _) => Err(Fault::store(error).into()),
                };
                drop(tell.send(answer));
            })
        }));
        self.writer.try_send(job).map_err(refused)?;
        told.await.unwrap_or_else(|_| Err(Fault::store("the writer stopped").into()))
    }

    /// Passes an empty job through the writer's queue, and returns how long ago the file last took a change. A working
    /// facilitator writes every few seconds, for its leases.
    /// # Errors
    /// The writer has ended, or the last change could not be stored.
    pub async fn check_writer(&self) -> Result<Duration, Fault> {
        let (tell, told) = oneshot::channel();
        self.writer.try_send(Job::Check(tell)).map_err(refused)?;
        told.await.map_err(|_| Fault::store("the writer stopped"))?;
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.failing.clone().map_or_else(|| Ok(commits.last.elapsed()), Err)
    }

    /// Waits until the writer or the reader has ended. While this handle exists, only a panic ends them.
    pub async fn stopped(&self) {
        drop(self.ended.clone().changed().await);
    }

    /// Executes a read of committed data.
    /// # Errors
    /// The read failed.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Answer<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let [_, room] = &self.room;
        let place = place(room).await?;
        let (tell, told) = oneshot::channel();
        let look: Look = Box::new(move |connection| {
            drop(place);
            drop(tell.send(work(connection).map_err(Fault::store)));
        });
        self.reader.try_send(look).map_err(refused)?;
        told.await.unwrap_or_else(|_| Err(Fault::store("the reader stopped")))
    }
}

fn spawn(name: &str, run: Box<dyn FnOnce() + Send>) -> Result<(), Fault> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(Fault::store)
}

/// Starts a thread with a connection that only reads.
fn spawn_reader(path: &Path, name: &str, end: End) -> Result<SyncSender<Look>, Fault> {
    let read = Connection::open_with_flags(path, FLAGS).map_err(Fault::store)?;
    read.execute_batch("PRAGMA busy_timeout=5000; PRAGMA query_only=ON;").map_err(Fault::store)?;
    read.set_prepared_statement_cache_capacity(STATEMENTS);
    let (reader, looks) = sync_channel::<Look>(QUEUE);
    spawn(
        name,
        Box::new(move || {
            let _end = end;
            looks.iter().for_each(|look| look(&read));
        }),
    )?;
    Ok(reader)
}

/// Waits for room in a thread's queue.
async fn place(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(room).acquire_owned().await.map_err(Fault::store)
}

fn refused<T>(error: TrySendError<T>) -> Fault {
    match error {
        TrySendError::Full(_) => Fault::store("busy: too many operations wait"),
        TrySendError::Disconnected(_) => Fault::store("stopped"),
    }
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON;",
    )
}

/// Executes a write in a savepoint, and undoes it if it failed or was refused; other writes of the same commit are
/// kept.
fn in_savepoint<T, E>(
    transaction: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError<E>>,
) -> Result<T, WriteError<E>> {
    transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
    let outcome = work(transaction);
    if transaction.is_autocommit() {
        return match outcome {
            Err(WriteError::Sqlite(error)) => Err(error.into()),
            _ => Err(rolled_back().into()),
        };
    }
    if outcome.is_err() {
        transaction.execute_batch("ROLLBACK TO job")?;
    }
    transaction.prepare_cached("RELEASE job")?.execute([])?;
    outcome
}

/// Creates the error for the group of a job that made SQLite roll back.
fn rolled_back() -> rusqlite::Error {
    let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(abort, Some("the transaction was rolled back with a write beside it".to_owned()))
}

fn write_loop(connection: &mut Connection, jobs: &Receiver<Job>, commits: &Mutex<Commits>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Check(tell) => tell.send(()).unwrap_or_default(),
            Job::Write(first) => {
                let committed = write_group(connection, first, jobs);
                let mut commits = commits.lock().unwrap_or_else(PoisonError::into_inner);
                match committed {
                    Ok(()) => *commits = Commits { last: Instant::now(), failing: None },
                    Err(error) => commits.failing = Some(Fault::store(error)),
                }
            }
        }
    }
}

/// Executes the first write and the waiting ones, and reports the result of the commit to all of them.
fn write_group(connection: &mut Connection, first: Work, jobs: &Receiver<Job>) -> Result<(), rusqlite::Error> {
    // Without a transaction the job is dropped, and its caller learns that the writer did not answer.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .inspect_err(|error| tracing::error!(%error, "the ledger cannot begin a transaction"))?;
    let mut done: Vec<Done> = vec![first(&transaction)];
    let mut checks = Vec::new();
    // Full, IOERR and NOMEM make SQLite roll back by itself. Earlier writes of the group are lost, and later ones would
    // begin a transaction of their own: the group ends here, and all of it failed.
    while done.len() < GROUP && !transaction.is_autocommit() {
        match jobs.try_recv() {
            Ok(Job::Write(next)) => done.push(next(&transaction)),
            Ok(Job::Check(tell)) => checks.push(tell),
            Err(_) => break,
        }
    }
    let commit = if transaction.is_autocommit() { Err(rolled_back()) } else { transaction.commit() };
    if let Err(error) = &commit {
        tracing::error!(%error, "the ledger cannot commit");
    }
    for tell in done {
        tell(commit.as_ref().copied());
    }
    checks.into_iter().for_each(|tell| tell.send(()).unwrap_or_default());
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::NamedTempFile, Database) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::open(file.path()).unwrap();
        (file, database)
    }

    async fn run(database: &Database, sql: &'static str) -> Result<(), Fault> {
        database.write(move |transaction| Ok(transaction.execute_batch(sql)?)).await
    }

    /// Keeps the writer busy until the other end is dropped, so that all writes in the meantime share one commit.
    fn hold(database: &Database) -> (impl Future<Output = Result<(), Fault>>, std::sync::mpsc::Sender<()>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let write = database.clone();
        let held = async move {
            write
                .write(move |_| {
                    held.recv().unwrap_or_default();
                    Ok(())
                })
                .await
        };
        (held, release)
    }

    async fn names(database: &Database) -> Vec<String> {
        let names = |connection: &Connection| {
            connection.prepare("SELECT name FROM t ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
        };
        database.read(names).await.unwrap()
    }

    /// Runs three writes in one group, and returns the result of each and the stored rows.
    async fn with_a_rollback(second: &'static str) -> ([bool; 3], Vec<String>) {
        let (_file, database) = open();
        run(&database, "CREATE TABLE t (name TEXT NOT NULL)").await.unwrap();
        run(
            &database,
            "CREATE TRIGGER full BEFORE INSERT ON t WHEN new.name = 'full' BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
        )
        .await
        .unwrap();
        let (held, release) = hold(&database);
        let (_, one, two, three, ()) = tokio::join!(
            held,
            run(&database, "INSERT INTO t VALUES ('one')"),
            run(&database, second),
            run(&database, "INSERT INTO t VALUES ('three')"),
            async move { drop(release) },
        );
        ([one.is_ok(), two.is_ok(), three.is_ok()], names(&database).await)
    }

    #[tokio::test]
    async fn a_write_that_makes_sqlite_roll_back_fails_its_group_and_nothing_else() {
        for second in
            ["INSERT INTO t VALUES ('full')", "ROLLBACK", "ROLLBACK; BEGIN; INSERT INTO t VALUES ('two'); ROLLBACK"]
        {
            let (told, stored) = with_a_rollback(second).await;
            assert_eq!((told, stored), ([false, false, true], vec!["three".to_owned()]), "{second}");
        }
        let (told, stored) = with_a_rollback("INSERT INTO nothing VALUES (1)").await;
        assert_eq!((told, stored), ([true, false, true], vec!["one".to_owned(), "three".to_owned()]));
    }

    #[tokio::test]
    async fn the_writer_is_checked_behind_what_waits_for_it() {
        let (_file, database) = open();
        let (held, release) = hold(&database);
        let mut check = Box::pin(database.check_writer());
        let mut held = Box::pin(held);
        assert!(futures_util::poll!(&mut held).is_pending());
        assert!(futures_util::poll!(&mut check).is_pending(), "the writer is busy");
        drop(release);
        held.await.unwrap();
        check.await.unwrap();
        // A failed commit is reported until one succeeds.
        assert!(run(&database, "ROLLBACK").await.is_err());
        assert!(matches!(database.check_writer().await, Err(Fault::Store { .. })));
        run(&database, "SELECT 1").await.unwrap();
        database.check_writer().await.unwrap();
    }

    /// More writes and reads at once than there is room for: each has its turn.
    #[tokio::test]
    async fn a_caller_waits_for_room() {
        let (_file, database) = open();
        run(&database, "CREATE TABLE t (name TEXT NOT NULL)").await.unwrap();
        let (held, release) = hold(&database);
        let writes = (0..QUEUE + 100).map(|_| run(&database, "INSERT INTO t VALUES ('one')"));
        let writes = futures_util::future::join_all(writes);
        let (_, writes, ()) = tokio::join!(held, writes, async move { drop(release) });
        assert!(writes.iter().all(Result::is_ok));
        let count = |connection: &Connection| connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        let reads = futures_util::future::join_all((0..QUEUE + 100).map(|_| database.read::<i64>(count))).await;
        let all = i64::try_from(QUEUE + 100).unwrap();
        assert!(reads.into_iter().all(|read| read == Ok(all)));
    }

    #[tokio::test]
    async fn the_end_of_a_thread_is_noticed() {
        let (_file, database) = open();
        let mut stopped = Box::pin(database.stopped());
        assert!(futures_util::poll!(&mut stopped).is_pending());
        let panics = database.write::<(), Fault>(|_| std::panic::panic_any("a job that panics"));
        assert!(panics.await.is_err());
        stopped.await;
        assert!(database.check_writer().await.is_err());

        let (_file, database) = open();
        assert!(database.read::<()>(|_| std::panic::panic_any("a look that panics")).await.is_err());
        database.stopped().await;
    }
}
