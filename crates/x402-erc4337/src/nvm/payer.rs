//! The client's half, step 4: issues session keys, signs the payment with them, and reuses the keys.
//!
//! "Clients delegate execution authority to the facilitator" (§8.3), so the delegation is kept small: keys are issued
//! only to listed signers, for one plan's calls, with a bound on every amount, a maximum count and an expiry, and
//! without EIP-1271 signatures. Such a key is useless to anyone but its signer.

use core::fmt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, Bytes, U256};
use async_trait::async_trait;
use x402_evm::key::Sign;
use x402_types::nvm::{Authorization, Code, Payload, PlanId, RequestProof, Requirements, SessionKey, payment_key};
use x402_types::{
    ChainId, Claim, ErrorReason, EvmAddress, Fault, MadePayment, MakePayment, RawJson, Refusal, Rejection, SchemeName,
    SigningContext, Terms, UnixSeconds,
};

use super::{Arg, NamedKey, Plan, Plans, Statement, StatementBinding, StatementDomain, same_resource};
use crate::session::zerodev::{
    Counterfactual, Grant, IssueError, KernelAccount, KernelSignature, issue, wrapped_digest,
};

/// The provider whose keys are issued.
const PROVIDER: &str = "zerodev";

/// The limits of the delegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelegationLimits {
    /// The maximum credits of one redemption.
    pub credits: U256,
    /// The maximum purchases of one order; with 0, no key to order is issued.
    pub purchases: u64,
    /// The maximum number of operations of each key.
    pub count: u64,
    /// The validity of a key in seconds.
    pub seconds: u64,
}

impl Default for DelegationLimits {
    /// Returns 10 credits a request, one purchase an order, 100 operations, one hour.
    fn default() -> Self {
        Self { credits: U256::from(10), purchases: 1, count: 100, seconds: 3_600 }
    }
}

/// Sends session keys to a facilitator, which afterwards finds them by their hash (`POST /session-keys`).
#[async_trait]
pub trait RegisterKeys: Send + Sync {
    /// Registers the key `data` of this account.
    /// # Errors
    /// The facilitator does not have the key now.
    async fn register_key(&self, network: ChainId, from: Address, provider: &str, data: &str) -> Result<(), Fault>;
}

/// Pays out of plans, for one Kernel account.
pub struct Payer<S> {
    owner: S,
    account: KernelAccount,
    plans: Plans,
    signers: Vec<Address>,
    unnamed: Option<Address>,
    allowance: DelegationLimits,
    domain: StatementDomain,
    nonce: u32,
    register: Option<Arc<dyn RegisterKeys>>,
    issued: Mutex<HashMap<(ChainId, PlanId, Address), Issued>>,
}

/// Session keys that were issued, and their remaining use.
#[derive(Clone)]
struct Issued {
    keys: Vec<SessionKey>,
    until: u64,
    /// The number of payments that these keys still allow.
    left: u64,
}

/// The validity in seconds that a reused key must have left: the facilitator's margin, and the time to settle.
const MARGIN: u64 = 120;

impl<S: Sign> Payer<S> {
    /// Creates a payer for the account of this owner, for the calls of these plans, with keys that are issued only to
    /// `signers`: the session signers of trusted facilitators.
    #[must_use]
    pub fn new(owner: S, account: KernelAccount, plans: Plans, signers: impl Into<Vec<Address>>) -> Self {
        Self {
            owner,
            account,
            plans,
            signers: signers.into(),
            unnamed: None,
            allowance: DelegationLimits::default(),
            domain: StatementDomain::default(),
            nonce: 1,
            register: None,
            issued: Mutex::default(),
        }
    }

    /// Sets other limits of the delegation.
    #[must_use]
    pub const fn with_allowance(mut self, allowance: DelegationLimits) -> Self {
        self.allowance = allowance;
        self
    }

    /// Sets the session signer to use if a 402 has no `extra.sessionSigner`; `/supported` of the server's facilitator
    /// lists it.
    #[must_use]
    pub const fn with_session_signer(mut self, signer: Address) -> Self {
        self.unnamed = Some(signer);
        self
    }

    /// Sets the domain of the statement, which must be the facilitator's.
    #[must_use]
    pub fn with_domain(mut self, domain: StatementDomain) -> Self {
        self.domain = domain;
        self
    }

    /// Sets the account's `currentNonce()`: 1 if nothing was ever revoked.
    #[must_use]
    pub const fn with_nonce(mut self, nonce: u32) -> Self {
        self.nonce = nonce;
        self
    }

    /// Registers each key at the facilitator once, so that payments refer to it by its hash: with whole keys a
    /// payment's header has about 12,000 bytes, more than common proxies accept, with hashes less than 4,096. A key
    /// whose registration fails is sent whole.
    #[must_use]
    pub fn with_registration(mut self, register: Arc<dyn RegisterKeys>) -> Self {
        self.register = Some(register);
        self
    }

    /// Returns the key in the form that payments use.
    async fn shown(&self, network: ChainId, id: &str, text: &str) -> SessionKey {
        let whole = SessionKey::with_data(id, text);
        let Some(register) = &self.register else { return whole };
        match register.register_key(network, self.account.address(), PROVIDER, text).await {
            Ok(()) => SessionKey::with_hash(id, whole.hash()),
            Err(_) => whole,
        }
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<(ChainId, PlanId, Address), Issued>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Determines the session signer. "The client issues keys only to signers on its list."
    fn signer(&self, entry: &Requirements) -> Result<Address, Rejection> {
        let named = entry.extra.rest.get("sessionSigner").map_or(Ok(None), |named| named.read::<Option<EvmAddress>>());
        let named = named.map_err(|_| unpayable("extra.sessionSigner: expected an EVM address"))?;
        let Some(named) = named else {
            return self.unnamed.ok_or_else(|| {
                unpayable("extra.sessionSigner: the 402 names no session signer, and the client is given none")
            });
        };
        let named = Address::try_from(named).map_err(|_| unpayable("extra.sessionSigner: expected an EVM address"))?;
        let listed = self.signers.contains(&named).then_some(named);
        listed.ok_or_else(|| unpayable("extra.sessionSigner: not on our list"))
    }

    /// Collects what is needed to pay these terms: the entry, its plan, the session signer and the chain.
    fn prepare(&self, terms: &Terms) -> Result<(Requirements, &Plan, Address, u64), Rejection> {
        if terms.scheme != SchemeName::NVM_ERC4337 {
            return Err(Rejection::new(ErrorReason::UNSUPPORTED_SCHEME));
        }
        let chain_id = chain_id(terms.network)?;
        let entry = Requirements::try_from(terms).map_err(|why| unpayable(&format!("accepted: {why}")))?;
        let plan = self.plans.find(entry.plan_id).ok_or_else(|| unpayable("accepted.planId: no plan of ours"))?;
        let signer = self.signer(&entry)?;
        Ok((entry, plan, signer, chain_id))
    }

    /// Returns keys for one more payment, reused or new.
    async fn keys(&self, network: ChainId, plan: &Plan, signer: Address, now: UnixSeconds) -> Result<Issued, Refusal> {
        let place = (network, plan.id, signer);
        if let Some(issued) = self.issued().get_mut(&place)
            && issued.left > 0
            && issued.until > now.0.saturating_add(MARGIN)
        {
            issued.left = issued.left.saturating_sub(1);
            return Ok(issued.clone());
        }
        let chain_id = chain_id(network)?;
        let until = now.0.saturating_add(self.allowance.seconds);
        let mut keys = Vec::new();
        for (id, grant) in self.grants(plan, until)? {
            let approval = issue(&self.owner, &self.account, signer, &grant, chain_id, self.nonce).await;
            keys.push(self.shown(network, id, &approval.map_err(not_issued)?.write()).await);
        }
        let issued = Issued { keys, until, left: self.allowance.count.saturating_sub(1) };
        self.issued().insert(place, issued.clone());
        Ok(issued)
    }

    /// Determines the permissions of each key: the plan's calls with the plan's id, within the allowance.
    fn grants(&self, plan: &Plan, until: u64) -> Result<Vec<(&'static str, Grant)>, Rejection> {
        let begin = || Grant::new(0, until).times(self.allowance.count);
        let bounds = Bounds { plan, account: self.account.address(), allowance: &self.allowance };
        let mut grants = Vec::new();
        if self.allowance.purchases > 0 {
            let order = plan.calls.order.iter().fold(begin(), |grant, template| bounds.call(grant, template));
            grants.push(("order", order));
        }
        let redeem = plan.calls.redeem.as_ref().or_else(|| plan.calls.order.last());
        // Pay as you go redeems nothing, but "a `redeem` session key MUST be present".
        let redeem = redeem.ok_or_else(|| unpayable("accepted.planId: a plan without calls"))?;
        grants.push(("redeem", bounds.call(begin(), redeem)));
        Ok(grants)
    }

    async fn sign(&self, statement: &Statement, chain_id: u64) -> Result<Bytes, Fault> {
        let digest = statement.digest(&self.domain, chain_id);
        let digest = wrapped_digest(digest, self.account.address(), self.account.version, chain_id);
        let signature = self.owner.sign(digest).await?;
        let signature = KernelSignature::Root(signature.to_bytes().into()).encode();
        // Only the chain knows whether the account exists already; EIP-6492 is valid in both cases.
        let (factory, factory_data) = (self.account.factory(), self.account.factory_data());
        Ok(Counterfactual { factory, factory_data, signature }.encode())
    }
}

/// The bounds of one call of a grant.
struct Bounds<'a> {
    plan: &'a Plan,
    account: Address,
    allowance: &'a DelegationLimits,
}

impl Bounds<'_> {
    /// Adds a rule for every argument that is known or can be bounded.
    fn call(&self, grant: Grant, template: &super::CallTemplate) -> Grant {
        let grant = grant.call(template.target, template.selector);
        template.args.iter().enumerate().fold(grant, |grant, (at, arg)| {
            let offset = u64::try_from(at).unwrap_or(u64::MAX).saturating_mul(32);
            match *arg {
                Arg::PlanId => grant.equal(offset, self.plan.id.value()),
                Arg::Account => grant.equal(offset, self.account.into_word().into()),
                Arg::Address(address) => grant.equal(offset, address.into_word().into()),
                Arg::Amount => grant.at_most(offset, self.allowance.credits),
                Arg::Price => grant.at_most(offset, self.plan.price(self.allowance.purchases)),
                Arg::Purchases => grant.at_most(offset, U256::from(self.allowance.purchases)),
                Arg::Seed | Arg::Number(_) | Arg::Empty => grant,
            }
        })
    }
}

fn chain_id(network: ChainId) -> Result<u64, Rejection> {
    network.evm_chain().map_err(|why| unpayable(&format!("accepted.network: {why}")))
}

fn unpayable(why: &str) -> Rejection {
    Code::InvalidPayload.because(why)
}

fn not_issued(why: IssueError) -> Refusal {
    match why {
        IssueError::Signer(fault) => fault.into(),
        IssueError::Signature(_) => Fault::unreachable("the signer", why).into(),
        why => unpayable(&format!("a session key is not issued: {why}")).into(),
    }
}

impl<S> fmt::Debug for Payer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payer")
            .field("account", &self.account.address())
            .field("plans", &self.plans)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Sign> MakePayment for Payer<S> {
    fn can_pay(&self, terms: &Terms) -> bool {
        self.prepare(terms).is_ok()
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        self.prepare(terms).err()
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let (entry, plan, signer, chain_id) = self.prepare(terms)?;
        let method = context.method.to_ascii_uppercase();
        let verb = entry.extra.http_verb.as_deref().map(str::to_ascii_uppercase);
        if verb.as_ref().is_some_and(|verb| *verb != method) {
            return Err(unpayable("extra.httpVerb: another method than is used").into());
        }
        let issued = self.keys(terms.network, plan, signer, context.now).await?;
        let proof = RequestProof { nonce: context.entropy, resource_url: resource(context.url) };
        let statement = Statement {
            from: self.account.address(),
            provider: PROVIDER.to_owned(),
            keys: issued.keys.iter().map(|key| NamedKey { id: key.id().to_owned(), hash: key.hash().into() }).collect(),
            plan: plan.id.value(),
            binding: Some(StatementBinding {
                agent_id: entry.extra.agent_id.map(|id| id.to_string()).unwrap_or_default(),
                resource_url: proof.resource_url.clone(),
                http_verb: method.clone(),
                nonce: proof.nonce.into(),
            }),
        };
        let signature = self.sign(&statement, chain_id).await?;
        let authorization = Authorization::new(self.account.address(), PROVIDER, issued.keys)
            .map_err(|why| unpayable(&why.to_string()))?
            .with_proof(proof);
        let payload = RawJson::of(&Payload::new(authorization, signature)).map_err(Fault::broken)?;
        let claim = Claim::of_payload(terms.clone(), payload.clone());
        let payer = EvmAddress::from(self.account.address()).to_string();
        let mut made = MadePayment::new(payload, payer, payment_key(&claim)?, UnixSeconds(issued.until));
        // "Where the entry lacks `httpVerb`, it adds the request's method to `accepted.extra`."
        if verb.is_none() {
            made.extra.insert_text("httpVerb", &method);
        }
        Ok(made)
    }
}

/// Returns the resource to sign. Query and fragment do not count, so they are not sent either.
fn resource(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    // In a text that is not an absolute URL, every byte counts.
    if same_resource(plain, url) { plain.to_owned() } else { url.to_owned() }
}
