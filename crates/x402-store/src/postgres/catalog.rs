//! The catalog of resources in a PostgreSQL database, with its own [full-text
//! search](https://www.postgresql.org/docs/15/textsearch.html).
//!
//! Words are split and written in lower case before they reach the database, and lose their accents in it, so that they
//! are the same in every locale, and the same as in a file.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use x402_extensions::bazaar::Listing;
use x402_types::{Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query, query_planned};
use super::{natural, number};
use crate::catalog::{Catalog, CatalogFilter, Columns, Listed, MAX_ACCOUNTS, Page, RANKED, all_words, cut, words};

/// A catalog in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresCatalog(Postgres);

impl PostgresCatalog {
    /// Creates the store in this database. A search may take as long as many writes, so that a catalog beside a ledger has
    /// connections of its own.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, Abort<Fault>>;

/// Stores a listing, and forgets those of its resource that were paid longest ago where there are too many.
const PUT: &str = "WITH forgotten AS (
       DELETE FROM x402_listings WHERE id IN (
         SELECT id FROM x402_listings
         WHERE identity = sha256(convert_to($1, 'UTF8')) AND (network, pay_to) <> ($3, $5)
         ORDER BY updated DESC, id DESC OFFSET $9)
     )
     INSERT INTO x402_listings (identity, type, network, scheme, pay_to, listing, words, updated)
     VALUES (sha256(convert_to($1, 'UTF8')), $2, $3, $4, $5, $6,
             to_tsvector('simple', regexp_replace(normalize($7, NFKD), '[\\u0300-\\u036f]', '', 'g')), $8)
     ON CONFLICT (identity, network, pay_to) DO UPDATE
     SET type = EXCLUDED.type, scheme = EXCLUDED.scheme, listing = EXCLUDED.listing, words = EXCLUDED.words,
         updated = EXCLUDED.updated";

const COUNT: &str = "SELECT count(*) FROM x402_listings
     WHERE ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
       AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)";

const LIST: &str = "SELECT listing, updated FROM x402_listings
     WHERE ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
       AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)
     ORDER BY updated DESC, id DESC LIMIT $5 OFFSET $6";

/// The newest matches are found first, and only their ranks are computed.
const SEARCH: &str = "WITH wanted AS (
       SELECT to_tsquery('simple', regexp_replace(normalize($7, NFKD), '[\\u0300-\\u036f]', '', 'g')) AS query
     ), newest AS (
       SELECT id, listing, updated, words FROM x402_listings
       WHERE words @@ to_tsquery('simple', regexp_replace(normalize($7, NFKD), '[\\u0300-\\u036f]', '', 'g'))
         AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
         AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)
       ORDER BY updated DESC, id DESC LIMIT $8
     )
     SELECT listing, updated FROM (
       SELECT listing, updated, id, ts_rank(words, query) AS score,
              (row_number() OVER (ORDER BY updated DESC, id DESC) - 1) / $9 AS block
       FROM newest, wanted
     ) AS ranked
     ORDER BY block, score DESC, updated DESC, id DESC LIMIT $5 OFFSET $6";

/// The texts of a filter, in the order of the statements' first parameters.
struct Texts([Option<String>; 4]);

impl Texts {
    fn of(filter: &CatalogFilter) -> Self {
        Self([
            filter.r#type.clone(),
            filter.network.map(|network| network.to_string()),
            filter.scheme.clone(),
            filter.pay_to.as_ref().map(|account| account.to_lowercase()),
        ])
    }
}

fn listed(row: &Row) -> Sql<Listed> {
    let listing = serde_json::from_str(row.try_get(0)?).map_err(|why| Abort::Refused(Fault::store(why)))?;
    Ok(Listed::new(listing, UnixSeconds(natural(row.try_get(1)?))))
}

async fn put(client: &ClientWrapper, listing: &Listing, now: UnixSeconds) -> Sql<()> {
    let Columns { network, scheme, pay_to, text } = Columns::of(listing).map_err(Abort::Refused)?;
    let words = all_words(&listing.words());
    let identity = listing.identity();
    let (updated, others) = (number(now.0), i64::from(MAX_ACCOUNTS.saturating_sub(1)));
    execute(client, PUT, &[&identity, &listing.r#type, &network, &scheme, &pay_to, &text, &words, &updated, &others])
        .await?;
    Ok(())
}

async fn list(
    client: &ClientWrapper,
    Texts([kind, network, scheme, pay_to]): Texts,
    page: Page,
) -> Sql<(Vec<Listed>, u64)> {
    let counted = query(client, COUNT, &[&kind, &network, &scheme, &pay_to]).await?;
    let total = counted.first().map_or(Ok(0), |row| row.try_get(0))?;
    let (limit, offset) = (i64::from(page.limit), i64::from(page.offset));
    let rows = query(client, LIST, &[&kind, &network, &scheme, &pay_to, &limit, &offset]).await?;
    Ok((rows.iter().map(listed).collect::<Sql<_>>()?, natural(total)))
}

async fn search(
    client: &ClientWrapper,
    wanted: &str,
    Texts([kind, network, scheme, pay_to]): Texts,
    page: Page,
) -> Sql<(Vec<Listed>, bool)> {
    let (limit, offset) = (i64::from(page.limit.saturating_add(1)), i64::from(page.offset));
    let (newest, ranked) = (i64::from(page.newest()), i64::from(RANKED));
    let texts = [&kind, &network, &scheme, &pay_to].map(|text| (text as &(dyn ToSql + Sync), Type::TEXT));
    let mut values = texts.to_vec();
    values.extend([(&limit as &(dyn ToSql + Sync), Type::INT8), (&offset, Type::INT8), (&wanted, Type::TEXT)]);
    values.extend([(&newest as &(dyn ToSql + Sync), Type::INT8), (&ranked, Type::INT8)]);
    let rows = query_planned(client, SEARCH, &values).await?;
    Ok(cut(rows.iter().map(listed).collect::<Sql<_>>()?, page))
}

#[async_trait]
impl Catalog for PostgresCatalog {
    async fn put(&self, listing: &Listing, now: UnixSeconds) -> Result<(), Fault> {
        let listing = Arc::new(listing.clone());
        self.0
            .run(Kind::Single { writes: true }, |client| {
                let listing = Arc::clone(&listing);
                Box::pin(async move { put(client, &listing, now).await })
            })
            .await
    }

    async fn list(&self, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, u64), Fault> {
        if filter.excludes_all() {
            return Ok((Vec::new(), 0));
        }
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let texts = Texts::of(filter);
                Box::pin(async move { list(client, texts, page).await })
            })
            .await
    }

    async fn search(&self, text: &str, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, bool), Fault> {
        if filter.excludes_all() {
            return Ok((Vec::new(), false));
        }
        // A word has letters and digits alone, so that none of it is read as the database's own syntax.
        let wanted: Vec<String> = words(text).map(|word| format!("{word}:*")).collect();
        if wanted.is_empty() {
            return Ok((Vec::new(), false));
        }
        let wanted: Arc<str> = wanted.join(" & ").into();
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let (texts, wanted) = (Texts::of(filter), Arc::clone(&wanted));
                Box::pin(async move { search(client, &wanted, texts, page).await })
            })
            .await
    }
}
