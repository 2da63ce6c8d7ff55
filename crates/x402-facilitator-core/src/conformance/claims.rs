//! The rules for claiming a payment.

use std::sync::Arc;

use super::samples::{claimed, payment, read};
use super::{Broken, Subject, ensure, same};
use crate::upkeep::join;
use crate::{Ledger, OwnerId, Payment, RequestId};

pub(super) async fn inserted_once(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    same(&ledger.read(&payment(1).key).await?, &None, "an empty ledger has no row")?;
    let row = claimed(&ledger, 1).await?;
    same(&row, &Payment { version: 1, ..payment(1) }, "the claimed row")?;
    let mut other = payment(1);
    other.payer = "somebody else".to_owned();
    other.claim.identity.request = "another".to_owned();
    same(&ledger.claim(other).await?, &row, "a second claim is answered with the row that is there")?;
    same(&read(&ledger, 1).await?, &row, "and changes nothing")?;
    let ledger = subject.reopened(ledger).await;
    same(&read(&ledger, 1).await?, &row, "the row after a restart")
}

pub(super) async fn one_winner(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let claim = |number: u64| -> core::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        let ledger: Arc<dyn Ledger> = Arc::clone(&ledger);
        let request = RequestId { owner: OwnerId::from("many"), number };
        Box::pin(async move { ledger.claim(Payment { request, ..payment(1) }).await })
    };
    let row = {
        let mut answers = join((0..16).map(claim).collect()).await.into_iter();
        let first = answers.next().transpose()?;
        for answer in answers {
            same(&Some(answer?), &first, "every claim is answered with the same row")?;
        }
        first
    };
    ensure(row == Some(read(&ledger, 1).await?), "and it is the row that is there")
}
