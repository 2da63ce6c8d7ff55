//! "Server verifies payment and grants access": the complete check, in the order of the document.

use core::fmt;
use std::sync::Arc;

use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, ChallengeId, Code, Payment, PaymentResponse, ProofKind};
use x402_types::{AtomicAmount, Fault, Members, SchemeName, UnixSeconds};

use crate::canonical::{Bind, BoundRequest, binding, canonical_binding, payment_digest};
use crate::entitlement::EntitlementGrant;
use crate::issue::{ChallengeOffer, issue};
use crate::meter::{Meter, MeterError, MeterState, Metered};
use crate::proof::{Evidence, ProofError, Proofs, VerifyProof};
use crate::refund::{Refund, RefundError, RefundPayment, RefundStanding};
use crate::refused::{ChallengeRefusal, CheckError};
use crate::store::{
    ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Issued, PaymentAttempt, PaymentDigest,
    ProofKey, Store,
};

/// Issues challenges, and checks payments against them.
#[derive(Clone)]
pub struct Gate {
    store: Arc<dyn Store>,
    proofs: Proofs,
    skew: u64,
    hold: u64,
    resume: u64,
}

/// A payment that passed. Its challenge is paid, and never grants access again.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The challenge that was paid.
    pub challenge: Challenge,
    /// The payment that was accepted.
    pub payment: Payment,
    /// The content of `X-PAYMENT-RESPONSE`.
    pub response: PaymentResponse,
    /// The fact that the proof establishes only once, if its type has one.
    pub proof: Option<ProofKey>,
    /// The meter for usage, if the scheme is `upto`; [`Gate::settle`] ends it.
    pub meter: Option<Meter>,
}

/// A payment that may be claimed, and what verifies its proof.
struct Admitted<'g> {
    issued: Issued,
    digest: PaymentDigest,
    adapter: &'g Arc<dyn VerifyProof>,
}

impl Gate {
    /// "Clock skew tolerance": 60 s in both directions, inclusive.
    pub const SKEW: u64 = 60;
    /// The number of seconds for which a payment under verification blocks itself, in case its server dies: 120 s.
    pub const HOLD: u64 = 120;
    /// The number of seconds, counted from its first attempt, during which a begun payment may be resumed and blocks
    /// others: 24 h.
    pub const RESUME: u64 = 86_400;

    /// Creates a gate with the default skew and times.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, proofs: Proofs) -> Self {
        Self { store, proofs, skew: Self::SKEW, hold: Self::HOLD, resume: Self::RESUME }
    }

    /// Sets the skew, in seconds.
    #[must_use]
    pub const fn with_skew(mut self, seconds: u64) -> Self {
        self.skew = seconds;
        self
    }

    /// Sets the hold, in seconds. It must be longer than any proof takes to verify.
    #[must_use]
    pub const fn with_hold(mut self, seconds: u64) -> Self {
        self.hold = seconds;
        self
    }

    /// Sets the time during which a begun payment may be resumed, in seconds.
    #[must_use]
    pub const fn with_resume(mut self, seconds: u64) -> Self {
        self.resume = seconds;
        self
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Issues a challenge, and stores it.
    ///
    /// # Errors
    /// `invalid_binding`, if the request cannot be bound; the store's fault.
    pub async fn issue(
        &self,
        offer: &ChallengeOffer,
        request: &BoundRequest<'_>,
        id: [u8; 16],
        now: UnixSeconds,
    ) -> Result<Challenge, CheckError> {
        let challenge = issue(offer, request, id)?;
        let expires_at = now.plus(offer.timeout.get());
        let keep_until = expires_at.plus(self.skew.saturating_mul(2));
        let issued = Issued { challenge: challenge.clone(), issued_at: now, expires_at, keep_until };
        if self.store.issue(issued).await? {
            Ok(challenge)
        } else {
            Err(Fault::broken("a challenge id was made twice: the random source repeats itself").into())
        }
    }

    /// Checks one `X-PAYMENT` value for a request, and grants access.
    ///
    /// # Errors
    /// The first row of the table that refuses the payment; `Pending` and faults, after which the same payment may be
    /// sent again. Dropping this future is a fault too, as is a crash.
    pub async fn check(
        &self,
        header: &[u8],
        offer: &ChallengeOffer,
        request: &BoundRequest<'_>,
        grant: Option<&EntitlementGrant>,
        now: UnixSeconds,
    ) -> Result<Granted, CheckError> {
        // Size, base64, JSON, fields, CR or LF, unknown proof type, `paidAmount` not canonical: 400 `invalid_schema`.
        let payment =
            codec::payment(header).map_err(|error| ChallengeRefusal::new(Code::InvalidSchema, error.to_string()))?;
        self.check_payment(payment, offer, request, grant, now).await
    }

    /// Checks a payment that was already decoded.
    ///
    /// # Errors
    /// Those of [`Gate::check`] except `invalid_schema`.
    pub async fn check_payment(
        &self,
        payment: Payment,
        offer: &ChallengeOffer,
        request: &BoundRequest<'_>,
        grant: Option<&EntitlementGrant>,
        now: UnixSeconds,
    ) -> Result<Granted, CheckError> {
        let Admitted { issued, digest, adapter } = self.admit(&payment, offer, request, now).await?;
        let attempt = PaymentAttempt {
            id: payment.challenge_id.clone(),
            nonce: payment.nonce.clone(),
            digest,
            until: now.plus(self.hold),
            resume_until: now.plus(self.resume),
        };
        let (hold, again) = match self.store.claim(&attempt, now).await? {
            ClaimOutcome::Held(hold) => (hold, false),
            ClaimOutcome::Resumed(hold) => (hold, true),
            ClaimOutcome::Running { until } => return Err(pending(until, now)),
            ClaimOutcome::Taken => return Err(nonce_seen()),
            ClaimOutcome::Unknown => return Err(ChallengeRefusal::new(Code::Expired, "challengeId: expired").into()),
        };
        let evidence = Evidence { issued: &issued, payment: &payment, digest, again };
        let proven = match adapter.verify(&evidence, now).await {
            Ok(proven) if proven.amount == payment.paid_amount => proven,
            Ok(_) => {
                let refused = ChallengeRefusal::new(Code::VerificationFailed, "paidAmount: not what the proof proves");
                return Err(self.give_back(&hold, refused).await);
            }
            Err(error) => return Err(self.leave(&hold, error, again).await),
        };
        let metered = evidence.is_metered();
        let with = Confirmation {
            proof: proven.key.clone(),
            refundable: if metered { AtomicAmount::ZERO } else { proven.amount },
            entitlement: grant.map(|grant| grant.entitlement(issued.challenge.resource.clone(), now)),
            meter: metered.then(|| Metered {
                issued: issued.clone(),
                payment: payment.clone(),
                used: AtomicAmount::ZERO,
                state: MeterState::Open,
                touched_at: now,
            }),
        };
        let challenge = issued.challenge;
        match self.confirm(&hold, with, now).await? {
            Confirmed::Paid => Ok(Granted {
                response: PaymentResponse {
                    ok: true,
                    challenge_id: challenge.challenge_id.clone(),
                    resource: challenge.resource.clone(),
                    entitlement: grant.map(EntitlementGrant::notice),
                    rest: Members::new(),
                },
                meter: metered.then(|| Meter::new(Arc::clone(&self.store), challenge.challenge_id.clone())),
                challenge,
                payment,
                proof: proven.key,
            }),
            Confirmed::ProofUsed => {
                let refused = ChallengeRefusal::new(Code::VerificationFailed, "proof: used before");
                Err(self.give_back(&hold, refused).await)
            }
            // Only the same payment can have replaced the hold.
            Confirmed::Lost => Err(CheckError::Pending { retry_after: 1 }),
        }
    }

    /// Checks everything about a payment that claims nothing: the proof is not verified, for that may move money.
    ///
    /// # Errors
    /// Those of [`Gate::check_payment`] that precede the proof.
    pub async fn look(
        &self,
        payment: &Payment,
        offer: &ChallengeOffer,
        request: &BoundRequest<'_>,
        now: UnixSeconds,
    ) -> Result<(), CheckError> {
        self.admit(payment, offer, request, now).await.map(drop)
    }

    async fn admit(
        &self,
        payment: &Payment,
        offer: &ChallengeOffer,
        request: &BoundRequest<'_>,
        now: UnixSeconds,
    ) -> Result<Admitted<'_>, CheckError> {
        // Version other than `x402.v1`: 402 `mismatch`.
        if !payment.version.is_x402_v1() {
            return Err(ChallengeRefusal::new(Code::Mismatch, "version: expected `x402.v1`").into());
        }
        let digest = payment_digest(payment)?;
        let found = self.store.find(&payment.challenge_id, now).await?;
        let Some((issued, standing)) = found else {
            return Err(ChallengeRefusal::new(Code::Expired, "challengeId: not a challenge that can be paid").into());
        };
        match standing {
            ChallengeState::Paid { .. } => {}
            // The payment was in time when it was begun.
            ChallengeState::Held { by, .. } | ChallengeState::Begun { by } if by == digest => {}
            _ => self.timely(payment, &issued, now)?,
        }
        matches(payment, &issued.challenge)?;
        bound(&issued.challenge, offer, request)?;
        // Challenge already paid, or nonce seen: 409 `replay`.
        match standing {
            ChallengeState::Held { by, until } if by == digest => return Err(pending(until, now)),
            ChallengeState::Begun { by } if by == digest => {}
            ChallengeState::Open if self.store.seen(&payment.nonce, now).await? => return Err(nonce_seen()),
            ChallengeState::Open => {}
            ChallengeState::Paid { .. } => {
                return Err(ChallengeRefusal::new(Code::Replay, "challengeId: paid before").into());
            }
            _ => return Err(ChallengeRefusal::new(Code::Replay, "challengeId: another payment of it was begun").into()),
        }
        let Some(adapter) = self.proofs.adapter(payment.proof.kind) else {
            let message = format!("proof.type: `{}` is not taken here", payment.proof.kind);
            return Err(ChallengeRefusal::new(Code::VerificationFailed, message).into());
        };
        Ok(Admitted { issued, digest, adapter })
    }

    /// Ends a metered payment: closes the meter and settles the used amount, once. Returns the amount paid. It must be
    /// called when the handler is done, and for the entries of [`Store::open_meters`]: meters whose handler died, and
    /// settlements whose result is unknown.
    ///
    /// # Errors
    /// `Unknown`; `Refused`, if the amount will never be paid; a fault, after which the call may be repeated.
    pub async fn settle(&self, id: &ChallengeId, now: UnixSeconds) -> Result<AtomicAmount, MeterError> {
        let Some(meter) = self.store.close_meter(id, now).await? else { return Err(MeterError::Unknown) };
        match meter.state {
            MeterState::Settled => return Ok(meter.used),
            MeterState::Refused => return Err(MeterError::Refused(None)),
            MeterState::Open | MeterState::Closed => {}
        }
        if !meter.used.is_zero() {
            let kind = meter.payment.proof.kind;
            // The proof's type was enabled when the challenge was paid and is now disabled; a restart with the type
            // enabled repairs this.
            let adapter =
                self.proofs.adapter(kind).ok_or_else(|| Fault::broken(format_args!("no `{kind}` adapter")))?;
            if let Err(error) = adapter.settle(&meter, now).await {
                if matches!(error, ProofError::Refused(_)) {
                    self.store.end_meter(id, MeterState::Refused).await?;
                }
                return Err(error.into());
            }
        }
        self.store.end_meter(id, MeterState::Settled).await?;
        Ok(meter.used)
    }

    /// Ends a metered payment whose request was not served: nothing of it is settled.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn waive(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        self.store.waive_meter(id, now).await
    }

    /// Pays a payment back, once: the refund is stored before it is made, and repeated if its result is unknown.
    /// Returns the receipt.
    ///
    /// # Errors
    /// `Unpaid`, `Other` and `Refused`, which paid nothing; a fault, after which the same refund may be repeated.
    pub async fn refund(&self, adapter: &dyn RefundPayment, refund: &Refund) -> Result<Box<str>, RefundError> {
        match self.store.begin_refund(refund).await? {
            RefundStanding::Unpaid => Err(RefundError::Unpaid),
            RefundStanding::Other => Err(RefundError::Other),
            RefundStanding::Done { receipt } => Ok(receipt),
            RefundStanding::Begun => match adapter.refund(refund).await {
                Ok(receipt) => {
                    self.store.end_refund(refund, Some(&receipt)).await?;
                    Ok(receipt)
                }
                Err(ProofError::Refused(refused)) => {
                    self.store.end_refund(refund, None).await?;
                    Err(refused.into())
                }
                Err(ProofError::Unmoved(fault) | ProofError::Unknown(fault)) => Err(fault.into()),
            },
        }
    }

    /// Refuses with 402 `expired` if the challenge is expired and unpaid, or if `issuedAt` is outside the skew while
    /// the challenge is unpaid.
    fn timely(&self, payment: &Payment, issued: &Issued, now: UnixSeconds) -> Result<(), ChallengeRefusal> {
        if now > issued.expires_at {
            return Err(ChallengeRefusal::new(Code::Expired, "challengeId: expired"));
        }
        let late = payment.issued_at.floor().plus(self.skew) < now;
        let early = payment.issued_at.ceil() > now.plus(self.skew);
        if late || early {
            let message = format!("issuedAt: more than {} s from the server's clock", self.skew);
            return Err(ChallengeRefusal::new(Code::Expired, message));
        }
        Ok(())
    }

    /// Confirms the hold. If the store's answer was lost but its write was not, the row still shows the confirmation,
    /// because the fence belongs to this request alone.
    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation, now: UnixSeconds) -> Result<Confirmed, Fault> {
        let answer = self.store.confirm(hold, with).await;
        if answer.is_err()
            && let Ok(Some((_, ChallengeState::Paid { fence }))) = self.store.find(&hold.id, now).await
            && fence == hold.fence
        {
            return Ok(Confirmed::Paid);
        }
        answer
    }

    /// Releases the hold, since a refused proof consumes nothing. If the store fails too, the hold expires by itself.
    async fn give_back(&self, hold: &ChallengeHold, refused: ChallengeRefusal) -> CheckError {
        match self.store.release(hold).await {
            Ok(()) => refused.into(),
            Err(fault) => fault.into(),
        }
    }

    /// Suspends a payment, which alone may resume, or releases it if no money can have moved in this attempt or an
    /// earlier one.
    async fn leave(&self, hold: &ChallengeHold, error: ProofError, again: bool) -> CheckError {
        let (left, fault) = match error {
            ProofError::Refused(refused) => return self.give_back(hold, refused).await,
            ProofError::Unmoved(fault) if !again => (self.store.release(hold).await, fault),
            ProofError::Unmoved(fault) | ProofError::Unknown(fault) => (self.store.suspend(hold).await, fault),
        };
        left.err().unwrap_or(fault).into()
    }
}

/// Creates the error after which the client retries, at the latest when the hold has expired.
fn pending(until: UnixSeconds, now: UnixSeconds) -> CheckError {
    CheckError::Pending { retry_after: until.0.saturating_sub(now.0).saturating_add(1) }
}

fn nonce_seen() -> CheckError {
    ChallengeRefusal::new(Code::Replay, "nonce: used before").into()
}

/// Refuses another scheme, network or asset with 402 `mismatch`, and a `paidAmount` below the price with 402
/// `insufficient`.
fn matches(payment: &Payment, challenge: &Challenge) -> Result<(), ChallengeRefusal> {
    let differs = |field: &str| Err(ChallengeRefusal::new(Code::Mismatch, format!("{field}: not the challenge's")));
    if payment.scheme != challenge.scheme {
        return differs("scheme");
    }
    if payment.network != challenge.network {
        return differs("network");
    }
    if payment.asset.to_bytes() != challenge.asset.to_bytes() {
        return differs("asset");
    }
    // The other types of proof move a fixed sum.
    if challenge.scheme == SchemeName::UPTO && !matches!(payment.proof.kind, ProofKind::Facilitator | ProofKind::Mock) {
        return Err(ChallengeRefusal::new(Code::Mismatch, "proof.type: cannot carry the scheme `upto`"));
    }
    if payment.paid_amount < challenge.max_amount_required {
        return Err(ChallengeRefusal::new(Code::Insufficient, "paidAmount: lower than asked"));
    }
    Ok(())
}

/// Refuses with 400 `invalid_binding` if method, host, path or body hash differ from the challenge's binding.
fn bound(challenge: &Challenge, offer: &ChallengeOffer, request: &BoundRequest<'_>) -> Result<(), ChallengeRefusal> {
    let refused = |message: String| ChallengeRefusal::new(Code::InvalidBinding, message);
    let bind = Bind { query: offer.bind.query, body: offer.bind.body || challenge.bind.body_sha256.is_some() };
    let here = binding(request, bind).map_err(|(part, why)| refused(format!("{part}: {why}")))?;
    if canonical_binding(&here) != canonical_binding(&challenge.bind) {
        return Err(refused("bind: the challenge is for another request".to_owned()));
    }
    if offer.resource != challenge.resource {
        return Err(refused("resource: the challenge is for another".to_owned()));
    }
    Ok(())
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("proofs", &self.proofs)
            .field("skew", &self.skew)
            .field("hold", &self.hold)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}
