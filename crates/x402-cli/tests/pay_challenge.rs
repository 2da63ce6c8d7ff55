//! `x402 pay` at a shop that asks by challenge, whose payments a facilitator settles on a chain, all in this process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use x402_challenge::{Allowance, Bind, ChallengeOffer, Charge, Gate, MemoryStore, Proofs};
use x402_codec::header::X_PAYMENT;
use x402_devchain::{ACCOUNTS, TOKEN};
use x402_evm::challenge::VerifyExact;
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{Clock, SystemClock};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::challenge::{Ask, Challenges, Entitle};
use x402_types::challenge::Networks;
use x402_types::{ChainId, UnixSeconds};

/// The payer's key: the devchain's second account.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// What happens to a request with a payment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The shop answers.
    Passes,
    /// The connection ends before the shop has the request.
    Breaks,
    /// The shop answers, and the connection ends before the answer.
    Lost,
    /// Nothing happens, for ever.
    Stuck,
    /// The handler answers with 502.
    Fails,
}

/// The shop's clock, which runs ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> UnixSeconds {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        SystemClock.entropy()
    }
}

struct Shop {
    facilitator: DevFacilitator,
    url: String,
    clock: Arc<Ahead>,
    ways: Arc<Mutex<VecDeque<Way>>>,
    payments: Arc<Mutex<Vec<String>>>,
    state: PathBuf,
}

impl Shop {
    async fn start(name: &str, entitle: Option<Entitle>) -> Self {
        let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
        let chain = ChainId::eip155(facilitator.chain().chain_id());
        let remote = RemoteFacilitator::new(facilitator.url()).unwrap();
        let proofs = Proofs::default().with(Arc::new(VerifyExact::new(Arc::new(remote)))).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let clock = Arc::new(Ahead::default());
        let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
        let offer = ChallengeOffer {
            network: Networks::default().name(chain).unwrap(),
            asset: TOKEN.into(),
            pay_to: ACCOUNTS[2].address.into(),
            amount: 10_000.into(),
            charge: Charge::Exact,
            timeout: 300.try_into().unwrap(),
            resource: "urn:res:weather".parse().unwrap(),
            meta: None,
            bind: Bind::default(),
        };
        let ask = Ask::new(offer);
        let ask = entitle.map_or_else(|| ask.clone(), |entitle| ask.clone().with_entitlement(entitle));
        let paid = Challenges::with_clock(&origin, gate, clock.clone()).unwrap().charge(ask).unwrap();

        let (ways, payments) = (Arc::<Mutex<VecDeque<Way>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (of_wire, seen) = (ways.clone(), payments.clone());
        let wire = from_fn(move |mut request: Request, next: Next| {
            let (ways, seen) = (of_wire.clone(), seen.clone());
            async move {
                let Some(payment) = request.headers().get(&X_PAYMENT) else { return next.run(request).await };
                seen.lock().unwrap().push(payment.to_str().unwrap().to_owned());
                let way = ways.lock().unwrap().pop_front().unwrap_or(Way::Passes);
                request.extensions_mut().insert(way);
                match way {
                    Way::Breaks => hang_up(),
                    Way::Stuck => std::future::pending().await,
                    Way::Lost => {
                        next.run(request).await;
                        hang_up()
                    }
                    Way::Passes | Way::Fails => next.run(request).await,
                }
            }
        });
        let handler = get(async |request: Request| match request.extensions().get() {
            Some(Way::Fails) => (StatusCode::BAD_GATEWAY, "no weather\n"),
            _ => (StatusCode::OK, "sunny\n"),
        });
        let routes = Router::new().route("/weather", handler.layer(paid)).layer(wire);
        tokio::spawn(axum::serve(listener, routes).into_future());
        let state = std::env::temp_dir().join(format!("x402-challenge-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&state));
        Self { facilitator, url: format!("{origin}/weather"), clock, ways, payments, state }
    }

    fn next(&self, ways: &[Way]) {
        self.ways.lock().unwrap().extend(ways);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
        command.args(["pay", &self.url]).args(arguments).env("X402_PRIVATE_KEY", KEY);
        command.env("XDG_STATE_HOME", &self.state).env_remove("HTTP_PROXY").env_remove("http_proxy");
        command
    }

    /// Standard output, standard error, exit status.
    async fn pay(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let mut command = self.command(arguments);
        let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        (text(output.stdout), text(output.stderr), output.status.code())
    }

    /// The different payments that arrived.
    fn payments(&self) -> Vec<String> {
        let mut payments = self.payments.lock().unwrap().clone();
        payments.dedup();
        payments
    }

    fn transfers(&self) -> usize {
        self.facilitator.chain().transfers().len()
    }

    fn journal(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.state.join("x402/payments.sqlite")).unwrap()
    }

    fn rows(&self) -> u32 {
        self.journal().query_row("SELECT count(*) FROM payments", [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.state));
    }
}

/// Ends the connection without an answer, and without a word in the test's output.
fn hang_up() -> Response {
    std::panic::resume_unwind(Box::new("the connection ends"))
}

/// The challenge id in a payment header.
fn challenge_of(payment: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(&X_PAYMENT, payment.parse().unwrap());
    x402_codec::challenge::payment(headers[&X_PAYMENT].as_bytes()).unwrap().challenge_id.as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_paid() {
    let shop = Shop::start("paid", None).await;
    let (out, err, code) = shop.pay(&[]).await;
    let id = challenge_of(&shop.payments()[0]);
    assert_eq!((out.as_str(), err, code), ("sunny", format!("paid: challenge {id} for urn:res:weather"), Some(0)));
    assert_eq!((shop.transfers(), shop.rows()), (1, 0));
    let (out, err, code) = shop.pay(&["--json"]).await;
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["payment"]["ok"], &out["payment"]["resource"]), (&true.into(), &"urn:res:weather".into()));
    assert_eq!((err.as_str(), code, shop.transfers()), ("", Some(0), 2), "another purchase");
    let (_, err, code) = shop.pay(&["--max", "0.001"]).await;
    assert!(err.starts_with("nothing was paid: ") && err.contains("more than the cap of 1000"), "{err}");
    assert_eq!((code, shop.transfers()), (Some(1), 2));
}

/// The shop takes a challenge once. What the payer hears is that it was used; what he pays is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_after_the_settlement_is_not_paid_twice() {
    let shop = Shop::start("lost", None).await;
    shop.next(&[Way::Lost, Way::Lost]);
    let (_, err, code) = shop.pay(&[]).await;
    let id = challenge_of(&shop.payments()[0]);
    assert!(err.contains(&format!("signed: challenge {id}, nonce 0x")), "{err}");
    assert!(err.contains("the same command shows the same payment again"), "{err}");
    assert_eq!((code, shop.transfers(), shop.rows()), (Some(1), 1, 1));
    let (_, err, code) = shop.pay(&[]).await;
    assert_eq!((err.as_str(), code), ("refused: replay: challengeId: paid before", Some(1)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_broke_off_is_served_by_the_same_payment() {
    let shop = Shop::start("broken", None).await;
    shop.next(&[Way::Breaks, Way::Breaks]);
    assert_eq!(shop.pay(&[]).await.2, Some(1));
    assert_eq!((shop.transfers(), shop.rows()), (0, 1));
    let (out, _, code) = shop.pay(&[]).await;
    assert_eq!((out.as_str(), code), ("sunny", Some(0)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_answer_after_the_settlement_is_paid_once() {
    let shop = Shop::start("failed", None).await;
    shop.next(&[Way::Fails]);
    let (out, err, code) = shop.pay(&[]).await;
    let paid = format!("paid: challenge {} for urn:res:weather", challenge_of(&shop.payments()[0]));
    assert_eq!((out.as_str(), &err, code), ("no weather", &paid, Some(1)));
    let (_, err, code) = shop.pay(&[]).await;
    assert_eq!((err, code), (format!("paid without an answer ({paid})"), Some(1)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (1, 1, 0));

    // With an entitlement the second run has what the first one bought.
    let shop = Shop::start("entitled", Some(Entitle::bearer(600).with_allowance(Allowance::Once))).await;
    shop.next(&[Way::Fails]);
    assert_eq!(shop.pay(&[]).await.2, Some(1));
    let (out, _, code) = shop.pay(&[]).await;
    assert_eq!((out.as_str(), code), ("sunny", Some(0)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (1, 1, 0));
}

/// Unknown is never failed: a challenge that is over, and of whose payment nothing was heard, is not paid anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_challenge_with_an_unknown_end_is_paid_anew_by_name_only() {
    let shop = Shop::start("expired", None).await;
    shop.next(&[Way::Breaks, Way::Breaks]);
    assert_eq!(shop.pay(&[]).await.2, Some(1));
    shop.clock.0.store(1_000, Ordering::SeqCst);
    // Both sides' time is over: the row's, by hand, and the shop's.
    let file = shop.journal();
    let text: String = file.query_row("SELECT payment FROM payments", [], |row| row.get(0)).unwrap();
    let mut row: Value = serde_json::from_str(&text).unwrap();
    row["valid_until"] = "1763600000".into();
    file.execute("UPDATE payments SET payment = ?1", [row.to_string()]).unwrap();
    drop(file);
    for _ in 0..2 {
        let (_, err, code) = shop.pay(&[]).await;
        assert!(err.contains("whether it was settled is not known") && err.contains("--pay-anew"), "{err}");
        assert_eq!((code, shop.payments().len(), shop.transfers(), shop.rows()), (Some(1), 1, 0, 1));
    }
    shop.clock.0.store(0, Ordering::SeqCst);
    let (out, _, code) = shop.pay(&["--pay-anew"]).await;
    assert_eq!((out.as_str(), code), ("sunny", Some(0)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_before_the_shop_has_the_payment_left_it_in_the_journal() {
    let shop = Shop::start("killed", None).await;
    shop.next(&[Way::Stuck]);
    let mut run = shop.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while shop.payments.lock().unwrap().is_empty() {
        assert!(run.try_wait().unwrap().is_none(), "it waits for the answer");
        tokio::task::yield_now().await;
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!((shop.transfers(), shop.rows()), (0, 1));
    let (out, _, code) = shop.pay(&[]).await;
    assert_eq!((out.as_str(), code), ("sunny", Some(0)));
    assert_eq!((shop.payments().len(), shop.transfers(), shop.rows()), (1, 1, 0));
}
