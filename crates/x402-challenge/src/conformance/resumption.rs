//! The rules for payments that were begun and whose result is unknown: after a crash, a disconnected caller, a lost
//! answer.

use std::sync::Arc;

use super::samples::{NOW, attempt, held, id, issued, nonce, resumed};
use super::{Broken, Subject, ensure, same};
use crate::{ChallengeState, ClaimOutcome, Confirmation, Confirmed, PaymentAttempt, PaymentDigest, Store};

const FIRST: PaymentDigest = PaymentDigest([1; 32]);

async fn standing(store: &Arc<dyn Store>, seconds: u64) -> Result<Option<ChallengeState>, Broken> {
    Ok(store.find(&id(1), NOW.plus(seconds)).await?.map(|(_, standing)| standing))
}

/// Checks that another payment, and another one that claims the nonce, are blocked at this second.
async fn others_are_kept_out(store: &Arc<dyn Store>, seconds: u64) -> Result<(), Broken> {
    let now = NOW.plus(seconds);
    let same_nonce = PaymentAttempt { digest: PaymentDigest([2; 32]), ..attempt(1, 1, now) };
    for other in [attempt(1, 2, now), same_nonce, attempt(2, 1, now)] {
        same(&store.claim(&other, now).await?, &ClaimOutcome::Taken, "a claim by another payment")?;
    }
    ensure(store.seen(&nonce(1), now).await?, "the nonce is seen")
}

pub(super) async fn runs_out(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    let store = subject.reopened(store).await;
    same(&standing(&store, 31).await?, &Some(ChallengeState::Begun { by: FIRST }), "the standing after the hold")?;
    others_are_kept_out(&store, 31).await?;
    let confirmed = store.confirm(&hold, Confirmation::default()).await?;
    same(&confirmed, &Confirmed::Paid, "a late confirmation that nobody overtook")
}

pub(super) async fn taken_up(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let first = held(&store, 1, 1, NOW).await?;
    let store = subject.reopened(store).await;
    // This is long after the challenge expired, when its row would have been forgotten.
    store.forget(NOW.plus(999)).await?;
    let second = resumed(&store, 1, 1, NOW.plus(999)).await?;
    ensure(first.fence < second.fence, "the fence is counted up")?;
    let running = store.claim(&attempt(1, 1, NOW), NOW.plus(1029)).await?;
    same(&running, &ClaimOutcome::Running { until: NOW.plus(1029) }, "one attempt at a time")?;
    store.release(&first).await?;
    store.suspend(&first).await?;
    let with = Confirmation::default;
    same(&store.confirm(&first, with()).await?, &Confirmed::Lost, "the hold that was replaced")?;
    let store = subject.reopened(store).await;
    same(&store.confirm(&second, with()).await?, &Confirmed::Paid, "the hold that replaced it")?;
    same(&store.forget(NOW.plus(1029)).await?, &0, "it is known as paid to the end of its hold")?;
    same(&standing(&store, 1029).await?, &Some(ChallengeState::Paid { fence: second.fence }), "the standing")?;
    same(&store.claim(&attempt(1, 1, NOW), NOW.plus(1029)).await?, &ClaimOutcome::Taken, "a third attempt")
}

pub(super) async fn suspended(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let first = held(&store, 1, 1, NOW).await?;
    store.suspend(&first).await?;
    let store = subject.reopened(store).await;
    same(&standing(&store, 0).await?, &Some(ChallengeState::Begun { by: FIRST }), "the standing at once")?;
    others_are_kept_out(&store, 0).await?;
    let second = resumed(&store, 1, 1, NOW).await?;
    // The payment was refused and nothing moved: now another payment may be made, and this one again.
    store.release(&second).await?;
    ensure(!store.seen(&nonce(1), NOW).await?, "the nonce is free")?;
    let third = held(&store, 1, 2, NOW).await?;
    same(&store.confirm(&second, Confirmation::default()).await?, &Confirmed::Lost, "what was given back")?;
    same(&store.confirm(&third, Confirmation::default()).await?, &Confirmed::Paid, "the other payment")
}

pub(super) async fn ends(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    held(&store, 1, 1, NOW).await?;
    // A later attempt does not extend the end.
    let again = resumed(&store, 1, 1, NOW.plus(500)).await?;
    same(&store.forget(NOW.plus(1000)).await?, &0, "it is kept to its last second")?;
    same(&standing(&store, 1000).await?, &Some(ChallengeState::Begun { by: FIRST }), "the standing in it")?;
    same(&standing(&store, 1001).await?, &Some(ChallengeState::Open), "the standing after it")?;
    ensure(!store.seen(&nonce(1), NOW.plus(1001)).await?, "the nonce is free")?;
    same(&store.forget(NOW.plus(1001)).await?, &1, "it is over")?;
    same(&standing(&store, 1001).await?, &None, "and gone")?;
    same(&store.confirm(&again, Confirmation::default()).await?, &Confirmed::Lost, "its hold")
}

pub(super) async fn nonce_taken_over(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let first = held(&store, 1, 1, NOW).await?;
    let second = held(&store, 2, 1, NOW.plus(1001)).await?;
    let lost = store.confirm(&first, Confirmation::default()).await?;
    same(&lost, &Confirmed::Lost, "the hold whose nonce is another's now")?;
    same(&store.confirm(&second, Confirmation::default()).await?, &Confirmed::Paid, "the other")
}
