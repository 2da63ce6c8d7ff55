//! The state of the `x402.v1` dialect, in the ledger's SQLite file: `x402_challenge::Store` row by row.

mod meters;
mod refunds;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use x402_challenge::{
    Added, ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Entitlement, Issued, MeterState,
    Metered, PaymentAttempt, PaymentDigest, Refund, RefundStanding, Spent, Store, TokenHash,
};
use x402_types::challenge::{ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use super::{Database, WriteError};

/// Challenges, nonces, proofs, entitlements, meters and refunds in a SQLite file. Every result that a method returns is
/// durable.
#[derive(Debug, Clone)]
pub struct SqliteChallenges {
    database: Database,
}

impl SqliteChallenges {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Runs one transaction. Its result is durable.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Sql<T> + Send + 'static,
    ) -> Result<T, Fault> {
        self.database.write(move |transaction| Ok::<_, WriteError<Fault>>(work(transaction)?)).await
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

/// Converts a time. SQLite has no unsigned 64-bit integers; times beyond 2^63-1, which do not occur, saturate.
fn number(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn time(value: i64) -> UnixSeconds {
    UnixSeconds(u64::try_from(value).unwrap_or(0))
}

fn to_json<T: Serialize>(value: &T) -> Sql<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn bad(error: impl core::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Sql<T> {
    serde_json::from_str(text).map_err(bad)
}

/// The row of a challenge.
struct Stored {
    issued: Issued,
    state: String,
    fence: u64,
    nonce: Option<String>,
    digest: PaymentDigest,
    held_until: UnixSeconds,
    resume_until: UnixSeconds,
}

impl Stored {
    fn read(connection: &Connection, id: &ChallengeId) -> Sql<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT row, issued_at, expires_at, keep_until, state, fence, nonce, digest, held_until, resume_until
                 FROM challenges WHERE id = ?1",
            )?
            .query_row([id.as_str()], |row| Ok(Self::of(row)))
            .optional()?
            .transpose()
    }

    fn of(row: &Row<'_>) -> Sql<Self> {
        let at = |index| row.get::<_, i64>(index).map(time);
        Ok(Self {
            issued: Issued {
                challenge: from_json(row.get_ref(0)?.as_str()?)?,
                issued_at: at(1)?,
                expires_at: at(2)?,
                keep_until: at(3)?,
            },
            state: row.get(4)?,
            fence: at(5)?.0,
            nonce: row.get(6)?,
            digest: PaymentDigest(row.get::<_, Option<[u8; 32]>>(7)?.unwrap_or_default()),
            held_until: at(8)?,
            resume_until: at(9)?,
        })
    }

    fn standing(&self, now: UnixSeconds) -> ChallengeState {
        match self.state.as_str() {
            "paid" => ChallengeState::Paid { fence: self.fence },
            "held" if self.held_until >= now => ChallengeState::Held { by: self.digest, until: self.held_until },
            "held" if self.resume_until >= now => ChallengeState::Begun { by: self.digest },
            _ => ChallengeState::Open,
        }
    }

    fn is_held_by(&self, hold: &ChallengeHold) -> bool {
        self.state == "held" && self.fence == hold.fence && self.nonce.as_deref() == Some(hold.nonce.as_str())
    }
}

/// Returns the row, if it still belongs to this hold.
fn held(transaction: &Transaction<'_>, hold: &ChallengeHold) -> Sql<Option<Stored>> {
    Ok(Stored::read(transaction, &hold.id)?.filter(|stored| stored.is_held_by(hold)))
}

/// Returns whether a challenge that is not open at `now` has the nonce.
fn taken(connection: &Connection, nonce: &Nonce, now: UnixSeconds) -> Sql<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM challenges WHERE nonce = ?1 AND (state = 'paid' OR held_until >= ?2 OR resume_until >= ?2)",
        )?
        .exists(params![nonce.as_str(), number(now)])
}

fn issue(transaction: &Transaction<'_>, issued: &Issued) -> Sql<bool> {
    let changed = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO challenges
             (id, row, issued_at, expires_at, keep_until, state, fence, held_until, resume_until, forget_after)
             VALUES (?1, ?2, ?3, ?4, ?5, 'open', 0, 0, 0, ?4)",
        )?
        .execute(params![
            issued.challenge.challenge_id.as_str(),
            to_json(&issued.challenge)?,
            number(issued.issued_at),
            number(issued.expires_at),
            number(issued.keep_until),
        ])?;
    Ok(changed == 1)
}

fn claim(transaction: &Transaction<'_>, attempt: &PaymentAttempt, now: UnixSeconds) -> Sql<ClaimOutcome> {
    let Some(stored) = Stored::read(transaction, &attempt.id)? else { return Ok(ClaimOutcome::Unknown) };
    let fence = stored.fence.saturating_add(1);
    let hold = ChallengeHold { id: attempt.id.clone(), nonce: attempt.nonce.clone(), fence };
    match stored.standing(now) {
        ChallengeState::Open if !taken(transaction, &attempt.nonce, now)? => {
            // The previous holder of this nonce has lapsed, and must no longer be confirmed with it.
            transaction
                .prepare_cached(
                    "UPDATE challenges SET state = 'open', nonce = NULL, digest = NULL, forget_after = expires_at
                     WHERE nonce = ?1",
                )?
                .execute([attempt.nonce.as_str()])?;
            transaction
                .prepare_cached(
                    "UPDATE challenges SET state = 'held', fence = ?2, nonce = ?3, digest = ?4, held_until = ?5,
                     resume_until = ?6, forget_after = max(expires_at, ?5, ?6) WHERE id = ?1",
                )?
                .execute(params![
                    attempt.id.as_str(),
                    number(UnixSeconds(fence)),
                    attempt.nonce.as_str(),
                    attempt.digest.0,
                    number(attempt.until),
                    number(attempt.resume_until),
                ])?;
            Ok(ClaimOutcome::Held(hold))
        }
        ChallengeState::Held { by, until } if by == attempt.digest => Ok(ClaimOutcome::Running { until }),
        ChallengeState::Begun { by } if by == attempt.digest => {
            transaction
                .prepare_cached(
                    "UPDATE challenges SET fence = ?2, held_until = ?3, forget_after = max(forget_after, ?3)
                     WHERE id = ?1",
                )?
                .execute(params![attempt.id.as_str(), number(UnixSeconds(fence)), number(attempt.until)])?;
            Ok(ClaimOutcome::Resumed(hold))
        }
        _ => Ok(ClaimOutcome::Taken),
    }
}

fn confirm(transaction: &Transaction<'_>, hold: &ChallengeHold, with: &Confirmation) -> Sql<Confirmed> {
    let Some(stored) = held(transaction, hold)? else { return Ok(Confirmed::Lost) };
    if let Some(key) = &with.proof {
        let inserted = transaction
            .prepare_cached("INSERT OR IGNORE INTO proofs (key, refundable) VALUES (?1, ?2)")?
            .execute(params![&*key.0, with.refundable.to_string()])?;
        if inserted == 0 {
            return Ok(Confirmed::ProofUsed);
        }
    }
    let keep_until = stored.issued.keep_until.max(stored.held_until);
    transaction
        .prepare_cached("UPDATE challenges SET state = 'paid', forget_after = ?2 WHERE id = ?1")?
        .execute(params![hold.id.as_str(), number(keep_until)])?;
    if let Some(entitlement) = &with.entitlement {
        transaction.prepare_cached("INSERT OR REPLACE INTO entitlements VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            entitlement.token.0,
            entitlement.resource.as_str(),
            number(entitlement.expires_at),
            entitlement.left,
        ])?;
    }
    if let Some(meter) = &with.meter {
        meters::open(transaction, meter)?;
    }
    Ok(Confirmed::Paid)
}

fn suspend(transaction: &Transaction<'_>, hold: &ChallengeHold) -> Sql<()> {
    if held(transaction, hold)?.is_some() {
        transaction
            .prepare_cached("UPDATE challenges SET held_until = 0 WHERE id = ?1")?
            .execute([hold.id.as_str()])?;
    }
    Ok(())
}

fn release(transaction: &Transaction<'_>, hold: &ChallengeHold) -> Sql<()> {
    if held(transaction, hold)?.is_some() {
        transaction
            .prepare_cached(
                "UPDATE challenges SET state = 'open', nonce = NULL, digest = NULL, forget_after = expires_at
                 WHERE id = ?1",
            )?
            .execute([hold.id.as_str()])?;
    }
    Ok(())
}

fn entitlement(connection: &Connection, token: TokenHash) -> Sql<Option<Entitlement>> {
    let row: Option<(String, i64, Option<u32>)> = connection
        .prepare_cached("SELECT resource, expires_at, uses FROM entitlements WHERE token = ?1")?
        .query_row([token.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((resource, expires_at, left)) = row else { return Ok(None) };
    Ok(Some(Entitlement { token, resource: resource.parse().map_err(bad)?, expires_at: time(expires_at), left }))
}

/// Inserts an entitlement, or moves the end of the one with its token.
fn grant(transaction: &Transaction<'_>, entitlement: &Entitlement) -> Sql<bool> {
    let (token, expires_at) = (entitlement.token.0, number(entitlement.expires_at));
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO entitlements (token, resource, expires_at, uses) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![token, entitlement.resource.as_str(), expires_at, entitlement.left])?;
    if inserted == 0 {
        transaction
            .prepare_cached("UPDATE entitlements SET expires_at = max(expires_at, ?2) WHERE token = ?1")?
            .execute(params![token, expires_at])?;
    }
    Ok(inserted == 1)
}

/// Changes an entitlement, and writes what is left of it.
fn change<T>(
    transaction: &Transaction<'_>,
    token: TokenHash,
    change: impl FnOnce(&mut Entitlement) -> T,
) -> Sql<Option<T>> {
    let Some(mut entitlement) = entitlement(transaction, token)? else { return Ok(None) };
    let before = entitlement.left;
    let changed = change(&mut entitlement);
    if entitlement.left != before {
        transaction
            .prepare_cached("UPDATE entitlements SET uses = ?2 WHERE token = ?1")?
            .execute(params![token.0, entitlement.left])?;
    }
    Ok(Some(changed))
}

fn forget(transaction: &Transaction<'_>, now: UnixSeconds) -> Sql<usize> {
    const OVER: [&str; 3] = [
        "DELETE FROM challenges WHERE forget_after < ?1",
        "DELETE FROM entitlements WHERE expires_at <= ?1",
        "DELETE FROM meters WHERE state IN ('settled', 'refused') AND keep_until < ?1",
    ];
    let mut rows = 0usize;
    for sql in OVER {
        rows = rows.saturating_add(transaction.prepare_cached(sql)?.execute([number(now)])?);
    }
    Ok(rows)
}

#[async_trait]
impl Store for SqliteChallenges {
    async fn issue(&self, issued: Issued) -> Result<bool, Fault> {
        self.write(move |transaction| issue(transaction, &issued)).await
    }

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault> {
        let id = id.clone();
        let stored = self.database.read(move |connection| Stored::read(connection, &id)).await?;
        Ok(stored.map(|stored| {
            let standing = stored.standing(now);
            (stored.issued, standing)
        }))
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        let nonce = nonce.clone();
        self.database.read(move |connection| taken(connection, &nonce, now)).await
    }

    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault> {
        let attempt = attempt.clone();
        self.write(move |transaction| claim(transaction, &attempt, now)).await
    }

    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault> {
        let hold = hold.clone();
        self.write(move |transaction| confirm(transaction, &hold, &with)).await
    }

    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        let hold = hold.clone();
        self.write(move |transaction| suspend(transaction, &hold)).await
    }

    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        let hold = hold.clone();
        self.write(move |transaction| release(transaction, &hold)).await
    }

    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault> {
        let entitlement = entitlement.clone();
        self.write(move |transaction| grant(transaction, &entitlement)).await
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        let (token, resource) = (*token, resource.clone());
        let spend = move |entitlement: &mut Entitlement| entitlement.spend(&resource, now);
        Ok(self.write(move |transaction| change(transaction, token, spend)).await?.unwrap_or(Spent::Refused))
    }

    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        let token = *token;
        let found = self.database.read(move |connection| entitlement(connection, token)).await?;
        Ok(found.map_or(Spent::Refused, |entitlement| entitlement.look(resource, now)))
    }

    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        let token = *token;
        self.write(move |transaction| change(transaction, token, Entitlement::give_back)).await.map(drop)
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        let token = *token;
        self.write(move |transaction| {
            let deleted =
                transaction.prepare_cached("DELETE FROM entitlements WHERE token = ?1")?.execute([token.0])?;
            Ok(deleted == 1)
        })
        .await
    }

    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault> {
        let id = id.clone();
        self.write(move |transaction| meters::add(transaction, &id, amount, now)).await
    }

    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault> {
        let id = id.clone();
        self.write(move |transaction| meters::close(transaction, &id, now)).await
    }

    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault> {
        let id = id.clone();
        self.write(move |transaction| meters::end(transaction, &id, end)).await
    }

    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        let id = id.clone();
        self.write(move |transaction| meters::waive(transaction, &id, now)).await
    }

    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault> {
        self.database.read(move |connection| meters::listed(connection, before, limit)).await
    }

    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault> {
        let refund = refund.clone();
        self.write(move |transaction| refunds::begin(transaction, &refund)).await
    }

    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault> {
        let (refund, receipt) = (refund.clone(), receipt.map(str::to_owned));
        self.write(move |transaction| refunds::end(transaction, &refund, receipt.as_deref())).await
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        self.write(move |transaction| forget(transaction, now)).await
    }
}
