//! The catalog of resources in the ledger's SQLite file, with SQLite's own full-text search
//! ([FTS5](https://www.sqlite.org/fts5.html)).

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};
use x402_extensions::bazaar::Listing;
use x402_types::{Fault, UnixSeconds};

use super::Database;
use crate::catalog::{Catalog, CatalogFilter, Columns, Listed, MAX_ACCOUNTS, Page, RANKED, cut, words};

/// A catalog in the ledger's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog(Database);

impl SqliteCatalog {
    /// Creates the store in this file. A search may take as long as many reads, so that a catalog beside a ledger has
    /// [a reader of its own](Database::with_own_reader).
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

fn put(transaction: &Transaction<'_>, listing: &Listing, columns: &Columns, now: UnixSeconds) -> Sql<()> {
    let Columns { network, scheme, pay_to, text } = columns;
    let updated = i64::try_from(now.0).unwrap_or(i64::MAX);
    let identity = listing.identity();
    let known: Option<i64> = transaction
        .prepare_cached("SELECT id FROM listings WHERE identity = ?1 AND network = ?2 AND pay_to = ?3")?
        .query_row([&identity, network, pay_to], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        delete(transaction, id)?;
    }
    // A new number, by which the words are in the order of payments.
    transaction
        .prepare_cached(
            "INSERT INTO listings (identity, type, network, scheme, pay_to, listing, updated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![identity, listing.r#type, network, scheme, pay_to, text, updated])?;
    let id = transaction.last_insert_rowid();
    transaction
        .prepare_cached("INSERT INTO listing_words (rowid, text) VALUES (?1, ?2)")?
        .execute(params![id, listing.words()])?;
    if known.is_none() {
        let mut surplus = transaction
            .prepare_cached("SELECT id FROM listings WHERE identity = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2")?;
        let surplus =
            surplus.query_map(params![identity, MAX_ACCOUNTS], |row| row.get(0))?.collect::<Sql<Vec<i64>>>()?;
        surplus.into_iter().try_for_each(|id| delete(transaction, id))?;
    }
    Ok(())
}

fn delete(transaction: &Transaction<'_>, id: i64) -> Sql<()> {
    transaction.prepare_cached("DELETE FROM listing_words WHERE rowid = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM listings WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn listed(row: &Row<'_>) -> Sql<Listed> {
    let text: String = row.get(0)?;
    let bad = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    let at = UnixSeconds(u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default());
    Ok(Listed::new(serde_json::from_str(&text).map_err(bad)?, at))
}

/// Returns the condition of a filter, with numbered parameters after those that the statement has itself.
fn condition(filter: &CatalogFilter, from: usize) -> (String, Vec<String>) {
    let network = filter.network.map(|network| network.to_string());
    let pay_to = filter.pay_to.as_ref().map(|account| account.to_lowercase());
    let columns =
        [("type", filter.r#type.clone()), ("network", network), ("scheme", filter.scheme.clone()), ("pay_to", pay_to)];
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (column, value) in columns {
        if let Some(value) = value {
            values.push(value);
            sql.push_str(&format!(" AND l.{column} = ?{}", from.saturating_add(values.len())));
        }
    }
    (sql, values)
}

fn list(connection: &Connection, filter: &CatalogFilter, page: Page) -> Sql<(Vec<Listed>, u64)> {
    let (condition, values) = condition(filter, 0);
    let all: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    let count = format!("SELECT count(*) FROM listings l WHERE 1{condition}");
    let total: i64 = connection.prepare_cached(&count)?.query_row(&all[..], |row| row.get(0))?;
    let (condition, values) = self::condition(filter, 2);
    let mut all: Vec<&dyn ToSql> = vec![&page.limit, &page.offset];
    all.extend(values.iter().map(|value| value as &dyn ToSql));
    let sql = format!(
        "SELECT l.listing, l.updated FROM listings l WHERE 1{condition} ORDER BY l.updated DESC, l.id DESC LIMIT ?1 OFFSET ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(&all[..], listed)?.collect::<Sql<Vec<_>>>()?;
    Ok((found, u64::try_from(total).unwrap_or_default()))
}

fn search(connection: &Connection, text: &str, filter: &CatalogFilter, page: Page) -> Sql<(Vec<Listed>, bool)> {
    // A word has letters and digits alone, so that none of it is read as FTS5's own syntax.
    let query: Vec<String> = words(text).map(|word| format!("\"{word}\"*")).collect();
    if query.is_empty() {
        return Ok((Vec::new(), false));
    }
    let query = query.join(" ");
    let (condition, values) = condition(filter, 5);
    let (limit, newest) = (page.limit.saturating_add(1), page.newest());
    let mut all: Vec<&dyn ToSql> = vec![&query, &limit, &page.offset, &newest, &RANKED];
    all.extend(values.iter().map(|value| value as &dyn ToSql));
    // The newest matches are found by the words alone, and only their ranks are computed: a word of half of the resources
    // is as quick to find as a rare one.
    let filtered = if values.is_empty() { "" } else { " JOIN listings l ON l.id = w.rowid" };
    let sql = format!(
        "WITH newest AS (
           SELECT w.rowid AS id, w.rank AS score FROM listing_words w{filtered}
           WHERE w.text MATCH ?1{condition} ORDER BY w.rowid DESC LIMIT ?4
         ), ranked AS (
           SELECT id, score, (row_number() OVER (ORDER BY id DESC) - 1) / ?5 AS block FROM newest
           ORDER BY block, score, id DESC LIMIT ?2 OFFSET ?3
         )
         SELECT l.listing, l.updated FROM ranked r JOIN listings l ON l.id = r.id ORDER BY r.block, r.score, r.id DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(cut(statement.query_map(&all[..], listed)?.collect::<Sql<_>>()?, page))
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn put(&self, listing: &Listing, now: UnixSeconds) -> Result<(), Fault> {
        let columns = Columns::of(listing)?;
        let listing = listing.clone();
        self.0
            .write(move |transaction| Ok::<_, super::WriteError<Fault>>(put(transaction, &listing, &columns, now)?))
            .await
    }

    async fn list(&self, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, u64), Fault> {
        if filter.excludes_all() {
            return Ok((Vec::new(), 0));
        }
        let filter = filter.clone();
        self.0.read(move |connection| list(connection, &filter, page)).await
    }

    async fn search(&self, words: &str, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, bool), Fault> {
        if filter.excludes_all() {
            return Ok((Vec::new(), false));
        }
        let (words, filter) = (words.to_owned(), filter.clone());
        self.0.read(move |connection| search(connection, &words, &filter, page)).await
    }
}
