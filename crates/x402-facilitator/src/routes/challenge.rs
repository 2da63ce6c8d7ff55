//! The `x402.v1` dialect, `specs/402kit-x402v1.md` "With Facilitators": `POST /initiate`, `/verify`, `/settle`.
//!
//! The document names no bodies; these are those of its own implementation, told apart by `action`. What a ticket is
//! paid by is an EIP-3009 authorization in `proof.payload`, the one that an `exact` proof carries: its nonce is the hash
//! of the payment, so it pays this challenge by this payment and nothing else.
//!
//! A ticket is written out, not remembered: it repeats what the challenge asks, and promises nothing. Payers ask for
//! tickets, so what one says is the payer's word. A seller sends its own `challenge` beside the header, and the ticket
//! must be for that; a seller that does not must compare `details` with it, `payTo` above all.
//!
//! 200 for verdicts, 400 for a body that cannot be read, 409 for a name of another payment, 413 over size, 503 where it is not known.

use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use x402_challenge::{exact_nonce, payment_digest};
use x402_codec::{Limits, base64, challenge as codec, json as strict};
use x402_evm::eip3009::Payload;
use x402_types::challenge::{Challenge, ChallengeId, Code, Network, Networks, Payment, ProofKind, ResourceName};
use x402_types::v2::{self, ResourceInfo};
use x402_types::{
    AtomicAmount, Claim, ErrorReason, EvmAddress, Fault, Identity, Members, PaymentPayload, RawJson, Rejection,
    SchemeName, Terms, TimeoutSeconds, Version,
};

use super::{Api, NAMES_ANOTHER, Received, json, key_of, names, unavailable};

/// The longest ticket, in characters: beside it a payment must fit into its 4,096 bytes.
const LONGEST_TICKET: usize = 1024;

/// What is asked. One struct and no tagged enum: that would take a challenge's own members apart before they are read.
#[derive(Deserialize)]
struct Asked {
    action: Action,
    /// The challenge: of `initiate`, or the seller's own beside a header.
    challenge: Option<Challenge>,
    /// The value of `X-PAYMENT`.
    header: Option<String>,
    /// `settle`, of a metered payment.
    amount: Option<AtomicAmount>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Initiate,
    Verify,
    Settle,
}

impl Asked {
    fn read(body: &[u8], limits: &Limits, action: Action) -> Result<Self, Refused> {
        let asked: Self =
            strict::from_slice(body, limits).map_err(|error| refused(Code::InvalidSchema, error.to_string()))?;
        if asked.action != action {
            return Err(refused(Code::InvalidSchema, "action: not that of this route"));
        }
        Ok(asked)
    }

    /// What is asked of a payment, and its header.
    fn payment(body: &[u8], limits: &Limits, action: Action) -> Result<(String, Self), Refused> {
        let mut asked = Self::read(body, limits, action)?;
        let header = asked.header.take().ok_or_else(|| refused(Code::InvalidSchema, "header: missing"))?;
        Ok((header, asked))
    }
}

/// What of a challenge its payment does not say again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    challenge_id: ChallengeId,
    scheme: SchemeName,
    network: Network,
    asset: EvmAddress,
    pay_to: EvmAddress,
    amount: AtomicAmount,
    timeout: TimeoutSeconds,
    resource: ResourceName,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initiated {
    ticket: String,
    verify_url: String,
    settle_url: String,
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceName>,
    details: Details,
}

/// What is paid to whom, or why not.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(flatten)]
    paid: Option<Paid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    challenge_id: ChallengeId,
    network: Network,
    asset: EvmAddress,
    pay_to: EvmAddress,
    amount: AtomicAmount,
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
}

/// A refusal: the code of the dialect, and words.
struct Refused(Code, String);

fn refused(code: Code, why: impl Into<String>) -> Refused {
    Refused(code, why.into())
}

/// A payment that a ticket covers.
struct Covered {
    ticket: Ticket,
    claim: Claim,
}

/// Whether a body of `/verify` or `/settle` is of this dialect: it has an `action`, which no other has.
pub(super) fn speaks(body: &[u8], limits: &Limits) -> bool {
    #[derive(Deserialize)]
    struct Mark {
        action: Option<RawJson>,
    }
    // Bodies of the others are read once.
    const NAME: &[u8] = br#""action""#;
    body.windows(NAME.len()).any(|window| window == NAME)
        && strict::from_slice::<Mark>(body, limits).is_ok_and(|mark| mark.action.is_some())
}

pub(super) fn too_large() -> Response {
    json(StatusCode::PAYLOAD_TOO_LARGE, &Verdict::no(refused(Code::InvalidSchema, "the body is larger than 64 KiB")))
}

/// `POST /initiate`: a ticket for a challenge that can be settled here.
pub(super) fn initiate(api: &Api, headers: &HeaderMap, body: &[u8]) -> Response {
    let challenge = Asked::read(body, &api.limits, Action::Initiate)
        .and_then(|asked| asked.challenge.ok_or_else(|| refused(Code::InvalidSchema, "challenge: missing")));
    let challenge = match challenge {
        Ok(challenge) => challenge,
        Err(refused) => return unreadable(refused),
    };
    let ticket = Ticket::of(&challenge);
    match ticket.terms(api, challenge.max_amount_required).and_then(|_| ticket.write()) {
        Ok(ticket) => {
            // It tells its caller how they came here; nobody else reads it.
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let url = |end: &str| format!("http://{host}/{end}");
            json(StatusCode::OK, &Initiated { ticket, verify_url: url("verify"), settle_url: url("settle") })
        }
        Err(refused) => json(StatusCode::BAD_REQUEST, &Verdict::no(refused)),
    }
}

/// `POST /verify`: whether the payment would be settled. Nothing moves.
pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let (header, asked) = match Asked::payment(&received.body, &api.limits, Action::Verify) {
        Ok(asked) => asked,
        Err(refused) => return unreadable(refused),
    };
    let mut covered = match api.covered(&header, asked.challenge.as_ref(), received.caller) {
        Ok(covered) => covered,
        Err(refused) => return json(StatusCode::OK, &Verdict::no(refused)),
    };
    let name = match Name::of(api, &received.headers, &mut covered.claim) {
        Ok(name) => name,
        Err(refused) => return unreadable(refused),
    };
    if let Some(Name { caller, key, payment }) = &name {
        match api.names.fits(caller, key, *payment).await {
            Ok(true) => {}
            Ok(false) => return taken(),
            Err(fault) => return unknown(&fault),
        }
    }
    match api.engine.verify_claim(&covered.claim).await {
        Ok(answer) if answer.is_valid => {
            if let Some(Name { caller, key, payment }) = &name {
                api.names.verified(caller, key, *payment);
            }
            json(StatusCode::OK, &Verdict::yes(covered, answer.payer, None))
        }
        Ok(answer) => answer_no(answer.invalid_reason, answer.invalid_message),
        Err(fault) => unknown(&fault),
    }
}

/// `POST /settle`: has the payment made, once. The same header again is answered the same where the caller names its
/// request by `Idempotency-Key`; else whoever asks first is told, and all others that it is used.
pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let (header, asked) = match Asked::payment(&received.body, &api.limits, Action::Settle) {
        Ok(asked) => asked,
        Err(refused) => return unreadable(refused),
    };
    let mut covered = match api.covered(&header, asked.challenge.as_ref(), received.caller) {
        Ok(covered) if asked.amount.is_some_and(|amount| amount != covered.claim.terms.amount) => {
            let why = "amount: an authorization moves the sum that it names, and no other";
            return json(StatusCode::OK, &Verdict::no(refused(Code::Mismatch, why)));
        }
        Ok(covered) => covered,
        Err(refused) => return json(StatusCode::OK, &Verdict::no(refused)),
    };
    let settled = match Name::of(api, &received.headers, &mut covered.claim) {
        Ok(None) => api.engine.settle_claim(&covered.claim).await,
        Ok(Some(Name { caller, key, payment })) => match api.names.take(&caller, &key, payment).await {
            Ok(true) => api.engine.settle_named(&covered.claim).await,
            Ok(false) => return taken(),
            Err(fault) => Err(fault),
        },
        Err(refused) => return unreadable(refused),
    };
    match settled {
        Ok(answer) if answer.success => {
            json(StatusCode::OK, &Verdict::yes(covered, answer.payer, Some(answer.transaction)))
        }
        Ok(answer) => answer_no(answer.error_reason, answer.error_message),
        Err(fault) => unknown(&fault),
    }
}

/// What the caller calls its request, and which payment it shows under that.
struct Name {
    caller: String,
    key: String,
    payment: [u8; 32],
}

impl Name {
    /// And gives it to the claim.
    fn of(api: &Api, headers: &HeaderMap, claim: &mut Claim) -> Result<Option<Self>, Refused> {
        let unnamed = |rejection: Rejection| refused(Code::InvalidSchema, rejection.to_string());
        let Some(key) = key_of(headers).map_err(unnamed)? else { return Ok(None) };
        let payment = names::payment(&api.engine.settlement().key(claim).map_err(unnamed)?);
        let Identity { caller, .. } = claim.identity.clone();
        claim.identity.request = key.to_owned();
        Ok(Some(Self { caller, key: key.to_owned(), payment }))
    }
}

/// 409: the name is another payment's.
fn taken() -> Response {
    json(StatusCode::CONFLICT, &Verdict::no(refused(Code::Replay, NAMES_ANOTHER)))
}

impl Api {
    /// The claim of a payment whose ticket covers it, in the order of the document's table.
    fn covered(&self, header: &str, asked: Option<&Challenge>, caller: String) -> Result<Covered, Refused> {
        let payment =
            codec::payment(header.as_bytes()).map_err(|error| refused(Code::InvalidSchema, error.to_string()))?;
        if !payment.version.is_x402_v1() {
            return Err(refused(Code::Mismatch, "version: expected `x402.v1`"));
        }
        if payment.proof.kind != ProofKind::Facilitator {
            return Err(refused(Code::VerificationFailed, "proof.type: expected `facilitator`"));
        }
        let ticket = Ticket::read(payment.proof.ticket.as_deref().unwrap_or_default(), &self.limits)?;
        // Against the seller's own challenge, where it says which: the ticket is the payer's word.
        if asked.is_some_and(|challenge| Ticket::of(challenge) != ticket) {
            return Err(refused(Code::Mismatch, "proof.ticket: not for this challenge"));
        }
        ticket.covers(&payment)?;
        let terms = ticket.terms(self, payment.paid_amount)?;
        let payload = payment.proof.payload.clone();
        let payload = payload.ok_or_else(|| {
            refused(Code::VerificationFailed, "proof.payload: expected an EIP-3009 authorization to settle by")
        })?;
        let authorization = Payload::read(&payload)
            .map_err(|rejection| refused(Code::VerificationFailed, format!("proof.{rejection}")))?
            .authorization;
        if authorization.nonce != exact_nonce(&payment) {
            let why = "proof.payload.authorization.nonce: not that of this payment";
            return Err(refused(Code::VerificationFailed, why));
        }
        if payment.payer.is_some_and(|payer| payer.unchecked() != authorization.from) {
            return Err(refused(Code::VerificationFailed, "payer: not who signed"));
        }
        let digest = payment_digest(&payment).map_err(|why| refused(why.code, why.message))?;
        let mut claim = Claim::new(terms.clone(), presented(terms, payload, &ticket.resource));
        claim.identity = Identity { caller, request: format!("x402.v1:{digest}") };
        Ok(Covered { ticket, claim })
    }
}

fn presented(terms: Terms, payload: RawJson, resource: &ResourceName) -> PaymentPayload {
    PaymentPayload::V2(v2::PaymentPayload {
        x402_version: Version::V2,
        resource: Some(ResourceInfo::of(resource.as_str())),
        accepted: terms.to_v2(),
        payload,
        extensions: Members::new(),
        rest: Members::new(),
    })
}

impl Ticket {
    fn of(challenge: &Challenge) -> Self {
        Self {
            challenge_id: challenge.challenge_id.clone(),
            scheme: challenge.scheme.clone(),
            network: challenge.network.clone(),
            asset: challenge.asset,
            pay_to: challenge.pay_to,
            amount: challenge.max_amount_required,
            timeout: challenge.max_timeout_seconds,
            resource: challenge.resource.clone(),
        }
    }

    fn write(&self) -> Result<String, Refused> {
        let text = serde_json::to_vec(self).map_err(|error| refused(Code::InvalidSchema, error.to_string()))?;
        let text = base64::encode(&text);
        if text.len() > LONGEST_TICKET {
            return Err(refused(Code::InvalidSchema, "challenge.resource: too long for a ticket"));
        }
        Ok(text)
    }

    fn read(text: &str, limits: &Limits) -> Result<Self, Refused> {
        let bad = |_| refused(Code::VerificationFailed, "proof.ticket: none of this facilitator's");
        strict::from_slice(&base64::decode(text.as_bytes(), LONGEST_TICKET).map_err(bad)?, limits).map_err(bad)
    }

    fn covers(&self, payment: &Payment) -> Result<(), Refused> {
        let differs = |what: &str| Err(refused(Code::Mismatch, format!("{what}: not the ticket's")));
        if payment.challenge_id != self.challenge_id {
            return differs("challengeId");
        }
        if payment.scheme != self.scheme {
            return differs("scheme");
        }
        if payment.network != self.network {
            return differs("network");
        }
        if payment.asset.unchecked() != self.asset.unchecked() {
            return differs("asset");
        }
        if payment.paid_amount < self.amount {
            return Err(refused(Code::Insufficient, "paidAmount: lower than asked"));
        }
        Ok(())
    }

    /// What is settled for it, where a mechanism here does that.
    fn terms(&self, api: &Api, amount: AtomicAmount) -> Result<Terms, Refused> {
        if self.scheme != SchemeName::EXACT {
            return Err(refused(Code::Mismatch, "scheme: only `exact` is settled here"));
        }
        let networks = Networks::default();
        let network = networks.caip2(&self.network);
        let network = network.ok_or_else(|| refused(Code::Mismatch, "network: not known here"))?;
        let (assets, asset) = (api.engine.assets(), self.asset.as_str());
        let known = assets.find(network, asset).filter(|asset| !asset.name.is_empty());
        let known = known.ok_or_else(|| refused(Code::Mismatch, "asset: nothing here settles it on this network"))?;
        let mut extra = Members::new();
        extra.insert_text("name", &known.name);
        extra.insert_text("version", &known.version);
        Ok(Terms {
            version: Version::V2,
            scheme: SchemeName::EXACT,
            network,
            amount,
            asset: EvmAddress::from(self.asset.unchecked()).to_string(),
            pay_to: EvmAddress::from(self.pay_to.unchecked()).to_string(),
            max_timeout_seconds: self.timeout,
            extra,
        })
    }
}

impl Verdict {
    fn yes(covered: Covered, payer: Option<String>, transaction: Option<String>) -> Self {
        let Covered { ticket, claim } = covered;
        let paid = Paid {
            challenge_id: ticket.challenge_id,
            network: ticket.network,
            asset: ticket.asset,
            pay_to: ticket.pay_to,
            amount: claim.terms.amount,
            payer,
            transaction,
        };
        let details = Details { message: None, paid: Some(paid) };
        Self { ok: true, reason: None, resource: Some(ticket.resource), details }
    }

    fn no(Refused(code, why): Refused) -> Self {
        let details = Details { message: Some(why), paid: None };
        Self { ok: false, reason: Some(code.as_str()), resource: None, details }
    }
}

/// A verdict of a mechanism, in this dialect's codes.
fn answer_no(reason: Option<ErrorReason>, message: Option<String>) -> Response {
    let reason = reason.unwrap_or(ErrorReason::UNEXPECTED_SETTLE_ERROR);
    if reason.row().is_some_and(|row| row.status == 503) {
        return unknown(&Fault::unreachable("the settlement", &reason));
    }
    let used = [ErrorReason::DUPLICATE_SETTLEMENT, ErrorReason::NONCE_ALREADY_USED].contains(&reason);
    let code = if used { Code::Replay } else { Code::VerificationFailed };
    let why = message.map_or_else(|| reason.to_string(), |message| format!("{reason}: {message}"));
    json(StatusCode::OK, &Verdict::no(refused(code, why)))
}

fn unreadable(refused: Refused) -> Response {
    json(StatusCode::BAD_REQUEST, &Verdict::no(refused))
}

fn unknown(fault: &Fault) -> Response {
    unavailable(fault, &serde_json::json!({ "ok": false, "reason": "unexpected_settle_error" }))
}
