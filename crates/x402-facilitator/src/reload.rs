//! The reload of the configuration file while the process serves, by SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use crate::callers::{Callers, NoCallerLeft};
use crate::config::{Config, ConfigError};
use crate::engine::Engine;

/// The part of a running facilitator that follows its configuration file: the callers. Everything else takes effect at
/// the next start, which loses no payment either.
#[derive(Debug)]
pub struct Reload {
    path: PathBuf,
    config: Config,
    callers: Callers,
    engine: Arc<Engine>,
}

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The names of the callers from here on.
    pub callers: Vec<String>,
    /// Whether the file has other changes, which take effect at the next start.
    pub needs_restart: bool,
}

/// The reason why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The file is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file has no callers any more.
    #[error(transparent)]
    NoCallerLeft(#[from] NoCallerLeft),
}

impl Reload {
    /// Follows the file at a path, from which `config` was read.
    #[must_use]
    pub const fn new(path: PathBuf, config: Config, callers: Callers, engine: Arc<Engine>) -> Self {
        Self { path, config, callers, engine }
    }

    /// Reads the file again and applies it as a whole, or not at all. Payments in flight are not touched: their rows have
    /// the name of their caller, and no answer depends on the list.
    ///
    /// # Errors
    /// The file is unusable, or a token in it; the former callers stay.
    pub fn run(&mut self) -> Result<Reloaded, ReloadError> {
        let config = Config::read(&self.path)?;
        let callers = config.named_callers()?;
        let names = callers.iter().map(|caller| caller.name().to_owned()).collect();
        self.callers.replace(callers)?;
        self.engine.replace_replaying(config.replaying());
        // The representation of a configuration contains places of secrets, and no secrets.
        let rest = |config: &Config| format!("{:?}", Config { callers: Vec::new(), ..config.clone() });
        let needs_restart = rest(&config) != rest(&self.config);
        Ok(Reloaded { callers: names, needs_restart })
    }
}
