//! The loop that accepts connections, with limits of their number, their heads and their time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service as _;

use super::rate::network;
use crate::backoff;
use crate::config::LimitsConfig;

/// The longest head of a request, in bytes. A payment is in the body.
const HEAD: usize = 32 * 1024;
/// The pause after a connection could not be accepted, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The address of the peer, in the extensions of a request that came by a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// The limits of connections, and TLS.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    limits: LimitsConfig,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Tls>,
}

impl Edge {
    /// Creates an edge with these limits, without TLS.
    #[must_use]
    pub fn new(limits: LimitsConfig) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Sets the certificate: every connection is TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: super::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

/// The open connections, all and by address.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

/// A place among the open connections, until it is dropped.
struct Place {
    open: Arc<Open>,
    address: IpAddr,
}

impl Open {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one for this address.
    fn take(self: &Arc<Self>, address: IpAddr, limits: &LimitsConfig) -> Option<Place> {
        let mut counts = self.counts();
        let all = counts.values().fold(0, |sum: usize, count| sum.saturating_add(*count));
        let own = counts.entry(address).or_default();
        if all >= limits.connections || *own >= limits.address_connections {
            if *own == 0 {
                counts.remove(&address);
            }
            return None;
        }
        *own = own.saturating_add(1);
        Some(Place { open: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Serves the routes until `stop` is set; then it accepts nothing more, and ends when the last request is answered. A
/// connection beyond the limits is closed at once.
pub(crate) async fn serve(listener: TcpListener, routes: Router, edge: Edge, mut stop: watch::Receiver<bool>) {
    let (edge, open) = (Arc::new(edge), Arc::<Open>::default());
    let mut connections = JoinSet::new();
    let mut failures = 0_u32;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                let Some(place) = open.take(network(peer.ip()), &edge.limits) else { continue };
                let (routes, edge, stop) = (routes.clone(), Arc::clone(&edge), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, routes, &edge, stop).await;
                    drop(place);
                });
            }
            Err(_) => {
                failures = failures.saturating_add(1);
                tokio::time::sleep(backoff::rest(PAUSE, failures)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, routes: Router, edge: &Edge, stop: watch::Receiver<bool>) {
    // A delay of small answers saves nothing here; if the option cannot be set, they are only later.
    drop(stream.set_nodelay(true));
    #[cfg(feature = "tls")]
    if let Some(tls) = &edge.tls {
        let handshake = tokio::time::timeout(edge.limits.head_time(), tls.accept(stream)).await;
        if let Ok(Ok(stream)) = handshake {
            requests(stream, peer, routes, edge, stop).await;
        }
        return;
    }
    requests(stream, peer, routes, edge, stop).await;
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: SocketAddr,
    routes: Router,
    edge: &Edge,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut routes = routes.clone();
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(PeerAddress(peer.ip()));
        async move { routes.call(request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(edge.limits.head_time()).max_header_size(HEAD);
    let served = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    tokio::select! {
        // An error is the peer's: it hung up, was too slow, or sent no HTTP.
        _ = &mut served => return,
        () = stopped => {}
    }
    served.as_mut().graceful_shutdown();
    drop(served.await);
}
