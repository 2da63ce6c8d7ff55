//! The settlement machine from the callers' side: verify, settle, look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, ChainId, Claim, ErrorReason, Fault, PaymentKey, Refusal, Rejection, SchemeName, UnixSeconds,
};

use crate::in_flight::{InFlightRequest, InFlightRequests};
use crate::observer::NoObserver;
use crate::routing::Routing;
use crate::{
    Admit, CommitError, Doing, EntryDefaults, Event, Happening, LaneId, Ledger, Mechanism, Observer, Outcome, OwnerId,
    Payment, Rail, SlotId, Telling, TxId, Verdict, Verified, Write,
};

/// The intervals of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The seconds between two checks of one payment, about a block.
    pub poll: u64,
    /// The seconds before a slot that has not landed is sent again; the fee is raised every second time.
    pub rebroadcast: u64,
}

impl Default for Pace {
    /// Returns the intervals for chains with blocks of two seconds.
    fn default() -> Self {
        Self { poll: 2, rebroadcast: 10 }
    }
}

/// The default of [`Settlement::with_most_in_flight`].
pub const MOST_IN_FLIGHT: usize = 64;

/// The settlement machine. It has no clock, no task and no memory of payments: its owner calls [`Settlement::settle`]
/// for callers, and [`Settlement::advance`] and [`Settlement::carry`] repeatedly for the lanes that it has leased.
pub struct Settlement {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) pace: Pace,
    routing: Routing,
    rails: BTreeMap<LaneId, Arc<dyn Rail>>,
    /// The maximum number of transactions of one account in flight, where it is not [`MOST_IN_FLIGHT`].
    most_in_flight: BTreeMap<ChainId, usize>,
    observer: Arc<dyn Observer>,
    admission: Option<Arc<dyn Admit>>,
    owner: OwnerId,
    pub(crate) in_flight: Arc<InFlightRequests>,
    quarantine: AtomicBool,
}

impl core::fmt::Debug for Settlement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Settlement")
            .field("owner", &self.owner)
            .field("kinds", &self.routing)
            .field("lanes", &self.rails.keys().collect::<Vec<_>>())
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

impl Settlement {
    /// Creates a machine over a ledger. `owner` identifies this start of this process: it must never be used again.
    #[must_use]
    pub fn new(owner: OwnerId, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            pace: Pace::default(),
            routing: Routing::default(),
            rails: BTreeMap::new(),
            most_in_flight: BTreeMap::new(),
            observer: Arc::new(NoObserver),
            admission: None,
            in_flight: InFlightRequests::new(owner.clone()),
            owner,
            quarantine: AtomicBool::new(false),
        }
    }

    /// Begins or ends the quarantine of a ledger that may have forgotten payments, because it is an older copy. Meanwhile
    /// new payments of mechanisms [without a nonce on a chain](Mechanism::has_nonce_on_chain) are refused with
    /// `ledger_quarantined`, and stored ones take no new step and are not failed. All others go on: the chain keeps each
    /// from being settled twice.
    pub fn set_quarantine(&self, is_on: bool) {
        self.quarantine.store(is_on, Ordering::Release);
    }

    /// Returns whether payments of a mechanism are held back.
    pub(crate) fn holds_back(&self, mechanism: &dyn Mechanism) -> bool {
        self.quarantine.load(Ordering::Acquire) && !mechanism.has_nonce_on_chain()
    }

    /// Returns the kinds of payment that a quarantine holds back, whether there is one or not.
    #[must_use]
    pub fn kinds_without_nonce(&self) -> Vec<SupportedKind> {
        let without = |kind: &&SupportedKind| self.routing.serving(kind).iter().any(|it| !it.has_nonce_on_chain());
        self.kinds().iter().filter(without).cloned().collect()
    }

    /// Returns the lanes of accounts that have made more transactions than the ledger knows, each with the account's nonce
    /// and the ledger's. A lane that the ledger has never used is not among them.
    /// # Errors
    /// A rail or the ledger failed.
    pub async fn unknown_transactions(&self) -> Result<Vec<(LaneId, u64, u64)>, Fault> {
        let mut found = Vec::new();
        for (lane, rail) in &self.rails {
            // The account is read first: another process may send meanwhile, and stores before it sends.
            let Some(nonces) = rail.nonces(lane).await? else { continue };
            let next = self.ledger.lane(lane, 0).await?.next;
            if next > 0 && nonces.head > next {
                found.push((lane.clone(), nonces.head, next));
            }
        }
        Ok(found)
    }

    /// Sets other intervals.
    #[must_use]
    pub const fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Sets the observer of the machine's events.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Sets what decides whether a valid payment is taken on. By default each is.
    #[must_use]
    pub fn with_admission(mut self, admission: Arc<dyn Admit>) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Returns the intervals.
    #[must_use]
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// Serves the kinds of a mechanism. Several may serve one kind, each by a [method](Mechanism::method) of its own.
    ///
    /// # Errors
    /// One of its kinds is on no known network, or is served already by this method or by a mechanism without
    /// one; or its scheme has another rule for the amount.
    pub fn with_mechanism(mut self, mechanism: Arc<dyn Mechanism>) -> Result<Self, Fault> {
        self.routing.add(&mechanism)?;
        Ok(self)
    }

    /// Uses the lanes of a rail.
    /// # Errors
    /// One of its lanes has a rail already.
    pub fn with_rail(mut self, rail: Arc<dyn Rail>) -> Result<Self, Fault> {
        for lane in rail.lanes() {
            if self.rails.insert(lane.clone(), Arc::clone(&rail)).is_some() {
                return Err(Fault::broken(format_args!("{lane} has two rails")));
            }
        }
        Ok(self)
    }

    /// Sets how many transactions of one account may be in flight on a network, at least 1: the node must keep them all.
    /// [`MOST_IN_FLIGHT`] by default.
    #[must_use]
    pub fn with_most_in_flight(mut self, network: ChainId, most: usize) -> Self {
        self.most_in_flight.insert(network, most.max(1));
        self
    }

    pub(crate) fn most_in_flight(&self, lane: &LaneId) -> usize {
        let of_network = lane.network().and_then(|network| self.most_in_flight.get(&network));
        of_network.copied().unwrap_or(MOST_IN_FLIGHT)
    }

    /// Returns the owner under which this machine leases lanes.
    #[must_use]
    pub const fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// Returns the kinds of payment served, in the order in which they were added.
    #[must_use]
    pub fn kinds(&self) -> &[SupportedKind] {
        self.routing.kinds()
    }

    /// Returns the members that a server may leave out of an entry of version 2, from the first mechanism that settles
    /// payments for such an entry: [`Mechanism::entry_defaults`], and the kind's own `extra`. Without a scheme, every
    /// scheme of the network is considered.
    #[must_use]
    pub fn entry_defaults(&self, scheme: Option<&str>, network: ChainId, asset: Option<&str>) -> Option<EntryDefaults> {
        self.routing.entry_defaults(scheme, network, asset)
    }

    /// Returns the lanes that cannot pay for a transaction, as far as is known, each with its fault.
    #[must_use]
    pub fn unfunded(&self) -> Vec<(LaneId, Fault)> {
        let funded = |(lane, rail): (&LaneId, &Arc<dyn Rail>)| Some((lane.clone(), rail.funded(lane).err()?));
        self.rails.iter().filter_map(funded).collect()
    }

    /// Returns the kinds of payment that no lane can carry, as far as is known: every lane of their mechanisms is
    /// [unfunded](Self::unfunded), or has no rail.
    #[must_use]
    pub fn stopped_kinds(&self) -> Vec<SupportedKind> {
        let works = |lane: &LaneId| self.rails.get(lane).is_some_and(|rail| rail.funded(lane).is_ok());
        self.kinds().iter().filter(|kind| !self.lanes_of(kind).iter().any(works)).cloned().collect()
    }

    /// Returns the lanes that may carry payments of a served kind.
    #[must_use]
    pub fn lanes_of(&self, kind: &SupportedKind) -> Vec<LaneId> {
        let network = kind.chain_id();
        let mut lanes = Vec::new();
        for mechanism in self.routing.serving(kind) {
            match mechanism.lanes() {
                named if named.is_empty() => {
                    lanes.extend(self.lanes().filter(|lane| lane.network() == network).cloned());
                }
                named => lanes.extend(named),
            }
        }
        lanes
    }

    /// Returns the lanes to work.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneId> {
        self.rails.keys()
    }

    /// Finds the mechanism that checks and settles a claim.
    ///
    /// # Errors
    /// `unsupported_scheme`, `invalid_network` or `invalid_x402_version`: no mechanism serves the kind;
    /// `unsupported_payload_type`: none or more than one of the kind's mechanisms takes the claim.
    pub fn mechanism(&self, claim: &Claim) -> Result<&Arc<dyn Mechanism>, Rejection> {
        self.routing.of(claim)
    }

    /// Returns whether a scheme settles the authorized amount, or may settle less; [`AmountRule::Equal`] for a scheme
    /// that is not served.
    #[must_use]
    pub fn amount_rule(&self, scheme: &SchemeName) -> AmountRule {
        self.routing.amount_rule(scheme)
    }

    /// Derives the identity of a claim's authorization.
    /// # Errors
    /// No mechanism serves its terms, or its payload cannot be parsed.
    pub fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self.mechanism(claim)?.key(claim)
    }

    /// Returns the payer of a claim, if its payload can be parsed.
    #[must_use]
    pub fn payer(&self, claim: &Claim) -> Option<String> {
        let mechanism = self.mechanism(claim).ok()?;
        match mechanism.key(claim) {
            Ok(key) => mechanism.payer(&key),
            // A payload that cannot be settled here may have been parsed all the same.
            Err(rejection) => rejection.payer.map(String::from),
        }
    }

    /// Reads the row of a payment.
    /// # Errors
    /// The store failed.
    pub async fn payment(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.stored_rows().read(key).await
    }

    /// Verifies a payment, and refuses one that is spent or being settled. Moves nothing.
    /// # Errors
    /// The payment is invalid, or could not be checked.
    pub async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verified, Refusal> {
        let verified = self.verified(claim, now).await;
        self.refused(Doing::Verify, claim, verified.as_ref().err(), now);
        verified
    }

    async fn verified(&self, claim: &Claim, now: UnixSeconds) -> Result<Verified, Refusal> {
        let key = self.key(claim)?;
        if let Some(row) = self.stored_rows().read(&key).await?
            && !(is_same_request(&row, claim) && row.may_reopen(now))
        {
            let reason = match row.answer {
                Some(Err(reason)) => reason,
                Some(Ok(_)) | None => ErrorReason::DUPLICATE_SETTLEMENT,
            };
            return Err(Rejection::new(reason).of(row.payer).into());
        }
        let verified = self.check(claim, key, now).await?;
        if let Some(admission) = &self.admission {
            admission.would_admit(&verified, now).await?;
        }
        Ok(verified)
    }

    async fn check(&self, claim: &Claim, key: PaymentKey, now: UnixSeconds) -> Result<Verified, Refusal> {
        let mechanism = self.mechanism(claim)?;
        // Before anything is verified: what was settled already may well be invalid by now, and has not failed.
        if self.holds_back(mechanism.as_ref()) {
            return Err(Rejection::new(ErrorReason::LEDGER_QUARANTINED).into());
        }
        let verdict = mechanism.verify(claim, now).await?;
        // The payment is valid, but it may be that no lane could send it.
        self.able(&verdict)?;
        Ok(Verified::new(claim.clone(), key, verdict))
    }

    /// Checks a payment that is to be settled, and has it taken on.
    async fn admitted(&self, claim: &Claim, key: PaymentKey, now: UnixSeconds) -> Result<Verified, Refusal> {
        let verified = self.check(claim, key, now).await?;
        if let Some(admission) = &self.admission {
            admission.admit(&verified, now).await?;
        }
        Ok(verified)
    }

    /// Registers a request that is being answered. Keep the result until the response is sent, then drop it.
    #[must_use]
    pub fn begin_request(&self) -> InFlightRequest {
        self.in_flight.begin()
    }

    /// Settles a payment: finds its row, or verifies and claims it. Sends nothing, so a caller that disconnects changes
    /// nothing about it. While the outcome is `Pending`, call [`Settlement::look`] again.
    /// # Errors
    /// The payment is invalid, and no row proves otherwise; or its state could not be determined.
    pub async fn settle(&self, request: &InFlightRequest, claim: &Claim, now: UnixSeconds) -> Result<Outcome, Refusal> {
        let outcome = self.found_or_claimed(request, claim, now).await;
        self.refused(Doing::Settle, claim, outcome.as_ref().err(), now);
        outcome
    }

    async fn found_or_claimed(
        &self,
        request: &InFlightRequest,
        claim: &Claim,
        now: UnixSeconds,
    ) -> Result<Outcome, Refusal> {
        let key = self.key(claim)?;
        if let Some(row) = self.stored_rows().read(&key).await? {
            return Ok(self.again(request, row, claim, now).await?);
        }
        match self.admitted(claim, key.clone(), now).await {
            Ok(verified) => Ok(self.claimed(request, verified, now).await?),
            // The nonce may be used because another request for this same payment won in the meantime.
            Err(refusal) => match self.stored_rows().read(&key).await? {
                Some(row) => Ok(self.again(request, row, claim, now).await?),
                None => Err(refusal),
            },
        }
    }

    /// Claims a verified payment, whatever [`Settlement::with_admission`] would decide of it.
    /// # Errors
    /// The store failed, the payment may be claimed; or no rail serves a lane that may carry it.
    pub async fn claim(
        &self,
        request: &InFlightRequest,
        verified: Verified,
        now: UnixSeconds,
    ) -> Result<Outcome, Fault> {
        let outcome = self.claimed(request, verified, now).await;
        outcome.inspect_err(|fault| self.faulted(Doing::Settle, fault, now))
    }

    async fn claimed(&self, request: &InFlightRequest, verified: Verified, now: UnixSeconds) -> Result<Outcome, Fault> {
        let lane = self.lane_for(&verified)?;
        let claim = verified.claim().clone();
        let row = self.ledger.claim(Payment::new(verified, lane, request.id().clone(), now)).await?;
        if row.request == *request.id() && row.version == 1 {
            self.notice(Happening::Claimed { payment: &row }, now);
        }
        self.again(request, row, &claim, now).await
    }

    /// Returns the state of the payment for a request that received `Pending`.
    /// # Errors
    /// The store failed, or the payment does not exist.
    pub async fn look(&self, request: &InFlightRequest, key: &PaymentKey) -> Result<Outcome, Fault> {
        let row = self.stored_rows().read(key).await?.ok_or_else(|| Fault::broken("a payment without a row"))?;
        self.outcome(request, row).await
    }

    /// Handles a row that existed already, or was claimed a moment ago.
    async fn again(
        &self,
        request: &InFlightRequest,
        mut row: Payment,
        claim: &Claim,
        now: UnixSeconds,
    ) -> Result<Outcome, Fault> {
        loop {
            if row.request == *request.id() {
                return self.outcome(request, row).await;
            }
            // The answer is 409 `duplicate_settlement` while the first request is unanswered. For another request it is
            // always, or the authorization is reported as used if its caller has no name that distinguishes it from a
            // retry of the first.
            let same = is_same_request(&row, claim);
            if !same || self.in_flight.is_open(&row.request) {
                let transaction = self.transaction(&row).await?;
                let told = matches!(row.answer, Some(Ok(_))) && !row.untold && !self.in_flight.is_lost(&row.request);
                return Ok(if told && *row.identity() != claim.identity && !request.is_named() {
                    Outcome::Spent { transaction, payer: row.payer }
                } else {
                    Outcome::Duplicate { transaction }
                });
            }
            if row.answer.is_some() {
                if !row.may_reopen(now) {
                    return self.outcome(request, row).await;
                }
                row.apply(Event::Reopen, now, self.pace.poll)?;
            }
            row.request = request.id().clone();
            match self.ledger.commit(Write { payments: vec![row.clone()], ..Write::default() }).await {
                Ok(()) => return self.outcome(request, row).await,
                Err(CommitError::Fault(fault)) => return Err(fault),
                // Another writer was first. Each conflict means that some writer has progressed, so this loop ends.
                Err(_) => row = self.stored(&row.key).await?,
            }
        }
    }

    /// Determines the result for a request. That it receives a success is stored first.
    async fn outcome(&self, request: &InFlightRequest, mut row: Payment) -> Result<Outcome, Fault> {
        loop {
            let before = row.request.clone();
            match (row.telling(request.id(), request.is_named(), self.in_flight.is_lost(&before)), &row.answer) {
                (Telling::Due, _) => {
                    row.apply(Event::Told(request.id().clone()), row.due, self.pace.poll)?;
                    request.begin_telling();
                    match self.ledger.commit(Write { payments: vec![row.clone()], ..Write::default() }).await {
                        // From here to the caller there is no await and no failure.
                        Ok(()) => {
                            self.in_flight.found(&before);
                        }
                        // The write may have been stored. The next request gets the success instead of this one.
                        Err(CommitError::Fault(fault)) => return Err(fault),
                        Err(_) => {
                            self.in_flight.withdraw(request.id());
                            row = self.stored(&row.key).await?;
                        }
                    }
                }
                (Telling::Stored, Some(Ok(receipt))) => {
                    request.end_telling();
                    return Ok(Outcome::Settled { receipt: receipt.clone(), replayed: false });
                }
                (Telling::Replayed, Some(Ok(receipt))) => {
                    return Ok(Outcome::Settled { receipt: receipt.clone(), replayed: true });
                }
                (Telling::Spent, _) => {
                    return Ok(Outcome::Spent { transaction: self.transaction(&row).await?, payer: row.payer });
                }
                (_, Some(Err(reason))) => {
                    let reason = reason.clone();
                    return Ok(Outcome::Failed {
                        reason,
                        transaction: self.transaction(&row).await?,
                        payer: row.payer,
                    });
                }
                _ => return Ok(Outcome::Pending { transaction: self.transaction(&row).await?, payer: row.payer }),
            }
        }
    }

    /// Returns the ledger that callers' answers are read from.
    fn stored_rows(&self) -> &dyn Ledger {
        self.ledger.behind().unwrap_or_else(|| self.ledger.as_ref())
    }

    async fn stored(&self, key: &PaymentKey) -> Result<Payment, Fault> {
        self.stored_rows().read(key).await?.ok_or_else(|| Fault::broken("a payment lost its row"))
    }

    /// Returns the transaction that paid, otherwise the last that the far side accepted: a hash that no node has is
    /// useless to a caller.
    async fn transaction(&self, row: &Payment) -> Result<Option<TxId>, Fault> {
        if let Some(paid) = row.paid_by() {
            return Ok(Some(paid.clone()));
        }
        let carriers: Vec<SlotId> = row.steps.iter().flat_map(|step| step.carriers.iter().cloned()).collect();
        if carriers.is_empty() {
            return Ok(None);
        }
        let slots = self.stored_rows().slots(&carriers).await?;
        let taken = |id: &SlotId| slots.iter().find(|slot| slot.id == *id)?.taken.clone();
        Ok(carriers.iter().rev().find_map(taken))
    }

    /// Returns the lanes that may carry a payment, can pay for it and would sign what it needs; none if no rail serves any.
    /// # Errors
    /// None of those that are served can carry it. A rejection, if none ever will; a fault, if that may change.
    fn able(&self, verdict: &Verdict) -> Result<Vec<&LaneId>, Refusal> {
        let (mut able, mut rejected, mut fault) = (Vec::new(), None, None);
        for (lane, rail) in verdict.lanes.iter().filter_map(|lane| self.rails.get_key_value(lane)) {
            let checked = verdict.parcels.iter().try_for_each(|parcel| rail.check_parcel(parcel));
            match checked.and_then(|()| Ok(rail.funded(lane)?)) {
                Ok(()) => able.push(lane),
                Err(Refusal::Rejection(why)) => rejected = rejected.or(Some(why)),
                Err(Refusal::Fault(why)) => fault = fault.or(Some(why)),
            }
        }
        match (able.is_empty(), fault, rejected) {
            (true, Some(fault), _) => Err(fault.into()),
            (true, None, Some(rejected)) => Err(rejected.of(verdict.payer.as_str()).into()),
            _ => Ok(able),
        }
    }

    /// Chooses one lane of those that may carry the payment: always the same for one key, evenly distributed over many.
    fn lane_for(&self, verified: &Verified) -> Result<LaneId, Fault> {
        let lanes = self.able(verified.verdict()).map_err(|why| match why {
            Refusal::Fault(fault) => fault,
            // The payment passed this check a moment ago.
            Refusal::Rejection(why) => Fault::unreachable("the rail", why),
        })?;
        let spread = verified
            .key()
            .as_bytes()
            .iter()
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        spread
            .checked_rem(lanes.len())
            .and_then(|at| lanes.get(at))
            .map(|lane| (*lane).clone())
            .ok_or_else(|| Fault::broken("no rail serves a lane that may carry this payment"))
    }

    pub(crate) fn notice(&self, happening: Happening<'_>, now: UnixSeconds) {
        self.observer.notice(&happening, now);
    }

    pub(crate) fn faulted(&self, during: Doing, fault: &Fault, now: UnixSeconds) {
        self.notice(Happening::Faulted { during, fault }, now);
    }

    fn refused(&self, during: Doing, claim: &Claim, refusal: Option<&Refusal>, now: UnixSeconds) {
        match refusal {
            Some(Refusal::Rejection(rejection)) => self.notice(Happening::Refused { claim, rejection }, now),
            Some(Refusal::Fault(fault)) => self.faulted(during, fault, now),
            None => {}
        }
    }

    pub(crate) fn rail(&self, lane: &LaneId) -> Result<&Arc<dyn Rail>, Fault> {
        self.rails.get(lane).ok_or_else(|| Fault::broken(format_args!("no rail serves {lane}")))
    }
}

/// Returns whether a claim has the row's caller and request, and requests nothing else under its name.
fn is_same_request(row: &Payment, claim: &Claim) -> bool {
    *row.identity() == claim.identity && row.claim.terms == claim.terms && row.claim.payload == claim.payload
}
