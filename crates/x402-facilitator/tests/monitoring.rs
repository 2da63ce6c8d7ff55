//! The metrics of a payment on the operator's port; the dashboard and the alert rules name what is exported; and each log
//! line at `warn` and above is in docs/operations.md and names what it is about.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::metrics::{Kind, names};

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, post, tls};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn with_admin(folder: &Path, listen: &str) -> PathBuf {
    let config = configuration(folder, &folder.join("ledger.sqlite"));
    let token = folder.join("admin-token");
    fs::write(&token, "admin-token").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let text = format!("{text}\n[admin]\nlisten = \"{listen}\"\ntoken = {{ file = {token:?} }}\n");
    fs::write(&config, text).unwrap();
    config
}

async fn scrape(admin: &str, token: &str) -> (u16, String) {
    let answer = reqwest::Client::new().get(format!("{admin}/metrics")).bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of the one line that begins with a name and these labels.
fn value(text: &str, series: &str) -> f64 {
    let line =
        text.lines().find(|line| line.starts_with(&format!("{series} "))).unwrap_or_else(|| panic!("{series}\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_shows_in_the_metrics_of_the_operators_port() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let facilitator = Facilitator::start(&with_admin(folder.path(), "127.0.0.1:0"), &node.url);
    let admin = facilitator.line["admin"].as_str().unwrap().to_owned();
    for wrong in ["", "wrong"] {
        assert_eq!(scrape(&admin, wrong).await.0, 401);
    }
    // Health needs no token, and the callers' port has no metrics.
    for (url, status) in [(format!("{admin}/health"), 200), (format!("{}/metrics", facilitator.url), 404)] {
        assert_eq!(reqwest::get(&url).await.unwrap().status().as_u16(), status, "{url}");
    }

    let lane = "eip155:84532/0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
    let (_, request) = payment(1, chain.time()).await;
    let url = format!("{}/settle", facilitator.url);
    let caller = tokio::spawn(async move { post(&url, &request).await });
    loop {
        let (_, text) = scrape(&admin, "admin-token").await;
        if text.contains("x402_open_payments{") && text.contains(&format!("x402_open_slots{{lane=\"{lane}\"}} 1")) {
            let open = format!("x402_open_payments{{lane=\"{lane}\",state=\"in_flight\"}}");
            assert_eq!(value(&text, &open), 1.0);
            assert_eq!(value(&text, &format!("x402_open_slot_attempts{{lane=\"{lane}\"}}")), 1.0);
            break;
        }
        tokio::task::yield_now().await;
    }
    // The attempt is stored before it is sent, so that the first block may come too early for it.
    while !caller.is_finished() {
        chain.mine(1);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(caller.await.unwrap().unwrap().0, 200);
    // The gas is read behind the answer.
    let asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    let spent = format!("x402_gas_wei_total{{network=\"eip155:84532\",asset=\"{asset}\"}}");
    let text = loop {
        let (_, text) = scrape(&admin, "admin-token").await;
        if text.contains(&spent) {
            break text;
        }
        tokio::task::yield_now().await;
    };
    let all = "network=\"eip155:84532\",scheme=\"exact\"";
    for (series, expected) in [
        (format!("x402_claimed_total{{{all},caller=\"\"}}"), 1.0),
        (format!("x402_answered_total{{{all},result=\"settled\"}}"), 1.0),
        (format!("x402_settled_atomic_total{{network=\"eip155:84532\",asset=\"{asset}\"}}"), 10_000.0),
        (format!("x402_attempts_total{{lane=\"{lane}\",kind=\"first\"}}"), 1.0),
        (format!("x402_sent_total{{lane=\"{lane}\"}}"), 1.0),
        (format!("x402_lane_next_nonce{{lane=\"{lane}\"}}"), 1.0),
        (format!("x402_signer_short{{lane=\"{lane}\"}}"), 0.0),
        ("x402_requests_total{route=\"/settle\",status=\"200\"}".to_owned(), 1.0),
        ("x402_request_seconds_count{route=\"/settle\"}".to_owned(), 1.0),
        ("x402_payment_seconds_count{network=\"eip155:84532\"}".to_owned(), 1.0),
        ("x402_rpc_calls_total{network=\"eip155:84532\",method=\"eth_sendRawTransaction\"}".to_owned(), 1.0),
        ("x402_ledger_up".to_owned(), 1.0),
    ] {
        assert_eq!(value(&text, &series), expected, "{series}\n{text}");
    }
    assert!(!text.contains("x402_open_payments{"), "{text}");
    // The chain's own numbers: the account paid what is counted.
    let account = x402_devchain::ACCOUNTS[0].address;
    let paid = DevChain::new().unwrap().ether_of(account) - chain.ether_of(account);
    assert_eq!(value(&text, &spent), paid.to_string().parse::<f64>().unwrap());
    assert!(value(&text, "x402_ledger_commits_total{result=\"stored\"}") >= 3.0);
    for family in names::ALL {
        assert!(text.contains(&format!("# TYPE {} ", family.name)) || family.kind == Kind::Gauge, "{}", family.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_costs_no_payment_and_is_served_when_it_is_free() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let facilitator = Facilitator::start(&with_admin(folder.path(), &address), &node.url);
    assert!(facilitator.line.get("admin").is_none(), "{}", facilitator.line);
    let (_, request) = payment(1, chain.time()).await;
    let (status, answer) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    drop(taken);
    let url = format!("http://{address}/health");
    while reqwest::get(&url).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The words of a text that begin with `x402_`.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("x402_")).map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_name_what_is_exported_and_nothing_else() {
    let mut exported = BTreeSet::new();
    for family in names::ALL {
        match family.kind {
            Kind::Seconds(_) => {
                exported.extend(["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)))
            }
            _ => drop(exported.insert(family.name.to_owned())),
        }
    }
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (dashboard, alerts) = (read("deploy/grafana/x402-facilitator.json"), read("deploy/prometheus/alerts.yml"));
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 10);
    for (file, text) in [("dashboard", &dashboard), ("alerts", &alerts)] {
        let unknown: Vec<_> = named(text).difference(&exported).cloned().collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    // Every family is on the dashboard, with labels that it has.
    let shown = named(&dashboard);
    for family in names::ALL {
        assert!(shown.iter().any(|name| name.starts_with(family.name)), "{}", family.name);
    }
    let operations = read("docs/operations.md");
    for family in names::ALL {
        assert!(operations.contains(&format!("`{}`", family.name)), "operations.md: {}", family.name);
    }
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(operations.contains(&format!("`{alert}`")), "operations.md: {alert}");
    }
}

/// The part of this workspace that logs as a seller's server, and not as a facilitator.
const SELLERS: &[&str] = &["x402-http/src/server", "x402-http/src/checkout"];

/// The fields of which a line needs one.
const SUBJECTS: &[&str] = &["key", "lane", "network", "place"];

/// The folders of the crates below the facilitator, itself among them, by the arrows of its own manifest and theirs.
fn logging() -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec!["x402-facilitator".to_owned()]);
    while let Some(name) = open.pop() {
        let manifest = fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        let below = normal.lines().filter(|line| line.starts_with("x402-"));
        open.extend(
            below.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).filter(|it| !found.contains(it)),
        );
        found.insert(name);
    }
    found
}

/// Lines about the whole process, in which no payment, lane, network or place can be named.
const WHOLE_PROCESS: &[&str] = &[
    "a worker has ended; stopping, so that a supervisor starts again",
    "requests still wait; their settlements are in the ledger",
    "settlements still run; the next start takes them up",
    "the configuration cannot be read again; the former callers and tokens stay",
    "the ledger cannot be used any more",
    "the ledger cannot begin a transaction",
    "the ledger cannot commit",
    "nothing was forgotten",
    "the ends of payments cannot be read for webhooks",
    "an answer could not be written",
    "this process is not announced to the others",
    "the ledger is in quarantine until it is released",
    "the ledger was restored under this process, which ends",
    "the mark of the ledger was not raised",
];

/// Lines within the span of a request, which names the payment.
const IN_A_REQUEST: &[&str] = &["a request could not be answered"];

#[test]
fn each_warning_names_its_subject_and_is_in_the_manual() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    // The manual may break a line within a message.
    let manual = manual.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut faults, mut lines) = (Vec::new(), 0);
    let crates = logging();
    assert!(crates.contains("x402-store") && crates.contains("x402-http") && crates.len() > 8, "{crates:?}");
    for path in crates.iter().flat_map(|name| sources(&root().join("crates").join(name).join("src"))) {
        if SELLERS.iter().any(|part| path.to_str().unwrap().contains(part)) {
            continue;
        }
        let (found, wrong) = warnings(&fs::read_to_string(&path).unwrap(), &manual);
        lines += found;
        faults.extend(wrong.into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    assert!(lines > 30, "{lines}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The number of a file's lines at `warn` and above, and what is wrong with them.
fn warnings(text: &str, manual: &str) -> (usize, Vec<String>) {
    let code: Vec<&str> = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().collect();
    let code: Vec<&str> = code.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let (mut lines, mut faults) = (0, Vec::new());
    // Whatever logs in another spelling than the one that is read here would be missed.
    for other in ["Level::WARN", "Level::ERROR", "event!"] {
        if code.contains(other) {
            faults.push(format!("`{other}`: expected tracing::warn!(…) or tracing::error!(…)"));
        }
    }
    for name in ["warn!", "error!"] {
        for (at, _) in code.match_indices(name) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            // Another macro's name may end so: `compile_error!`.
            if before.is_alphanumeric() || before == '_' {
                continue;
            }
            let call = &code[at + name.len()..];
            let Some(call) = call.strip_prefix('(').filter(|_| code[..at].ends_with("tracing::")) else {
                faults.push(format!("`{name}`: expected tracing::{name}(…)"));
                continue;
            };
            lines += 1;
            faults.extend(faults_of(arguments(call), manual));
        }
    }
    (lines, faults)
}

/// What is wrong with the arguments of one line.
fn faults_of(arguments: &str, manual: &str) -> Vec<String> {
    let fields = arguments.split('"').next().unwrap();
    // A field's value may be made of a text, too: the message is the last one.
    let Some(literal) = arguments.rsplit('"').nth(1) else { return vec!["no message".to_owned()] };
    let message = literal.split('{').next().unwrap().trim_end_matches([' ', ':']);
    let mut faults = Vec::new();
    // Of `lane = self.id`, `%lane` and `%payment.lane` the last is recorded as `payment.lane`.
    let mut names =
        fields.split(',').map(|field| field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']));
    let subject = names.any(|name| SUBJECTS.contains(&name));
    if !subject && !WHOLE_PROCESS.contains(&message) && !IN_A_REQUEST.contains(&message) {
        faults.push(format!("names no payment, lane, network or place: {message}"));
    }
    if message.split(' ').count() < 3 {
        faults.push(format!("says too little to be found in the manual: {message:?}"));
    }
    if !manual.contains(&format!("`{message}`")) {
        faults.push(format!("not in docs/operations.md: {message}"));
    }
    faults
}

#[test]
fn no_spelling_of_a_warning_slips_through() {
    let manual = "log `the node is away` is there";
    let good = r#"tracing::warn!(%network, "the node is away: {fault}");"#;
    assert_eq!(warnings(good, manual), (1, Vec::new()));
    assert_eq!(warnings("compile_error!(\"the node is away\");\n// warn!(\"of a comment\")", manual), (0, Vec::new()));
    for bad in [
        r#"warn!(%network, "the node is away");"#,
        r#"use tracing::error as warn; warn!(%network, "the node is away");"#,
        r#"tracing::warn![%network, "the node is away"];"#,
        r#"tracing::error! { %network, "the node is away" }"#,
        r#"tracing::event!(tracing::Level::WARN, %network, "the node is away");"#,
        r#"log::warn!("the node is away");"#,
        r#"tracing::warn!(%network, "{fault}");"#,
        r#"tracing::warn!(%network, "the node is gone");"#,
        r#"tracing::warn!(%network, "the node is");"#,
        r#"tracing::warn!("the node is away");"#,
        r#"tracing::warn!(error = network.fault(), "the node is away");"#,
        r#"tracing::warn!(%place_of_it, "the node is away");"#,
        r#"tracing::warn!(%network);"#,
    ] {
        assert!(!warnings(bad, manual).1.is_empty(), "{bad}");
    }
}

/// The arguments of a macro call, up to its closing parenthesis.
fn arguments(call: &str) -> &str {
    let (mut depth, mut quoted) = (1, false);
    for (at, byte) in call.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &call[..at];
        }
    }
    panic!("an open call: {call}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}
