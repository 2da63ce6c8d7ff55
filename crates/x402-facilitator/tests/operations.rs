//! The blocks of docs/operations.md are run. The commands, in their order and in one folder, on a facilitator with a chain
//! behind it; the configurations by the code that reads them; the queries on a ledger of either store; what installs a service,
//! into a folder in the place of the system's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::{Address, U256};
use serde_json::Value;
use tokio_postgres::NoTls;
use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::config::Config;
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{body, payment, post, signed, terms, tls};

/// Installs the programs of the manual that this machine lacks.
fn have_tools() {
    let lacking = || {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let lacks = |name: &&str| !std::env::split_paths(&paths).any(|folder| folder.join(name).is_file());
        ["curl", "openssl", "sqlite3"].into_iter().filter(lacks).collect::<Vec<_>>()
    };
    if lacking().is_empty() {
        return;
    }
    let install =
        Command::new("apt-get").args(["install", "--yes", "--no-install-recommends"]).args(lacking()).status();
    assert!(lacking().is_empty(), "docs/operations.md needs {:?}; apt-get: {install:?}", lacking());
}

/// A block of commands, with the title above it.
#[derive(Debug)]
struct Block {
    title: String,
    commands: Vec<String>,
}

/// The languages of the blocks. Of another one nothing would be run.
const LANGUAGES: [&str; 6] = ["console", "sh", "toml", "sql", "postgresql", "yaml"];

fn manual() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads the blocks of one language.
fn texts(language: &str) -> Vec<String> {
    let (mut texts, mut open) = (Vec::new(), None::<(String, String)>);
    for line in manual().lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(of)) => {
                assert!(LANGUAGES.contains(&of), "a block of {of:?} is run by nothing");
                open = Some((of.to_owned(), String::new()));
            }
            (Some(_), Some(_)) => texts.extend(open.take().filter(|(of, _)| of == language).map(|(_, text)| text)),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(!texts.is_empty(), "{language}");
    texts
}

/// Reads the blocks whose lines are a prompt and a command.
fn blocks(text: &str) -> Vec<Block> {
    let (mut title, mut blocks, mut open) = (String::new(), Vec::new(), None);
    for line in text.lines() {
        match (&mut open, line) {
            (None, "```console") => open = Some(Block { title: title.clone(), commands: Vec::new() }),
            (None, line) if line.starts_with('#') => title = line.trim_start_matches(['#', ' ']).to_owned(),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {line}"));
                block.commands.push(command.to_owned());
            }
            _ => {}
        }
    }
    blocks
}

/// The folder in which the commands run, and the process that they start.
struct Folder {
    path: tempfile::TempDir,
    /// What the manual writes, and what stands for it here.
    replaced: Vec<(&'static str, String)>,
}

impl Folder {
    fn run(&self, block: &Block) -> String {
        let script = block.commands.join("\n");
        let script = self.replaced.iter().fold(script, |script, (from, to)| script.replace(from, to));
        let binaries = Path::new(env!("CARGO_BIN_EXE_x402-facilitator")).parent().unwrap();
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(self.path.path()).env("PATH", path);
        let output = command.env("RUST_LOG", "warn").output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{}: {script}\n{out}\n{error}\n{}", block.title, self.log());
        out
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.path.path().join("pid")) {
            drop(Command::new("kill").args(["-KILL", pid.trim()]).output());
        }
    }
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The accounts that `init` printed.
fn accounts(output: &str) -> impl Iterator<Item = Address> {
    let line = |line: &str| serde_json::from_str::<Value>(line).ok()?["signer"].as_str()?.parse().ok();
    output.lines().filter_map(line).collect::<Vec<_>>().into_iter()
}

/// Pays at the facilitator, while the chain makes blocks.
async fn pays(url: &str, token: &Path, chain: &DevChain) {
    let terms = terms();
    let body = body(&terms, &signed(1, &terms, chain.time()).await).to_string();
    let token = fs::read_to_string(token).unwrap();
    let request = reqwest::Client::new().post(format!("http://{url}/settle")).bearer_auth(token.trim());
    let request = request.header("content-type", "application/json").body(body);
    let answer = tokio::spawn(async move {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    while !answer.is_finished() {
        chain.mine(1);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, text) = answer.await.unwrap();
    assert!(status == 200 && text.contains("\"success\":true"), "{status}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_manual_works() {
    tls();
    have_tools();
    let blocks = blocks(&manual());
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let (callers, admin) = (free(), free());
    let replaced = vec![
        ("127.0.0.1:4020", callers.clone()),
        ("127.0.0.1:4021", admin),
        ("https://sepolia.base.org", node.url.clone()),
    ];
    let folder = Folder { path: tempfile::tempdir().unwrap(), replaced };
    let mut paid = 0;
    for block in &blocks {
        let output = folder.run(block);
        for account in accounts(&output) {
            chain.set_ether_of(account, U256::from(10_u64.pow(18)));
        }
        // A payment after each start, with the token that is valid then.
        if block.commands.iter().any(|command| command.contains("serve >")) {
            let tokens = ["new-token", "shop-token"].map(|name| folder.path.path().join("secrets").join(name));
            pays(&callers, tokens.iter().find(|path| path.exists()).unwrap(), &chain).await;
            paid += 1;
            assert_eq!(chain.transfers().len(), paid, "{}", block.title);
        }
    }
    let titles: Vec<&str> = blocks.iter().map(|block| block.title.as_str()).collect();
    for task in [
        "Install",
        "Look",
        "Back up",
        "Rotate a caller's token",
        "Drain",
        "Upgrade",
        "Restore a copy",
        "Rotate a signer",
    ] {
        assert!(titles.contains(&task), "{task}: {titles:?}");
    }
    assert!(paid >= 4, "{paid}");
}

/// The first configuration is a whole file; each other one is a part, and stands at its end.
#[test]
fn every_configuration_of_the_manual_is_read() {
    let blocks = texts("toml");
    let (whole, parts) = blocks.split_first().unwrap();
    assert_eq!(Config::parse(whole).unwrap().networks[0].signers.len(), 2);
    assert!(parts.len() >= 2, "{parts:?}");
    for part in parts {
        let config = Config::parse(&format!("{whole}\n{part}")).unwrap_or_else(|error| panic!("{error}: {part}"));
        let tables = part.lines().filter(|line| line.starts_with("[[") || line.starts_with('[')).count();
        let read = config.webhooks.len() + config.networks.iter().map(|network| network.budgets.len()).sum::<usize>();
        #[cfg(feature = "otlp")]
        let read = read + usize::from(config.otlp.is_some());
        assert_eq!(read, tables, "{part}");
    }
}

/// The statements of some blocks, without their comments.
fn statements(language: &str) -> Vec<String> {
    let code =
        |text: &String| text.lines().map(|line| line.split("--").next().unwrap().trim()).collect::<Vec<_>>().join(" ");
    let all: Vec<String> = texts(language).iter().map(code).collect();
    let all = all.iter().flat_map(|text| text.split(';')).map(|it| it.trim().to_owned());
    all.filter(|statement| !statement.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_manual_runs_on_a_ledger_of_its_store() {
    tls();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.sqlite");
    let settle = async |facilitator: &Facilitator| {
        let (_, request) = payment(1, chain.time()).await;
        let (status, told) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
        assert_eq!((status, &told["success"]), (200, &true.into()), "{told}");
    };

    let facilitator = Facilitator::start(&configuration(folder.path(), &ledger), &node.url);
    settle(&facilitator).await;
    let file = rusqlite::Connection::open_with_flags(&ledger, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let queries = statements("sql");
    assert!(queries.len() >= 4, "{queries:?}");
    let rows = |query: &String| {
        file.prepare(query).unwrap().query([]).map(|mut rows| {
            let mut found = 0;
            while rows.next().unwrap().is_some() {
                found += 1;
            }
            found
        })
    };
    let found: Vec<usize> =
        queries.iter().map(|query| rows(query).unwrap_or_else(|error| panic!("{query}: {error}"))).collect();
    // Nothing is open, one lane has a worker, and the key is nobody's.
    assert_eq!(found[..4], [0, 0, 1, 0], "{queries:?}");
    drop(facilitator);

    let server = PostgresServer::start(Fsync::Off).unwrap();
    let connect = async |url: &str| {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let operator = connect(&server.url("postgres")).await;
    let (creating, queries): (Vec<_>, Vec<_>) =
        statements("postgresql").into_iter().partition(|it| it.starts_with("CREATE"));
    assert!(creating.len() == 2 && queries.len() >= 4, "{creating:?} {queries:?}");
    for statement in creating {
        operator.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    // The role that the manual creates owns the database, and makes the tables.
    let url = server.url("x402").replace("postgres@", "x402@");
    assert!(url.contains("x402@"), "{url}");
    let facilitator = Facilitator::start(&configuration(folder.path(), Path::new(&url)), &node.url);
    settle(&facilitator).await;
    let reader = connect(&url).await;
    let mut found = Vec::new();
    for query in &queries {
        found.push(reader.query(query.as_str(), &[]).await.unwrap_or_else(|error| panic!("{query}: {error}")).len());
    }
    assert_eq!(found[..4], [0, 0, 1, 0], "{queries:?}");
}

/// What installs a service writes below the system's folders: here below another one. The unit's start is systemd's, whose part
/// `packaging.rs` has.
#[test]
fn a_service_is_installed_as_the_manual_says() {
    // The first hour is a script of its own, whose commands are those of the task "Install".
    let blocks: Vec<String> = texts("sh").into_iter().filter(|text| text.starts_with("install ")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::copy(env!("CARGO_BIN_EXE_x402-facilitator"), path("x402-facilitator")).unwrap();
    // A system that has systemd has both.
    for folder in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(path(folder)).unwrap();
    }
    std::os::unix::fs::symlink(root().join("deploy").canonicalize().unwrap(), path("deploy")).unwrap();
    let below = |text: &str| text.replace(" /usr/", " usr/").replace(" /etc/", " etc/");
    let (mut ran, mut left) = (0, Vec::new());
    for line in blocks.iter().flat_map(|text| text.lines()) {
        if line.starts_with("systemctl ") {
            left.push(line);
            continue;
        }
        let line = below(line);
        let output = Command::new("bash").args(["-euc", &line]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        ran += 1;
    }
    assert_eq!((ran, left), (2, vec!["systemctl enable --now x402-facilitator"]), "every line is run, or named here");
    let installed = Command::new(path("usr/local/bin/x402-facilitator")).arg("--version").output().unwrap();
    assert!(installed.status.success(), "{installed:?}");
    let unit = fs::read_to_string(path("etc/systemd/system/x402-facilitator.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/x402-facilitator "), "{unit}");
}
