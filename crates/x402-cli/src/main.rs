#![doc = include_str!("../README.md")]

mod codec;
mod demo;
mod keys;
mod pay;

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
    /// Shows what a payment header says.
    Decode(codec::Decode),
    /// Writes JSON as a payment header's value.
    Encode(codec::Encode),
    /// Makes a request and pays for it.
    Pay(pay::Args),
    /// Makes private keys.
    #[command(subcommand)]
    Keys(keys::Keys),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args).await,
        Command::Decode(args) => codec::decode(args),
        Command::Encode(args) => codec::encode(args),
        Command::Pay(args) => pay::run(args).await,
        Command::Keys(args) => keys::run(args),
    }
}
