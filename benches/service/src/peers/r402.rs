//! r402 0.21.0: its facilitator and provider. None of its crates has routes for a facilitator, so they stand here.

use std::sync::Arc;

use alloy_network::EthereumWallet;
use alloy_provider::Provider;
use alloy_signer_local::PrivateKeySigner;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use r402_evm::Eip155ExactFacilitator;
use r402_evm::chain::{Eip155ChainProvider, Eip155ChainReference, Eip155MetaTransactionProvider};
use r402_facilitator::Facilitator;
use r402_protocol::error::FacilitatorError;
use r402_protocol::payment::{SettleRequest, VerifyRequest};
use serde::Serialize;

use super::Told;
use crate::anvil::CHAIN_ID;
use crate::fault::Fallible;

type Exact = Arc<Eip155ExactFacilitator<Arc<Eip155ChainProvider>>>;

/// The receipt timeout, in seconds: that of x402-rs.
const RECEIPT_SECONDS: u64 = 30;

pub fn router(told: &Told) -> Fallible<Router> {
    let mut signers = told.signers.iter().map(|key| key.parse::<PrivateKeySigner>());
    let mut wallet = EthereumWallet::from(signers.next().ok_or("a signer is needed")??);
    for signer in signers {
        wallet.register_signer(signer?);
    }
    let endpoints = [(told.rpc.parse()?, None)];
    let chain = Eip155ChainReference::new(CHAIN_ID);
    let provider = Eip155ChainProvider::new(chain, wallet, &endpoints, true, false, RECEIPT_SECONDS)?;
    if let Some(poll) = told.poll {
        provider.inner().client().set_poll_interval(poll);
    }
    let facilitator = Eip155ExactFacilitator::try_new(Arc::new(provider)).map_err(|error| error.to_string())?;
    let routes = Router::new().route("/verify", post(verify)).route("/settle", post(settle));
    Ok(routes.with_state(Arc::new(facilitator)))
}

async fn verify(State(facilitator): State<Exact>, Json(request): Json<VerifyRequest>) -> Response {
    answer(facilitator.verify(request).await)
}

async fn settle(State(facilitator): State<Exact>, Json(request): Json<SettleRequest>) -> Response {
    answer(facilitator.settle(request).await)
}

fn answer<T: Serialize>(result: Result<T, FacilitatorError>) -> Response {
    match result {
        Ok(response) => Json(response).into_response(),
        Err(error) => {
            let body = serde_json::json!({ "errorReason": error.to_string() });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}
