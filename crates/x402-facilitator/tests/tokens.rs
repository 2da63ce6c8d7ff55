//! Tokens that are not FiatToken, through the whole product: client, seller's layer, facilitator, devchain. Those that
//! no payment can be proven with are refused at start.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256, address};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, Failure, TOKENS_EACH, TestToken, Token, When, signer};
use x402_evm::eip3009::{Authorization, Payload};
use x402_evm::exact::{Exact, Payer as ExactPayer, Price};
use x402_evm::token::Tokens;
use x402_facilitator::clock::now;
use x402_facilitator::engine::Patience;
use x402_facilitator::heads::Polling;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_http::client::{PayClient, Payer, Receipt, SpendLimits};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{Asset, Assets, ChainId, MakePayment, Offer, SigningContext, UnixSeconds, payment_entropy};

use crate::support::process::configuration;
use crate::support::{SELLER, body, send, tls};

const CHAIN: u64 = 84_532;
const AT: Address = address!("7777777777777777777777777777777777777777");
const PRICE: u64 = 10_000;

struct Stage {
    chain: DevChain,
    serving: Serving,
    tokens: Tokens,
}

/// A facilitator that serves one token. `named`: whether its configuration knows the domain.
async fn stage(token: TestToken, named: bool) -> Stage {
    tls();
    let chain = DevChain::new().unwrap();
    chain.put_token(token, AT).unwrap();
    let network = ChainId::eip155(CHAIN);
    let known = |name: &str, version: &str| {
        let mut assets = Assets::none();
        assets.add(Asset::new(network, AT, "TEST", name, version, 6).dollar());
        assets
    };
    let assets = if named { known(token.name(), "1") } else { known(token.name(), "") };
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
    let evm = Evm {
        polling: Polling { busy: Duration::from_millis(20), rest: Duration::from_millis(20) },
        assets,
        ..Evm::new(chain.client(), network, 0, x402_devchain::key(0).into_iter().collect())
    };
    let builder = Builder::new(owner(), ledger)
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(60))));
    let (engine, heads) = builder.build().unwrap();
    heads.check().await.unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let serving = Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap();
    Stage { chain, serving, tokens: Tokens::new(&known(token.name(), "1")) }
}

impl Stage {
    fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    fn offer(&self) -> Offer {
        let price: Price = "$0.01".parse().unwrap();
        let pay_to = ACCOUNTS[SELLER].address;
        Exact::new(self.tokens.clone()).requirements(ChainId::eip155(CHAIN), pay_to, price).unwrap()
    }

    async fn balance(&self, account: Address) -> U256 {
        let call = alloy_sol_types::SolCall::abi_encode(&Token::balanceOfCall { account });
        let call = TransactionRequest::default().to(AT).input(call.into());
        U256::from_be_slice(&self.chain.provider().call(call).await.unwrap())
    }

    /// A shop, and a client that buys in it once.
    async fn buys(&self) {
        let remote = Arc::new(RemoteFacilitator::new(&self.url()).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let paid = Seller::new(&origin, remote).unwrap().charge([self.offer()]).unwrap();
        let app = Router::new().route("/report", get(|| async { "the report" }).layer(paid));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let payer = ExactPayer::new(signer(1).unwrap()).with_tokens(self.tokens.clone());
        let network = ChainId::eip155(CHAIN);
        let mut assets = Assets::none();
        assets.add(Asset::new(network, AT, "TEST", "", "", 6).dollar());
        let limits = SpendLimits::default().with_assets(assets);
        let client = PayClient::new(Payer::new(payer).with_spending(limits)).unwrap();
        let before = self.balance(ACCOUNTS[SELLER].address).await;
        let response = client.get(&format!("{origin}/report")).await.unwrap();
        assert_eq!(response.status(), 200);
        let receipt = response.extensions().get::<Receipt>().unwrap().0.clone();
        assert!(receipt.success);
        assert_eq!(response.text().await.unwrap(), "the report");
        assert_eq!(self.balance(ACCOUNTS[SELLER].address).await - before, U256::from(PRICE));
        let hash: B256 = receipt.transaction.parse().unwrap();
        assert!(self.chain.provider().get_transaction_receipt(hash).await.unwrap().unwrap().inner.status());
    }

    /// A payment of account 1 under this nonce, as a body for the facilitator.
    async fn payment(&self, entropy: [u8; 32]) -> (Payload, String) {
        let terms = self.offer().terms;
        let now = UnixSeconds(self.chain.time());
        let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
        let payer = ExactPayer::new(signer(1).unwrap()).with_tokens(self.tokens.clone());
        let payload = payer.make_payment(&terms, &context).await.unwrap().payload;
        (Payload::read(&payload).unwrap(), body(&terms, &payload).to_string())
    }

    async fn verify(&self, body: String) -> Value {
        send(&format!("{}/verify", self.url()), body, None).await.1
    }
}

#[tokio::test]
async fn tokens_that_are_not_fiat_token_pay_through_the_whole_product() {
    for token in [TestToken::Oz, TestToken::OzKeyed, TestToken::Paxos, TestToken::TransferFirst] {
        for named in [true, false] {
            let stage = stage(token, named).await;
            stage.buys().await;
            stage.buys().await;
            stage.serving.stop().await;
        }
    }
}

/// OpenZeppelin 5.7's `ERC20TransferAuthorization`: `InvalidAccountNonce` of a nonce whose last 8 bytes are not the next.
#[tokio::test]
async fn a_random_nonce_of_a_token_with_keyed_nonces_has_its_own_message() {
    let stage = stage(TestToken::OzKeyed, true).await;
    let verdict = stage.verify(stage.payment([7; 32]).await.1).await;
    assert_eq!(verdict["isValid"], json!(false), "{verdict}");
    assert_eq!(verdict["invalidReason"], json!("invalid_exact_evm_transaction_simulation_failed"));
    let message = verdict["invalidMessage"].as_str().unwrap();
    assert!(message.contains("a key of 24 bytes and a counter of 8"), "{message}");
    let verdict = stage.verify(stage.payment(payment_entropy([7; 32])).await.1).await;
    assert_eq!(verdict["isValid"], json!(true), "{verdict}");
    stage.serving.stop().await;
}

/// A used authorization of a Paxos token does not revert, so a simulation alone would pass: `authorizationState` decides.
#[tokio::test]
async fn a_used_authorization_of_a_paxos_token_is_refused_although_its_call_succeeds() {
    let stage = stage(TestToken::Paxos, true).await;
    let (payload, body) = stage.payment(payment_entropy([9; 32])).await;
    assert_eq!(stage.verify(body.clone()).await["isValid"], json!(true));
    let Authorization { from, .. } = payload.authorization;
    let signature = x402_evm::signature::Signature::from_bytes(&payload.signature).unwrap();
    let call = payload.authorization.transfer_call(&signature);
    let sender = stage.chain.wallet(signer(7).unwrap());
    for times in 1..=2u64 {
        let request = TransactionRequest::default().to(AT).input(call.clone().into()).gas_limit(200_000);
        let receipt = sender.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status(), "{times}: the token does not revert");
        assert_eq!(stage.balance(from).await, U256::from(TOKENS_EACH - PRICE), "{times}: it is used once");
    }
    let verdict = stage.verify(body).await;
    assert_eq!(verdict["invalidReason"], json!("invalid_exact_evm_nonce_already_used"), "{verdict}");
    stage.serving.stop().await;
}

/// Custom errors of each family, and what a blocked payer is told.
#[tokio::test]
async fn a_blocked_payer_is_told_so_by_every_token() {
    alloy_sol_types::sol! {
        function setBlocked(address account, bool blocked) external;
    }
    for token in [TestToken::Oz, TestToken::Paxos] {
        let stage = stage(token, true).await;
        let call = setBlockedCall { account: ACCOUNTS[1].address, blocked: true };
        let call = alloy_sol_types::SolCall::abi_encode(&call);
        let request = TransactionRequest::default().to(AT).input(call.into());
        stage.chain.wallet(signer(7).unwrap()).send_transaction(request).await.unwrap().get_receipt().await.unwrap();
        let verdict = stage.verify(stage.payment(payment_entropy([1; 32])).await.1).await;
        assert_eq!(verdict["invalidReason"], json!("payer_blocked"), "{token:?}: {verdict}");
        stage.serving.stop().await;
    }
}

/// MegaETH, whose default token only Permit2 moves.
const PERMIT2_CHAIN: u64 = 4_326;
const PERMIT2_TOKEN: Address = address!("FAfDdbb3FC7688494971a79cc65DCa3EF82079E7");

/// What a facilitator writes before it ends, if it does not listen.
async fn start(token: TestToken, disturb: impl FnOnce(&DevChain)) -> Result<(), String> {
    start_on(CHAIN, |chain| {
        chain.put_token(token, AT).unwrap();
        disturb(chain);
        asset(token.name())
    })
    .await
}

fn asset(name: &str) -> String {
    format!(
        "\n[[network.asset]]\naddress = \"{AT}\"\nsymbol = \"TEST\"\nname = \"{name}\"\nversion = \"1\"\ndecimals = 6\n"
    )
}

/// The same for a token that only Permit2 moves.
async fn start_by_permit2(token: TestToken, disturb: impl FnOnce(&DevChain)) -> Result<(), String> {
    start_on(PERMIT2_CHAIN, |chain| {
        chain.put_token(token, PERMIT2_TOKEN).unwrap();
        disturb(chain);
        String::new()
    })
    .await
}

async fn start_on(network: u64, prepare: impl FnOnce(&DevChain) -> String) -> Result<(), String> {
    run_on(network, "serve", prepare).await.map(drop)
}

/// What a subcommand prints, of `serve` the first line; or what it writes before it ends without one.
async fn run_on(network: u64, command: &str, prepare: impl FnOnce(&DevChain) -> String) -> Result<String, String> {
    let chain = DevChain::builder().chain_id(network).build().unwrap();
    let further = prepare(&chain);
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let text = std::fs::read_to_string(&config).unwrap().replace("eip155:84532", &format!("eip155:{network}"));
    std::fs::write(&config, text + &further).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"))
        .args([command, "--config"])
        .arg(&config)
        .env("TEST_RPC", &node.url)
        .env("TEST_KEY", ACCOUNTS[0].key.to_string())
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let serves = command == "serve";
    let ended = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead, BufReader, Read};
        let mut child = child;
        let (mut out, mut printed) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        // The report ends by itself; a facilitator that serves prints one line.
        let listens = if serves { out.read_line(&mut printed) } else { out.read_to_string(&mut printed) };
        drop(if serves { child.kill() } else { Ok(()) });
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        if listens.unwrap() > 0 { Ok(printed) } else { Err(said) }
    });
    ended.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_proven_is_refused_at_start_by_name() {
    let said = start(TestToken::Fee, |_| {}).await.unwrap_err();
    assert!(
        said.contains("the token Fee Dollar (0x7777777777777777777777777777777777777777) on eip155:84532"),
        "{said}"
    );
    assert!(said.contains("of 1000000 that are signed, 990000 arrive"), "{said}");
    let said = start(TestToken::Silent, |_| {}).await.unwrap_err();
    assert!(said.contains("Silent Dollar") && said.contains("emits no Transfer(from, to, value)"), "{said}");
    for token in [TestToken::Oz, TestToken::OzKeyed, TestToken::Paxos, TestToken::TransferFirst] {
        assert_eq!(start(token, |_| {}).await, Ok(()), "{token:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_permit2_that_cannot_be_proven_is_refused_at_start_by_name() {
    let said = start_by_permit2(TestToken::Fee, |_| {}).await.unwrap_err();
    let named = "the token MegaUSD (0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7) on eip155:4326 cannot be served";
    assert!(said.contains(named) && said.contains("of 1000000 that are signed, 990000 arrive"), "{said}");
    let said = start_by_permit2(TestToken::Silent, |_| {}).await.unwrap_err();
    let why = "a transfer by Permit2 emits no Transfer(from, to, value)";
    assert!(said.contains(named) && said.contains(why), "{said}");
    let said = start_by_permit2(TestToken::Fee, without_simulation).await.unwrap_err();
    assert!(said.contains(named) && said.contains("990000 arrive"), "{said}");
    assert_eq!(start_by_permit2(TestToken::Oz, |_| {}).await, Ok(()));
    // A configured token without EIP-3009: `authorizationState`, `e94a0102`, becomes another function.
    let chain = DevChain::new().unwrap();
    chain.put_token(TestToken::Fee, AT).unwrap();
    let code = chain.provider().get_code_at(AT).await.unwrap();
    let at = code.windows(4).position(|four| four == [0xe9, 0x4a, 0x01, 0x02]).unwrap();
    let code = [&code[..at], &[0xff; 4], &code[at + 4..]].concat();
    let said = start_on(CHAIN, |chain| {
        chain.put_token(TestToken::Fee, AT).unwrap();
        chain.set_code(AT, code.into()).unwrap();
        asset("Old Dollar")
    });
    let said = said.await.unwrap_err();
    assert!(said.contains("the token Old Dollar") && said.contains("990000 arrive"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_tries_tokens_of_permit2_too() {
    let report = run_on(PERMIT2_CHAIN, "check", |chain| {
        chain.put_token(TestToken::Fee, PERMIT2_TOKEN).unwrap();
        String::new()
    });
    let report = report.await.unwrap();
    let line = report.lines().find(|line| line.contains("token MegaUSD")).unwrap();
    assert!(line.starts_with("problem") && line.contains("of 1000000 that are signed, 990000 arrive"), "{report}");
}

fn without_simulation(chain: &DevChain) {
    let failure = Failure::Error { code: -32601, message: "the method eth_simulateV1 does not exist".to_owned() };
    chain.fail_calls("eth_simulateV1", 100, When::Before, failure);
}

/// Without `eth_simulateV1` a fee shows by a state override; what is not in the logs does not, and the token is served.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_simulation_a_state_override_shows_the_fee() {
    let said = start(TestToken::Fee, without_simulation).await.unwrap_err();
    assert!(said.contains("Fee Dollar") && said.contains("990000 arrive"), "{said}");
    assert_eq!(start(TestToken::Silent, without_simulation).await, Ok(()));
}
