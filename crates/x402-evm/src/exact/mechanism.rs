//! The facilitator's half: verification in one round trip, one step, and proof from final logs. An account that is not
//! deployed yet needs a step before it.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;
use x402_facilitator_core::{
    EntryDefaults, LaneId, Ledger, Mechanism, NextStep, Observation, Parcel, Payment, Receipt, Step, StepName,
    StepProof, StepState, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    ChainId, Claim, ErrorReason, EvmAddress, Fault, Members, NetworkName, PaymentKey, Refusal, Rejection, SchemeName,
    UnixSeconds, Version, networks,
};

use super::authorization::{expiry, look_again, once_key, tx_id, watched};
use super::check::{Checked, ExactPolicy};
use super::deployment::{self, DEPLOY};
use super::probe::{Context, Probe, Transfer};
use super::spent::SpentElsewhere;
use crate::chain::{At, Call, Chain, Fate, Moved, ReadGas, Sharing, Use, WatchedEvent};
use crate::eip3009::{Authorization, Payload, UncheckedPayload};
use crate::payers::{Before, Payers, STALE, Taking, UnderWay, comes_first};
use crate::token::{Domain, Tokens};
use crate::unreliable::MAX_REVERTS;
use crate::wallet::Signer;

/// The number of blocks before the final one that are searched as well: another transaction may use the authorization
/// between verification and plan, which are at most [`STALE`] seconds apart. 512 blocks are 5 s of the fastest chains
/// and 17 minutes of Base.
pub(crate) const LOOK_BACK: u64 = 512;
/// The seconds for which a row is kept after the authorization has lost its effect.
pub(crate) const KEEP: u64 = 3600;

/// The member of a receipt's `extra` with the gas that a payment took, in decimal digits.
const GAS_USED: &str = "gasUsed";

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
    payers: Payers,
    spent: SpentElsewhere,
    /// The reader of the gas of each transfer, if transfers may share transactions.
    shared: Option<Arc<dyn ReadGas>>,
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
        let (policy, payers, spent) = (ExactPolicy::default(), Payers::default(), SpentElsewhere::default());
        Self { chain, network, tokens, read, lanes, policy, payers, spent, shared: None }
    }

    /// Sets the ledger of the settlement machine: a payer's pending payments count against the balance, and payers
    /// whose transactions revert are remembered across restarts. Without a ledger neither is known.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.payers.ledger = Some(ledger);
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
        under_way: Vec<UnderWay>,
        now: UnixSeconds,
    ) -> Result<Signer, Refusal> {
        // The balance of a moment ago covers all of them: none is looked at, unless the present one does not.
        if !under_way.is_empty() && self.payers.cover(&taking(checked), &under_way, now) {
            match self.probed(checked, sender, Before::unread(under_way.clone()), now).await {
                Err(Refusal::Rejection(why)) if why.reason == ErrorReason::INSUFFICIENT_FUNDS => {}
                probed => return probed,
            }
        }
        self.probed(checked, sender, Before::read(under_way), now).await
    }

    async fn probed(
        &self,
        checked: &Checked,
        sender: Option<&LaneId>,
        under_way: Before,
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
        self.payers.note_read(&taking(checked), balance, signer, now);
        Ok(signer)
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
        let is_key = self.payers.is_key(&taking(checked), now);
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

    /// Plans the next step from the chain's state, if no transaction is in flight.
    async fn next(
        &self,
        payment: &Payment,
        checked: &Checked,
        before: Vec<UnderWay>,
        now: UnixSeconds,
    ) -> Result<NextStep, Fault> {
        let unaccounted = payment.open_step();
        self.payers.note_reverts(checked.authorization.from, payment, now);
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
                    look_again(&*self.chain, unaccounted);
                }
                return wait;
            }
            Err(Refusal::Rejection(why)) => return Ok(NextStep::Failed(why.reason)),
        };
        // The newest block may not be the final one in which a step was seen, nor of the same node.
        if unaccounted.is_some_and(|step| step.name != next) || payment.proven(&next).is_some() {
            return wait;
        }
        if next == DEPLOY { deployment::deploy(self.network, checked) } else { self.transfer(checked, now).await }
    }

    /// Returns whether verification simulated what this payment's lane will send: it ran as the first lane's account, and
    /// a contract can distinguish the others by `tx.origin`.
    fn was_simulated(&self, payment: &Payment, of: &Taking, now: UnixSeconds) -> bool {
        self.lanes.first() == Some(&payment.lane) || self.payers.is_key(of, now)
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

    /// Returns whether the payload is an authorization, or is of no method while the entry requires no other.
    fn is_own(&self, claim: &Claim) -> bool {
        let has = |name| claim.payload.read::<Members>().is_ok_and(|members| members.get(name).is_some());
        !has("permit2Authorization") && (other_method(claim).is_none() || has("authorization"))
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

    fn has_nonce_on_chain(&self) -> bool {
        true
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
        let taking = taking(&checked);
        let others = self.payers.others(self.network, &taking, &key).await?;
        let of_payer = |rejection: Rejection| Refusal::Rejection(rejection.of(payer.as_str()));
        self.payers.check(checked.authorization.from, &others, now).map_err(of_payer)?;
        let under_way = others.iter().filter_map(|row| UnderWay::of_row(row, taking)).collect();
        let signer = match self.probe(&checked, self.lanes.first(), under_way, now).await {
            Ok(signer) => signer,
            Err(Refusal::Rejection(rejection)) if rejection.reason == ErrorReason::NONCE_ALREADY_USED => {
                return Err(of_payer(self.spent.refusal(&*self.chain, &checked, rejection, now).await));
            }
            Err(Refusal::Rejection(rejection)) => return Err(of_payer(rejection)),
            Err(fault @ Refusal::Fault(_)) => return Err(fault),
        };
        let deployment = if signer == Signer::Undeployed { Some(deployment::call(&checked)?) } else { None };
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
                let taking = taking(&checked);
                let others = self.payers.others(self.network, &taking, &payment.key).await?;
                let before = others.iter().filter(|other| comes_first(other, payment));
                let before: Vec<_> = before.filter_map(|row| UnderWay::of_row(row, taking)).collect();
                let covered = before.is_empty() || self.payers.cover(&taking, &before, now);
                let simulated = self.was_simulated(payment, &taking, now);
                if at_once && covered && simulated && checked.signature.deployment().is_none() {
                    return self.transfer(&checked, now).await;
                }
                self.next(payment, &checked, before, now).await
            }
        }
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        let calls = step.parcels.iter().map(|parcel| Call::from_bytes(&parcel.bytes)).collect::<Result<Vec<_>, _>>()?;
        if step.name == DEPLOY {
            return deployment::observe(&*self.chain, step, &calls, sent).await;
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
            // This facilitator's own transaction used it, and no log shows what it moved: a token may emit no `Transfer`, or
            // one of less. That is no payment, and no failure either.
            Fate::Used { transaction, moved: Moved::Nothing } if sent.contains(&tx_id(transaction)) => {
                Ok(Observation::Pending)
            }
            // Another authorization of the payer with the same nonce was used.
            Fate::Used { moved: Moved::Nothing, .. } => Ok(Observation::Dead(ErrorReason::NONCE_ALREADY_USED)),
            Fate::Used { moved: Moved::Unclear, .. } => Ok(Observation::Pending),
            // The token emits an event for each use.
            Fate::Set { .. } => Err(Fault::broken("the use of an authorization of EIP-3009 without its event")),
            Fate::Unseen => expiry(&*self.chain, watched, first.to, &authorization).await,
        }
    }
}

fn taking(checked: &Checked) -> Taking {
    let Authorization { from: payer, value, .. } = checked.authorization;
    Taking { token: checked.token, payer, value: value.value() }
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

pub(crate) fn parcel(call: &Call) -> Parcel {
    Parcel::new(keccak256(&call.data).0, call.to_bytes())
}
