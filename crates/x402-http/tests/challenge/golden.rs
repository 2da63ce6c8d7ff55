//! Exchanges of this dialect as files, `tests/golden/challenge_*.http`: `UPDATE_GOLDEN=1` rewrites them.
//!
//! Ids count up with the test's random source, and the clock stands at the document's moment.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use x402_challenge::Proofs;
use x402_codec::{challenge as codec, header as names};
use x402_http::server::challenge::{Ask, Entitle};
use x402_types::UnixSeconds;
use x402_types::challenge::Challenge;

use crate::common::{get, header, payment_json, record, terms};
use crate::shop::{Down, NOW, Paywalled, Shop, at, dated, offer, paying, shop, shop_taking};

struct Stage {
    shop: Shop,
    service: Paywalled,
    text: String,
}

impl Stage {
    fn new(shop: Shop, sells: impl FnOnce(&Shop) -> Paywalled) -> Self {
        let service = sells(&shop);
        Self { shop, service, text: String::new() }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> (http::HeaderMap, Bytes) {
        let (_, headers, body) = record::exchange(&mut self.text, &self.service, request, &self.shop.script).await;
        (headers, body)
    }

    async fn asked(&mut self) -> Challenge {
        codec::challenge(&self.exchange(at("/weather")).await.1).unwrap()
    }
}

fn ask() -> Ask {
    Ask::new(offer("urn:res:abc123"))
}

#[tokio::test]
async fn paid() {
    let mut stage = Stage::new(shop(), |shop| shop.sells(ask()));
    let challenge = stage.asked().await;
    stage.exchange(paying("/weather", &stage.shop.payment(&challenge, 1))).await;
    record::check("challenge_paid", &stage.text);
}

#[tokio::test]
async fn refused() {
    let mut stage = Stage::new(shop(), |shop| shop.sells(ask()));
    let challenge = stage.asked().await;
    let payment = stage.shop.payment(&challenge, 1);
    stage.exchange(paying("/weather", &dated(&payment, UnixSeconds(NOW - 61)))).await;
    stage.exchange(paying("/forecast", &payment)).await;
    let mut malformed = at("/weather");
    malformed.headers_mut().insert(&names::X_PAYMENT, HeaderValue::from_static("not base64!"));
    stage.exchange(malformed).await;
    record::check("challenge_refused", &stage.text);
}

#[tokio::test]
async fn replay() {
    let mut stage = Stage::new(shop(), |shop| shop.sells(ask()));
    let challenge = stage.asked().await;
    let payment = stage.shop.payment(&challenge, 1);
    stage.exchange(paying("/weather", &payment)).await;
    stage.exchange(paying("/weather", &payment)).await;
    record::check("challenge_replay", &stage.text);
}

#[tokio::test]
async fn entitlements() {
    let mut stage = Stage::new(shop(), |shop| shop.sells(ask().with_entitlement(Entitle::cookie(3600))));
    let challenge = stage.asked().await;
    let (headers, _) = stage.exchange(paying("/weather", &stage.shop.payment(&challenge, 1))).await;
    let cookie = headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().parse().unwrap();
    stage.exchange(get("/weather", &[(&http::header::COOKIE, cookie)])).await;

    stage.service = stage.shop.sells(ask().with_entitlement(Entitle::bearer(60)));
    let challenge = stage.asked().await;
    let (headers, _) = stage.exchange(paying("/weather", &stage.shop.payment(&challenge, 2))).await;
    let bearer = format!("Bearer {}", headers[&codec::X_PAYMENT_TOKEN].to_str().unwrap()).parse().unwrap();
    stage.exchange(get("/weather", &[(&http::header::AUTHORIZATION, bearer)])).await;
    record::check("challenge_entitlements", &stage.text);
}

#[tokio::test]
async fn beside_version_2() {
    let mut stage = Stage::new(shop(), |shop| shop.sells_both(ask(), false));
    let challenge = stage.asked().await;
    stage.exchange(paying("/weather", &stage.shop.payment(&challenge, 1))).await;
    stage.exchange(get("/weather", &[(&names::PAYMENT_SIGNATURE, header(&payment_json(&terms(), 7)))])).await;
    record::check("challenge_beside_version_2", &stage.text);
}

#[tokio::test]
async fn facilitator_down() {
    let proofs = Proofs::default().with(std::sync::Arc::new(Down::once())).unwrap();
    let mut stage = Stage::new(shop_taking(proofs), |shop| shop.sells(ask()));
    let challenge = stage.asked().await;
    let payment = Down::payment(&stage.shop, &challenge);
    stage.exchange(paying("/weather", &payment)).await;
    stage.exchange(paying("/weather", &payment)).await;
    record::check("challenge_facilitator_down", &stage.text);
}
