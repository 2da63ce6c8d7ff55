//! One route that is paid by challenge: what a request is, and what becomes of it.

use core::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use x402_challenge::{CheckError, Grant, Granted, MeterError, Offer, Refused, Request, Spent, Token};
use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, Code};
use x402_types::{Fault, UnixSeconds};

use super::super::answer::{Prepared, verified};
use super::super::layer::Route;
use super::answer;
use super::ask::{Access, Ask, Challenges};
use super::body::BodyHash;
use super::spoken::{Spoken, spoken};
use crate::Body;

/// What a route asks by challenge, and the offers beside it.
#[derive(Clone)]
pub(in super::super) struct Counter {
    challenges: Challenges,
    ask: Ask,
    beside: Option<Arc<Route>>,
    prefix: Box<str>,
    bind_body: bool,
}

/// What becomes of a request.
pub(super) enum Decision<B> {
    /// The handler runs.
    Granted(Access, Option<Grant>),
    /// Version 1 or 2 is spoken.
    Offers(Arc<Route>),
    /// This is the answer.
    Answered(Box<Response<Body<B>>>),
}

/// A request that may go on, or its answer.
type Step<T, B> = Result<T, Box<Response<Body<B>>>>;

impl Counter {
    pub(super) fn new(challenges: Challenges, ask: Ask) -> Self {
        Self { challenges, ask, beside: None, prefix: Box::default(), bind_body: false }
    }

    pub(super) fn with_offers(mut self, route: Option<Arc<Route>>) -> Self {
        if let Some(route) = &route {
            self.prefix = route.prefix().into();
        }
        self.beside = route;
        self
    }

    pub(in super::super) const fn beside(&self) -> Option<&Arc<Route>> {
        self.beside.as_ref()
    }

    pub(in super::super) fn beside_mut(&mut self) -> Option<&mut Route> {
        self.beside.as_mut().map(Arc::make_mut)
    }

    pub(in super::super) fn nested(&mut self, prefix: &str) {
        self.prefix = prefix.into();
    }

    pub(in super::super) const fn bind_body(&mut self) {
        self.bind_body = true;
    }

    /// "Entitlements are looked at before payment."
    pub(super) async fn decide<B>(&self, parts: &Parts) -> Decision<B> {
        let now = self.challenges.clock().now();
        let offer = self.ask.offer(parts, self.bind_body);
        let seen = Seen::of(parts, &self.prefix);
        let this = Case { counter: self, offer: &offer, parts, request: seen.request(), now };
        this.decide().await.unwrap_or_else(Decision::Answered)
    }

    pub(super) fn is_metered(&self, access: &Access) -> bool {
        matches!(access, Access::Paid(granted) if granted.meter.is_some())
    }

    /// "upto scheme (metering)": has what the handler counted settled, before its answer leaves. Where the settlement is
    /// refused for good the answer is withheld; where its end is not known it is not: the payer did all there was to do,
    /// and `Store::open_meters` has what is owed.
    pub(super) async fn settle<B>(&self, parts: &Parts, granted: &Granted) -> Step<Option<Fault>, B> {
        let now = self.challenges.clock().now();
        match self.challenges.gate().settle(&granted.challenge.challenge_id, now).await {
            Ok(_) => Ok(None),
            Err(MeterError::Fault(fault)) => Ok(Some(fault)),
            Err(error) => {
                let offer = self.ask.offer(parts, self.bind_body);
                let seen = Seen::of(parts, &self.prefix);
                let this = Case { counter: self, offer: &offer, parts, request: seen.request(), now };
                Err(this.refuse(Refused::new(Code::VerificationFailed, error.to_string())).await?)
            }
        }
    }
}

/// One request at the counter.
struct Case<'c> {
    counter: &'c Counter,
    offer: &'c Offer,
    parts: &'c Parts,
    request: Request<'c>,
    now: UnixSeconds,
}

impl Case<'_> {
    async fn decide<B>(&self) -> Step<Decision<B>, B> {
        if self.offer.bind.body && self.request.body_sha256.is_none() {
            return Err(fault(Fault::broken("a body is bound and was not read: `bind_body` reads it")));
        }
        if let Some(left) = self.entitled().await.map_err(fault)? {
            return Ok(Decision::Granted(Access::Entitled { left }, None));
        }
        let beside = self.counter.beside();
        match (spoken(&self.parts.headers, beside.map(|route| route.seller.checkout.limits())), beside) {
            (Spoken::Nothing, _) => Err(self.ask().await?),
            (Spoken::Challenge(json), _) => self.paid(&json).await,
            (Spoken::TooLong, _) => {
                let message = format!("X-PAYMENT: expected at most {} bytes", codec::HEADER);
                Err(Box::new(answer::refuse(Code::InvalidSchema, message)))
            }
            (Spoken::Offers, Some(route)) => Ok(Decision::Offers(Arc::clone(route))),
            (Spoken::Offers, None) => Err(Box::new(answer::refuse(Code::InvalidSchema, "X-PAYMENT: not taken here"))),
            (Spoken::Neither(why), _) => Err(Box::new(answer::refuse(Code::InvalidSchema, why))),
        }
    }

    /// The first of the tokens presented that is good for this resource; what is left of it.
    async fn entitled(&self) -> Result<Option<Option<u32>>, Fault> {
        let headers = &self.parts.headers;
        let cookies = cookies(headers);
        let tokens = [Token::presented(bearer(headers), None), Token::presented(None, cookies.as_deref())];
        for token in tokens.into_iter().flatten() {
            let store = self.counter.challenges.gate().store();
            if let Spent::Good { left } = store.spend(&token.hash(), &self.offer.resource, self.now).await? {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    /// A request without payment: 402. Where it cannot be bound, no challenge is issued for it.
    async fn ask<B>(&self) -> Step<Box<Response<Body<B>>>, B> {
        let offers = self.offers().await?;
        match (self.issue().await, offers) {
            (Ok(challenge), offers) => Ok(Box::new(answer::ask(&challenge, offers.as_ref()))),
            (Err(CheckError::Refused(_)), Some(offers)) => Ok(Box::new(offers.answer())),
            (Err(CheckError::Refused(refused)), None) => Ok(Box::new(answer::refusal(&refused.body(None), None))),
            (Err(error), _) => Ok(Box::new(answer::unknown(error))),
        }
    }

    async fn issue(&self) -> Result<Challenge, CheckError> {
        let challenges = &self.counter.challenges;
        let id = challenges.random().ok_or_else(no_randomness)?;
        if x402_challenge::host(self.request.host).ok().as_ref() != Some(challenges.host()) {
            let message = format!("host: expected `{}`", challenges.host());
            return Err(Refused::new(Code::InvalidBinding, message).into());
        }
        let challenge = challenges.gate().issue(self.offer, &self.request, id, self.now).await?;
        challenges.forget(self.now).await;
        Ok(challenge)
    }

    /// The offers of version 2 for this request, as bytes.
    async fn offers<B>(&self) -> Step<Option<Prepared>, B> {
        let Some(route) = self.counter.beside() else { return Ok(None) };
        let offers = route.offers(self.parts).await.map_err(fault)?;
        route.prepared(self.parts.uri.path(), &offers, None).map(|prepared| Some(prepared.into_owned()))
    }

    async fn paid<B>(&self, json: &str) -> Step<Decision<B>, B> {
        let payment = codec::payment_json(json.as_bytes())
            .map_err(|error| Box::new(answer::refuse(Code::InvalidSchema, error.to_string())))?;
        let challenges = &self.counter.challenges;
        if self.parts.method == Method::HEAD {
            // Only headers would be returned, so nothing is claimed. The handler counts on a paid challenge.
            return match challenges.gate().look(&payment, self.offer, &self.request, self.now).await {
                Ok(()) => Err(Box::new(verified())),
                Err(CheckError::Refused(refused)) => Err(self.refuse(refused).await?),
                Err(error) => Err(Box::new(answer::unknown(error))),
            };
        }
        let token = || challenges.random().map(Token::from_random);
        let grant = self.counter.ask.grant(token).ok_or_else(|| fault(no_randomness()))?;
        match challenges.gate().check_payment(payment, self.offer, &self.request, grant.as_ref(), self.now).await {
            Ok(granted) => Ok(paid(granted, grant)),
            Err(CheckError::Refused(refused)) => Err(self.refuse(refused).await?),
            Err(error) => Err(Box::new(answer::unknown(error))),
        }
    }

    /// "With 402 the fresh challenge's members stand beside them, so that a client can go on." Where none can be
    /// issued the refusal stands all the same.
    async fn refuse<B>(&self, refused: Refused) -> Step<Box<Response<Body<B>>>, B> {
        if refused.code.status() != 402 {
            return Ok(Box::new(answer::refusal(&refused.body(None), None)));
        }
        let offers = self.offers().await?;
        let (fresh, fault) = match self.issue().await {
            Ok(fresh) => (Some(fresh), None),
            Err(CheckError::Fault(fault)) => (None, Some(fault)),
            Err(_) => (None, None),
        };
        let mut response = answer::refusal(&refused.body(fresh.as_ref()), offers.as_ref());
        if let Some(fault) = fault {
            response.extensions_mut().insert(fault);
        }
        Ok(Box::new(response))
    }
}

fn paid<B>(granted: Granted, grant: Option<Grant>) -> Decision<B> {
    Decision::Granted(Access::Paid(Box::new(granted)), grant)
}

fn fault<B>(fault: Fault) -> Box<Response<Body<B>>> {
    Box::new(answer::fault(fault))
}

fn no_randomness() -> Fault {
    Fault::unreachable("the source of randomness", "nothing came")
}

/// A request as it is bound.
struct Seen<'p> {
    method: &'p str,
    host: &'p str,
    path: String,
    query: Option<&'p str>,
    body: Option<&'p BodyHash>,
}

impl<'p> Seen<'p> {
    fn of(parts: &'p Parts, prefix: &str) -> Self {
        let method = if parts.method == Method::HEAD { Method::GET.as_str() } else { parts.method.as_str() };
        Self {
            method,
            host: host(parts).unwrap_or_default(),
            path: format!("{prefix}{}", parts.uri.path()),
            query: parts.uri.query(),
            body: parts.extensions.get::<BodyHash>(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: self.method,
            host: self.host,
            path: &self.path,
            query: self.query,
            body_sha256: self.body.map(|hash| hash.0),
        }
    }
}

/// RFC 9112 §3.2.2: the authority of the target, where there is one, stands above `Host`. Two `Host`s are none.
fn host(parts: &Parts) -> Option<&str> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str());
    }
    one(&parts.headers, &HOST)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    one(headers, &AUTHORIZATION)
}

fn one<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value) }
}

/// RFC 9113 §8.2.3: the lines of one `Cookie` are joined.
fn cookies(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("challenges", &self.challenges).field("ask", &self.ask).finish_non_exhaustive()
    }
}
