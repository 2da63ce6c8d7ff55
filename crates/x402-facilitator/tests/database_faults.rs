//! What goes wrong around a facilitator, with real processes: each fault ends in a state that is defined, and in one line of
//! the log. A restarted database and a stopped process are in `replicas.rs`, endpoints
//! in one process that disagree in `x402-evm/tests/on_devchain/endpoints.rs`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "../../x402-store/tests/support/proxy.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod proxy;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use x402_devchain::{DevChain, DevNode};
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::proxy::{Line, Proxy};
use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post_named, tls};

static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A chain, a database behind a proxy, and the configuration of every process on them.
struct Stage {
    directory: tempfile::TempDir,
    config: PathBuf,
    chain: DevChain,
    node: DevNode,
    proxy: Proxy,
    database: Client,
}

impl Stage {
    async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        tls();
        let name = format!("faults{}", NEXT.fetch_add(1, Ordering::Relaxed));
        session(&SERVER.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (url, proxy) = (SERVER.url(&name), Proxy::start(SERVER.port()).await);
        let through = url.replace(&format!(":{}/", SERVER.port()), &format!(":{}/", proxy.port));
        let directory = tempfile::tempdir().unwrap();
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let config = configuration(directory.path(), Path::new(&through));
        Self { directory, config, chain, node, proxy, database: session(&url).await }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How many lines of a log contain these words.
    fn lines(&self, name: &str, words: &str) -> usize {
        let text = std::fs::read_to_string(self.log(name)).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }

    /// Starts a process that has its lane.
    async fn start(&self) -> Facilitator {
        let process = Facilitator::start_logging(&self.config, &self.node.url, &self.log("log"));
        at_last("a worker", async || self.number("SELECT count(*) FROM x402_leases").await == 1).await;
        process
    }

    async fn number(&self, sql: &str) -> i64 {
        self.database.query_opt(sql, &[]).await.ok().flatten().map_or(0, |row| row.get(0))
    }

    async fn body(&self, payer: usize) -> String {
        serde_json::to_string(&payment(payer, self.chain.time()).await.1).unwrap()
    }

    /// Asks until the answer is a success, which it is at last; nothing else than unknown may be said before.
    async fn settled(&self, at: &Facilitator, body: &str, name: &str) -> Value {
        let mut told = Value::Null;
        at_last("a success", async || {
            let (status, said) = post_named(&format!("{}/settle", at.url), body.to_owned(), name).await.unwrap();
            let pending = said["errorReason"] == "settlement_pending" || said["errorReason"] == "duplicate_settlement";
            assert!(said["success"] == true || pending || status == 503, "{name}: {status} {said}");
            told = said;
            told["success"] == true
        })
        .await;
        told["transaction"].clone()
    }
}

const FAILS: &str = "the database fails";
const WORKS: &str = "the database works again";

/// The commit happened, or did not, and nobody knows: the payment is unknown, is read again, and is settled once.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_unknown_and_settles_once() {
    for line in [Line::CutAfterCommit, Line::CutBeforeCommit] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        let body = stage.body(1).await;
        let cuts = stage.proxy.cuts();
        stage.proxy.set(line);
        let (url, sent) = (format!("{}/settle", process.url), body.clone());
        let first = tokio::spawn(async move { post_named(&url, sent, "lost").await });
        at_last("a lost commit", async || stage.proxy.cuts() > cuts).await;
        stage.proxy.set(Line::Whole);
        let (status, said) = first.await.unwrap().unwrap();
        let unknown = said["success"] == true || said["errorReason"] == "settlement_pending" || status == 503;
        assert!(unknown, "{line:?}: {status} {said}");
        let transaction = stage.settled(&process, &body, "lost").await;
        if said["success"] == true {
            assert_eq!(said["transaction"], transaction, "{line:?}");
        }
        assert_eq!(stage.chain.transfers().len(), 1, "{line:?}");
        at_last("the log", async || stage.lines("log", WORKS) == 1).await;
        assert_eq!(stage.lines("log", FAILS), 1, "{line:?}");
    }
}

/// A network that loses every packet between the process and its database.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_costs_no_payment() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let body = stage.body(1).await;
    stage.proxy.set(Line::Dead);
    let (status, said) = post_named(&format!("{}/settle", process.url), body.clone(), "cut off").await.unwrap();
    assert_eq!((status, &said["errorReason"]), (503, &Value::from("unexpected_settle_error")), "{said}");
    assert!(stage.chain.transfers().is_empty());
    stage.proxy.set(Line::Whole);
    stage.settled(&process, &body, "cut off").await;
    assert_eq!(stage.chain.transfers().len(), 1);
    // What was sent on a connection meanwhile is lost for good, and each of them may be found out by itself.
    at_last("the log", async || stage.lines("log", WORKS) == stage.lines("log", FAILS)).await;
    assert!((1..=8).contains(&stage.lines("log", FAILS)), "at most one for each connection");
}

/// Two seconds for each statement that writes what belongs to a payment or a lane, longer than the third of a lease after
/// which it is renewed.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_two_seconds_a_statement_settles_and_keeps_its_lane() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let body = stage.body(1).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$";
    stage.database.batch_execute(slow).await.unwrap();
    for table in ["payments", "slots", "leases"] {
        let on = format!(
            "CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON x402_{table} FOR EACH STATEMENT EXECUTE FUNCTION slow()"
        );
        stage.database.batch_execute(&on).await.unwrap();
    }
    stage.settled(&process, &body, "slow").await;
    assert_eq!(stage.chain.transfers().len(), 1);
    assert_eq!(stage.number("SELECT fence FROM x402_leases").await, 1, "it kept its lane");
    assert_eq!(stage.lines("log", FAILS), 0);
}

/// PostgreSQL's own error of a full disk, at each write of a payment.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_refuses_new_payments_and_loses_none() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let (before, after) = (stage.body(1).await, stage.body(2).await);
    let known = stage.settled(&process, &before, "before").await;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON x402_payments FOR EACH ROW EXECUTE FUNCTION full_disk()";
    stage.database.batch_execute(full).await.unwrap();
    let (status, said) = post_named(&format!("{}/settle", process.url), after.clone(), "after").await.unwrap();
    assert_eq!((status, &said["errorReason"]), (503, &Value::from("unexpected_settle_error")), "{said}");
    let (_, again) = post_named(&format!("{}/settle", process.url), before, "before").await.unwrap();
    assert_eq!(again["transaction"], known, "reads go on: {again}");
    assert_eq!(stage.chain.transfers().len(), 1);
    assert!(stage.lines("log", "No space left on device") >= 1);
    stage.database.batch_execute("DROP TRIGGER full_disk ON x402_payments").await.unwrap();
    stage.settled(&process, &after, "after").await;
    assert_eq!(stage.chain.transfers().len(), 2);
}

/// What moves the clock of a process: it is loaded before the C library.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    const char *offset = getenv("CLOCK_OFFSET");
    if (result == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += atol(offset);
    return result;
}
"#;

/// Compiles it, as CI compiles SQLite.
fn clock(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    library
}

/// The clocks of two processes are 60 s apart. The lease is by the database's clock: the one that is ahead takes nothing
/// from the one that is behind, and each takes over from the other when that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_a_minute_apart_change_nothing() {
    let stage = Stage::new().await;
    let library = clock(stage.directory.path()).display().to_string();
    let start = |offset: &str, log: &str| {
        let environment = [("LD_PRELOAD", library.as_str()), ("CLOCK_OFFSET", offset)];
        Facilitator::start_with(&stage.config, &stage.node.url, &stage.log(log), &environment)
    };
    const FENCE: &str = "SELECT fence FROM x402_leases";
    const UNTIL: &str = "SELECT EXTRACT(EPOCH FROM until)::bigint FROM x402_leases";
    let mut behind = start("-30", "behind");
    at_last("a worker", async || stage.number(FENCE).await == 1).await;
    let ahead = start("30", "ahead");
    // The lease is renewed twice, and the other one has seen it run all the while.
    for _ in 0..2 {
        let until = stage.number(UNTIL).await;
        at_last("a renewal", async || stage.number(UNTIL).await > until).await;
    }
    for (process, payer) in [(&behind, 1), (&ahead, 2)] {
        let body = stage.body(payer).await;
        stage.settled(process, &body, &format!("payer {payer}")).await;
    }
    assert_eq!(stage.number(FENCE).await, 1, "the one ahead took nothing");
    behind.kill();
    let body = stage.body(3).await;
    stage.settled(&ahead, &body, "payer 3").await;
    assert_eq!(stage.number(FENCE).await, 2);
    let behind = start("-30", "behind again");
    drop(ahead);
    let body = stage.body(4).await;
    stage.settled(&behind, &body, "payer 4").await;
    assert_eq!((stage.number(FENCE).await, stage.chain.transfers().len()), (3, 4), "a transfer a payment");
    assert_eq!(stage.number("SELECT count(*) FROM x402_payments WHERE due IS NOT NULL").await, 0);
    for log in ["behind", "ahead", "behind again"] {
        assert_eq!(stage.lines(log, FAILS), 0, "{log}");
    }
}

/// Two nodes of one network with different blocks: nothing is proven until one of them is gone, and the log says why once.
#[tokio::test(flavor = "multi_thread")]
async fn two_endpoints_that_disagree_prove_nothing_until_one_is_gone() {
    let stage = Stage::new().await;
    // The first block of both is the same.
    let first: Value = stage.chain.client().request("eth_getBlockByNumber", ("0x0", false)).await.unwrap();
    let began = u64::from_str_radix(first["timestamp"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let other = DevChain::builder().time(began).build().unwrap();
    let second = other.serve("127.0.0.1:0").await.unwrap();
    let text = std::fs::read_to_string(&stage.config).unwrap();
    let both = text.replace("finality = 0", "finality = 0\nfurther_rpc = [{ env = \"TEST_SECOND\" }]");
    std::fs::write(&stage.config, both.replace("lease_seconds = 5", "lease_seconds = 5\nsettle_wait_seconds = 1"))
        .unwrap();
    let process =
        Facilitator::start_with(&stage.config, &stage.node.url, &stage.log("log"), &[("TEST_SECOND", &second.url)]);
    let body = stage.body(1).await;
    // From here on their blocks of one number differ.
    let _: Value = other.client().request("evm_increaseTime", (100_u64,)).await.unwrap();
    other.mine(40);
    stage.chain.mine(30);
    at_last("the log", async || stage.lines("log", "two endpoints disagree") > 0).await;
    let (status, said) = post_named(&format!("{}/settle", process.url), body.clone(), "two").await.unwrap();
    assert!(said["errorReason"] == "settlement_pending" || status == 503, "{status} {said}");
    drop((second, other));
    stage.settled(&process, &body, "two").await;
    assert_eq!(stage.chain.transfers().len(), 1);
    assert_eq!(stage.lines("log", "the head could not be read"), 1);
    at_last("the log", async || stage.lines("log", "the head can be read again") == 1).await;
}
