//! The rules for refunds: each payment is refunded at most once, and at most by what was paid.

use std::sync::Arc;

use super::samples::{NOW, by, held, issued};
use super::{Broken, Subject, same};
use crate::{Confirmation, ProofKey, Refund, RefundStanding, Store};

fn refund(amount: u64) -> Result<Refund, Broken> {
    Ok(Refund {
        proof: ProofKey("onchain:0x01".into()),
        network: "evm:base:sepolia".parse()?,
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse()?,
        to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse()?,
        amount: amount.into(),
        asked_at: NOW,
    })
}

/// Creates a store with a payment of 1,000.
async fn paid(subject: &dyn Subject) -> Result<Arc<dyn Store>, Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    store.confirm(&hold, Confirmation { refundable: 1000.into(), ..by(&refund(1)?.proof) }).await?;
    Ok(subject.reopened(store).await)
}

pub(super) async fn once(subject: &dyn Subject) -> Result<(), Broken> {
    let store = paid(subject).await?;
    let (all, part) = (refund(1000)?, refund(999)?);
    same(&store.begin_refund(&all).await?, &RefundStanding::Begun, "written down")?;
    let store = subject.reopened(store).await;
    same(&store.begin_refund(&all).await?, &RefundStanding::Begun, "not known to be made")?;
    same(&store.begin_refund(&part).await?, &RefundStanding::Other, "another, meanwhile")?;
    let later = Refund { asked_at: NOW.plus(1), ..all.clone() };
    same(&store.begin_refund(&later).await?, &RefundStanding::Other, "the same sum, asked for once more")?;
    store.end_refund(&all, Some("0x02")).await?;
    store.end_refund(&all, None).await?;
    store.end_refund(&part, Some("0x03")).await?;
    store.forget(NOW.plus(1_000_000)).await?;
    let store = subject.reopened(store).await;
    let done = RefundStanding::Done { receipt: "0x02".into() };
    same(&store.begin_refund(&all).await?, &done, "made, and that stays")?;
    same(&store.begin_refund(&part).await?, &RefundStanding::Other, "another, afterwards")
}

pub(super) async fn refused(subject: &dyn Subject) -> Result<(), Broken> {
    let store = paid(subject).await?;
    store.begin_refund(&refund(1000)?).await?;
    store.end_refund(&refund(1000)?, None).await?;
    same(&store.begin_refund(&refund(999)?).await?, &RefundStanding::Begun, "another, after a refusal")
}

pub(super) async fn of_what_was_paid(subject: &dyn Subject) -> Result<(), Broken> {
    let store = paid(subject).await?;
    let other = Refund { proof: ProofKey("onchain:0x02".into()), ..refund(1)? };
    for unpaid in [refund(1001)?, refund(0)?, other] {
        same(&store.begin_refund(&unpaid).await?, &RefundStanding::Unpaid, "more than was paid, nothing, unpaid")?;
    }
    same(&store.begin_refund(&refund(1)?).await?, &RefundStanding::Begun, "a part")
}
