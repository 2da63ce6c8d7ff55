//! A chain with the vectors' contract of plans, an owner, a session key for ordering and one for redeeming.

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, address, fixed_bytes};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, sol};
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, signer};
use x402_erc4337::session::zerodev::{
    Approval, Grant, KernelAccount, KernelVersion, Permission, issue, user_op_signature,
};
use x402_erc4337::{
    Bundle, Call, EntryPoint, EntryPointVersion, Gas, Init, KernelMode, KernelValidation, NonceKey, OperationBuilder,
    RpcEntryPoint, SelfBundler, UserOperation,
};

sol! {
    function order(uint256 planId);
    function redeem(uint256 planId, uint256 amount);
    function balanceOf(address account, uint256 planId) returns (uint256 credits);
}

pub(crate) const PLANS: Address = address!("39Af4F6334D1E8d65b3a2317Cd8D27f3513fdCff");
pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const UNTIL: u64 = 1_800_086_400;
/// Pays for gas.
pub(crate) const PAYER: usize = 0;
/// Owns the account.
pub(crate) const OWNER: usize = 1;
/// Holds the session keys.
pub(crate) const SESSION: usize = 2;
/// Nobody.
pub(crate) const STRANGER: usize = 5;

pub(crate) struct Stage {
    pub(crate) chain: DevChain,
    pub(crate) entry_point: EntryPoint,
    pub(crate) bundler: SelfBundler,
    pub(crate) account: KernelAccount,
    pub(crate) order: Key,
    pub(crate) redeem: Key,
}

pub(crate) struct Key {
    pub(crate) approval: Approval,
    pub(crate) permission: Permission,
}

pub(crate) fn plan() -> U256 {
    U256::from(42)
}

pub(crate) fn to_order() -> Call {
    Call { target: PLANS, value: U256::ZERO, data: orderCall { planId: plan() }.abi_encode().into() }
}

pub(crate) fn to_redeem(amount: u64) -> Call {
    let call = redeemCall { planId: plan(), amount: U256::from(amount) };
    Call { target: PLANS, value: U256::ZERO, data: call.abi_encode().into() }
}

pub(crate) fn gas(mode: KernelMode) -> Gas {
    let verification_gas_limit = match mode {
        KernelMode::Default => 500_000,
        KernelMode::Enable => 2_500_000,
    };
    Gas { call_gas_limit: 200_000, verification_gas_limit, ..Gas::default() }
}

pub(crate) async fn stage() -> Stage {
    let vectors: Value = serde_json::from_str(include_str!("../../../x402-testkit/vectors/erc4337.json")).unwrap();
    let chain = DevChain::builder().time(START).time_step(2).build().unwrap();
    let creation: Bytes = vectors["plansInitCode"].as_str().unwrap().parse().unwrap();
    chain.construct(PLANS, creation).unwrap();
    let entry_point = EntryPoint::canonical(EntryPointVersion::V07, chain.chain_id());
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
    let bundler = bundler(&chain, entry_point, PAYER);
    let order = key(&account, Grant::new(0, UNTIL).call(PLANS, orderCall::SELECTOR.into()).equal(0, plan()), 1).await;
    let redeem = Grant::new(0, UNTIL).times(10).call(PLANS, redeemCall::SELECTOR.into()).equal(0, plan());
    let redeem = key(&account, redeem.at_most(32, U256::from(5)), 1).await;
    Stage { chain, entry_point, bundler, account, order, redeem }
}

pub(crate) fn bundler(chain: &DevChain, entry_point: EntryPoint, payer: usize) -> SelfBundler {
    SelfBundler::new(chain.wallet(signer(payer).unwrap()), entry_point, ACCOUNTS[payer].address)
}

pub(crate) async fn key(account: &KernelAccount, grant: Grant, nonce: u32) -> Key {
    let owner = signer(OWNER).unwrap();
    let session = ACCOUNTS[SESSION].address;
    let approval = issue(&owner, account, session, &grant, 84532, nonce).await.unwrap();
    let permission = approval.check(session, 84532, nonce).unwrap();
    Key { approval, permission }
}

impl Stage {
    /// An operation of a session key, signed by it. It carries the factory's data where the account is not there.
    pub(crate) async fn op(&self, key: &Key, mode: KernelMode, sequence: u64, call: &Call) -> UserOperation {
        self.signed(&signer(SESSION).unwrap(), self.init().await, key, mode, sequence, call)
    }

    pub(crate) fn signed(
        &self,
        session: &PrivateKeySigner,
        init: Init,
        key: &Key,
        mode: KernelMode,
        sequence: u64,
        call: &Call,
    ) -> UserOperation {
        let nonce_key = key.permission.nonce_key(mode, 0);
        let ready = OperationBuilder::new(self.entry_point, self.account.address())
            .init(init)
            .nonce(nonce_key, sequence)
            .call(call)
            .unwrap()
            .gas(gas(mode))
            .unsponsored()
            .unwrap();
        let signature = session.sign_message_sync(ready.hash().as_slice()).unwrap();
        let signature = user_op_signature(&signature.as_bytes());
        ready.signed(match mode {
            KernelMode::Default => signature,
            KernelMode::Enable => {
                let approved = key.approval.enable_signature.as_ref().unwrap();
                key.permission.enable_signature(approved, &signature)
            }
        })
    }

    /// An operation of the owner.
    pub(crate) async fn by_owner(&self, sequence: u64, call_data: Bytes) -> UserOperation {
        self.by_owner_with(gas(KernelMode::Enable), sequence, call_data).await
    }

    pub(crate) async fn by_owner_with(&self, gas: Gas, sequence: u64, call_data: Bytes) -> UserOperation {
        let ready = OperationBuilder::new(self.entry_point, self.account.address())
            .init(self.init().await)
            .nonce(NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0), sequence)
            .call_data(call_data)
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = signer(OWNER).unwrap().sign_message_sync(ready.hash().as_slice()).unwrap();
        ready.signed(Bytes::copy_from_slice(&signature.as_bytes()))
    }

    async fn init(&self) -> Init {
        let code = self.chain.provider().get_code_at(self.account.address()).await.unwrap();
        if code.is_empty() { self.account.init() } else { Init::None }
    }

    /// The account is made by an operation before this one.
    pub(crate) fn second(&self, key: &Key, call: &Call) -> UserOperation {
        self.signed(&signer(SESSION).unwrap(), Init::None, key, KernelMode::Enable, 0, call)
    }

    /// Somebody else's signature.
    pub(crate) fn by_stranger(&self, key: &Key, call: &Call) -> UserOperation {
        self.signed(&signer(STRANGER).unwrap(), self.account.init(), key, KernelMode::Enable, 0, call)
    }

    pub(crate) fn bundle(&self, ops: &[UserOperation]) -> Bundle {
        Bundle::new(self.entry_point, ACCOUNTS[PAYER].address, ops).unwrap()
    }

    /// The bundle as it is, without a simulation before it.
    pub(crate) async fn transact(&self, bundle: &Bundle, gas: u64) -> TransactionReceipt {
        let request = TransactionRequest::default()
            .with_to(self.entry_point.address)
            .with_input(bundle.call_data().clone())
            .with_gas_limit(gas);
        let wallet = self.chain.wallet(signer(PAYER).unwrap());
        wallet.send_transaction(request).await.unwrap().get_receipt().await.unwrap()
    }

    pub(crate) fn node(&self) -> RpcEntryPoint {
        RpcEntryPoint::new(self.chain.client(), self.entry_point)
    }

    pub(crate) fn hash(&self, op: &UserOperation) -> B256 {
        op.hash(&self.entry_point).unwrap()
    }

    pub(crate) async fn credits(&self) -> u64 {
        let call = balanceOfCall { account: self.account.address(), planId: plan() };
        let request = TransactionRequest::default().with_to(PLANS).with_input(call.abi_encode());
        U256::from_be_slice(&self.chain.provider().call(request).await.unwrap()).to()
    }
}

pub(crate) const INSUFFICIENT_CREDITS: FixedBytes<4> = fixed_bytes!("685c5370");
