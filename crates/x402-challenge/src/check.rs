//! "Server verifies payment and grants access": the one check, in its order.

use core::fmt;
use std::sync::Arc;

use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, Code, Payment, PaymentResponse, ProofKind};
use x402_types::{Fault, Members, SchemeName, UnixSeconds};

use crate::canonical::{Bind, Request, binding, canonical_binding};
use crate::entitlement::Grant;
use crate::issue::{Offer, issue};
use crate::proof::Proofs;
use crate::refused::{CheckError, Refused};
use crate::store::{Claimed, Confirmed, Hold, Issued, Standing, Store};

/// Issues challenges and checks payments against them.
#[derive(Clone)]
pub struct Gate {
    store: Arc<dyn Store>,
    proofs: Proofs,
    skew: u64,
    hold: u64,
}

/// A payment that passed. The challenge is paid, and never grants again.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// What was asked.
    pub challenge: Challenge,
    /// What was paid.
    pub payment: Payment,
    /// What `X-PAYMENT-RESPONSE` says.
    pub response: PaymentResponse,
}

impl Gate {
    /// "Clock skew tolerance": 60 s both ways, inclusive.
    pub const SKEW: u64 = 60;
    /// How long a payment under verification keeps others out, if its server dies: 120 s.
    pub const HOLD: u64 = 120;

    /// A gate with the default skew and hold.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, proofs: Proofs) -> Self {
        Self { store, proofs, skew: Self::SKEW, hold: Self::HOLD }
    }

    /// With another skew, in seconds.
    #[must_use]
    pub const fn with_skew(mut self, seconds: u64) -> Self {
        self.skew = seconds;
        self
    }

    /// With another hold, in seconds: longer than any proof takes to verify.
    #[must_use]
    pub const fn with_hold(mut self, seconds: u64) -> Self {
        self.hold = seconds;
        self
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Issues a challenge and remembers it.
    ///
    /// # Errors
    /// `invalid_binding`, if the request cannot be bound; the store's fault.
    pub async fn issue(
        &self,
        offer: &Offer,
        request: &Request<'_>,
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

    /// Checks one `X-PAYMENT` value for a request, and grants.
    ///
    /// # Errors
    /// The first row of the table that refuses it; a fault, which consumed nothing.
    pub async fn check(
        &self,
        header: &[u8],
        offer: &Offer,
        request: &Request<'_>,
        grant: Option<&Grant>,
        now: UnixSeconds,
    ) -> Result<Granted, CheckError> {
        // Size, base64, JSON, fields, CR or LF, unknown proof type, `paidAmount` not canonical: 400 `invalid_schema`.
        let payment = codec::payment(header).map_err(|error| Refused::new(Code::InvalidSchema, error.to_string()))?;
        self.check_payment(payment, offer, request, grant, now).await
    }

    /// The same for a payment that was decoded before.
    ///
    /// # Errors
    /// Those of [`Gate::check`] but `invalid_schema`.
    pub async fn check_payment(
        &self,
        payment: Payment,
        offer: &Offer,
        request: &Request<'_>,
        grant: Option<&Grant>,
        now: UnixSeconds,
    ) -> Result<Granted, CheckError> {
        // Version other than `x402.v1`: 402 `mismatch`.
        if !payment.version.is_x402_v1() {
            return Err(Refused::new(Code::Mismatch, "version: expected `x402.v1`").into());
        }
        let found = self.store.find(&payment.challenge_id, now).await?;
        let Some((issued, standing)) = found else {
            return Err(Refused::new(Code::Expired, "challengeId: not a challenge that can be paid").into());
        };
        if standing != Standing::Paid {
            self.timely(&payment, &issued, now)?;
        }
        matches(&payment, &issued.challenge)?;
        bound(&issued.challenge, offer, request)?;
        // Challenge already paid, or nonce seen: 409 `replay`.
        if standing != Standing::Open {
            return Err(Refused::new(Code::Replay, "challengeId: paid before, or being paid").into());
        }
        if self.store.seen(&payment.nonce, now).await? {
            return Err(nonce_seen());
        }
        let Some(adapter) = self.proofs.adapter(payment.proof.kind) else {
            let message = format!("proof.type: `{}` is not taken here", payment.proof.kind);
            return Err(Refused::new(Code::VerificationFailed, message).into());
        };
        let until = now.plus(self.hold);
        let hold = match self.store.claim(&payment.challenge_id, &payment.nonce, now, until).await? {
            Claimed::Held(hold) => hold,
            Claimed::Taken => return Err(nonce_seen()),
            Claimed::Unknown => return Err(Refused::new(Code::Expired, "challengeId: expired").into()),
        };
        let challenge = issued.challenge;
        let proven = match adapter.verify(&challenge, &payment, now).await {
            Ok(proven) => proven,
            Err(error) => return Err(self.give_back(&hold, error).await),
        };
        if proven.amount != payment.paid_amount {
            let refused = Refused::new(Code::VerificationFailed, "paidAmount: not what the proof proves");
            return Err(self.give_back(&hold, refused.into()).await);
        }
        let entitlement = grant.map(|grant| grant.entitlement(challenge.resource.clone(), now));
        match self.store.confirm(&hold, proven.key.as_ref(), entitlement).await? {
            Confirmed::Paid => Ok(Granted {
                response: PaymentResponse {
                    ok: true,
                    challenge_id: challenge.challenge_id.clone(),
                    resource: challenge.resource.clone(),
                    entitlement: grant.map(Grant::notice),
                    rest: Members::new(),
                },
                challenge,
                payment,
            }),
            Confirmed::ProofUsed => {
                let refused = Refused::new(Code::VerificationFailed, "proof: used before");
                Err(self.give_back(&hold, refused.into()).await)
            }
            Confirmed::Lost => Err(Refused::new(Code::Replay, "challengeId: being paid").into()),
        }
    }

    /// Expired and not paid; `issuedAt` outside the skew while the challenge is not paid: 402 `expired`.
    fn timely(&self, payment: &Payment, issued: &Issued, now: UnixSeconds) -> Result<(), Refused> {
        if now > issued.expires_at {
            return Err(Refused::new(Code::Expired, "challengeId: expired"));
        }
        let late = payment.issued_at.floor().plus(self.skew) < now;
        let early = payment.issued_at.ceil() > now.plus(self.skew);
        if late || early {
            let message = format!("issuedAt: more than {} s from the server's clock", self.skew);
            return Err(Refused::new(Code::Expired, message));
        }
        Ok(())
    }

    /// A refused proof, like a fault, consumes nothing. If the store fails too, the hold runs out by itself.
    async fn give_back(&self, hold: &Hold, error: CheckError) -> CheckError {
        match self.store.release(hold).await {
            Ok(()) => error,
            Err(fault) => fault.into(),
        }
    }
}

fn nonce_seen() -> CheckError {
    Refused::new(Code::Replay, "nonce: used before").into()
}

/// Scheme, network, asset differ: 402 `mismatch`. `paidAmount` lower than asked: 402 `insufficient`.
fn matches(payment: &Payment, challenge: &Challenge) -> Result<(), Refused> {
    let differs = |field: &str| Err(Refused::new(Code::Mismatch, format!("{field}: not the challenge's")));
    if payment.scheme != challenge.scheme {
        return differs("scheme");
    }
    if payment.network != challenge.network {
        return differs("network");
    }
    if payment.asset.unchecked() != challenge.asset.unchecked() {
        return differs("asset");
    }
    // They move a fixed sum.
    if challenge.scheme == SchemeName::UPTO && !matches!(payment.proof.kind, ProofKind::Facilitator | ProofKind::Mock) {
        return Err(Refused::new(Code::Mismatch, "proof.type: cannot carry the scheme `upto`"));
    }
    if payment.paid_amount < challenge.max_amount_required {
        return Err(Refused::new(Code::Insufficient, "paidAmount: lower than asked"));
    }
    Ok(())
}

/// Method, host, path or body hash differ from the challenge's binding: 400 `invalid_binding`.
fn bound(challenge: &Challenge, offer: &Offer, request: &Request<'_>) -> Result<(), Refused> {
    let refused = |message: String| Refused::new(Code::InvalidBinding, message);
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
            .finish_non_exhaustive()
    }
}
