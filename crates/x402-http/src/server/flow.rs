//! A request with a payment: [x402 v2 §6.1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md),
//! flows `authorization` (verify, handler, settle) and `upfront` (settle, handler).
//!
//! The order of what is written down: the key is claimed before the handler runs, `pending` before settlement is asked
//! for, `granted` before the answer leaves. Whoever goes away in between leaves a claim that nobody holds: an open
//! one is free again, a pending one waits for the same request.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tower_service::Service;
use x402_codec::header::Payment;
use x402_facilitator_core::Presented;
use x402_types::nvm::{self, Code};
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{
    AmountRule, Blank, Claim, ErrorReason, Fault, Identity, Members, Offer, PaymentKey, PaymentPayload, Terms, Version,
};

use super::answer::{self, Reason};
use super::layer::Route;
use super::seller::Flow;
use super::verdict::{Settlement, for_the_payer, judge, unknown_response};
use super::{Claimed, GrantState, Grants, Paid, Step, Ticket, Used};
use crate::Body;

/// The hold on a claim: let go of when it is dropped, wherever that happens.
struct Hold {
    grants: Arc<dyn Grants>,
    ticket: Ticket,
    /// Granted or freed: there is nothing left to let go of.
    over: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.over {
            self.grants.release(&self.ticket);
        }
    }
}

/// A payment that was matched with an offer.
struct Matched {
    presented: Presented,
    key: PaymentKey,
    flow: Flow,
    /// Whether what was used may be less than what was authorized.
    rule: AmountRule,
}

/// A request that may go on, or its answer.
type Answered<T, B> = Result<T, Box<Response<Body<B>>>>;

pub(super) fn run<S, Q, B>(
    route: Arc<Route>,
    mut inner: S,
    request: Request<Q>,
) -> impl Future<Output = Result<Response<Body<B>>, S::Error>>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    // Not an `async fn`, which would hold the request twice: as it came, and in parts.
    let (mut parts, body) = request.into_parts();
    async move {
        let offers = match route.offers(&parts).await {
            Ok(offers) => offers,
            Err(fault) => {
                route.seller.report(&route.served(parts.uri.path()).url, Step::Price, &fault);
                return Ok(unavailable(&route, fault));
            }
        };
        let paying = Paying { route: &route, offers: &offers, resource: route.served(parts.uri.path()) };
        let mut matched = match paying.matched(&parts) {
            Ok(matched) => matched,
            Err(answer) => return Ok(*answer),
        };
        route.look_at_served(&offers, &paying.resource.url).await;
        if parts.method == Method::HEAD {
            // Nothing but headers would be given for it, so nothing is taken.
            let payer = match paying.look(&matched).await {
                Ok(payer) => payer,
                Err(answer) => return Ok(*answer),
            };
            if matched.flow == Flow::Upfront {
                // Its handler counts on the money.
                return Ok(answer::verified());
            }
            parts.extensions.insert(matched.paid(payer, None));
            let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
            answer::make_private(response.headers_mut());
            return Ok(response);
        }
        let (mut hold, resumed, payer) = match paying.claim(&mut matched).await {
            Ok(claimed) => claimed,
            Err(answer) => return Ok(*answer),
        };

        // What was begun before is settled first: its outcome may be that nothing is to be served.
        if resumed || matched.flow == Flow::Upfront {
            let settlement = match paying.settle(&matched, &mut hold, resumed).await {
                Ok(settlement) => settlement,
                Err(answer) => return Ok(*answer),
            };
            parts.extensions.insert(matched.paid(settlement.payer.clone().or(payer), Some(&settlement)));
            let response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
            let mut response = if failed(response.status()) {
                // The money moved and nothing was served: the claim stays pending, and the same request gets its answer
                // when it comes again.
                response
            } else {
                match paying.grant(&matched, &mut hold, &settlement).await {
                    Ok(()) => response,
                    Err(answer) => return Ok(*answer),
                }
            };
            answer::attach(&mut response, &matched.presented.payment, &settlement);
            answer::make_private(response.headers_mut());
            return Ok(response);
        }

        parts.extensions.insert(matched.paid(payer, None));
        let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
        if failed(response.status()) {
            return Ok(response);
        }
        // From here to the end the handler's answer is only held: none of its body is read before the money moved.
        if let Some(Used(amount)) = response.extensions().get() {
            let terms = &mut matched.presented.terms;
            terms.amount = matched.rule.settles(terms.amount, *amount);
        }
        let settlement = match paying.settle(&matched, &mut hold, false).await {
            Ok(settlement) => settlement,
            Err(answer) => return Ok(*answer),
        };
        if let Err(answer) = paying.grant(&matched, &mut hold, &settlement).await {
            return Ok(*answer);
        }
        answer::attach(&mut response, &matched.presented.payment, &settlement);
        answer::make_private(response.headers_mut());
        Ok(response)
    }
}

/// What every step of one request needs.
struct Paying<'r> {
    route: &'r Route,
    offers: &'r [Offer],
    resource: Arc<ResourceInfo>,
}

impl Paying<'_> {
    /// Reads the payment and finds the entry it was made for.
    fn matched<B>(&self, parts: &Parts) -> Answered<Box<Matched>, B> {
        let seller = &self.route.seller;
        let payment = x402_codec::nvm::payment(&parts.headers, &seller.limits)
            .map_err(|rejection| self.refuse(rejection.into()))?
            .ok_or_else(|| Box::new(self.route.ask(self.path(), self.offers, None)))?;
        let version = payment.payload().version();
        if version == Version::V1 && !seller.v1 {
            return Err(self.refuse(Reason::because(ErrorReason::INVALID_X402_VERSION, "version 2 is served here")));
        }
        // "Then the codes of §7 apply."
        let by_plan = matches!(payment.payload(), PaymentPayload::Nvm(_));
        let code = |code| if by_plan { Code::translate(code) } else { code };
        let mut fitting = self.offers.iter().filter(|offer| payment.payload().is_for(&offer.terms));
        let offer = fitting.next().ok_or_else(|| {
            let why = "the payment is for none of the entries of `accepts`";
            self.refuse(Reason::because(code(ErrorReason::INVALID_PAYMENT_REQUIREMENTS), why))
        })?;
        // Version 0.2 names no plan: it must be the only one offered.
        if matches!(payment.payload(), PaymentPayload::Nvm(nvm::PaymentPayload::V02(_))) && fitting.next().is_some() {
            return Err(self.refuse(Code::InvalidPayload.because("several plans are offered").into()));
        }
        drop(fitting);
        let flow =
            Flow::of(&offer.terms).ok_or_else(|| self.refuse(Reason::new(code(ErrorReason::UNSUPPORTED_SCHEME))))?;
        self.presented(payment, offer, flow, parts).map_err(|reason| self.refuse(reason))
    }

    fn presented(&self, payment: Payment, offer: &Offer, flow: Flow, parts: &Parts) -> Result<Box<Matched>, Reason> {
        let token = payment.spelled().map(Box::from);
        let (mut payment, raw) = payment.into_parts();
        // The server's own entry, in the version that the payer speaks.
        let terms = Terms { version: payment.version(), ..offer.terms.clone() };
        let mut claim = lend(terms, &mut payment);
        let many = many_uses(&claim, &payment, parts)?;
        if let Some(request) = &many {
            claim.identity.request.clone_from(request);
        }
        let key = offer.key.key(&claim)?;
        let resource = Arc::clone(&self.resource);
        let identity = match many {
            Some(_) => core::mem::take(&mut claim.identity),
            None => identity(&key, &parts.method, &resource.url, claim.payload.as_str()),
        };
        let terms = give_back(claim, &mut payment);
        let presented = Presented { raw, token, payment, terms, resource, identity, verified_as: None };
        Ok(Box::new(Matched { presented, key, flow, rule: offer.key.amount_rule() }))
    }

    /// Verifies a payment that is new here, and claims nothing: for `HEAD`. The payer comes back.
    async fn look<B>(&self, matched: &Matched) -> Answered<Option<String>, B> {
        let seller = &self.route.seller;
        let standing = seller.grants.look(&matched.key).await.map_err(|fault| self.unavailable(Step::Grants, fault))?;
        match standing {
            Some(standing) if standing.state == GrantState::Granted => Err(self.used()),
            // The request that began it has its answer.
            Some(_) => Err(self.busy()),
            None => self.verify(matched).await.map(|(payer, _)| payer),
        }
    }

    /// Verifies a payment that is new here and claims its key. The second part says whether its settlement was begun
    /// before.
    async fn claim<B>(&self, matched: &mut Matched) -> Answered<(Hold, bool, Option<String>), B> {
        let seller = &self.route.seller;
        let request = &matched.presented.identity.request;
        let standing = seller.grants.look(&matched.key).await.map_err(|fault| self.unavailable(Step::Grants, fault))?;
        let (mut payer, mut verified_as) = (None, None);
        match standing {
            Some(standing) if standing.state == GrantState::Granted || standing.request != *request => {
                return Err(self.used());
            }
            Some(standing) if standing.held => return Err(self.busy()),
            // Its nonce may be used by now, so that verification would refuse what this server settled.
            Some(_) => {}
            // Before the claim: whoever knows a nonce but cannot sign must not keep the payer out.
            None if matched.flow == Flow::Authorization => (payer, verified_as) = self.verify(matched).await?,
            None => {}
        }
        let claimed = seller.grants.claim(&matched.key, request).await;
        let claimed = claimed.map_err(|fault| self.unavailable(Step::Grants, fault))?;
        let (ticket, resumed) = match claimed {
            Claimed::Open(ticket) => (ticket, false),
            Claimed::Pending(ticket) => (ticket, true),
            Claimed::Taken => return Err(self.busy()),
        };
        matched.presented.verified_as = verified_as;
        Ok((Hold { grants: Arc::clone(&seller.grants), ticket, over: false }, resumed, payer))
    }

    /// Who pays, and what the facilitator calls the request.
    async fn verify<B>(&self, matched: &Matched) -> Answered<(Option<String>, Option<String>), B> {
        let verdict = self.route.seller.facilitator.verify(&matched.presented).await;
        let verdict = verdict.map_err(|fault| self.unavailable(Step::Verify, fault))?;
        if verdict.is_valid {
            return Ok((verdict.payer, verdict.rest.text("agentRequestId")));
        }
        let details = nvm::Verdict::from_response(&verdict).ok().and_then(|verdict| verdict.error);
        let details = details.map(|error| error.details).unwrap_or_default();
        let (code, message) = match verdict.invalid_reason {
            Some(code) => (code, verdict.invalid_message),
            // A no is a no, also without a reason.
            None => {
                let by_plan = matches!(*matched.presented.payment, PaymentPayload::Nvm(_));
                let code = ErrorReason::INVALID_PAYLOAD;
                let words = "the facilitator refuses the payment and gives no reason";
                let message = verdict.invalid_message.or_else(|| Some(words.to_owned()));
                (if by_plan { Code::translate(code) } else { code }, message)
            }
        };
        if code.row().is_some_and(|row| row.status >= 500) {
            let words = message.as_deref().unwrap_or_default();
            let fault = Fault::unreachable("facilitator", format_args!("it answered {code}: {words}"));
            self.report(Step::Verify, &fault);
        }
        Err(self.refuse(Reason { code, message, details }))
    }

    /// Has the money moved. Only a plain success comes back.
    async fn settle<B>(&self, matched: &Matched, hold: &mut Hold, resumed: bool) -> Answered<SettleResponse, B> {
        let seller = &self.route.seller;
        let terms = &matched.presented.terms;
        hold.grants.pend(&hold.ticket).await.map_err(|fault| self.unavailable(Step::Grants, fault))?;
        let answer = seller.facilitator.settle(&matched.presented).await;
        let failed = match judge(answer, terms, resumed, seller.facilitator.keeps_requests()) {
            Settlement::Made(response) => return Ok(for_the_payer(response, terms)),
            Settlement::Unknown(known, fault) => {
                if let Some(fault) = &fault {
                    self.report(Step::Settle, fault);
                }
                return Err(self.unknown(matched, unknown_response(known, terms), fault));
            }
            Settlement::Failed(response) | Settlement::Duplicate(response) => Box::new(response),
        };
        // Should the store fail here, the claim stays pending: the same request may ask again.
        hold.over = hold.grants.free(&hold.ticket).await.is_ok();
        Err(self.not_settled(matched, *failed))
    }

    fn not_settled<B>(&self, matched: &Matched, response: SettleResponse) -> Box<Response<Body<B>>> {
        let code = match response.error_reason.clone() {
            Some(code) => code,
            None if response.success => ErrorReason::DUPLICATE_SETTLEMENT,
            None => ErrorReason::UNEXPECTED_SETTLE_ERROR,
        };
        let details = nvm::Receipt::from_response(&response).ok().and_then(|receipt| receipt.error);
        let details = details.map(|error| error.details).unwrap_or_default();
        let reason = Reason { code: code.clone(), message: response.error_message.clone(), details };
        let response = SettleResponse { success: false, error_reason: Some(code), ..response };
        let response = for_the_payer(response, &matched.presented.terms);
        let mut refusal = self.route.ask(self.path(), self.offers, Some(&reason));
        answer::attach(&mut refusal, &matched.presented.payment, &response);
        Box::new(refusal)
    }

    async fn grant<B>(&self, matched: &Matched, hold: &mut Hold, settlement: &SettleResponse) -> Answered<(), B> {
        let granted = hold.grants.grant(&hold.ticket).await;
        hold.over = granted.is_ok();
        granted.map_err(|fault| {
            self.report(Step::Grants, &fault);
            // Paid, but that it was not answered yet cannot be written down. The same request gets it later.
            let response = unknown_response(Some(settlement.clone()), &matched.presented.terms);
            self.unknown(matched, response, Some(fault))
        })
    }

    fn path(&self) -> &str {
        self.route.path_of(&self.resource)
    }

    fn refuse<B>(&self, reason: Reason) -> Box<Response<Body<B>>> {
        Box::new(self.route.refuse(self.path(), self.offers, &reason))
    }

    fn used<B>(&self) -> Box<Response<Body<B>>> {
        self.refuse(Reason::because(ErrorReason::DUPLICATE_SETTLEMENT, "this payment was used"))
    }

    fn busy<B>(&self) -> Box<Response<Body<B>>> {
        let why = "this payment is being used by a request that is not answered yet";
        let mut answer =
            self.route.refuse(self.path(), self.offers, &Reason::because(ErrorReason::DUPLICATE_SETTLEMENT, why));
        answer::later(&mut answer, self.route.seller.retry_after);
        Box::new(answer)
    }

    fn unavailable<B>(&self, step: Step, fault: Fault) -> Box<Response<Body<B>>> {
        self.report(step, &fault);
        Box::new(unavailable(self.route, fault))
    }

    fn report(&self, step: Step, fault: &Fault) {
        self.route.seller.report(&self.resource.url, step, fault);
    }

    fn unknown<B>(&self, matched: &Matched, response: SettleResponse, fault: Option<Fault>) -> Box<Response<Body<B>>> {
        let mut answer = answer::unknown(&response, fault, self.route.seller.retry_after);
        answer::attach(&mut answer, &matched.presented.payment, &response);
        Box::new(answer)
    }
}

impl Matched {
    fn paid(&self, payer: Option<String>, settlement: Option<&SettleResponse>) -> Paid {
        let terms = &self.presented.terms;
        let moved = settlement.and_then(|settlement| settlement.amount).and_then(Blank::value);
        Paid {
            payer: payer.map(Into::into),
            amount: moved.unwrap_or(terms.amount),
            asset: terms.asset.as_str().into(),
            network: terms.network,
            key: self.key.clone(),
        }
    }
}

/// The claim of a payment that is needed afterwards: what the claim holds of it is lent, not copied.
fn lend(terms: Terms, payment: &mut PaymentPayload) -> Claim {
    let (payload, resource, extensions) = match payment {
        PaymentPayload::V1(payment) => (payment.payload.clone(), None, Members::new()),
        PaymentPayload::V2(payment) => {
            (payment.payload.clone(), payment.resource.take(), core::mem::take(&mut payment.extensions))
        }
        PaymentPayload::Nvm(payment) => {
            let terms = payment.accepted_terms(terms);
            let (payload, resource) = (payment.payload().clone(), payment.resource().cloned());
            return Claim { terms, payload, resource, extensions: Members::new(), identity: Identity::default() };
        }
    };
    Claim { terms, payload, resource, extensions, identity: Identity::default() }
}

fn give_back(claim: Claim, payment: &mut PaymentPayload) -> Terms {
    if let PaymentPayload::V2(payment) = payment {
        (payment.resource, payment.extensions) = (claim.resource, claim.extensions);
    }
    claim.terms
}

/// A v2 statement of the Smart Accounts Extension is a bearer token for many requests: the payer names each by
/// `Idempotency-Key`, so that it can be made again; without it every request is a new one. `None`: a payment for one
/// request.
fn many_uses(claim: &Claim, payment: &PaymentPayload, parts: &Parts) -> Result<Option<String>, Reason> {
    if !matches!(payment, PaymentPayload::Nvm(_)) {
        return Ok(None);
    }
    let payload = nvm::Payload::from_raw(&claim.payload)?;
    if payload.authorization().version() == nvm::StatementVersion::V3 {
        return Ok(None);
    }
    let named = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let mut hash = Sha256::new();
    hash.update(b"x402-http bearer request v1");
    match named.filter(|name| (1..=255).contains(&name.len())) {
        Some(name) => {
            hash.update(payload.signature());
            hash.update(name);
        }
        None => {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|_| Reason::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))?;
            hash.update(random);
        }
    }
    Ok(Some(hex(hash)))
}

/// "No settlement when the handler answers 4xx or 5xx", and none for a 304, which says that the payer has the content.
fn failed(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error() || status == StatusCode::NOT_MODIFIED
}

fn unavailable<B>(route: &Route, fault: Fault) -> Response<Body<B>> {
    if fault.is_lasting() {
        return answer::misconfigured(fault);
    }
    answer::unavailable(ErrorReason::UNEXPECTED_VERIFY_ERROR, Some(fault), Some(route.seller.retry_after))
}

/// The same payload, byte for byte, for the same resource and method is the same request. The bytes count: one who
/// only knows the authorization must not take up what its payer began.
fn identity(key: &PaymentKey, method: &Method, url: &str, payload: &str) -> Identity {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut hash = Sha256::new();
    // Neither a method nor a URL holds a space or a line's end, and the key is of known length.
    for part in [method.as_str(), " ", url, "\n"] {
        hash.update(part);
    }
    hash.update((key.as_bytes().len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update(payload);
    Identity { caller: String::new(), request: hex(hash) }
}

fn hex(hash: Sha256) -> String {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    let mut text = [[0; 2]; 32];
    for (to, byte) in text.iter_mut().zip(hash.finalize()) {
        *to = [digit(byte >> 4), digit(byte & 15)];
    }
    core::str::from_utf8(text.as_flattened()).unwrap_or_default().to_owned()
}
