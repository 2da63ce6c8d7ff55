//! The reload of the configuration file while the process serves, by SIGHUP.

use std::path::PathBuf;
use std::sync::Arc;

use x402_types::ChainId;

use crate::callers::{Callers, NoCallerLeft};
use crate::config::{Config, ConfigError, NetworkConfig};
use crate::configured::{ServedAssets, assets};
use crate::engine::Engine;
use crate::mechanisms::AssetsKept;

/// The part of a running facilitator that follows its configuration file: the callers, and the tokens of the networks.
/// Everything else takes effect at the next start, which loses no payment either.
#[derive(Debug)]
pub struct Reload {
    path: PathBuf,
    config: Config,
    callers: Callers,
    engine: Arc<Engine>,
    assets: ServedAssets,
}

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The names of the callers from here on.
    pub callers: Vec<String>,
    /// The number of tokens that are served from here on, by network, where they follow the file.
    pub assets: Vec<(ChainId, usize)>,
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
    /// A token of the file cannot be served.
    #[error(transparent)]
    AssetsKept(#[from] AssetsKept),
}

impl Reload {
    /// Follows the file at a path, from which `config` was read.
    #[must_use]
    pub const fn new(path: PathBuf, config: Config, callers: Callers, engine: Arc<Engine>) -> Self {
        Self { path, config, callers, engine, assets: ServedAssets(Vec::new()) }
    }

    /// Follows the tokens of these networks, too.
    #[must_use]
    pub fn with_assets(mut self, assets: ServedAssets) -> Self {
        self.assets = assets;
        self
    }

    /// Reads the file again and applies it as a whole, or not at all. Payments in flight are not touched: their rows have
    /// the name of their caller, and a token that is not served any more finishes those that it has.
    ///
    /// # Errors
    /// The file is unusable, or a secret or token in it; the former callers and tokens stay.
    pub async fn run(&mut self) -> Result<Reloaded, ReloadError> {
        let config = Config::read(&self.path)?;
        let callers = config.named_callers()?;
        let names = callers.iter().map(|caller| caller.name().to_owned()).collect();
        let mut lists = Vec::new();
        for network in &config.networks {
            let Some(served) = self.assets.0.iter().find(|served| served.network() == network.id) else { continue };
            let list = assets(network)?;
            served.check(&list).await?;
            lists.push((network.id, list));
        }
        self.callers.replace(callers)?;
        self.engine.replace_replaying(config.replaying());
        for (network, list) in &lists {
            if let Some(served) = self.assets.0.iter_mut().find(|served| served.network() == *network) {
                served.replace(list);
                self.engine.replace_assets(*network, list);
            }
        }
        let assets = lists.iter().map(|(network, list)| (*network, list.iter().count())).collect();
        Ok(Reloaded { callers: names, assets, needs_restart: self.rest(&config) != self.rest(&self.config) })
    }

    /// Returns a representation of all that is not followed. It contains places of secrets, and no secrets.
    fn rest(&self, config: &Config) -> String {
        let mut rest = Config { callers: Vec::new(), ..config.clone() };
        let follows = |network: &NetworkConfig| self.assets.0.iter().any(|served| served.network() == network.id);
        for network in rest.networks.iter_mut().filter(|network| follows(network)) {
            network.assets.clear();
            network.default_assets = true;
        }
        format!("{rest:?}")
    }
}
