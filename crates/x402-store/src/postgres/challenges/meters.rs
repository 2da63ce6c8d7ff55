//! Meters of `upto` challenges.

use deadpool_postgres::ClientWrapper;
use x402_challenge::{Added, Issued, MeterState, Metered};
use x402_types::challenge::ChallengeId;
use x402_types::{AtomicAmount, UnixSeconds};

use super::{Sql, bad, execute, from_json, number, query, time, to_json};

pub(super) async fn open(client: &ClientWrapper, meter: &Metered) -> Sql<()> {
    let issued = &meter.issued;
    execute(
        client,
        "INSERT INTO x402_meters
         (id, challenge, payment, issued_at, expires_at, keep_until, used, state, touched_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &[
            &issued.challenge.challenge_id.as_str(),
            &to_json(&issued.challenge)?,
            &to_json(&meter.payment)?,
            &number(issued.issued_at.0),
            &number(issued.expires_at.0),
            &number(issued.keep_until.0),
            &meter.used.to_string(),
            &meter.state.as_str(),
            &number(meter.touched_at.0),
        ],
    )
    .await?;
    Ok(())
}

/// Reads a meter and locks it until the transaction ends.
async fn lock(client: &ClientWrapper, id: &ChallengeId) -> Sql<Option<Metered>> {
    let rows = query(
        client,
        "SELECT challenge, payment, issued_at, expires_at, keep_until, used, state, touched_at
         FROM x402_meters WHERE id = $1 FOR UPDATE",
        &[&id.as_str()],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let name: &str = row.try_get(6)?;
    // The table accepts no other name.
    let state = MeterState::ALL.iter().copied().find(|state| state.as_str() == name);
    Ok(Some(Metered {
        issued: Issued {
            challenge: from_json(row.try_get(0)?)?,
            issued_at: time(row, 2)?,
            expires_at: time(row, 3)?,
            keep_until: time(row, 4)?,
        },
        payment: from_json(row.try_get(1)?)?,
        used: row.try_get::<_, &str>(5)?.parse().map_err(bad)?,
        state: state.ok_or_else(|| bad("a meter's state"))?,
        touched_at: time(row, 7)?,
    }))
}

async fn update(client: &ClientWrapper, id: &ChallengeId, meter: &Metered) -> Sql<()> {
    execute(
        client,
        "UPDATE x402_meters SET used = $2, state = $3, touched_at = $4 WHERE id = $1",
        &[&id.as_str(), &meter.used.to_string(), &meter.state.as_str(), &number(meter.touched_at.0)],
    )
    .await?;
    Ok(())
}

pub(super) async fn add(
    client: &ClientWrapper,
    (id, amount, now): &(ChallengeId, AtomicAmount, UnixSeconds),
) -> Sql<Added> {
    let Some(mut meter) = lock(client, id).await? else { return Ok(Added::Unknown) };
    let added = meter.add(*amount, *now);
    if matches!(added, Added::Used(_)) {
        update(client, id, &meter).await?;
    }
    Ok(added)
}

pub(super) async fn close(client: &ClientWrapper, (id, now): &(ChallengeId, UnixSeconds)) -> Sql<Option<Metered>> {
    let Some(mut meter) = lock(client, id).await? else { return Ok(None) };
    if meter.state == MeterState::Open {
        meter.state = MeterState::Closed;
        meter.touched_at = *now;
        update(client, id, &meter).await?;
    }
    Ok(Some(meter))
}

pub(super) async fn end(client: &ClientWrapper, (id, end): &(ChallengeId, MeterState)) -> Sql<()> {
    let sql = "UPDATE x402_meters SET state = $2 WHERE id = $1 AND state = 'closed'";
    execute(client, sql, &[&id.as_str(), &end.as_str()]).await?;
    Ok(())
}

pub(super) async fn waive(client: &ClientWrapper, (id, now): &(ChallengeId, UnixSeconds)) -> Sql<()> {
    let sql = "UPDATE x402_meters SET state = 'refused', touched_at = $2 WHERE id = $1 AND state = 'open'";
    execute(client, sql, &[&id.as_str(), &number(now.0)]).await?;
    Ok(())
}

pub(super) async fn listed(client: &ClientWrapper, (before, limit): &(UnixSeconds, usize)) -> Sql<Vec<ChallengeId>> {
    let rows = query(
        client,
        "SELECT id FROM x402_meters WHERE state IN ('open', 'closed') AND touched_at < $1
         ORDER BY touched_at, id LIMIT $2",
        &[&number(before.0), &i64::try_from(*limit).unwrap_or(i64::MAX)],
    )
    .await?;
    rows.iter().map(|row| row.try_get::<_, &str>(0)?.parse().map_err(bad)).collect()
}
