//! The rules for challenges, nonces and proofs.

use super::samples::{NOW, attempt, by, held, id, issued, nonce};
use super::{Broken, Subject, ensure, same};
use crate::{ChallengeState, ClaimOutcome, Confirmation, Confirmed, PaymentAttempt, PaymentDigest, ProofKey};

pub(super) async fn issued_once(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    same(&store.find(&id(1), NOW).await?, &None, "an empty store")?;
    ensure(store.issue(issued(1)?).await?, "a new id is taken up")?;
    let mut other = issued(1)?;
    other.issued_at = NOW.plus(7);
    ensure(!store.issue(other).await?, "the same id is refused")?;
    let store = subject.reopened(store).await;
    same(&store.find(&id(1), NOW).await?, &Some((issued(1)?, ChallengeState::Open)), "the row after a restart")
}

pub(super) async fn one_claim(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    held(&store, 1, 1, NOW).await?;
    let until = NOW.plus(30);
    let again = store.claim(&attempt(1, 1, NOW), NOW).await?;
    same(&again, &ClaimOutcome::Running { until }, "a second claim by the same payment")?;
    same(&store.claim(&attempt(1, 2, NOW), NOW).await?, &ClaimOutcome::Taken, "a claim by another")?;
    let other = PaymentAttempt { digest: PaymentDigest([2; 32]), ..attempt(1, 1, NOW) };
    same(&store.claim(&other, NOW).await?, &ClaimOutcome::Taken, "a claim by another with the same nonce")?;
    let store = subject.reopened(store).await;
    let found = store.find(&id(1), until).await?.map(|(_, standing)| standing);
    let held = ChallengeState::Held { by: PaymentDigest([1; 32]), until };
    same(&found, &Some(held), "the standing to the last second of the hold, after a restart")?;
    ensure(store.seen(&nonce(1), NOW).await?, "the nonce is seen while it is held")
}

pub(super) async fn unknown(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    let claimed = store.claim(&attempt(1, 1, NOW), NOW).await?;
    same(&claimed, &ClaimOutcome::Unknown, "a claim of nothing")?;
    ensure(!store.seen(&nonce(1), NOW).await?, "its nonce is free")
}

pub(super) async fn paid_once(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    same(&store.confirm(&hold, Confirmation::default()).await?, &Confirmed::Paid, "the confirmation")?;
    same(&store.confirm(&hold, Confirmation::default()).await?, &Confirmed::Lost, "a second confirmation")?;
    store.release(&hold).await?;
    let store = subject.reopened(store).await;
    for n in [1, 2] {
        let later = NOW.plus(100_000);
        let again = store.claim(&attempt(1, n, later), later).await?;
        same(&again, &ClaimOutcome::Taken, "a claim of what is paid")?;
    }
    let found = store.find(&id(1), NOW.plus(1000)).await?.map(|(_, standing)| standing);
    same(&found, &Some(ChallengeState::Paid { fence: hold.fence }), "the standing")?;
    ensure(store.seen(&nonce(1), NOW.plus(1000)).await?, "the nonce is seen")
}

pub(super) async fn nonce_once(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    let other = store.claim(&attempt(2, 1, NOW), NOW).await?;
    same(&other, &ClaimOutcome::Taken, "the nonce of a hold")?;
    store.confirm(&hold, Confirmation::default()).await?;
    let other = store.claim(&attempt(2, 1, NOW), NOW.plus(100)).await?;
    same(&other, &ClaimOutcome::Taken, "the nonce of a payment")?;
    held(&store, 2, 2, NOW).await.map(drop)
}

pub(super) async fn given_back(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    store.release(&hold).await?;
    ensure(!store.seen(&nonce(1), NOW).await?, "the nonce is free")?;
    same(
        &store.confirm(&hold, Confirmation::default()).await?,
        &Confirmed::Lost,
        "what was given back cannot be confirmed",
    )?;
    held(&store, 2, 1, NOW).await?;
    held(&store, 1, 2, NOW).await.map(drop)
}

pub(super) async fn proof_once(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let key = ProofKey("onchain:0x01".into());
    let first = held(&store, 1, 1, NOW).await?;
    same(&store.confirm(&first, by(&key)).await?, &Confirmed::Paid, "the first use")?;
    store.forget(NOW.plus(1_000_000)).await?;
    let store = subject.reopened(store).await;
    store.issue(issued(3)?).await?;
    let second = held(&store, 3, 3, NOW).await?;
    same(&store.confirm(&second, by(&key)).await?, &Confirmed::ProofUsed, "the second use, long after")?;
    let found = store.find(&id(3), NOW).await?.map(|(_, standing)| standing);
    let held = ChallengeState::Held { by: PaymentDigest([3; 32]), until: NOW.plus(30) };
    same(&found, &Some(held), "the hold is as it was")?;
    let other = ProofKey("onchain:0x02".into());
    same(&store.confirm(&second, by(&other)).await?, &Confirmed::Paid, "another proof")
}

pub(super) async fn forget(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    store.issue(issued(2)?).await?;
    let hold = held(&store, 2, 2, NOW).await?;
    store.confirm(&hold, Confirmation::default()).await?;
    same(&store.forget(NOW.plus(60)).await?, &0, "nothing is over in the last second")?;
    same(&store.forget(NOW.plus(61)).await?, &1, "the open challenge is over")?;
    same(&store.find(&id(1), NOW).await?, &None, "and gone")?;
    same(&store.forget(NOW.plus(180)).await?, &0, "the paid one is kept for twice the skew more")?;
    ensure(store.seen(&nonce(2), NOW.plus(180)).await?, "with its nonce")?;
    same(&store.forget(NOW.plus(181)).await?, &1, "then it is over")?;
    same(&store.find(&id(2), NOW).await?, &None, "and gone")
}
