//! A shop that asks by challenge, its clock in the test's hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_challenge::{
    Bind, ChallengeOffer, Charge, Evidence, Gate, MemoryStore, MockProof, ProofError, Proofs, Proven, VerifyProof,
    answer,
};
use x402_codec::{challenge as codec, header};
use x402_http::Body;
use x402_http::server::challenge::{Ask, Challenges, Clock};
use x402_http::server::{RequirePaymentLayer, Seller};
use x402_types::challenge::{Challenge, IsoTime, Payment, Proof, ProofKind};
use x402_types::{Fault, Members, TimeoutSeconds, UnixSeconds};

use crate::common::{Handler, ORIGIN, Script, Service, call, get, offer as v2_offer, terms};

/// 2025-10-19T12:00:00Z, the document's moment.
pub(crate) const NOW: u64 = 1_760_875_200;

/// A clock that stands still until it is moved, and random bytes that count up.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    passed: AtomicU64,
    drawn: AtomicU64,
}

impl Ticks {
    pub(crate) fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(NOW + self.passed.load(Ordering::SeqCst))
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&u128::from(self.drawn.fetch_add(1, Ordering::SeqCst)).to_be_bytes());
        Some(bytes)
    }
}

/// What the document's sample asks, for a resource.
pub(crate) fn offer(resource: &str) -> ChallengeOffer {
    let mut meta = Members::new();
    meta.insert_text("description", "One-off access");
    ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap(),
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap(),
        amount: "1000".parse().unwrap(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: resource.parse().unwrap(),
        meta: Some(meta),
        bind: Bind::default(),
    }
}

pub(crate) type Paywalled = Service<Body<Full<Bytes>>>;

pub(crate) struct Shop {
    pub(crate) clock: Arc<Ticks>,
    pub(crate) challenges: Challenges,
    pub(crate) handler: Handler,
    pub(crate) script: Arc<Script>,
}

pub(crate) fn shop() -> Shop {
    shop_taking(Proofs::default().with_mock_for_development())
}

pub(crate) fn shop_taking(proofs: Proofs) -> Shop {
    let clock = Arc::new(Ticks::default());
    let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
    let challenges = Challenges::with_clock(ORIGIN, gate, clock.clone()).unwrap();
    let script = Arc::new(Script::default());
    let handler = Handler { script: Some(script.clone()), ..Handler::default() };
    Shop { clock, challenges, handler, script }
}

impl Shop {
    /// A route that is paid by challenge alone.
    pub(crate) fn sells(&self, ask: Ask) -> Paywalled {
        self.wall(self.challenges.charge(ask).unwrap())
    }

    /// A route that is paid by challenge or by version 2, and by version 1 if asked for.
    pub(crate) fn sells_both(&self, ask: Ask, v1: bool) -> Paywalled {
        let seller = Seller::new(ORIGIN, self.script.clone()).unwrap();
        let seller = if v1 { seller.with_v1() } else { seller };
        let offers = seller.charge([v2_offer(terms())]).unwrap();
        self.wall(self.challenges.charge_beside(offers, ask).unwrap())
    }

    pub(crate) fn wall(&self, layer: RequirePaymentLayer) -> Paywalled {
        layer.layer(self.handler.service()).boxed_clone()
    }

    /// Asks at the route's own host, and reads the challenge.
    pub(crate) async fn asked(&self, service: &Paywalled, path: &str) -> Challenge {
        let (status, _, body) = call(service, at(path)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        codec::challenge(&body).unwrap()
    }

    /// A payment of it with a mock proof, made now.
    pub(crate) fn payment(&self, challenge: &Challenge, nonce: u8) -> Payment {
        MockProof::sign(answer(challenge, Proof::new(ProofKind::Mock), [nonce; 16], self.clock.now()))
    }
}

/// A payment that was made so many seconds from its own time.
pub(crate) fn dated(payment: &Payment, at: UnixSeconds) -> Payment {
    MockProof::sign(Payment { issued_at: IsoTime::from(at), ..payment.clone() })
}

pub(crate) fn at(path: &str) -> Request<Full<Bytes>> {
    get(path, &[(&http::header::HOST, HeaderValue::from_static("api.example.com"))])
}

pub(crate) fn paying(path: &str, payment: &Payment) -> Request<Full<Bytes>> {
    let mut request = at(path);
    request.headers_mut().insert(&header::X_PAYMENT, codec::encode_payment(payment).unwrap());
    request
}

/// The code of a refusal's body.
pub(crate) fn code(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    json["error"].as_str().unwrap_or_default().to_owned()
}

/// The JSON in `X-PAYMENT-RESPONSE`.
pub(crate) fn receipt(headers: &HeaderMap) -> serde_json::Value {
    serde_json::to_value(codec::response(headers[&header::X_PAYMENT_RESPONSE].as_bytes()).unwrap()).unwrap()
}

/// A facilitator's ticket: it is down for the first one that asks, and then says yes.
#[derive(Default)]
pub(crate) struct Down(AtomicU64);

impl Down {
    pub(crate) fn once() -> Self {
        Self::default()
    }

    pub(crate) fn payment(shop: &Shop, challenge: &Challenge) -> Payment {
        let proof = Proof { ticket: Some("ticket".into()), ..Proof::new(ProofKind::Facilitator) };
        answer(challenge, proof, [9; 16], shop.clock.now())
    }
}

#[async_trait]
impl VerifyProof for Down {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(ProofError::Unmoved(Fault::unreachable("facilitator", "connection refused")));
        }
        Ok(Proven { amount: evidence.payment.paid_amount, key: None })
    }
}
