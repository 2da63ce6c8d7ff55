//! Accounts that are contracts sign in: deployed (EIP-1271), not deployed yet (EIP-6492), delegated (EIP-7702), on a chain in
//! this process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod stage;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, address, eip191_hash_message, hex};
use async_trait::async_trait;
use serde_json::{Value, json};
use x402_challenge::MemoryStore;
use x402_devchain::{ACCOUNTS, DevChain, Failure, MiningMode, NodeFault};
use x402_evm::chain::RpcChain;
use x402_evm::eip6492::Counterfactual;
use x402_evm::exact::SignAs;
use x402_evm::key::{Key, Sign};
use x402_evm::wallet::Signers;
use x402_extensions::sign_in::{KeysAlone, OnChains, SignIn, SignInGate, SignInWallet, SignedBy};
use x402_types::extension::SettledClaim;
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{Claim, Extension, Fault, RawJson, Refusal};

use crate::stage::{ORIGIN, SIGNER, Stage, ask, get, key, offer, required};

const WALLET: Address = Address::repeat_byte(0xaa);
/// The deterministic deployment proxy, <https://github.com/Arachnid/deterministic-deployment-proxy>: `salt ‖ initCode`.
const FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
const FACTORY_CODE: [u8; 69] = hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

fn wallet_code() -> Bytes {
    let artifact = include_str!("../../x402-devchain/contracts/artifacts/TestWallet.json");
    let artifact: Value = serde_json::from_str(artifact).unwrap();
    serde_json::from_value(artifact["deployedBytecode"].clone()).unwrap()
}

/// Init code that writes the owner into slot 0 and leaves the wallet's code.
fn init_code(owner: Address) -> Bytes {
    let runtime = wallet_code();
    let len = u16::try_from(runtime.len()).unwrap().to_be_bytes();
    let head = [&[0x73][..], owner.as_slice(), &hex!("5f5561"), &len, &hex!("8060215f395ff3")].concat();
    [&head[..], &runtime].concat().into()
}

/// A smart account whose owner signs.
#[derive(Clone)]
struct Account {
    address: Address,
    owner: Key,
    factory: Option<Bytes>,
}

#[async_trait]
impl SignAs for Account {
    fn account(&self) -> Address {
        self.address
    }
    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        let signature: Bytes = Sign::sign(&self.owner, digest).await?.to_bytes().into();
        Ok(match self.factory.clone() {
            None => signature,
            Some(factory_data) => Counterfactual { factory: FACTORY, factory_data, signature }.encode(),
        })
    }
}

fn chain() -> DevChain {
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    chain.mine(1);
    chain
}

fn reader(chain: &DevChain) -> Arc<RpcChain> {
    let network = "eip155:84532".parse().unwrap();
    Arc::new(RpcChain::new(chain.client(), network, 0).with_freshness(Duration::ZERO))
}

/// A sign-in of this account, for its chain or another one.
async fn sign_in(account: &Account, network: &str) -> SignIn {
    let info = json!({"domain": "api.example.com", "uri": format!("{ORIGIN}/data"), "version": "1",
        "nonce": "00112233445566778899aabbccddeeff", "issuedAt": "2026-11-29T03:00:00.000Z"});
    let declaration = json!({"info": info, "supportedChains": [{"chainId": network, "type": "eip191"}]});
    let header = SignInWallet::evm(account.clone()).sign(&RawJson::of(&declaration).unwrap(), ORIGIN).await;
    SignIn::parse(header.unwrap().unwrap().as_bytes()).unwrap()
}

async fn judged(sign_in: &SignIn, verifier: &OnChains) -> Option<SignedBy> {
    match sign_in.verify(verifier).await {
        Ok(signed) => Some(signed),
        Err(Refusal::Rejection(_)) => None,
        Err(Refusal::Fault(fault)) => panic!("{fault}"),
    }
}

#[tokio::test]
async fn the_code_of_a_contract_agrees_on_its_own_chain_alone() {
    let chain = chain();
    let owner = key(SIGNER);
    chain.set_code(WALLET, wallet_code()).unwrap();
    chain.set_storage(WALLET, U256::ZERO, U256::from_be_slice(owner.address().as_slice()).into());
    let account = Account { address: WALLET, owner: owner.clone(), factory: None };
    let verifier = OnChains::new(Signers::any()).with_chain(reader(&chain));
    let signed = sign_in(&account, "eip155:84532").await;
    assert_eq!(judged(&signed, &verifier).await, Some(SignedBy::Code));
    // On a chain that is not read, only keys sign.
    assert_eq!(judged(&sign_in(&account, "eip155:8453").await, &verifier).await, None);
    assert!(signed.verify(&KeysAlone).await.is_err());
    let thief = Account { owner: key(crate::stage::PAYER), ..account };
    assert_eq!(judged(&sign_in(&thief, "eip155:84532").await, &verifier).await, None);
}

#[tokio::test]
async fn a_contract_that_is_not_deployed_yet_signs_by_a_listed_factory() {
    let chain = chain();
    let owner = key(SIGNER);
    chain.set_code(FACTORY, FACTORY_CODE.to_vec().into()).unwrap();
    let code = init_code(owner.address());
    let address = FACTORY.create2_from_code(B256::ZERO, &code);
    let data: Bytes = [B256::ZERO.as_slice(), &code].concat().into();
    let account = Account { address, owner, factory: Some(data) };
    let signed = sign_in(&account, "eip155:84532").await;
    let unlisted = OnChains::new(Signers::any()).with_chain(reader(&chain));
    assert_eq!(judged(&signed, &unlisted).await, None);
    let listed = OnChains::new(Signers::any().with_factory(FACTORY)).with_chain(reader(&chain));
    assert_eq!(judged(&signed, &listed).await, Some(SignedBy::Code));
    let elsewhere = Account { address: WALLET, ..account };
    assert_eq!(judged(&sign_in(&elsewhere, "eip155:84532").await, &listed).await, None, "another account");
}

#[tokio::test]
async fn the_code_of_a_delegated_account_decides() {
    let chain = chain();
    let (owner, account) = (key(SIGNER), ACCOUNTS[6].address);
    chain.set_code(WALLET, wallet_code()).unwrap();
    chain.set_code(account, [&hex!("ef0100")[..], WALLET.as_slice()].concat().into()).unwrap();
    chain.set_storage(account, U256::ZERO, U256::from_be_slice(owner.address().as_slice()).into());
    let verifier = OnChains::new(Signers::any()).with_chain(reader(&chain));
    let by_code = Account { address: account, owner, factory: None };
    assert_eq!(judged(&sign_in(&by_code, "eip155:84532").await, &verifier).await, Some(SignedBy::Code));
    let mut by_key = sign_in(&by_code, "eip155:84532").await;
    let message = by_key.fields.message(&by_key.account);
    let own = x402_devchain::signer(6).unwrap();
    let signature = alloy_signer::SignerSync::sign_hash_sync(&own, &eip191_hash_message(message.as_bytes())).unwrap();
    by_key.signature = signature.as_bytes().to_vec();
    assert_eq!(judged(&by_key, &verifier).await, None, "the code does not take the key's signature");
}

#[tokio::test]
async fn a_node_that_fails_refuses_nobody() {
    let chain = chain();
    let account = Account { address: WALLET, owner: key(SIGNER), factory: None };
    let signed = sign_in(&account, "eip155:84532").await;
    let verifier = OnChains::new(Signers::any()).with_chain(reader(&chain));
    chain.node_fault(NodeFault::Every(1, Failure::Lost));
    let failed = signed.verify(&verifier).await;
    assert!(matches!(failed, Err(Refusal::Fault(_))), "{failed:?}");
}

#[tokio::test]
async fn a_contract_is_entitled_on_the_chain_on_which_it_paid() {
    let chain = chain();
    let owner = key(SIGNER);
    chain.set_code(WALLET, wallet_code()).unwrap();
    chain.set_storage(WALLET, U256::ZERO, U256::from_be_slice(owner.address().as_slice()).into());
    let account = Account { address: WALLET, owner, factory: None };
    let verifier = OnChains::new(Signers::any()).with_chain(reader(&chain));
    let stage = Stage::new();
    let store = Arc::new(MemoryStore::default());
    let gate = Arc::new(SignInGate::new(ORIGIN, &[5; 32], store).unwrap().with_accounts(Arc::new(verifier)));
    let paid_on = async |network: &str| {
        let terms = offer("$0.01").terms.with_network(network.parse().unwrap());
        let claim = Claim::of_payload(terms, RawJson::null());
        let settled = json!({"success": true, "payer": WALLET, "transaction": "0x1", "network": network});
        let settled: SettleResponse = serde_json::from_value(settled).unwrap();
        let resource = ResourceInfo::of(format!("{ORIGIN}/data"));
        let now = x402_http::client::Clock::now(&*stage.clock);
        gate.on_settled(&SettledClaim::new(&claim, Some(&resource), &settled, now)).await.unwrap();
    };
    // It paid on another chain, where somebody else may own this address.
    paid_on("eip155:8453").await;
    let service = stage.serve(&stage.seller().with_extension(Shared(gate.clone())).charge([offer("$0.01")]).unwrap());
    let enter = async || {
        let document = required(&ask(&service, get("/data")).await);
        let declaration = RawJson::of(&document["extensions"]["sign-in-with-x"]).unwrap();
        let header = SignInWallet::evm(account.clone()).sign(&declaration, ORIGIN).await.unwrap().unwrap();
        let mut request = get("/data");
        request.headers_mut().insert("sign-in-with-x", header.parse().unwrap());
        ask(&service, request).await.status().as_u16()
    };
    assert_eq!(enter().await, 402);
    paid_on("eip155:84532").await;
    assert_eq!(enter().await, 200);
}

/// One gate for the seller and the test.
#[derive(Debug)]
struct Shared(Arc<SignInGate>);

#[async_trait]
impl Extension for Shared {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn declare(&self, required: &x402_types::extension::Required<'_>) -> Option<RawJson> {
        self.0.declare(required)
    }
    fn lasts(&self) -> Option<u64> {
        self.0.lasts()
    }
    fn headers(&self) -> &[&str] {
        self.0.headers()
    }
    async fn on_request(
        &self,
        request: &x402_types::extension::Unpaid<'_>,
    ) -> Result<Option<x402_types::extension::Admission>, Refusal> {
        self.0.on_request(request).await
    }
}
