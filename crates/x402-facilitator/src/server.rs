//! A facilitator that listens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use x402_types::Fault;

use crate::edge::{Edge, serve};
use crate::engine::{Engine, Running};
use crate::heads::HeadPollers;

/// The time that a graceful shutdown waits for settlements.
const GRACE: Duration = Duration::from_secs(60);

/// A running facilitator: its routes, workers and head pollers.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    running: Running,
    heads: JoinSet<()>,
    http: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Serving {
    /// Starts the workers, then listens.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(
        listen: SocketAddr,
        engine: &Arc<Engine>,
        heads: HeadPollers,
        routes: Router,
    ) -> Result<Self, Fault> {
        Self::start_at(listen, engine, heads, routes, Edge::default()).await
    }

    /// Starts the workers, then listens, with other limits of connections, or with TLS.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start_at(
        listen: SocketAddr,
        engine: &Arc<Engine>,
        heads: HeadPollers,
        routes: Router,
        edge: Edge,
    ) -> Result<Self, Fault> {
        let unusable = |error: std::io::Error| Fault::unreachable("the address to listen on", error);
        let listener = TcpListener::bind(listen).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let heads = heads.watch(engine);
        let running = engine.start();
        let stop = watch::Sender::new(false);
        let http = tokio::spawn(serve(listener, routes, edge, stop.subscribe()));
        Ok(Self { address, running, heads, http, stop })
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a task that must keep running has ended.
    pub async fn broken(&mut self) {
        tokio::select! {
            () = self.running.broken() => {}
            // A facilitator of cards alone has no chain whose head it polls.
            _ = self.heads.join_next(), if !self.heads.is_empty() => {}
            _ = &mut self.http => {}
        }
    }

    /// Refuses new requests, answers those in progress, and finishes the running settlements.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let progress = tokio::spawn(self.running.engine().show_draining());
        if !self.http.is_finished() && tokio::time::timeout(GRACE, &mut self.http).await.is_err() {
            tracing::warn!("requests still wait; their settlements are in the ledger");
        }
        self.running.finish(GRACE).await;
        progress.abort();
        self.heads.shutdown().await;
    }
}
