//! Joins requests that are made at about the same time, so that a node answers them as one.

use core::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::task::yield_now;

/// The answers to all items of a group, in their order.
type Answering<O> = BoxFuture<'static, Arc<Vec<O>>>;

/// The group that is still gathered, if there is one. All members poll the same future, so that no task has to lead: the
/// group goes on as long as one of them still waits.
pub(super) struct Gather<I, O> {
    open: Mutex<Option<Group<I, O>>>,
}

struct Group<I, O> {
    items: Items<I>,
    answers: WeakShared<Answering<O>>,
}

/// The items of a group; `None` once they were taken.
pub(super) struct Items<I>(Arc<Mutex<Option<Vec<I>>>>);

impl<I> Clone for Items<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I> Items<I> {
    fn new(first: I) -> Self {
        Self(Arc::new(Mutex::new(Some(vec![first]))))
    }

    /// Adds an item and returns its place; returns the item if the group was taken already, or is full.
    fn add(&self, item: I, most: usize) -> Result<usize, I> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(items) if items.len() < most => {
                items.push(item);
                Ok(items.len().saturating_sub(1))
            }
            _ => Err(item),
        }
    }

    /// Takes the items: the group is closed.
    pub(super) fn take(&self) -> Vec<I> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

impl<I, O> Default for Gather<I, O> {
    fn default() -> Self {
        Self { open: Mutex::new(None) }
    }
}

impl<I, O> core::fmt::Debug for Gather<I, O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Gather")
    }
}

impl<I: Send + 'static, O: Clone + Send + Sync + 'static> Gather<I, O> {
    /// Adds an item to the open group of at most `most`, or begins one, which `run` answers: it waits as long as it wants
    /// to, takes the items, and returns the answers in their order. `None` if it returned too few.
    pub(super) async fn ask<F>(&self, item: I, most: usize, run: impl FnOnce(Items<I>) -> F) -> Option<O>
    where
        F: Future<Output = Vec<O>> + Send + 'static,
    {
        let (answers, place) = self.join(item, most, run);
        // All requests of this turn of the runtime join before the first of them goes on.
        yield_now().await;
        answers.await.get(place).cloned()
    }

    fn join<F>(&self, mut item: I, most: usize, run: impl FnOnce(Items<I>) -> F) -> (Shared<Answering<O>>, usize)
    where
        F: Future<Output = Vec<O>> + Send + 'static,
    {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // An open group that no caller waits for any more is not driven by anything.
        if let Some((group, answers)) = open.as_ref().and_then(|group| Some((group, group.answers.upgrade()?))) {
            match group.items.add(item, most) {
                Ok(place) => return (answers, place),
                Err(back) => item = back,
            }
        }
        let items = Items::new(item);
        let answers = run(items.clone()).map(Arc::new).boxed().shared();
        *open = answers.downgrade().map(|answers| Group { items, answers });
        (answers, 0)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// Answers each number with the numbers of its group.
    async fn echo(items: Items<u32>) -> Vec<Vec<u32>> {
        let group = items.take();
        group.iter().map(|_| group.clone()).collect()
    }

    #[tokio::test]
    async fn what_is_asked_at_once_is_answered_as_one() {
        let gather = Gather::default();
        let answers = join_all((0..3).map(|number| gather.ask(number, 10, echo))).await;
        assert_eq!(answers, vec![Some(vec![0, 1, 2]); 3]);
        assert_eq!(gather.ask(7, 10, echo).await, Some(vec![7]));
        let full = join_all((0..3).map(|number| gather.ask(number, 2, echo))).await;
        assert_eq!(full, [Some(vec![0, 1]), Some(vec![0, 1]), Some(vec![2])]);
    }

    /// The first of a group ends before its answer.
    #[tokio::test]
    async fn who_goes_away_takes_nobody_along() {
        let gather = Gather::default();
        let mut first = Box::pin(gather.ask(0, 10, echo));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(gather.ask(1, 10, echo));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(second.await, Some(vec![0, 1]));
        let alone = gather.ask(2, 10, echo).now_or_never();
        assert!(alone.is_none());
        assert_eq!(gather.ask(3, 10, echo).await, Some(vec![3]), "nobody was left in the group before");
    }

    #[tokio::test]
    async fn an_answer_that_is_missing_is_none() {
        let gather = Gather::<u32, u32>::default();
        assert_eq!(gather.ask(1, 10, async |_| Vec::new()).await, None);
    }
}
