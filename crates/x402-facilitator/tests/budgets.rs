//! Budgets of gas and money, and the balance watch, on the facilitator's process: what is refused costs no gas, and neither a
//! restart nor a second process forgets or doubles what is counted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use futures_util::future::join_all;
use serde_json::Value;
use tokio_postgres::NoTls;
use x402_devchain::{ACCOUNTS, DevChain, DevNode, MiningMode};
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post, tls};

static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

/// The token of the devchain, of which a payment of these tests moves 10,000 units.
const TOKEN: &str = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const LANE: &str = "eip155:84532/0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";

struct Place {
    chain: DevChain,
    node: DevNode,
    config: PathBuf,
    folder: tempfile::TempDir,
}

impl Place {
    /// A chain, and a configuration that ends with these lines of its network.
    async fn new(ledger: Option<&str>, of_network: &str) -> Self {
        tls();
        let folder = tempfile::tempdir().unwrap();
        let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let file = folder.path().join("ledger.sqlite");
        let config = configuration(folder.path(), ledger.map_or(&*file, Path::new));
        let token = folder.path().join("token");
        fs::write(&token, "admin-token").unwrap();
        let text = fs::read_to_string(&config).unwrap();
        let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = {token:?} }}\n");
        fs::write(&config, format!("{text}\n{of_network}\n{admin}")).unwrap();
        Self { chain, node, config, folder }
    }

    fn start(&self) -> Facilitator {
        Facilitator::start(&self.config, &self.node.url)
    }

    fn sent(&self) -> u64 {
        self.chain.calls().of("eth_sendRawTransaction")
    }

    async fn post(&self, facilitator: &Facilitator, route: &str, payer: usize) -> (u16, Value) {
        let (_, request) = payment(payer, self.chain.time()).await;
        post(&format!("{}{route}", facilitator.url), &request).await.unwrap()
    }

    async fn settles(&self, facilitator: &Facilitator, payer: usize) {
        let (status, answer) = self.post(facilitator, "/settle", payer).await;
        assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    }

    /// Both routes refuse a payment by its budget, and nothing is sent for it.
    async fn refuses(&self, facilitator: &Facilitator, payer: usize, message: &str) {
        let sent = self.sent();
        let (status, answer) = self.post(facilitator, "/verify", payer).await;
        assert_eq!((status, &answer["isValid"]), (200, &false.into()), "{answer}");
        assert_eq!(answer["invalidReason"], "budget_exceeded", "{answer}");
        assert_eq!(answer["invalidMessage"], message, "{answer}");
        let (status, answer) = self.post(facilitator, "/settle", payer).await;
        assert_eq!((status, &answer["success"]), (200, &false.into()), "{answer}");
        assert_eq!((&answer["errorReason"], &answer["errorMessage"]), (&"budget_exceeded".into(), &message.into()));
        assert_eq!(self.sent(), sent, "what is refused costs no gas");
    }
}

fn budget(per: &str, asset: Option<&str>, most: &str) -> String {
    let asset = asset.map_or_else(String::new, |asset| format!("asset = \"{asset}\"\n"));
    format!("[[network.budget]]\nper = \"{per}\"\n{asset}most = \"{most}\"\n")
}

async fn admin(facilitator: &Facilitator, path: &str) -> String {
    let url = format!("{}{path}", facilitator.line["admin"].as_str().unwrap());
    let answer = reqwest::Client::new().get(url).bearer_auth("admin-token").send().await.unwrap();
    answer.text().await.unwrap()
}

/// The value of the one line that begins with a name and these labels.
fn metric(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_budget_outlives_the_process_and_is_shown() {
    let place = Place::new(None, &budget("network", Some(TOKEN), "25000")).await;
    let mut facilitator = place.start();
    let message = "the budget of each network has room for 5000 atomic units today";
    place.settles(&facilitator, 1).await;
    place.settles(&facilitator, 2).await;
    place.refuses(&facilitator, 3, message).await;
    facilitator.kill();
    let facilitator = place.start();
    place.refuses(&facilitator, 3, message).await;
    let series = format!("x402_budget_left{{network=\"eip155:84532\",asset=\"{TOKEN}\",per=\"network\",of=\"\"}}");
    let metrics = admin(&facilitator, "/metrics").await;
    assert_eq!(metric(&metrics, &series).as_deref(), Some("5000"), "{metrics}");
    let state: Value = serde_json::from_str(&admin(&facilitator, "/admin/state").await).unwrap();
    let shown = &state["budgets"][0];
    assert_eq!((&shown["most"], &shown["left"]), (&"25000".into(), &"5000".into()), "{state}");
    let page = admin(&facilitator, "/").await;
    assert!(page.contains("Budgets of this day"));
    assert_eq!(place.chain.transfers().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn payers_and_payments_have_budgets_of_their_own() {
    let rules = [budget("payer", Some(TOKEN), "19999"), budget("payment", Some(TOKEN), "10000")].concat();
    let place = Place::new(None, &rules).await;
    let facilitator = place.start();
    place.settles(&facilitator, 1).await;
    place.refuses(&facilitator, 1, "the budget of each payer has room for 9999 atomic units today").await;
    place.settles(&facilitator, 2).await;

    let place = Place::new(None, &budget("payment", Some(TOKEN), "9999")).await;
    let facilitator = place.start();
    place.refuses(&facilitator, 1, "the budget of each payment has room for 9999 atomic units").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_have_budgets_of_their_own() {
    let callers = ["shop", "other"].map(|name| {
        format!(
            "[[caller]]\nname = \"{name}\"\ntoken_sha256 = \"{}\"\n",
            x402_facilitator::config::BearerHash::of(name)
        )
    });
    let place = Place::new(None, &(budget("caller", Some(TOKEN), "10000") + &callers.concat())).await;
    let facilitator = place.start();
    let url = format!("{}/settle", facilitator.url);
    let mut answers = Vec::new();
    for token in ["shop", "shop", "other"] {
        let (_, request) = payment(1, place.chain.time()).await;
        let sent = reqwest::Client::new().post(&url).bearer_auth(token).header("content-type", "application/json");
        let answer = sent.body(serde_json::to_string(&request).unwrap()).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        answers.push(answer["errorReason"].as_str().map(str::to_owned));
    }
    assert_eq!(answers, [None, Some("budget_exceeded".to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gas_is_counted_with_what_the_chain_took() {
    let most = 10_u128.pow(18);
    let place = Place::new(None, &budget("network", None, &most.to_string())).await;
    let facilitator = place.start();
    place.settles(&facilitator, 1).await;
    let account = ACCOUNTS[0].address;
    let paid = DevChain::new().unwrap().ether_of(account) - place.chain.ether_of(account);
    let left = most - u128::try_from(paid).unwrap();
    let series = "x402_budget_left{network=\"eip155:84532\",asset=\"gas\",per=\"network\",of=\"\"}";
    // The receipt is read behind the answer.
    at_last("the cost", async || {
        metric(&admin(&facilitator, "/metrics").await, series).as_deref() == Some(&*left.to_string())
    })
    .await;

    // Less than a transaction costs at any price: refused before anything is signed.
    let place = Place::new(None, &budget("payment", None, "1000")).await;
    let facilitator = place.start();
    place.refuses(&facilitator, 1, "the budget of each payment has room for 1000 wei for gas").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_database_share_a_budget() {
    let (client, connection) = tokio_postgres::connect(&SERVER.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE DATABASE budgets").await.unwrap();
    let place = Place::new(Some(&SERVER.url("budgets")), &budget("network", Some(TOKEN), "50000")).await;
    let facilitators = [place.start(), place.start()];
    let answers = join_all((0..14).map(|n| place.post(&facilitators[n % 2], "/settle", 1 + n % 2))).await;
    let with = |success: bool| answers.iter().filter(|(_, answer)| answer["success"] == success).count();
    assert_eq!((with(true), with(false)), (5, 9), "{answers:?}");
    assert!(answers.iter().all(|(_, it)| it["success"] == true || it["errorReason"] == "budget_exceeded"));
    assert_eq!(place.chain.transfers().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_below_its_low_water_mark_is_named_and_still_pays() {
    // One wei more than the account has.
    let place = Place::new(None, "low_balance = \"20000000000000000000001\"\n").await;
    let log = place.folder.path().join("log");
    let facilitator = Facilitator::start_logging(&place.config, &place.node.url, &log);
    at_last("the mark", async || {
        admin(&facilitator, "/metrics").await.contains(&format!("x402_signer_low{{lane=\"{LANE}\"}} 1"))
    })
    .await;
    let ready: Value = serde_json::from_str(&admin(&facilitator, "/ready").await).unwrap();
    assert_eq!((&ready["status"], &ready["signers"][0]["level"]), (&"ready".into(), &"low".into()), "{ready}");
    place.settles(&facilitator, 1).await;
    let line = "a signer's balance is below its low-water mark";
    assert_eq!(fs::read_to_string(&log).unwrap().matches(line).count(), 1, "it is logged once");
}
