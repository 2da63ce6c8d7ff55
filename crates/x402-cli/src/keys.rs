//! `x402 keys`: private keys.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use x402_evm::key::Key;
use zeroize::Zeroizing;

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
    let mut secret = Zeroizing::new([0u8; 32]);
    let key = loop {
        if let Err(error) = getrandom::fill(secret.as_mut_slice()) {
            eprintln!("no randomness: {error}");
            return ExitCode::from(2);
        }
        // This fails for 0 and for numbers beyond the group's order: once in 2^127.
        if let Ok(key) = Key::from_bytes(&secret) {
            break key;
        }
    };
    let text = Zeroizing::new(alloy_primitives::hex::encode_prefixed(secret.as_slice()));
    let address = key.address();
    let written = match out {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let written = options.open(&path).and_then(|mut file| writeln!(file, "{}", *text));
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
