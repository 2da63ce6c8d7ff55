//! The state of the `x402.v1` dialect, in a PostgreSQL database: `x402_challenge::Store` row by row. Each write locks its
//! challenge, meter or proof first, and then decides as the store on SQLite does.

mod meters;
mod refunds;

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use x402_challenge::{
    Added, ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Entitlement, Issued, MeterState,
    Metered, PaymentAttempt, PaymentDigest, Refund, RefundStanding, Spent, Store, TokenHash,
};
use x402_types::challenge::{ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};

/// Challenges, nonces, proofs, entitlements, meters and refunds in a PostgreSQL database. Every result that a method
/// returns is durable.
#[derive(Debug, Clone)]
pub struct PostgresChallenges {
    database: Postgres,
}

impl PostgresChallenges {
    /// Creates the store in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self { database }
    }
}

type Sql<T> = Result<T, Abort<Fault>>;

/// Runs one of the functions of this module, with its arguments, as one transaction.
macro_rules! run {
    ($store:expr, $kind:expr, $work:path, $values:expr) => {{
        let values = Arc::new($values);
        $store
            .database
            .run($kind, |client| {
                let values = Arc::clone(&values);
                Box::pin(async move { $work(client, &*values).await })
            })
            .await
    }};
}

const WRITE: Kind = Kind::Write;
const READ: Kind = Kind::Single { writes: false };

fn to_json<T: Serialize>(value: &T) -> Sql<String> {
    serde_json::to_string(value).map_err(bad)
}

fn bad(error: impl core::fmt::Display) -> Abort<Fault> {
    Abort::Refused(Fault::store(format_args!("a stored row cannot be read: {error}")))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Sql<T> {
    serde_json::from_str(text).map_err(bad)
}

fn time(row: &Row, column: usize) -> Sql<UnixSeconds> {
    Ok(UnixSeconds(natural(row.try_get(column)?)))
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
    async fn read(client: &ClientWrapper, id: &ChallengeId) -> Sql<Option<Self>> {
        const SQL: &str = "SELECT row, issued_at, expires_at, keep_until, state, fence, nonce, digest, held_until,
                             resume_until
                           FROM x402_challenges WHERE id = $1";
        query(client, SQL, &[&id.as_str()]).await?.first().map(Self::of).transpose()
    }

    /// Reads the row and locks it until the transaction ends.
    async fn lock(client: &ClientWrapper, id: &ChallengeId) -> Sql<Option<Self>> {
        let locked = query(client, "SELECT 1 FROM x402_challenges WHERE id = $1 FOR UPDATE", &[&id.as_str()]).await?;
        if locked.is_empty() { Ok(None) } else { Self::read(client, id).await }
    }

    fn of(row: &Row) -> Sql<Self> {
        let digest: Option<&[u8]> = row.try_get(7)?;
        let digest = digest.map(|digest| digest.try_into().map_err(bad)).transpose()?;
        Ok(Self {
            issued: Issued {
                challenge: from_json(row.try_get(0)?)?,
                issued_at: time(row, 1)?,
                expires_at: time(row, 2)?,
                keep_until: time(row, 3)?,
            },
            state: row.try_get(4)?,
            fence: natural(row.try_get(5)?),
            nonce: row.try_get(6)?,
            digest: PaymentDigest(digest.unwrap_or_default()),
            held_until: time(row, 8)?,
            resume_until: time(row, 9)?,
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

/// Returns the row, locked, if it still belongs to this hold.
async fn held(client: &ClientWrapper, hold: &ChallengeHold) -> Sql<Option<Stored>> {
    Ok(Stored::lock(client, &hold.id).await?.filter(|stored| stored.is_held_by(hold)))
}

/// Returns whether a challenge that is not open at `now` has the nonce.
async fn taken(client: &ClientWrapper, (nonce, now): &(Nonce, UnixSeconds)) -> Sql<bool> {
    let sql = "SELECT 1 FROM x402_challenges
               WHERE nonce = $1 AND (state = 'paid' OR held_until >= $2 OR resume_until >= $2)";
    Ok(!query(client, sql, &[&nonce.as_str(), &number(now.0)]).await?.is_empty())
}

async fn issue(client: &ClientWrapper, (issued,): &(Issued,)) -> Sql<bool> {
    let inserted = execute(
        client,
        "INSERT INTO x402_challenges
         (id, row, issued_at, expires_at, keep_until, state, fence, held_until, resume_until, forget_after)
         VALUES ($1, $2, $3, $4, $5, 'open', 0, 0, 0, $4) ON CONFLICT (id) DO NOTHING",
        &[
            &issued.challenge.challenge_id.as_str(),
            &to_json(&issued.challenge)?,
            &number(issued.issued_at.0),
            &number(issued.expires_at.0),
            &number(issued.keep_until.0),
        ],
    )
    .await?;
    Ok(inserted == 1)
}

async fn find(client: &ClientWrapper, (id,): &(ChallengeId,)) -> Sql<Option<Stored>> {
    Stored::read(client, id).await
}

/// Maps the error of a nonce that another challenge took at the same time: the transaction is repeated and sees it.
fn of_nonce(error: tokio_postgres::Error) -> Abort<Fault> {
    if error.code() == Some(&SqlState::UNIQUE_VIOLATION) { Abort::Unstable } else { error.into() }
}

async fn claim(client: &ClientWrapper, (attempt, now): &(PaymentAttempt, UnixSeconds)) -> Sql<ClaimOutcome> {
    let Some(stored) = Stored::lock(client, &attempt.id).await? else { return Ok(ClaimOutcome::Unknown) };
    let fence = stored.fence.saturating_add(1);
    let hold = ChallengeHold { id: attempt.id.clone(), nonce: attempt.nonce.clone(), fence };
    match stored.standing(*now) {
        ChallengeState::Open if !taken(client, &(attempt.nonce.clone(), *now)).await? => {
            // The previous holder of this nonce has lapsed, and must no longer be confirmed with it.
            execute(
                client,
                "UPDATE x402_challenges SET state = 'open', nonce = NULL, digest = NULL, forget_after = expires_at
                 WHERE nonce = $1 AND state <> 'paid' AND held_until < $2 AND resume_until < $2",
                &[&attempt.nonce.as_str(), &number(now.0)],
            )
            .await?;
            execute(
                client,
                "UPDATE x402_challenges SET state = 'held', fence = $2, nonce = $3, digest = $4, held_until = $5,
                 resume_until = $6, forget_after = GREATEST(expires_at, $5, $6) WHERE id = $1",
                &[
                    &attempt.id.as_str(),
                    &number(fence),
                    &attempt.nonce.as_str(),
                    &attempt.digest.0.as_slice(),
                    &number(attempt.until.0),
                    &number(attempt.resume_until.0),
                ],
            )
            .await
            .map_err(of_nonce)?;
            Ok(ClaimOutcome::Held(hold))
        }
        ChallengeState::Held { by, until } if by == attempt.digest => Ok(ClaimOutcome::Running { until }),
        ChallengeState::Begun { by } if by == attempt.digest => {
            execute(
                client,
                "UPDATE x402_challenges SET fence = $2, held_until = $3, forget_after = GREATEST(forget_after, $3)
                 WHERE id = $1",
                &[&attempt.id.as_str(), &number(fence), &number(attempt.until.0)],
            )
            .await?;
            Ok(ClaimOutcome::Resumed(hold))
        }
        _ => Ok(ClaimOutcome::Taken),
    }
}

async fn confirm(client: &ClientWrapper, (hold, with): &(ChallengeHold, Confirmation)) -> Sql<Confirmed> {
    let Some(stored) = held(client, hold).await? else { return Ok(Confirmed::Lost) };
    if let Some(key) = &with.proof {
        let sql = "INSERT INTO x402_proofs (key, refundable) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        if execute(client, sql, &[&&*key.0, &with.refundable.to_string()]).await? == 0 {
            return Ok(Confirmed::ProofUsed);
        }
    }
    let keep_until = stored.issued.keep_until.max(stored.held_until);
    execute(
        client,
        "UPDATE x402_challenges SET state = 'paid', forget_after = $2 WHERE id = $1",
        &[&hold.id.as_str(), &number(keep_until.0)],
    )
    .await?;
    if let Some(entitlement) = &with.entitlement {
        execute(
            client,
            "INSERT INTO x402_entitlements (token, resource, expires_at, uses) VALUES ($1, $2, $3, $4)
             ON CONFLICT (token) DO UPDATE
             SET resource = EXCLUDED.resource, expires_at = EXCLUDED.expires_at, uses = EXCLUDED.uses",
            &[
                &entitlement.token.0.as_slice(),
                &entitlement.resource.as_str(),
                &number(entitlement.expires_at.0),
                &entitlement.left.map(i64::from),
            ],
        )
        .await?;
    }
    if let Some(meter) = &with.meter {
        meters::open(client, meter).await?;
    }
    Ok(Confirmed::Paid)
}

async fn suspend(client: &ClientWrapper, (hold,): &(ChallengeHold,)) -> Sql<()> {
    if held(client, hold).await?.is_some() {
        execute(client, "UPDATE x402_challenges SET held_until = 0 WHERE id = $1", &[&hold.id.as_str()]).await?;
    }
    Ok(())
}

async fn release(client: &ClientWrapper, (hold,): &(ChallengeHold,)) -> Sql<()> {
    if held(client, hold).await?.is_some() {
        execute(
            client,
            "UPDATE x402_challenges SET state = 'open', nonce = NULL, digest = NULL, forget_after = expires_at
             WHERE id = $1",
            &[&hold.id.as_str()],
        )
        .await?;
    }
    Ok(())
}

/// Reads an entitlement from the rows of a statement.
fn entitlement(token: TokenHash, rows: &[Row]) -> Sql<Option<Entitlement>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let left: Option<i64> = row.try_get(2)?;
    let left = left.map(|left| u32::try_from(left).map_err(bad)).transpose()?;
    let resource = row.try_get::<_, &str>(0)?.parse().map_err(bad)?;
    Ok(Some(Entitlement { token, resource, expires_at: time(row, 1)?, left }))
}

/// Inserts an entitlement, or moves the end of the one with its token.
async fn grant(client: &ClientWrapper, (entitlement,): &(Entitlement,)) -> Sql<bool> {
    let (token, expires_at) = (entitlement.token.0.as_slice(), number(entitlement.expires_at.0));
    let sql = "INSERT INTO x402_entitlements (token, resource, expires_at, uses) VALUES ($1, $2, $3, $4)
               ON CONFLICT (token) DO NOTHING";
    let uses = entitlement.left.map(i64::from);
    let inserted = execute(client, sql, &[&token, &entitlement.resource.as_str(), &expires_at, &uses]).await?;
    if inserted == 0 {
        let sql = "UPDATE x402_entitlements SET expires_at = greatest(expires_at, $2) WHERE token = $1";
        execute(client, sql, &[&token, &expires_at]).await?;
    }
    Ok(inserted == 1)
}

/// Changes an entitlement, and writes the number of its remaining uses.
async fn change<T>(
    client: &ClientWrapper,
    token: TokenHash,
    change: impl FnOnce(&mut Entitlement) -> T,
) -> Sql<Option<T>> {
    let sql = "SELECT resource, expires_at, uses FROM x402_entitlements WHERE token = $1 FOR UPDATE";
    let rows = query(client, sql, &[&token.0.as_slice()]).await?;
    let Some(mut entitlement) = entitlement(token, &rows)? else { return Ok(None) };
    let before = entitlement.left;
    let changed = change(&mut entitlement);
    if entitlement.left != before {
        let sql = "UPDATE x402_entitlements SET uses = $2 WHERE token = $1";
        execute(client, sql, &[&token.0.as_slice(), &entitlement.left.map(i64::from)]).await?;
    }
    Ok(Some(changed))
}

async fn spend(client: &ClientWrapper, (token, resource, now): &(TokenHash, ResourceName, UnixSeconds)) -> Sql<Spent> {
    let spent = change(client, *token, |entitlement| entitlement.spend(resource, *now)).await?;
    Ok(spent.unwrap_or(Spent::Refused))
}

async fn look(client: &ClientWrapper, (token, resource, now): &(TokenHash, ResourceName, UnixSeconds)) -> Sql<Spent> {
    let sql = "SELECT resource, expires_at, uses FROM x402_entitlements WHERE token = $1";
    let rows = query(client, sql, &[&token.0.as_slice()]).await?;
    Ok(entitlement(*token, &rows)?.map_or(Spent::Refused, |entitlement| entitlement.look(resource, *now)))
}

async fn give_back(client: &ClientWrapper, (token,): &(TokenHash,)) -> Sql<()> {
    change(client, *token, Entitlement::give_back).await.map(drop)
}

async fn revoke(client: &ClientWrapper, (token,): &(TokenHash,)) -> Sql<bool> {
    Ok(execute(client, "DELETE FROM x402_entitlements WHERE token = $1", &[&token.0.as_slice()]).await? == 1)
}

async fn forget(client: &ClientWrapper, (now,): &(UnixSeconds,)) -> Sql<usize> {
    const OVER: [&str; 3] = [
        "DELETE FROM x402_challenges WHERE forget_after < $1",
        "DELETE FROM x402_entitlements WHERE expires_at <= $1",
        "DELETE FROM x402_meters WHERE state IN ('settled', 'refused') AND keep_until < $1",
    ];
    let mut rows = 0_usize;
    for sql in OVER {
        let more = execute(client, sql, &[&number(now.0)]).await?;
        rows = rows.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
    }
    Ok(rows)
}

#[async_trait]
impl Store for PostgresChallenges {
    async fn issue(&self, issued: Issued) -> Result<bool, Fault> {
        run!(self, Kind::Single { writes: true }, issue, (issued,))
    }

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault> {
        let stored: Option<Stored> = run!(self, READ, find, (id.clone(),))?;
        Ok(stored.map(|stored| {
            let standing = stored.standing(now);
            (stored.issued, standing)
        }))
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        run!(self, READ, taken, (nonce.clone(), now))
    }

    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault> {
        run!(self, WRITE, claim, (attempt.clone(), now))
    }

    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault> {
        run!(self, WRITE, confirm, (hold.clone(), with))
    }

    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        run!(self, WRITE, suspend, (hold.clone(),))
    }

    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        run!(self, WRITE, release, (hold.clone(),))
    }

    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault> {
        run!(self, WRITE, grant, (entitlement.clone(),))
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        run!(self, WRITE, spend, (*token, resource.clone(), now))
    }

    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        run!(self, READ, look, (*token, resource.clone(), now))
    }

    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        run!(self, WRITE, give_back, (*token,))
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        run!(self, Kind::Single { writes: true }, revoke, (*token,))
    }

    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault> {
        run!(self, WRITE, meters::add, (id.clone(), amount, now))
    }

    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault> {
        run!(self, WRITE, meters::close, (id.clone(), now))
    }

    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault> {
        run!(self, Kind::Single { writes: true }, meters::end, (id.clone(), end))
    }

    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        run!(self, Kind::Single { writes: true }, meters::waive, (id.clone(), now))
    }

    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault> {
        run!(self, READ, meters::listed, (before, limit))
    }

    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault> {
        run!(self, WRITE, refunds::begin, (refund.clone(),))
    }

    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault> {
        let receipt = receipt.map(str::to_owned);
        run!(self, WRITE, refunds::end, (refund.clone(), receipt))
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        run!(self, WRITE, forget, (now,))
    }
}
