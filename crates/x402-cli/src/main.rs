#![doc = include_str!("../README.md")]

mod codec;
mod demo;
mod explain;
mod find;
mod keys;
mod lint;
mod node;
mod pay;
mod receipts;
mod sell;
mod session;
mod userop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Lists the signed receipts that `pay` kept.
    Receipts(receipts::List),
    /// Verifies signed receipts.
    #[command(subcommand)]
    Receipt(receipts::Receipt),
    /// Requires payment before a server in any language.
    Sell(sell::Args),
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
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args).await,
        Command::Decode(args) => codec::decode(args),
        Command::Encode(args) => codec::encode(args),
        Command::Find(args) => find::run(args).await,
        Command::Pay(args) => pay::run(args).await,
        Command::Receipts(args) => receipts::list(args),
        Command::Receipt(receipt) => receipts::run(receipt),
        Command::Sell(args) => sell::run(args).await,
        Command::Lint(args) => lint::run(args).await,
        Command::Explain(args) => explain::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Session(args) => session::run(args).await,
        Command::Userop(args) => userop::run(args),
    }
}
