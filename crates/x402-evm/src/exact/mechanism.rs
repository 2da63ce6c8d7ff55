//! The facilitator's half: verification in one round trip, one step, and proof from final logs. An account that is not
//! deployed yet needs a step before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use async_trait::async_trait;
use x402_facilitator_core::{
    EntryDefaults, LaneId, Ledger, Mechanism, NextStep, Observation, OnceKey, Parcel, Payment, Receipt, Step, StepName,
    StepProof, StepState, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, EvmAddress, Fault, Members, NetworkName, PaymentKey,
    Refusal, Rejection, SchemeName, UnixSeconds, Version, networks,
};

use super::check::{Checked, ExactPolicy};
use super::probe::{Context, Probe, Transfer, VIEW_GAS};
use super::spent::SpentElsewhere;
use crate::chain::{At, BatchRead, Call, Chain, Fate, Moved, ReadGas, Sharing, Use, Watched, WatchedEvent};
use crate::eip3009::{
    AUTHORIZATION_CANCELED, AUTHORIZATION_USED, Authorization, Payload, UncheckedPayload, state_call,
};
use crate::token::{Domain, Tokens};
use crate::unreliable::{MAX_REVERTS, UnreliablePayers};
use crate::wallet::{DEPLOY_GAS, Signer};

/// The gas limit of a deployment: the factory's limit in the simulation, 21,000, and the calldata.
const DEPLOYMENT_GAS: u64 = DEPLOY_GAS as u64 + 150_000;
/// The seconds after which a claim without a step is checked on the chain again before anything is sent.
const STALE: u64 = 5;
/// The number of blocks before the final one that are searched as well: another transaction may use the authorization
/// between verification and plan, which are at most [`STALE`] seconds apart. 512 blocks are 5 s of the fastest chains
/// and 17 minutes of Base.
const LOOK_BACK: u64 = 512;
/// The seconds for which a row is kept after the authorization has lost its effect.
const KEEP: u64 = 3600;

/// The member of a receipt's `extra` with the gas that a payment took, in decimal digits.
const GAS_USED: &str = "gasUsed";

const DEPLOY: StepName = StepName::new("deploy");
const TRANSFER: StepName = StepName::new("transfer");

/// The mechanism of `exact` by EIP-3009 on one network.
pub struct ExactMechanism<C> {
    chain: Arc<C>,
    network: ChainId,
    tokens: Tokens,
    /// The domains that were read from the chain, in addition to `tokens`; a token's domain does not change.
    read: Vec<(Address, OnceLock<Domain>)>,
    lanes: Vec<LaneId>,
    policy: ExactPolicy,
    /// The ledger of the settlement machine: a payer's pending payments count against the balance.
    ledger: Option<Arc<dyn Ledger>>,
    unreliable: UnreliablePayers,
    balances: Balances,
    spent: SpentElsewhere,
    /// The reader of the gas of each transfer, if transfers may share transactions.
    shared: Option<Arc<dyn ReadGas>>,
}

/// The facts that were read of payers in the last [`STALE`] seconds, by token and payer: a payment that was verified a moment ago is
/// sent without another read if the payer's balance also covers the payments before it.
#[derive(Debug, Default)]
struct Balances(Mutex<BTreeMap<(Address, Address), Read>>);

/// The facts that were read of a payer: the balance, and the kind of signer.
#[derive(Debug, Clone, Copy)]
struct Read {
    balance: U256,
    signer: Signer,
    when: UnixSeconds,
}

impl Balances {
    fn note(&self, whose: (Address, Address), balance: U256, signer: Signer, now: UnixSeconds) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|_, read| read.when.plus(STALE) >= now);
        read.insert(whose, Read { balance, signer, when: now });
    }

    fn read(&self, checked: &Checked, now: UnixSeconds) -> Option<Read> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.get(&(checked.token, checked.authorization.from)).copied();
        known.filter(|read| read.when.plus(STALE) >= now)
    }

    fn cover(&self, checked: &Checked, before: &[(B256, U256)], now: UnixSeconds) -> bool {
        let own = checked.authorization.value.value();
        let needed = before.iter().fold(own, |needed, (_, value)| needed.saturating_add(*value));
        self.read(checked, now).is_some_and(|read| read.balance >= needed)
    }
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
    /// Creates the mechanism for these tokens of the chain's network, carried by any of these lanes.
    #[must_use]
    pub fn new(chain: Arc<C>, tokens: Tokens, lanes: Vec<LaneId>) -> Self {
        let network = chain.network();
        let tokens = tokens.on(network);
        let unknown = tokens.iter().filter(|token| token.domain.is_none());
        let read = unknown.map(|token| (token.address, OnceLock::new())).collect();
        let (policy, unreliable) = (ExactPolicy::default(), UnreliablePayers::default());
        let (balances, spent) = (Balances::default(), SpentElsewhere::default());
        Self { chain, network, tokens, read, lanes, policy, ledger: None, unreliable, balances, spent, shared: None }
    }

    /// Sets the ledger of the settlement machine: a payer's pending payments count against the balance, and payers
    /// whose transactions revert are remembered across restarts. Without a ledger neither is known.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Permits transfers to share transactions, see [`Sharing`], and adds to receipts the share of gas that each took, as
    /// `extra.gasUsed`. Releases before batching cannot read the parcels of such transfers.
    #[must_use]
    pub fn with_shared_transactions(mut self) -> Self
    where
        C: ReadGas + 'static,
    {
        self.shared = Some(Arc::clone(&self.chain) as _);
        self
    }

    /// Sets the policy.
    #[must_use]
    pub fn with_policy(mut self, policy: ExactPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Reads everything that decides about a payment at one block, and simulates the transfer there as a transaction of
    /// `sender`.
    async fn probe(
        &self,
        checked: &Checked,
        sender: Option<&LaneId>,
        under_way: Vec<(B256, U256)>,
        now: UnixSeconds,
    ) -> Result<Signer, Refusal> {
        let unread = self.read.iter().find(|(address, domain)| *address == checked.token && domain.get().is_none());
        let token = self.tokens.find(self.network, checked.token);
        let token = token.ok_or_else(|| Fault::broken("asset: a checked payment names an unknown token"))?;
        let context = Context {
            unread: unread.map(|(_, domain)| (domain, token.chain_id)),
            sender: sender.and_then(|lane| lane.account().parse().ok()),
            under_way,
        };
        let (reads, probe) = Probe::new(checked, context);
        let answers = self.chain.run(&reads, At::Latest).await?;
        let (signer, balance) = probe.judge(&answers)?;
        self.balances.note((checked.token, checked.authorization.from), balance, signer, now);
        Ok(signer)
    }

    /// Returns the payer's unanswered payments in this token, except this one.
    async fn others(&self, checked: &Checked, own: &PaymentKey) -> Result<Vec<Arc<Payment>>, Fault> {
        let Some(ledger) = &self.ledger else { return Ok(Vec::new()) };
        let payer = checked.authorization.from;
        let kind = AuthorizationKind::Eip3009;
        let prefix = PaymentKey::prefix(kind, self.network, checked.token.as_slice(), payer.as_slice());
        let mut rows = ledger.unanswered(&prefix).await?;
        rows.retain(|row| row.key != *own);
        Ok(rows)
    }

    /// Refuses a payer whose transactions revert although they pass in simulation.
    fn check_payer(&self, payer: Address, others: &[Arc<Payment>], now: UnixSeconds) -> Result<(), Rejection> {
        for row in others.iter().filter(|row| has_reverted(row)) {
            self.unreliable.note(payer, &row.key, now);
        }
        match self.unreliable.refused_until(payer, now) {
            None => Ok(()),
            Some(until) => Err(Rejection::new(ErrorReason::PAYER_REVERTS).because(format!(
                "{MAX_REVERTS} transactions for a payment of this payer reverted, which passed in simulation: refused \
                 until {until}"
            ))),
        }
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

    /// Returns the refusal of an authorization that comes too late. If another transaction used it in time, the refusal
    /// names that transaction: the money has moved, and the seller has to learn it.
    async fn late(&self, claim: &Claim, late: Rejection, now: UnixSeconds) -> Rejection {
        let Ok(Payload { authorization, .. }) = Payload::read(&claim.payload) else { return late };
        let in_time = UnixSeconds(authorization.valid_before.0.saturating_sub(self.policy.margin));
        // The authorization is refused because it ends too late, or for something else besides.
        let Some(checked) = Some(in_time).filter(|in_time| *in_time < now).and_then(|it| self.check(claim, it).ok())
        else {
            return late;
        };
        let payer = EvmAddress::from(authorization.from);
        let used = match self.probe(&checked, self.lanes.first(), Vec::new(), now).await {
            Err(Refusal::Rejection(why)) if why.reason == ErrorReason::NONCE_ALREADY_USED => why.of(payer.as_str()),
            _ => return late,
        };
        let used = self.spent.refusal(&*self.chain, &checked, used, now).await;
        if used.details.get("transaction").is_some() { used } else { late }
    }

    /// Returns the end of a payment whose authorization was used by a third party's transaction: it names that
    /// transaction, if a node shows it.
    async fn used_elsewhere(&self, checked: &Checked, now: UnixSeconds) -> NextStep {
        let reason = ErrorReason::DUPLICATE_SETTLEMENT;
        match self.spent.transaction(&*self.chain, checked, now).await {
            Some(transaction) => NextStep::Spent { reason, transaction },
            None => NextStep::Failed(reason),
        }
    }

    /// Determines whether a transfer may share a transaction. "transferWithAuthorization" does not depend on its caller, as
    /// "receiveWithAuthorization" does ([EIP-3009](https://eips.ethereum.org/EIPS/eip-3009)). The code of a payer's account
    /// could use up the gas of all others, so only an account that had none a moment ago shares.
    fn sharing(&self, checked: &Checked, now: UnixSeconds) -> Sharing {
        let is_key = self.balances.read(checked, now).is_some_and(|read| read.signer == Signer::Key);
        if self.shared.is_none() || !is_key || checked.signature.of_key().is_err() {
            Sharing::Alone
        } else if self.chain.tells_uses_apart(checked.token) {
            Sharing::Shared
        } else {
            Sharing::OncePerPayer(checked.authorization.from)
        }
    }

    /// Reads the share of the transaction's gas that a use took. Without it the payment is as good: the receipt names no gas.
    async fn gas_share(&self, transaction: B256, used: WatchedEvent) -> Option<u64> {
        self.shared.as_ref()?.gas_share(transaction, used).await.ok().flatten()
    }

    async fn transfer(&self, checked: &Checked, now: UnixSeconds) -> Result<NextStep, Fault> {
        let Checked { token, authorization, .. } = checked;
        let since = self.chain.head().await?.finalized.saturating_sub(LOOK_BACK);
        self.chain.watch(watched(*token, authorization, since));
        let call = transfer_call(checked, since, self.sharing(checked, now));
        Ok(NextStep::Do {
            name: TRANSFER,
            once_key: once_key(self.network, *token, authorization),
            exclusive: None,
            parcel: parcel(&call),
        })
    }

    /// Plans the factory's call. Any account may have deployed it already: only the code counts.
    fn deploy(&self, checked: &Checked) -> Result<NextStep, Fault> {
        let call = deployment_call(checked)?;
        let once_key = deployment_key(self.network, checked.authorization.from);
        Ok(NextStep::Do { name: DEPLOY, once_key, exclusive: None, parcel: parcel(&call) })
    }

    /// Plans the next step from the chain's state, if no transaction is in flight.
    async fn next(
        &self,
        payment: &Payment,
        checked: &Checked,
        before: Vec<(B256, U256)>,
        now: UnixSeconds,
    ) -> Result<NextStep, Fault> {
        let unaccounted = payment.open_step();
        if has_reverted(payment) {
            self.unreliable.note(checked.authorization.from, &payment.key, now);
        }
        let wait = Ok(NextStep::Wait(now.plus(2)));
        let next = match self.probe(checked, Some(&payment.lane), before, now).await {
            Err(Refusal::Fault(fault)) => return Err(fault),
            Err(Refusal::Rejection(why)) if unaccounted.is_none() && why.reason == ErrorReason::NONCE_ALREADY_USED => {
                return Ok(self.used_elsewhere(checked, now).await);
            }
            // No transaction with the transfer was sent, so it fails here. For an unaccounted step only a final block
            // proves that.
            _ if unaccounted.is_none() && now >= checked.authorization.valid_before => {
                return Ok(NextStep::Failed(ErrorReason::INVALID_VALID_BEFORE));
            }
            // A contract can distinguish a transaction from its simulation, and revert only in the former.
            Ok(Signer::Contract | Signer::Undeployed)
                if unaccounted.is_some_and(|step| step.parcels.len() >= MAX_REVERTS) =>
            {
                return wait;
            }
            Ok(Signer::Undeployed) => DEPLOY,
            Ok(Signer::Key | Signer::Contract) => TRANSFER,
            // Bytes were sent: a refused read proves nothing, but prevents burning gas.
            Err(Refusal::Rejection(why)) if unaccounted.is_some() => {
                if why.reason == ErrorReason::NONCE_ALREADY_USED {
                    // The transfer happened, and its log was not seen: a lagging node did not have it yet.
                    self.look_again(unaccounted);
                }
                return wait;
            }
            Err(Refusal::Rejection(why)) => return Ok(NextStep::Failed(why.reason)),
        };
        // The newest block may not be the final one in which a step was seen, nor of the same node.
        if unaccounted.is_some_and(|step| step.name != next) || payment.proven(&next).is_some() {
            return wait;
        }
        if next == DEPLOY { self.deploy(checked) } else { self.transfer(checked, now).await }
    }

    /// Reads the logs of a transfer again from the beginning.
    fn look_again(&self, unaccounted: Option<&Step>) {
        let calls =
            unaccounted.into_iter().flat_map(|step| &step.parcels).filter_map(|it| Call::from_bytes(&it.bytes).ok());
        let calls: Vec<Call> = calls.collect();
        let (Some(first), Some(since)) = (calls.first(), calls.iter().map(|call| call.since).min()) else { return };
        if let Some(authorization) = Authorization::of_transfer_call(&first.data) {
            self.chain.look_again(watched(first.to, &authorization, since));
        }
    }

    /// Parses the payment of a row, which was checked when it was claimed.
    fn stored(&self, claim: &Claim) -> Result<Checked, Fault> {
        let broken = |why: &dyn core::fmt::Display| Fault::broken(format_args!("a stored claim cannot be read: {why}"));
        let token =
            self.tokens.of(&claim.terms).ok_or_else(|| Fault::broken("a stored claim names an unknown token"))?;
        let Payload { authorization, signature } = Payload::read(&claim.payload).map_err(|why| broken(&why))?;
        let name = claim.terms.extra.text("name").unwrap_or_default();
        let version = claim.terms.extra.text("version").unwrap_or_default();
        let domain =
            token.domain.clone().unwrap_or_else(|| Domain::new(&name, &version, token.chain_id, token.address));
        let digest = authorization.digest(domain.separator);
        let signature = self.policy.signers.read(authorization.from, digest, &signature).map_err(|why| broken(&why))?;
        Ok(Checked { token: token.address, authorization, signature, digest, domain })
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

    fn method(&self) -> Option<&'static str> {
        Some("eip3009")
    }

    fn is_own(&self, claim: &Claim) -> bool {
        other_method(claim).is_none()
    }

    /// Returns the token and the EIP-712 domain under which payers sign, as far as it is pinned.
    fn entry_defaults(&self, network: ChainId, asset: Option<&str>) -> Option<EntryDefaults> {
        let token = match asset {
            Some(address) => self.tokens.find(network, address.parse::<EvmAddress>().ok()?.try_into().ok()?)?,
            None => self.tokens.dollar(network)?,
        };
        let mut extra = Members::new();
        if let Some(domain) = &token.domain {
            extra.insert_text("name", &domain.name);
            extra.insert_text("version", &domain.version);
        }
        Some(EntryDefaults::new(SchemeName::EXACT, token.address.to_string(), extra))
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.lanes.clone()
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let unchecked =
            UncheckedPayload::read(&claim.payload).map_err(|malformed| other_method(claim).unwrap_or(malformed));
        let token = self.tokens.of(&claim.terms).ok_or_else(|| {
            let why = Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because("asset: not configured here");
            match &unchecked {
                Ok(unchecked) => why.of(EvmAddress::from(unchecked.from.unchecked()).as_str()),
                Err(_) => why,
            }
        })?;
        Ok(unchecked?.key(self.network, token.address))
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        let payer = <[u8; 20]>::try_from(key.payer()?).ok()?;
        Some(EvmAddress::from(Address::from(payer)).to_string())
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let checked = match self.check(claim, now) {
            Ok(checked) => checked,
            Err(why) if why.reason == ErrorReason::INVALID_VALID_BEFORE => {
                return Err(self.late(claim, why, now).await.into());
            }
            Err(why) => return Err(why.into()),
        };
        let payer = EvmAddress::from(checked.authorization.from);
        let key = checked.authorization.key(self.network, checked.token);
        // The pending payments are read before the chain: one that is used in between is not counted twice.
        let others = self.others(&checked, &key).await?;
        let of_payer = |rejection: Rejection| Refusal::Rejection(rejection.of(payer.as_str()));
        self.check_payer(checked.authorization.from, &others, now).map_err(of_payer)?;
        let under_way = others.iter().filter_map(|row| taken_by(row)).collect();
        let signer = match self.probe(&checked, self.lanes.first(), under_way, now).await {
            Ok(signer) => signer,
            Err(Refusal::Rejection(rejection)) if rejection.reason == ErrorReason::NONCE_ALREADY_USED => {
                return Err(of_payer(self.spent.refusal(&*self.chain, &checked, rejection, now).await));
            }
            Err(Refusal::Rejection(rejection)) => return Err(of_payer(rejection)),
            Err(fault @ Refusal::Fault(_)) => return Err(fault),
        };
        let deployment = if signer == Signer::Undeployed { Some(deployment_call(&checked)?) } else { None };
        let calls = deployment.into_iter().chain([transfer_call(&checked, 0, Sharing::Alone)]);
        let parcels = calls.map(|call| parcel(&call));
        let keep_until = checked.authorization.valid_before.plus(KEEP);
        Ok(Verdict::new(payer.to_string(), self.lanes.clone(), keep_until).with_parcels(parcels))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let last = payment.steps.last();
        match last.map(|step| &step.state) {
            Some(StepState::Proven(proof)) if last.is_some_and(|step| step.name == TRANSFER) => {
                let mut receipt = Receipt::new(Some(proof.tx.clone()), self.network, payment.payer.clone());
                receipt.extra = proof.extra.clone();
                Ok(NextStep::Settled(receipt))
            }
            Some(StepState::Dead(reason)) => Ok(NextStep::Failed(reason.clone())),
            Some(StepState::Ready | StepState::InFlight) => Ok(NextStep::Wait(now.plus(1))),
            first_or_next => {
                let checked = self.stored(&payment.claim)?;
                // The payment was verified a moment ago: nothing more is read before the bytes are sent, except whether
                // an account that can be deployed still has to be. A later call is for a row that a crash left behind.
                let at_once = first_or_next.is_none() && now <= payment.due.plus(STALE);
                let others = self.others(&checked, &payment.key).await?;
                let before: Vec<_> =
                    others.iter().filter(|other| comes_first(other, payment)).filter_map(|row| taken_by(row)).collect();
                let covered = before.is_empty() || self.balances.cover(&checked, &before, now);
                if at_once && covered && checked.signature.deployment().is_none() {
                    return self.transfer(&checked, now).await;
                }
                self.next(payment, &checked, before, now).await
            }
        }
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        let calls = step.parcels.iter().map(|parcel| Call::from_bytes(&parcel.bytes)).collect::<Result<Vec<_>, _>>()?;
        if step.name == DEPLOY {
            return self.deployment(step, &calls, sent).await;
        }
        let none = || Fault::broken("a step without a parcel");
        let first = calls.first().ok_or_else(none)?;
        let since = calls.iter().map(|call| call.since).min().ok_or_else(none)?;
        let authorization = Authorization::of_transfer_call(&first.data)
            .ok_or_else(|| Fault::broken("a parcel that holds no transfer"))?;
        let watched = watched(first.to, &authorization, since);
        match self.chain.sighting(watched).await?.fate {
            Fate::Canceled => Ok(Observation::Dead(ErrorReason::AUTHORIZATION_CANCELED)),
            Fate::Used { transaction, moved: Moved::Paid } => {
                let mut proof = StepProof::new(tx_id(transaction), authorization.value);
                if let Use::Event(used) = watched.used
                    && let Some(gas) = self.gas_share(transaction, used).await
                {
                    proof.extra.insert_text(GAS_USED, &gas.to_string());
                }
                Ok(Observation::Proven(proof))
            }
            // Another authorization of the payer with the same nonce was used.
            Fate::Used { moved: Moved::Nothing, .. } => Ok(Observation::Dead(ErrorReason::NONCE_ALREADY_USED)),
            Fate::Used { moved: Moved::Unclear, .. } => Ok(Observation::Pending),
            // The token emits an event for each use.
            Fate::Set { .. } => Err(Fault::broken("the use of an authorization of EIP-3009 without its event")),
            Fate::Unseen => self.expiry(first.to, watched, &authorization).await,
        }
    }
}

impl<C: Chain> ExactMechanism<C> {
    /// Decides from ONE final block whether the authorization has expired: by its own time, and the state in it.
    async fn expiry(
        &self,
        token: Address,
        watched: Watched,
        authorization: &Authorization,
    ) -> Result<Observation, Fault> {
        let head = self.chain.head().await?;
        if head.timestamp < authorization.valid_before.0 {
            return Ok(Observation::Pending);
        }
        let state = state_call(authorization.from, authorization.nonce);
        let reads = BatchRead::new().call(token, state, VIEW_GAS, 1);
        let answers = self.chain.run(&reads, At::Number(head.finalized)).await?;
        let used = answers.calls.first().and_then(crate::chain::Returned::word).map(|word| !word.is_zero());
        match used {
            // The token requires "now < validBefore", so a block of that exact second is too late.
            Some(false) if answers.timestamp >= authorization.valid_before.0 => {
                Ok(Observation::Dead(ErrorReason::INVALID_VALID_BEFORE))
            }
            // The authorization is used, but no log was seen: a node lags, or a block was replaced after it was read.
            // The log exists.
            Some(true) => {
                self.chain.look_again(watched);
                Ok(Observation::Pending)
            }
            _ => Ok(Observation::Pending),
        }
    }
}

impl<C: Chain> ExactMechanism<C> {
    /// Decides from a final block whether the account is deployed, by any account. From `validBefore` on a deployment
    /// is useless.
    async fn deployment(&self, step: &Step, calls: &[Call], sent: &[TxId]) -> Result<Observation, Fault> {
        let account = account_of(&step.once_key).ok_or_else(|| Fault::broken("a deployment of no account"))?;
        let until = calls.iter().filter_map(|call| call.until).max();
        let until = until.ok_or_else(|| Fault::broken("a deployment without an end"))?;
        let head = self.chain.head().await?;
        let answers = self.chain.run(&BatchRead::new().code_size(account), At::Number(head.finalized)).await?;
        match answers.sizes.first() {
            // This is the last transaction of this facilitator; another one may have deployed the account.
            Some(1..) => {
                let tx = sent.last().cloned().unwrap_or_else(|| "".into());
                Ok(Observation::Proven(StepProof::new(tx, AtomicAmount::ZERO)))
            }
            Some(0) if answers.timestamp >= until.0 => {
                Ok(Observation::Dead(ErrorReason::SMART_WALLET_DEPLOYMENT_FAILED))
            }
            _ => Ok(Observation::Pending),
        }
    }
}

/// Returns whether as many transactions as a payment may cost were sent without any effect on the chain.
fn has_reverted(payment: &Payment) -> bool {
    payment.open_step().is_some_and(|step| step.state == StepState::Unaccounted && step.parcels.len() >= MAX_REVERTS)
}

/// Returns nonce and value of a row's authorization. The key ends with the nonce, and a payment is claimed only if its value
/// is the amount of its terms: the payload of each pending payment need not be parsed for each new one.
fn taken_by(row: &Payment) -> Option<(B256, U256)> {
    let nonce = row.key.as_bytes().last_chunk::<32>()?;
    Some((B256::from(*nonce), row.claim.terms.amount.value()))
}

/// Returns whether another payment of the payer takes precedence: one that has begun; and of two that have both begun,
/// or both not, the one with the lower key, so that they do not wait for each other.
fn comes_first(other: &Payment, own: &Payment) -> bool {
    match (other.steps.is_empty(), own.steps.is_empty()) {
        (false, true) => true,
        (true, false) => false,
        _ => other.key < own.key,
    }
}

/// Finds out whether a payload that is not EIP-3009's is of another method, according to itself or its entry, which is
/// not served.
fn other_method(claim: &Claim) -> Option<Rejection> {
    let refuse = |why: &str| Some(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE).because(why));
    let permit = claim.payload.read::<Members>().ok().and_then(|members| members.get("permit2Authorization").cloned());
    if let Some(permit) = permit {
        let payer = permit.read::<Members>().ok().and_then(|permit| permit.text("from")?.parse::<EvmAddress>().ok());
        let why = refuse("payload.permit2Authorization: Permit2 is not served, expected `authorization` of EIP-3009");
        return why.map(|why| match payer {
            Some(payer) => why.of(EvmAddress::from(payer.unchecked()).as_str()),
            None => why,
        });
    }
    let method = claim.terms.extra.get("assetTransferMethod")?;
    (method.read::<String>().ok().as_deref() != Some("eip3009"))
        .then(|| refuse("extra.assetTransferMethod: expected `eip3009`"))
        .flatten()
}

/// Builds the transfer, in the form in which it was simulated.
fn transfer_call(checked: &Checked, since: u64, sharing: Sharing) -> Call {
    let Transfer { data, transaction_gas: gas, .. } = Transfer::of(checked);
    Call { to: checked.token, data, gas, since, until: None, sharing }
}

/// Builds the factory's call with the payer's exact data and no value.
fn deployment_call(checked: &Checked) -> Result<Call, Fault> {
    let (to, data) = checked.signature.deployment().ok_or_else(|| Fault::broken("an account that nothing deploys"))?;
    let until = Some(checked.authorization.valid_before);
    Ok(Call { to, data: data.clone(), gas: DEPLOYMENT_GAS, since: 0, until, sharing: Sharing::Alone })
}

fn parcel(call: &Call) -> Parcel {
    Parcel::new(keccak256(&call.data).0, call.to_bytes())
}

/// Names the token's logs that show what became of an authorization.
pub(super) fn watched(token: Address, authorization: &Authorization, since: u64) -> Watched {
    let Authorization { from, to, value, nonce, .. } = authorization;
    let event = |name| WatchedEvent { contract: token, topics: [name, from.into_word(), *nonce] };
    Watched::new(event(AUTHORIZATION_USED), WatchedEvent::transfer(token, *from, *to), value.value(), since)
        .with_cancellation(event(AUTHORIZATION_CANCELED))
}

/// Returns (network, token, payer, nonce), which the token burns. A token may have the same address on many networks.
fn once_key(network: ChainId, token: Address, authorization: &Authorization) -> OnceKey {
    let network = network.as_str().as_bytes();
    OnceKey([network, token.as_slice(), authorization.from.as_slice(), authorization.nonce.as_slice()].concat())
}

/// Returns (network, account): an address is deployed once. One account has the same address on many networks.
fn deployment_key(network: ChainId, account: Address) -> OnceKey {
    OnceKey([network.as_str().as_bytes(), account.as_slice()].concat())
}

fn account_of(once_key: &OnceKey) -> Option<Address> {
    once_key.0.last_chunk::<20>().map(Address::from)
}

pub(super) fn tx_id(hash: B256) -> TxId {
    hex::encode_prefixed(hash).into()
}

#[cfg(test)]
mod tests {
    use x402_types::{AtomicAmount, UnixSeconds};

    use super::*;

    /// Checks that one token address and one nonce on two networks are two authorizations.
    #[test]
    fn a_transfer_on_one_network_holds_up_none_of_another() {
        let authorization = Authorization {
            from: Address::repeat_byte(1),
            to: Address::repeat_byte(2),
            value: AtomicAmount::ZERO,
            valid_after: UnixSeconds(0),
            valid_before: UnixSeconds(1),
            nonce: B256::repeat_byte(3),
        };
        let on = |network: &str| once_key(network.parse().unwrap(), Address::repeat_byte(4), &authorization);
        assert_ne!(on("eip155:8453"), on("eip155:84532"));
        assert_ne!(deployment_key("eip155:1".parse().unwrap(), authorization.from), on("eip155:1"));
    }
}
