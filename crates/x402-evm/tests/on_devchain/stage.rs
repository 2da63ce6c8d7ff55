//! A chain, a facilitator's account, a payer, and a payment's row, moved by hand.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, SolValue};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKEN, Token, signer};
use x402_evm::chain::RpcChain;
use x402_evm::eip712::DomainSeparator;
use x402_evm::eip3009::{Authorization, Payload};
use x402_evm::exact::{Exact, ExactMechanism, Payer};
use x402_evm::rail::EoaRail;
use x402_evm::signature::Signature;
use x402_evm::token::Tokens;
use x402_facilitator_core::{
    Attempt, Mechanism, NextStep, Observation, Payment, Rail, RequestId, SlotId, Step, StepState, Verdict,
};
use x402_types::{Claim, MakePayment, Refusal, SigningContext, Terms, TimeoutSeconds, UnixSeconds};

pub(crate) const START: u64 = 1_740_672_000;
pub(crate) const PRICE: u64 = 10_000;
pub(crate) const PAYER: usize = 1;
pub(crate) const PAYEE: usize = 3;
const CANCEL_TYPE: B256 = b256!("0x158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429");

pub(crate) struct Stage {
    pub(crate) chain: DevChain,
    pub(crate) reader: Arc<RpcChain>,
    pub(crate) mechanism: ExactMechanism<RpcChain>,
    pub(crate) rail: EoaRail<RpcChain, PrivateKeySigner>,
    pub(crate) now: UnixSeconds,
}

/// Blocks by hand, two seconds apart; `depth` blocks make one final.
pub(crate) fn stage(depth: u64) -> Stage {
    stage_with(depth, Tokens::default())
}

pub(crate) fn stage_with(depth: u64, tokens: Tokens) -> Stage {
    let chain = DevChain::builder()
        .time(START)
        .time_step(2)
        .block_time(MiningMode::Manual)
        .finality_depth(depth)
        .build()
        .unwrap();
    chain.mine(5);
    let network = "eip155:84532".parse().unwrap();
    let reader = Arc::new(RpcChain::new(chain.client(), network, depth).with_freshness(Duration::ZERO));
    let rail = EoaRail::new(reader.clone(), signer(0).unwrap()).unwrap();
    let mechanism = ExactMechanism::new(reader.clone(), tokens, rail.lanes());
    let now = UnixSeconds(chain.time());
    Stage { chain, reader, mechanism, rail, now }
}

pub(crate) fn terms() -> Terms {
    let network = "eip155:84532".parse().unwrap();
    let offer = Exact::default().requirements(network, ACCOUNTS[PAYEE].address, "$0.01".parse().unwrap()).unwrap();
    offer.terms.with_max_timeout_seconds(TimeoutSeconds::try_from(60).unwrap())
}

pub(crate) fn claim_of(terms: Terms, payload: x402_types::RawJson) -> Claim {
    Claim::of_payload(terms, payload)
}

pub(crate) fn domain() -> DomainSeparator {
    DomainSeparator::new("USDC", "2", 84532, TOKEN)
}

impl Stage {
    pub(crate) async fn claim(&self, payer: usize, nonce: u8) -> Claim {
        let context =
            SigningContext { now: self.now, entropy: [nonce; 32], url: "https://example.com/", method: "GET" };
        let made = Payer::new(signer(payer).unwrap()).make_payment(&terms(), &context).await.unwrap();
        claim_of(terms(), made.payload)
    }

    pub(crate) async fn verify(&self, claim: &Claim) -> Result<Verdict, Refusal> {
        self.mechanism.verify(claim, self.now).await
    }

    pub(crate) async fn refused(&self, claim: &Claim) -> String {
        match self.verify(claim).await {
            Err(Refusal::Rejection(rejection)) => {
                assert!(rejection.payer.is_some(), "{rejection:?}");
                rejection.reason.to_string()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Verified and claimed.
    pub(crate) async fn payment(&self, claim: Claim) -> Payment {
        let verdict = self.verify(&claim).await.unwrap();
        let key = self.mechanism.key(&claim).unwrap();
        let request = RequestId { owner: "test".into(), number: 0 };
        let mut payment = Payment::from_row(key, claim, verdict.payer, verdict.lanes[0].clone(), request);
        (payment.due, payment.keep_until) = (self.now, verdict.keep_until);
        payment
    }

    /// Plans what comes next, signs it for this nonce, and sends it.
    pub(crate) async fn carry(&self, payment: &mut Payment, nonce: u64) -> Attempt {
        let plan = self.mechanism.plan(payment, self.now).await.unwrap();
        let NextStep::Do { name, once_key, exclusive, parcel } = plan else { panic!("{plan:?}") };
        let slot = SlotId { lane: self.rail.lane().clone(), nonce };
        let attempt = self.rail.sign(&slot, std::slice::from_ref(&parcel), None).await.unwrap();
        match payment.steps.last_mut().filter(|step| !step.is_decided()) {
            None => {
                let mut step = Step::new(name, once_key);
                (step.exclusive, step.state) = (exclusive, StepState::InFlight);
                (step.parcels, step.carriers) = (vec![parcel], vec![slot]);
                payment.steps.push(step);
            }
            Some(step) => {
                assert_eq!((&step.name, &step.once_key), (&name, &once_key));
                step.parcels.push(parcel);
                step.state = StepState::InFlight;
            }
        }
        self.rail.send(&attempt).await.unwrap();
        attempt
    }

    pub(crate) async fn observe(&self, payment: &Payment) -> Observation {
        self.mechanism.observe(payment.steps.last().unwrap(), &[]).await.unwrap()
    }

    /// Another account's transaction, in the pool.
    pub(crate) async fn other(&self, from: usize, to: Address, data: Bytes) -> B256 {
        let tx = TransactionRequest::default().to(to).input(data.into()).gas_limit(300_000);
        *self.chain.wallet(signer(from).unwrap()).send_transaction(tx).await.unwrap().tx_hash()
    }

    /// Another account's empty transaction with this tip, in the pool.
    pub(crate) async fn tipped(&self, from: usize, tip: u128) {
        let base = u128::from(self.chain.base_fee());
        let tx = TransactionRequest::default()
            .to(Address::ZERO)
            .gas_limit(21_000)
            .max_priority_fee_per_gas(tip)
            .max_fee_per_gas(2 * base + tip);
        let _ = self.chain.wallet(signer(from).unwrap()).send_transaction(tx).await.unwrap();
    }

    pub(crate) fn paid(&self) -> U256 {
        self.chain.balance_of(ACCOUNTS[PAYEE].address) - U256::from(x402_devchain::TOKENS_EACH)
    }
}

pub(crate) fn payload(claim: &Claim) -> Payload {
    Payload::read(&claim.payload).unwrap()
}

/// The call that somebody else would make of it.
pub(crate) fn transfer_call(claim: &Claim) -> Bytes {
    let payload = payload(claim);
    payload.authorization.transfer_call_with_bytes(payload.signature)
}

pub(crate) fn cancel_call(claim: &Claim) -> Bytes {
    let Authorization { from, nonce, .. } = payload(claim).authorization;
    let digest = domain().digest(keccak256((CANCEL_TYPE, from, nonce).abi_encode()));
    let signature = signer(PAYER).unwrap().sign_hash_sync(&digest).unwrap();
    let signature = Signature::try_from(signature).unwrap().to_bytes();
    Token::cancelAuthorization_1Call { authorizer: from, nonce, signature: signature.to_vec().into() }
        .abi_encode()
        .into()
}

pub(crate) fn sign(authorization: Authorization, domain: DomainSeparator) -> Payload {
    let signature = signer(PAYER).unwrap().sign_hash_sync(&authorization.digest(domain)).unwrap();
    Payload { authorization, signature: Signature::try_from(signature).unwrap().to_bytes().into() }
}
