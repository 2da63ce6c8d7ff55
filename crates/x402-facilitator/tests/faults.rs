//! Faults of the machine and of strangers: many idle connections, a full disk, one that becomes read-only, a place that
//! cannot be written.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::net::TcpSocket;
use x402_devchain::{DevChain, DevNode, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post, post_named, tls};

async fn place(folder: &Path) -> (DevNode, PathBuf) {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    (node, configuration(folder, &folder.join("ledger.sqlite")))
}

async fn settle(facilitator: &Facilitator, node: &DevNode) -> (u16, bool) {
    let (_, request) = payment(1, node.chain.time()).await;
    let (status, answer) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
    (status, answer["success"] == true)
}

/// The resident memory of a process in kilobytes.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_leave_room_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (node, config) = place(folder.path()).await;
    let facilitator = Facilitator::start(&config, &node.url);
    let address = facilitator.url.split_once("://").unwrap().1.parse().unwrap();
    assert_eq!(settle(&facilitator, &node).await, (200, true));
    let before = memory(facilitator.child.id());
    // From twenty addresses, none of which is the payer's: all of 127.0.0.0/8 is this machine's.
    let mut idle = Vec::new();
    for n in 0..10_000_u32 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("127.0.1.{}:0", 1 + n % 20).parse().unwrap()).unwrap();
        idle.push(socket.connect(address).await.unwrap());
    }
    // The most connections are 4,096 of all, and those beyond them are closed: the payer may have to come again.
    let grown = memory(facilitator.child.id()).saturating_sub(before);
    assert!(grown < 256 * 1024, "{grown} kB");
    drop(idle);
    at_last("a payment", async || {
        let (_, request) = payment(1, node.chain.time()).await;
        matches!(post(&format!("{}/settle", facilitator.url), &request).await, Ok((200, answer)) if answer["success"] == true)
    })
    .await;
}

/// Starts a process that may write files of this length alone: a disk that is full.
fn start_limited(config: &Path, node: &DevNode, kilobytes: u64) -> Facilitator {
    // The signal that a too long file gives by default would end the process, which a full disk does not do.
    let script = format!("trap '' XFSZ; ulimit -S -f {kilobytes}; exec \"$0\" serve --config \"$1\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_x402-facilitator")]).arg(config);
    command.env("RUST_LOG", "off").env("TEST_RPC", &node.url);
    command.env("TEST_KEY", x402_devchain::ACCOUNTS[0].key.to_string()).stderr(Stdio::null());
    Facilitator::spawn(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_payments_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let (node, config) = place(folder.path()).await;
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("settle_wait_seconds = 1\n{text}")).unwrap();
    let facilitator = start_limited(&config, &node, 512);
    // The disk is full after some payments. What was begun is pending, what is new is 503, and nothing is a failure.
    let (mut settled, mut refused) = (0, None);
    for _ in 0..400 {
        let (_, request) = payment(1, node.chain.time()).await;
        let (status, answer) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
        match (status, answer["errorReason"].as_str()) {
            (200, None) if answer["success"] == true => settled += 1,
            (200, Some("settlement_pending")) => {}
            (503, _) => {
                refused = Some(answer.clone());
                break;
            }
            other => panic!("{other:?}: {answer}"),
        }
    }
    assert!(settled > 0 && refused.is_some(), "{settled} payments, {refused:?}");
    let begun = node.chain.transfers().len();
    let health = async || reqwest::get(format!("{}/health", facilitator.url)).await.unwrap().status().as_u16();
    at_last("the fault", async || health().await == 503).await;
    // Room again.
    let process = facilitator.child.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    at_last("health", async || health().await == 200).await;
    // The lane tries again after a pause.
    at_last("a payment", async || settle(&facilitator, &node).await == (200, true)).await;
    // What was pending is finished, once each: as many rows have their end as transfers were made.
    let file = rusqlite::Connection::open(folder.path().join("ledger.sqlite")).unwrap();
    let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, isize>(0)).unwrap().unsigned_abs();
    at_last("the ends", async || count("SELECT count(*) FROM payments WHERE due IS NOT NULL") == 0).await;
    let transfers = node.chain.transfers().len();
    assert_eq!(count("SELECT count(*) FROM payments WHERE row LIKE '%\"Ok\"%'"), transfers);
    assert!(transfers > begun && transfers > settled, "{settled} were answered, {transfers} made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_refuses_to_start_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, config) = place(folder.path()).await;
    // Nothing can be created there, whoever asks.
    let text = fs::read_to_string(&config).unwrap();
    let ledger = folder.path().join("ledger.sqlite");
    fs::write(&config, text.replace(ledger.to_str().unwrap(), "/proc/ledger.sqlite")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"));
    command.args(["serve", "--config"]).arg(&config);
    command.env("TEST_RPC", &node.url).env("TEST_KEY", x402_devchain::ACCOUNTS[0].key.to_string());
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("/proc/ledger.sqlite"), "{error}");
}

/// Not one byte can be written any more, neither to new pages nor to old ones, as on a disk that its kernel has made read-only
/// after a fault. The limit holds for every file and whoever runs the test.
fn read_only(facilitator: &Facilitator, on: bool) {
    let limit = if on { "--fsize=0:unlimited" } else { "--fsize=unlimited" };
    let process = facilitator.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &process, limit]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_tells_nothing_untrue_and_what_was_sent_is_finished_after_it() {
    let folder = tempfile::tempdir().unwrap();
    tls();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(folder.path(), &folder.path().join("ledger.sqlite"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("settle_wait_seconds = 1\n{text}")).unwrap();
    let facilitator = start_limited(&config, &node, 1 << 20);
    let url = format!("{}/settle", facilitator.url);
    let (_, sent) = payment(1, chain.time()).await;
    let (status, answer) = post_named(&url, serde_json::to_string(&sent).unwrap(), "sent").await.unwrap();
    assert_eq!((status, &answer["errorReason"]), (200, &"settlement_pending".into()), "{answer}");
    assert_eq!(chain.calls().of("eth_sendRawTransaction"), 1);

    read_only(&facilitator, true);
    let health = async || reqwest::get(format!("{}/health", facilitator.url)).await.unwrap().status().as_u16();
    at_last("the fault", async || health().await == 503).await;
    // What is on the chain meanwhile cannot be stored, and is not told; what is new is not begun.
    chain.mine(1);
    for payer in 1..=4 {
        let (_, request) = payment(payer, chain.time()).await;
        let (status, answer) = post(&url, &request).await.unwrap();
        assert_eq!(status, 503, "{answer}");
    }
    let (status, answer) = post_named(&url, serde_json::to_string(&sent).unwrap(), "sent").await.unwrap();
    let unknown = status == 503 || answer["errorReason"] == "settlement_pending";
    assert!(unknown, "{status} {answer}");
    assert_eq!(chain.calls().of("eth_sendRawTransaction"), 1, "nothing is sent that is not stored");

    read_only(&facilitator, false);
    at_last("health", async || health().await == 200).await;
    at_last("the end of what was sent", async || {
        let (_, answer) = post_named(&url, serde_json::to_string(&sent).unwrap(), "sent").await.unwrap();
        assert!(
            answer["success"] == true
                || answer["errorReason"].is_null()
                || answer["errorReason"] == "settlement_pending",
            "{answer}"
        );
        answer["success"] == true
    })
    .await;
    assert_eq!(chain.transfers().len(), 1, "once");
    let next = tokio::spawn({
        let (_, request) = payment(2, chain.time()).await;
        let url = url.clone();
        async move { post(&url, &request).await.unwrap() }
    });
    at_last("the next payment", async || {
        chain.mine(1);
        chain.transfers().len() == 2
    })
    .await;
    let (status, _) = next.await.unwrap();
    assert_eq!(status, 200);
}
