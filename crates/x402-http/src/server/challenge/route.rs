//! One route with challenges: parses its requests, and decides about them.

use core::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};
use x402_challenge::{
    BoundRequest, ChallengeOffer, ChallengeRefusal, CheckError, EntitlementGrant, EntitlementToken, Granted,
    MeterError, Spent, TokenHash,
};
use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, Code};
use x402_types::{Fault, UnixSeconds};

use super::super::answer::{Answer, verified};
use super::super::layer::Route;
use super::super::own::{Decision, OwnDialect};
use super::answer;
use super::ask::{Access, Ask, Challenges};
use super::body::BodyHash;
use super::payment_dialect::{PaymentDialect, payment_dialect};
use super::visit::ChallengeVisit;

/// A route that is paid by challenge, and the offers beside it.
#[derive(Clone)]
pub(super) struct ChallengeRoute {
    challenges: Challenges,
    ask: Ask,
    offers: Option<Arc<Route>>,
    prefix: Box<str>,
    bind_body: bool,
}

/// A request that may go on, or its answer.
type Step<T> = Result<T, Box<Answer>>;

impl ChallengeRoute {
    pub(super) fn new(challenges: Challenges, ask: Ask, offers: Option<Arc<Route>>) -> Self {
        let prefix = offers.as_ref().map(|route| route.prefix.clone()).unwrap_or_default();
        Self { challenges, ask, offers, prefix, bind_body: false }
    }

    /// Settles what the handler counted of a metered payment ("upto scheme (metering)"), before its answer leaves.
    /// Where the settlement is refused for good the answer is withheld; where its end is not known it is not: the payer
    /// did all there was to do, and `Store::open_meters` has what is owed.
    pub(super) async fn settle(&self, parts: &Parts, granted: &Granted) -> Step<Option<Fault>> {
        let now = self.challenges.clock().now();
        match self.challenges.gate().settle(&granted.challenge.challenge_id, now).await {
            Ok(_) => Ok(None),
            Err(MeterError::Fault(fault)) => Ok(Some(fault)),
            Err(error) => {
                let offer = self.ask.offer(parts, self.bind_body);
                let seen = Seen::of(parts, &self.prefix);
                let request = ChallengeRequest { route: self, offer: &offer, parts, request: seen.request(), now };
                Err(request.refuse(ChallengeRefusal::new(Code::VerificationFailed, error.to_string())).await?)
            }
        }
    }
}

impl ChallengeRoute {
    /// Ends a metered payment whose handler failed: nothing is settled.
    pub(super) async fn waive(&self, granted: &Granted) -> Result<(), Fault> {
        let now = self.challenges.clock().now();
        self.challenges.gate().waive(&granted.challenge.challenge_id, now).await
    }

    /// Returns the use of an entitlement whose handler failed.
    pub(super) async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        self.challenges.gate().store().give_back(token).await
    }
}

#[async_trait]
impl OwnDialect for ChallengeRoute {
    async fn decide(&self, parts: &Parts) -> Decision {
        let now = self.challenges.clock().now();
        let offer = self.ask.offer(parts, self.bind_body);
        let seen = Seen::of(parts, &self.prefix);
        let request = ChallengeRequest { route: self, offer: &offer, parts, request: seen.request(), now };
        request.decide().await.unwrap_or_else(Decision::Answered)
    }

    fn offers(&self) -> Option<&Arc<Route>> {
        self.offers.as_ref()
    }

    fn with_offers(&self, route: Arc<Route>) -> Arc<dyn OwnDialect> {
        Arc::new(Self { offers: Some(route), ..self.clone() })
    }

    fn nested(&self, prefix: &str) -> Arc<dyn OwnDialect> {
        Arc::new(Self { prefix: prefix.into(), ..self.clone() })
    }

    fn with_body(&self) -> Arc<dyn OwnDialect> {
        Arc::new(Self { bind_body: true, ..self.clone() })
    }
}

/// One request at a route that is paid by challenge.
struct ChallengeRequest<'c> {
    route: &'c ChallengeRoute,
    offer: &'c ChallengeOffer,
    parts: &'c Parts,
    request: BoundRequest<'c>,
    now: UnixSeconds,
}

impl ChallengeRequest<'_> {
    /// Looks at entitlements first: "Entitlements are looked at before payment."
    async fn decide(&self) -> Step<Decision> {
        if self.offer.bind.body && self.request.body_sha256.is_none() {
            return Err(fault(Fault::broken("a body is bound and was not read: `bind_body` reads it")));
        }
        if let Some((token, left)) = self.entitled().await.map_err(fault)? {
            let counted = left.filter(|_| self.parts.method != Method::HEAD).map(|_| token);
            let visit = ChallengeVisit::new(self.route, Access::Entitled { left }, None).counting(counted);
            return Ok(Decision::Admitted(Box::new(visit)));
        }
        let offers = self.route.offers.as_ref();
        match (payment_dialect(&self.parts.headers, offers.map(|route| route.seller.checkout.limits())), offers) {
            (PaymentDialect::Nothing, _) => Err(self.ask().await?),
            (PaymentDialect::Challenge(json), _) => self.paid(&json).await,
            (PaymentDialect::TooLong, _) => {
                let message = format!("X-PAYMENT: expected at most {} bytes", codec::HEADER);
                Err(Box::new(answer::refuse(Code::InvalidSchema, message)))
            }
            (PaymentDialect::Offers, Some(route)) => Ok(Decision::Offers(Arc::clone(route))),
            (PaymentDialect::Offers, None) => {
                Err(Box::new(answer::refuse(Code::InvalidSchema, "X-PAYMENT: not taken here")))
            }
            (PaymentDialect::Neither(why), _) => Err(Box::new(answer::refuse(Code::InvalidSchema, why))),
        }
    }

    fn admitted(&self, access: Access, grant: Option<EntitlementGrant>) -> Decision {
        Decision::Admitted(Box::new(ChallengeVisit::new(self.route, access, grant)))
    }

    /// Uses the first of the presented tokens that is good for this resource, and returns what is left of it. A request
    /// that is answered only by headers uses none of it.
    async fn entitled(&self) -> Result<Option<(TokenHash, Option<u32>)>, Fault> {
        let headers = &self.parts.headers;
        let cookies = cookies(headers);
        let tokens =
            [EntitlementToken::presented(bearer(headers), None), EntitlementToken::presented(None, cookies.as_deref())];
        for token in tokens.into_iter().flatten() {
            let store = self.route.challenges.gate().store();
            let (token, resource) = (token.hash(), &self.offer.resource);
            let spent = if self.parts.method == Method::HEAD {
                store.look(&token, resource, self.now).await?
            } else {
                store.spend(&token, resource, self.now).await?
            };
            if let Spent::Good { left } = spent {
                return Ok(Some((token, left)));
            }
        }
        Ok(None)
    }

    /// Returns the 402 for a request without payment. If the request cannot be bound, no challenge is issued for it.
    async fn ask(&self) -> Step<Box<Answer>> {
        let offers = self.offers().await?;
        match (self.issue().await, offers) {
            (Ok(challenge), offers) => Ok(Box::new(answer::ask(&challenge, offers.as_ref()))),
            (Err(CheckError::Refused(_)), Some(offers)) => Ok(Box::new(offers)),
            (Err(CheckError::Refused(refused)), None) => Ok(Box::new(answer::refusal(&refused.body(None), None))),
            (Err(error), _) => Ok(Box::new(answer::unknown(error))),
        }
    }

    async fn issue(&self) -> Result<Challenge, CheckError> {
        let challenges = &self.route.challenges;
        let id = challenges.random().ok_or_else(no_randomness)?;
        if x402_challenge::host(self.request.host).ok().as_ref() != Some(challenges.host()) {
            let message = format!("host: expected `{}`", challenges.host());
            return Err(ChallengeRefusal::new(Code::InvalidBinding, message).into());
        }
        let challenge = challenges.gate().issue(self.offer, &self.request, id, self.now).await?;
        challenges.forget(self.now).await;
        Ok(challenge)
    }

    /// Returns the 402 with the offers of x402 for this request.
    async fn offers(&self) -> Step<Option<Answer>> {
        let Some(route) = &self.route.offers else { return Ok(None) };
        let offers = route.offers(self.parts).await.map_err(fault)?;
        route.prepared(self.parts.uri.path(), &offers, None).map(|prepared| Some(prepared.answer()))
    }

    async fn paid(&self, json: &str) -> Step<Decision> {
        let payment = codec::payment_json(json.as_bytes())
            .map_err(|error| Box::new(answer::refuse(Code::InvalidSchema, error.to_string())))?;
        let challenges = &self.route.challenges;
        if self.parts.method == Method::HEAD {
            // Only headers would be returned, so nothing is claimed. The handler counts on a paid challenge.
            return match challenges.gate().look(&payment, self.offer, &self.request, self.now).await {
                Ok(()) => Err(Box::new(verified())),
                Err(CheckError::Refused(refused)) => Err(self.refuse(refused).await?),
                Err(error) => Err(Box::new(answer::unknown(error))),
            };
        }
        let token = || challenges.random().map(EntitlementToken::from_random);
        let grant = self.route.ask.grant(token).ok_or_else(|| fault(no_randomness()))?;
        match challenges.gate().check_payment(payment, self.offer, &self.request, grant.as_ref(), self.now).await {
            Ok(granted) => Ok(self.admitted(Access::Paid(Box::new(granted)), grant)),
            Err(CheckError::Refused(refused)) => Err(self.refuse(refused).await?),
            Err(error) => Err(Box::new(answer::unknown(error))),
        }
    }

    /// "With 402 the fresh challenge's members stand beside them, so that a client can go on." If none can be
    /// issued, the refusal is sent without one.
    async fn refuse(&self, refused: ChallengeRefusal) -> Step<Box<Answer>> {
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

fn fault(fault: Fault) -> Box<Answer> {
    Box::new(answer::fault(fault))
}

fn no_randomness() -> Fault {
    Fault::unreachable("the source of randomness", "nothing came")
}

/// The parts of a request that a challenge binds.
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

    fn request(&self) -> BoundRequest<'_> {
        BoundRequest {
            method: self.method,
            host: self.host,
            path: &self.path,
            query: self.query,
            body_sha256: self.body.map(|hash| hash.0),
        }
    }
}

/// Returns the authority of the target, where there is one, before `Host`: RFC 9112 §3.2.2. Two `Host`s are none.
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

/// Joins the lines of one `Cookie`: RFC 9113 §8.2.3.
fn cookies(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

impl fmt::Debug for ChallengeRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ChallengeRoute");
        shown.field("challenges", &self.challenges).field("ask", &self.ask).finish_non_exhaustive()
    }
}
