//! Pays a challenge within three requests.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;
use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, ChallengeId, PaymentResponse, ResourceName};

use super::super::exchange::{AFTER_FAILURE, Answer, Leg, send};
use super::super::flight::{Flight, Purchase};
use super::super::peek::peek;
use super::super::{ClientError, Closed, PayError, Payer, PaymentSent};
use super::OpenEntitlement;
use super::outcome::{ChallengeOutcome, ChallengeReceipt, challenge_outcome};

/// "At most three requests", of which the first one was answered with 402.
const REQUESTS: u32 = 3;

/// Pays a challenge, which came with the last of `made` requests. `presented` is the resource whose entitlement the
/// first request presented.
pub(in super::super) async fn pay<S, B>(
    payer: &Payer,
    service: &mut S,
    leg: &Leg,
    purchase: Purchase,
    mut challenge: Challenge,
    presented: Option<ResourceName>,
    made: u32,
) -> Answer<B, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let mut left = REQUESTS.saturating_sub(made);
    let kept = &payer.wallet.entitlements;
    if let Some(resource) = &presented {
        kept.forget(&purchase.url, resource);
    }
    // The entitlement was bought at another path of this origin.
    let mut request = leg.request(None);
    if left > 1 && kept.present(&purchase.url, &challenge.resource, request.headers_mut(), payer.clock.now()) {
        left -= 1;
        let response = send(service, request).await.map_err(ClientError::Transport)?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(response.map(crate::Body::inner));
        }
        kept.forget(&purchase.url, &challenge.resource);
        let (body, _) = peek(response.into_body(), payer.limits.body).await;
        challenge = codec::challenge(&body.ok_or(PayError::Answer)?).map_err(PayError::from)?;
    }
    let signed = payer.sign_challenge(&challenge, &purchase, leg).await?;
    let flight = Flight::new(payer, purchase.clone(), signed);
    Paying { payer, leg, purchase, left, again: true }.fly(service, flight, challenge.challenge_id).await
}

/// Sends a payment again that was sent before and whose result is unknown. No other payment is made for the same
/// request meanwhile.
pub(in super::super) async fn pay_again<S, B>(
    payer: &Payer,
    service: &mut S,
    leg: &Leg,
    flight: Flight<'_>,
    id: ChallengeId,
) -> Answer<B, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let purchase = flight.purchase().clone();
    Paying { payer, leg, purchase, left: REQUESTS - 1, again: false }.fly(service, flight, id).await
}

struct Paying<'p> {
    payer: &'p Payer,
    leg: &'p Leg,
    purchase: Purchase,
    /// The number of requests that may still be made.
    left: u32,
    /// Whether one more payment may be made.
    again: bool,
}

impl Paying<'_> {
    async fn fly<S, B>(mut self, service: &mut S, flight: Flight<'_>, id: ChallengeId) -> Answer<B, S::Error>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>>,
        B: http_body::Body<Data = Bytes>,
    {
        let (mut flight, mut id) = (flight, id);
        loop {
            let Some((header, before)) = flight.depart() else { return Err(PayError::NoTerms.into()) };
            let bytes = header.1.len();
            self.left = self.left.saturating_sub(1);
            let response = match send(service, self.leg.request(Some(header))).await {
                Ok(response) => response,
                Err(error) if self.left == 0 => return Err(ClientError::Unknown(error)),
                Err(_) => {
                    self.payer.clock.sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let (outcome, mut response) =
                challenge_outcome(&self.leg.parts.method, response, &id, self.payer.limits.body).await;
            let earlier = flight.challenge_receipt().cloned();
            let understood = outcome != ChallengeOutcome::Open;
            let sent = PaymentSent::of_challenge(bytes, flight.valid_until(), response.status(), understood);
            response.extensions_mut().insert(sent);
            match outcome {
                ChallengeOutcome::Pending(wait) if self.left > 0 => {
                    self.payer.clock.sleep(wait).await;
                    continue;
                }
                ChallengeOutcome::Pending(_) | ChallengeOutcome::Open => {}
                ChallengeOutcome::Paid(receipt) => {
                    flight.land(Some(Closed::Paid)).await;
                    if let Some(receipt) = receipt {
                        self.keep(&receipt, response.headers());
                        response.extensions_mut().insert(ChallengeReceipt(receipt));
                    }
                }
                ChallengeOutcome::Unserved(receipt) => {
                    // If there is an entitlement, the next request presents it; otherwise the payment.
                    let entitlement = self.keep(&receipt, response.headers());
                    response.extensions_mut().insert(ChallengeReceipt(receipt.clone()));
                    flight.settle_challenge(receipt, entitlement).await;
                }
                // An earlier attempt paid, and its response was lost: the refusal carries the receipt.
                ChallengeOutcome::Unused(_)
                | ChallengeOutcome::Refused
                | ChallengeOutcome::Denied
                | ChallengeOutcome::Spent
                | ChallengeOutcome::Waived
                    if earlier.is_some() =>
                {
                    flight.land(None).await;
                }
                // After an earlier attempt with an unknown result, a refusal may be caused by that attempt: it ends
                // nothing.
                ChallengeOutcome::Unused(_) | ChallengeOutcome::Refused | ChallengeOutcome::Denied if before => {
                    if let Some(open) = flight.blocks() {
                        return Err(PayError::EarlierUnknown(open).into());
                    }
                }
                ChallengeOutcome::Unused(fresh) => {
                    flight.land(Some(Closed::Refused)).await;
                    if self.again && self.left > 0 {
                        match self.payer.sign_challenge(&fresh, &self.purchase, self.leg).await {
                            Ok(signed) => {
                                self.again = false;
                                id = fresh.challenge_id;
                                flight = Flight::new(self.payer, self.purchase.clone(), signed);
                                continue;
                            }
                            // The response with the refusal is returned.
                            Err(error) if error.leaves_others() => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                // The statement is about the challenge, which is paid once, so an earlier sending does not matter.
                ChallengeOutcome::Waived => flight.land(Some(Closed::Refused)).await,
                ChallengeOutcome::Refused => flight.land(Some(Closed::Refused)).await,
                ChallengeOutcome::Denied => {}
                ChallengeOutcome::Spent => flight.land(None).await,
            }
            // A response without a receipt does not revoke an earlier one.
            if let Some(receipt) = earlier
                && response.extensions().get::<ChallengeReceipt>().is_none()
            {
                response.extensions_mut().insert(ChallengeReceipt(receipt));
            }
            return Ok(response);
        }
    }

    fn keep(&self, receipt: &PaymentResponse, headers: &http::HeaderMap) -> Option<OpenEntitlement> {
        let notice = receipt.entitlement.as_ref()?;
        let (payer, url) = (self.payer, &self.purchase.url);
        payer.wallet.entitlements.keep(url, receipt.resource.clone(), notice, headers, payer.clock.now())
    }
}
