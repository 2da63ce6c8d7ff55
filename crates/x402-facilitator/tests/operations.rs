//! Every command of docs/operations.md is run, in its order and in one folder, on a facilitator with a chain behind it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::{Address, U256};
use serde_json::Value;
use x402_devchain::{DevChain, MiningMode};

use crate::support::{body, signed, terms, tls};

/// Installs the programs of the manual that this machine lacks.
fn have_tools() {
    let lacking = || {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let lacks = |name: &&str| !std::env::split_paths(&paths).any(|folder| folder.join(name).is_file());
        ["curl", "openssl", "sqlite3"].into_iter().filter(lacks).collect::<Vec<_>>()
    };
    if lacking().is_empty() {
        return;
    }
    let install =
        Command::new("apt-get").args(["install", "--yes", "--no-install-recommends"]).args(lacking()).status();
    assert!(lacking().is_empty(), "docs/operations.md needs {:?}; apt-get: {install:?}", lacking());
}

/// A block of commands, with the title above it.
#[derive(Debug)]
struct Block {
    title: String,
    commands: Vec<String>,
}

/// Reads the blocks whose lines are a prompt and a command.
fn blocks(text: &str) -> Vec<Block> {
    let (mut title, mut blocks, mut open) = (String::new(), Vec::new(), None);
    for line in text.lines() {
        match (&mut open, line) {
            (None, "```console") => open = Some(Block { title: title.clone(), commands: Vec::new() }),
            (None, line) if line.starts_with('#') => title = line.trim_start_matches(['#', ' ']).to_owned(),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {line}"));
                block.commands.push(command.to_owned());
            }
            _ => {}
        }
    }
    blocks
}

/// The folder in which the commands run, and the process that they start.
struct Folder {
    path: tempfile::TempDir,
    /// What the manual writes, and what stands for it here.
    replaced: Vec<(&'static str, String)>,
}

impl Folder {
    fn run(&self, block: &Block) -> String {
        let script = block.commands.join("\n");
        let script = self.replaced.iter().fold(script, |script, (from, to)| script.replace(from, to));
        let binaries = Path::new(env!("CARGO_BIN_EXE_x402-facilitator")).parent().unwrap();
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(self.path.path()).env("PATH", path);
        let output = command.env("RUST_LOG", "warn").output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{}: {script}\n{out}\n{error}\n{}", block.title, self.log());
        out
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.path.path().join("pid")) {
            drop(Command::new("kill").args(["-KILL", pid.trim()]).output());
        }
    }
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The accounts that `init` printed.
fn accounts(output: &str) -> impl Iterator<Item = Address> {
    let line = |line: &str| serde_json::from_str::<Value>(line).ok()?["signer"].as_str()?.parse().ok();
    output.lines().filter_map(line).collect::<Vec<_>>().into_iter()
}

/// Pays at the facilitator, while the chain makes blocks.
async fn pays(url: &str, token: &Path, chain: &DevChain) {
    let terms = terms();
    let body = body(&terms, &signed(1, &terms, chain.time()).await).to_string();
    let token = fs::read_to_string(token).unwrap();
    let request = reqwest::Client::new().post(format!("http://{url}/settle")).bearer_auth(token.trim());
    let request = request.header("content-type", "application/json").body(body);
    let answer = tokio::spawn(async move {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    while !answer.is_finished() {
        chain.mine(1);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, text) = answer.await.unwrap();
    assert!(status == 200 && text.contains("\"success\":true"), "{status}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_manual_works() {
    tls();
    have_tools();
    let manual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let blocks = blocks(&fs::read_to_string(manual).unwrap());
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let (callers, admin) = (free(), free());
    let replaced = vec![
        ("127.0.0.1:4020", callers.clone()),
        ("127.0.0.1:4021", admin),
        ("https://sepolia.base.org", node.url.clone()),
    ];
    let folder = Folder { path: tempfile::tempdir().unwrap(), replaced };
    let mut paid = 0;
    for block in &blocks {
        let output = folder.run(block);
        for account in accounts(&output) {
            chain.set_ether_of(account, U256::from(10_u64.pow(18)));
        }
        // A payment after each start, with the token that is valid then.
        if block.commands.iter().any(|command| command.contains("serve >")) {
            let tokens = ["new-token", "shop-token"].map(|name| folder.path.path().join("secrets").join(name));
            pays(&callers, tokens.iter().find(|path| path.exists()).unwrap(), &chain).await;
            paid += 1;
            assert_eq!(chain.transfers().len(), paid, "{}", block.title);
        }
    }
    let titles: Vec<&str> = blocks.iter().map(|block| block.title.as_str()).collect();
    for task in [
        "Install",
        "Look",
        "Back up",
        "Rotate a caller's token",
        "Drain",
        "Upgrade",
        "Restore a copy",
        "Rotate a signer",
    ] {
        assert!(titles.contains(&task), "{task}: {titles:?}");
    }
    assert!(paid >= 4, "{paid}");
}
