//! The facilitator as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use x402_devchain::ACCOUNTS;

/// The account that signs operations of session keys, where plans are configured.
pub(crate) const SESSION: usize = 3;

/// The accounts that send, where several do.
pub(crate) const SIGNERS: [usize; 4] = [0, 6, 7, 8];

/// The facilitator's process. Ends with the test.
pub(crate) struct Facilitator {
    pub(crate) child: Child,
    pub(crate) url: String,
    /// The line that it printed.
    pub(crate) line: Value,
}

impl Facilitator {
    pub(crate) fn start(config: &Path, rpc: &str) -> Self {
        Self::spawn(Self::command(config, rpc).env("RUST_LOG", "error"))
    }

    /// The same, with the log that an operator sees in a file.
    pub(crate) fn start_logging(config: &Path, rpc: &str, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self::spawn(Self::command(config, rpc).env_remove("RUST_LOG").stderr(log))
    }

    /// The same, with further variables in its environment.
    pub(crate) fn start_with(config: &Path, rpc: &str, log: &Path, environment: &[(&str, &str)]) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Self::command(config, rpc);
        Self::spawn(command.envs(environment.iter().copied()).env_remove("RUST_LOG").stderr(log))
    }

    /// Starts with the `facilitator.toml` of a folder.
    pub(crate) fn start_in(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"));
        command.current_dir(folder).arg("serve").env("RUST_LOG", "error");
        Self::spawn(&mut command)
    }

    fn command(config: &Path, rpc: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"));
        command
            .args(["serve", "--config"])
            .arg(config)
            .env("TEST_RPC", rpc)
            .env("TEST_KEY", ACCOUNTS[0].key.to_string())
            .env("TEST_SESSION", ACCOUNTS[SESSION].key.to_string());
        for signer in SIGNERS {
            command.env(format!("TEST_KEY_{signer}"), ACCOUNTS[signer].key.to_string());
        }
        command
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::try_spawn(command).expect("a process that listens")
    }

    /// Starts it as a service manager does, again where it ended before it listened: its database may be too busy to answer.
    #[allow(dead_code, reason = "each test uses its part")]
    pub(crate) fn restart(config: &Path, rpc: &str) -> Self {
        let started = || Self::try_spawn(Self::command(config, rpc).env("RUST_LOG", "error"));
        (0..10).find_map(|_| started()).expect("a process that listens, at one of ten starts")
    }

    fn try_spawn(command: &mut Command) -> Option<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return None;
        }
        let line: Value = serde_json::from_str(&line).unwrap();
        Some(Self { url: line["listening"].as_str().unwrap().to_owned(), child, line })
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name and does not wait.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Facilitator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A configuration for a chain that the test has.
pub(crate) fn configuration(directory: &Path, ledger: &Path) -> PathBuf {
    let path = directory.join("facilitator.toml");
    let text = format!(
        r#"
            listen = "127.0.0.1:0"
            ledger = "{}"
            lease_seconds = 5
            [[network]]
            id = "eip155:84532"
            rpc = {{ env = "TEST_RPC" }}
            finality = 0
            poll_milliseconds = 20
            max_fee_per_gas = 100000000000
            signers = [{{ env = "TEST_KEY" }}]
        "#,
        ledger.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}
