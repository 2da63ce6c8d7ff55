//! `402kit-x402v1.md` "With Facilitators": the proof is a facilitator's ticket, which the facilitator verifies.
//!
//! The document names `POST /initiate`, `/verify` and `/settle` without schemas. The bodies are those that existing
//! facilitators of the dialect accept: `{"action": "initiate", "challenge": …}`, `{"action": "verify", "header": …}`
//! and `{"action": "settle", "header": …}`, where `header` is the value of `X-PAYMENT`. Two members are additions of
//! this project: `challenge`, the server's own, with each header, since the payer presents the ticket, which may be for
//! another challenge, one that pays the payer; and `amount`, the amount of a metered payment to settle.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;
use x402_challenge::{
    ChallengeRefusal, Evidence, ExactProof, MadeProof, MakeProof, Metered, ProofError, ProofKey, Proven, VerifyProof,
    payment_digest,
};
use x402_codec::{Limits, challenge as codec, json};
use x402_types::challenge::{Challenge, ChallengeId, Code, Network, Payment, Proof, ProofKind, ResourceName};
use x402_types::{AtomicAmount, EvmAddress, Fault, MakePayment, RawJson, Refusal, SigningContext, UnixSeconds};

use crate::remote::{Authorize, IDEMPOTENCY_KEY, RemoteError, SERVICE, Timeouts, authorized, client, exchange};
use crate::service::{base, below};

/// A facilitator of the dialect at an address that the server configures.
///
/// A ticket may contain URLs; the client chose them, and they are never called. A response that is not a 2xx of the
/// form above is a fault, which consumes nothing.
#[derive(Clone)]
pub struct TicketFacilitator {
    http: reqwest::Client,
    base: Url,
    settles: bool,
    timeouts: Timeouts,
    limits: Limits,
    authorize: Option<Arc<dyn Authorize>>,
}

#[derive(Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Ask<'a> {
    Initiate {
        challenge: &'a Challenge,
    },
    Verify {
        header: &'a str,
        challenge: &'a Challenge,
    },
    Settle {
        header: &'a str,
        challenge: &'a Challenge,
        #[serde(skip_serializing_if = "Option::is_none")]
        amount: Option<AtomicAmount>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    ticket: Box<str>,
    #[serde(default)]
    verify_url: Option<Box<str>>,
    #[serde(default)]
    settle_url: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default)]
    reason: Option<Box<str>>,
    #[serde(default)]
    resource: Option<ResourceName>,
    #[serde(default)]
    details: Option<RawJson>,
}

/// The statements of some facilitators about the payment. Other members are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    challenge_id: Option<ChallengeId>,
    #[serde(default)]
    network: Option<Network>,
    #[serde(default)]
    asset: Option<EvmAddress>,
    #[serde(default)]
    pay_to: Option<EvmAddress>,
}

impl Details {
    fn differ(&self, challenge: &Challenge) -> bool {
        let account =
            |said: Option<EvmAddress>, asked: EvmAddress| said.is_some_and(|said| said.to_bytes() != asked.to_bytes());
        self.challenge_id.as_ref().is_some_and(|id| *id != challenge.challenge_id)
            || self.network.as_ref().is_some_and(|network| *network != challenge.network)
            || account(self.asset, challenge.asset)
            || account(self.pay_to, challenge.pay_to)
    }
}

impl Verdict {
    /// Returns whether the statements about the payment match the challenge.
    fn is_for(&self, challenge: &Challenge) -> bool {
        let details = self.details.as_ref().and_then(|details| details.read::<Details>().ok());
        self.resource.as_ref().is_none_or(|resource| *resource == challenge.resource)
            && !details.is_some_and(|details| details.differ(challenge))
    }
}

impl TicketFacilitator {
    /// Creates a client of the facilitator at an address, for example `https://facilitator.example/x402`.
    /// # Errors
    /// The address is malformed, or there is no TLS.
    pub fn new(address: &str) -> Result<Self, RemoteError> {
        Self::with_timeouts(address, Timeouts::DEFAULT)
    }

    /// Creates a client of the facilitator at an address, with custom timeouts.
    /// # Errors
    /// The address is malformed, or there is no TLS.
    pub fn with_timeouts(address: &str, timeouts: Timeouts) -> Result<Self, RemoteError> {
        Ok(Self {
            http: client(timeouts)?,
            base: base(address).ok_or(RemoteError::Address)?,
            settles: true,
            timeouts,
            limits: Limits::DEFAULT,
            authorize: None,
        })
    }

    /// Declares that tickets are paid when they verify: "`POST /settle` (optional)". Metered payments are settled
    /// nevertheless.
    #[must_use]
    pub const fn with_verification_only(mut self) -> Self {
        self.settles = false;
        self
    }

    /// Adds headers to each request.
    #[must_use]
    pub fn with_authorize(mut self, authorize: Arc<dyn Authorize>) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// Requests, for a client, a ticket for a challenge, as the proof that carries it.
    /// # Errors
    /// The facilitator did not issue a ticket.
    pub async fn initiate(&self, challenge: &Challenge) -> Result<Proof, Fault> {
        let ticket: Ticket = self.ask("initiate", &Ask::Initiate { challenge }, self.timeouts.verify).await?;
        let proof = Proof {
            ticket: Some(ticket.ticket),
            verify_url: ticket.verify_url,
            settle_url: ticket.settle_url,
            ..Proof::new(ProofKind::Facilitator)
        };
        proof.complete().map_err(|(member, why)| Fault::unreachable(SERVICE, format_args!("{member}: {why}")))?;
        Ok(proof)
    }

    async fn ask<T: DeserializeOwned>(&self, end: &str, ask: &Ask<'_>, timeout: Duration) -> Result<T, Fault> {
        self.ask_as(None, end, ask, timeout).await
    }

    /// Sends a request under `name`: a settlement repeated after a lost response is then the same request.
    async fn ask_as<T: DeserializeOwned>(
        &self,
        name: Option<&str>,
        end: &str,
        ask: &Ask<'_>,
        timeout: Duration,
    ) -> Result<T, Fault> {
        let url = below(&self.base, end);
        let mut headers = authorized(self.authorize.as_deref(), &Method::POST, &url).await?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(name) = name {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(name).map_err(Fault::broken)?);
        }
        let body = serde_json::to_vec(ask).map_err(Fault::broken)?;
        let request = self.http.post(url).headers(headers).timeout(timeout).body(body);
        let (status, answer) = exchange(request, self.limits.body).await?;
        if !(200..300).contains(&status) {
            return Err(Fault::unreachable(SERVICE, format_args!("HTTP {status}")));
        }
        json::from_slice(&answer, &self.limits).map_err(|error| Fault::unreachable(SERVICE, error))
    }

    async fn settled(
        &self,
        challenge: &Challenge,
        payment: &Payment,
        amount: Option<AtomicAmount>,
    ) -> Result<Verdict, ProofError> {
        let header = header(payment).map_err(ProofError::Unmoved)?;
        let ask = Ask::Settle { header: &header, challenge, amount };
        let name = format!("x402.v1:{}", payment_digest(payment)?);
        self.ask_as(Some(&name), "settle", &ask, self.timeouts.settle).await.map_err(ProofError::Unknown)
    }
}

fn header(payment: &Payment) -> Result<String, Fault> {
    let value = codec::encode_payment(payment).map_err(Fault::broken)?;
    value.to_str().map(str::to_owned).map_err(Fault::broken)
}

/// Interprets a verdict: "A reason maps to the code of its name", any other to `verification_failed`. `again` means
/// that an earlier attempt of this server may have used the ticket.
fn judge(verdict: &Verdict, challenge: &Challenge, again: bool) -> Result<(), ProofError> {
    if verdict.ok {
        return if verdict.is_for(challenge) {
            Ok(())
        } else {
            Err(ChallengeRefusal::new(Code::Mismatch, "proof.ticket: for another challenge").into())
        };
    }
    let reason = verdict.reason.as_deref().unwrap_or_default();
    let code = reason.parse().unwrap_or(Code::VerificationFailed);
    if again && code == Code::Replay {
        return Err(ProofError::Unknown(Fault::unreachable(SERVICE, "the ticket is used, perhaps by this payment")));
    }
    let message = match reason {
        "" => "proof.ticket: refused by the facilitator".to_owned(),
        reason => format!("proof.ticket: refused by the facilitator: {}", reason.escape_debug()),
    };
    Err(ChallengeRefusal::new(code, message).into())
}

/// Interprets a settlement: one that was made for another challenge has moved money nevertheless.
fn judge_settled(verdict: &Verdict, challenge: &Challenge, again: bool) -> Result<(), ProofError> {
    if verdict.ok && !verdict.is_for(challenge) {
        return Err(ProofError::Unknown(Fault::unreachable(SERVICE, "it has settled another challenge")));
    }
    judge(verdict, challenge, again)
}

#[async_trait]
impl VerifyProof for TicketFacilitator {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let (challenge, payment) = (&evidence.issued.challenge, evidence.payment);
        let settles = self.settles && !evidence.is_metered();
        // A ticket that an earlier attempt has settled may no longer verify; settling it again reveals that.
        if !(settles && evidence.again) {
            let header = header(payment).map_err(ProofError::Unmoved)?;
            let ask = Ask::Verify { header: &header, challenge };
            let asked = self.ask("verify", &ask, self.timeouts.verify).await;
            judge(&asked.map_err(ProofError::Unmoved)?, challenge, evidence.again)?;
        }
        if settles {
            judge_settled(&self.settled(challenge, payment, None).await?, challenge, evidence.again)?;
        }
        let ticket = payment.proof.ticket.as_deref().unwrap_or_default();
        let key = ProofKey(format!("facilitator:{}:{ticket}", self.base).into());
        Ok(Proven { amount: payment.paid_amount, key: Some(key) })
    }

    async fn settle(&self, meter: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        // Any call may be a repetition: the meter is closed before the first.
        let challenge = &meter.issued.challenge;
        judge_settled(&self.settled(challenge, &meter.payment, Some(meter.used)).await?, challenge, true)
    }
}

impl fmt::Debug for TicketFacilitator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketFacilitator").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Makes, for a client, proofs of type `facilitator`, whose tickets are paid by the content of an `exact` proof.
///
/// The facilitator is the configured one, never one that a server names. It settles only what the payer signed for this
/// challenge.
#[derive(Debug, Clone)]
pub struct TicketPayer<M> {
    facilitator: TicketFacilitator,
    exact: ExactProof<M>,
}

impl<M> TicketPayer<M> {
    /// Creates proofs with tickets from this facilitator, paid by this payer.
    #[must_use]
    pub const fn new(facilitator: TicketFacilitator, exact: ExactProof<M>) -> Self {
        Self { facilitator, exact }
    }
}

#[async_trait]
impl<M: MakePayment> MakeProof for TicketPayer<M> {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    fn can_pay(&self, challenge: &Challenge) -> bool {
        self.exact.can_pay(challenge)
    }

    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        context: &SigningContext<'_>,
    ) -> Result<MadeProof, Refusal> {
        let ticket = self.facilitator.initiate(challenge).await?;
        let mut made = self.exact.make_proof(challenge, payment, context).await?;
        let payload = made.payment.proof.payload.take();
        made.payment.proof = Proof { payload, ..ticket };
        Ok(made)
    }
}
