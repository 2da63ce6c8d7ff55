//! Meters of `upto` challenges.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use x402_challenge::{Added, Issued, MeterState, Metered};
use x402_types::challenge::ChallengeId;
use x402_types::{AtomicAmount, UnixSeconds};

use super::{Sql, bad, from_json, number, time, to_json};

pub(super) fn open(transaction: &Transaction<'_>, meter: &Metered) -> Sql<()> {
    let issued = &meter.issued;
    transaction
        .prepare_cached("INSERT INTO meters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute(params![
            issued.challenge.challenge_id.as_str(),
            to_json(&issued.challenge)?,
            to_json(&meter.payment)?,
            number(issued.issued_at),
            number(issued.expires_at),
            number(issued.keep_until),
            meter.used.to_string(),
            meter.state.as_str(),
            number(meter.touched_at),
        ])
        .map(drop)
}

fn read(connection: &Connection, id: &ChallengeId) -> Sql<Option<Metered>> {
    connection
        .prepare_cached(
            "SELECT challenge, payment, issued_at, expires_at, keep_until, used, state, touched_at
             FROM meters WHERE id = ?1",
        )?
        .query_row([id.as_str()], |row| {
            let at = |index| row.get::<_, i64>(index).map(time);
            let name: String = row.get(6)?;
            // The table accepts no other name.
            let state = MeterState::ALL.iter().copied().find(|state| state.as_str() == name);
            Ok(Metered {
                issued: Issued {
                    challenge: from_json(row.get_ref(0)?.as_str()?)?,
                    issued_at: at(2)?,
                    expires_at: at(3)?,
                    keep_until: at(4)?,
                },
                payment: from_json(row.get_ref(1)?.as_str()?)?,
                used: row.get_ref(5)?.as_str()?.parse().map_err(bad)?,
                state: state.ok_or(rusqlite::Error::InvalidQuery)?,
                touched_at: at(7)?,
            })
        })
        .optional()
}

fn update(transaction: &Transaction<'_>, id: &ChallengeId, meter: &Metered) -> Sql<()> {
    transaction
        .prepare_cached("UPDATE meters SET used = ?2, state = ?3, touched_at = ?4 WHERE id = ?1")?
        .execute(params![id.as_str(), meter.used.to_string(), meter.state.as_str(), number(meter.touched_at)])
        .map(drop)
}

pub(super) fn add(
    transaction: &Transaction<'_>,
    id: &ChallengeId,
    amount: AtomicAmount,
    now: UnixSeconds,
) -> Sql<Added> {
    let Some(mut meter) = read(transaction, id)? else { return Ok(Added::Unknown) };
    let added = meter.add(amount, now);
    if matches!(added, Added::Used(_)) {
        update(transaction, id, &meter)?;
    }
    Ok(added)
}

pub(super) fn close(transaction: &Transaction<'_>, id: &ChallengeId, now: UnixSeconds) -> Sql<Option<Metered>> {
    let Some(mut meter) = read(transaction, id)? else { return Ok(None) };
    if meter.state == MeterState::Open {
        meter.state = MeterState::Closed;
        meter.touched_at = now;
        update(transaction, id, &meter)?;
    }
    Ok(Some(meter))
}

pub(super) fn end(transaction: &Transaction<'_>, id: &ChallengeId, end: MeterState) -> Sql<()> {
    transaction
        .prepare_cached("UPDATE meters SET state = ?2 WHERE id = ?1 AND state = 'closed'")?
        .execute(params![id.as_str(), end.as_str()])
        .map(drop)
}

pub(super) fn waive(transaction: &Transaction<'_>, id: &ChallengeId, now: UnixSeconds) -> Sql<()> {
    transaction
        .prepare_cached("UPDATE meters SET state = 'refused', touched_at = ?2 WHERE id = ?1 AND state = 'open'")?
        .execute(params![id.as_str(), number(now)])
        .map(drop)
}

pub(super) fn listed(connection: &Connection, before: UnixSeconds, limit: usize) -> Sql<Vec<ChallengeId>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM meters WHERE state IN ('open', 'closed') AND touched_at < ?1 ORDER BY touched_at, id LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids = statement.query_map(params![number(before), limit], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(bad)).collect()
}
