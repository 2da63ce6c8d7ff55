//! The facilitator's half: verification with one round trip, one step, and proof from final logs.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{Address, B256, hex};
use async_trait::async_trait;
use x402_facilitator_core::{
    Facts, Guard, LaneId, Mechanism, Observation, Parcel, Payment, Plan, Receipt, Step, StepName, StepState, TxId,
    Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    ChainId, Claim, ErrorReason, EvmAddress, Fault, Members, NetworkName, PaymentKey, Refusal, Rejection, SchemeName,
    UnixSeconds, Version, networks,
};

use super::check::{Checked, Policy};
use crate::chain::{Answers, At, Call, Chain, Fate, Moved, Program, Watched};
use crate::eip3009::{Authorization, Payload, Written, balance_call, name_call, state_call, version_call};
use crate::signature::Signature;
use crate::token::{Domain, Tokens};

/// The gas limit of a transfer. USDC takes 60,000 to 90,000; what takes more is not a transfer.
pub const TRANSFER_GAS: u64 = 150_000;

/// What the call itself may use in a simulation: [`TRANSFER_GAS`] without 21,000 and the call data.
const SIMULATION_GAS: u32 = 120_000;
/// What a view of the token may use.
const VIEW_GAS: u32 = 100_000;
/// Seconds after which a claim that nothing was planned for is looked up on the chain again before anything is sent.
const STALE: u64 = 5;
/// Blocks before the final one that are looked at, too: somebody else may use the authorization between verification
/// and plan, [`STALE`] seconds apart at most. 512 are 5 s of the fastest chains and 17 minutes of Base.
const LOOK_BACK: u64 = 512;
/// Seconds that a row is kept after the authorization can do nothing any more.
const KEEP: u64 = 3600;

const TRANSFER: StepName = StepName::new("transfer");

/// `exact` by EIP-3009 on one network.
pub struct ExactMechanism<C> {
    chain: Arc<C>,
    network: ChainId,
    tokens: Tokens,
    /// Domains that were read from the chain, beside `tokens`; a token's domain does not change.
    read: Vec<(Address, OnceLock<Domain>)>,
    lanes: Vec<LaneId>,
    policy: Policy,
}

impl<C> core::fmt::Debug for ExactMechanism<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExactMechanism")
            .field("network", &self.network)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl<C: Chain> ExactMechanism<C> {
    /// Serves the tokens of the chain's network, carried by any of these lanes.
    #[must_use]
    pub fn new(chain: Arc<C>, tokens: Tokens, lanes: Vec<LaneId>) -> Self {
        let network = chain.network();
        let tokens = tokens.on(network);
        let unknown = tokens.iter().filter(|token| token.domain.is_none());
        let read = unknown.map(|token| (token.address, OnceLock::new())).collect();
        Self { chain, network, tokens, read, lanes, policy: Policy::default() }
    }

    /// With another policy.
    #[must_use]
    pub const fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Reads all that decides about a payment on one block, and tries the transfer there.
    async fn probe(&self, checked: &Checked) -> Result<(Answers, Option<&OnceLock<Domain>>), Fault> {
        let Checked { token, authorization, signature, .. } = checked;
        let unread = self.read.iter().find(|(address, domain)| address == token && domain.get().is_none());
        let mut program = Program::new()
            .code_size(authorization.from)
            .code_size(*token)
            .call(*token, balance_call(authorization.from), VIEW_GAS, 1)
            .call(*token, state_call(authorization.from, authorization.nonce), VIEW_GAS, 1)
            .call(*token, authorization.transfer_call(signature), SIMULATION_GAS, 5);
        if unread.is_some() {
            program = program.call(*token, name_call(), VIEW_GAS, 5).call(*token, version_call(), VIEW_GAS, 5);
        }
        let answers = self.chain.run(&program, At::Latest).await?;
        Ok((answers, unread.map(|(_, domain)| domain)))
    }

    /// What the chain has against the payment, in the order of `scheme_exact_evm.md` §1: balance, token, simulation.
    fn judge(&self, checked: &Checked, answers: &Answers, unread: Option<&OnceLock<Domain>>) -> Result<(), Refusal> {
        let refuse = |reason, why: &str| Err(Rejection::new(reason).because(why).into());
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let ([payer_code, token_code], [balance, state, transfer, names @ ..]) = (&*answers.sizes, &*answers.calls)
        else {
            return Err(malformed().into());
        };
        if *token_code == 0 {
            return refuse(ErrorReason::ASSET_NOT_DEPLOYED, "no contract at the asset's address");
        }
        // The token asks the account's code about the signature as soon as there is any, whatever the key says.
        if *payer_code != 0 {
            return refuse(ErrorReason::PAYER_HAS_CODE, "the payer has code; externally owned accounts only");
        }
        match state.word().map(|word| word.is_zero()) {
            None => return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset has no authorizationState"),
            Some(false) => return refuse(ErrorReason::NONCE_ALREADY_USED, "the authorization is used or cancelled"),
            Some(true) => {}
        }
        if let (Some(cell), [name, version]) = (unread, names) {
            let (Some(name), Some(version)) = (name.text(), version.text()) else {
                return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset has no name and version");
            };
            if *name != *checked.domain.name {
                return refuse(ErrorReason::TOKEN_NAME_MISMATCH, "extra.name is not the token's");
            }
            if *version != *checked.domain.version {
                return refuse(ErrorReason::TOKEN_VERSION_MISMATCH, "extra.version is not the token's");
            }
            // Another call may have been first with the same answer.
            let _ = cell.set(checked.domain.clone());
        }
        let Some(balance) = balance.word() else {
            return refuse(ErrorReason::EIP3009_NOT_SUPPORTED, "the asset has no balanceOf");
        };
        if balance < checked.authorization.value.value() {
            return refuse(ErrorReason::INSUFFICIENT_FUNDS, "the balance does not cover the amount");
        }
        if transfer.success {
            return Ok(());
        }
        // "5. Simulate": FiatToken refuses here what no view tells, such as a blocklisted party or a pause.
        let reason = transfer.revert_reason().unwrap_or("the transfer would revert");
        if reason.contains("blacklist") || reason.contains("blocklist") {
            return refuse(ErrorReason::PAYER_BLOCKED, reason);
        }
        let authorization = &checked.authorization;
        if answers.timestamp <= authorization.valid_after.0 {
            return refuse(ErrorReason::INVALID_VALID_AFTER, reason);
        }
        if answers.timestamp >= authorization.valid_before.0 {
            return refuse(ErrorReason::INVALID_VALID_BEFORE, reason);
        }
        refuse(ErrorReason::TRANSACTION_SIMULATION_FAILED, reason)
    }

    fn check(&self, claim: &Claim, now: UnixSeconds) -> Result<Checked, Rejection> {
        let checked = self.policy.check(&self.tokens, claim, now)?;
        let known = self.read.iter().find(|(token, _)| *token == checked.token).and_then(|(_, domain)| domain.get());
        match known {
            Some(domain) if *domain.name != *checked.domain.name => {
                Err(Rejection::new(ErrorReason::TOKEN_NAME_MISMATCH))
            }
            Some(domain) if *domain.version != *checked.domain.version => {
                Err(Rejection::new(ErrorReason::TOKEN_VERSION_MISMATCH))
            }
            _ => Ok(checked),
        }
    }

    async fn transfer(&self, token: Address, payload: &Payload) -> Result<Plan, Fault> {
        let signature = Signature::from_bytes(&payload.signature).map_err(Fault::broken)?;
        let authorization = &payload.authorization;
        let since = self.chain.head().await?.finalized.saturating_sub(LOOK_BACK);
        self.chain.watch(watched(token, authorization, since));
        let call = Call { to: token, data: authorization.transfer_call(&signature), gas: TRANSFER_GAS, since };
        Ok(Plan::Do {
            name: TRANSFER,
            guard: guard(token, authorization),
            alone: None,
            parcel: Parcel { id: alloy_primitives::keccak256(&call.data).0, bytes: call.to_bytes() },
        })
    }

    /// The payment of a row: it was checked when it was claimed.
    fn stored(&self, claim: &Claim) -> Result<(Address, Payload, Checked), Fault> {
        let broken = |why: Rejection| Fault::broken(format_args!("a stored claim cannot be read: {why}"));
        let token =
            self.tokens.of(&claim.terms).ok_or_else(|| Fault::broken("a stored claim names an unknown token"))?;
        let payload = Payload::read(&claim.payload).map_err(broken)?;
        let name = claim.terms.extra.text("name").unwrap_or_default();
        let version = claim.terms.extra.text("version").unwrap_or_default();
        let domain =
            token.domain.clone().unwrap_or_else(|| Domain::new(&name, &version, token.chain_id, token.address));
        let signature = Signature::from_bytes(&payload.signature).map_err(Fault::broken)?;
        let authorization = payload.authorization;
        let digest = authorization.digest(domain.separator);
        let checked = Checked { token: token.address, authorization, signature, digest, domain };
        Ok((token.address, payload, checked))
    }
}

#[async_trait]
impl<C: Chain> Mechanism for ExactMechanism<C> {
    fn kinds(&self) -> Vec<SupportedKind> {
        let kind = |x402_version, network| SupportedKind {
            x402_version,
            scheme: SchemeName::EXACT,
            network,
            extra: Members::new(),
            rest: Members::new(),
        };
        let legacy = networks::legacy_name(self.network).map(|name| kind(Version::V1, NetworkName::from(name)));
        [Some(kind(Version::V2, self.network.into())), legacy].into_iter().flatten().collect()
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let token = self.tokens.of(&claim.terms).ok_or_else(|| {
            Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because("asset: not configured here")
        })?;
        Ok(Written::read(&claim.payload)?.key(self.network, token.address))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let checked = self.check(claim, now)?;
        let payer = EvmAddress::from(checked.authorization.from);
        let (answers, unread) = self.probe(&checked).await?;
        self.judge(&checked, &answers, unread).map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => Refusal::Rejection(rejection.of(payer.as_str())),
            fault @ Refusal::Fault(_) => fault,
        })?;
        Ok(Verdict {
            payer: payer.to_string(),
            lanes: self.lanes.clone(),
            keep_until: checked.authorization.valid_before.plus(KEEP),
        })
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<Plan, Fault> {
        match payment.steps.last().map(|step| &step.state) {
            Some(StepState::Proven(facts)) => Ok(Plan::Settled(Receipt {
                transaction: Some(facts.tx.clone()),
                network: self.network,
                payer: payment.payer.clone(),
                amount: None,
                extra: Members::new(),
                extensions: Members::new(),
            })),
            Some(StepState::Dead(reason)) => Ok(Plan::Failed(reason.clone())),
            Some(StepState::Ready | StepState::Carried) => Ok(Plan::Wait(now.plus(1))),
            // Verified a moment ago: nothing more is read before the bytes leave.
            None if now <= payment.due.plus(STALE) => {
                let (token, payload, _) = self.stored(&payment.claim)?;
                self.transfer(token, &payload).await
            }
            // A row that was claimed and then left alone, by a crash. Nothing of ours has left.
            None => {
                let (token, payload, checked) = self.stored(&payment.claim)?;
                if now >= payload.authorization.valid_before {
                    return Ok(Plan::Failed(ErrorReason::INVALID_VALID_BEFORE));
                }
                let (answers, unread) = self.probe(&checked).await?;
                match self.judge(&checked, &answers, unread) {
                    Ok(()) => self.transfer(token, &payload).await,
                    Err(Refusal::Fault(fault)) => Err(fault),
                    Err(Refusal::Rejection(why)) if why.reason == ErrorReason::NONCE_ALREADY_USED => {
                        Ok(Plan::Failed(ErrorReason::DUPLICATE_SETTLEMENT))
                    }
                    Err(Refusal::Rejection(why)) => Ok(Plan::Failed(why.reason)),
                }
            }
            // It did not land, by a revert or an empty transaction in its place. Bytes have left: a read that refuses
            // proves nothing, but keeps gas from being burned.
            Some(StepState::Loose) => {
                let (token, payload, checked) = self.stored(&payment.claim)?;
                let (answers, unread) = self.probe(&checked).await?;
                match self.judge(&checked, &answers, unread) {
                    Ok(()) => self.transfer(token, &payload).await,
                    Err(Refusal::Fault(fault)) => Err(fault),
                    Err(Refusal::Rejection(_)) => Ok(Plan::Wait(now.plus(2))),
                }
            }
        }
    }

    async fn observe(&self, step: &Step, _sent: &[TxId]) -> Result<Observation, Fault> {
        let calls = step.parcels.iter().map(|parcel| Call::from_bytes(&parcel.bytes)).collect::<Result<Vec<_>, _>>()?;
        let none = || Fault::broken("a step without a parcel");
        let first = calls.first().ok_or_else(none)?;
        let since = calls.iter().map(|call| call.since).min().ok_or_else(none)?;
        let authorization = Authorization::of_transfer_call(&first.data)
            .ok_or_else(|| Fault::broken("a parcel that holds no transfer"))?;
        let watched = watched(first.to, &authorization, since);
        match self.chain.sighting(watched).await?.fate {
            Fate::Canceled => Ok(Observation::Dead(ErrorReason::AUTHORIZATION_CANCELED)),
            Fate::Used { transaction, moved: Moved::Paid } => Ok(Observation::Proven(Facts {
                tx: tx_id(transaction),
                amount: authorization.value,
                extra: Members::new(),
            })),
            // Another authorization of the payer with the same nonce.
            Fate::Used { moved: Moved::Nothing, .. } => Ok(Observation::Dead(ErrorReason::NONCE_ALREADY_USED)),
            Fate::Used { moved: Moved::Unclear, .. } => Ok(Observation::Pending),
            Fate::Unseen => self.expiry(watched, &authorization).await,
        }
    }
}

impl<C: Chain> ExactMechanism<C> {
    /// Expired is what ONE final block says: its own time, and the state in it.
    async fn expiry(&self, watched: Watched, authorization: &Authorization) -> Result<Observation, Fault> {
        let head = self.chain.head().await?;
        if head.timestamp < authorization.valid_before.0 {
            return Ok(Observation::Pending);
        }
        let state = state_call(authorization.from, authorization.nonce);
        let program = Program::new().call(watched.token, state, VIEW_GAS, 1);
        let answers = self.chain.run(&program, At::Number(head.finalized)).await?;
        let used = answers.calls.first().and_then(crate::chain::Returned::word).map(|word| !word.is_zero());
        match used {
            // "now < validBefore" is what the token asks, so a block of that very second is too late.
            Some(false) if answers.number == head.finalized && answers.timestamp >= authorization.valid_before.0 => {
                Ok(Observation::Dead(ErrorReason::INVALID_VALID_BEFORE))
            }
            // Used, yet no log was seen: a node that lags, or a block replaced after it was read. Its log is there.
            Some(true) => {
                self.chain.look_again(watched);
                Ok(Observation::Pending)
            }
            _ => Ok(Observation::Pending),
        }
    }
}

fn watched(token: Address, authorization: &Authorization, since: u64) -> Watched {
    Watched {
        token,
        payer: authorization.from,
        nonce: authorization.nonce,
        pay_to: authorization.to,
        value: authorization.value.value(),
        since,
    }
}

/// (token, payer, nonce): what the token burns.
fn guard(token: Address, authorization: &Authorization) -> Guard {
    Guard([token.as_slice(), authorization.from.as_slice(), authorization.nonce.as_slice()].concat())
}

fn tx_id(hash: B256) -> TxId {
    hex::encode_prefixed(hash).into()
}
