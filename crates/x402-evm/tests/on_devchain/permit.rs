//! A facilitator of both schemes by Permit2 on a chain with Permit2's own code, for the tests beside it.

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::SolCall;
use x402_devchain::{ACCOUNTS, TOKEN, Token as DevToken, signer};
use x402_evm::chain::RpcChain;
use x402_evm::exact::SignAs;
use x402_evm::permit2::{
    ByPermit2, PERMIT2, Payer, Permit, PermitMechanism, PermitPayload, PermitScheme, SettleCall, domain,
};
use x402_evm::signature::Signature;
use x402_evm::token::Tokens;
use x402_facilitator_core::{
    Attempt, Mechanism, NextStep, Observation, Payment, Rail, RequestId, SlotId, Step, StepProof, StepState, TxId,
};
use x402_types::{
    Assets, AtomicAmount, ChainId, Claim, ErrorReason, MakePayment, Refusal, Rejection, SigningContext, Terms,
    TimeoutSeconds, UnixSeconds,
};

use crate::stage::{PAYEE, PAYER, Stage, claim_of, stage};

pub(crate) fn network() -> ChainId {
    "eip155:84532".parse().unwrap()
}

/// A facilitator of both schemes, on a chain whose payer has approved Permit2.
pub(crate) struct Permits {
    pub(crate) stage: Stage,
    pub(crate) exact: PermitMechanism<RpcChain>,
    pub(crate) upto: PermitMechanism<RpcChain>,
}

pub(crate) fn permits_with(stage: Stage, tokens: &Tokens) -> Permits {
    let lanes = || stage.rail.lanes();
    let mechanism = |scheme| PermitMechanism::new(scheme, stage.reader.clone(), tokens.clone(), lanes());
    let (exact, upto) = (mechanism(PermitScheme::Exact), mechanism(PermitScheme::Upto));
    Permits { stage, exact, upto }
}

pub(crate) async fn permits(depth: u64) -> Permits {
    let permits = permits_with(stage(depth), &Tokens::for_permit2(&Assets::default()));
    permits.approve(PAYER, TOKEN, U256::MAX).await;
    permits
}

pub(crate) fn exact_terms() -> Terms {
    let offer = ByPermit2::default().exact(network(), ACCOUNTS[PAYEE].address, "$0.01".parse().unwrap()).unwrap();
    offer.terms.with_max_timeout_seconds(TimeoutSeconds::try_from(60).unwrap())
}

pub(crate) fn upto_terms(facilitator: Address) -> Terms {
    let (network, to, most) = (network(), ACCOUNTS[PAYEE].address, "$0.01".parse().unwrap());
    let offer = ByPermit2::default().upto(network, to, most, facilitator).unwrap();
    offer.terms.with_max_timeout_seconds(TimeoutSeconds::try_from(60).unwrap())
}

pub(crate) fn payload(claim: &Claim) -> PermitPayload {
    PermitPayload::read(&claim.payload).unwrap()
}

pub(crate) fn settle_call(claim: &Claim) -> SettleCall {
    let PermitPayload { authorization, signature } = payload(claim);
    SettleCall { authorization, amount: claim.terms.amount, signature, permit2612: None }
}

/// The claim with another permit, signed by the payer again.
pub(crate) fn signed_again(claim: &Claim, change: impl FnOnce(&mut Permit)) -> Claim {
    let mut permit = payload(claim).authorization;
    change(&mut permit);
    let signature = signer(PAYER).unwrap().sign_hash_sync(&permit.digest(domain(84532))).unwrap();
    let signature = Signature::try_from(signature).unwrap().to_bytes().to_vec().into();
    claim.clone().with_payload(PermitPayload { authorization: permit, signature }.to_json())
}

impl Permits {
    pub(crate) async fn approve(&self, owner: usize, token: Address, value: U256) {
        let data = DevToken::approveCall { spender: PERMIT2, value }.abi_encode();
        self.stage.other(owner, token, data.into()).await;
        self.stage.chain.mine(1);
    }

    pub(crate) async fn claim_by(&self, signer: impl SignAs, terms: Terms, nonce: u8) -> Claim {
        let (now, entropy) = (self.now(), [nonce; 32]);
        let context = SigningContext { now, entropy, url: "https://example.com/", method: "GET" };
        let payer = Payer::new(signer).with_any_token();
        let made = payer.make_payment(&terms, &context).await.unwrap();
        claim_of(terms, made.payload)
    }

    pub(crate) async fn claim(&self, nonce: u8) -> Claim {
        self.claim_by(signer(PAYER).unwrap(), exact_terms(), nonce).await
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        UnixSeconds(self.stage.chain.time())
    }

    pub(crate) fn of(&self, claim: &Claim) -> &PermitMechanism<RpcChain> {
        if claim.terms.scheme == PermitScheme::Upto.name() { &self.upto } else { &self.exact }
    }

    pub(crate) async fn refusal(&self, claim: &Claim) -> Rejection {
        match self.of(claim).verify(claim, self.now()).await {
            Err(Refusal::Rejection(rejection)) => rejection,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&self, claim: &Claim) -> ErrorReason {
        let rejection = self.refusal(claim).await;
        assert!(rejection.payer.is_some(), "{rejection:?}");
        rejection.reason
    }

    /// Verified and claimed.
    pub(crate) async fn payment(&self, claim: &Claim) -> Payment {
        let verdict = self.of(claim).verify(claim, self.now()).await.unwrap();
        let key = self.of(claim).key(claim).unwrap();
        let request = RequestId { owner: "test".into(), number: 0 };
        let mut payment = Payment::from_row(key, claim.clone(), verdict.payer, verdict.lanes[0].clone(), request);
        (payment.due, payment.keep_until) = (self.now(), verdict.keep_until);
        payment
    }

    pub(crate) async fn planned(&self, payment: &Payment) -> NextStep {
        self.of(&payment.claim).plan(payment, self.now()).await.unwrap()
    }

    /// Plans what comes next, signs it for this account nonce, and sends it.
    pub(crate) async fn carry(&self, payment: &mut Payment, nonce: u64) -> Attempt {
        let plan = self.planned(payment).await;
        let NextStep::Do { name, once_key, exclusive, parcel } = plan else { panic!("{plan:?}") };
        assert_eq!(exclusive, None);
        let slot = SlotId { lane: self.stage.rail.lane().clone(), nonce };
        let attempt = self.stage.rail.sign(&slot, std::slice::from_ref(&parcel), None).await.unwrap();
        let mut step = Step::new(name, once_key);
        (step.state, step.parcels, step.carriers) = (StepState::InFlight, vec![parcel], vec![slot]);
        payment.steps.push(step);
        self.stage.rail.send(&attempt).await.unwrap();
        attempt
    }

    pub(crate) async fn observe(&self, payment: &Payment, sent: &[TxId]) -> Observation {
        self.of(&payment.claim).observe(payment.steps.last().unwrap(), sent).await.unwrap()
    }

    pub(crate) async fn balance(&self, token: Address, of: Address) -> U256 {
        let data = DevToken::balanceOfCall { account: of }.abi_encode();
        let call = TransactionRequest::default().to(token).input(Bytes::from(data).into());
        U256::from_be_slice(&self.stage.chain.provider().call(call).await.unwrap())
    }

    pub(crate) fn after_the_deadline(&self) {
        self.stage.chain.increase_time(200);
        self.stage.chain.mine(1);
    }
}

pub(crate) fn proven(transaction: B256, amount: u64) -> Observation {
    Observation::Proven(StepProof::new(hex::encode_prefixed(transaction).into(), AtomicAmount::from(amount)))
}
