//! A commit: every condition is part of the statement that changes the row, or of a lock that lasts until the end of the
//! transaction. All statements are sent at once, and each handles all rows of its table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures_util::future::{try_join, try_join4};
use x402_facilitator_core::{CommitError, Lease, Next, OnceKey, Payment, Slot, SlotId, Step, Write};
use x402_types::{Fault, PaymentKey};

use super::{due, is_ready, text};
use crate::postgres::connect::Postgres;
use crate::postgres::failure::Abort;
use crate::postgres::number;
use crate::postgres::run::{Kind, execute, query};

type Sql<T> = Result<T, Abort<CommitError>>;

/// Commits a write.
pub(super) async fn commit(database: &Postgres, write: Write) -> Result<(), CommitError> {
    let prepared = Arc::new(Prepared::of(write)?);
    database
        .run(Kind::Write, |client| {
            let prepared = Arc::clone(&prepared);
            Box::pin(async move { prepared.run(client).await })
        })
        .await
}

/// A write as its statements take it. Rows are sorted, so that two writes of the same rows lock them in one order.
struct Prepared {
    lease: Option<Lease>,
    next: Option<Next>,
    new_slots: Slots,
    old_slots: Slots,
    payments: Payments,
    released: Vec<(Vec<u8>, Vec<u8>)>,
    held: BTreeMap<OnceKey, PaymentKey>,
    /// The contradiction within the write, if there is one. A wrong fence or version counts before it.
    contradiction: Option<CommitError>,
}

/// The columns of slots.
#[derive(Default)]
struct Slots {
    lanes: Vec<String>,
    nonces: Vec<i64>,
    versions: Vec<i64>,
    used: Vec<bool>,
    rows: Vec<String>,
}

/// The columns of payments.
#[derive(Default)]
struct Payments {
    keys: Vec<Vec<u8>>,
    lanes: Vec<String>,
    versions: Vec<i64>,
    due: Vec<Option<i64>>,
    ready: Vec<bool>,
    keep_until: Vec<i64>,
    rows: Vec<String>,
}

impl Slots {
    fn push(&mut self, mut slot: Slot) -> Result<(), Fault> {
        self.lanes.push(slot.id.lane.to_string());
        self.nonces.push(number(slot.id.nonce));
        self.versions.push(number(slot.version));
        self.used.push(slot.used);
        slot.version = slot.version.saturating_add(1);
        self.rows.push(text(&slot)?);
        Ok(())
    }
}

impl Payments {
    fn push(&mut self, mut payment: Payment) -> Result<(), Fault> {
        self.keys.push(payment.key.as_bytes().to_vec());
        self.lanes.push(payment.lane.to_string());
        self.versions.push(number(payment.version));
        self.due.push(due(&payment));
        self.ready.push(is_ready(&payment));
        self.keep_until.push(number(payment.keep_until.0));
        payment.version = payment.version.saturating_add(1);
        self.rows.push(text(&payment)?);
        Ok(())
    }
}

impl Prepared {
    /// Checks what no row is needed for. A foreign row or a lease that is missing is `Fenced`, whatever else is wrong.
    fn of(write: Write) -> Result<Self, CommitError> {
        let Write { lease, next, mut payments, mut slots } = write;
        let is_allowed = match &lease {
            None => next.is_none() && slots.is_empty(),
            Some(lease) => {
                payments.iter().all(|payment| payment.lane == lease.lane)
                    && slots.iter().all(|slot| slot.id.lane == lease.lane)
            }
        };
        if !is_allowed {
            return Err(CommitError::Fenced);
        }
        payments.sort_by(|one, other| one.key.cmp(&other.key));
        slots.sort_by(|one, other| one.id.cmp(&other.id));
        let mut prepared = Self {
            lease,
            next,
            new_slots: Slots::default(),
            old_slots: Slots::default(),
            payments: Payments::default(),
            released: Vec::new(),
            held: BTreeMap::new(),
            contradiction: None,
        };
        for payment in &payments {
            let held: BTreeSet<&OnceKey> = payment.steps.iter().flat_map(Step::held).collect();
            let released: BTreeSet<&OnceKey> = payment.steps.iter().flat_map(Step::once_keys).collect();
            for once_key in released.difference(&held) {
                prepared.released.push((once_key.0.clone(), payment.key.as_bytes().to_vec()));
            }
        }
        prepared.released.sort();
        let twice = twice(&payments, &slots);
        let mut taken = None;
        for payment in &payments {
            for once_key in payment.steps.iter().flat_map(Step::held) {
                let holder = prepared.held.entry(once_key.clone()).or_insert_with(|| payment.key.clone());
                if *holder != payment.key {
                    taken = Some(once_key.clone());
                }
            }
        }
        for slot in slots {
            if slot.version == 0 { &mut prepared.new_slots } else { &mut prepared.old_slots }.push(slot)?;
        }
        for payment in payments {
            prepared.payments.push(payment)?;
        }
        prepared.contradiction = if twice { Some(CommitError::Conflict) } else { taken.map(CommitError::Taken) };
        Ok(prepared)
    }

    async fn run(&self, client: &ClientWrapper) -> Sql<()> {
        let (fence, (next, slots, payments, ())) = try_join(
            self.is_fenced(client),
            try_join4(self.moves(client), self.slots(client), self.payments(client), self.release(client)),
        )
        .await?;
        if fence {
            return Err(Abort::Refused(CommitError::Fenced));
        }
        if !(next && slots && payments) {
            return Err(Abort::Refused(CommitError::Conflict));
        }
        self.hold(client).await
    }

    /// Checks the fence and locks its row against a new owner. Other commits of the same worker only share the lock.
    async fn is_fenced(&self, client: &ClientWrapper) -> Sql<bool> {
        let Some(lease) = &self.lease else { return Ok(false) };
        let sql = "SELECT fence FROM x402_fences WHERE lane = $1 FOR SHARE";
        let rows = query(client, sql, &[&lease.lane.as_str()]).await?;
        let fence: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(fence != Some(number(lease.fence)))
    }

    async fn moves(&self, client: &ClientWrapper) -> Sql<bool> {
        let (Some(lease), Some(next)) = (&self.lease, self.next) else { return Ok(true) };
        let sql = "UPDATE x402_nonces SET next = $3 WHERE lane = $1 AND next = $2";
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&lease.lane.as_str(), &number(next.from), &number(next.to)];
        Ok(execute(client, sql, &values).await? == 1)
    }

    async fn slots(&self, client: &ClientWrapper) -> Sql<bool> {
        let (new, old) = (&self.new_slots, &self.old_slots);
        let insert = async {
            if new.rows.is_empty() {
                return Ok(0);
            }
            execute(
                client,
                "INSERT INTO x402_slots (lane, nonce, version, used, row)
                 SELECT n.lane, n.nonce, 1, n.used, n.row
                 FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::text[]) AS n (lane, nonce, used, row)
                 ON CONFLICT (lane, nonce) DO NOTHING",
                &[&new.lanes, &new.nonces, &new.used, &new.rows],
            )
            .await
        };
        let update = async {
            if old.rows.is_empty() {
                return Ok(0);
            }
            execute(
                client,
                "UPDATE x402_slots AS s SET version = n.version + 1, used = n.used, row = n.row
                 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[], $5::text[])
                   AS n (lane, nonce, version, used, row)
                 WHERE s.lane = n.lane AND s.nonce = n.nonce AND s.version = n.version",
                &[&old.lanes, &old.nonces, &old.versions, &old.used, &old.rows],
            )
            .await
        };
        let (inserted, updated) = try_join(insert, update).await?;
        Ok(inserted == count(&new.rows) && updated == count(&old.rows))
    }

    async fn payments(&self, client: &ClientWrapper) -> Sql<bool> {
        let new = &self.payments;
        if new.rows.is_empty() {
            return Ok(true);
        }
        // The ends are noted first, while the rows are as they were: if another process changes one of them in between, the
        // update does not find it, and nothing of the transaction stays.
        self.note_ends(client).await?;
        let updated = execute(
            client,
            "UPDATE x402_payments AS p SET lane = n.lane, version = n.version + 1, due = n.due, ready = n.ready,
               keep_until = n.keep_until, row = n.row
             FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[], $6::bigint[], $7::text[])
               AS n (key, lane, version, due, ready, keep_until, row)
             WHERE p.key = n.key AND p.version = n.version",
            &[&new.keys, &new.lanes, &new.versions, &new.due, &new.ready, &new.keep_until, &new.rows],
        )
        .await?;
        Ok(updated == count(&new.rows))
    }

    /// Notes the payments that have their end with this write, while webhooks are configured: [`crate::ended`].
    async fn note_ends(&self, client: &ClientWrapper) -> Sql<()> {
        let new = &self.payments;
        if new.due.iter().all(Option::is_some) {
            return Ok(());
        }
        execute(
            client,
            "INSERT INTO x402_ended (due, tries, row)
             SELECT 0, 0, n.row FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[])
               AS n (key, version, due, row)
             JOIN x402_payments AS p ON p.key = n.key AND p.version = n.version
             WHERE p.due IS NOT NULL AND n.due IS NULL AND EXISTS (SELECT 1 FROM x402_ended_switch)",
            &[&new.keys, &new.versions, &new.due, &new.rows],
        )
        .await?;
        Ok(())
    }

    /// Releases the once keys that these payments no longer hold, before any is taken: one may pass over.
    async fn release(&self, client: &ClientWrapper) -> Sql<()> {
        if self.released.is_empty() {
            return Ok(());
        }
        let (once_keys, payments): (Vec<&[u8]>, Vec<&[u8]>) =
            self.released.iter().map(|(once_key, payment)| (once_key.as_slice(), payment.as_slice())).unzip();
        execute(
            client,
            "DELETE FROM x402_once_keys
             WHERE (once_key, payment) IN (SELECT * FROM unnest($1::bytea[], $2::bytea[]))",
            &[&once_keys, &payments],
        )
        .await?;
        Ok(())
    }

    /// Takes the once keys that these payments hold.
    async fn hold(&self, client: &ClientWrapper) -> Sql<()> {
        if let Some(contradiction) = &self.contradiction {
            return Err(Abort::Refused(contradiction.clone()));
        }
        if self.held.is_empty() {
            return Ok(());
        }
        let (once_keys, payments): (Vec<&[u8]>, Vec<&[u8]>) =
            self.held.iter().map(|(once_key, payment)| (once_key.0.as_slice(), payment.as_bytes())).unzip();
        let insert: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&once_keys, &payments];
        let (_, rows) = try_join(
            execute(
                client,
                "INSERT INTO x402_once_keys (once_key, payment)
                 SELECT n.once_key, n.payment FROM unnest($1::bytea[], $2::bytea[]) AS n (once_key, payment)
                 ON CONFLICT (once_key) DO NOTHING",
                &insert,
            ),
            query(
                client,
                "SELECT once_key, payment FROM x402_once_keys WHERE once_key IN (SELECT unnest($1::bytea[]))",
                &[&once_keys],
            ),
        )
        .await?;
        let mut holders = BTreeMap::new();
        for row in &rows {
            holders.insert(row.try_get::<_, &[u8]>(0)?, row.try_get::<_, &[u8]>(1)?);
        }
        for (once_key, payment) in &self.held {
            match holders.get(once_key.0.as_slice()) {
                Some(holder) if *holder == payment.as_bytes() => {}
                Some(_) => return Err(Abort::Refused(CommitError::Taken(once_key.clone()))),
                // The holder has released it between the two statements.
                None => return Err(Abort::Unstable),
            }
        }
        Ok(())
    }
}

/// Returns whether the write contains a row twice.
fn twice(payments: &[Payment], slots: &[Slot]) -> bool {
    let keys: BTreeSet<&PaymentKey> = payments.iter().map(|payment| &payment.key).collect();
    let ids: BTreeSet<&SlotId> = slots.iter().map(|slot| &slot.id).collect();
    keys.len() < payments.len() || ids.len() < slots.len()
}

fn count<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}
