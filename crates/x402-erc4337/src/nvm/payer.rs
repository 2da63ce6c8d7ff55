//! The client's half, step 4: issues session keys, signs the payment with them, and uses the keys again.
//!
//! "Clients delegate execution authority to the facilitator" (§8.3), so what is delegated is little: keys go to
//! signers on a list, for one plan's calls, with a bound on every amount, a count and an end, and closed against
//! EIP-1271. Whoever sees such a key can do nothing with it but its signer.

use core::fmt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, Bytes, U256};
use async_trait::async_trait;
use x402_evm::key::Sign;
use x402_types::nvm::{Authorization, Code, Payload, PlanId, Proof, Requirements, SessionKey, payment_key};
use x402_types::{
    ChainId, Claim, ErrorReason, EvmAddress, Fault, Identity, MadePayment, MakePayment, Members, Occasion, RawJson,
    Refusal, Rejection, SchemeName, Terms, UnixSeconds,
};

use super::{Arg, Binding, NamedKey, Plan, Plans, Statement, StatementDomain, same_resource};
use crate::session::zerodev::{
    Counterfactual, Grant, IssueError, KernelAccount, KernelSignature, issue, wrapped_digest,
};

/// The provider whose keys are issued.
const PROVIDER: &str = "zerodev";

/// What is delegated at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Credits of one redemption.
    pub credits: U256,
    /// Purchases of one order; 0: no key to order is issued.
    pub purchases: u64,
    /// Operations of each key.
    pub count: u64,
    /// Seconds for which a key is good.
    pub seconds: u64,
}

impl Default for Allowance {
    /// 10 credits a request, one purchase an order, 100 operations, an hour.
    fn default() -> Self {
        Self { credits: U256::from(10), purchases: 1, count: 100, seconds: 3_600 }
    }
}

/// Hands session keys to a facilitator, which finds them by their hash afterwards (`POST /session-keys`).
#[async_trait]
pub trait RegisterKeys: Send + Sync {
    /// Registers the key `data` of this account.
    ///
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
    allowance: Allowance,
    domain: StatementDomain,
    nonce: u32,
    register: Option<Arc<dyn RegisterKeys>>,
    issued: Mutex<HashMap<(ChainId, PlanId, Address), Issued>>,
}

/// Keys that were issued.
#[derive(Clone)]
struct Issued {
    keys: Vec<SessionKey>,
    until: u64,
    /// Payments that may still be made with them.
    left: u64,
}

/// Seconds that must be left of a key that is used once more: the facilitator's margin, and the work.
const MARGIN: u64 = 120;

impl<S: Sign> Payer<S> {
    /// Pays for the account of this owner, by the calls of these plans, with keys that are issued to `signers` alone:
    /// the session signers of the facilitators that are trusted.
    #[must_use]
    pub fn new(owner: S, account: KernelAccount, plans: Plans, signers: impl Into<Vec<Address>>) -> Self {
        Self {
            owner,
            account,
            plans,
            signers: signers.into(),
            unnamed: None,
            allowance: Allowance::default(),
            domain: StatementDomain::default(),
            nonce: 1,
            register: None,
            issued: Mutex::default(),
        }
    }

    /// With other limits.
    #[must_use]
    pub const fn allowance(mut self, allowance: Allowance) -> Self {
        self.allowance = allowance;
        self
    }

    /// Issues keys to this session signer where a 402 names none in `extra.sessionSigner`: `/supported` of the server's
    /// facilitator lists it.
    #[must_use]
    pub const fn session_signer(mut self, signer: Address) -> Self {
        self.unnamed = Some(signer);
        self
    }

    /// Under another domain, as the facilitator has it.
    #[must_use]
    pub fn domain(mut self, domain: StatementDomain) -> Self {
        self.domain = domain;
        self
    }

    /// The account's `currentNonce()`: 1 where nothing was ever revoked.
    #[must_use]
    pub const fn nonce(mut self, nonce: u32) -> Self {
        self.nonce = nonce;
        self
    }

    /// Registers each key at the facilitator once, so that payments name it by its hash: with whole keys a payment's
    /// header has about 12,000 bytes, more than common proxies take, with hashes less than 4,096. A key whose
    /// registration fails is sent whole.
    #[must_use]
    pub fn register(mut self, register: Arc<dyn RegisterKeys>) -> Self {
        self.register = Some(register);
        self
    }

    /// The key as payments show it.
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

    /// "The client issues keys only to signers on its list."
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

    /// What these terms are paid with: the entry, its plan, who carries it out, and on which chain.
    fn prepare(&self, terms: &Terms) -> Result<(Requirements, &Plan, Address, u64), Rejection> {
        if terms.scheme != SchemeName::NVM_ERC4337 {
            return Err(Rejection::new(ErrorReason::UNSUPPORTED_SCHEME));
        }
        let chain_id = terms.network.eip155_chain().ok_or_else(|| unpayable("accepted.network: not an EVM network"))?;
        let entry = Requirements::try_from(terms).map_err(|why| unpayable(&format!("accepted: {why}")))?;
        let plan = self.plans.find(entry.plan_id).ok_or_else(|| unpayable("accepted.planId: no plan of ours"))?;
        let signer = self.signer(&entry)?;
        Ok((entry, plan, signer, chain_id))
    }

    /// Keys for one more payment: those that are there, or new ones.
    async fn keys(&self, network: ChainId, plan: &Plan, signer: Address, now: UnixSeconds) -> Result<Issued, Refusal> {
        let place = (network, plan.id, signer);
        if let Some(issued) = self.issued().get_mut(&place)
            && issued.left > 0
            && issued.until > now.0.saturating_add(MARGIN)
        {
            issued.left = issued.left.saturating_sub(1);
            return Ok(issued.clone());
        }
        let chain_id = network.eip155_chain().ok_or_else(|| unpayable("accepted.network: not an EVM network"))?;
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

    /// What each key may do: the plan's calls with the plan's id, and no more of anything than the allowance.
    fn grants(&self, plan: &Plan, until: u64) -> Result<Vec<(&'static str, Grant)>, Rejection> {
        let begin = || Grant::new(0, until).times(self.allowance.count);
        let bounds = Bounds { plan, account: self.account.address(), allowance: &self.allowance };
        let mut grants = Vec::new();
        if self.allowance.purchases > 0 {
            let order = plan.calls.order.iter().fold(begin(), |grant, template| bounds.call(grant, template));
            grants.push(("order", order));
        }
        let redeem = plan.calls.redeem.as_ref().or_else(|| plan.calls.order.last());
        // Pay as you go redeems nothing, yet "a `redeem` session key MUST be present".
        let redeem = redeem.ok_or_else(|| unpayable("accepted.planId: a plan without calls"))?;
        grants.push(("redeem", bounds.call(begin(), redeem)));
        Ok(grants)
    }

    async fn sign(&self, statement: &Statement, chain_id: u64) -> Result<Bytes, Fault> {
        let digest = statement.digest(&self.domain, chain_id);
        let digest = wrapped_digest(digest, self.account.address(), self.account.version, chain_id);
        let signature = self.owner.sign(digest).await?;
        let signature = KernelSignature::Root(signature.to_bytes().into()).encode();
        // Whether the account is there already only the chain knows; EIP-6492 holds in both cases.
        let (factory, factory_data) = (self.account.factory(), self.account.factory_data());
        Ok(Counterfactual { factory, factory_data, signature }.encode())
    }
}

/// What one call of a grant is bound by.
struct Bounds<'a> {
    plan: &'a Plan,
    account: Address,
    allowance: &'a Allowance,
}

impl Bounds<'_> {
    /// A rule for every argument that is known or can be bounded.
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

    async fn make_payment(&self, terms: &Terms, occasion: &Occasion<'_>) -> Result<MadePayment, Refusal> {
        let (entry, plan, signer, chain_id) = self.prepare(terms)?;
        let method = occasion.method.to_ascii_uppercase();
        let verb = entry.extra.http_verb.as_deref().map(str::to_ascii_uppercase);
        if verb.as_ref().is_some_and(|verb| *verb != method) {
            return Err(unpayable("extra.httpVerb: another method than is used").into());
        }
        let issued = self.keys(terms.network, plan, signer, occasion.now).await?;
        let proof = Proof { nonce: occasion.entropy, resource_url: resource(occasion.url) };
        let statement = Statement {
            from: self.account.address(),
            provider: PROVIDER.to_owned(),
            keys: issued.keys.iter().map(|key| NamedKey { id: key.id().to_owned(), hash: key.hash().into() }).collect(),
            plan: plan.id.value(),
            binding: Some(Binding {
                agent_id: entry.extra.agent_id.map(|id| id.to_string()).unwrap_or_default(),
                resource_url: proof.resource_url.clone(),
                http_verb: method.clone(),
                nonce: proof.nonce.into(),
            }),
        };
        let signature = self.sign(&statement, chain_id).await?;
        let authorization = Authorization::new(self.account.address(), PROVIDER, issued.keys)
            .map_err(|why| unpayable(&why.to_string()))?
            .bound(proof);
        let payload = RawJson::of(&Payload::new(authorization, signature)).map_err(Fault::broken)?;
        let claim = Claim {
            terms: terms.clone(),
            payload: payload.clone(),
            resource: None,
            extensions: Members::new(),
            identity: Identity::default(),
        };
        let payer = EvmAddress::from(self.account.address()).to_string();
        let mut made = MadePayment::new(payload, payer, payment_key(&claim)?, UnixSeconds(issued.until));
        // "Where the entry lacks `httpVerb`, it adds the request's method to `accepted.extra`."
        if verb.is_none() {
            made.extra.insert_text("httpVerb", &method);
        }
        Ok(made)
    }
}

/// The resource as it is signed: query and fragment do not count, so they are not sent either.
fn resource(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    // Where the text is a path of its own, every byte counts.
    if same_resource(plain, url) { plain.to_owned() } else { url.to_owned() }
}
