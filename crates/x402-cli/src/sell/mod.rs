//! `x402 sell`: a reverse proxy that requires payment before a server in any language.
//!
//! The gate of each route is the tower layer of `x402-http`; the proxy adds the choice of the route and the way to the
//! upstream.

mod config;
mod dry_run;
mod forward;
mod gate;
mod headers;
mod log;
mod path;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use alloy_primitives::Address;
use axum::Router;
use serde_json::json;
use tokio::net::TcpListener;
use tower_layer::Layer;
use url::Url;
use x402_evm::exact::{Exact, Price};
use x402_facilitator::callers::Callers;
use x402_facilitator::config::Config as FacilitatorConfig;
use x402_facilitator::configured::configured;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::Facilitator;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Incident, Seller};
use x402_store::Stores;
use x402_types::extension::PaymentIdentifier;
use x402_types::{ChainId, Fault, Offer};

use self::config::{Config, Further, RouteArg, RouteConfig};
use self::forward::Forward;
use self::gate::{Route, Shop};
use self::log::AccessLog;
use self::path::Pattern;

/// Requires payment before a server in any language: a reverse proxy. Its first line on standard output is
/// `{"listening":"http://…"}`, each further one a response.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with what is sold; the other options take its place.
    #[arg(long, value_name = "FILE", required_unless_present = "upstream",
          conflicts_with_all = ["upstream", "pay_to", "price", "route", "free", "network", "asset", "upfront"])]
    config: Option<PathBuf>,
    /// The server to sell: `http://127.0.0.1:3000`.
    #[arg(long, value_name = "URL", requires = "pay_to")]
    upstream: Option<Url>,
    /// The account that is paid.
    #[arg(long, value_name = "ADDRESS", value_parser = config::address)]
    pay_to: Option<Address>,
    /// The price of a request, such as `$0.01`: of all paths, or of the routes that name no other.
    #[arg(long)]
    price: Option<Price>,
    /// A paid route, `[METHOD ]PATH[=PRICE]`: `/report`, `GET /api/*=$0.05`. Repeatable; without one every path is paid.
    #[arg(long, value_name = "ROUTE")]
    route: Vec<RouteArg>,
    /// A path that is forwarded without payment: `/health`, `/static/*`. Repeatable.
    #[arg(long, value_name = "PATH")]
    free: Vec<Pattern>,
    /// The network of the payments, by default Base Sepolia. Repeatable, the preferred one first.
    #[arg(long, value_name = "CAIP-2")]
    network: Vec<ChainId>,
    /// The token, by default the dollar token of each network.
    #[arg(long, value_name = "ADDRESS", value_parser = config::address)]
    asset: Option<Address>,
    /// Settles before a request is forwarded, as streams need it.
    #[arg(long)]
    upfront: bool,
    /// The address to listen on, by default 127.0.0.1:8402.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// The origin under which payers reach the proxy: `https://api.example.com`.
    #[arg(long)]
    origin: Option<String>,
    /// The URL of the facilitator, or `own` for one in this process.
    #[arg(long, value_name = "URL|own")]
    facilitator: Option<String>,
    /// With `--facilitator own`: the configuration file of x402-facilitator.
    #[arg(long, value_name = "FILE")]
    facilitator_config: Option<PathBuf>,
    /// A facilitator behind the first, which serves what the first does not: `hosted=https://facilitator.example`. The name
    /// must stay the same. Repeatable, by precedence.
    #[arg(long, value_name = "NAME=URL")]
    further: Vec<Further>,
    /// The SQLite file of the payments that were granted, by default `grants.sqlite`.
    #[arg(long, value_name = "FILE")]
    grants: Option<String>,
    /// Appends the access log to a file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Shows what each route requires, as the linter sees it, and ends: 0 if every route is valid, otherwise 1.
    #[arg(long)]
    dry_run: bool,
    /// With `--dry-run`: one JSON object.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

/// The sender of a request, and whether the connection to the public origin is encrypted.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    tls: bool,
}

/// Marks a request that is settled before it is forwarded.
#[derive(Debug, Clone, Copy)]
struct Upfront;

pub(crate) async fn run(args: Args) -> ExitCode {
    match sell(args).await {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn configuration(args: &Args) -> Result<Config, String> {
    let mut config = match (&args.config, &args.upstream) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Config::read(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        (None, Some(upstream)) => of_args(args, upstream.clone())?,
        (None, None) => return Err("expected --upstream or --config".into()),
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.origin = args.origin.clone().or(config.origin);
    config.grants = args.grants.clone().unwrap_or(config.grants);
    config.facilitator_config = args.facilitator_config.clone().or(config.facilitator_config);
    config.further.extend(args.further.iter().cloned());
    if let Some(facilitator) = &args.facilitator {
        config.facilitator.clone_from(facilitator);
    }
    config.checked()
}

fn of_args(args: &Args, upstream: Url) -> Result<Config, String> {
    let routes = if args.route.is_empty() { vec!["/*".parse::<RouteArg>()?] } else { args.route.clone() };
    let routes = routes.into_iter().map(|route| route.into_route(args.price, args.upfront));
    let networks = if args.network.is_empty() { config::default_networks() } else { args.network.clone() };
    Ok(Config {
        upstream,
        listen: config::default_listen(),
        origin: None,
        facilitator: config::default_facilitator(),
        facilitator_config: None,
        further: Vec::new(),
        grants: config::default_grants(),
        pay_to: args.pay_to.ok_or("--pay-to is missing")?,
        networks,
        asset: args.asset,
        upstream_seconds: config::default_seconds(),
        free: args.free.clone(),
        routes: routes.collect::<Result<_, _>>()?,
    })
}

/// The facilitator, and the process of one's own.
struct Asked {
    facilitator: Arc<dyn Facilitator>,
    own: Option<Serving>,
}

async fn facilitator(config: &Config) -> Result<Asked, String> {
    let text = |error: &dyn std::fmt::Display| format!("facilitator: {error}");
    let Some(path) = &config.facilitator_config else {
        let remote = RemoteFacilitator::new(&config.facilitator).map_err(|error| text(&error))?;
        return Ok(Asked { facilitator: Arc::new(remote), own: None });
    };
    let file = FacilitatorConfig::read(path).map_err(|error| text(&error))?;
    let parts = configured(&file).await.map_err(|error| text(&error))?;
    parts.heads.check().await.map_err(|error| text(&error))?;
    let callers = Callers::new(file.named_callers().map_err(|error| text(&error))?);
    let routes = Routes::new(Arc::clone(&parts.engine)).with_requests(parts.requests).with_callers(callers);
    let routes = file.limits.clone().into_iter().fold(routes, Routes::with_limits);
    let serving = Serving::start(file.listen, &parts.engine, parts.heads, routes.into_router()).await;
    Ok(Asked { facilitator: parts.engine, own: Some(serving.map_err(|error| text(&error))?) })
}

fn offers(config: &Config, route: &RouteConfig) -> Result<Vec<Offer>, String> {
    let exact = Exact::default();
    let pay_to = route.pay_to.unwrap_or(config.pay_to);
    let offer = |network: &ChainId| {
        let offer = match config.asset {
            Some(asset) => exact.requirements_in(*network, asset, pay_to, route.price),
            None => exact.requirements(*network, pay_to, route.price),
        };
        let mut offer = offer.map_err(|error| format!("{} on {network}: {error}", route.path.as_str()))?;
        if route.upfront {
            offer.terms.extra.insert_text("paymentFlow", "upfront");
        }
        Ok(offer)
    };
    config.networks.iter().map(offer).collect()
}

fn shop(config: &Config, seller: &Seller, log: AccessLog, tls: bool) -> Result<Shop, String> {
    let forward = Forward::new(config.upstream.clone(), config.upstream_seconds)?;
    let route = |route: &RouteConfig| {
        let named = |error| format!("{}: {error}", route.path.as_str());
        let layer = seller.charge(offers(config, route)?).map_err(named)?;
        let layer = layer.with_description(&route.description, &route.mime_type).map_err(named)?;
        Ok::<_, String>(Route { config: route.clone(), gate: layer.layer(forward.clone()) })
    };
    let routes = config.routes.iter().map(route).collect::<Result<_, _>>()?;
    Ok(Shop { forward, routes, free: config.free.clone(), log, tls })
}

async fn sell(args: Args) -> Result<ExitCode, String> {
    let config = configuration(&args)?;
    let unusable = |error: std::io::Error| format!("{}: {error}", config.listen);
    let listener = if args.dry_run { None } else { Some(TcpListener::bind(config.listen).await.map_err(unusable)?) };
    let address = match &listener {
        Some(listener) => listener.local_addr().map_err(unusable)?,
        None => config.listen,
    };
    let origin = config.origin.clone().unwrap_or_else(|| format!("http://{address}"));
    let Asked { facilitator, own } = facilitator(&config).await?;
    let seller = Seller::new(&origin, facilitator).map_err(|error| format!("origin: {error}"))?;
    let seller = config.further.iter().try_fold(seller, |seller, further| {
        let named = |error: &dyn std::fmt::Display| format!("further {}: {error}", further.name);
        let remote = RemoteFacilitator::new(&further.url).map_err(|error| named(&error))?;
        seller.with_facilitator(&further.name, Arc::new(remote)).map_err(|error| named(&error))
    })?;
    // Version 1 has no name for the other networks.
    let named = config.networks.iter().any(|network| x402_types::networks::legacy_name(*network).is_some());
    let seller = if named { seller.with_v1() } else { seller };
    let seller = seller.with_extension(PaymentIdentifier::optional());
    let seller = seller.with_incident_hook(|incident: &Incident<'_>| {
        eprintln!("{} at {}: {}", incident.step, incident.route, incident.fault);
    });
    let log = AccessLog::open(args.log.as_deref()).map_err(|error| format!("log: {error}"))?;
    let tls = origin.starts_with("https:");
    let Some(listener) = listener else {
        return dry_run::show(&shop(&config, &seller, log, tls)?, &origin, args.json).await;
    };
    let unusable = |error: Fault| format!("{}: {error}", config.grants);
    let stores = Stores::open(&config.grants).await.map_err(unusable)?;
    let grants = stores.grants().await.map_err(unusable)?;
    let seller = seller.with_grants(grants).with_kept_answers(stores.kept_answers());
    let shop = Arc::new(shop(&config, &seller, log, tls)?);
    for row in
        config.networks.iter().filter_map(|network| x402_types::networks::find(*network)).filter(|row| row.testnet)
    {
        eprintln!("{} is a test network: what is paid there is worth nothing", row.name);
    }
    let app = Router::new().fallback(gate::handle).with_state(shop);
    println!("{}", json!({ "listening": format!("http://{address}") }));
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>());
    served.with_graceful_shutdown(stopped()).await.map_err(|error| error.to_string())?;
    if let Some(own) = own {
        own.stop().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for SIGTERM or SIGINT.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
