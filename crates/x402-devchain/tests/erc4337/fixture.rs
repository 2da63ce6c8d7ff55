//! A chain with the plans contract of the vectors, and operations sent to EntryPoint 0.7 by account 3.

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, sol};
use serde_json::{Value, json};
use x402_devchain::contracts::ENTRY_POINT_V07;
use x402_devchain::{DevChain, signer};
use x402_erc4337::{
    Bundle, Call, EntryPoint, EntryPointVersion, Executed, Init, NonceKey, PackedUserOperation, Paymaster,
    SimulationRefusal, UserOperation,
};

/// Inside the time of the vectors' policies: 1780000000 to 1900000000.
pub(crate) const TIME: u64 = 1_800_000_000;
pub(crate) const ENTRY_POINT: EntryPoint = EntryPoint::canonical(EntryPointVersion::V07, 84532);

sol! {
    interface Plans {
        function order(uint256 planId) external;
        function redeem(uint256 planId, uint256 amount) external;
        function balanceOf(address account, uint256 planId) external view returns (uint256);
    }

    function getNonce(address sender, uint192 key) external view returns (uint256 nonce);

    // What takes a packed operation, by whom: the EntryPoint, the Safe module, the paymaster, a policy.
    struct Operation {
        address sender;
        uint256 nonce;
        bytes initCode;
        bytes callData;
        bytes32 accountGasLimits;
        uint256 preVerificationGas;
        bytes32 gasFees;
        bytes paymasterAndData;
        bytes signature;
    }

    function getUserOpHash(Operation op) external view returns (bytes32);
    function getOperationHash(Operation op) external view returns (bytes32);
    function getHash(Operation op, uint48 validUntil, uint48 validAfter) external view returns (bytes32);
    function checkUserOpPolicy(bytes32 id, Operation op) external payable returns (uint256);
}

impl From<PackedUserOperation> for Operation {
    fn from(op: PackedUserOperation) -> Self {
        Self {
            sender: op.sender,
            nonce: op.nonce,
            initCode: op.init_code,
            callData: op.call_data,
            accountGasLimits: op.account_gas_limits,
            preVerificationGas: op.pre_verification_gas,
            gasFees: op.gas_fees,
            paymasterAndData: op.paymaster_and_data,
            signature: op.signature,
        }
    }
}

pub(crate) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../x402-testkit/vectors/erc4337.json")).unwrap()
}

pub(crate) fn bytes(value: &Value) -> Bytes {
    value.as_str().unwrap().parse().unwrap()
}

pub(crate) fn address(value: &Value) -> Address {
    value.as_str().unwrap().parse().unwrap()
}

pub(crate) fn word(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

/// One of the chain's funded accounts.
pub(crate) fn key(account: usize) -> PrivateKeySigner {
    signer(account).unwrap()
}

/// Deterministic numbers: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, most: u64) -> Bytes {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn word(&mut self) -> U256 {
        U256::from_limbs([self.next(), self.next(), self.next(), self.next()])
    }

    /// Of every size: as many are below 2^32 as above 2^96.
    pub(crate) fn number(&mut self) -> u128 {
        (u128::from(self.next()) << 64 | u128::from(self.next())) >> self.below(128)
    }

    pub(crate) fn address(&mut self) -> Address {
        Address::from_word(self.word().into())
    }

    /// An operation of an account that is there, or made by a factory; without paymaster and signature.
    pub(crate) fn operation(&mut self) -> UserOperation {
        let init = match self.below(2) {
            0 => Init::None,
            _ => Init::Factory { factory: self.address(), data: self.bytes(200) },
        };
        UserOperation {
            sender: self.address(),
            nonce: self.word() >> self.below(256),
            init,
            call_data: self.bytes(300),
            call_gas_limit: self.number(),
            verification_gas_limit: self.number(),
            pre_verification_gas: self.word() >> self.below(256),
            max_fee_per_gas: self.number(),
            max_priority_fee_per_gas: self.number(),
            ..UserOperation::default()
        }
    }

    pub(crate) fn paymaster(&mut self) -> Paymaster {
        Paymaster {
            address: self.address(),
            verification_gas_limit: self.number(),
            post_op_gas_limit: self.number(),
            data: self.bytes(150),
            signature: Bytes::new(),
        }
    }
}

pub(crate) struct Scene {
    pub(crate) chain: DevChain,
    pub(crate) plans: Address,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(84532)
    }

    pub(crate) fn on(chain_id: u64) -> Self {
        let vectors = vectors();
        let chain = DevChain::builder().chain_id(chain_id).time(TIME).build().unwrap();
        let plans = address(&vectors["contracts"]["plans"]);
        chain.construct(plans, bytes(&vectors["plansInitCode"])).unwrap();
        Self { chain, plans }
    }

    pub(crate) fn order(&self, plan: u64) -> Call {
        let data = Plans::orderCall { planId: U256::from(plan) }.abi_encode().into();
        Call { target: self.plans, value: U256::ZERO, data }
    }

    pub(crate) fn redeem(&self, plan: u64, amount: u64) -> Call {
        let call = Plans::redeemCall { planId: U256::from(plan), amount: U256::from(amount) };
        Call { target: self.plans, value: U256::ZERO, data: call.abi_encode().into() }
    }

    pub(crate) async fn credits(&self, account: Address, plan: U256) -> U256 {
        self.ask(self.plans, Plans::balanceOfCall { account, planId: plan }).await.unwrap()
    }

    /// `eth_call`, or what it reverts with.
    pub(crate) async fn call(&self, from: Address, to: Address, data: Bytes) -> Result<Bytes, Bytes> {
        let request = json!([{ "from": from, "to": to, "data": data }, "latest"]);
        match self.chain.client().request::<Value, Bytes>("eth_call", request).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let data = error.as_error_resp().unwrap().data.as_ref();
                Err(data.map_or_else(Bytes::new, |data| serde_json::from_str(data.get()).unwrap()))
            }
        }
    }

    pub(crate) async fn ask<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, Bytes> {
        let answer = self.call(key(3).address(), to, call.abi_encode().into()).await?;
        Ok(C::abi_decode_returns(&answer).unwrap())
    }

    /// The next sequence number of a nonce key.
    pub(crate) async fn sequence(&self, sender: Address, key: NonceKey) -> u64 {
        let key = alloy_primitives::Uint::from_be_bytes(key.0.0);
        NonceKey::split(self.ask(ENTRY_POINT_V07, getNonceCall { sender, key }).await.unwrap()).1
    }

    pub(crate) async fn handle_ops(&self, data: Bytes, gas: u64) -> TransactionReceipt {
        let request = TransactionRequest::default().with_to(ENTRY_POINT_V07).with_input(data).with_gas_limit(gas);
        self.chain.wallet(key(3)).send_transaction(request).await.unwrap().get_receipt().await.unwrap()
    }

    /// Sends the operations in one transaction, and says how each of them ended.
    pub(crate) async fn send(&self, ops: &[UserOperation]) -> Vec<Executed> {
        let bundle = Bundle::new(ENTRY_POINT, key(3).address(), ops).unwrap();
        let receipt = self.handle_ops(bundle.call_data().clone(), bundle.gas()).await;
        assert!(receipt.status(), "{}", self.refused(ops).await);
        let executed = executed(&receipt);
        assert_eq!(executed.iter().map(|op| op.hash).collect::<Vec<_>>(), bundle.hashes());
        executed
    }

    /// Why the EntryPoint refuses the operations.
    pub(crate) async fn refused(&self, ops: &[UserOperation]) -> SimulationRefusal {
        let bundle = Bundle::new(ENTRY_POINT, key(3).address(), ops).unwrap();
        let answer = self.call(key(3).address(), ENTRY_POINT_V07, bundle.call_data().clone()).await;
        SimulationRefusal::new(answer.unwrap_err())
    }
}

pub(crate) fn executed(receipt: &TransactionReceipt) -> Vec<Executed> {
    let logs: Vec<_> = receipt.inner.logs().iter().map(|log| log.inner.clone()).collect();
    Executed::read(ENTRY_POINT_V07, &logs)
}
