//! The settlement machine, as callers see it: verify, settle, look.

use std::collections::BTreeMap;
use std::sync::Arc;

use x402_types::v2::SupportedKind;
use x402_types::{AmountRule, Claim, ErrorReason, Fault, PaymentKey, Refusal, Rejection, SchemeName, UnixSeconds};

use crate::in_flight::{InFlightRequest, InFlightRequests};
use crate::observer::NoObserver;
use crate::routing::Routing;
use crate::{
    CommitError, Doing, Event, Happening, LaneId, Ledger, Mechanism, Observer, Outcome, OwnerId, Payment, Rail, SlotId,
    Telling, TxId, Verified, Write,
};

/// How long the machine waits before it looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at one payment, in seconds. About a block.
    pub poll: u64,
    /// Before a slot that has not landed is sent again, in seconds; the fee is raised every second time.
    pub rebroadcast: u64,
}

impl Default for Pace {
    /// For chains with blocks of two seconds.
    fn default() -> Self {
        Self { poll: 2, rebroadcast: 10 }
    }
}

/// The settlement machine. It has no clock, no task and no memory of payments: whoever owns it calls
/// [`Settlement::settle`] for callers, and [`Settlement::advance`] and [`Settlement::carry`] for the lanes that it
/// has leased, over and over.
pub struct Settlement {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) pace: Pace,
    routing: Routing,
    rails: BTreeMap<LaneId, Arc<dyn Rail>>,
    observer: Arc<dyn Observer>,
    owner: OwnerId,
    in_flight: Arc<InFlightRequests>,
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
    /// A machine over a ledger. `owner` names this start of this process: it must never be used again.
    #[must_use]
    pub fn new(owner: OwnerId, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            pace: Pace::default(),
            routing: Routing::default(),
            rails: BTreeMap::new(),
            observer: Arc::new(NoObserver),
            in_flight: InFlightRequests::new(owner.clone()),
            owner,
        }
    }

    /// With another pace.
    #[must_use]
    pub const fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// With one who hears what it does.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// How long it waits before it looks again.
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
    ///
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

    /// Who leases lanes for this machine.
    #[must_use]
    pub const fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The kinds of payment served, in the order in which they were added.
    #[must_use]
    pub fn kinds(&self) -> &[SupportedKind] {
        self.routing.kinds()
    }

    /// The lanes that cannot pay for a transaction, as far as is known, and what each says of it.
    #[must_use]
    pub fn unfunded(&self) -> Vec<(LaneId, Fault)> {
        let funded = |(lane, rail): (&LaneId, &Arc<dyn Rail>)| Some((lane.clone(), rail.funded(lane).err()?));
        self.rails.iter().filter_map(funded).collect()
    }

    /// The lanes to work.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneId> {
        self.rails.keys()
    }

    /// Who checks and settles such a claim.
    ///
    /// # Errors
    /// `unsupported_scheme`, `invalid_network` or `invalid_x402_version`: nobody here does; `unsupported_payload_type`:
    /// of several mechanisms of this kind none or more than one calls it its own.
    pub fn mechanism(&self, claim: &Claim) -> Result<&Arc<dyn Mechanism>, Rejection> {
        self.routing.of(claim)
    }

    /// Whether a scheme settles what was authorized, or may settle less. [`AmountRule::Equal`] where nobody serves it.
    #[must_use]
    pub fn amount_rule(&self, scheme: &SchemeName) -> AmountRule {
        self.routing.amount_rule(scheme)
    }

    /// The identity of a claim's authorization.
    ///
    /// # Errors
    /// Nobody here serves its terms, or its payload cannot be read.
    pub fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self.mechanism(claim)?.key(claim)
    }

    /// Who would pay a claim, where its payload can be read.
    #[must_use]
    pub fn payer(&self, claim: &Claim) -> Option<String> {
        let mechanism = self.mechanism(claim).ok()?;
        match mechanism.key(claim) {
            Ok(key) => mechanism.payer(&key),
            // What cannot be settled here may have been read all the same.
            Err(rejection) => rejection.payer.map(String::from),
        }
    }

    /// The row of a payment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn payment(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.ledger.read(key).await
    }

    /// Is the payment good? Refuses what is spent or being settled. Moves nothing.
    ///
    /// # Errors
    /// The payment is not good, or it could not be checked.
    pub async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verified, Refusal> {
        let verified = self.verified(claim, now).await;
        self.refused(Doing::Verify, claim, verified.as_ref().err(), now);
        verified
    }

    async fn verified(&self, claim: &Claim, now: UnixSeconds) -> Result<Verified, Refusal> {
        let key = self.key(claim)?;
        if let Some(row) = self.ledger.read(&key).await?
            && !(is_same_request(&row, claim) && row.may_reopen(now))
        {
            let reason = match row.answer {
                Some(Err(reason)) => reason,
                Some(Ok(_)) | None => ErrorReason::DUPLICATE_SETTLEMENT,
            };
            return Err(Rejection::new(reason).of(row.payer).into());
        }
        self.check(claim, key, now).await
    }

    async fn check(&self, claim: &Claim, key: PaymentKey, now: UnixSeconds) -> Result<Verified, Refusal> {
        let verdict = self.mechanism(claim)?.verify(claim, now).await?;
        // The payment is good, and nobody here could send it: that is no fault of the payer's.
        if let Some(fault) = self.shortage(&verdict.lanes) {
            return Err(fault.into());
        }
        Ok(Verified::new(claim.clone(), key, verdict))
    }

    /// A request begins to be answered. Keep it until the answer is on its way; drop it then.
    #[must_use]
    pub fn begin_request(&self) -> InFlightRequest {
        self.in_flight.begin()
    }

    /// Has a payment settled: finds its row, or verifies and claims it. Sends nothing, so a caller that hangs up
    /// changes nothing about it. While the outcome is `Pending`, [`Settlement::look`] again.
    ///
    /// # Errors
    /// The payment is not good, and no row says otherwise; or it could not be found out.
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
        if let Some(row) = self.ledger.read(&key).await? {
            return Ok(self.again(request, row, claim, now).await?);
        }
        match self.check(claim, key.clone(), now).await {
            Ok(verified) => Ok(self.claimed(request, verified, now).await?),
            // The nonce may be "used" because another request for this very payment won in the meantime.
            Err(refusal) => match self.ledger.read(&key).await? {
                Some(row) => Ok(self.again(request, row, claim, now).await?),
                None => Err(refusal),
            },
        }
    }

    /// Claims a payment that was checked.
    ///
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

    /// How the payment stands for a request that was told `Pending`.
    ///
    /// # Errors
    /// The store failed, or there is no such payment.
    pub async fn look(&self, request: &InFlightRequest, key: &PaymentKey) -> Result<Outcome, Fault> {
        let row = self.ledger.read(key).await?.ok_or_else(|| Fault::broken("a payment without a row"))?;
        self.outcome(request, row).await
    }

    /// A row was there already, or is ours from a moment ago.
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
            // While the first request is unanswered: 409 `duplicate_settlement`. For another request: always, or that
            // the authorization is used, where its caller has no name to tell it from a retry of the first.
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
                // Some other writer was first, and only writers that get on can be first: this ends.
                Err(_) => row = self.stored(&row.key).await?,
            }
        }
    }

    /// How the payment stands for a request of its own. That a success is told is stored first.
    async fn outcome(&self, request: &InFlightRequest, mut row: Payment) -> Result<Outcome, Fault> {
        loop {
            let before = row.request.clone();
            match (row.telling(request.id(), request.is_named(), self.in_flight.is_lost(&before)), &row.answer) {
                (Telling::Due, _) => {
                    row.apply(Event::Told(request.id().clone()), row.due, self.pace.poll)?;
                    request.begin_telling();
                    match self.ledger.commit(Write { payments: vec![row.clone()], ..Write::default() }).await {
                        // No wait and no failure from here to the caller.
                        Ok(()) => {
                            self.in_flight.found(&before);
                        }
                        // It may be stored. Whoever asks next is told in the place of this request.
                        Err(CommitError::Fault(fault)) => return Err(fault),
                        Err(_) => {
                            request.end_telling();
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

    async fn stored(&self, key: &PaymentKey) -> Result<Payment, Fault> {
        self.ledger.read(key).await?.ok_or_else(|| Fault::broken("a payment lost its row"))
    }

    /// The transaction that paid, else the last that the far side took: a hash that nobody has is of no use to a caller.
    async fn transaction(&self, row: &Payment) -> Result<Option<TxId>, Fault> {
        if let Some(paid) = row.paid_by() {
            return Ok(Some(paid.clone()));
        }
        let carriers: Vec<SlotId> = row.steps.iter().flat_map(|step| step.carriers.iter().cloned()).collect();
        if carriers.is_empty() {
            return Ok(None);
        }
        let slots = self.ledger.slots(&carriers).await?;
        let taken = |id: &SlotId| slots.iter().find(|slot| slot.id == *id)?.taken.clone();
        Ok(carriers.iter().rev().find_map(taken))
    }

    /// Why none of these lanes can pay for a transaction; `None` where one can, or no rail serves any.
    fn shortage(&self, lanes: &[LaneId]) -> Option<Fault> {
        let mut shortage = None;
        for (lane, rail) in lanes.iter().filter_map(|lane| self.rails.get_key_value(lane)) {
            match rail.funded(lane) {
                Ok(()) => return None,
                Err(fault) => drop(shortage.get_or_insert(fault)),
            }
        }
        shortage
    }

    /// One lane of those that may carry it and can pay for it: always the same for one key, evenly over many.
    fn lane_for(&self, verified: &Verified) -> Result<LaneId, Fault> {
        let lanes = &verified.verdict().lanes;
        if let Some(fault) = self.shortage(lanes) {
            return Err(fault);
        }
        let funded = |lane: &&LaneId| self.rails.get(lane).is_some_and(|rail| rail.funded(lane).is_ok());
        let lanes: Vec<&LaneId> = lanes.iter().filter(funded).collect();
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

/// The same caller and request, and nothing else asked under its name.
fn is_same_request(row: &Payment, claim: &Claim) -> bool {
    *row.identity() == claim.identity && row.claim.terms == claim.terms && row.claim.payload == claim.payload
}
