//! The process of the facilitator.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use x402_facilitator::admin::{self, AdminPort};
use x402_facilitator::callers::Callers;
use x402_facilitator::check::State;
use x402_facilitator::config::Config;
#[cfg(feature = "otlp")]
use x402_facilitator::config::OtlpConfig;
use x402_facilitator::configured::{Configured, StartError, configured};
#[cfg(feature = "dev")]
use x402_facilitator::dev::DevFacilitator;
#[cfg(feature = "discovery")]
use x402_facilitator::discovery;
use x402_facilitator::edge::Edge;
use x402_facilitator::init::{FirstConfig, FirstFiles};
#[cfg(feature = "otlp")]
use x402_facilitator::otlp::SpanExport;
use x402_facilitator::reload::{Reload, Reloaded};
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_types::ChainId;
use zeroize::Zeroizing;

/// The path of the configuration file, unless another one is given.
const CONFIG: &str = "facilitator.toml";
/// The time for which the start waits for the operator's port: a port that is taken does not keep payments waiting.
const ADMIN_LISTENS: Duration = Duration::from_millis(500);

/// Verifies x402 payments and settles each exactly once.
#[derive(Debug, Parser)]
#[command(name = "x402-facilitator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a first configuration into a folder: `facilitator.toml`, and new secrets beside it.
    Init {
        /// The folder of the new files.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1:4020")]
        listen: SocketAddr,
        /// The network's CAIP-2 identifier.
        #[arg(long, default_value = "eip155:84532")]
        network: ChainId,
        /// The URL of the node; by default the environment variable `X402_RPC` is named.
        #[arg(long)]
        rpc: Option<String>,
        /// The number of blocks behind the head at which a block is final.
        #[arg(long, default_value_t = 2)]
        finality: u64,
    },
    /// Checks a configuration with its nodes, tokens, balances and ledger, and prints what to do. Sends nothing.
    Check {
        /// The configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Prints the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serves until it is stopped by a signal; prints one line of JSON once it listens.
    Serve {
        /// The configuration file.
        #[cfg_attr(feature = "dev", arg(long, default_value = CONFIG, conflicts_with = "dev"))]
        #[cfg_attr(not(feature = "dev"), arg(long, default_value = CONFIG))]
        config: PathBuf,
        /// Serves without configuration, on a chain in this process.
        #[cfg(feature = "dev")]
        #[arg(long)]
        dev: bool,
        /// The address to listen on, with `--dev`.
        #[cfg(feature = "dev")]
        #[arg(long, default_value = "127.0.0.1:0", requires = "dev")]
        listen: SocketAddr,
    },
    /// Releases the ledger from the quarantine that follows a restore, and prints what it was. The facilitator may run.
    Release {
        /// The configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Prints the authors and licences of the contracts that this binary contains for `serve --dev`.
    #[cfg(feature = "dev")]
    Licences,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The configuration names the collector, so the log of `serve` begins after it is read.
    #[cfg(feature = "otlp")]
    let logs = !matches!(command, Command::Serve { .. });
    #[cfg(not(feature = "otlp"))]
    let logs = true;
    if logs {
        tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).init();
    }
    let served = match command {
        Command::Init { folder, listen, network, rpc, finality } => {
            init(&FirstConfig { folder, listen, network, rpc: rpc.map(Zeroizing::new), finality })
        }
        Command::Check { config, json } => Ok(check(&config, json).await),
        #[cfg(feature = "dev")]
        Command::Serve { dev: true, listen, .. } => serve_dev(listen).await,
        Command::Serve { config, .. } => serve(&config).await,
        Command::Release { config } => release(&config).await,
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

/// Returns the lines that are logged: those of `RUST_LOG`, or `info`.
fn filter() -> EnvFilter {
    // A connection that ended is no news by itself: what it ended is logged.
    EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,deadpool.postgres=error,alloy_pubsub=off,alloy_transport_ws=off".into())
}

/// Begins the log, and the export of spans, if a collector is named.
#[cfg(feature = "otlp")]
fn begin_log(otlp: Option<&OtlpConfig>) -> Result<Option<SpanExport>, StartError> {
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
    use tracing_subscriber::util::SubscriberInitExt as _;

    let Some(otlp) = otlp else {
        tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).init();
        return Ok(None);
    };
    let export = SpanExport::start(otlp)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter());
    tracing_subscriber::registry().with(lines).with(export.layer()).init();
    Ok(Some(export))
}

fn init(init: &FirstConfig) -> Result<ExitCode, StartError> {
    match init.run() {
        Ok(FirstFiles { config, signer, token, .. }) => {
            announce(&json!({ "config": config, "signer": signer, "token": token }));
            eprintln!("next: send some of the network's coin to {signer}, then `x402-facilitator check`");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(2))
        }
    }
}

async fn check(path: &std::path::Path, json: bool) -> ExitCode {
    let report = x402_facilitator::check::check(path).await;
    if json {
        announce(&report.to_json());
    } else {
        drop(write!(std::io::stdout().lock(), "{report}"));
    }
    if report.state() == State::Problem { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn release(path: &std::path::Path) -> Result<ExitCode, StartError> {
    let released = x402_facilitator::release(&Config::read(path)?).await?;
    let released = released.map(|it| json!({ "since": it.since, "why": it.why }));
    announce(&json!({ "released": released }));
    Ok(ExitCode::SUCCESS)
}

fn announce(line: &serde_json::Value) {
    // A supervisor that closed the pipe is no error.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// The signals that the process handles from here on. The handlers are installed before anything
/// is announced: a supervisor may stop a process that it has just seen start.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The signal to reload; without it the process ends with its terminal.
    hang_up: Option<Signal>,
}

impl Signals {
    fn install(reloads: bool) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits for a signal to stop, or for a broken task. SIGHUP calls `reload`.
async fn told_to_stop(
    signals: std::io::Result<Signals>,
    broken: impl Future<Output = ()>,
    mut reload: impl AsyncFnMut(),
) -> ExitCode {
    let stop = async {
        let Ok(mut signals) = signals else { return std::future::pending().await };
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                () = hung_up(&mut signals.hang_up) => {}
            }
            // The process can be stopped although a node does not answer.
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                () = reload() => {}
            }
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
    #[cfg(feature = "otlp")]
    let export = begin_log(config.otlp.as_ref())?;
    let callers = Callers::new(config.named_callers()?);
    let configured = configured(&config).await?;
    let Configured { engine, heads, assets, requests, session_keys, .. } = configured;
    heads.check().await?;
    engine.look_for_restore().await?;
    engine.note_funds();
    engine.name_unserved().await?;
    let routes = Routes::new(Arc::clone(&engine)).with_requests(requests).with_callers(callers.clone());
    let routes = routes.with_origins(config.cors.clone());
    let routes = config.limits.clone().into_iter().fold(routes, Routes::with_limits);
    let routes = session_keys.into_iter().fold(routes, Routes::with_session_keys);
    #[cfg(feature = "cards")]
    let routes = configured.cards.into_iter().fold(routes, Routes::with_cards);
    #[cfg(feature = "discovery")]
    let routes = configured.catalog.map(discovery::routes).into_iter().fold(routes, Routes::with_further);
    let routes = routes.into_router();
    let admin =
        config.admin.as_ref().map(|admin| Ok::<_, StartError>((admin.listen, admin.token_hash()?))).transpose()?;
    let mut serving = Serving::start_at(config.listen, &engine, heads, routes, edge(&config)?).await?;
    let signals = Signals::install(true);
    let mut line = json!({ "listening": format!("{}://{}", scheme(&config), serving.address()) });
    let mut admin = admin.map(|(listen, token)| AdminPort::start(listen, admin::routes(&engine, token)));
    if let Some(port) = &mut admin
        && let Some(address) = port.listening(ADMIN_LISTENS).await
        && let Some(line) = line.as_object_mut()
    {
        line.insert("admin".to_owned(), format!("http://{address}").into());
    }
    announce(&line);
    let mut reload = Reload::new(path.to_owned(), config, callers, engine).with_assets(assets);
    let code = told_to_stop(signals, serving.broken(), async || reload_now(&mut reload).await).await;
    serving.stop().await;
    drop(admin);
    #[cfg(feature = "otlp")]
    if let Some(export) = export {
        export.finish().await;
    }
    Ok(code)
}

const fn scheme(config: &Config) -> &'static str {
    #[cfg(feature = "tls")]
    if config.tls.is_some() {
        return "https";
    }
    let _ = config;
    "http"
}

fn edge(config: &Config) -> Result<Edge, StartError> {
    let edge = Edge::new(config.limits.clone().unwrap_or_default());
    #[cfg(feature = "tls")]
    let edge = match &config.tls {
        Some(tls) => edge.with_tls(tls.read()?),
        None => edge,
    };
    Ok(edge)
}

async fn reload_now(reload: &mut Reload) {
    match reload.run().await {
        Ok(Reloaded { callers, assets, needs_restart, .. }) => {
            tracing::info!(?callers, ?assets, "the callers and tokens were read again");
            if needs_restart {
                tracing::info!("the file has other changes, which take effect at the next start");
            }
        }
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be read again; the former callers and tokens stay")
        }
    }
}

#[cfg(feature = "dev")]
async fn serve_dev(listen: SocketAddr) -> Result<ExitCode, StartError> {
    #[cfg(feature = "otlp")]
    begin_log(None)?;
    let mut facilitator = DevFacilitator::start(listen, |routes| routes).await?;
    let signals = Signals::install(false);
    announce(&json!({ "listening": facilitator.url(), "rpc": facilitator.rpc() }));
    let code = told_to_stop(signals, facilitator.broken(), async || {}).await;
    facilitator.stop().await;
    Ok(code)
}
