//! The kill switch: while it is on, no new payment is claimed, and the claimed ones are finished.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use x402_types::{Claim, Fault};

use super::Engine;

/// The switch: it is on if it was turned on, or while its file exists.
#[derive(Debug, Default)]
pub(super) struct Switch {
    on: AtomicBool,
    file: Option<PathBuf>,
}

/// The reason why an engine takes no new payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// [`Engine::pause`] was called.
    ByRequest,
    /// The file of [`Engine::with_pause_file`] exists.
    ByFile,
}

impl Engine {
    /// Takes no new payments while a file exists at this path.
    #[must_use]
    pub fn with_pause_file(mut self, path: PathBuf) -> Self {
        self.switch.file = Some(path);
        self
    }

    /// Takes no new payments from here on. Those that are claimed go on, and a request for one of them is answered.
    pub fn pause(&self) {
        self.switch.on.store(true, Ordering::Release);
    }

    /// Takes new payments again, unless the file still exists.
    pub fn resume(&self) {
        self.switch.on.store(false, Ordering::Release);
    }

    /// Returns the reason why no new payments are taken, if there is one.
    #[must_use]
    pub fn paused(&self) -> Option<Paused> {
        // The file is on a local disk; a look at its name costs microseconds. A file that cannot be looked at counts as there.
        let exists = |path: &PathBuf| path.try_exists().unwrap_or(true);
        if self.switch.file.as_ref().is_some_and(exists) {
            return Some(Paused::ByFile);
        }
        self.switch.on.load(Ordering::Acquire).then_some(Paused::ByRequest)
    }

    /// Refuses a new payment while the switch is on.
    ///
    /// # Errors
    /// The switch is on and the payment has no row, or the ledger failed.
    pub(super) async fn admit_new(&self, claim: &Claim) -> Result<(), Fault> {
        if self.paused().is_none() {
            return Ok(());
        }
        match self.settlement.key(claim) {
            Ok(key) if self.settlement.payment(&key).await?.is_none() => {
                Err(Fault::unreachable("this facilitator", "it is paused and takes no new payments"))
            }
            // A claim without a key is refused by the machine, and one with a row is answered.
            _ => Ok(()),
        }
    }
}
