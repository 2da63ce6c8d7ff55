//! `x402 keys`: private keys.

pub(crate) mod keystore;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use x402_evm::key::Key;
use zeroize::Zeroizing;

/// The environment variable that holds the key.
const KEY: &str = "X402_PRIVATE_KEY";

/// The source of the key of a payer: the environment, a file, or an encrypted file. An argument would show it to other users
/// of the machine.
#[derive(Debug, clap::Args)]
pub(crate) struct KeySource {
    /// A file with the private key.
    #[arg(long, value_name = "PATH", conflicts_with = "keystore")]
    key_file: Option<PathBuf>,
    /// An encrypted file with the private key (Web3 Secret Storage), as `x402 wallet new`, foundry and geth write it.
    #[arg(long, value_name = "PATH", requires = "password_file")]
    keystore: Option<PathBuf>,
    /// The file with the password of the keystore.
    #[arg(long, value_name = "PATH", requires = "keystore")]
    password_file: Option<PathBuf>,
}

impl KeySource {
    /// Reads the key.
    pub(crate) fn read(&self) -> Result<Key, String> {
        if let (Some(path), Some(password)) = (&self.keystore, &self.password_file) {
            return keystore::open(path, &secret(password)?);
        }
        let text = match &self.key_file {
            Some(path) => secret(path)?,
            None => {
                let text = std::env::var(KEY);
                Zeroizing::new(text.map_err(|_| format!("{KEY} is not set; set it or give --key-file or --keystore"))?)
            }
        };
        // The parser's message for a malformed key is not repeated: it may quote the key.
        text.trim().parse().map_err(|_| "the private key: expected `0x` and 64 hex digits".to_owned())
    }
}

/// Generates a key.
pub(crate) fn generate() -> Result<(Zeroizing<[u8; 32]>, Key), String> {
    let mut secret = Zeroizing::new([0u8; 32]);
    loop {
        getrandom::fill(secret.as_mut_slice()).map_err(|error| format!("no randomness: {error}"))?;
        // This fails for 0 and for numbers beyond the group's order: once in 2^127.
        if let Ok(key) = Key::from_bytes(&secret) {
            return Ok((secret, key));
        }
    }
}

/// Creates a file that only its owner can read. It must not exist.
fn new_file(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads a file that holds a secret, without the line's end.
pub(crate) fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Generates private keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Generates a key and prints its address. The key is written to a file that only its owner can read, or to
    /// standard output.
    New {
        /// The file; it must not exist.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

pub(crate) fn run(args: Keys) -> ExitCode {
    let Keys::New { out } = args;
    let (secret, key) = match generate() {
        Ok(made) => made,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let text = Zeroizing::new(alloy_primitives::hex::encode_prefixed(secret.as_slice()));
    let address = key.address();
    let written = match out {
        Some(path) => {
            let written = new_file(&path).and_then(|mut file| writeln!(file, "{}", *text));
            written.and_then(|()| writeln!(std::io::stdout(), "{address}"))
        }
        None => writeln!(std::io::stdout(), "address {address}\nkey     {}", *text),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
