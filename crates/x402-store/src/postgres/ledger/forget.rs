//! Forgetting, in transactions of a few payments each. Several processes may forget at once: each takes rows that no
//! other has locked.

use std::collections::BTreeSet;

use deadpool_postgres::ClientWrapper;
use x402_facilitator_core::{Payment, Slot, Step};
use x402_types::{Fault, UnixSeconds};

use super::{Sql, all_parsed, parsed};
use crate::postgres::connect::Postgres;
use crate::postgres::number;
use crate::postgres::run::{Kind, execute, query};

/// The number of payments that are forgotten in one transaction.
const GROUP: usize = 50;

/// The progress of a pass over the rows that may be forgotten: `keep_until` and key.
type Passed = (i64, Vec<u8>);

/// Forgets at most `limit` payments.
pub(super) async fn forget(database: &Postgres, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
    let (mut gone, mut passed) = (0_usize, Some((i64::MIN, Vec::new())));
    while let Some(from) = passed.filter(|_| gone < limit) {
        let group = limit.saturating_sub(gone).min(GROUP);
        let (more, to) = database
            .run(Kind::Write, |client| {
                let from = from.clone();
                Box::pin(async move { one_group(client, now, &from, group).await })
            })
            .await?;
        gone = gone.saturating_add(more);
        passed = to;
    }
    Ok(gone)
}

/// Forgets up to `group` payments after `passed`. Returns their number and the new position; `None` if no row is left.
async fn one_group(
    client: &ClientWrapper,
    now: UnixSeconds,
    passed: &Passed,
    group: usize,
) -> Sql<(usize, Option<Passed>)> {
    let limit = i64::try_from(group).unwrap_or(i64::MAX);
    let rows = query(
        client,
        "SELECT row, keep_until, key FROM x402_payments
         WHERE due IS NULL AND keep_until < $1 AND (keep_until, key) > ($2, $3)
         ORDER BY keep_until, key LIMIT $4 FOR UPDATE SKIP LOCKED",
        &[&number(now.0), &passed.0, &passed.1, &limit],
    )
    .await?;
    let at = rows.last().filter(|_| rows.len() == group);
    let at = at.map(|row| Ok::<_, tokio_postgres::Error>((row.try_get(1)?, row.try_get(2)?))).transpose()?;
    let candidates: Vec<Payment> = all_parsed(&rows)?;
    let slots = locked_slots(client, &candidates).await?;
    let may_land: BTreeSet<_> = slots.iter().filter(|slot| !slot.used).map(|slot| &slot.id).collect();
    let carriers = |payment: &Payment| payment.steps.iter().flat_map(|step| step.carriers.clone()).collect::<Vec<_>>();
    let over: Vec<&Payment> =
        candidates.iter().filter(|payment| carriers(payment).iter().all(|id| !may_land.contains(id))).collect();
    if over.is_empty() {
        return Ok((0, at));
    }
    let keys: Vec<&[u8]> = over.iter().map(|payment| payment.key.as_bytes()).collect();
    let once_keys: Vec<&[u8]> =
        over.iter().flat_map(|payment| payment.steps.iter().flat_map(Step::once_keys)).map(|key| &*key.0).collect();
    execute(client, "DELETE FROM x402_payments WHERE key IN (SELECT unnest($1::bytea[]))", &[&keys]).await?;
    execute(
        client,
        "DELETE FROM x402_once_keys
         WHERE once_key IN (SELECT unnest($1::bytea[])) AND payment IN (SELECT unnest($2::bytea[]))",
        &[&once_keys, &keys],
    )
    .await?;
    let carried: BTreeSet<_> = over.iter().flat_map(|payment| carriers(payment)).collect();
    let slots: Vec<&Slot> = slots.iter().filter(|slot| carried.contains(&slot.id)).collect();
    empty_slots(client, &slots).await?;
    Ok((over.len(), at))
}

/// Reads the slots that carried these payments, and locks them: of two processes that forget the last two payments of
/// one slot, the second sees that the first is gone.
async fn locked_slots(client: &ClientWrapper, payments: &[Payment]) -> Sql<Vec<Slot>> {
    let ids: BTreeSet<_> = payments.iter().flat_map(|payment| &payment.steps).flat_map(|step| &step.carriers).collect();
    let lanes: Vec<&str> = ids.iter().map(|id| id.lane.as_str()).collect();
    let nonces: Vec<i64> = ids.iter().map(|id| number(id.nonce)).collect();
    let rows = query(
        client,
        "SELECT row FROM x402_slots
         WHERE (lane, nonce) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))
         ORDER BY lane, nonce FOR UPDATE",
        &[&lanes, &nonces],
    )
    .await?;
    rows.iter().map(|row| parsed(row, 0)).collect()
}

/// Deletes those of the slots that carry no payment any more.
async fn empty_slots(client: &ClientWrapper, slots: &[&Slot]) -> Sql<()> {
    let cargo: Vec<&[u8]> = slots.iter().flat_map(|slot| &slot.payments).map(|key| key.as_bytes()).collect();
    let rows =
        query(client, "SELECT key FROM x402_payments WHERE key IN (SELECT unnest($1::bytea[]))", &[&cargo]).await?;
    let mut left = BTreeSet::new();
    for row in &rows {
        left.insert(row.try_get::<_, &[u8]>(0)?);
    }
    let empty = |slot: &&&Slot| !slot.payments.iter().any(|key| left.contains(key.as_bytes()));
    let (lanes, nonces): (Vec<&str>, Vec<i64>) =
        slots.iter().filter(empty).map(|slot| (slot.id.lane.as_str(), number(slot.id.nonce))).unzip();
    execute(
        client,
        "DELETE FROM x402_slots WHERE (lane, nonce) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))",
        &[&lanes, &nonces],
    )
    .await?;
    Ok(())
}
