//! The payments that resource servers have granted, in a PostgreSQL database: `x402_http::server::Grants` for several
//! processes.
//!
//! A claim is a row that names the process and the number of its claim; every later write compares both. The claims of
//! a process end for others once the process has not renewed its own row for half a minute.

mod keeper;

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio::sync::oneshot;
use x402_http::server::{Claimed, GrantLock, GrantState, Grants, Standing};
use x402_types::{Fault, PaymentKey};

use self::keeper::{Hold, Keeper};
use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};

/// Grants in a PostgreSQL database. Rows of granted payments are kept permanently: none is granted again.
#[derive(Debug, Clone)]
pub struct PostgresGrants {
    database: Postgres,
    keeper: Arc<Keeper>,
}

type Sql<T> = Result<T, Abort<Fault>>;

/// A stored grant.
struct Stored {
    state: GrantState,
    request: String,
    /// The process and the number of its claim, unless that process has ended.
    held_by: Option<(String, u64)>,
}

impl PostgresGrants {
    /// Creates the store in this database, and a task that keeps what this process holds until the store is dropped. It
    /// must be called on a tokio runtime.
    /// # Errors
    /// The store failed.
    pub async fn start(database: Postgres) -> Result<Self, Fault> {
        let keeper = Keeper::start(database.clone()).await?;
        Ok(Self { database, keeper: Arc::new(keeper) })
    }

    /// Writes what the lock still permits.
    async fn put(&self, lock: &GrantLock, sql: &'static str) -> Result<(), Fault> {
        if !self.keeper.holds(lock.holder) {
            return Err(lost());
        }
        let shared = Arc::new(lock.clone());
        let changed = self
            .database
            .run(Kind::Single { writes: true }, |client| {
                let (lock, holder) = (Arc::clone(&shared), self.keeper.holder());
                Box::pin(async move {
                    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                        [&lock.key.as_bytes(), &&*holder, &signed(lock.holder)];
                    Ok::<_, Abort<Fault>>(execute(client, sql, &values).await?)
                })
            })
            .await?;
        if changed == 1 { Ok(()) } else { Err(lost()) }
    }

    /// Returns whether a stored grant is held by a request, of this process or of another.
    fn is_held(&self, stored: &Stored) -> bool {
        match &stored.held_by {
            None => false,
            // A number that this process has given back is free, even before the database knows of it.
            Some((holder, number)) if **holder == *self.keeper.holder() => self.keeper.holds(*number),
            Some(_) => true,
        }
    }
}

fn lost() -> Fault {
    Fault::store("the payment is held by another request")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn stored(client: &ClientWrapper, key: &PaymentKey) -> Sql<Option<Stored>> {
    let rows = query(
        client,
        "SELECT g.state, g.request, h.holder, g.lock FROM x402_grants AS g
         LEFT JOIN x402_grant_holders AS h ON h.holder = g.holder AND h.until > CURRENT_TIMESTAMP
         WHERE g.key = $1",
        &[&key.as_bytes()],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let state = match row.try_get(0)? {
        "open" => GrantState::Open,
        "pending" => GrantState::Pending,
        "granted" => GrantState::Granted,
        other => return Err(Abort::Refused(Fault::store(format_args!("a stored grant has the state {other:?}")))),
    };
    let number: i64 = row.try_get(3)?;
    let held_by = row.try_get::<_, Option<String>>(2)?.map(|holder| (holder, u64::try_from(number).unwrap_or(0)));
    Ok(Some(Stored { state, request: row.try_get(1)?, held_by }))
}

impl PostgresGrants {
    /// Inserts a claim of a key that has no row. Returns whether it did.
    async fn open(&self, key: &PaymentKey, request: &str, number: u64) -> Result<bool, Fault> {
        let shared = Arc::new((key.clone(), request.to_owned(), self.keeper.holder()));
        let inserted = self
            .database
            .run(Kind::Single { writes: true }, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let (key, request, holder) = &*shared;
                    let inserted = execute(
                        client,
                        "INSERT INTO x402_grants (key, state, request, holder, lock) VALUES ($1, 'open', $2, $3, $4)
                         ON CONFLICT (key) DO NOTHING",
                        &[&key.as_bytes(), request, &&**holder, &signed(number)],
                    )
                    .await?;
                    Ok::<_, Abort<Fault>>(inserted)
                })
            })
            .await?;
        Ok(inserted == 1)
    }

    /// Claims a key that has a row, if that row permits it.
    async fn take_over(&self, key: &PaymentKey, request: &str, number: u64) -> Result<TakeOver, Fault> {
        let shared = Arc::new((key.clone(), request.to_owned(), self.clone()));
        self.database
            .run(Kind::Write, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let (key, request, grants) = &*shared;
                    let lock = "SELECT 1 FROM x402_grants WHERE key = $1 FOR UPDATE";
                    query(client, lock, &[&key.as_bytes()]).await?;
                    let Some(old) = stored(client, key).await? else { return Ok(TakeOver::Gone) };
                    let is_free = match old.state {
                        GrantState::Open => true,
                        GrantState::Pending => old.request == *request,
                        GrantState::Granted => false,
                    };
                    if !is_free || grants.is_held(&old) {
                        return Ok(TakeOver::Refused);
                    }
                    execute(
                        client,
                        "UPDATE x402_grants SET request = $2, holder = $3, lock = $4 WHERE key = $1",
                        &[&key.as_bytes(), request, &&*grants.keeper.holder(), &signed(number)],
                    )
                    .await?;
                    Ok::<_, Abort<Fault>>(TakeOver::Done(old.state))
                })
            })
            .await
    }

    /// Claims a key; the hold ends unless it is kept.
    async fn hold(&self, key: &PaymentKey, request: &str) -> Result<Option<(GrantState, Hold)>, Fault> {
        let hold = Keeper::hold(&self.keeper, key.clone());
        // A key that is freed between the two transactions is tried again.
        for _ in 0..FREED {
            if self.open(key, request, hold.number()).await? {
                return Ok(Some((GrantState::Open, hold)));
            }
            match self.take_over(key, request, hold.number()).await? {
                TakeOver::Done(state) => return Ok(Some((state, hold))),
                TakeOver::Refused => return Ok(None),
                TakeOver::Gone => {}
            }
        }
        Err(Fault::store("the payment was freed again and again"))
    }
}

/// The result of claiming a key that had a row.
enum TakeOver {
    /// The row is gone.
    Gone,
    /// The payment is granted, held or another request's.
    Refused,
    /// The payment was in this state, and this claim holds it now.
    Done(GrantState),
}

/// The number of times that a claim is tried if its key is freed at the same time.
const FREED: usize = 8;

#[async_trait]
impl Grants for PostgresGrants {
    async fn look(&self, key: &PaymentKey) -> Result<Option<Standing>, Fault> {
        let found = self
            .database
            .run(Kind::Single { writes: false }, |client| {
                let key = key.clone();
                Box::pin(async move { stored(client, &key).await })
            })
            .await?;
        Ok(found.and_then(|stored| {
            let held = self.is_held(&stored);
            let is_free = stored.state == GrantState::Open && !held;
            (!is_free).then_some(Standing { state: stored.state, request: stored.request, held })
        }))
    }

    async fn claim(&self, key: &PaymentKey, request: &str) -> Result<Claimed, Fault> {
        // The work goes on if this future is dropped: a statement that is given up half way may still be executed. Its
        // result is dropped then, and the hold with it.
        let (tell, told) = oneshot::channel();
        let (grants, key, request) = (self.clone(), key.clone(), request.to_owned());
        tokio::spawn(async move { drop(tell.send(grants.hold(&key, &request).await)) });
        let held = told.await.map_err(|_| Fault::store("the claim was not finished"))??;
        Ok(match held {
            None => Claimed::Taken,
            Some((GrantState::Pending, hold)) => Claimed::Pending(hold.keep()),
            Some((_, hold)) => Claimed::Open(hold.keep()),
        })
    }

    async fn pend(&self, lock: &GrantLock) -> Result<(), Fault> {
        let sql = "UPDATE x402_grants SET state = 'pending'
                   WHERE key = $1 AND holder = $2 AND lock = $3 AND state IN ('open', 'pending')";
        self.put(lock, sql).await
    }

    async fn grant(&self, lock: &GrantLock) -> Result<(), Fault> {
        let sql = "UPDATE x402_grants SET state = 'granted', holder = NULL
                   WHERE key = $1 AND holder = $2 AND lock = $3 AND state IN ('open', 'pending')";
        self.put(lock, sql).await?;
        self.keeper.forget(lock.holder);
        Ok(())
    }

    async fn free(&self, lock: &GrantLock) -> Result<(), Fault> {
        let sql =
            "DELETE FROM x402_grants WHERE key = $1 AND holder = $2 AND lock = $3 AND state IN ('open', 'pending')";
        self.put(lock, sql).await?;
        self.keeper.forget(lock.holder);
        Ok(())
    }

    fn release(&self, lock: &GrantLock) {
        self.keeper.release(lock.clone());
    }
}
