//! The x402.v1 stores on SQLite and PostgreSQL keep the rules of every store, and grant one payment once, over a restart
//! too.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use x402_challenge::conformance::{Subject, run};
use x402_challenge::{Bind, BoundRequest, ChallengeOffer, Charge, CheckError, Gate, MockProof, Proofs, Store, answer};
use x402_store::postgres::PostgresChallenges;
use x402_store::sqlite::{Database, SqliteChallenges};
use x402_types::challenge::{Challenge, Code, Payment, Proof, ProofKind};
use x402_types::{TimeoutSeconds, UnixSeconds};

static FILES: AtomicU64 = AtomicU64::new(0);

/// One file a store; `reopened` opens the newest again, as a process does that was killed.
struct OnDisk(tempfile::TempDir);

impl OnDisk {
    fn path(&self) -> PathBuf {
        self.0.path().join(format!("{}.sqlite", FILES.load(Ordering::Relaxed)))
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteChallenges::new(Database::open(self.path()).unwrap()))
    }
}

#[async_trait]
impl Subject for OnDisk {
    async fn empty(&self) -> Arc<dyn Store> {
        FILES.fetch_add(1, Ordering::Relaxed);
        self.open()
    }

    async fn reopened(&self, _: Arc<dyn Store>) -> Arc<dyn Store> {
        self.open()
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    assert_eq!(run(&OnDisk(tempfile::tempdir().unwrap())).await, Ok(()));
}

/// One database a store; `reopened` opens the newest again.
#[derive(Default)]
struct InDatabase(tokio::sync::Mutex<String>);

impl InDatabase {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresChallenges::new(support::open(&self.0.lock().await).await))
    }
}

#[async_trait]
impl Subject for InDatabase {
    async fn empty(&self) -> Arc<dyn Store> {
        *self.0.lock().await = support::empty_database().await;
        self.open().await
    }

    async fn reopened(&self, _: Arc<dyn Store>) -> Arc<dyn Store> {
        self.open().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    assert_eq!(run(&InDatabase::default()).await, Ok(()));
}

/// 2025-10-19T12:00:00Z.
const NOW: UnixSeconds = UnixSeconds(1_760_875_200);
const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };

fn offer() -> ChallengeOffer {
    ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap(),
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap(),
        amount: "1000".parse().unwrap(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: None,
        bind: Bind::default(),
    }
}

fn gate(store: Arc<dyn Store>) -> Gate {
    Gate::new(store, Proofs::default().with_mock_for_development())
}

async fn challenge(gate: &Gate, n: u8) -> Challenge {
    gate.issue(&offer(), &REQUEST, [n; 16], NOW).await.unwrap()
}

fn payment(challenge: &Challenge, n: u8) -> Payment {
    MockProof::sign(answer(challenge, Proof::new(ProofKind::Mock), [n; 16], NOW))
}

/// How many of them pass at once; every other is a replay, or this very payment is being verified.
async fn passed(gate: &Gate, payments: impl IntoIterator<Item = Payment>) -> usize {
    let mut running = tokio::task::JoinSet::new();
    for payment in payments {
        let gate = gate.clone();
        running.spawn(async move { gate.check_payment(payment, &offer(), &REQUEST, None, NOW).await });
    }
    let results = running.join_all().await;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        let replay = matches!(error, CheckError::Refused(refused) if refused.code == Code::Replay);
        assert!(replay || matches!(error, CheckError::Pending { .. }), "{error}");
    }
    results.iter().filter(|result| result.is_ok()).count()
}

async fn of_200_requests_one_passes_and_none_after_a_restart(subject: &dyn Subject) {
    let store = subject.empty().await;
    let (one_header, one_challenge, one_nonce) = {
        let gate = gate(Arc::clone(&store));
        let first = payment(&challenge(&gate, 1).await, 1);
        let one_header = vec![first; 200];
        let second = challenge(&gate, 2).await;
        let one_challenge: Vec<Payment> = (2..202).map(|n| payment(&second, n)).collect();
        let mut one_nonce = Vec::new();
        for n in 3..203 {
            one_nonce.push(payment(&challenge(&gate, n).await, 202));
        }
        for payments in [&one_header, &one_challenge, &one_nonce] {
            assert_eq!(passed(&gate, payments.clone()).await, 1);
        }
        (one_header, one_challenge, one_nonce)
    };
    let gate = gate(subject.reopened(store).await);
    for payments in [one_header, one_challenge, one_nonce] {
        assert_eq!(passed(&gate, payments).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_requests_one_passes_on_sqlite() {
    of_200_requests_one_passes_and_none_after_a_restart(&OnDisk(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_requests_one_passes_on_postgres() {
    of_200_requests_one_passes_and_none_after_a_restart(&InDatabase::default()).await;
}
