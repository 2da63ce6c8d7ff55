//! Refunds, stored with the proofs of the refunded payments.

use deadpool_postgres::ClientWrapper;
use x402_challenge::{Refund, RefundStanding};
use x402_types::AtomicAmount;

use super::{Sql, bad, execute, query};

/// A proof's row: the refundable amount, the refund, and its receipt.
type Stored = (AtomicAmount, Option<String>, Option<String>);

/// Reads a proof and locks it until the transaction ends.
async fn lock(client: &ClientWrapper, refund: &Refund) -> Sql<Option<Stored>> {
    let sql = "SELECT refundable, refund, receipt FROM x402_proofs WHERE key = $1 FOR UPDATE";
    let rows = query(client, sql, &[&&*refund.proof.0]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((row.try_get::<_, &str>(0)?.parse().map_err(bad)?, row.try_get(1)?, row.try_get(2)?)))
}

/// Formats a refund in lines. No part of it can contain a line feed.
fn text(refund: &Refund) -> String {
    format!("{}\n{}\n{}\n{}\n{}", refund.network, refund.asset, refund.to, refund.amount, refund.asked_at.0)
}

async fn write(client: &ClientWrapper, refund: &Refund, stands: Option<&str>, receipt: Option<&str>) -> Sql<()> {
    let sql = "UPDATE x402_proofs SET refund = $2, receipt = $3 WHERE key = $1";
    execute(client, sql, &[&&*refund.proof.0, &stands, &receipt]).await?;
    Ok(())
}

pub(super) async fn begin(client: &ClientWrapper, (refund,): &(Refund,)) -> Sql<RefundStanding> {
    let this = text(refund);
    Ok(match lock(client, refund).await? {
        Some((paid, stands, receipt)) if refund.amount <= paid && !refund.amount.is_zero() => match (stands, receipt) {
            (Some(stands), _) if stands != this => RefundStanding::Other,
            (Some(_), Some(receipt)) => RefundStanding::Done { receipt: receipt.into() },
            (Some(_), None) => RefundStanding::Begun,
            (None, _) => {
                write(client, refund, Some(&this), None).await?;
                RefundStanding::Begun
            }
        },
        _ => RefundStanding::Unpaid,
    })
}

pub(super) async fn end(client: &ClientWrapper, (refund, receipt): &(Refund, Option<String>)) -> Sql<()> {
    let this = text(refund);
    match lock(client, refund).await? {
        Some((_, stands, None)) if stands.as_deref().is_none_or(|stands| stands == this) => {
            write(client, refund, receipt.as_ref().map(|_| this.as_str()), receipt.as_deref()).await
        }
        _ => Ok(()),
    }
}
