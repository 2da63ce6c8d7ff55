//! Who pays: the schemes, the limits, the budget, and the payments whose outcome is not known.

use core::fmt;
use core::hash::{Hash, Hasher};
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderName, HeaderValue, Method};
use url::Url;
use x402_codec::{Limits, header};
#[cfg(feature = "challenge")]
use x402_types::challenge::ChallengeId;
use x402_types::nvm;
use x402_types::v2::ResourceInfo;
use x402_types::{
    AtomicAmount, Entry, Fault, MadePayment, MakePayment, Members, Occasion, PaymentPayload, PaymentRequired, Refusal,
    Terms, UnixSeconds, Version, v1, v2,
};

use super::budget::{OverBudget, canonical_asset};
#[cfg(feature = "challenge")]
use super::challenge::Wallet;
use super::{Budget, Clock, Closed, MemoryBudget, NotPayable, PayError, Spend, SpendLimits, SystemClock};

/// Chooses what to pay, keeps to its limits, signs, and remembers what is pending. Clones share all of it.
#[derive(Clone)]
pub struct Payer {
    schemes: Arc<[Arc<dyn MakePayment>]>,
    spending: Arc<SpendLimits>,
    budget: Arc<dyn Budget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) longest_body: usize,
    pub(super) resends: u32,
    #[cfg(feature = "challenge")]
    pub(super) wallet: Wallet,
    kept: Arc<Mutex<HashMap<Purchase, Signed>>>,
}

/// A request that may be paid for: the same one, made again, sends the same payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Purchase {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Of the body: kept payments must not keep megabytes.
    length: usize,
    hash: u64,
}

impl Purchase {
    pub(super) fn new(method: Method, url: Url, body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { method, url, length: body.len(), hash: hasher.finish() }
    }
}

/// A payment, signed.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) header: (HeaderName, HeaderValue),
    pub(super) valid_until: UnixSeconds,
    pub(super) reservation: u64,
    /// Whether it may have reached the server before.
    pub(super) sent: bool,
    /// The challenge that it pays, where it pays one.
    #[cfg(feature = "challenge")]
    pub(super) challenge: Option<ChallengeId>,
}

/// How many pending payments are kept. Beyond it the new one is forgotten: its request, made again, is paid again
/// within the budget.
const KEPT: usize = 10_000;

impl Payer {
    /// Pays with these schemes, at most one dollar a payment, without a budget over time.
    #[must_use]
    pub fn new(schemes: impl IntoIterator<Item = Arc<dyn MakePayment>>) -> Self {
        Self {
            schemes: schemes.into_iter().collect(),
            spending: Arc::default(),
            budget: Arc::new(MemoryBudget::default()),
            clock: Arc::new(SystemClock),
            limits: Limits::DEFAULT,
            longest_body: 2 * 1024 * 1024,
            resends: 5,
            #[cfg(feature = "challenge")]
            wallet: Wallet::default(),
            kept: Arc::default(),
        }
    }

    /// What may be paid at once.
    #[must_use]
    pub fn spending(mut self, limits: SpendLimits) -> Self {
        self.spending = Arc::new(limits);
        self
    }

    /// What may be paid over time.
    #[must_use]
    pub fn budget(mut self, budget: Arc<dyn Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// Time and randomness.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads answers within these limits.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The longest request body that is kept for sending it again: 2 MiB by default. It is read before anything is
    /// sent, since one that cannot be sent again cannot be paid for.
    #[must_use]
    pub const fn longest_body(mut self, bytes: usize) -> Self {
        self.longest_body = bytes;
        self
    }

    /// How often a payment is sent again while its outcome is not known: 5 by default.
    #[must_use]
    pub const fn resends(mut self, times: u32) -> Self {
        self.resends = times;
        self
    }

    /// Whether it pays challenges, too.
    #[cfg(feature = "challenge")]
    pub(super) fn takes_challenges(&self) -> bool {
        self.wallet.takes_challenges()
    }

    #[cfg(not(feature = "challenge"))]
    #[allow(clippy::unused_self, reason = "the other half looks")]
    pub(super) const fn takes_challenges(&self) -> bool {
        false
    }

    /// The payment that was signed for the same request and whose outcome is not known.
    pub(super) fn take_kept(&self, purchase: &Purchase) -> Option<Signed> {
        let now = self.clock.now();
        self.kept().remove(purchase).filter(|kept| now < kept.valid_until)
    }

    /// Signs a payment for the first acceptable entry in the server's order, those of the flow `authorization` first.
    pub(super) async fn sign(&self, required: &PaymentRequired, purchase: &Purchase) -> Result<Signed, PayError> {
        let now = self.clock.now();
        let mut reasons = Vec::new();
        let mut candidates = Vec::new();
        for entry in entries(required) {
            match self.acceptable(entry) {
                Ok((candidate, authorization)) => {
                    reasons.push(NotPayable::Unreadable);
                    candidates.push((!authorization, reasons.len() - 1, candidate));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        // A stable sort: the server's order stays within a flow.
        candidates.sort_by_key(|(upfront, ..)| *upfront);
        for (_, position, candidate) in candidates {
            match self.sign_one(required, &candidate, purchase, now).await? {
                Ok(signed) => return Ok(signed),
                Err(reason) => {
                    if let Some(at) = reasons.get_mut(position) {
                        *at = reason;
                    }
                }
            }
        }
        if reasons.is_empty() { Err(PayError::NoTerms) } else { Err(PayError::NothingPayable(reasons)) }
    }

    fn acceptable<'d>(&self, entry: Option<Asked<'d>>) -> Result<(Candidate<'d>, bool), NotPayable> {
        let asked = entry.ok_or(NotPayable::Unreadable)?;
        let terms = asked.terms().ok_or(NotPayable::Unreadable)?;
        let scheme = self.schemes.iter().position(|scheme| scheme.can_pay(&terms)).ok_or(NotPayable::NoScheme)?;
        let authorization = self.allows(&terms)?;
        Ok((Candidate { asked, terms, scheme }, authorization))
    }

    async fn sign_one(
        &self,
        required: &PaymentRequired,
        candidate: &Candidate<'_>,
        purchase: &Purchase,
        now: UnixSeconds,
    ) -> Result<Result<Signed, NotPayable>, PayError> {
        let terms = &candidate.terms;
        let Some(scheme) = self.schemes.get(candidate.scheme) else { return Ok(Err(NotPayable::NoScheme)) };
        let reserved = match self.reserve(terms, purchase, now).await? {
            Ok(reserved) => reserved,
            Err(over) => return Ok(Err(over.into())),
        };
        let entropy = x402_types::payment_entropy(self.clock.entropy().ok_or(PayError::Entropy)?);
        let resource = required.resource();
        let url = candidate.asked.url(&resource, purchase.url.as_str());
        let occasion = Occasion { now, entropy, url, method: purchase.method.as_str() };
        let made = match scheme.make_payment(terms, &occasion).await {
            Ok(made) => made,
            Err(Refusal::Rejection(rejection)) => return Ok(Err(NotPayable::Refused(rejection))),
            Err(Refusal::Fault(fault)) => return Err(fault.into()),
        };
        let valid_until = made.valid_until;
        let header = header::encode_payment(&candidate.asked.payment(required, made))?;
        Ok(Ok(Signed {
            header,
            valid_until,
            reservation: reserved.keep(),
            sent: false,
            #[cfg(feature = "challenge")]
            challenge: None,
        }))
    }

    /// Whether these terms keep to the limits of one payment, and whether they are of the preferred flow.
    pub(super) fn allows(&self, terms: &Terms) -> Result<bool, NotPayable> {
        self.spending.check(terms)
    }

    /// Sets aside what the terms ask, before anything is signed.
    pub(super) async fn reserve(
        &self,
        terms: &Terms,
        purchase: &Purchase,
        now: UnixSeconds,
    ) -> Result<Result<Reserved<'_>, OverBudget>, Fault> {
        let spend = Spend {
            host: host(&purchase.url),
            network: terms.network,
            asset: canonical_asset(terms.network, &terms.asset),
            amount: terms.amount,
            dollar_decimals: self.spending.dollar_decimals(terms),
            day: now.0 / 86_400,
        };
        let reservation = self.budget.reserve(&spend).await?;
        Ok(reservation.map(|reservation| Reserved { budget: &self.budget, reservation: Some(reservation) }))
    }

    /// The payment was decided.
    fn close(&self, signed: &Signed, how: Closed) {
        self.budget.close(signed.reservation, how);
    }

    fn keep(&self, purchase: Purchase, signed: Signed) {
        let now = self.clock.now();
        let mut kept = self.kept();
        if kept.len() >= KEPT {
            kept.retain(|_, signed| now < signed.valid_until);
        }
        if kept.len() < KEPT {
            kept.insert(purchase, signed);
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Purchase, Signed>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payer").field("spending", &self.spending).field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// A payment on its way. Whoever drops it undecided leaves it for the same request to be sent again.
pub(super) struct Flight<'p> {
    payer: &'p Payer,
    purchase: Purchase,
    signed: Option<Signed>,
}

impl<'p> Flight<'p> {
    pub(super) const fn new(payer: &'p Payer, purchase: Purchase, signed: Signed) -> Self {
        Self { payer, purchase, signed: Some(signed) }
    }

    /// What is paid for.
    #[cfg(feature = "challenge")]
    pub(super) const fn purchase(&self) -> &Purchase {
        &self.purchase
    }

    /// The header to send, and whether it may have been sent before.
    pub(super) fn depart(&mut self) -> Option<((HeaderName, HeaderValue), bool)> {
        let signed = self.signed.as_mut()?;
        let before = core::mem::replace(&mut signed.sent, true);
        Some((signed.header.clone(), before))
    }

    /// It is decided. `None`: used, so that neither the money nor the authorization comes back.
    pub(super) fn land(mut self, how: Option<Closed>) {
        if let (Some(signed), Some(how)) = (self.signed.take(), how) {
            self.payer.close(&signed, how);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(signed) = self.signed.take() {
            self.payer.keep(self.purchase.clone(), signed);
        }
    }
}

/// A reservation for which nothing is signed yet.
pub(super) struct Reserved<'p> {
    budget: &'p Arc<dyn Budget>,
    reservation: Option<u64>,
}

impl Reserved<'_> {
    /// It is signed: the reservation stays until the payment is decided.
    pub(super) fn keep(mut self) -> u64 {
        self.reservation.take().unwrap_or_default()
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation {
            self.budget.close(reservation, Closed::NeverSent);
        }
    }
}

/// An entry as the server wrote it: the payment echoes it in full.
enum Asked<'d> {
    V1(&'d v1::PaymentRequirements),
    V2(&'d v2::PaymentRequirements),
    Nvm(Box<nvm::Requirements>),
}

struct Candidate<'d> {
    asked: Asked<'d>,
    terms: Terms,
    scheme: usize,
}

fn entries(required: &PaymentRequired) -> Vec<Option<Asked<'_>>> {
    match required {
        PaymentRequired::V1(document) => document.accepts.iter().map(|e| Entry::known(e).map(Asked::V1)).collect(),
        PaymentRequired::V2(document) => document
            .accepts
            .iter()
            .map(|entry| match entry {
                Entry::Known(entry) => Some(Asked::V2(entry)),
                Entry::Opaque(raw) => raw.read().ok().map(|entry| Asked::Nvm(Box::new(entry))),
            })
            .collect(),
    }
}

impl Asked<'_> {
    fn terms(&self) -> Option<Terms> {
        match self {
            Self::V1(entry) => Terms::try_from(*entry).ok(),
            Self::V2(entry) => Some((*entry).into()),
            // The document names no price in credits: the session key's rules are the limit.
            Self::Nvm(entry) => entry.to_terms(AtomicAmount::ZERO).ok(),
        }
    }

    /// What is paid for, as the scheme signs it: the URL that is requested. Servers of plans may name the resource by
    /// its path alone and compare that very text.
    fn url<'u>(&self, required: &'u Option<ResourceInfo>, requested: &'u str) -> &'u str {
        let named = required.as_ref().map(|resource| resource.url.as_str()).filter(|url| url.starts_with('/'));
        match self {
            Self::Nvm(_) => named.unwrap_or(requested),
            Self::V1(_) | Self::V2(_) => requested,
        }
    }

    fn payment(&self, required: &PaymentRequired, made: MadePayment) -> PaymentPayload {
        match self {
            Self::V1(entry) => PaymentPayload::V1(v1::PaymentPayload {
                x402_version: Version::V1,
                scheme: entry.scheme.clone(),
                network: entry.network.clone(),
                payload: made.payload,
                rest: Members::new(),
            }),
            Self::V2(entry) => {
                let mut accepted = (*entry).clone();
                for (key, value) in made.extra.iter() {
                    accepted.extra.insert(key, value.clone());
                }
                PaymentPayload::V2(v2::PaymentPayload {
                    x402_version: Version::V2,
                    resource: required.resource(),
                    accepted,
                    payload: made.payload,
                    extensions: required.extensions(),
                    rest: Members::new(),
                })
            }
            Self::Nvm(entry) => {
                let mut accepted = (**entry).clone();
                for (key, value) in made.extra.iter() {
                    match key {
                        "httpVerb" => accepted.extra.http_verb = value.read().ok(),
                        _ => accepted.extra.rest.insert(key, value.clone()),
                    }
                }
                let payment = nvm::v03::PaymentPayload::new(required.resource(), accepted, made.payload);
                PaymentPayload::Nvm(nvm::PaymentPayload::V03(Box::new(payment)))
            }
        }
    }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
