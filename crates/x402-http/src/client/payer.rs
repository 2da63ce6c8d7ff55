//! The payer: its schemes, limits and budget, and its payments with unknown outcomes.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;
use x402_codec::Limits;
use x402_types::extension::Extensions;
use x402_types::hooks::PayHooks;
use x402_types::{
    ErrorReason, Extension, Fault, MakePayment, PaymentRequired, Refusal, SigningContext, Terms, UnixSeconds,
};

use super::budget::canonical_asset;
#[cfg(feature = "challenge")]
use super::challenge::Wallet;
use super::entry::{Asked, Unreadable, entries};
use super::extensions;
use super::flight::{Purchase, Signed};
use super::journal::InHand;
use super::kept::Kept;
use super::{
    Budget, Closed, MemoryBudget, NotPayable, PayError, PayPolicy, PaymentJournal, ReserveError, Selector, Spend,
    SpendLimits, SystemClock, Timer,
};

/// Selects an entry to pay within its limits, signs the payment, and remembers open payments. Clones share this state.
///
/// While the result of a payment is unknown, the same request presents it again, and no other is signed. That it has
/// expired proves nothing, since it may have been made in time: the request then fails with
/// [`PayError::EarlierUnknown`] until its caller has found out, or decides to [pay anew](Self::pay_anew). Without a
/// [journal](Self::with_journal) this ends with the process, and at [10,000 open payments](Self::with_most_open) nothing
/// more is signed.
#[derive(Clone)]
pub struct Payer {
    schemes: Arc<Vec<Arc<dyn MakePayment>>>,
    spending: Arc<SpendLimits>,
    policies: Arc<Vec<PayPolicy>>,
    selector: Option<Selector>,
    pub(super) hooks: Arc<PayHooks>,
    budget: Arc<dyn Budget>,
    pub(super) clock: Arc<dyn Timer>,
    pub(super) limits: Limits,
    pub(super) longest_body: usize,
    pub(super) resends: u32,
    #[cfg(feature = "challenge")]
    pub(super) wallet: Wallet,
    kept: Arc<Mutex<Kept>>,
    pub(super) most_open: usize,
    pub(super) journal: Option<Arc<dyn PaymentJournal>>,
    pub(super) in_hand: Arc<InHand>,
    pub(super) extensions: Extensions,
}

/// The most payments that are open before no other is signed.
const MOST_OPEN: usize = 10_000;

impl Payer {
    /// Creates a payer with this scheme, for at most one dollar per payment, without a budget over time.
    #[must_use]
    pub fn new(scheme: impl MakePayment + 'static) -> Self {
        Self::default().and(scheme)
    }

    /// Adds a scheme: of two that can pay an entry, or one entry of the same flow each, the one that was added first does.
    #[must_use]
    pub fn and(mut self, scheme: impl MakePayment + 'static) -> Self {
        Arc::make_mut(&mut self.schemes).push(Arc::new(scheme));
        self
    }

    /// Sets the limits for one payment.
    #[must_use]
    pub fn with_spending(mut self, limits: SpendLimits) -> Self {
        self.spending = Arc::new(limits);
        self
    }

    /// Adds a policy: an entry that it refuses is not paid. Policies are called before anything is reserved or signed, after
    /// the limits of one payment, in the order in which they were added.
    #[must_use]
    pub fn with_policy(mut self, policy: PayPolicy) -> Self {
        Arc::make_mut(&mut self.policies).push(policy);
        self
    }

    /// Sets the choice among the entries that the limits and the policies permit.
    #[must_use]
    pub fn with_selector(mut self, selector: Selector) -> Self {
        self.selector = Some(selector);
        self
    }

    /// Sets the hooks: functions that are called before a payment, and for what becomes of it.
    #[must_use]
    pub fn with_hooks(mut self, hooks: PayHooks) -> Self {
        self.hooks = Arc::new(hooks);
        self
    }

    /// Sets the budget over time.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<dyn Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the source of time and randomness.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Timer>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the limits of the answers that are read.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the longest request body that is buffered for repetition: 2 MiB by default. A body is read before anything
    /// is sent, since a request that cannot be repeated cannot be paid for.
    #[must_use]
    pub const fn with_longest_body(mut self, bytes: usize) -> Self {
        self.longest_body = bytes;
        self
    }

    /// Sets the number of times that a payment is sent again while its outcome is unknown: 5 by default.
    #[must_use]
    pub const fn with_resends(mut self, times: u32) -> Self {
        self.resends = times;
        self
    }

    /// Stores open payments in this journal, so that another process sends the same payment for the same request.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn PaymentJournal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Sets the number of [open payments](Self::open_payments) at which no other is signed
    /// ([`PayError::TooManyOpen`]): 10,000 by default. A payer with a journal has no such limit.
    #[must_use]
    pub const fn with_most_open(mut self, payments: usize) -> Self {
        self.most_open = payments;
        self
    }

    /// Registers an extension, which adds to payments where a server declares it. Declarations of other extensions are
    /// echoed unchanged, and a server that requires one of them is not paid.
    #[must_use]
    pub fn with_extension(mut self, extension: impl Extension + 'static) -> Self {
        self.extensions.register(Arc::new(extension));
        self
    }

    /// Whether this payer also pays challenges.
    #[cfg(feature = "challenge")]
    pub(super) fn takes_challenges(&self) -> bool {
        self.wallet.takes_challenges()
    }

    #[cfg(not(feature = "challenge"))]
    #[allow(clippy::unused_self, reason = "the other half looks")]
    pub(super) const fn takes_challenges(&self) -> bool {
        false
    }

    /// Signs a payment for the first acceptable entry in the server's order, with entries of the flow `authorization`
    /// before all others.
    pub(super) async fn sign(&self, required: &PaymentRequired, purchase: &Purchase) -> Result<Signed, PayError> {
        self.check_room()?;
        let now = self.clock.now();
        let mut reasons = Vec::new();
        let mut candidates = Vec::new();
        for entry in entries(required, &self.limits) {
            match self.acceptable(entry) {
                Ok((candidate, authorization)) => {
                    // This reason is replaced if the candidate cannot be paid.
                    reasons.push(NotPayable::NoScheme);
                    candidates.push(((!authorization, candidate.scheme), reasons.len() - 1, candidate));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        // A stable sort keeps the server's order within a flow and a scheme; of the schemes the one that was added first is
        // preferred.
        candidates.sort_by_key(|(preference, ..)| *preference);
        while let Some(at) = self.selected(&candidates) {
            let (_, position, candidate) = candidates.remove(at);
            let signed = self.sign_one(required, &candidate, purchase, now).await;
            self.observe_signed(&candidate.terms, purchase, &signed);
            match signed {
                Ok(signed) => return Ok(signed),
                Err(NotSigned::Entry(reason)) => {
                    if let Some(at) = reasons.get_mut(position) {
                        *at = reason;
                    }
                }
                Err(NotSigned::Whole(error)) => return Err(error),
            }
        }
        for (_, position, _) in candidates {
            if let Some(at) = reasons.get_mut(position) {
                *at = NotPayable::NotSelected;
            }
        }
        if reasons.is_empty() { Err(PayError::NoTerms) } else { Err(PayError::NothingPayable(reasons)) }
    }

    /// Returns the place of the candidate that is paid next.
    fn selected<P>(&self, candidates: &[(P, usize, Candidate<'_>)]) -> Option<usize> {
        match &self.selector {
            _ if candidates.is_empty() => None,
            None => Some(0),
            Some(selector) => {
                let entries: Vec<_> = candidates.iter().map(|(.., candidate)| &candidate.terms).collect();
                selector.select(&entries)
            }
        }
    }

    fn acceptable<'d>(&self, entry: Result<Asked<'d>, Unreadable>) -> Result<(Candidate<'d>, bool), NotPayable> {
        let asked = entry?;
        let terms = asked.terms()?;
        let Some(scheme) = self.schemes.iter().position(|scheme| scheme.can_pay(&terms)) else {
            return Err(self.unpayable(&terms));
        };
        let authorization = self.allows(&terms)?;
        Ok((Candidate { asked, terms, scheme }, authorization))
    }

    /// Returns the reason why no scheme pays these terms, from a payer of their scheme if there is one.
    fn unpayable(&self, terms: &Terms) -> NotPayable {
        let objections = self.schemes.iter().filter_map(|scheme| scheme.objection(terms));
        let mut objections = objections.filter(|objection| objection.reason != ErrorReason::UNSUPPORTED_SCHEME);
        match objections.next() {
            Some(objection) => NotPayable::Refused(objection),
            None => NotPayable::NoScheme,
        }
    }

    async fn sign_one(
        &self,
        required: &PaymentRequired,
        candidate: &Candidate<'_>,
        purchase: &Purchase,
        now: UnixSeconds,
    ) -> Result<Signed, NotSigned> {
        let terms = &candidate.terms;
        let scheme = self.schemes.get(candidate.scheme).ok_or(NotPayable::NoScheme)?;
        self.before_payment(terms, purchase).await?;
        let reserved = self.reserve(terms, purchase, now).await?;
        let extensions = extensions::echoed(&self.extensions, required, terms, purchase, &*self.clock, now).await?;
        let entropy = x402_types::payment_entropy(self.clock.entropy().ok_or(PayError::Entropy)?);
        let resource = required.resource();
        let url = candidate.asked.url(&resource, purchase.url.as_str());
        let context = SigningContext { now, entropy, url, method: purchase.method.as_str() };
        let made = scheme.make_payment(terms, &context).await?;
        let (valid_until, rule) = (made.valid_until, made.amount_rule);
        let mut signed = Signed {
            header: candidate.asked.header(required, extensions, made).map_err(PayError::from)?,
            valid_until,
            reservation: None,
            rule,
            sent: false,
            paid: false,
            settled: None,
            #[cfg(feature = "challenge")]
            challenge: None,
        };
        // The payment is noted before it is sent: after a crash the next process sends the same one.
        self.note(signed.open(purchase)).await?;
        signed.reservation = Some(reserved.keep());
        Ok(signed)
    }

    /// Checks these terms against the limits of one payment and the policies. Returns whether they are of the preferred
    /// flow.
    pub(super) fn allows(&self, terms: &Terms) -> Result<bool, NotPayable> {
        let preferred = self.spending.check(terms)?;
        self.policies.iter().try_for_each(|policy| policy.check(terms))?;
        Ok(preferred)
    }

    /// Reserves the amount of the terms before anything is signed.
    pub(super) async fn reserve(
        &self,
        terms: &Terms,
        purchase: &Purchase,
        now: UnixSeconds,
    ) -> Result<Reserved<'_>, ReserveError> {
        let spend = Spend {
            host: host(&purchase.url),
            network: terms.network,
            asset: canonical_asset(terms.network, &terms.asset),
            amount: terms.amount,
            dollar_decimals: self.spending.dollar_decimals(terms),
            day: now.0 / 86_400,
        };
        let reservation = self.budget.reserve(&spend).await?;
        Ok(Reserved { budget: &self.budget, reservation: Some(reservation) })
    }

    /// Lets the scheme of these terms remove what a server's refusal complains about. Returns whether the same payment can
    /// be sent again.
    pub(super) async fn remedy(&self, terms: &Terms, refused: &ErrorReason) -> Result<bool, Refusal> {
        match self.schemes.iter().find(|scheme| scheme.can_pay(terms)) {
            Some(scheme) => scheme.remedy(terms, refused).await,
            None => Ok(false),
        }
    }

    /// Ends the reservation of a payment with a known outcome.
    pub(super) fn close(&self, signed: &Signed, how: Closed) {
        if let Some(reservation) = signed.reservation {
            self.budget.close(reservation, how);
        }
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Payer {
    /// Creates a payer without schemes, for at most one dollar per payment, without a budget over time.
    fn default() -> Self {
        Self {
            schemes: Arc::default(),
            spending: Arc::default(),
            policies: Arc::default(),
            selector: None,
            hooks: Arc::default(),
            budget: Arc::new(MemoryBudget::default()),
            clock: Arc::new(SystemClock),
            limits: Limits::DEFAULT,
            longest_body: 2 * 1024 * 1024,
            resends: 5,
            #[cfg(feature = "challenge")]
            wallet: Wallet::default(),
            kept: Arc::default(),
            most_open: MOST_OPEN,
            journal: None,
            in_hand: Arc::default(),
            extensions: Extensions::new(),
        }
    }
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payer").field("spending", &self.spending).field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// The reason why a payment was not signed.
pub(super) enum NotSigned {
    /// This entry is not paid; another may be.
    Entry(NotPayable),
    /// No entry is paid.
    Whole(PayError),
}

impl From<NotPayable> for NotSigned {
    fn from(reason: NotPayable) -> Self {
        Self::Entry(reason)
    }
}

impl From<Fault> for NotSigned {
    fn from(fault: Fault) -> Self {
        Self::Whole(fault.into())
    }
}

impl From<PayError> for NotSigned {
    fn from(error: PayError) -> Self {
        Self::Whole(error)
    }
}

impl From<ReserveError> for NotSigned {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::OverBudget(over) => Self::Entry(over.into()),
            ReserveError::Fault(fault) => Self::Whole(fault.into()),
        }
    }
}

impl From<Refusal> for NotSigned {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejection(rejection) => Self::Entry(NotPayable::Refused(rejection)),
            Refusal::Fault(fault) => Self::Whole(fault.into()),
        }
    }
}

/// A reservation before its payment is signed.
pub(super) struct Reserved<'p> {
    budget: &'p Arc<dyn Budget>,
    reservation: Option<u64>,
}

impl Reserved<'_> {
    /// Keeps the reservation of a signed payment until its outcome is known.
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

struct Candidate<'d> {
    asked: Asked<'d>,
    terms: Terms,
    scheme: usize,
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
