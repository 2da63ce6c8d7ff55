//! Leases by the database's clock. A new owner gets a new fence, in a row that every commit of a worker locks: after the
//! new owner has its lease, no commit under the old fence can still happen.

use deadpool_postgres::ClientWrapper;
use futures_util::future::{try_join, try_join3};
use x402_facilitator_core::{LaneId, Lease, OwnerId, Share, Slot};
use x402_types::{Fault, UnixSeconds};

use super::{Sql, all_parsed, text};
use crate::postgres::connect::Postgres;
use crate::postgres::failure::Abort;
use crate::postgres::run::{Kind, execute, query};
use crate::postgres::{natural, number};

/// The longest lease, in seconds: a thousand years, so that the time stays within a timestamp's range.
const LONGEST: u64 = 31_557_600_000;

/// Renews or takes the lease of a lane.
pub(super) async fn lease(
    database: &Postgres,
    lane: &LaneId,
    owner: &OwnerId,
    seconds: u64,
) -> Result<Option<Lease>, Fault> {
    let seconds = i64::try_from(seconds.min(LONGEST)).unwrap_or(i64::MAX);
    let renewed = database
        .run(Kind::Single { writes: false }, |client| {
            let (lane, owner) = (lane.clone(), owner.clone());
            Box::pin(async move { renew(client, &lane, &owner, seconds).await })
        })
        .await?;
    let fence = match renewed {
        Some(fence) => Some(fence),
        None => {
            database
                .run(Kind::Attempt, |client| {
                    let (lane, owner) = (lane.clone(), owner.clone());
                    Box::pin(async move { take(client, &lane, &owner, seconds).await })
                })
                .await?
        }
    };
    if fence.is_some() {
        database.note(None, true);
    }
    Ok(fence.map(|fence| Lease { lane: lane.clone(), fence: natural(fence) }))
}

/// Announces an owner, and returns its share of the lanes.
pub(super) async fn share(database: &Postgres, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
    let seconds = i64::try_from(seconds.min(LONGEST)).unwrap_or(i64::MAX);
    database
        .run(Kind::Write, |client| {
            let owner = owner.clone();
            Box::pin(async move { announce(client, owner.as_str(), seconds).await })
        })
        .await
}

async fn announce(client: &ClientWrapper, owner: &str, seconds: i64) -> Sql<Share> {
    let (_, rows, _) = try_join3(
        execute(
            client,
            "INSERT INTO x402_workers (owner, since, until)
             VALUES ($1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP + $2::bigint * INTERVAL '1 second')
             ON CONFLICT (owner) DO UPDATE
             SET since = CASE WHEN x402_workers.until > CURRENT_TIMESTAMP THEN x402_workers.since ELSE EXCLUDED.since END,
               until = EXCLUDED.until",
            &[&owner, &seconds],
        ),
        query(client, "SELECT owner FROM x402_workers WHERE until > CURRENT_TIMESTAMP ORDER BY since, owner", &[]),
        // A process has another name after each start.
        execute(client, "DELETE FROM x402_workers WHERE until < CURRENT_TIMESTAMP - INTERVAL '1 hour'", &[]),
    )
    .await?;
    let mut place = rows.len();
    for (at, row) in rows.iter().enumerate() {
        if row.try_get::<_, &str>(0)? == owner {
            place = at;
        }
    }
    Ok(Share { place, of: rows.len().max(1) })
}

/// Renews the owner's own lease, even one that has run out, unless another owner has taken it.
async fn renew(client: &ClientWrapper, lane: &LaneId, owner: &OwnerId, seconds: i64) -> Sql<Option<i64>> {
    let rows = query(
        client,
        "UPDATE x402_leases SET until = CURRENT_TIMESTAMP + $3::bigint * INTERVAL '1 second'
         WHERE lane = $1 AND owner = $2 RETURNING fence",
        &[&lane.as_str(), &owner.as_str(), &seconds],
    )
    .await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// Takes a free lane.
async fn take(client: &ClientWrapper, lane: &LaneId, owner: &OwnerId, seconds: i64) -> Sql<Option<i64>> {
    let lane = lane.as_str();
    let rows = query(
        client,
        "INSERT INTO x402_leases (lane, owner, fence, until)
         VALUES ($1, $2, 1, CURRENT_TIMESTAMP + $3::bigint * INTERVAL '1 second')
         ON CONFLICT (lane) DO UPDATE
         SET owner = EXCLUDED.owner, fence = x402_leases.fence + 1, until = EXCLUDED.until
         WHERE x402_leases.until <= CURRENT_TIMESTAMP
         RETURNING fence",
        &[&lane, &owner.as_str(), &seconds],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let fence: i64 = row.try_get(0)?;
    // This waits for the commits under the old fence that have begun, and those that begin later wait for this.
    try_join(
        execute(
            client,
            "INSERT INTO x402_fences (lane, fence) VALUES ($1, $2)
             ON CONFLICT (lane) DO UPDATE SET fence = EXCLUDED.fence",
            &[&lane, &fence],
        ),
        execute(client, "INSERT INTO x402_nonces (lane, next) VALUES ($1, 0) ON CONFLICT (lane) DO NOTHING", &[&lane]),
    )
    .await?;
    due_at_once(client, lane).await?;
    Ok(Some(fence))
}

/// Makes the open slots of a lane due: its last owner may have stored bytes that it never sent.
async fn due_at_once(client: &ClientWrapper, lane: &str) -> Sql<()> {
    let rows =
        query(client, "SELECT row FROM x402_slots WHERE lane = $1 AND NOT used ORDER BY nonce", &[&lane]).await?;
    let (mut nonces, mut texts) = (Vec::new(), Vec::new());
    for mut slot in all_parsed::<Slot>(&rows)? {
        slot.due = UnixSeconds(0);
        nonces.push(number(slot.id.nonce));
        texts.push(text(&slot).map_err(Abort::Refused)?);
    }
    if nonces.is_empty() {
        return Ok(());
    }
    execute(
        client,
        "UPDATE x402_slots AS s SET row = n.row FROM unnest($2::bigint[], $3::text[]) AS n (nonce, row)
         WHERE s.lane = $1 AND s.nonce = n.nonce",
        &[&lane, &nonces, &texts],
    )
    .await?;
    Ok(())
}
