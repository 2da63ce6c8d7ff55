//! The catalog of resources in a PostgreSQL database, with its own [full-text
//! search](https://www.postgresql.org/docs/15/textsearch.html).
//!
//! Words are split and written in lower case before they reach the database, and lose their accents in it, so that they
//! are the same in every locale, and the same as in a file.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use x402_extensions::bazaar::Listing;
use x402_types::{Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};
use crate::catalog::{Catalog, CatalogFilter, Columns, Listed, Page, all_words, cut, words};

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

const PUT: &str = "INSERT INTO x402_listings (identity, type, network, scheme, pay_to, listing, words, updated)
     VALUES (sha256(convert_to($1, 'UTF8')), $2, $3, $4, $5, $6,
             to_tsvector('simple', regexp_replace(normalize($7, NFKD), '[\\u0300-\\u036f]', '', 'g')), $8)
     ON CONFLICT (identity) DO UPDATE
     SET type = EXCLUDED.type, network = EXCLUDED.network, scheme = EXCLUDED.scheme, pay_to = EXCLUDED.pay_to,
         listing = EXCLUDED.listing, words = EXCLUDED.words, updated = EXCLUDED.updated";

const COUNT: &str = "SELECT count(*) FROM x402_listings
     WHERE ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
       AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)";

const LIST: &str = "SELECT listing, updated FROM x402_listings
     WHERE ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
       AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)
     ORDER BY updated DESC, id DESC LIMIT $5 OFFSET $6";

const SEARCH: &str = "SELECT listing, updated
     FROM x402_listings,
          to_tsquery('simple', regexp_replace(normalize($7, NFKD), '[\\u0300-\\u036f]', '', 'g')) AS wanted
     WHERE words @@ wanted
       AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR network = $2)
       AND ($3::text IS NULL OR scheme = $3) AND ($4::text IS NULL OR pay_to = $4)
     ORDER BY ts_rank(words, wanted) DESC, updated DESC, id DESC LIMIT $5 OFFSET $6";

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
    let updated = number(now.0);
    execute(client, PUT, &[&identity, &listing.r#type, &network, &scheme, &pay_to, &text, &words, &updated]).await?;
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
    let rows = query(client, SEARCH, &[&kind, &network, &scheme, &pay_to, &limit, &offset, &wanted]).await?;
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
