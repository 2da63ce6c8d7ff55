//! The rules for once keys: each has one live step.

use std::sync::Arc;

use super::samples::{claimed, commit, dead, leased, proven, read, step};
use super::{Broken, Subject, same};
use crate::{CommitError, Lease, Ledger, OnceKey, Payment, Step, StepState};

async fn with_step(
    ledger: &Arc<dyn Ledger>,
    lease: &Lease,
    number: u8,
    step: Step,
) -> Result<Result<(), CommitError>, Broken> {
    let row = read(ledger, number).await?;
    Ok(commit(ledger, lease, vec![Payment { steps: vec![step], ..row }]).await)
}

async fn three(subject: &dyn Subject) -> Result<(Arc<dyn Ledger>, Lease), Broken> {
    let ledger = subject.empty().await;
    for number in 1..=3 {
        claimed(&ledger, number).await?;
    }
    let lease = leased(&ledger).await?;
    Ok((ledger, lease))
}

fn taken(once_key: u8) -> Result<(), CommitError> {
    Err(CommitError::Taken(OnceKey(vec![once_key])))
}

pub(super) async fn one_live_step(subject: &dyn Subject) -> Result<(), Broken> {
    let (ledger, lease) = three(subject).await?;
    with_step(&ledger, &lease, 1, step(7, StepState::Ready)).await??;
    for state in [StepState::Ready, StepState::InFlight, StepState::Unaccounted, proven(2)] {
        same(&with_step(&ledger, &lease, 2, step(7, state)).await?, &taken(7), "the once key of another's live step")?;
    }
    with_step(&ledger, &lease, 2, step(8, StepState::Ready)).await??;
    for state in [StepState::InFlight, StepState::Unaccounted, StepState::Ready] {
        with_step(&ledger, &lease, 1, step(7, state)).await??;
    }
    let ledger = subject.reopened(ledger).await;
    same(&with_step(&ledger, &lease, 3, step(7, StepState::Ready)).await?, &taken(7), "after a restart too")
}

pub(super) async fn dead_gives_back(subject: &dyn Subject) -> Result<(), Broken> {
    let (ledger, lease) = three(subject).await?;
    with_step(&ledger, &lease, 1, step(7, StepState::Ready)).await??;
    with_step(&ledger, &lease, 1, step(7, dead())).await??;
    with_step(&ledger, &lease, 2, step(7, StepState::Ready)).await??;
    // A dead step of one payment takes nothing from another that lives under its once key.
    with_step(&ledger, &lease, 1, step(7, dead())).await??;
    same(
        &with_step(&ledger, &lease, 3, step(7, StepState::Ready)).await?,
        &taken(7),
        "the once key has its new holder",
    )?;
    // The once key has a dead and a live step in one payment: it is held.
    with_step(&ledger, &lease, 2, step(7, dead())).await??;
    let row = read(&ledger, 3).await?;
    commit(&ledger, &lease, vec![Payment { steps: vec![step(7, dead()), step(7, StepState::Ready)], ..row }]).await?;
    same(&with_step(&ledger, &lease, 1, step(7, StepState::Ready)).await?, &taken(7), "its second step lives")
}

pub(super) async fn proven_keeps(subject: &dyn Subject) -> Result<(), Broken> {
    let (ledger, lease) = three(subject).await?;
    with_step(&ledger, &lease, 1, step(7, proven(1))).await??;
    let row = read(&ledger, 1).await?;
    commit(&ledger, &lease, vec![Payment { answer: Some(Ok(super::samples::receipt(1))), ..row }]).await?;
    same(&with_step(&ledger, &lease, 2, step(7, StepState::Ready)).await?, &taken(7), "a proven step's once key")
}

pub(super) async fn passes_over(subject: &dyn Subject) -> Result<(), Broken> {
    let (ledger, lease) = three(subject).await?;
    with_step(&ledger, &lease, 1, step(7, StepState::Ready)).await??;
    let gives = Payment { steps: vec![step(7, dead())], ..read(&ledger, 1).await? };
    let takes = Payment { steps: vec![step(7, StepState::Ready)], ..read(&ledger, 2).await? };
    // The order does not matter: the write is atomic.
    commit(&ledger, &lease, vec![takes, gives]).await?;
    same(&with_step(&ledger, &lease, 3, step(7, StepState::Ready)).await?, &taken(7), "it is the other's now")
}

/// Checks that a step's exclusive resource is held while the step is open, and free afterwards.
pub(super) async fn exclusive_while_open(subject: &dyn Subject) -> Result<(), Broken> {
    let (mut ledger, lease) = three(subject).await?;
    let exclusive = |once_key, state| Step { exclusive: Some(OnceKey(vec![9])), ..step(once_key, state) };
    for end in [proven(1), dead()] {
        for state in [StepState::Ready, StepState::InFlight, StepState::Unaccounted] {
            with_step(&ledger, &lease, 1, exclusive(1, state)).await??;
            same(&with_step(&ledger, &lease, 2, exclusive(2, StepState::Ready)).await?, &taken(9), "it is another's")?;
            same(&with_step(&ledger, &lease, 2, step(9, StepState::Ready)).await?, &taken(9), "as a once key, too")?;
        }
        with_step(&ledger, &lease, 2, step(2, StepState::Ready)).await??;
        ledger = subject.reopened(ledger).await;
        same(&with_step(&ledger, &lease, 3, exclusive(3, StepState::Ready)).await?, &taken(9), "after a restart")?;
        with_step(&ledger, &lease, 1, exclusive(1, end)).await??;
        with_step(&ledger, &lease, 3, exclusive(3, StepState::Ready)).await??;
        with_step(&ledger, &lease, 3, exclusive(3, dead())).await??;
    }
    Ok(())
}
