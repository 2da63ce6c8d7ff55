//! The rules for leases: each lane has one worker.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use x402_types::UnixSeconds;

use super::samples::{claimed, commit, lane, lease, leased, owner, read, slot};
use super::{Broken, Subject, ensure, same};
use crate::upkeep::join;
use crate::{CommitError, Lease, Ledger, Next, Payment, Share, Write};

pub(super) async fn one_owner(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let first = lease(&ledger, "a", "one", 100).await?;
    ensure(first.as_ref().is_some_and(|lease| lease.lane == lane("a")), "a free lane is leased")?;
    same(&lease(&ledger, "a", "two", 100).await?, &None, "a held lane is not")?;
    same(&lease(&ledger, "a", "one", 100).await?, &first, "renewed under the same fence")?;
    let ledger = subject.reopened(ledger).await;
    same(&lease(&ledger, "a", "two", 100).await?, &None, "a restart frees nothing")?;
    same(&lease(&ledger, "a", "one", 100).await?, &first, "and takes nothing away")
}

pub(super) async fn one_winner(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let take = |number: u64| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let ledger: Arc<dyn Ledger> = Arc::clone(&ledger);
        Box::pin(async move { ledger.lease(&lane("a"), &owner(&number.to_string()), 100).await })
    };
    let mut winners = 0;
    for answer in join((0..16).map(take).collect()).await {
        winners += usize::from(answer?.is_some());
    }
    same(&winners, &1, "owners of one lane")
}

pub(super) async fn expiry(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let first = lease(&ledger, "a", "one", 100).await?;
    subject.pass(60).await;
    same(&lease(&ledger, "a", "one", 100).await?, &first, "renewed")?;
    subject.pass(60).await;
    same(&lease(&ledger, "a", "two", 100).await?, &None, "held from its renewal on")?;
    subject.pass(41).await;
    same(&lease(&ledger, "a", "one", 100).await?, &first, "taken by nobody meanwhile: the same fence")?;
    subject.pass(101).await;
    let second = lease(&ledger, "a", "two", 100).await?;
    let counted_up = first.zip(second.clone()).is_some_and(|(first, second)| second.fence > first.fence);
    ensure(counted_up, "another owner has a higher fence")?;
    same(&lease(&ledger, "a", "one", 100).await?, &None, "the first owner is out")?;
    subject.pass(101).await;
    let third = lease(&ledger, "a", "one", 100).await?;
    let counted_up = second.zip(third).is_some_and(|(second, third)| third.fence > second.fence);
    ensure(counted_up, "who comes back has a higher fence than the other")
}

pub(super) async fn given_back(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    lease(&ledger, "a", "one", 100).await?;
    ensure(lease(&ledger, "a", "one", 0).await?.is_some(), "its owner may end it")?;
    ensure(lease(&ledger, "a", "two", 100).await?.is_some(), "then another has it at once")
}

pub(super) async fn shares(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let (one, two) = (owner("one"), owner("two"));
    same(&ledger.share(&two, 100).await?, &Share::ALL, "an owner that is alone")?;
    let second = ledger.share(&one, 100).await?;
    // One process at most uses such a ledger.
    if second == Share::ALL {
        return Ok(());
    }
    same(&second, &Share { place: 1, of: 2 }, "who comes later")?;
    same(&ledger.share(&two, 100).await?, &Share { place: 0, of: 2 }, "who was there before")?;
    same(&[second.of_lanes(5), second.of_lanes(4), second.of_lanes(1)], &[2, 2, 0], "lanes of the second")?;
    subject.pass(60).await;
    same(&ledger.share(&one, 100).await?, &second, "announced again")?;
    subject.pass(60).await;
    same(&ledger.share(&one, 100).await?, &Share::ALL, "the other is gone by the ledger's clock")?;
    same(&ledger.share(&two, 100).await?, &second, "who comes back comes last")?;
    ledger.share(&one, 0).await?;
    same(&ledger.share(&two, 100).await?, &Share::ALL, "the other has left")
}

pub(super) async fn fence(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let row = claimed(&ledger, 1).await?;
    let nobody = Lease { lane: lane("a"), fence: 1 };
    same(&commit(&ledger, &nobody, vec![row.clone()]).await, &Err(CommitError::Fenced), "a lane that nobody has")?;
    let old = lease(&ledger, "a", "one", 10).await?.ok_or_else(|| Broken("not leased".into()))?;
    subject.pass(11).await;
    let late = Payment { due: UnixSeconds(33), ..row };
    commit(&ledger, &old, vec![late.clone()]).await?;
    let new = lease(&ledger, "a", "two", 10).await?.ok_or_else(|| Broken("not leased".into()))?;
    let late = Payment { version: 2, ..late };
    let writes = [
        Write { payments: vec![late.clone()], ..Write::default() },
        Write { slots: vec![slot(&lane("a"), 0, &[])], ..Write::default() },
        Write { next: Some(Next { from: 0, to: 1 }), ..Write::default() },
        Write::default(),
    ];
    for write in writes {
        let stale = Write { lease: Some(old.clone()), ..write.clone() };
        same(&ledger.commit(stale).await, &Err(CommitError::Fenced), "an old fence")?;
        let ahead = Write { lease: Some(Lease { fence: new.fence + 1, ..new.clone() }), ..write };
        same(&ledger.commit(ahead).await, &Err(CommitError::Fenced), "a fence that was never given")?;
    }
    same(&read(&ledger, 1).await?, &late, "nothing was changed")?;
    commit(&ledger, &new, vec![late]).await?;
    Ok(())
}

pub(super) async fn one_lane(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let of_a = leased(&ledger).await?;
    let of_b = lease(&ledger, "b", "one", 100).await?.ok_or_else(|| Broken("lane b was not leased".into()))?;
    let row = claimed(&ledger, 1).await?;
    same(&commit(&ledger, &of_b, vec![row.clone()]).await, &Err(CommitError::Fenced), "a payment of another lane")?;
    let slots = Write { lease: Some(of_a.clone()), slots: vec![slot(&lane("b"), 0, &[])], ..Write::default() };
    same(&ledger.commit(slots).await, &Err(CommitError::Fenced), "a slot of another lane")?;
    commit(&ledger, &of_a, vec![row]).await?;
    Ok(())
}
