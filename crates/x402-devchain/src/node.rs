//! The chain as a node: JSON-RPC over HTTP, and over a WebSocket.

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::oneshot;

use crate::chain::DevChain;
use crate::rpc::Reply;

/// A chain behind a listening socket. Dropping it closes the socket, lets pending requests finish, and leaves the chain
/// alone.
#[derive(Debug)]
pub struct DevNode {
    /// The address of the socket.
    pub address: SocketAddr,
    /// The URL of the socket.
    pub url: String,
    /// The URL of the socket for WebSockets.
    pub ws_url: String,
    /// The chain behind the socket.
    pub chain: DevChain,
    _stop: oneshot::Sender<()>,
}

impl DevChain {
    /// Serves JSON-RPC over HTTP and WebSockets, for example on `127.0.0.1:0`, a free port of this machine.
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(&self, address: impl ToSocketAddrs) -> std::io::Result<DevNode> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new().route("/", get(crate::socket::upgrade).post(answer)).with_state(self.clone());
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // Nothing is ever sent: dropping the sender is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(server.into_future());
        Ok(DevNode {
            address,
            url: format!("http://{address}"),
            ws_url: format!("ws://{address}"),
            chain: self.clone(),
            _stop: stop,
        })
    }
}

async fn answer(State(chain): State<DevChain>, body: Bytes) -> Response {
    match chain.round_trip(&body).await {
        Reply::Body(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Reply::Status(status) => {
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Reply::Never => std::future::pending().await,
        // A body that fails at once makes hyper close the connection, so the caller never sees a response.
        Reply::Lost => Response::new(Body::from_stream(futures_util::stream::once(async {
            Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
        }))),
    }
}
