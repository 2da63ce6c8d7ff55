//! A facilitator on a chain in this process, `x402 sell` as a process of its own, and a payer.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use x402_codec::{Limits, header};
use x402_devchain::{ACCOUNTS, key};
use x402_evm::exact;
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{Clock, SystemClock};
use x402_types::{MakePayment, PaymentRequired, SigningContext};

/// The devchain's account that pays, and the one that is paid.
pub(crate) const PAYER: usize = 1;
pub(crate) const SELLER: usize = 2;

/// A process that is killed when the test ends, and the URL of its first line.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    /// Starts a command, and reads `{"listening": URL}` from its first line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        // A pipe that nothing reads would stop it.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let first: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {line:?}: {error}"));
        Self { child, url: first["listening"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A folder of its own for each test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("x402-sell-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The binary with `sell` and its commonest arguments.
pub(crate) fn x402_sell(upstream: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
    command.args(["sell", "--upstream", upstream, "--listen", "127.0.0.1:0"]);
    command.args(["--pay-to", &ACCOUNTS[SELLER].address.to_string(), "--price", "$0.01"]).args(more);
    command
}

fn sell(upstream: &str, more: &[String]) -> Process {
    Process::start(&mut x402_sell(upstream, &more.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// A shop before an upstream.
pub(crate) struct Stage {
    pub(crate) facilitator: DevFacilitator,
    pub(crate) sell: Process,
    pub(crate) folder: Folder,
    upstream: String,
    more: Vec<String>,
}

impl Stage {
    pub(crate) async fn new(name: &str, upstream: &str, more: &[&str]) -> Self {
        x402_http::service::install_tls();
        let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
        let folder = Folder::new(name);
        let grants = folder.0.join("grants.sqlite").to_str().unwrap().to_owned();
        let own = ["--grants".to_owned(), grants, "--facilitator".to_owned(), facilitator.url().to_owned()];
        let more: Vec<String> = own.into_iter().chain(more.iter().map(|more| (*more).to_owned())).collect();
        let sell = sell(upstream, &more);
        Self { facilitator, sell, folder, upstream: upstream.to_owned(), more }
    }

    /// Kills the shop with SIGKILL and starts it again, on another port.
    pub(crate) fn restart(&mut self) {
        self.sell.child.kill().unwrap();
        self.sell.child.wait().unwrap();
        self.sell = sell(&self.upstream, &self.more);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sell.url)
    }

    /// The number of dollars' cents that were paid on the chain, one a payment.
    pub(crate) fn paid(&self) -> usize {
        let transfers = self.facilitator.chain().transfers();
        transfers.iter().filter(|transfer| transfer.to == ACCOUNTS[SELLER].address).count()
    }

    /// Requests a URL with headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        request(&self.url(path), headers).await.unwrap()
    }

    /// Signs a payment for a path, as the value of its header.
    pub(crate) async fn payment(&self, path: &str) -> String {
        payment(&self.url(path), None).await
    }
}

pub(crate) async fn request(url: &str, headers: &[(&str, &str)]) -> Result<reqwest::Response, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await
}

/// Signs a payment for what a URL requires, with an id of `payment-identifier` if one is given.
pub(crate) async fn payment(url: &str, id: Option<&str>) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let response = request(url, &[]).await.unwrap();
    assert_eq!(response.status(), 402);
    let required = header::payment_required_header(response.headers(), &Limits::DEFAULT).unwrap().unwrap();
    let PaymentRequired::V2(document) = required.clone() else { panic!("{required:?}") };
    let terms = required.terms().remove(0);
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let context = SigningContext { now: SystemClock.now(), entropy, url, method: "GET" };
    let payer = exact::Payer::new(key(PAYER).unwrap());
    let made = payer.make_payment(&terms, &context).await.unwrap();
    let document = serde_json::to_value(&document).unwrap();
    let mut payment = json!({
        "x402Version": 2, "resource": document["resource"], "accepted": document["accepts"][0],
        "payload": serde_json::from_str::<Value>(made.payload.as_str()).unwrap(),
    });
    if let Some(id) = id {
        let mut extension = document["extensions"]["payment-identifier"].clone();
        extension["info"]["id"] = id.into();
        payment["extensions"] = json!({ "payment-identifier": extension });
    }
    header::encode(&payment).unwrap().to_str().unwrap().to_owned()
}
