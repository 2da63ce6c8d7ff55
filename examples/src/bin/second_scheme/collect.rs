//! The scheme `collect`: [EIP-3009](https://eips.ethereum.org/EIPS/eip-3009) `receiveWithAuthorization`, called by the
//! account that is paid.
//!
//! A payment of `exact` can be brought to the chain by whoever sees it. This one only by its recipient: the EIP asks for
//! "an additional check to ensure that the payee's address matches the caller of this function". The seller is its own
//! facilitator, or trusts one with the account that is paid.

use std::error::Error;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use alloy_sol_types::{SolCall, SolStruct, sol};
use async_trait::async_trait;
use x402_evm::chain::{At, BatchRead, Call, Chain, Fate, Moved, Returned, Sharing, Watched, WatchedEvent};
use x402_evm::eip3009::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED, Authorization, Payload, balance_call, state_call};
use x402_evm::exact::{Exact, Price};
use x402_evm::key::Sign;
use x402_evm::signature::{Signature, recover};
use x402_evm::token::{Domain, Tokens};
use x402_facilitator_core::{
    LaneId, Mechanism, NextStep, Observation, OnceKey, Parcel, Payment, Receipt, Step, StepName, StepProof, StepState,
    TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    ChainId, Claim, ErrorReason, EvmAddress, Fault, MadePayment, MakePayment, Malformed, Members, Offer, PaymentKey,
    Refusal, Rejection, SchemeName, SigningContext, Terms, UnixSeconds, Version,
};

sol! {
    struct ReceiveWithAuthorization {
        address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
    }
    function receiveWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
}

const NAME: &str = "collect";
const COLLECT: StepName = StepName::new("collect");
/// Seconds that a transaction needs to get into a block.
const MARGIN: u64 = 6;
/// Seconds that a row is kept after the authorization can do nothing any more.
const KEEP: u64 = 3600;
const GAS: u64 = 150_000;
const VIEW_GAS: u32 = 100_000;

/// The seller's half: what `exact` asks, under this name. The payload has the same members, and the token burns the same
/// (payer, nonce), so the key of a payment is the same too: kinds of authorization have keys, schemes do not.
pub(crate) fn requirements(network: ChainId, pay_to: Address, price: Price) -> Result<Offer, Box<dyn Error>> {
    let offer = Exact::default().requirements(network, pay_to, price)?;
    Ok(Offer { terms: offer.terms.with_scheme(NAME.parse()?), ..offer })
}

/// What is asked, as far as payer and facilitator must know it.
struct Asked {
    token: Address,
    domain: Domain,
    pay_to: Address,
}

impl Asked {
    fn of(tokens: &Tokens, terms: &Terms) -> Result<Self, Rejection> {
        let refuse = |why: &'static str| Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because(why);
        if terms.scheme.as_str() != NAME {
            return Err(Rejection::new(ErrorReason::UNSUPPORTED_SCHEME));
        }
        let token = tokens.of(terms).ok_or_else(|| refuse("asset: not known here"))?;
        let domain = token.domain.clone().ok_or_else(|| refuse("asset: its domain is not known here"))?;
        let pay_to = terms.pay_to.parse::<EvmAddress>().and_then(Address::try_from);
        Ok(Self { token: token.address, domain, pay_to: pay_to.map_err(|_| refuse("payTo: expected an EVM address"))? })
    }

    fn digest(&self, signed: &Authorization) -> B256 {
        let message = ReceiveWithAuthorization {
            from: signed.from,
            to: signed.to,
            value: signed.value.value(),
            validAfter: U256::from(signed.valid_after.0),
            validBefore: U256::from(signed.valid_before.0),
            nonce: signed.nonce,
        };
        self.domain.separator.digest(message.eip712_hash_struct())
    }
}

/// The client's half.
pub(crate) struct Payer<S> {
    signer: S,
    tokens: Tokens,
}

impl<S> Payer<S> {
    pub(crate) fn new(signer: S) -> Self {
        Self { signer, tokens: Tokens::default() }
    }
}

#[async_trait]
impl<S: Sign> MakePayment for Payer<S> {
    fn can_pay(&self, terms: &Terms) -> bool {
        Asked::of(&self.tokens, terms).is_ok()
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let asked = Asked::of(&self.tokens, terms)?;
        let authorization = Authorization {
            from: self.signer.address(),
            to: asked.pay_to,
            value: terms.amount,
            valid_after: UnixSeconds(0),
            valid_before: context.now.plus(terms.max_timeout_seconds.get()),
            nonce: context.entropy.into(),
        };
        let signature = self.signer.sign(asked.digest(&authorization)).await?;
        let payload = Payload { authorization, signature: signature.to_bytes().into() };
        let payer = EvmAddress::from(authorization.from).to_string();
        let key = authorization.key(terms.network, asked.token);
        Ok(MadePayment::new(payload.to_json(), payer, key, authorization.valid_before))
    }
}

/// The facilitator's half.
pub(crate) struct Collect<C> {
    chain: Arc<C>,
    account: Address,
    lane: LaneId,
    scheme: SchemeName,
    tokens: Tokens,
}

/// A payment that is good as far as its own bytes say.
struct Checked {
    token: Address,
    authorization: Authorization,
    signature: Signature,
}

impl<C: Chain> Collect<C> {
    /// Serves payments to this account, which is the one that the lane sends from.
    pub(crate) fn new(chain: Arc<C>, account: Address, lane: LaneId) -> Result<Self, Malformed> {
        let tokens = Tokens::default().on(chain.network());
        Ok(Self { chain, account, lane, scheme: NAME.parse()?, tokens })
    }

    fn check(&self, claim: &Claim) -> Result<Checked, Rejection> {
        let asked = Asked::of(&self.tokens, &claim.terms)?;
        let Payload { authorization, signature } = Payload::read(&claim.payload)?;
        let refuse = |reason| Rejection::new(reason).of(EvmAddress::from(authorization.from).to_string());
        let bad = |_| refuse(ErrorReason::INVALID_SIGNATURE);
        let signature = Signature::from_bytes(&signature).map_err(bad)?;
        if recover(asked.digest(&authorization), &signature).map_err(bad)? != authorization.from {
            return Err(refuse(ErrorReason::INVALID_SIGNATURE));
        }
        // Of another recipient's payment the call would revert, and its gas be ours.
        if authorization.to != asked.pay_to || authorization.to != self.account {
            return Err(refuse(ErrorReason::RECIPIENT_MISMATCH));
        }
        if authorization.value != claim.terms.amount || authorization.value.is_zero() {
            return Err(refuse(ErrorReason::INVALID_VALUE));
        }
        Ok(Checked { token: asked.token, authorization, signature })
    }

    /// What the newest block says, in one round trip. The call itself cannot be tried there: its caller is not the payee.
    async fn probe(&self, checked: &Checked, now: UnixSeconds) -> Result<(), Refusal> {
        let Checked { token, authorization: signed, .. } = checked;
        let refuse = |reason| Err(Rejection::new(reason).of(EvmAddress::from(signed.from).to_string()).into());
        if signed.valid_before < now.plus(MARGIN) {
            return refuse(ErrorReason::INVALID_VALID_BEFORE);
        }
        if signed.valid_after >= now {
            return refuse(ErrorReason::INVALID_VALID_AFTER);
        }
        let views = [balance_call(signed.from), state_call(signed.from, signed.nonce)];
        let reads = BatchRead::new().code_size(signed.from);
        let reads = views.into_iter().fold(reads, |reads, view| reads.call(*token, view, VIEW_GAS, 1));
        let answers = self.chain.run(&reads, At::Latest).await?;
        let ([code], [balance, state]) = (&*answers.sizes, &*answers.calls) else {
            return Err(Fault::unreachable("the node", "an answer of another form").into());
        };
        match (*code, state.word(), balance.word()) {
            // The token asks the code about the signature, whatever the key says.
            (1.., ..) => refuse(ErrorReason::PAYER_HAS_CODE),
            (_, None, _) | (_, _, None) => refuse(ErrorReason::EIP3009_NOT_SUPPORTED),
            (_, Some(used), _) if !used.is_zero() => refuse(ErrorReason::NONCE_ALREADY_USED),
            (_, _, Some(balance)) if balance < signed.value.value() => refuse(ErrorReason::INSUFFICIENT_FUNDS),
            _ => Ok(()),
        }
    }

    async fn collect(&self, checked: &Checked) -> Result<NextStep, Fault> {
        let Checked { token, authorization: signed, signature } = checked;
        let call = receiveWithAuthorizationCall {
            from: signed.from,
            to: signed.to,
            value: signed.value.value(),
            validAfter: U256::from(signed.valid_after.0),
            validBefore: U256::from(signed.valid_before.0),
            nonce: signed.nonce,
            v: signature.v(),
            r: signature.r(),
            s: signature.s(),
        };
        // The nonce was unused in a later block than this a moment ago: nothing before it can have used it.
        let since = self.chain.head().await?.finalized;
        let call =
            Call { to: *token, data: call.abi_encode().into(), gas: GAS, since, until: None, sharing: Sharing::Alone };
        Ok(NextStep::Do {
            name: COLLECT,
            once_key: OnceKey([token.as_slice(), signed.from.as_slice(), signed.nonce.as_slice()].concat()),
            exclusive: None,
            parcel: Parcel::new(keccak256(&call.data).0, call.to_bytes()),
        })
    }

    /// Expired is what ONE final block says: its own time, and the state in it.
    async fn expiry(&self, watched: Watched, signed: &receiveWithAuthorizationCall) -> Result<Observation, Fault> {
        let head = self.chain.head().await?;
        if U256::from(head.timestamp) < signed.validBefore {
            return Ok(Observation::Pending);
        }
        let finalized = head.finalized;
        let state = state_call(signed.from, signed.nonce);
        let reads = BatchRead::new().call(watched.transfer.contract, state, VIEW_GAS, 1);
        let answers = self.chain.run(&reads, At::Number(finalized)).await?;
        let used = answers.calls.first().and_then(Returned::word).map(|word| !word.is_zero());
        let over = U256::from(answers.timestamp) >= signed.validBefore;
        if used == Some(true) {
            self.chain.look_again(watched);
        }
        Ok(if used == Some(false) && over {
            Observation::Dead(ErrorReason::INVALID_VALID_BEFORE)
        } else {
            Observation::Pending
        })
    }
}

#[async_trait]
impl<C: Chain> Mechanism for Collect<C> {
    fn kinds(&self) -> Vec<SupportedKind> {
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: self.scheme.clone(),
            network: self.chain.network().into(),
            extra: Members::new(),
            rest: Members::new(),
        }]
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let asked = Asked::of(&self.tokens, &claim.terms)?;
        Ok(Payload::read(&claim.payload)?.authorization.key(claim.terms.network, asked.token))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let checked = self.check(claim)?;
        self.probe(&checked, now).await?;
        Ok(Verdict::new(
            EvmAddress::from(checked.authorization.from).to_string(),
            vec![self.lane.clone()],
            checked.authorization.valid_before.plus(KEEP),
        ))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let state = payment.steps.last().map(|step| &step.state);
        match state {
            Some(StepState::Proven(proof)) => Ok(NextStep::Settled(Receipt::new(
                Some(proof.tx.clone()),
                payment.claim.terms.network,
                payment.payer.clone(),
            ))),
            Some(StepState::Dead(reason)) => Ok(NextStep::Failed(reason.clone())),
            Some(StepState::Ready | StepState::InFlight) => Ok(NextStep::Wait(now.plus(1))),
            None | Some(StepState::Unaccounted) => {
                let checked = self.check(&payment.claim).map_err(Fault::broken)?;
                match self.probe(&checked, now).await {
                    Ok(()) => self.collect(&checked).await,
                    Err(Refusal::Fault(fault)) => Err(fault),
                    // Nothing of ours has left: a refusal is the end. After bytes have left it proves nothing.
                    Err(Refusal::Rejection(why)) if state.is_none() => Ok(NextStep::Failed(why.reason)),
                    Err(Refusal::Rejection(_)) => Ok(NextStep::Wait(now.plus(2))),
                }
            }
        }
    }

    async fn observe(&self, step: &Step, _sent: &[TxId]) -> Result<Observation, Fault> {
        let broken = || Fault::broken("a step that collects nothing");
        let call = Call::from_bytes(&step.parcels.first().ok_or_else(broken)?.bytes)?;
        let signed = receiveWithAuthorizationCall::abi_decode(&call.data).map_err(|_| broken())?;
        let event = |name| WatchedEvent { contract: call.to, topics: [name, signed.from.into_word(), signed.nonce] };
        let transfer = WatchedEvent::transfer(call.to, signed.from, signed.to);
        let watched = Watched::new(event(AUTHORIZATION_USED), transfer, signed.value, call.since)
            .with_cancellation(event(AUTHORIZATION_CANCELED));
        match self.chain.sighting(watched).await?.fate {
            Fate::Canceled => Ok(Observation::Dead(ErrorReason::AUTHORIZATION_CANCELED)),
            Fate::Used { transaction, moved: Moved::Paid } => {
                let tx = TxId::from(hex::encode_prefixed(transaction));
                Ok(Observation::Proven(StepProof::new(tx, signed.value.into())))
            }
            // Another authorization of the payer with the same nonce.
            Fate::Used { moved: Moved::Nothing, .. } => Ok(Observation::Dead(ErrorReason::NONCE_ALREADY_USED)),
            Fate::Used { moved: Moved::Unclear, .. } => Ok(Observation::Pending),
            // `Set` is the fate of what is watched by state; this scheme watches an event.
            Fate::Unseen | Fate::Set { .. } => self.expiry(watched, &signed).await,
        }
    }
}
