//! A chain with a plan, an account with session keys, and a settlement machine that is moved by hand.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolCall;
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, Failure, PLANS, Plans as PlansContract, TOKEN, Token, When, signer};
use x402_erc4337::nvm::{
    ChainCredits, NoSessionKeys, NvmMechanism, NvmParts, NvmPolicy, Plan, PlanCalls, Plans, ReadSessionKeys, Statement,
    StatementDomain,
};
use x402_erc4337::nvm::{NamedKey, StatementBinding};
use x402_erc4337::session::zerodev::{
    Approval, Counterfactual, Grant, KernelAccount, KernelVersion, issue, user_op_signature, wrapped_digest,
};
use x402_erc4337::{
    Bundle, Call, EntryPoint, EntryPointVersion, FindNonces, FindUserOps, Gas, KernelMode, KernelValidation, Landed,
    NonceKey, OperationBuilder, RpcEntryPoint, SimulateUserOps, Simulated,
};
use x402_evm::chain::{At, BatchRead, ReadChain, RpcChain};
use x402_evm::rail::EoaRail;
use x402_facilitator_core::{LaneId, Ledger, MemoryLedger, Outcome, Payment, Progress, Rail, Settlement};
use x402_types::nvm::{Authorization, Payload, PlanId, RequestProof, Requirements, SessionKey};
use x402_types::v2::ResourceInfo;
use x402_types::{Claim, Fault, Identity, PaymentKey, RawJson, Refusal, Rejection, UnixSeconds};
use zeroize::Zeroizing;

alloy_sol_types::sol! {
    interface Nonces {
        function getNonce(address sender, uint192 key) external view returns (uint256 nonce);
    }
}

pub(crate) const CHAIN: u64 = 84_532;
pub(crate) const START: u64 = 1_800_000_000;
/// When the keys of the tests end.
pub(crate) const UNTIL: u64 = START + 86_400;
pub(crate) const PLAN: u64 = 42;
pub(crate) const OTHER_PLAN: u64 = 43;
/// What an order brings, and what it costs.
pub(crate) const CREDITS: u64 = 10;
pub(crate) const PRICE: u64 = 1_000_000;
pub(crate) const URL: &str = "https://agent.example/tasks";

/// Accounts of the chain: who pays the gas, who owns the smart account, who is paid, who signs operations.
pub(crate) const GAS: usize = 0;
pub(crate) const OWNER: usize = 1;
pub(crate) const SELLER: usize = 2;
pub(crate) const SESSION: usize = 3;

pub(crate) struct Stage {
    pub(crate) chain: DevChain,
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) settlement: Settlement,
    pub(crate) lane: LaneId,
    pub(crate) account: KernelAccount,
    pub(crate) operations: Arc<Node>,
}

/// A node that may know its blocks' state before their logs.
pub(crate) struct Node {
    node: RpcEntryPoint,
    pub(crate) without_logs: AtomicBool,
}

#[async_trait::async_trait]
impl SimulateUserOps for Node {
    async fn simulate_user_ops(&self, bundles: &[Bundle]) -> Result<Vec<Simulated>, Fault> {
        self.node.simulate_user_ops(bundles).await
    }
}

#[async_trait::async_trait]
impl FindUserOps for Node {
    async fn find_user_ops(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Vec<Option<Landed>>, Fault> {
        match self.without_logs.load(Ordering::Relaxed) {
            true => Ok(vec![None; hashes.len()]),
            false => self.node.find_user_ops(hashes, blocks).await,
        }
    }
}

#[async_trait::async_trait]
impl FindNonces for Node {
    async fn find_nonce(
        &self,
        sender: Address,
        nonce: U256,
        blocks: RangeInclusive<u64>,
    ) -> Result<Option<B256>, Fault> {
        match self.without_logs.load(Ordering::Relaxed) {
            true => Ok(None),
            false => self.node.find_nonce(sender, nonce, blocks).await,
        }
    }
}

/// What a stage is made with.
pub(crate) struct Setup {
    pub(crate) plan: DevPlan,
    pub(crate) policy: NvmPolicy,
    pub(crate) deployed: bool,
    pub(crate) keys: Arc<dyn ReadSessionKeys>,
    /// Blocks that make the one below them final.
    pub(crate) depth: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            plan: DevPlan::credits(ACCOUNTS[SELLER].address, PRICE, CREDITS),
            policy: NvmPolicy::default(),
            deployed: true,
            keys: Arc::new(NoSessionKeys),
            depth: 0,
        }
    }
}

pub(crate) async fn stage() -> Stage {
    Setup::default().build().await
}

impl Setup {
    pub(crate) async fn build(self) -> Stage {
        let chain = DevChain::builder().time(START).finality_depth(self.depth).build().unwrap();
        chain.register_plan(U256::from(PLAN), self.plan).unwrap();
        chain.register_plan(U256::from(OTHER_PLAN), self.plan).unwrap();
        let network = x402_types::ChainId::eip155(CHAIN);
        let reader = Arc::new(RpcChain::new(chain.client(), network, self.depth).with_freshness(Duration::ZERO));
        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, CHAIN);
        let rail = EoaRail::new(Arc::clone(&reader), signer(GAS).unwrap()).unwrap();
        let lane = rail.lane().clone();
        let clock = chain.clone();
        let ledger = Arc::new(MemoryLedger::new(move || UnixSeconds(clock.time())));
        let pay_as_you_go = self.plan.pay_as_you_go;
        let calls = if pay_as_you_go {
            PlanCalls::pay_as_you_go(PLANS, TOKEN, PLANS)
        } else {
            PlanCalls::fixed(PLANS, PLANS, TOKEN, PLANS)
        };
        let plan = Plan {
            id: U256::from(PLAN).into(),
            credits: PLANS,
            calls,
            price: U256::from(self.plan.price),
            credits_per_order: U256::from(self.plan.credits),
            minimum: U256::from(self.plan.minimum),
            maximum: U256::from(self.plan.maximum),
        };
        let node = RpcEntryPoint::new(chain.client(), entry_point);
        let operations = Arc::new(Node { node, without_logs: AtomicBool::new(false) });
        let mechanism = NvmMechanism::new(NvmParts {
            chain: Arc::clone(&reader) as _,
            operations: Arc::clone(&operations) as _,
            credits: Arc::new(ChainCredits::new(reader as _, PLANS)),
            keys: self.keys,
            ledger: Arc::clone(&ledger) as _,
            plans: Plans::new([Plan { id: U256::from(OTHER_PLAN).into(), ..plan.clone() }, plan]).unwrap(),
            session_signer: Arc::new(signer(SESSION).unwrap()),
            lanes: rail.lanes(),
            policy: self.policy,
        });
        let settlement = Settlement::new("test".into(), Arc::clone(&ledger) as _)
            .with_rail(Arc::new(rail))
            .unwrap()
            .with_mechanism(Arc::new(mechanism.unwrap()))
            .unwrap();
        let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
        let stage = Stage { chain, ledger, settlement, lane, account, operations };
        stage.chain.set_balance_of(account.address(), U256::from(100 * PRICE));
        if self.deployed {
            stage.send(OWNER, account.factory(), account.factory_data()).await;
        }
        stage
    }
}

/// The owner of the account, and every other account of the chain.
pub(crate) fn key_of(index: usize) -> PrivateKeySigner {
    signer(index).unwrap()
}

pub(crate) fn selector(signature: &str) -> FixedBytes<4> {
    FixedBytes::from_slice(&alloy_primitives::keccak256(signature)[..4])
}

pub(crate) const BURN: &str = "burn(address,uint256,uint256,uint256,bytes)";
pub(crate) const BUY: &str = "order(bytes32,uint256,address,uint256,bytes[])";
pub(crate) const USE: &str = "order(bytes32,uint256,bytes[])";
pub(crate) const APPROVE: &str = "approve(address,uint256)";

/// Burns at most `most` credits of the plan at once.
pub(crate) fn redeem_grant(most: u64) -> Grant {
    Grant::new(0, UNTIL)
        .times(1_000)
        .call(PLANS, selector(BURN))
        .equal(32, U256::from(PLAN))
        .at_most(64, U256::from(most))
}

/// Approves and buys.
pub(crate) fn order_grant(purchases: u64) -> Grant {
    Grant::new(0, UNTIL)
        .times(1_000)
        .call(TOKEN, selector(APPROVE))
        .at_most(32, U256::from(PRICE * purchases))
        .call(PLANS, selector(BUY))
        .equal(32, U256::from(PLAN))
}

/// Approves and pays for one use.
pub(crate) fn use_grant() -> Grant {
    Grant::new(0, UNTIL)
        .times(1_000)
        .call(TOKEN, selector(APPROVE))
        .call(PLANS, selector(USE))
        .equal(32, U256::from(PLAN))
}

/// Registered keys, in memory.
#[derive(Default)]
pub(crate) struct Registered(Mutex<BTreeMap<(Address, B256), String>>);

impl Registered {
    pub(crate) fn put(&self, account: Address, hash: B256, text: &str) {
        self.0.lock().unwrap().insert((account, hash), text.to_owned());
    }
}

#[async_trait::async_trait]
impl ReadSessionKeys for Registered {
    async fn session_key(
        &self,
        _: x402_types::ChainId,
        account: Address,
        hash: B256,
    ) -> Result<Option<Zeroizing<String>>, Fault> {
        Ok(self.0.lock().unwrap().get(&(account, hash)).cloned().map(Zeroizing::new))
    }
}

/// A payment that is being put together; each test changes what it is about.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) from: Address,
    pub(crate) keys: Vec<SessionKey>,
    pub(crate) accepted: Requirements,
    pub(crate) provider: String,
    pub(crate) resource: Option<String>,
    pub(crate) proof: Option<RequestProof>,
    pub(crate) amount: u64,
    pub(crate) identity: Identity,
}

impl Stage {
    pub(crate) fn now(&self) -> UnixSeconds {
        UnixSeconds(self.chain.time())
    }

    pub(crate) async fn send(&self, from: usize, to: Address, data: Bytes) -> B256 {
        let tx = TransactionRequest::default().to(to).input(data.into()).gas_limit(3_000_000);
        let receipt = self.chain.wallet(key_of(from)).send_transaction(tx).await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt.transaction_hash
    }

    /// Credits for the account, from nowhere.
    pub(crate) async fn give(&self, purchases: u64) {
        self.give_of(PLAN, purchases).await;
    }

    pub(crate) async fn give_of(&self, plan: u64, purchases: u64) {
        let buyer = ACCOUNTS[8].address;
        self.chain.set_balance_of(buyer, U256::from(PRICE * purchases));
        let approve = Token::approveCall { spender: PLANS, value: U256::from(PRICE * purchases) };
        self.send(8, TOKEN, approve.abi_encode().into()).await;
        let order = PlansContract::order_0Call {
            seed: B256::with_last_byte(self.chain.block_number() as u8),
            planId: U256::from(plan),
            creditsReceiver: self.account.address(),
            numberOfPurchases: U256::from(purchases),
            params: Vec::new(),
        };
        self.send(8, PLANS, order.abi_encode().into()).await;
    }

    pub(crate) fn credits(&self) -> u64 {
        self.chain.credits_of(self.account.address(), U256::from(PLAN)).unwrap().to()
    }

    pub(crate) async fn approval(&self, grant: &Grant) -> Approval {
        issue(&key_of(OWNER), &self.account, ACCOUNTS[SESSION].address, grant, CHAIN, 1).await.unwrap()
    }

    pub(crate) async fn key(&self, id: &str, grant: &Grant) -> SessionKey {
        SessionKey::with_data(id, &self.approval(grant).await.write())
    }

    /// A payment of v3 with a redeem key.
    pub(crate) async fn draft(&self, nonce: u8, amount: u64) -> Draft {
        let keys = vec![self.key("redeem", &redeem_grant(100)).await];
        let plan: PlanId = U256::from(PLAN).into();
        Draft {
            from: self.account.address(),
            keys,
            accepted: Requirements::new(x402_types::ChainId::eip155(CHAIN), plan).with_verb("POST"),
            provider: "zerodev".to_owned(),
            resource: Some(URL.to_owned()),
            proof: Some(RequestProof { nonce: [nonce; 32], resource_url: URL.to_owned() }),
            amount,
            identity: Identity::new("shop", format!("request-{nonce}")),
        }
    }

    /// The same with an order key before it.
    pub(crate) async fn draft_with_order(&self, nonce: u8, amount: u64) -> Draft {
        let mut draft = self.draft(nonce, amount).await;
        draft.keys.insert(0, self.key("order", &order_grant(10)).await);
        draft
    }

    pub(crate) async fn verify(&self, claim: &Claim) -> Result<(), Refusal> {
        self.settlement.verify(claim, self.now()).await.map(drop)
    }

    pub(crate) async fn refused(&self, claim: &Claim) -> Rejection {
        match self.verify(claim).await {
            Err(Refusal::Rejection(rejection)) => rejection,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn key_of(&self, claim: &Claim) -> PaymentKey {
        self.settlement.key(claim).unwrap()
    }

    pub(crate) fn row(&self, claim: &Claim) -> Payment {
        let key = self.key_of(claim);
        self.ledger.all_payments().into_iter().find(|payment| payment.key == key).unwrap()
    }

    /// Settles, and works until it is answered.
    pub(crate) async fn settle(&self, claim: &Claim) -> Result<Outcome, Refusal> {
        let call = self.settlement.begin_request().named();
        let outcome = self.settlement.settle(&call, claim, self.now()).await?;
        if outcome.is_final() {
            return Ok(outcome);
        }
        self.work(60).await;
        Ok(self.settlement.look(&call, &self.key_of(claim)).await?)
    }

    /// One round of the lane: every payment that is due, then what is to be carried.
    pub(crate) async fn round(&self) -> bool {
        let owner = self.settlement.owner().clone();
        let lease = self.ledger.lease(&self.lane, &owner, 1_000).await.unwrap().unwrap();
        let mut moved = false;
        for key in self.ledger.due(&self.lane, self.now(), 100).await.unwrap() {
            moved |= self.settlement.advance(&lease, &key, self.now()).await.unwrap() == Progress::Moved;
        }
        moved | (self.settlement.carry(&lease, self.now()).await.unwrap() == Progress::Moved)
    }

    /// The payments that are due, without anything being carried.
    pub(crate) async fn plan_only(&self) {
        let owner = self.settlement.owner().clone();
        let lease = self.ledger.lease(&self.lane, &owner, 1_000).await.unwrap().unwrap();
        for _ in 0..4 {
            self.chain.increase_time(2);
            self.chain.mine(1);
            for key in self.ledger.due(&self.lane, self.now(), 100).await.unwrap() {
                self.settlement.advance(&lease, &key, self.now()).await.unwrap();
            }
        }
    }

    /// What is ready leaves, and lands.
    pub(crate) async fn carry_only(&self) {
        let owner = self.settlement.owner().clone();
        let lease = self.ledger.lease(&self.lane, &owner, 1_000).await.unwrap().unwrap();
        self.settlement.carry(&lease, self.now()).await.unwrap();
    }

    /// Settles until the order has happened and nothing else has left.
    pub(crate) async fn ordered(&self, claim: &Claim) {
        self.settlement.settle(&self.settlement.begin_request(), claim, self.now()).await.unwrap();
        self.plan_only().await;
        self.carry_only().await;
        let owner = self.settlement.owner().clone();
        let lease = self.ledger.lease(&self.lane, &owner, 1_000).await.unwrap().unwrap();
        // One look that finds the order, and cannot plan what follows it.
        while self.row(claim).proven(&x402_erc4337::nvm::ORDER).is_none() {
            self.chain.increase_time(2);
            self.chain.mine(1);
            self.chain.fail_calls("eth_call", 3, When::Before, Failure::Lost);
            drop(self.settlement.advance(&lease, &self.key_of(claim), self.now()).await);
            self.chain.clear_faults();
        }
    }

    /// Another holder of the session signer's key burns one credit, by an operation of its own.
    pub(crate) async fn another_burns(&self, approval: &Approval, mode: KernelMode, channel: u16) {
        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, CHAIN);
        let permission = approval.permission_for(ACCOUNTS[SESSION].address).unwrap();
        let gas = Gas { call_gas_limit: 500_000, verification_gas_limit: 2_500_000, ..Gas::default() };
        let ready = OperationBuilder::new(entry_point, self.account.address())
            .nonce(permission.nonce_key(mode, channel), 0)
            .call(&self.burn(1))
            .unwrap()
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = key_of(SESSION).sign_message_sync(ready.hash().as_slice()).unwrap().as_bytes();
        let signature = user_op_signature(&signature);
        let signature = match mode {
            KernelMode::Default => signature,
            KernelMode::Enable => permission.enable_signature(approval.enable_signature.as_ref().unwrap(), &signature),
        };
        let bundle = Bundle::new(entry_point, ACCOUNTS[6].address, &[ready.signed(signature)]).unwrap();
        let before = self.credits();
        self.send(6, entry_point.address, bundle.call_data().clone()).await;
        assert_eq!(self.credits(), before - 1);
    }

    fn burn(&self, amount: u64) -> Call {
        let call = PlansContract::burnCall {
            from: self.account.address(),
            planId: U256::from(PLAN),
            amount: U256::from(amount),
            keyspace: U256::ZERO,
            sig: Bytes::new(),
        };
        Call { target: PLANS, value: U256::ZERO, data: call.abi_encode().into() }
    }

    /// The owner acts by the root validator.
    pub(crate) async fn owner_calls(&self, call: &Call) {
        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, CHAIN);
        let key = NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0);
        let reader = RpcChain::new(self.chain.client(), x402_types::ChainId::eip155(CHAIN), 0);
        let nonce =
            Nonces::getNonceCall { sender: self.account.address(), key: U256::from_be_slice(key.0.as_slice()).to() };
        let reads = BatchRead::new().view(entry_point.address, nonce.abi_encode().into(), 100_000, 1);
        let answers = reader.run(&reads, At::Latest).await.unwrap();
        let (_, sequence) = NonceKey::split(answers.calls[0].word().unwrap());
        let gas = Gas { call_gas_limit: 500_000, verification_gas_limit: 500_000, ..Gas::default() };
        let ready = OperationBuilder::new(entry_point, self.account.address())
            .nonce(key, sequence)
            .call_data(if call.target == self.account.address() { call.data.clone() } else { call.execute() })
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = key_of(OWNER).sign_message_sync(ready.hash().as_slice()).unwrap().as_bytes();
        let bundle = Bundle::new(entry_point, ACCOUNTS[6].address, &[ready.signed(signature.into())]).unwrap();
        self.send(6, entry_point.address, bundle.call_data().clone()).await;
    }

    pub(crate) async fn owner_burns(&self, amount: u64) {
        let before = self.credits();
        self.owner_calls(&self.burn(amount)).await;
        assert_eq!(self.credits(), before - amount);
    }

    /// What the account has paid, in orders, in the newest block.
    pub(crate) fn orders_at_head(&self) -> u64 {
        let left: u64 = self.chain.balance_of(self.account.address()).to();
        (100 * PRICE - left) / PRICE
    }

    /// Orders that the account made and paid, as far as they are final.
    pub(crate) fn orders(&self) -> usize {
        self.chain.transfers().iter().filter(|transfer| transfer.from == self.account.address()).count()
    }

    /// The draft's signature for an account that is not there yet.
    pub(crate) fn wrapped(&self, draft: &Draft) -> Bytes {
        let signature = draft.signature();
        Counterfactual { factory: self.account.factory(), factory_data: self.account.factory_data(), signature }
            .encode()
    }

    /// Rounds until nothing is unanswered, at most so many; where one moves nothing, a second passes.
    pub(crate) async fn work(&self, rounds: usize) {
        for _ in 0..rounds {
            if !self.round().await {
                self.chain.increase_time(1);
                self.chain.mine(1);
            }
            if self.ledger.due(&self.lane, UnixSeconds(u64::MAX), 1).await.unwrap().is_empty() {
                return;
            }
        }
    }
}

impl Draft {
    pub(crate) fn statement(&self) -> Statement {
        let extra = &self.accepted.extra;
        Statement {
            from: self.from,
            provider: self.provider.clone(),
            keys: self.keys.iter().map(|k| NamedKey { id: k.id().to_owned(), hash: k.hash().into() }).collect(),
            plan: self.accepted.plan_id.value(),
            binding: self.proof.as_ref().map(|proof| StatementBinding {
                agent_id: extra.agent_id.map(|id| id.to_string()).unwrap_or_default(),
                resource_url: proof.resource_url.clone(),
                http_verb: extra.http_verb.clone().unwrap_or_default().to_ascii_uppercase(),
                nonce: proof.nonce.into(),
            }),
        }
    }

    /// The owner's signature, as the root validator takes it.
    pub(crate) fn signature(&self) -> Bytes {
        let digest = self.statement().digest(&StatementDomain::default(), CHAIN);
        let digest = wrapped_digest(digest, self.from, KernelVersion::V031, CHAIN);
        let signature = key_of(OWNER).sign_hash_sync(&digest).unwrap().as_bytes();
        [&[0][..], &signature].concat().into()
    }

    pub(crate) fn sign(&self) -> Claim {
        self.signed(self.signature())
    }

    pub(crate) fn signed(&self, signature: Bytes) -> Claim {
        let mut authorization = Authorization::new(self.from, &self.provider, self.keys.clone()).unwrap();
        if let Some(proof) = &self.proof {
            authorization = authorization.with_proof(proof.clone());
        }
        let terms = self.accepted.to_terms(self.amount.into()).unwrap();
        let payload = RawJson::of(&Payload::new(authorization, signature)).unwrap();
        let mut claim = Claim::of_payload(terms, payload).with_identity(self.identity.clone());
        claim.resource = self.resource.as_deref().map(ResourceInfo::of);
        claim
    }
}
