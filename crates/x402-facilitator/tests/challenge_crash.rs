//! SIGKILL while a payment is checked, between two calls of a meter, and while what was used is settled. What moved is
//! granted once; what was acknowledged is paid, once, and never more than was counted.
//!
//! The process that is killed is this test's own program, started again with a file to work on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_challenge::{
    Bind, BoundRequest, ChallengeOffer, Charge, CheckError, Evidence, Gate, Metered, ProofError, ProofKey, Proofs,
    Proven, VerifyProof, answer,
};
use x402_facilitator::clock::now;
use x402_store::sqlite::Database;
use x402_store::sqlite::SqliteChallenges;
use x402_types::challenge::{Challenge, ChallengeId, Code, Payment, Proof, ProofKind};
use x402_types::{AtomicAmount, TimeoutSeconds, UnixSeconds};

/// The file that the killed process works on, and what it does there.
const FILE: &str = "X402_CHALLENGE_FILE";
const TASK: &str = "X402_CHALLENGE_TASK";
/// When every challenge is issued and first paid: 2025-10-19T12:00:00Z.
const ISSUED: UnixSeconds = UnixSeconds(1_760_875_200);
/// Kills of each kind.
const TIMES: u8 = 12;
const MAXIMUM: u64 = 1_000_000;

const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };

/// Verifies everything, and writes down what it was asked to settle: what is metered afterwards, anything else at once.
/// In the process that dies it never answers to that.
#[derive(Default)]
struct Facilitator {
    dies: bool,
    settled: Mutex<Vec<(String, AtomicAmount)>>,
}

impl Facilitator {
    async fn moves(&self, ticket: &str, amount: AtomicAmount) {
        if self.dies {
            say(amount);
            core::future::pending::<()>().await;
        }
        self.settled.lock().unwrap().push((ticket.to_owned(), amount));
    }
}

#[async_trait]
impl VerifyProof for Facilitator {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let ticket = evidence.payment.proof.ticket.as_deref().unwrap();
        if !evidence.is_metered() {
            assert_ne!(evidence.again, self.dies, "again after the crash, and not before");
            self.moves(ticket, evidence.payment.paid_amount).await;
        }
        let key = Some(ProofKey(ticket.into()));
        Ok(Proven { amount: evidence.payment.paid_amount, key })
    }

    async fn settle(&self, meter: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        self.moves(meter.payment.proof.ticket.as_deref().unwrap(), meter.used).await;
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

fn offer(charge: Charge) -> ChallengeOffer {
    ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap(),
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap(),
        amount: MAXIMUM.into(),
        charge,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: None,
        bind: Bind::default(),
    }
}

/// The payment of the challenge whose id is made from `n`, in every process the same.
fn payment(challenge: &Challenge, task: &str, n: u8) -> Payment {
    let proof = Proof { ticket: Some(task.into()), ..Proof::new(ProofKind::Facilitator) };
    answer(challenge, proof, [n; 16], ISSUED)
}

/// Serves one request, until it is killed.
async fn serve(file: &Path, task: &str) {
    let gate = gate(file, Arc::new(Facilitator { dies: true, ..Facilitator::default() }));
    let (kind, n) = task.split_once(' ').unwrap();
    let n: u8 = n.parse().unwrap();
    let offer = offer(if kind == "check" { Charge::Exact } else { Charge::UpTo });
    let challenge = gate.issue(&offer, &REQUEST, [n; 16], ISSUED).await.unwrap();
    let payment = payment(&challenge, task, n);
    let granted = gate.check_payment(payment, &offer, &REQUEST, None, ISSUED).await.unwrap();
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

/// Kills the server when the money has moved and nothing else was heard; the same payment comes again.
async fn killed_while_it_settles(file: &Path, n: u8) {
    let task = format!("check {n}");
    let mut server = Server::start(file, &task);
    assert_eq!(server.next(), Some(MAXIMUM), "{task}: it moved");
    server.kill(MAXIMUM);

    let facilitator = Arc::new(Facilitator::default());
    let gate = gate(file, facilitator.clone());
    let id = ChallengeId::from_random([n; 16]);
    let challenge = gate.store().find(&id, ISSUED).await.unwrap().unwrap().0.challenge;
    let (same, other) = (payment(&challenge, &task, n), payment(&challenge, &task, n ^ 0x80));
    let asked = offer(Charge::Exact);
    let check = async |payment: &Payment, seconds: u64| {
        gate.check_payment(payment.clone(), &asked, &REQUEST, None, ISSUED.plus(seconds)).await.map(drop)
    };
    let replay = |checked: Result<(), CheckError>| {
        assert!(matches!(&checked, Err(CheckError::Refused(refused)) if refused.code == Code::Replay), "{checked:?}");
    };
    let pending = check(&same, Gate::HOLD).await;
    assert_eq!(pending, Err(CheckError::Pending { retry_after: 1 }), "{task}: its hold has not run out");
    replay(check(&other, 0).await);
    // The hold ran out, and the challenge expired.
    gate.store().forget(ISSUED.plus(5000)).await.unwrap();
    assert_eq!(check(&same, 5000).await, Ok(()), "{task}");
    replay(check(&same, 5000).await);
    assert_eq!(facilitator.settled.lock().unwrap().len(), 1, "{task}: settled again, under the same ticket");
}

async fn watch() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("challenges.sqlite");
    for n in 0..TIMES {
        killed_while_it_settles(&file, 100 + n).await;
    }
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
