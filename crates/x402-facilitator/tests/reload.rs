//! The tokens of a process that serves follow its file by SIGHUP: one that is added is served, one that is taken away finishes its
//! open payments and gets no new ones, and what cannot be changed is refused with the reason and changes nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use alloy_primitives::{Address, address};
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, DevNode, MiningMode, TestToken, signer};
use x402_evm::exact::{Exact, Payer, Price};
use x402_evm::token::Tokens;
use x402_types::{Asset, Assets, ChainId, MakePayment, SigningContext, UnixSeconds, payment_entropy};

use crate::support::process::{Facilitator, configuration};
use crate::support::{SELLER, at_last, body, send, tls};

/// Where the second and the third token are.
const AT: Address = address!("7777777777777777777777777777777777777777");
const FEE: Address = address!("8888888888888888888888888888888888888888");

/// A facilitator on a chain with three tokens, of which it serves the default one.
struct Stage {
    folder: tempfile::TempDir,
    config: PathBuf,
    text: String,
    node: DevNode,
    facilitator: Facilitator,
}

/// A token of the file.
fn entry(token: TestToken, at: Address, decimals: u8) -> String {
    let name = token.name();
    format!(
        "[[network.asset]]\naddress = \"{at}\"\nsymbol = \"TEST\"\nname = \"{name}\"\nversion = \"1\"\ndecimals = {decimals}\n"
    )
}

impl Stage {
    async fn new() -> Self {
        tls();
        let folder = tempfile::tempdir().unwrap();
        let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
        chain.put_token(TestToken::TransferFirst, AT).unwrap();
        chain.put_token(TestToken::Fee, FEE).unwrap();
        chain.mine(1);
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let config = configuration(folder.path(), &folder.path().join("ledger.sqlite"));
        let text = fs::read_to_string(&config).unwrap();
        let facilitator = Facilitator::start_logging(&config, &node.url, &folder.path().join("log"));
        Self { folder, config, text, node, facilitator }
    }

    /// Writes the file with these further lines, has it read, and waits for a line of the log.
    async fn reload(&self, further: &str, line: &str) -> String {
        let count = |log: &str| log.lines().filter(|it| it.contains(line)).count();
        let before = count(&self.log());
        fs::write(&self.config, format!("{}\n{further}", self.text)).unwrap();
        self.facilitator.signal("HUP");
        at_last(line, async || count(&self.log()) > before).await;
        let log = self.log();
        log.lines().rfind(|it| it.contains(line)).unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A payment of one cent in a token, for `/verify` and `/settle`.
    async fn payment(&self, payer: usize, at: Address, name: &str) -> String {
        let network = ChainId::eip155(84_532);
        let mut assets = Assets::none();
        assets.add(Asset::new(network, at, "TEST", name, "1", 6).dollar());
        let tokens = Tokens::new(&assets);
        let price: Price = "$0.01".parse().unwrap();
        let offer = Exact::new(tokens.clone()).requirements(network, ACCOUNTS[SELLER].address, price).unwrap();
        let now = UnixSeconds(self.node.chain.time());
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let entropy = payment_entropy([NUMBER.fetch_add(1, Ordering::Relaxed); 32]);
        let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
        let payer = Payer::new(signer(payer).unwrap()).with_tokens(tokens);
        let payload = payer.make_payment(&offer.terms, &context).await.unwrap().payload;
        body(&offer.terms, &payload).to_string()
    }

    /// Whether a payment would be taken, and otherwise why not.
    async fn verdict(&self, body: &str) -> (bool, Value) {
        let (_, told) = send(&format!("{}/verify", self.facilitator.url), body.to_owned(), None).await;
        (told["isValid"] == true, told["invalidReason"].clone())
    }
}

const READ: &str = "the callers and tokens were read again";
const KEPT: &str = "the configuration cannot be read again; the former callers and tokens stay";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_added_and_taken_away_and_its_open_payment_is_finished() {
    let stage = Stage::new().await;
    let name = TestToken::TransferFirst.name();
    let unknown: (bool, Value) = (false, "invalid_payment_requirements".into());
    assert_eq!(stage.verdict(&stage.payment(1, AT, name).await).await, unknown);

    stage.reload(&entry(TestToken::TransferFirst, AT, 6), READ).await;
    assert_eq!(stage.verdict(&stage.payment(1, AT, name).await).await, (true, Value::Null));

    // A payment of it is open while it is taken away.
    let (url, open) = (format!("{}/settle", stage.facilitator.url), stage.payment(2, AT, name).await);
    let (at, sent) = (url.clone(), open.clone());
    let first = tokio::spawn(async move { send(&at, sent, Some("open")).await });
    at_last("a transaction", async || stage.node.chain.calls().of("eth_sendRawTransaction") == 1).await;
    stage.reload("", READ).await;
    let refused = stage.payment(3, AT, name).await;
    assert_eq!(stage.verdict(&refused).await, unknown);
    let (_, told) = send(&url, refused, None).await;
    assert_eq!((&told["success"], &told["errorReason"]), (&false.into(), &unknown.1), "{told}");
    stage.node.chain.mine(1);
    let (status, told) = first.await.unwrap();
    assert_eq!((status, &told["success"]), (200, &true.into()), "{told}");
    // The same request gets its receipt, as always.
    let (_, again) = send(&url, open, Some("open")).await;
    assert_eq!(again["transaction"], told["transaction"]);
    assert_eq!(stage.node.chain.calls().of("eth_sendRawTransaction"), 1);

    // It may come back.
    stage.reload(&entry(TestToken::TransferFirst, AT, 6), READ).await;
    assert_eq!(stage.verdict(&stage.payment(3, AT, name).await).await, (true, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_is_cannot_change_and_one_that_cannot_be_proven_is_not_added() {
    let stage = Stage::new().await;
    let (good, name) = (entry(TestToken::TransferFirst, AT, 6), TestToken::TransferFirst.name());
    stage.reload(&good, READ).await;
    for (further, why) in [
        (
            entry(TestToken::TransferFirst, AT, 18),
            "expected the symbol, name, version and decimals that it was served with",
        ),
        (format!("{good}{}", entry(TestToken::Fee, FEE, 6)), "cannot be served"),
        (good.replace("decimals", "decimal"), "unknown field"),
    ] {
        let line = stage.reload(&further, KEPT).await;
        assert!(line.contains(why), "{line}");
        assert_eq!(stage.verdict(&stage.payment(1, AT, name).await).await, (true, Value::Null), "{why}");
        let fee = stage.payment(1, FEE, TestToken::Fee.name()).await;
        assert_eq!(stage.verdict(&fee).await.1, "invalid_payment_requirements");
    }
    // What is no token is not followed, and the log says so.
    let other = "the file has other changes, which take effect at the next start";
    stage.reload(&format!("max_gas = 1000000\n{good}"), other).await;
}
