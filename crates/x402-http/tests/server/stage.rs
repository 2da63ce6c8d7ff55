//! A shop in memory, and what its facilitator may say of a settlement.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_http::Body;
use x402_http::server::{GrantState, Grants, MemoryGrants, Seller};
use x402_types::Offer;

use crate::common::{Handler, ORIGIN, PAYER, Script, Service, TRANSACTION, key_of, terms};

/// A shop, and what was seen in it.
pub(crate) struct Shop {
    pub(crate) script: Arc<Script>,
    pub(crate) handler: Handler,
    pub(crate) grants: Arc<MemoryGrants>,
    pub(crate) seller: Seller,
}

pub(crate) type Paywalled = Service<Body<Full<Bytes>>>;

pub(crate) fn shop() -> Shop {
    let script = Arc::new(Script::default());
    let grants = Arc::new(MemoryGrants::default());
    let seller = Seller::new(ORIGIN, script.clone()).unwrap().with_grants(grants.clone());
    let handler = Handler { script: Some(script.clone()), ..Handler::default() };
    Shop { script, handler, grants, seller }
}

impl Shop {
    pub(crate) fn sells(&self, offers: Vec<Offer>) -> Paywalled {
        self.seller.charge(offers).unwrap().layer(self.handler.service()).boxed_clone()
    }

    pub(crate) async fn state(&self, json: &serde_json::Value) -> Option<GrantState> {
        let claim = x402_types::Claim::new(terms(), serde_json::from_value(json.clone()).unwrap());
        self.grants.look(&key_of(&claim).unwrap()).await.unwrap().map(|standing| standing.state)
    }
}

pub(crate) fn pending() -> String {
    format!(
        r#"{{"success":false,"errorReason":"settlement_pending","payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532"}}"#
    )
}

pub(crate) fn replayed() -> String {
    format!(
        r#"{{"success":true,"payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532","extensions":{{"replayed":true}}}}"#
    )
}
