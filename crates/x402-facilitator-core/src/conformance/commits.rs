//! The rules for versions and atomic writes.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use x402_types::UnixSeconds;

use super::samples::{claimed, commit, lane, leased, payment, read, receipt, slot, step};
use super::{Broken, Subject, ensure, same};
use crate::upkeep::join;
use crate::{CommitError, Ledger, Next, OwnerId, Payment, RequestId, Slot, StepState, Write};

pub(super) async fn version_counts(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let mut row = claimed(&ledger, 1).await?;
    for version in 2..5 {
        row.due = UnixSeconds(version * 100);
        commit(&ledger, &lease, vec![row.clone()]).await?;
        row.version = version;
        same(&read(&ledger, 1).await?, &row, "the committed row")?;
    }
    Ok(())
}

pub(super) async fn old_version(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let first = claimed(&ledger, 1).await?;
    commit(&ledger, &lease, vec![Payment { due: UnixSeconds(77), ..first.clone() }]).await?;
    let row = read(&ledger, 1).await?;
    for version in [0, 1, 3, u64::MAX / 2] {
        let old = Payment { due: UnixSeconds(99), version, ..first.clone() };
        same(
            &commit(&ledger, &lease, vec![old]).await,
            &Err(CommitError::Conflict),
            "another version than the stored",
        )?;
        same(&read(&ledger, 1).await?, &row, "changes nothing")?;
    }
    Ok(())
}

pub(super) async fn one_winner(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let row = claimed(&ledger, 1).await?;
    let write = |due: u64| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let ledger: Arc<dyn Ledger> = Arc::clone(&ledger);
        let lease = lease.clone();
        let row = Payment { due: UnixSeconds(due), ..row.clone() };
        Box::pin(async move { (due, commit(&ledger, &lease, vec![row]).await) })
    };
    let answers = join((100..116).map(write).collect()).await;
    let mut won = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(due, _)| *due);
    let winner = won.next().ok_or_else(|| Broken("nobody won".into()))?;
    ensure(won.next().is_none(), "two writes of one version were stored")?;
    for (_, answer) in answers.into_iter().filter(|(_, answer)| answer.is_err()) {
        same(&answer, &Err(CommitError::Conflict), "the others")?;
    }
    same(&read(&ledger, 1).await?, &Payment { due: UnixSeconds(winner), version: 2, ..row }, "the winner's row")
}

pub(super) async fn unknown_payment(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    for version in [0, 1] {
        let row = Payment { version, ..payment(1) };
        same(&commit(&ledger, &lease, vec![row]).await, &Err(CommitError::Conflict), "a row that was never claimed")?;
    }
    same(&ledger.read(&payment(1).key).await?, &None, "no row")
}

pub(super) async fn slot_once(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let write = |slot: Slot| Write { lease: Some(lease.clone()), slots: vec![slot], ..Write::default() };
    let new = slot(&lane("a"), 0, &[]);
    let missing = write(Slot { version: 1, ..new.clone() });
    same(&ledger.commit(missing).await, &Err(CommitError::Conflict), "a slot that is not there")?;
    ledger.commit(write(new.clone())).await?;
    same(&ledger.commit(write(new.clone())).await, &Err(CommitError::Conflict), "a slot that is there")?;
    ledger.commit(write(Slot { resends: 1, version: 1, ..new.clone() })).await?;
    let expected = Slot { resends: 1, version: 2, ..new };
    same(&ledger.slots(core::slice::from_ref(&expected.id)).await?, &vec![expected], "the slot")
}

pub(super) async fn next_nonce(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let write =
        |from: u64, to: u64| Write { lease: Some(lease.clone()), next: Some(Next { from, to }), ..Write::default() };
    same(&ledger.lane(&lane("a"), 10).await?.next, &0, "a lane that never had a nonce")?;
    same(&ledger.commit(write(1, 2)).await, &Err(CommitError::Conflict), "from what it is not")?;
    ledger.commit(write(0, 7)).await?;
    same(&ledger.commit(write(0, 8)).await, &Err(CommitError::Conflict), "from what it was")?;
    ledger.commit(write(7, 8)).await?;
    let ledger = subject.reopened(ledger).await;
    same(&ledger.lane(&lane("a"), 10).await?.next, &8, "the next nonce")?;
    same(&ledger.lane(&lane("b"), 10).await?.next, &0, "another lane's")
}

pub(super) async fn all_or_nothing(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let (one, two) = (claimed(&ledger, 1).await?, claimed(&ledger, 2).await?);
    let changed =
        |row: &Payment, once_key: u8| Payment { steps: vec![step(once_key, StepState::Ready)], ..row.clone() };
    let good = Write {
        lease: Some(lease.clone()),
        next: Some(Next { from: 0, to: 1 }),
        payments: vec![changed(&one, 1), changed(&two, 2)],
        slots: vec![slot(&lane("a"), 0, &[1, 2])],
    };
    let second = |row: Payment| vec![changed(&one, 1), row];
    let conflicts = [
        Write { payments: second(Payment { version: 9, ..changed(&two, 2) }), ..good.clone() },
        Write { payments: second(payment(3)), ..good.clone() },
        Write { next: Some(Next { from: 5, to: 6 }), ..good.clone() },
        Write {
            slots: vec![slot(&lane("a"), 0, &[]), Slot { version: 4, ..slot(&lane("a"), 1, &[]) }],
            ..good.clone()
        },
    ];
    for bad in conflicts {
        same(&ledger.commit(bad).await, &Err(CommitError::Conflict), "one bad row")?;
    }
    let keyed = Write { payments: second(changed(&two, 1)), ..good.clone() };
    let refused = ledger.commit(keyed).await;
    ensure(matches!(refused, Err(CommitError::Taken(_))), "two payments under one once key")?;
    same(&(read(&ledger, 1).await?, read(&ledger, 2).await?), &(one.clone(), two.clone()), "no payment was changed")?;
    let view = ledger.lane(&lane("a"), 10).await?;
    ensure(view.next == 0 && view.open.is_empty() && view.ready.is_empty(), "no slot, no nonce, nothing ready")?;
    ledger.commit(good).await?;
    same(&ledger.lane(&lane("a"), 10).await?.ready.len(), &2, "and then all of it")
}

pub(super) async fn row_once(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let row = claimed(&ledger, 1).await?;
    let twice = vec![row.clone(), Payment { due: UnixSeconds(5), ..row.clone() }];
    same(&commit(&ledger, &lease, twice).await, &Err(CommitError::Conflict), "one payment twice")?;
    let new = slot(&lane("a"), 0, &[]);
    let slots = Write { lease: Some(lease), slots: vec![new.clone(), new], ..Write::default() };
    same(&ledger.commit(slots).await, &Err(CommitError::Conflict), "one slot twice")?;
    same(&read(&ledger, 1).await?, &row, "nothing was changed")
}

pub(super) async fn caller_writes(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let row = claimed(&ledger, 1).await?;
    let request = RequestId { owner: OwnerId::from("two"), number: 8 };
    let joined = Payment { request, ..row.clone() };
    let write = Write { payments: vec![joined.clone()], ..Write::default() };
    let with_slot = Write { slots: vec![slot(&lane("a"), 0, &[])], ..write.clone() };
    let with_next = Write { next: Some(Next { from: 0, to: 1 }), ..write.clone() };
    for more in [with_slot, with_next] {
        same(
            &ledger.commit(more).await,
            &Err(CommitError::Fenced),
            "without a lease, slots and nonces are not touched",
        )?;
    }
    ledger.commit(write.clone()).await?;
    same(&read(&ledger, 1).await?, &Payment { version: 2, ..joined }, "without a lease, the version decides")?;
    same(&ledger.commit(write).await, &Err(CommitError::Conflict), "an old version")?;
    // Of two concurrent calls, one has stored that it receives the success.
    let lease = leased(&ledger).await?;
    let made = Payment { answer: Some(Ok(receipt(1))), untold: true, ..read(&ledger, 1).await? };
    commit(&ledger, &lease, vec![made]).await?;
    let made = read(&ledger, 1).await?;
    let told = |number: u64| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let ledger: Arc<dyn Ledger> = Arc::clone(&ledger);
        let request = RequestId { owner: OwnerId::from("two"), number };
        let row = Payment { request, untold: false, ..made.clone() };
        let write = Write { payments: vec![row.clone()], ..Write::default() };
        Box::pin(async move { (row, ledger.commit(write).await) })
    };
    let answers = join((0..16).map(told).collect()).await;
    let mut won = answers.into_iter().filter(|(_, answer)| answer.is_ok());
    let (winner, _) = won.next().ok_or_else(|| Broken("nobody was told".into()))?;
    ensure(won.next().is_none(), "two calls were told one success")?;
    let version = winner.version + 1;
    same(&read(&ledger, 1).await?, &Payment { version, ..winner }, "the call that was told")
}
