//! The first configuration: a commented file, and the secrets that it names, in files of their own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, hex};
use x402_evm::key::Key;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

use crate::config::BearerHash;

/// The choices of a first configuration.
#[derive(Debug, Clone)]
pub struct FirstConfig {
    /// The folder, which is created if it does not exist.
    pub folder: PathBuf,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The network to serve.
    pub network: ChainId,
    /// The node's URL, a secret. Without it the environment variable `X402_RPC` is named.
    pub rpc: Option<Zeroizing<String>>,
    /// The number of blocks behind the head at which a block is final.
    pub finality: u64,
}

/// The files of a first configuration, and the account that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstFiles {
    /// The path of the configuration file.
    pub config: PathBuf,
    /// The account of the new signer, which pays for gas and has no funds yet.
    pub signer: Address,
    /// The path of the file with the first caller's token.
    pub token: PathBuf,
}

/// The reason why nothing, or not everything, was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct InitError {
    /// The path that could not be written.
    pub path: String,
    /// The operating system's message.
    pub detail: String,
}

impl FirstConfig {
    /// Writes `facilitator.toml` and the folder `secrets` with a new signer's key and a new caller's token. Nothing that
    /// exists is overwritten.
    ///
    /// # Errors
    /// A file exists already or cannot be written.
    pub fn run(&self) -> Result<FirstFiles, InitError> {
        let secrets = self.folder.join("secrets");
        let config = self.folder.join("facilitator.toml");
        // A second run must not make a second key.
        if config.exists() {
            return Err(failed(&config, "it exists already; nothing was changed"));
        }
        fs::create_dir_all(&secrets).map_err(|error| failed(&secrets, error))?;
        let (key, signer) = new_key().map_err(|fault| failed(&secrets, fault))?;
        let token = random().map_err(|fault| failed(&secrets, fault))?;
        let token = Zeroizing::new(hex::encode(*token));
        secret(&secrets.join("signer"), &key)?;
        let token_path = secrets.join("shop-token");
        secret(&token_path, &token)?;
        let rpc = match &self.rpc {
            Some(url) => {
                secret(&secrets.join("rpc"), url)?;
                "{ file = \"secrets/rpc\" }"
            }
            None => "{ env = \"X402_RPC\" }",
        };
        let text = self.text(rpc, &BearerHash::of(&token));
        write(&config, text.as_bytes(), 0o644)?;
        Ok(FirstFiles { config, signer, token: token_path })
    }

    fn text(&self, rpc: &str, token: &BearerHash) -> String {
        format!(
            "# x402-facilitator: docs/operations.md describes every key. Paths are relative to the folder in which it is started.\n\
             listen = \"{listen}\"\n\
             ledger = \"ledger.sqlite\"\n\
             \n\
             # A resource server that may call. Its token is in secrets/shop-token: move it there, and keep only this hash.\n\
             [[caller]]\n\
             name = \"shop\"\n\
             token_sha256 = \"{token}\"\n\
             \n\
             [[network]]\n\
             id = \"{network}\"\n\
             rpc = {rpc}\n\
             # Blocks behind the head at which a block is final; 0 trusts the head.\n\
             finality = {finality}\n\
             # Wei for one unit of gas, at most.\n\
             max_fee_per_gas = 2000000000\n\
             # The account that pays for gas. It has a new key: send it some of the network's coin.\n\
             signers = [{{ file = \"secrets/signer\" }}]\n",
            listen = self.listen,
            network = self.network,
            finality = self.finality,
        )
    }
}

fn new_key() -> Result<(Zeroizing<String>, Address), Fault> {
    // Nearly every number of 32 bytes is a key: the second is never needed in practice.
    for _ in 0..8 {
        let bytes = random()?;
        if let Ok(key) = Key::from_bytes(&bytes) {
            return Ok((Zeroizing::new(hex::encode(*bytes)), key.address()));
        }
    }
    Err(Fault::broken("the system's random numbers are no keys"))
}

fn random() -> Result<Zeroizing<[u8; 32]>, Fault> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(Fault::broken)?;
    Ok(bytes)
}

fn secret(path: &Path, text: &str) -> Result<(), InitError> {
    write(path, text.as_bytes(), 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InitError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.write_all(if bytes.ends_with(b"\n") { b"" } else { b"\n" })
    });
    written.map_err(|error: io::Error| failed(path, error))
}

fn failed(path: &Path, detail: impl std::fmt::Display) -> InitError {
    InitError { path: path.display().to_string(), detail: detail.to_string() }
}
