//! The names of requests for credits of a plan: `agentRequestId` of `/verify`, and `Idempotency-Key`. A settlement may take
//! fewer credits than were verified, and nothing else may differ.

use x402_facilitator_core::Verified;
use x402_store::requests::Remembered;
use x402_types::{Claim, Identity, Rejection, UnixSeconds};

use crate::clock::now;
use crate::dialect::{Context, Endpoint, Request, Stopped, Submission};

/// The number of seconds that a request is remembered that was settled without prior verification.
const REMEMBERED: u64 = 30 * 86_400;

/// The most seconds that a verified request is remembered: a session key may be valid for years, and every verification
/// without a name has a row of its own.
const VERIFIED: u64 = 86_400;

/// A payment as it was presented, and how its dialect refuses.
pub(super) struct Presented<'a> {
    /// The digest of what must be the same when a request is repeated.
    pub(super) digest: fn(&Claim) -> [u8; 32],
    /// Whether the body names the request of a verification.
    pub(super) from_verify: bool,
    /// The dialect's refusal of a body.
    pub(super) refuse: &'a (dyn Fn(&'static str) -> Rejection + Sync),
}

/// Compares the payment and the credits with those verified under the name.
pub(super) async fn admit(
    context: &Context,
    request: &Request,
    submission: &Submission,
    presented: Presented<'_>,
) -> Result<(), Stopped> {
    let Presented { digest, from_verify, refuse } = presented;
    let Submission { claim, names, .. } = submission;
    let (Identity { caller, request: id, .. }, credits) = (&claim.identity, claim.terms.amount);
    let taken = || Err(Stopped::Taken(String::new()));
    if request.endpoint == Endpoint::Verify {
        let known = context.requests().read(caller, id).await?;
        let differs = |known: &Remembered| known.digest != digest(claim) || known.max_amount != credits;
        return if known.as_ref().is_some_and(differs) { taken() } else { Ok(()) };
    }
    if !from_verify && names.is_empty() {
        return Ok(());
    }
    // The caller's own name, beside an id that this facilitator made, is also bound to one payment.
    for name in names.iter().filter(|_| from_verify) {
        if !context.names().take(caller, &name.text, name.of).await? {
            return taken();
        }
    }
    let digest = digest(claim);
    let known = match context.requests().read(caller, id).await? {
        Some(known) => known,
        None if from_verify => return Err(Stopped::Refused(refuse("agentRequestId: unknown or expired"))),
        None => {
            let expires = UnixSeconds(now().0.saturating_add(REMEMBERED));
            let (id, caller) = (id.clone(), caller.clone());
            context.requests().put(Remembered { id, caller, digest, max_amount: credits, expires }, now()).await?
        }
    };
    if known.digest != digest {
        return taken();
    }
    // "A need above the verified amount is refused."
    if credits > known.max_amount {
        return Err(Stopped::Refused(refuse("maxAmount: more than was verified")));
    }
    Ok(())
}

/// Remembers a verified payment under its request's name.
pub(super) async fn remember(
    context: &Context,
    submission: &Submission,
    verified: &Verified,
    digest: fn(&Claim) -> [u8; 32],
) -> Result<(), Stopped> {
    let claim = &submission.claim;
    let digest = digest(claim);
    let (Identity { caller, request: id, .. }, credits) = (claim.identity.clone(), claim.terms.amount);
    let now = now();
    let expires = verified.verdict().keep_until.min(now.plus(VERIFIED));
    let stored = Remembered { id, caller, digest, max_amount: credits, expires };
    let first = context.requests().put(stored, now).await?;
    if (first.digest, first.max_amount) != (digest, credits) {
        return Err(Stopped::Taken(String::new()));
    }
    Ok(())
}
