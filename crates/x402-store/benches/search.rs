//! Searches over 100,000 resources, on SQLite and on PostgreSQL: prints the median and the 95th percentile of each kind.
//!
//! `cargo bench -p x402-store --bench search [-- RESOURCES]`

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a bench"
)]

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use x402_extensions::bazaar::Listing;
use x402_store::catalog::{Catalog, CatalogFilter, Page};
use x402_store::postgres::{Postgres, PostgresCatalog};
use x402_store::sqlite::{Database, SqliteCatalog};
use x402_testkit::postgres::{Fsync, PostgresServer};
use x402_types::UnixSeconds;

/// The number of words by which resources are described.
const WORDS: u64 = 5_000;
const TURNS: usize = 101;
const PARTS: [&str; 20] = [
    "we", "na", "to", "ri", "ka", "mo", "se", "lu", "pi", "do", "fa", "ge", "hi", "jo", "cu", "ve", "za", "bo", "ty",
    "xe",
];

/// A sequence that is the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns the word of rank r with a probability of about 1/r, as in texts of people.
    fn word(&mut self) -> String {
        let unit = (self.next() % 1_000_000) as f64 / 1_000_000.0;
        word((WORDS as f64).powf(unit) as u64)
    }
}

/// Returns the word of a rank. Words share their beginnings.
fn word(rank: u64) -> String {
    let mut text = String::new();
    let mut rest = rank.wrapping_mul(2_654_435_761) % 160_000;
    for _ in 0..4 {
        text.push_str(PARTS[(rest % 20) as usize]);
        rest /= 20;
    }
    text
}

fn listing(number: u64, numbers: &mut Numbers) -> Listing {
    let description: Vec<String> = (0..12).map(|_| numbers.word()).collect();
    let network = if number.is_multiple_of(3) { "eip155:8453" } else { "eip155:84532" };
    serde_json::from_value(json!({
        "resource": format!("https://api{}.example.com/{}/{number}", number % 977, numbers.word()), "type": "http",
        "x402Version": 2, "method": "GET", "description": description.join(" "), "serviceName": numbers.word(),
        "tags": [numbers.word(), numbers.word()],
        "accepts": [{"scheme": "exact", "network": network, "amount": "1000", "payTo": format!("0x{number:040x}"),
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "maxTimeoutSeconds": 60}],
        "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}},
            "schema": {"type": "object", "properties": {"input": {"type": "object"}}}}},
    }))
    .unwrap()
}

async fn fill(catalog: &Arc<dyn Catalog>, resources: u64) {
    let mut numbers = Numbers(88_172_645_463_325_252);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..resources {
        if running.len() >= 64 {
            running.join_next().await.unwrap().unwrap();
        }
        let (catalog, listing) = (Arc::clone(catalog), listing(number, &mut numbers));
        running.spawn(async move { catalog.put(&listing, UnixSeconds(1_795_000_000 + number)).await.unwrap() });
    }
    running.join_all().await;
}

async fn measure(name: &str, catalog: &dyn Catalog) {
    let mut on_base = CatalogFilter::default();
    on_base.network = Some("eip155:8453".parse().unwrap());
    let all = CatalogFilter::default();
    let mut numbers = Numbers(362_436_069);
    for (kind, filter) in [
        ("two words", &all),
        ("one word", &all),
        ("one word and a network", &on_base),
        ("the most common word", &all),
        ("a beginning of two letters", &all),
        ("a beginning of one letter", &all),
        ("no match", &all),
        ("a page of the list", &all),
    ] {
        let mut times = Vec::new();
        let mut found = 0;
        for turn in 0..TURNS {
            let words = match kind {
                "two words" => format!("{} {}", numbers.word(), numbers.word()),
                "one word" | "one word and a network" => numbers.word(),
                "the most common word" => word(1),
                "a beginning of two letters" => word(2 + turn as u64)[..2].to_owned(),
                "a beginning of one letter" => word(2 + turn as u64)[..1].to_owned(),
                _ => "qqqqqq".to_owned(),
            };
            let begun = Instant::now();
            found += if kind == "a page of the list" {
                catalog.list(filter, Page::new(turn as u32 * 20, 20)).await.unwrap().0.len()
            } else {
                catalog.search(&words, filter, Page::new(0, 20)).await.unwrap().0.len()
            };
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let ms = |at: usize| times[at].as_secs_f64() * 1_000.0;
        let found = found as f64 / TURNS as f64;
        println!("| {name} | {kind} | {:.2} | {:.2} | {found:.1} |", ms(TURNS / 2), ms(TURNS * 95 / 100));
    }
}

#[tokio::main]
async fn main() {
    let resources = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    println!("| {resources} resources | search | median, ms | 95 %, ms | matches on the page |\n|---|---|--:|--:|--:|");
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path().join("ledger.sqlite")).unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::new(database.with_own_reader().unwrap()));
    fill(&catalog, resources).await;
    measure("SQLite", &*catalog).await;
    let server = PostgresServer::start(Fsync::Off).unwrap();
    let url = server.url("postgres");
    let database = Postgres::open(&url.parse().unwrap(), Postgres::CONNECTIONS).await.unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(PostgresCatalog::new(database));
    fill(&catalog, resources).await;
    // As autovacuum does within a minute.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("VACUUM ANALYZE x402_listings").await.unwrap();
    measure("PostgreSQL", &*catalog).await;
}
