//! The process of the facilitator.

use std::io::Write;
#[cfg(feature = "dev")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use x402_facilitator::config::Config;
use x402_facilitator::configured::{Configured, StartError, configured};
#[cfg(feature = "dev")]
use x402_facilitator::dev::DevFacilitator;
#[cfg(feature = "discovery")]
use x402_facilitator::discovery;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;

/// Verifies x402 payments and settles each exactly once.
#[derive(Debug, Parser)]
#[command(name = "x402-facilitator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until it is stopped by a signal; prints one line of JSON once it listens.
    Serve {
        /// The configuration file.
        #[cfg_attr(feature = "dev", arg(long, required_unless_present = "dev", conflicts_with = "dev"))]
        #[cfg_attr(not(feature = "dev"), arg(long, required = true))]
        config: Option<PathBuf>,
        /// Serves without configuration, on a chain in this process.
        #[cfg(feature = "dev")]
        #[arg(long)]
        dev: bool,
        /// The address to listen on, with `--dev`.
        #[cfg(feature = "dev")]
        #[arg(long, default_value = "127.0.0.1:0", requires = "dev")]
        listen: SocketAddr,
    },
    /// Prints the authors and licences of the contracts that this binary contains for `serve --dev`.
    #[cfg(feature = "dev")]
    Licences,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        // A connection of the pool that ended is no news: the operation that it ended is logged.
        .with_env_filter(filter.unwrap_or_else(|_| "info,deadpool.postgres=error".into()))
        .with_writer(std::io::stderr)
        .init();
    let served = match Cli::parse().command {
        Command::Serve { config: Some(path), .. } => serve(&path).await,
        #[cfg(feature = "dev")]
        Command::Serve { config: None, listen, .. } => serve_dev(listen).await,
        // clap has refused this case already.
        #[cfg(not(feature = "dev"))]
        Command::Serve { config: None } => Ok(ExitCode::from(2)),
        #[cfg(feature = "dev")]
        Command::Licences => {
            // A closed pager is no error.
            drop(std::io::stdout().lock().write_all(x402_devchain::LICENCES.as_bytes()));
            Ok(ExitCode::SUCCESS)
        }
    };
    match served {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn announce(line: &serde_json::Value) {
    // A supervisor that closed the pipe is no error.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Handles SIGTERM and SIGINT, which from here on do not kill the process. The handlers are installed before anything
/// is announced: a supervisor may stop a process that it has just seen start.
fn signals() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

/// Waits for a signal, or for a broken task.
async fn told_to_stop(signals: std::io::Result<[Signal; 2]>, broken: impl Future<Output = ()>) -> ExitCode {
    let stop = async {
        match signals {
            Ok([mut term, mut int]) => {
                tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop => ExitCode::SUCCESS,
        () = broken => {
            tracing::error!("a worker has ended; stopping, so that a supervisor starts again");
            ExitCode::FAILURE
        }
    }
}

async fn serve(path: &std::path::Path) -> Result<ExitCode, StartError> {
    let config = Config::read(path)?;
    let callers = config.callers.iter().map(|caller| Ok((caller.name.clone(), caller.token.read("caller.token")?)));
    let callers = callers.collect::<Result<Vec<_>, StartError>>()?;
    let configured = configured(&config).await?;
    let Configured { engine, heads, requests, session_keys, .. } = configured;
    heads.check().await?;
    engine.note_funds();
    engine.name_unserved().await?;
    let routes = Routes::new(Arc::clone(&engine)).with_requests(requests);
    let routes = callers.into_iter().fold(routes, |routes, (name, token)| routes.with_caller(name, token));
    let routes = session_keys.into_iter().fold(routes, Routes::with_session_keys);
    #[cfg(feature = "cards")]
    let routes = configured.cards.into_iter().fold(routes, Routes::with_cards);
    let routes = routes.into_router();
    #[cfg(feature = "discovery")]
    let routes = configured.catalog.into_iter().fold(routes, |it, catalog| it.merge(discovery::routes(catalog)));
    let mut serving = Serving::start(config.listen, &engine, heads, routes).await?;
    let signals = signals();
    announce(&json!({ "listening": format!("http://{}", serving.address()) }));
    let code = told_to_stop(signals, serving.broken()).await;
    serving.stop().await;
    Ok(code)
}

#[cfg(feature = "dev")]
async fn serve_dev(listen: SocketAddr) -> Result<ExitCode, StartError> {
    let mut facilitator = DevFacilitator::start(listen, |routes| routes).await?;
    let signals = signals();
    announce(&json!({ "listening": facilitator.url(), "rpc": facilitator.rpc() }));
    let code = told_to_stop(signals, facilitator.broken()).await;
    facilitator.stop().await;
    Ok(code)
}
