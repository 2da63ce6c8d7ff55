//! A node behind a WebSocket: its requests, and the notices of new heads that it sends by itself.
//!
//! A request makes the connection, and makes it again when it has ended, at growing intervals while that fails. The
//! requests on a connection that ended have failed: the caller repeats them, as those to any node.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy_json_rpc::{Id, Request, RequestPacket, ResponsePacket};
use alloy_primitives::B256;
use alloy_pubsub::{ConnectionHandle, PubSubConnect, PubSubFrontend};
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use alloy_transport_ws::WsConnect;
use tokio::time::{Instant, timeout};
use tower_service::Service;
use x402_types::ChainId;

use crate::backoff;
use crate::heads::HeadNews;

/// The time within which a connection is made, and an answer comes.
const ANSWERS: Duration = Duration::from_secs(5);

/// A connection that is made once. alloy itself would repeat the requests that were open; here
/// the caller decides.
#[derive(Clone)]
struct Once(WsConnect);

impl PubSubConnect for Once {
    fn is_local(&self) -> bool {
        self.0.is_local()
    }

    async fn connect(&self) -> Result<ConnectionHandle, TransportError> {
        self.0.connect().await
    }

    async fn try_reconnect(&self) -> Result<ConnectionHandle, TransportError> {
        Err(TransportErrorKind::backend_gone())
    }
}

/// A node behind a WebSocket. Clones share its connection.
#[derive(Clone)]
pub(crate) struct WsNode {
    connect: Once,
    line: Arc<tokio::sync::Mutex<Line>>,
}

/// The connection, if there is one, and when the next may be made.
#[derive(Default)]
struct Line {
    open: Option<PubSubFrontend>,
    failures: u32,
    not_before: Option<Instant>,
}

impl std::fmt::Debug for WsNode {
    /// Writes no URL, which may contain a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WsNode")
    }
}

impl WsNode {
    /// Names a node. Nothing is connected yet.
    pub(crate) fn new(url: &str) -> Self {
        let connect = Once(WsConnect::new(url).with_max_retries(0));
        Self { connect, line: Arc::default() }
    }

    /// Returns a client of the node.
    pub(crate) fn client(&self) -> RpcClient {
        RpcClient::new(self.clone(), self.connect.is_local())
    }

    /// Returns the connection, or makes one.
    async fn connection(&self) -> Result<PubSubFrontend, TransportError> {
        let mut line = self.line.lock().await;
        if let Some(open) = &line.open {
            return Ok(open.clone());
        }
        if line.not_before.is_some_and(|time| Instant::now() < time) {
            return Err(TransportErrorKind::custom_str("the connection failed a moment ago"));
        }
        // The error may quote the URL.
        let connected = timeout(ANSWERS, self.connect.clone().into_service()).await;
        match connected {
            Ok(Ok(open)) => {
                (line.open, line.failures) = (Some(open.clone()), 0);
                Ok(open)
            }
            Ok(Err(_)) | Err(_) => {
                line.failures = line.failures.saturating_add(1);
                line.not_before = Some(Instant::now() + backoff::rest(backoff::FIRST, line.failures));
                Err(TransportErrorKind::custom_str("the WebSocket cannot be connected"))
            }
        }
    }

    /// Forgets the connection: the next request makes another one.
    async fn forget(&self) {
        self.line.lock().await.open = None;
    }

    async fn ask(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let mut connection = self.connection().await?;
        let answer = timeout(ANSWERS, connection.call(packet)).await;
        let answer = answer.unwrap_or_else(|_| Err(TransportErrorKind::custom_str("no answer within 5 s")));
        if answer.as_ref().is_err_and(|error| matches!(error, TransportError::Transport(_))) {
            self.forget().await;
        }
        answer
    }

    /// Listens for new heads until it is dropped, and passes each on to `news`.
    pub(crate) async fn listen(self, news: Arc<HeadNews>, network: ChainId) {
        let (mut failures, mut heard) = (0_u32, false);
        loop {
            let ended = self.hear(&news, network, &mut heard).await;
            let Err(error) = ended;
            if heard {
                tracing::warn!(%network, %error, "the node tells no new heads; they are polled");
                (heard, failures) = (false, 0);
            }
            news.end();
            failures = failures.saturating_add(1);
            tokio::time::sleep(backoff::rest(backoff::FIRST, failures)).await;
        }
    }

    async fn hear(
        &self,
        news: &HeadNews,
        network: ChainId,
        heard: &mut bool,
    ) -> Result<core::convert::Infallible, TransportError> {
        let connection = self.connection().await?;
        let request = Request::new("eth_subscribe", Id::Number(u64::MAX), ("newHeads",)).serialize();
        let asked = timeout(ANSWERS, connection.send(request.map_err(TransportError::ser_err)?));
        let answer = asked.await.map_err(|_| TransportErrorKind::custom_str("no answer within 5 s"))??;
        let id: B256 = answer
            .payload
            .try_success_as()
            .ok_or_else(|| TransportErrorKind::custom_str("it refuses the subscription"))?
            .map_err(|error| TransportErrorKind::custom_str(&error.to_string()))?;
        let mut heads = connection.get_subscription(id).await?;
        loop {
            match heads.recv().await {
                // The newest one replaces missed ones.
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                    news.tell(Instant::now());
                    if !std::mem::replace(heard, true) {
                        tracing::info!(%network, "the node tells new heads by itself");
                    }
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                    self.forget().await;
                    return Err(TransportErrorKind::backend_gone());
                }
            }
        }
    }
}

impl Service<RequestPacket> for WsNode {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(packet))
    }
}
