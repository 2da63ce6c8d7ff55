//! The whole exchange of the x402.v1 dialect on a chain, with the `exact` and the `onchain` proof, on SQLite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use x402_challenge::{
    Bind, BoundRequest, ChallengeOffer, Charge, CheckError, ExactProof, Gate, Granted, MakeProof, Proofs, Refund,
    RefundError, Store, answer, exact_nonce,
};
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, Token, signer};
use x402_evm::chain::RpcChain;
use x402_evm::challenge::{ExactRefund, VerifyExact, VerifyOnchain};
use x402_evm::eip3009::Payload;
use x402_evm::exact::Payer;
use x402_facilitator::clock::now;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::engine::Engine;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_store::sqlite::Database;
use x402_store::sqlite::SqliteChallenges;
use x402_types::challenge::{Challenge, Code, Networks, Payment, Proof, ProofKind};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{ChainId, Fault, MakePayment, SigningContext, TimeoutSeconds, UnixSeconds};

use crate::support::{SELLER, tls};

const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };
const PRICE: u64 = 1000;
const BUYER: usize = 1;

fn offer() -> ChallengeOffer {
    ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: TOKEN.into(),
        pay_to: ACCOUNTS[SELLER].address.into(),
        amount: PRICE.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(60).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: None,
        bind: Bind::default(),
    }
}

/// A facilitator whose answers to `settle` get lost while the wire is cut, and never come while it hangs.
struct Wire {
    engine: Arc<Engine>,
    cut: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl Facilitator for Wire {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        self.engine.verify(request).await
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        let answer = self.engine.settle(request).await;
        if self.hangs.load(Ordering::Relaxed) {
            core::future::pending::<()>().await;
        }
        if self.cut.load(Ordering::Relaxed) { Err(Fault::unreachable("facilitator", "timeout")) } else { answer }
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        self.engine.supported().await
    }
}

struct Stage {
    facilitator: DevFacilitator,
    wire: Arc<Wire>,
    gate: Gate,
    file: tempfile::TempDir,
    ids: AtomicU8,
}

/// `depth` blocks make a transaction count.
async fn stage(depth: u64) -> Stage {
    tls();
    let facilitator = DevFacilitator::start(([127, 0, 0, 1], 0).into(), |routes| routes).await.unwrap();
    let wire = Arc::new(Wire {
        engine: Arc::clone(facilitator.engine()),
        cut: AtomicBool::new(false),
        hangs: AtomicBool::new(false),
    });
    let chain =
        RpcChain::new(facilitator.chain().client(), ChainId::eip155(84532), depth).with_freshness(Duration::ZERO);
    let onchain = VerifyOnchain::new(Networks::default()).with_chain(Arc::new(chain));
    let proofs = Proofs::default().with(Arc::new(VerifyExact::new(wire.clone()))).unwrap();
    let proofs = proofs.with(Arc::new(onchain)).unwrap();
    let file = tempfile::tempdir().unwrap();
    let store = SqliteChallenges::new(Database::open(file.path().join("challenges.sqlite")).unwrap());
    Stage { facilitator, wire, gate: Gate::new(Arc::new(store), proofs), file, ids: AtomicU8::new(1) }
}

impl Stage {
    fn chain(&self) -> &DevChain {
        self.facilitator.chain()
    }

    async fn challenge(&self) -> Challenge {
        self.challenge_at(now()).await
    }

    async fn challenge_at(&self, at: UnixSeconds) -> Challenge {
        self.gate.issue(&offer(), &REQUEST, [self.id(); 16], at).await.unwrap()
    }

    fn id(&self) -> u8 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    async fn exact(&self, challenge: &Challenge) -> Payment {
        let payment = answer(challenge, Proof::new(ProofKind::Exact), [self.id(); 16], now());
        let context = SigningContext { now: now(), entropy: [0; 32], url: "", method: "" };
        let wallet = ExactProof::new(Payer::new(signer(BUYER).unwrap()));
        wallet.make_proof(challenge, payment, &context).await.unwrap().payment
    }

    /// Transfers on the chain, and the payment that names the transaction.
    async fn onchain(&self, challenge: &Challenge, to: Address, value: u64) -> Payment {
        let call = Token::transferCall { to, value: U256::from(value) };
        let request = alloy_rpc_types_eth::TransactionRequest::default()
            .with_to(TOKEN)
            .with_input(call.abi_encode())
            .with_gas_limit(200_000);
        let buyer = self.chain().wallet(signer(BUYER).unwrap());
        let receipt = buyer.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
        self.naming(challenge, &receipt.transaction_hash.to_string())
    }

    fn naming(&self, challenge: &Challenge, hash: &str) -> Payment {
        let proof = Proof { tx_hash: Some(hash.into()), ..Proof::new(ProofKind::Onchain) };
        answer(challenge, proof, [self.id(); 16], now())
    }

    async fn check_at(&self, payment: &Payment, at: UnixSeconds) -> Result<Granted, CheckError> {
        let header = x402_codec::challenge::encode_payment(payment).unwrap();
        self.gate.check(header.as_bytes(), &offer(), &REQUEST, None, at).await
    }

    async fn check(&self, payment: &Payment) -> Result<Granted, CheckError> {
        self.check_at(payment, now()).await
    }

    async fn refused(&self, payment: &Payment) -> (Code, String) {
        match self.check(payment).await {
            Err(CheckError::Refused(refused)) => (refused.code, refused.message.into()),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// What the seller was paid on the chain.
    fn paid(&self) -> Vec<u64> {
        let to_seller = |transfer: &x402_devchain::Transfer| transfer.to == ACCOUNTS[SELLER].address;
        self.chain().transfers().into_iter().filter(to_seller).map(|transfer| transfer.value.to()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_proof_is_settled_and_granted_once() {
    let stage = stage(0).await;
    let challenge = stage.challenge().await;
    let payment = stage.exact(&challenge).await;
    let granted = stage.check(&payment).await.unwrap();
    assert!(granted.response.ok);
    assert!(granted.proof.unwrap().0.starts_with("exact:"));
    assert_eq!(stage.paid(), [PRICE]);
    assert_eq!(stage.refused(&payment).await.0, Code::Replay);
    // The store opened again, as after a restart.
    let store = SqliteChallenges::new(Database::open(stage.file.path().join("challenges.sqlite")).unwrap());
    let standing = store.find(&challenge.challenge_id, now()).await.unwrap().unwrap().1;
    assert!(matches!(standing, x402_challenge::ChallengeState::Paid { .. }));
    assert_eq!(stage.paid(), [PRICE]);
}

/// An authorization that is good for a token is not good for any challenge.
#[tokio::test(flavor = "multi_thread")]
async fn an_exact_proof_pays_what_it_signed_for() {
    let stage = stage(0).await;
    let (challenge, other) = (stage.challenge().await, stage.challenge().await);
    let good = stage.exact(&challenge).await;
    // Taken by somebody else for a challenge of his own.
    let stolen = Payment { proof: good.proof.clone(), ..stage.exact(&other).await };
    assert!(stage.refused(&stolen).await.1.contains("authorization.nonce"));
    // Signed for another recipient, another sum, by another account than is named.
    let signed = async |edit: &dyn Fn(&mut Challenge)| {
        let mut asked = challenge.clone();
        edit(&mut asked);
        let mut payment = stage.exact(&asked).await;
        payment.paid_amount = challenge.max_amount_required;
        payment
    };
    let elsewhere = signed(&|asked| asked.pay_to = ACCOUNTS[BUYER].address.into()).await;
    assert!(stage.refused(&elsewhere).await.1.contains("authorization.to"));
    let less = signed(&|asked| asked.max_amount_required = (PRICE - 1).into()).await;
    assert!(stage.refused(&less).await.1.contains("authorization.value"));
    let named = Payment { payer: Some(ACCOUNTS[4].address.into()), ..good.clone() };
    // The payer stands in the canonical payment, so that the nonce is another's, too.
    assert_eq!(stage.refused(&named).await.0, Code::VerificationFailed);
    // Not the payer's signature: the facilitator's word.
    let mut forged = good.clone();
    let mut payload = Payload::read(forged.proof.payload.as_ref().unwrap()).unwrap();
    payload.authorization.from = ACCOUNTS[4].address;
    forged.proof.payload = Some(payload.to_json());
    assert!(stage.refused(&forged).await.1.contains("invalid_exact_evm_payload_signature"));
    for bad in ["{}", r#"{"signature":"0x","authorization":{}}"#] {
        let mut bad_payload = good.clone();
        bad_payload.proof.payload = Some(serde_json::from_str(bad).unwrap());
        assert_eq!(stage.refused(&bad_payload).await.0, Code::VerificationFailed);
    }
    assert_eq!(stage.paid(), [0u64; 0]);
    // None of it consumed anything.
    assert!(stage.check(&good).await.is_ok());
    assert_eq!(stage.paid(), [PRICE]);
}

/// Settled, and the answer lost; settled, and the server gone. The same payment is granted, and nothing moves twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_was_not_heard_of_is_granted() {
    let stage = stage(0).await;
    let payment = stage.exact(&stage.challenge().await).await;
    stage.wire.cut.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let unknown = stage.check(&payment).await.unwrap_err();
        assert_eq!((unknown.status(), unknown.retry_after()), (503, Some(1)));
        assert_eq!(stage.paid(), [PRICE]);
    }
    stage.wire.cut.store(false, Ordering::Relaxed);
    // Long after the challenge expired.
    assert!(stage.check_at(&payment, now().plus(3600)).await.is_ok());
    assert_eq!(stage.refused(&payment).await.0, Code::Replay);

    let payment = stage.exact(&stage.challenge().await).await;
    {
        // Dropped when the money has moved; it cannot end before.
        stage.wire.hangs.store(true, Ordering::Relaxed);
        let mut dying = Box::pin(stage.check(&payment));
        while stage.paid().len() < 2 {
            assert!(tokio::time::timeout(Duration::from_millis(1), dying.as_mut()).await.is_err());
        }
        stage.wire.hangs.store(false, Ordering::Relaxed);
    }
    let early = stage.check(&payment).await;
    assert!(matches!(early, Err(CheckError::Pending { .. })), "{early:?}");
    assert!(stage.check_at(&payment, now().plus(Gate::HOLD + 2)).await.is_ok());
    assert_eq!(stage.paid(), [PRICE, PRICE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_onchain_proof_counts_once_it_is_deep_enough() {
    let stage = stage(3).await;
    let seller = ACCOUNTS[SELLER].address;
    let (challenge, other) = (stage.challenge().await, stage.challenge().await);
    let payment = stage.onchain(&challenge, seller, PRICE).await;
    let shallow = stage.check(&payment).await.unwrap_err();
    assert_eq!((shallow.status(), shallow.retry_after()), (503, Some(1)));
    stage.chain().mine(2);
    assert_eq!(stage.check(&payment).await.unwrap_err().status(), 503);
    stage.chain().mine(1);
    // It was in time when it was shown first.
    let granted = stage.check_at(&payment, now().plus(3600)).await.unwrap();
    assert!(granted.proof.unwrap().0.starts_with("onchain:eip155:84532:0x"));
    // The transaction paid one challenge.
    let again = stage.naming(&other, payment.proof.tx_hash.as_deref().unwrap());
    let (code, message) = stage.refused(&again).await;
    assert_eq!((code, message.as_str()), (Code::VerificationFailed, "proof: used before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_onchain_proof_must_show() {
    let stage = stage(0).await;
    let seller = ACCOUNTS[SELLER].address;
    let challenge = stage.challenge().await;
    let mut refusals = Vec::new();
    let another = ACCOUNTS[4].address;
    for (to, value) in [(seller, PRICE - 1), (seller, PRICE + 1), (another, PRICE)] {
        refusals.push(stage.onchain(&challenge, to, value).await);
    }
    let mut of_another = stage.onchain(&challenge, seller, PRICE).await;
    of_another.payer = Some(another.into());
    refusals.push(of_another);
    for payment in &refusals {
        let (code, message) = stage.refused(payment).await;
        assert_eq!((code, message.contains("no transfer")), (Code::VerificationFailed, true), "{message}");
    }
    // More than the account has: mined, and reverted.
    let reverted = stage.onchain(&challenge, seller, 2_000_000_000).await;
    assert!(stage.refused(&reverted).await.1.contains("reverted"));
    // Paid for something else, before this was asked.
    let early = stage.onchain(&challenge, seller, PRICE).await;
    let later = stage.challenge_at(now().plus(30)).await;
    let early = stage.naming(&later, early.proof.tx_hash.as_deref().unwrap());
    assert!(stage.refused(&early).await.1.contains("older than the challenge"));
    // A hash that no block has: perhaps not yet.
    let unknown = stage.naming(&challenge, &format!("0x{}", "ab".repeat(32)));
    assert_eq!(stage.check(&unknown).await.unwrap_err().status(), 503);
    // An `exact` payment is not shown again as a transaction.
    let exact = stage.exact(&stage.challenge().await).await;
    stage.check(&exact).await.unwrap();
    let transaction = stage.chain().transfers().last().unwrap().transaction.to_string();
    let shown = stage.naming(&challenge, &transaction);
    assert!(stage.refused(&shown).await.1.contains("authorization"));
    // None of it consumed anything.
    let good =
        Payment { payer: Some(ACCOUNTS[BUYER].address.into()), ..stage.onchain(&challenge, seller, PRICE).await };
    assert!(stage.check(&good).await.is_ok());
}

/// An authorization that paid something else by x402 v2 pays no challenge, and the facilitator says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_was_used_pays_nothing() {
    let stage = stage(0).await;
    let challenge = stage.challenge().await;
    let mut payment = answer(&challenge, Proof::new(ProofKind::Exact), [9; 16], now());
    let terms = support::terms().with_amount(PRICE.into());
    let context =
        SigningContext { now: now(), entropy: exact_nonce(&payment), url: "https://shop.example/", method: "GET" };
    let payload = Payer::new(signer(BUYER).unwrap()).make_payment(&terms, &context).await.unwrap().payload;
    let body = support::body(&terms, &payload).to_string();
    let (status, answered) = support::send(&format!("{}/settle", stage.facilitator.url()), body, None).await;
    assert_eq!((status, &answered["success"]), (200, &true.into()), "{answered}");
    payment.proof.payload = Some(payload);
    assert_eq!(stage.refused(&payment).await.0, Code::VerificationFailed);
    assert_eq!(stage.paid(), [PRICE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_paid_back_once_on_the_chain() {
    let stage = stage(0).await;
    let payment = stage.exact(&stage.challenge().await).await;
    let granted = stage.check(&payment).await.unwrap();
    let seller: Arc<dyn MakePayment> = Arc::new(Payer::new(signer(SELLER).unwrap()));
    let bank = ExactRefund::new(seller, stage.wire.clone());
    let refund = Refund {
        proof: granted.proof.unwrap(),
        network: offer().network,
        asset: offer().asset,
        to: ACCOUNTS[BUYER].address.into(),
        amount: 600.into(),
        asked_at: now(),
    };
    let to_buyer = || {
        let all = stage.chain().transfers();
        all.iter().filter(|transfer| transfer.to == ACCOUNTS[BUYER].address).count()
    };
    stage.wire.cut.store(true, Ordering::Relaxed);
    let unheard = stage.gate.refund(&bank, &refund).await;
    assert!(matches!(unheard, Err(RefundError::Fault(_))), "{unheard:?}");
    stage.wire.cut.store(false, Ordering::Relaxed);
    let receipt = stage.gate.refund(&bank, &refund).await.unwrap();
    assert_eq!(stage.gate.refund(&bank, &refund).await.unwrap(), receipt);
    let other = Refund { amount: 700.into(), ..refund };
    assert_eq!(stage.gate.refund(&bank, &other).await, Err(RefundError::Other));
    assert_eq!((to_buyer(), receipt.len()), (1, 66));
}
