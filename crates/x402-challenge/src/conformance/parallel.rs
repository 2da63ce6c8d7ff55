//! "Atomic claim": of concurrent calls one wins.

use core::future::{Future, poll_fn};
use core::task::Poll;

use x402_types::AtomicAmount;

use super::meters::opened;
use super::samples::{NOW, attempt, by, held, id, issued};
use super::{Broken, Subject, same};
use crate::{Added, ClaimOutcome, Confirmed, ProofKey};

/// The number of concurrent calls.
const MANY: u8 = 50;

/// Runs all futures concurrently, and returns their results.
async fn together<T, F: Future<Output = T>>(futures: impl IntoIterator<Item = F>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(move |context| {
        for (future, done) in running.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if running.iter().all(|(_, done)| done.is_some()) {
            Poll::Ready(running.iter_mut().filter_map(|(_, done)| done.take()).collect())
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Counts the results that match.
fn count<T, E>(answers: Vec<Result<T, E>>, is: impl Fn(&T) -> bool) -> Result<usize, Broken>
where
    Broken: From<E>,
{
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(answers.iter().filter(|answer| is(answer)).count())
}

pub(super) async fn claims(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    for n in 0..MANY {
        store.issue(issued(n)?).await?;
    }
    let held = |claimed: &ClaimOutcome| matches!(claimed, ClaimOutcome::Held(_));
    let (one_payment, payments) = (attempt(0, 0, NOW), (1..MANY).map(|n| attempt(1, n, NOW)).collect::<Vec<_>>());
    let all = together((0..MANY).map(|_| store.claim(&one_payment, NOW))).await;
    same(&count(all, held)?, &1, "of claims by one payment")?;
    let all = together(payments.iter().map(|payment| store.claim(payment, NOW))).await;
    same(&count(all, held)?, &1, "of claims on one challenge")?;
    let challenges: Vec<_> = (2..MANY).map(|n| attempt(n, 200, NOW)).collect();
    let all = together(challenges.iter().map(|challenge| store.claim(challenge, NOW))).await;
    same(&count(all, held)?, &1, "of claims with one nonce")?;
    let later = NOW.plus(31);
    let again = attempt(0, 0, later);
    let all = together((0..MANY).map(|_| store.claim(&again, later))).await;
    same(&count(all, |claimed| matches!(claimed, ClaimOutcome::Resumed(_)))?, &1, "of those that take one payment up")
}

pub(super) async fn confirmations(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    let key = ProofKey("onchain:0x01".into());
    let mut holds = Vec::new();
    for n in 0..MANY {
        store.issue(issued(n)?).await?;
        holds.push(held(&store, n, n, NOW).await?);
    }
    let all = together(holds.iter().map(|hold| store.confirm(hold, by(&key)))).await;
    same(&count(all, |confirmed| *confirmed == Confirmed::Paid)?, &1, "of payments with one proof")
}

pub(super) async fn meters(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    opened(&store, 1).await?;
    // 33 times 30 fit into 1,000.
    let meter = id(1);
    let all = together((0..MANY).map(|_| store.add_use(&meter, AtomicAmount::from(30), NOW))).await;
    same(&count(all, |added| matches!(added, Added::Used(_)))?, &33, "of uses")?;
    let used = store.close_meter(&meter, NOW).await?.map(|meter| meter.used);
    same(&used, &Some(AtomicAmount::from(990)), "what they come to")
}
