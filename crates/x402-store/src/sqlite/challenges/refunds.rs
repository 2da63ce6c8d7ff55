//! Refunds, stored with the proofs of the refunded payments.

use rusqlite::{OptionalExtension, Transaction, params};
use x402_challenge::{Refund, RefundStanding};
use x402_types::AtomicAmount;

use super::{Sql, bad};

/// A proof's row: the refundable amount, the refund, and its receipt.
type Stored = (AtomicAmount, Option<String>, Option<String>);

fn read(transaction: &Transaction<'_>, refund: &Refund) -> Sql<Option<Stored>> {
    transaction
        .prepare_cached("SELECT refundable, refund, receipt FROM proofs WHERE key = ?1")?
        .query_row([&*refund.proof.0], |row| {
            Ok((row.get_ref(0)?.as_str()?.parse().map_err(bad)?, row.get(1)?, row.get(2)?))
        })
        .optional()
}

/// Formats a refund in lines. No part of it can contain a line feed.
fn text(refund: &Refund) -> String {
    format!("{}\n{}\n{}\n{}\n{}", refund.network, refund.asset, refund.to, refund.amount, refund.asked_at.0)
}

fn write(transaction: &Transaction<'_>, refund: &Refund, stands: Option<&str>, receipt: Option<&str>) -> Sql<()> {
    transaction
        .prepare_cached("UPDATE proofs SET refund = ?2, receipt = ?3 WHERE key = ?1")?
        .execute(params![&*refund.proof.0, stands, receipt])
        .map(drop)
}

pub(super) fn begin(transaction: &Transaction<'_>, refund: &Refund) -> Sql<RefundStanding> {
    let this = text(refund);
    Ok(match read(transaction, refund)? {
        Some((paid, stands, receipt)) if refund.amount <= paid && !refund.amount.is_zero() => match (stands, receipt) {
            (Some(stands), _) if stands != this => RefundStanding::Other,
            (Some(_), Some(receipt)) => RefundStanding::Done { receipt: receipt.into() },
            (Some(_), None) => RefundStanding::Begun,
            (None, _) => {
                write(transaction, refund, Some(&this), None)?;
                RefundStanding::Begun
            }
        },
        _ => RefundStanding::Unpaid,
    })
}

pub(super) fn end(transaction: &Transaction<'_>, refund: &Refund, receipt: Option<&str>) -> Sql<()> {
    let this = text(refund);
    match read(transaction, refund)? {
        Some((_, stands, None)) if stands.as_deref().is_none_or(|stands| stands == this) => {
            write(transaction, refund, receipt.map(|_| this.as_str()), receipt)
        }
        _ => Ok(()),
    }
}
