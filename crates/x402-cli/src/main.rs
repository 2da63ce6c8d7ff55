#![doc = include_str!("../README.md")]

mod codec;
mod demo;
mod explain;
mod find;
mod keys;
mod lint;
mod mcp;
mod node;
mod pay;
mod receipts;
mod sell;
mod session;
mod units;
mod userop;
mod wallet;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The x402 payment protocol on the command line.
#[derive(Debug, Parser)]
#[command(name = "x402", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a paid request end to end, on a chain in this process.
    Demo(demo::Args),
    /// Decodes the value of a payment header.
    Decode(codec::Decode),
    /// Encodes JSON as the value of a payment header.
    Encode(codec::Encode),
    /// Searches the catalog of a facilitator for resources that can be paid.
    Find(find::Args),
    /// Makes a request and pays for it.
    Pay(pay::Args),
    /// Serves tools to an agent over MCP: requests with payment, within its owner's budgets.
    Mcp(mcp::Args),
    /// Lists the signed receipts that `pay` kept.
    Receipts(receipts::List),
    /// Verifies signed receipts.
    #[command(subcommand)]
    Receipt(receipts::Receipt),
    /// Requires payment before a server in any language.
    Sell(Box<sell::Args>),
    /// Reports every fault of a 402 document.
    Lint(lint::Args),
    /// Explains a code of the linter.
    Explain(explain::Args),
    /// Generates private keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Issues, inspects and revokes session keys.
    #[command(subcommand)]
    Session(session::Session),
    /// Computes the hashes of UserOperations.
    #[command(subcommand)]
    Userop(userop::Userop),
    /// Keeps a payer's account: a new key in an encrypted file, its address, what it holds.
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Prints the completions of a shell.
    Completions {
        /// The shell that the completions are for.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages to a folder, which must exist.
    Man {
        /// The folder of the manual pages.
        folder: std::path::PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args).await,
        Command::Decode(args) => codec::decode(args),
        Command::Encode(args) => codec::encode(args),
        Command::Find(args) => find::run(args).await,
        Command::Pay(args) => pay::run(args).await,
        Command::Mcp(args) => mcp::run(args).await,
        Command::Receipts(args) => receipts::list(args),
        Command::Receipt(receipt) => receipts::run(receipt),
        Command::Sell(args) => sell::run(*args).await,
        Command::Lint(args) => lint::run(args).await,
        Command::Explain(args) => explain::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Session(args) => session::run(args).await,
        Command::Userop(args) => userop::run(args),
        Command::Wallet(args) => wallet::run(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "x402", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { folder } => match clap_mangen::generate_to(Cli::command(), &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", folder.display());
                ExitCode::from(2)
            }
        },
    }
}
