//! A facilitator under measurement: a process of its own, whose CPU time and memory are the kernel's figures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use alloy_primitives::hex;
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::anvil::{Anvil, BLOCK_SECONDS, Blocks, NETWORK};
use crate::fault::Fallible;
use crate::payments::key;
use crate::peers;
use crate::proxy::Proxy;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Implementation {
    /// Ours at commit 17f55ea.
    Before,
    /// Ours of this working tree.
    This,
    X402Rs,
    /// x402-rs whose node client polls at the interval of blocks instead of every 7 s.
    X402RsPolled,
    R402,
}

pub const ALL: [Implementation; 5] = [
    Implementation::Before,
    Implementation::This,
    Implementation::X402Rs,
    Implementation::X402RsPolled,
    Implementation::R402,
];

/// The node client's own interval for a node on the same machine, where blocks are made for each transaction.
const POLL_WITHOUT_INTERVAL: Duration = Duration::from_millis(250);

impl Implementation {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "17f55ea",
            Self::This => "this build",
            Self::X402Rs => "x402-rs 2.0.2",
            Self::X402RsPolled => "x402-rs, polled",
            Self::R402 => "r402 0.21.0",
        }
    }

    /// The word by which the command line names it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::This => "this",
            Self::X402Rs => "x402-rs",
            Self::X402RsPolled => "polled",
            Self::R402 => "r402",
        }
    }
}

/// The binaries of ours.
pub struct Binaries {
    pub before: Option<PathBuf>,
    pub this: Option<PathBuf>,
    /// A line of TOML for the network of this tree's configuration: 17f55ea does not know its key.
    pub network: String,
}

/// How a facilitator is set up.
pub struct SetUp<'a> {
    pub implementation: Implementation,
    /// Names the signers and the folder: used once in a run.
    pub name: &'a str,
    pub signers: usize,
    pub round_trip: Duration,
    pub blocks: Blocks,
    /// Further lines of TOML, behind the network of this tree's configuration.
    pub further: &'static str,
    /// How long `/settle` of ours waits for the chain, if not for the default time.
    pub wait_seconds: Option<u64>,
}

/// A running facilitator with the proxy before its node. It is killed when it is dropped.
pub struct Facilitator {
    pub address: SocketAddr,
    pub proxy: Proxy,
    process: Child,
    pid: Pid,
    folder: PathBuf,
    keys: Vec<String>,
}

impl Facilitator {
    /// Starts it with fresh, funded signers and, if it is ours, a fresh ledger on disk.
    pub async fn start(set_up: &SetUp<'_>, binaries: &Binaries, anvil: &Anvil, work: &Path) -> Fallible<Self> {
        let proxy = Proxy::start(anvil.rpc.url(), set_up.round_trip).await?;
        let folder = work.join("runs").join(set_up.name.replace(' ', "-"));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder)?;
        let mut keys = Vec::new();
        for index in 0..set_up.signers {
            let signer = key(&format!("signer {index} of {}", set_up.name));
            anvil.fund(signer.address()).await?;
            keys.push(hex::encode_prefixed(signer.to_bytes()));
        }
        Self::spawn(set_up, binaries, proxy, folder, keys).await
    }

    /// Kills it and starts it again, with the same ledger and signers.
    pub async fn kill_and_start(mut self, set_up: &SetUp<'_>, binaries: &Binaries) -> Fallible<Self> {
        self.process.kill().await?;
        Self::spawn(set_up, binaries, self.proxy, self.folder, self.keys).await
    }

    async fn spawn(
        set_up: &SetUp<'_>,
        binaries: &Binaries,
        proxy: Proxy,
        folder: PathBuf,
        keys: Vec<String>,
    ) -> Fallible<Self> {
        let ours = |binary: Option<&PathBuf>, network: &str| {
            write_config(&folder, keys.len(), network, set_up.wait_seconds)?;
            ours(binary, &folder, &keys, &proxy.url)
        };
        let mut command = match set_up.implementation {
            Implementation::Before => ours(binaries.before.as_ref(), "")?,
            Implementation::This => ours(binaries.this.as_ref(), &format!("{}\n{}", binaries.network, set_up.further))?,
            Implementation::X402Rs | Implementation::X402RsPolled => peer("x402-rs", &keys, &proxy.url)?,
            Implementation::R402 => peer("r402", &keys, &proxy.url)?,
        };
        if set_up.implementation == Implementation::X402RsPolled {
            let interval = match set_up.blocks {
                Blocks::Timed => Duration::from_secs(BLOCK_SECONDS),
                Blocks::Each | Blocks::Halted => POLL_WITHOUT_INTERVAL,
            };
            command.env(peers::POLL, interval.as_millis().to_string());
        }
        let stderr = folder.join("stderr");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr)?)
            .kill_on_drop(true)
            .spawn()?;
        let pid = Pid::from_raw(i32::try_from(process.id().ok_or("it has ended")?)?);
        let mut lines = BufReader::new(process.stdout.take().ok_or("its output is piped")?).lines();
        let first = tokio::time::timeout(Duration::from_secs(30), lines.next_line());
        let first = first.await.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let address = serde_json::from_str::<serde_json::Value>(&first).ok();
        let address = address.as_ref().and_then(|line| line["listening"].as_str()?.strip_prefix("http://"));
        let Some(address) = address else {
            let said = std::fs::read_to_string(&stderr).unwrap_or_default();
            return Err(format!("{} does not listen: {first} {said}", set_up.implementation.name()).into());
        };
        Ok(Self { address: address.parse()?, proxy, process, pid, folder, keys })
    }

    /// The CPU time of the whole process until now, ended threads included.
    pub fn cpu(&self) -> Fallible<Duration> {
        Ok(Duration::from(clock_getcpuclockid(self.pid)?.now()?))
    }

    /// The most memory that was resident, in MiB.
    pub fn peak_memory(&self) -> Fallible<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1_024.0)
    }

    /// CPU seconds by thread name, for whoever looks for where the time goes.
    pub fn threads(&self) -> Vec<(String, f64)> {
        let mut by_name = std::collections::BTreeMap::<String, f64>::new();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        for task in tasks {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let spent = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanoseconds: f64 = spent.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
            *by_name.entry(name.trim().to_owned()).or_default() += nanoseconds / 1e9;
        }
        by_name.into_iter().collect()
    }

    /// Stops it, by force if it takes long.
    pub async fn stop(mut self) -> Fallible<()> {
        drop(self.process.stdin.take());
        kill(self.pid, Signal::SIGTERM)?;
        if tokio::time::timeout(Duration::from_secs(5), self.process.wait()).await.is_err() {
            self.process.kill().await?;
        }
        Ok(())
    }
}

const CONFIG: &str = "config.toml";

fn write_config(folder: &Path, signers: usize, network: &str, wait_seconds: Option<u64>) -> Fallible<()> {
    let signers: Vec<_> = (0..signers).map(|index| format!("{{ env = \"SIGNER_{index}\" }}")).collect();
    let wait = wait_seconds.map_or_else(String::new, |seconds| format!("settle_wait_seconds = {seconds}"));
    let text = format!(
        r#"listen = "127.0.0.1:0"
ledger = {ledger:?}
{wait}

[[network]]
id = "{NETWORK}"
rpc = {{ env = "{rpc}" }}
finality = 0
max_fee_per_gas = 100000000000
signers = [{signers}]
{network}
"#,
        ledger = folder.join("ledger.sqlite"),
        rpc = peers::RPC,
        signers = signers.join(", "),
    );
    Ok(std::fs::write(folder.join(CONFIG), text)?)
}

fn ours(binary: Option<&PathBuf>, folder: &Path, keys: &[String], rpc: &str) -> Fallible<Command> {
    let mut command = Command::new(binary.ok_or("this binary was not built")?);
    for (index, key) in keys.iter().enumerate() {
        command.env(format!("SIGNER_{index}"), key);
    }
    command.args(["serve", "--config"]).arg(folder.join(CONFIG)).env(peers::RPC, rpc);
    Ok(command)
}

fn peer(name: &str, keys: &[String], rpc: &str) -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["peer", name]).env(peers::RPC, rpc).env(peers::SIGNERS, keys.join(","));
    Ok(command)
}
