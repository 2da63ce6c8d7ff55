//! What the tests share: an executor for futures that never wait, the document's offer and request.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use x402_challenge::{
    Bind, BoundRequest, ChallengeOffer, Charge, CheckError, Gate, MemoryStore, MockProof, Proofs, answer,
};
use x402_types::challenge::{Challenge, Code, Payment, Proof, ProofKind};
use x402_types::{TimeoutSeconds, UnixSeconds};

/// 2025-10-19T12:00:00Z.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_760_875_200);

pub(crate) const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

pub(crate) fn offer() -> ChallengeOffer {
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

pub(crate) fn gate() -> Gate {
    Gate::new(Arc::new(MemoryStore::default()), Proofs::default().with_mock_for_development())
}

/// A challenge issued at [`NOW`], its id from `n`.
pub(crate) fn challenge(gate: &Gate, n: u8) -> Challenge {
    block_on(gate.issue(&offer(), &REQUEST, [n; 16], NOW)).unwrap()
}

/// A payment of it with a mock proof, its nonce from `n`.
pub(crate) fn payment(challenge: &Challenge, n: u8, at: UnixSeconds) -> Payment {
    MockProof::sign(answer(challenge, Proof::new(ProofKind::Mock), [n; 16], at))
}

pub(crate) fn check(
    gate: &Gate,
    payment: &Payment,
    request: &BoundRequest<'_>,
    now: UnixSeconds,
) -> Result<(), CheckError> {
    let header = x402_codec::challenge::encode_payment(payment).unwrap();
    block_on(gate.check(header.as_bytes(), &offer(), request, None, now)).map(drop)
}

/// The code and the field of a refusal.
pub(crate) fn refused(result: Result<(), CheckError>) -> (Code, String) {
    match result {
        Err(CheckError::Refused(refused)) => {
            (refused.code, refused.message.split(':').next().unwrap_or_default().to_owned())
        }
        other => panic!("not refused: {other:?}"),
    }
}
