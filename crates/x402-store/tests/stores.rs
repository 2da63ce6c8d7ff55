//! One file, or one database, opened once, holds every store of a seller, over a restart too.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use x402_challenge::{Bind, BoundRequest, ChallengeOffer, Charge, Gate, Proofs};
use x402_http::server::{Claimed, GrantState};
use x402_store::Stores;
use x402_store::requests::Remembered;
use x402_store::session_keys::KeyName;
use x402_store::sqlite::SealKey;
use x402_types::{AtomicAmount, AuthorizationKind, ChainId, PaymentKey, TimeoutSeconds, UnixSeconds};

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

async fn one_place_keeps_all(place: &str) {
    let network = ChainId::eip155(84532);
    let key = PaymentKey::new(AuthorizationKind::Eip3009, network, &[1; 20], &[2; 20], &[3; 32]);
    let seal = SealKey::from_hex(&"07".repeat(32)).unwrap();
    let name = KeyName { network, account: [7; 20], provider: "zerodev".to_owned(), hash: [8; 32] };
    let request = Remembered {
        id: "a".to_owned(),
        caller: "shop".to_owned(),
        digest: [9; 32],
        max_amount: AtomicAmount::from(5),
        expires: NOW.plus(100),
    };
    let challenge = {
        let stores = Stores::open(place).await.unwrap();
        let grants = stores.grants().await.unwrap();
        let Claimed::Open(lock) = grants.claim(&key, "r").await.unwrap() else { unreachable!("a free key") };
        grants.pend(&lock).await.unwrap();
        grants.grant(&lock).await.unwrap();
        let kept = stores.kept_answers();
        kept.keep("old", b"an hour ago".to_vec(), UnixSeconds(NOW.0 - 3_601)).await.unwrap();
        kept.keep("r", b"an answer that was not granted".to_vec(), NOW).await.unwrap();
        kept.keep("r", b"200\r\n\r\n\xff\0".to_vec(), NOW).await.unwrap();
        stores.requests().put(request.clone(), NOW).await.unwrap();
        stores.session_keys(&seal).unwrap().register(&name, "shop", "c2VjcmV0").await.unwrap();
        let gate = Gate::new(stores.challenges(), Proofs::default());
        gate.issue(&offer(), &REQUEST, [4; 16], NOW).await.unwrap()
    };
    let stores = Stores::open(place).await.unwrap();
    let standing = stores.grants().await.unwrap().look(&key).await.unwrap();
    assert_eq!(standing.map(|standing| standing.state), Some(GrantState::Granted));
    let kept = stores.kept_answers();
    assert_eq!(kept.kept("r").await.unwrap().unwrap(), b"200\r\n\r\n\xff\0");
    assert_eq!(kept.kept("old").await.unwrap(), None, "what is older than an hour is forgotten");
    assert_eq!(stores.requests().read("shop", "a").await, Ok(Some(request)));
    let kept = stores.session_keys(&seal).unwrap().read(&name).await.unwrap();
    assert_eq!(kept.unwrap().as_str(), "c2VjcmV0");
    let issued = stores.challenges().find(&challenge.challenge_id, NOW).await.unwrap();
    assert_eq!(issued.map(|(issued, _)| issued.challenge), Some(challenge));
}

#[tokio::test]
async fn a_file_keeps_all_stores() {
    let directory = tempfile::tempdir().unwrap();
    one_place_keeps_all(directory.path().join("shop.sqlite").to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_keeps_all_stores() {
    one_place_keeps_all(&support::empty_database().await).await;
}

#[tokio::test]
async fn a_place_that_cannot_be_opened_is_named_without_its_password() {
    let why = Stores::open("postgres://shop:secret@localhost:1/shop?sslmode=disable").await.unwrap_err().to_string();
    assert!(!why.contains("secret"), "{why}");
}
