//! The signs that the ledger was restored from an older copy, and the quarantine that follows.
//!
//! The signs are a mark beside the ledger or in this process's memory that is newer than the ledger's own; a database in
//! another place or on another timeline; and an account with more transactions than the ledger knows.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use x402_store::marks::{FoundMark, KeepMark, Mark, Quarantine};
use x402_types::Fault;
use x402_types::v2::SupportedKind;

use super::Engine;
use crate::clock::now;

/// The mark of the ledger, as this process watches it.
#[derive(Debug)]
pub(super) struct WatchedMark {
    store: Arc<dyn KeepMark>,
    beside: Option<MarkFile>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest mark that this process knows.
    last: Option<Mark>,
    quarantine: Option<Quarantine>,
}

/// The file beside the ledger that repeats its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkFile {
    path: PathBuf,
    is_required: bool,
}

impl MarkFile {
    /// Names a file that is beside the ledger for its whole life: a ledger without it was restored or moved.
    #[must_use]
    pub const fn required(path: PathBuf) -> Self {
        Self { path, is_required: true }
    }

    /// Names a file of this host: another host on the same ledger has one of its own, and a new host has none.
    #[must_use]
    pub const fn of_host(path: PathBuf) -> Self {
        Self { path, is_required: false }
    }

    /// Reads the mark. `None` without a file; an error for a file that cannot be read.
    fn read(&self) -> Result<Option<Mark>, String> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", self.path.display())),
        };
        let mark = text
            .trim_end()
            .split_once(' ')
            .and_then(|(ledger, count)| Some(Mark { ledger: ledger.to_owned(), count: count.parse().ok()? }));
        mark.map(Some).ok_or_else(|| format!("{} cannot be read", self.path.display()))
    }

    /// Replaces the file. It holds the old mark or the new one, whatever happens meanwhile.
    fn write(&self, mark: &Mark) -> std::io::Result<()> {
        let new = self.path.with_extension("mark.new");
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{} {}", mark.ledger, mark.count)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    }
}

/// Returns the sign of an older copy, if the mark of the ledger shows one beside the mark that something else remembers.
fn sign(found: Option<&FoundMark>, known: Option<&Mark>, place: &str) -> Option<String> {
    let known = known?;
    let Some(found) = found.map(|found| &found.mark) else {
        return Some(format!("the ledger is new, and {place} knows one with the mark {}", known.count));
    };
    if found.ledger != known.ledger {
        return Some(format!("the ledger is another one than {place} knows"));
    }
    let older = found.count < known.count;
    older.then(|| format!("the ledger has the mark {}, and {place} knows {}", found.count, known.count))
}

impl WatchedMark {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a sign of an older copy in the marks.
    async fn look(&self) -> Result<Option<String>, Fault> {
        let found = self.store.mark().await?;
        if found.as_ref().is_some_and(|found| found.moved) {
            return Ok(Some("the database was restored or failed over: it is in another place than before".to_owned()));
        }
        let last = self.seen().last.clone();
        if last.is_some() {
            return Ok(sign(found.as_ref(), last.as_ref(), "this process"));
        }
        let Some(file) = &self.beside else { return Ok(None) };
        let place = file.path.display().to_string();
        Ok(match file.read() {
            // The first mark of a ledger is raised before its file is written.
            Ok(None) if file.is_required && found.as_ref().is_some_and(|found| found.mark.count > 1) => {
                Some(format!("there is no file {place}, which stands beside the ledger"))
            }
            Ok(known) => sign(found.as_ref(), known.as_ref(), &place),
            Err(error) => Some(error),
        })
    }

    /// Raises the mark in the ledger, and then repeats it beside the ledger. Returns the sign of an older copy that came after
    /// the last look: the mark was not raised above the one that this process knew.
    async fn raise(&self) -> Result<Option<String>, Fault> {
        let mark = self.store.raise(&new_name()).await?;
        let known = self.seen().last.replace(mark.clone());
        let before = FoundMark { mark: Mark { count: mark.count.saturating_sub(1), ..mark.clone() }, moved: false };
        let sign = sign(Some(&before), known.as_ref(), "this process");
        if sign.is_some() {
            return Ok(sign);
        }
        let Some(file) = self.beside.clone() else { return Ok(None) };
        let place = file.path.display().to_string();
        let written = tokio::task::spawn_blocking(move || file.write(&mark)).await.map_err(Fault::broken)?;
        written.map(|()| None).map_err(|error| Fault::store(format_args!("{place}: {error}")))
    }

    /// Looks for a sign of an older copy, and raises the mark.
    async fn keep(&self) -> Result<Option<String>, Fault> {
        match self.look().await? {
            Some(why) => Ok(Some(why)),
            None => self.raise().await,
        }
    }
}

fn new_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    // `RandomState` is seeded by the operating system.
    let random = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

impl Engine {
    /// Watches the mark of the ledger in this store, and in a file beside it.
    #[must_use]
    pub fn with_mark(mut self, store: Arc<dyn KeepMark>, beside: Option<MarkFile>) -> Self {
        self.mark = Some(WatchedMark { store, beside, seen: Mutex::default() });
        self
    }

    /// Looks for signs that the ledger was restored from an older copy, before any payment is taken. If there is one, or
    /// if the ledger is in quarantine already, payments without a nonce on a chain are held back until the ledger is
    /// [released](KeepMark::release).
    ///
    /// # Errors
    /// The ledger or a node failed.
    pub async fn look_for_restore(&self) -> Result<(), Fault> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let mut why = mark.look().await?;
        if why.is_none() && !self.settlement.kinds_without_nonce().is_empty() {
            let unknown = self.settlement.unknown_transactions().await?;
            why = unknown
                .first()
                .map(|(lane, head, next)| format!("{lane} has made {head} transactions, and the ledger knows {next}"));
        }
        if let Some(why) = why {
            mark.store.quarantine(Quarantine { since: now(), why }).await?;
        }
        mark.raise().await?;
        self.note_quarantine().await
    }

    /// Raises the mark, and learns whether the quarantine has ended or begun. Returns `false` if the ledger was restored
    /// under this process: what it holds in memory is of another ledger, and it must end.
    pub(super) async fn keep_mark(&self) -> bool {
        let Some(mark) = &self.mark else { return true };
        let kept = async {
            if let Some(why) = mark.keep().await? {
                tracing::error!(%why, "the ledger was restored under this process, which ends");
                mark.store.quarantine(Quarantine { since: now(), why }).await?;
                return Ok(false);
            }
            self.note_quarantine().await?;
            Ok::<_, Fault>(true)
        };
        kept.await.unwrap_or_else(|fault| {
            tracing::warn!(%fault, "the mark of the ledger was not raised");
            true
        })
    }

    /// Reads whether the ledger is in quarantine, acts accordingly, and logs each change.
    async fn note_quarantine(&self) -> Result<(), Fault> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let found = mark.store.quarantined().await?;
        self.settlement.set_quarantine(found.is_some());
        let before = std::mem::replace(&mut mark.seen().quarantine, found.clone());
        match (&before, &found) {
            (None, Some(Quarantine { why, .. })) => {
                tracing::error!(%why, "the ledger is in quarantine until it is released");
            }
            (Some(_), None) => tracing::info!("the ledger was released from quarantine"),
            _ => {}
        }
        Ok(())
    }

    /// Returns the quarantine of the ledger as it was last read, with the kinds of payment that it holds back.
    #[must_use]
    pub fn quarantine(&self) -> Option<(Quarantine, Vec<SupportedKind>)> {
        let quarantine = self.mark.as_ref()?.seen().quarantine.clone()?;
        Some((quarantine, self.settlement.kinds_without_nonce()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(ledger: &str, count: u64) -> Mark {
        Mark { ledger: ledger.to_owned(), count }
    }

    #[test]
    fn an_older_ledger_another_and_a_new_one_are_signs() {
        let found = |ledger, count| FoundMark { mark: mark(ledger, count), moved: false };
        let known = Some(mark("a", 7));
        assert_eq!(sign(Some(&found("a", 7)), known.as_ref(), "p"), None);
        assert_eq!(sign(Some(&found("a", 8)), known.as_ref(), "p"), None, "a crash before the file was written");
        assert_eq!(sign(None, None, "p"), None, "a new ledger");
        for (ledger, says) in [
            (Some(found("a", 6)), "the ledger has the mark 6, and p knows 7"),
            (Some(found("b", 9)), "the ledger is another one than p knows"),
            (None, "the ledger is new, and p knows one with the mark 7"),
        ] {
            assert_eq!(sign(ledger.as_ref(), known.as_ref(), "p").as_deref(), Some(says));
        }
    }

    /// A store that is restored between a look and the mark that is raised after it.
    #[derive(Debug, Default)]
    struct Restored(Mutex<u64>);

    #[async_trait::async_trait]
    impl KeepMark for Restored {
        async fn mark(&self) -> Result<Option<FoundMark>, Fault> {
            let count = std::mem::take(&mut *self.0.lock().unwrap());
            Ok(Some(FoundMark { mark: mark("a", count), moved: false }))
        }

        async fn raise(&self, _: &str) -> Result<Mark, Fault> {
            let mut count = self.0.lock().unwrap();
            *count += 1;
            Ok(mark("a", *count))
        }

        async fn quarantine(&self, _: Quarantine) -> Result<(), Fault> {
            Ok(())
        }

        async fn quarantined(&self) -> Result<Option<Quarantine>, Fault> {
            Ok(None)
        }

        async fn release(&self) -> Result<Option<Quarantine>, Fault> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn a_copy_that_comes_between_look_and_raise_is_a_sign() {
        let watched = WatchedMark { store: Arc::new(Restored::default()), beside: None, seen: Mutex::default() };
        for _ in 0..2 {
            assert_eq!(watched.raise().await, Ok(None));
        }
        let sign = watched.keep().await.unwrap();
        assert_eq!(sign.as_deref(), Some("the ledger has the mark 0, and this process knows 2"));
    }

    #[test]
    fn a_file_holds_what_was_written_and_says_when_it_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = MarkFile::required(folder.path().join("ledger.sqlite.mark"));
        assert_eq!(file.read(), Ok(None));
        for count in 1..3 {
            file.write(&mark("a", count)).unwrap();
            assert_eq!(file.read(), Ok(Some(mark("a", count))));
        }
        for text in ["", "a", "a -1", "a 1 2"] {
            std::fs::write(&file.path, text).unwrap();
            assert!(file.read().unwrap_err().contains("cannot be read"), "{text:?}");
        }
    }
}
