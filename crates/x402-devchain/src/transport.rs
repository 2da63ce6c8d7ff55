//! The chain as an alloy transport: requests use the same text and the same entry as over HTTP.

use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_network::{Ethereum, EthereumWallet};
use alloy_provider::{DynProvider, Provider, ProviderBuilder, RootProvider};
use alloy_rpc_client::RpcClient;
use alloy_signer_local::PrivateKeySigner;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use tower::Service;

use crate::chain::DevChain;
use crate::rpc::{Reply, round_trip};

impl DevChain {
    /// Performs one round trip: half of the delay, the work, the other half.
    pub(crate) async fn round_trip(&self, body: &[u8]) -> Reply {
        let half = self.core().faults.rpc_delay / 2;
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        let reply = round_trip(&mut self.core(), body);
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        reply
    }

    /// Returns a transport into this chain, for `RpcClient::new(chain.transport(), true)`. It keeps the chain alive.
    #[must_use]
    pub fn transport(&self) -> DevTransport {
        DevTransport { chain: self.clone() }
    }

    /// Returns an RPC client over [`transport`](Self::transport).
    #[must_use]
    pub fn client(&self) -> RpcClient {
        RpcClient::new(self.transport(), true)
    }

    /// Returns a provider that reads, and sends signed transactions. It fills nothing in.
    #[must_use]
    pub fn provider(&self) -> DynProvider<Ethereum> {
        RootProvider::<Ethereum>::new(self.client()).erased()
    }

    /// Returns a provider that fills in nonce, gas, fees and chain id, and signs for `signer`.
    #[must_use]
    pub fn wallet(&self, signer: PrivateKeySigner) -> DynProvider<Ethereum> {
        ProviderBuilder::new().wallet(EthereumWallet::from(signer)).connect_client(self.client()).erased()
    }
}

/// An alloy transport into a [`DevChain`] in the same process.
#[derive(Clone, Debug)]
pub struct DevTransport {
    chain: DevChain,
}

impl Service<RequestPacket> for DevTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let chain = self.chain.clone();
        Box::pin(async move {
            let request = packet.serialize().map_err(TransportError::ser_err)?;
            match chain.round_trip(request.get().as_bytes()).await {
                Reply::Body(body) => {
                    serde_json::from_str(&body).map_err(|error| TransportError::deser_err(error, body))
                }
                Reply::Status(status) => Err(TransportErrorKind::http_error(status, String::new())),
                Reply::Never => std::future::pending().await,
                Reply::Lost => Err(TransportErrorKind::backend_gone()),
            }
        })
    }
}
