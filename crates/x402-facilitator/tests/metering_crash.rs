//! SIGKILL while a metered request is served: between two calls of the meter, and while it is settled. What was
//! acknowledged is paid, once, and never more than was counted.
//!
//! The process that is killed is this test's own program, started again with a file to work on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_challenge::{
    Bind, Charge, Evidence, Gate, Metered, Offer, ProofError, ProofKey, Proofs, Proven, Request, VerifyProof, answer,
};
use x402_facilitator::challenges::SqliteChallenges;
use x402_facilitator::clock::now;
use x402_facilitator::sqlite::Database;
use x402_types::challenge::{Proof, ProofKind};
use x402_types::{AtomicAmount, TimeoutSeconds, UnixSeconds};

/// The file that the killed process works on, and what it does there.
const FILE: &str = "X402_METERING_FILE";
const TASK: &str = "X402_METERING_TASK";
/// Kills of each kind.
const TIMES: u8 = 12;
const MAXIMUM: u64 = 1_000_000;

const REQUEST: Request<'static> =
    Request { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };

/// Verifies everything, and writes down what it was asked to settle. In the process that dies it never answers.
#[derive(Default)]
struct Facilitator {
    dies: bool,
    settled: Mutex<Vec<(String, AtomicAmount)>>,
}

#[async_trait]
impl VerifyProof for Facilitator {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let key = evidence.payment.proof.ticket.clone().map(ProofKey);
        Ok(Proven { amount: evidence.payment.paid_amount, key })
    }

    async fn settle(&self, meter: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        if self.dies {
            say(meter.used);
            core::future::pending::<()>().await;
        }
        let ticket = meter.payment.proof.ticket.as_deref().unwrap().to_owned();
        self.settled.lock().unwrap().push((ticket, meter.used));
        Ok(())
    }
}

fn gate(file: &Path, facilitator: Arc<Facilitator>) -> Gate {
    let store = SqliteChallenges::new(Database::open(file).unwrap());
    Gate::new(Arc::new(store), Proofs::default().with(facilitator).unwrap())
}

/// To the process that watches.
fn say(amount: AtomicAmount) {
    let mut out = std::io::stdout();
    writeln!(out, "{amount}").unwrap();
    out.flush().unwrap();
}

/// Serves one metered request, until it is killed.
async fn serve(file: &Path, task: &str) {
    let gate = gate(file, Arc::new(Facilitator { dies: true, ..Facilitator::default() }));
    let offer = Offer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap(),
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap(),
        amount: MAXIMUM.into(),
        charge: Charge::UpTo,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: None,
        bind: Bind::default(),
    };
    let (kind, n) = task.split_once(' ').unwrap();
    let random = [n.parse::<u8>().unwrap(); 16];
    let challenge = gate.issue(&offer, &REQUEST, random, now()).await.unwrap();
    let proof = Proof { ticket: Some(task.into()), ..Proof::new(ProofKind::Facilitator) };
    let payment = answer(&challenge, proof, random, now());
    let granted = gate.check_payment(payment, &offer, &REQUEST, None, now()).await.unwrap();
    let meter = granted.meter.unwrap();
    loop {
        let used = meter.add(3.into(), now()).await.unwrap();
        if kind == "count" {
            // Given to the client only now that it is durable.
            say(used);
        } else if used >= 30.into() {
            drop(gate.settle(meter.id(), now()).await);
        }
    }
}

struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Server {
    fn start(file: &Path, task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(FILE, file)
            .env(TASK, task)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn next(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().ok()
    }

    /// SIGKILL; what it had said by then.
    fn kill(mut self, mut last: u64) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Some(said) = self.next() {
            last = said;
        }
        last
    }
}

/// Kills the server after so many words, starts anew on its file, and has what is open settled: the last amount that
/// was acknowledged, and the one that was settled.
async fn killed(file: &Path, task: &str, words: usize) -> (u64, u64) {
    let mut server = Server::start(file, task);
    let mut last = 0;
    for _ in 0..words {
        last = server.next().expect("it ended by itself");
    }
    let acknowledged = server.kill(last);

    let facilitator = Arc::new(Facilitator::default());
    let gate = gate(file, facilitator.clone());
    let later = now().plus(1);
    let open = gate.store().open_meters(later, 10).await.unwrap();
    assert_eq!(open.len(), 1, "{task}: the meter of the dead request");
    let settled = gate.settle(&open[0], later).await.unwrap();
    assert_eq!(gate.settle(&open[0], later).await, Ok(settled), "{task}: settled again");
    assert_eq!(*facilitator.settled.lock().unwrap(), [(task.to_owned(), settled)], "{task}: settled once");
    assert_eq!(gate.store().open_meters(later.plus(1), 10).await, Ok(vec![]));
    (acknowledged, settled.to_string().parse().unwrap())
}

async fn watch() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meters.sqlite");
    for n in 0..TIMES {
        let (acknowledged, settled) = killed(&file, &format!("count {n}"), usize::from(n) + 1).await;
        // One more may have been counted and not acknowledged.
        assert!((acknowledged..=acknowledged + 3).contains(&settled), "{n}: {acknowledged} and {settled}");
    }
    for n in TIMES..2 * TIMES {
        assert_eq!(killed(&file, &format!("settle {n}"), 1).await, (30, 30));
    }
}

/// Its own harness: the program is both, who is killed and who watches.
fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match (std::env::var_os(FILE), std::env::var(TASK)) {
        (Some(file), Ok(task)) => runtime.block_on(serve(Path::new(&file), &task)),
        _ => runtime.block_on(watch()),
    }
}
