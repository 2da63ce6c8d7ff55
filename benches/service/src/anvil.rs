//! The one node of a run: anvil from npm, at the version and with the checksum of `interop/package-lock.json`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use alloy_primitives::{Address, address};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::fault::Fallible;
use crate::payments::payers;
use crate::rpc::Rpc;

pub const CHAIN_ID: u64 = 84_532;
pub const NETWORK: &str = "eip155:84532";
/// The address of Base Sepolia's USDC, which every implementation knows.
pub const TOKEN: Address = address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e");
/// The gas of one block: room for more than 3,000 transfers.
pub const BLOCK_GAS: u64 = 200_000_000;
/// The interval of blocks where they are not made for each transaction.
pub const BLOCK_SECONDS: u64 = 2;

/// The contract that makes the calls of a batch.
const MULTICALL3: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");

const PACKAGE: &str = "@foundry-rs/anvil-linux-amd64";

/// Contracts whose code x402-rs asks for at start; no payment here calls them.
const ASKED_FOR: [Address; 3] = [
    x402_chain_eip155::v1_eip155_exact::VALIDATOR_ADDRESS,
    x402_chain_eip155::chain::permit2::PERMIT2_ADDRESS,
    x402_chain_eip155::chain::permit2::EXACT_PERMIT2_PROXY_ADDRESS,
];

/// When the node makes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// One for each transaction.
    Each,
    /// One every [`BLOCK_SECONDS`].
    Timed,
    /// None.
    Halted,
}

/// The running node.
pub struct Anvil {
    pub rpc: Rpc,
    _process: Child,
}

impl Anvil {
    /// Starts the node, with the token at its address and tokens for every payer.
    pub async fn start(repository: &Path, work: &Path) -> Fallible<Self> {
        let binary = match std::env::var_os("ANVIL") {
            Some(binary) => PathBuf::from(binary),
            None => install(repository, work).await?,
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(&binary)
            .args(["--quiet", "--hardfork", "prague", "--host", "127.0.0.1", "--no-request-size-limit"])
            .args(["--chain-id", &CHAIN_ID.to_string(), "--port", &port.to_string()])
            .args(["--gas-limit", &BLOCK_GAS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(work.join("anvil.stderr"))?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let rpc = Rpc::new(format!("http://127.0.0.1:{port}"));
        let mut waited = 0;
        while rpc.head().await.is_err() {
            waited += 1;
            if waited > 100 {
                return Err("anvil does not answer after 10 s".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let anvil = Self { rpc, _process: process };
        anvil.set_up(repository).await?;
        Ok(anvil)
    }

    async fn set_up(&self, repository: &Path) -> Fallible<()> {
        let artifact = repository.join("crates/x402-devchain/contracts/artifacts/DevUsdc.json");
        let artifact: Value = serde_json::from_slice(&std::fs::read(artifact)?)?;
        self.rpc.call("anvil_setCode", json!([TOKEN, artifact["deployedBytecode"]])).await?;
        let multicall = std::fs::read(repository.join("crates/x402-devchain/contracts/third-party/Multicall3.bin"))?;
        // The init code returns the contract's.
        let init = alloy_primitives::hex::encode_prefixed(multicall);
        let code = self.rpc.call("eth_call", json!([{ "data": init }, "latest"])).await?;
        self.rpc.call("anvil_setCode", json!([MULTICALL3, code])).await?;
        for contract in ASKED_FOR {
            self.rpc.call("anvil_setCode", json!([contract, "0xfe"])).await?;
        }
        let account = self.rpc.call("eth_accounts", json!([])).await?[0].clone();
        for payer in payers() {
            // mint(address,uint256)
            let data = format!("0x40c10f19{:0>64}{:064x}", hex(payer.address()), 1_000_000_000_000_u64);
            self.rpc.call("eth_sendTransaction", json!([{ "from": account, "to": TOKEN, "data": data }])).await?;
        }
        Ok(())
    }

    /// Sets when blocks are made.
    pub async fn make_blocks(&self, blocks: Blocks) -> Fallible<()> {
        let seconds = if blocks == Blocks::Timed { BLOCK_SECONDS } else { 0 };
        self.rpc.call("evm_setIntervalMining", json!([seconds])).await?;
        self.rpc.call("evm_setAutomine", json!([blocks == Blocks::Each])).await?;
        if blocks == Blocks::Timed {
            self.rpc.call("evm_setIntervalMining", json!([seconds])).await?;
        }
        Ok(())
    }

    /// Gives an account gas for all its transactions.
    pub async fn fund(&self, account: Address) -> Fallible<()> {
        self.rpc.call("anvil_setBalance", json!([account, "0x21e19e0c9bab2400000"])).await?;
        Ok(())
    }

    /// Returns once a block has just been made.
    pub async fn next_block(&self) -> Fallible<()> {
        let before = self.rpc.head().await?;
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.rpc.head().await? > before {
                return Ok(());
            }
        }
        Err("no block within 10 s".into())
    }
}

fn hex(account: Address) -> String {
    account.to_string().trim_start_matches("0x").to_lowercase()
}

/// Installs the one package, from the lock file's own entry.
async fn install(repository: &Path, work: &Path) -> Fallible<PathBuf> {
    let lock: Value = serde_json::from_slice(&std::fs::read(repository.join("interop/package-lock.json"))?)?;
    let place = format!("node_modules/{PACKAGE}");
    let entry = &lock["packages"][&place];
    let version = entry["version"].as_str().ok_or("interop/package-lock.json has no anvil")?;
    let folder = work.join(format!("anvil-{version}"));
    let binary = folder.join(&place).join("bin/anvil");
    if binary.exists() {
        return Ok(binary);
    }
    std::fs::create_dir_all(&folder)?;
    let root = json!({ "name": "anvil", "version": "0.0.0", "dependencies": { PACKAGE: version } });
    let locked = json!({ "name": "anvil", "version": "0.0.0", "lockfileVersion": 3, "requires": true,
        "packages": { "": root, place.as_str(): entry } });
    std::fs::write(folder.join("package.json"), serde_json::to_vec(&root)?)?;
    std::fs::write(folder.join("package-lock.json"), serde_json::to_vec(&locked)?)?;
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-fund", "--no-audit"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| format!("npm: {error}; set ANVIL to a binary of anvil {version}"))?;
    if !status.success() || !binary.exists() {
        return Err(format!("npm did not install {PACKAGE} {version}; set ANVIL to a binary of anvil {version}").into());
    }
    Ok(binary)
}
