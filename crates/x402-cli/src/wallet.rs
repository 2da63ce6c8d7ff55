//! `x402 wallet`: the account of a payer: a key in an encrypted file, its address, and what it holds.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_primitives::{Address, Bytes, U64, U256};
use alloy_rpc_client::RpcClient;
use serde_json::{Value, json};
use x402_types::{Asset, Assets, ChainId, networks};

use crate::keys::{self, KeySource, keystore};
use crate::node;
use crate::units::units;

/// The account of a payer.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Wallet {
    /// Generates a key, writes it to an encrypted file, and prints its address.
    New {
        /// The file; it must not exist.
        #[arg(long, value_name = "PATH")]
        keystore: PathBuf,
        /// The file with the password.
        #[arg(long, value_name = "PATH")]
        password_file: PathBuf,
    },
    /// Prints the address of a key.
    Address(KeySource),
    /// Prints what an account holds: the network's own currency and the known tokens.
    Balances(Balances),
}

/// Prints what an account holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Balances {
    #[command(flatten)]
    key: KeySource,
    /// The account, instead of that of a key.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Address>,
    /// The node of a network. The option may be repeated.
    #[arg(long, value_name = "URL", required = true)]
    rpc: Vec<String>,
    /// Prints one JSON object for each network.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(wallet: Wallet) -> ExitCode {
    let done = match wallet {
        Wallet::New { keystore, password_file } => create(&keystore, &password_file),
        Wallet::Address(key) => key.read().map(|key| key.address().to_string()),
        Wallet::Balances(args) => balances(args).await,
    };
    let written = done.and_then(|text| writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn create(path: &std::path::Path, password: &std::path::Path) -> Result<String, String> {
    let password = keys::secret(password)?;
    if password.is_empty() {
        return Err("--password-file: the file is empty".to_owned());
    }
    let (secret, key) = keys::generate()?;
    keystore::write(path, &secret, &password)?;
    Ok(key.address().to_string())
}

/// The money of an account on one network.
struct Holdings {
    network: ChainId,
    native: U256,
    tokens: Vec<(Asset, U256)>,
}

async fn balances(args: Balances) -> Result<String, String> {
    let account = match args.address {
        Some(address) => address,
        None => args.key.read()?.address(),
    };
    let mut networks = Vec::new();
    for url in &args.rpc {
        networks.push(held(&node::client(url)?, account).await.map_err(|error| format!("{url}: {error}"))?);
    }
    let write = |held: &Holdings| if args.json { json(account, held).to_string() } else { text(held) };
    Ok(networks.iter().map(write).collect::<Vec<_>>().join("\n"))
}

async fn held(client: &RpcClient, account: Address) -> Result<Holdings, String> {
    let id: U64 = client.request_noparams("eth_chainId").await.map_err(|error| error.to_string())?;
    let native = client.request("eth_getBalance", (account, "latest")).await.map_err(|error| error.to_string())?;
    let network = ChainId::eip155(id.to());
    let mut tokens = Vec::new();
    for asset in Assets::default().iter().filter(|asset| asset.network == network) {
        let address: Address = asset.address.parse().map_err(|_| format!("{} is no address", asset.address))?;
        let call = json!({ "to": address, "data": balance_of(account) });
        let answer: Bytes = client.request("eth_call", (call, "latest")).await.map_err(|error| error.to_string())?;
        // A network may lack the contract, as a fork does: then it answers with nothing.
        if let Some(word) = answer.as_array::<32>() {
            tokens.push((asset.clone(), U256::from_be_bytes(*word)));
        }
    }
    Ok(Holdings { network, native, tokens })
}

/// Returns the calldata of `balanceOf(address)`.
fn balance_of(account: Address) -> Bytes {
    const SELECTOR: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];
    [&SELECTOR[..], account.into_word().as_slice()].concat().into()
}

fn json(account: Address, held: &Holdings) -> Value {
    let tokens = held.tokens.iter().map(|(asset, amount)| {
        json!({ "symbol": asset.symbol, "asset": asset.address, "amount": amount.to_string(),
            "units": units(*amount, asset.decimals) })
    });
    json!({ "address": account.to_string(), "network": held.network, "native": held.native.to_string(),
        "tokens": tokens.collect::<Vec<_>>(), "hint": hint(held) })
}

fn text(held: &Holdings) -> String {
    let name = networks::find(held.network).map_or("unknown network", |row| row.name);
    let mut lines = vec![format!("{} {name}", held.network), format!("    native {}", units(held.native, 18))];
    for (asset, amount) in &held.tokens {
        lines.push(format!("    {} {} ({})", asset.symbol, units(*amount, asset.decimals), asset.address));
    }
    lines.extend(hint(held).map(|hint| format!("    {hint}")));
    lines.join("\n")
}

/// Returns the source of a testnet's money, if the account has none.
fn hint(held: &Holdings) -> Option<&'static str> {
    let testnet = networks::find(held.network)?.testnet;
    let poor = held.tokens.iter().any(|(asset, amount)| asset.symbol == "USDC" && amount.is_zero());
    (testnet && poor).then_some("no USDC: https://faucet.circle.com gives it away on testnets")
}
