//! Payments by a delegated card: the [x402 Card Delegation
//! Extension](https://github.com/nevermined-io/docs/blob/main/specs/x402-card-delegation.mdx) 0.1.

use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use x402_codec::{Limits, base64, body, json};
use x402_facilitator_core::{AskFacilitator, PaymentRequest};
use x402_types::nvm::card::{CardCode, CardPayload, CardPayment, CardRequirements, is_payment};
use x402_types::nvm::{AccessToken, FacilitatorRequest, PaymentRequired};
use x402_types::{Claim, Entry, ErrorReason, Fault, Members, Offer, RawJson, Rejection, SchemeName, Version, v2};

use crate::checkout::{Dialect, RawPayment, ReadPayment, fitting};
use crate::digest::hex;

/// The extension's version 0.1. A payment that names its scheme is read here, whatever else it contains.
#[derive(Debug, Clone, Copy)]
pub struct NvmCard;

impl Dialect for NvmCard {
    fn name(&self) -> &'static str {
        "nvm card v0.1"
    }

    fn read(&self, payment: &mut RawPayment<'_>, offers: &[Offer]) -> Option<Result<ReadPayment, Rejection>> {
        // Most payments are not of this extension: they are parsed once.
        let is_other = |payment: &x402_types::PaymentPayload| match payment {
            x402_types::PaymentPayload::V1(_) => true,
            x402_types::PaymentPayload::V2(payment) => payment.accepted.scheme != SchemeName::NVM_CARD_DELEGATION,
        };
        if payment.as_x402().is_ok_and(is_other) {
            return None;
        }
        let raw: RawJson = payment.read().ok()?;
        is_payment(&raw).then(|| CardPayment::from_raw(&raw).and_then(|payment| claim(payment, offers)))
    }

    fn code(&self, reason: ErrorReason) -> ErrorReason {
        CardCode::translate(reason)
    }

    /// Returns the name of the request: a token is a bearer's, for many requests. The payer names each by
    /// `Idempotency-Key`, so that it can be repeated; without it every request is a new one. A token that pays once is for
    /// one request.
    fn request_name(&self, claim: &Claim, name: Option<&str>) -> Result<Option<String>, Rejection> {
        let token = CardPayload::from_raw(&claim.payload)?.token;
        if pays_once(&token) {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        hash.update(b"x402-http card request v1");
        match name.filter(|name| (1..=255).contains(&name.len())) {
            Some(name) => {
                hash.update(token);
                hash.update(name);
            }
            None => {
                let mut random = [0; 32];
                getrandom::fill(&mut random).map_err(|_| Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))?;
                hash.update(random);
            }
        }
        Ok(Some(hex(hash)))
    }

    fn form(&self) -> Option<Arc<dyn AskFacilitator>> {
        Some(Arc::new(AskForCard))
    }

    /// Adds `extensions`, which the extension requires: an empty object.
    fn declare(&self, offers: &[Offer], document: &mut v2::PaymentRequired) {
        if document.extensions.is_empty()
            && document.rest.get("extensions").is_none()
            && offers.iter().any(|offer| offer.terms.scheme == SchemeName::NVM_CARD_DELEGATION)
            && let Ok(none) = RawJson::of(&Members::new())
        {
            document.rest.insert("extensions", none);
        }
    }
}

fn claim(payment: CardPayment, offers: &[Offer]) -> Result<ReadPayment, Rejection> {
    let unfit = || CardCode::InvalidPayload.because("the payment is for none of the entries of `accepts`");
    let (place, _) = fitting(offers, |terms| payment.is_for(terms)).ok_or_else(unfit)?;
    let offer = offers.get(place).ok_or_else(unfit)?;
    let terms = offer.terms.clone().with_version(Version::V2);
    Ok(ReadPayment { offer: place, claim: payment.into_claim(terms), forwarded: None })
}

/// Returns whether a token claims to pay once. The facilitator decides by the signed token; here only the name of the
/// request depends on it.
fn pays_once(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        nvm: Nonce,
    }
    #[derive(Deserialize)]
    struct Nonce {
        nonce: Option<String>,
    }
    let payload = token.split('.').nth(1).and_then(|part| base64::decode(part.as_bytes(), Limits::DEFAULT.header).ok());
    let claims = payload.and_then(|payload| json::from_slice::<Claims>(&payload, &Limits::DEFAULT).ok());
    claims.is_some_and(|claims| claims.nvm.nonce.is_some())
}

/// The requests of a server to a facilitator for a payment by card.
#[derive(Debug)]
struct AskForCard;

impl AskFacilitator for AskForCard {
    fn request_body(&self, request: &PaymentRequest) -> Result<Vec<u8>, Fault> {
        let terms = &request.claim.terms;
        let entry = CardRequirements::try_from(terms).map_err(Fault::broken)?;
        let entry = RawJson::of(&entry).map_err(Fault::broken)?;
        let asked = FacilitatorRequest {
            payment_required: PaymentRequired {
                error: None,
                resource: (*request.resource).clone(),
                accepts: vec![Entry::Opaque(entry)],
                extensions: Members::new(),
                rest: Members::new(),
            },
            token: AccessToken::Base64(base64::encode(request.raw.as_bytes())),
            max_amount: Some(terms.amount),
            agent_request_id: request.verified_as.clone(),
            rest: Members::new(),
        };
        body::write(&asked).map_err(Fault::broken)
    }
}

#[cfg(feature = "server")]
impl crate::server::HttpDialect for NvmCard {}
