//! x402-rs 2.0.2: its router, handlers, registry and provider, as its documentation puts them together.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_provider::Provider;
use axum::Router;
use serde_json::json;
use x402_chain_eip155::V2Eip155Exact;
use x402_chain_eip155::chain::config::{Eip155ChainConfig, Eip155ChainConfigInner};
use x402_chain_eip155::chain::{Eip155ChainProvider, Eip155ChainReference, Eip155MetaTransactionProvider};
use x402_facilitator_local::{FacilitatorLocal, handlers};
use x402_types::chain::{ChainRegistry, FromConfig};
use x402_types::scheme::{SchemeBlueprints, SchemeConfig, SchemeRegistry};

use super::Told;
use crate::anvil::{CHAIN_ID, NETWORK};
use crate::fault::Fallible;

pub async fn router(told: &Told) -> Fallible<Router> {
    let inner: Eip155ChainConfigInner =
        serde_json::from_value(json!({ "signers": told.signers, "rpc": [{ "http": told.rpc }] }))?;
    let config = Eip155ChainConfig { chain_reference: Eip155ChainReference::new(CHAIN_ID), inner };
    let provider = Eip155ChainProvider::from_config(&config).await.map_err(|error| error.to_string())?;
    if let Some(poll) = told.poll {
        provider.inner().client().set_poll_interval(poll);
    }
    let chains = ChainRegistry::new(HashMap::from([(config.chain_id(), Arc::new(provider))]));
    let scheme: SchemeConfig = serde_json::from_value(json!({ "id": "v2-eip155-exact", "chains": NETWORK }))?;
    let blueprints = SchemeBlueprints::new().and_register(ByReference);
    let registry = SchemeRegistry::build(chains, blueprints, &vec![scheme]);
    Ok(handlers::routes().with_state(Arc::new(FacilitatorLocal::new(registry))))
}

/// The blueprint for a registry of shared providers, which hands out references.
struct ByReference;

impl x402_types::scheme::X402SchemeId for ByReference {
    fn namespace(&self) -> &str {
        V2Eip155Exact.namespace()
    }
    fn scheme(&self) -> &str {
        V2Eip155Exact.scheme()
    }
}

impl x402_types::scheme::X402SchemeFacilitatorBuilder<&Arc<Eip155ChainProvider>> for ByReference {
    fn build(
        &self,
        provider: &Arc<Eip155ChainProvider>,
        config: Option<serde_json::Value>,
    ) -> Result<Box<dyn x402_types::scheme::X402SchemeFacilitator>, Box<dyn std::error::Error>> {
        V2Eip155Exact.build(Arc::clone(provider), config)
    }
}
