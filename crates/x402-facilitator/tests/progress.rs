//! Long work shows itself in the log: what a stop finishes, what a former process left, and a migration.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;

use rusqlite::Connection;
use x402_devchain::{DevChain, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post, tls};

#[tokio::test(flavor = "multi_thread")]
async fn draining_recovery_and_migration_are_in_the_log() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let (ledger, log) = (folder.path().join("ledger.sqlite"), folder.path().join("log"));
    let config = configuration(folder.path(), &ledger);
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    // The colours of the log stand between a field's name and its value.
    let plain = || {
        let text = fs::read_to_string(&log).unwrap();
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
    };
    let logged = async |what: &str| at_last(what, async || plain().contains(what)).await;

    let mut facilitator = Facilitator::start_logging(&config, &node.url, &log);
    let (_, request) = payment(1, chain.time()).await;
    let url = format!("{}/settle", facilitator.url);
    let caller = tokio::spawn(async move { drop(post(&url, &request).await) });
    at_last("a transaction", async || chain.calls().of("eth_sendRawTransaction") > 0).await;
    facilitator.signal("TERM");
    logged("stopping: open payments are finished first open=1").await;
    // A supervisor that has no patience.
    facilitator.kill();
    drop(caller.await);

    // What a release before the newest schema leaves.
    let file = Connection::open(&ledger).unwrap();
    let older = "DROP TABLE kept_answers; PRAGMA user_version = 7;";
    file.execute_batch(older).unwrap();
    drop(file);
    let facilitator = Facilitator::start_logging(&config, &node.url, &log);
    logged("the ledger's tables are migrated from=7 to=8").await;
    logged("payments of a former process are taken up open=1").await;
    chain.mine(1);
    logged("the payments of a former process have their end of=1").await;
    assert_eq!(chain.transfers().len(), 1);
    drop(facilitator);
}
