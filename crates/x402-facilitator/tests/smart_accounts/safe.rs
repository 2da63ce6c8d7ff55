//! A Safe 1.4.1 of two owners pays `exact` by EIP-1271: Safe's own bytecode on the chain is the judge of each signature.
//! `isValidSignature` is its fallback handler's, here Safe4337Module 0.3.0, which is a CompatibilityFallbackHandler.

use alloy_primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, SolValue, sol};
use async_trait::async_trait;
use x402_devchain::contracts::{KERNEL_FACTORY, SAFE, SAFE_PROXY_FACTORY};
use x402_devchain::{ACCOUNTS, TOKENS_EACH, signer};
use x402_erc4337::session::safe::SAFE_4337_MODULE;
use x402_evm::eip6492::Counterfactual;
use x402_evm::exact::SignAs;
use x402_types::Fault;

use crate::{CHAIN, Raw, Stage, stage};

sol! {
    function setup(address[] owners, uint256 threshold, address to, bytes data, address fallbackHandler,
        address paymentToken, uint256 payment, address paymentReceiver) external;
    function createProxyWithNonce(address singleton, bytes initializer, uint256 saltNonce) external returns (address);
}

const BAD: &str = "invalid_exact_evm_payload_signature";

/// What the owners sign for an EIP-3009 authorization.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// `SafeMessage(bytes message)` of the hash, in the Safe's domain.
    Message,
    /// The same by `eth_sign`, which a Safe knows by 4 more in `v`.
    EthSign,
    /// The hash itself, which is nobody's consent for this Safe.
    Bare,
}

#[derive(Clone)]
struct Safe {
    address: Address,
    create: Bytes,
    /// In the order in which they sign.
    signers: Vec<usize>,
    form: Form,
    chain_id: u64,
    /// The domain of what is signed, the account itself but in a test.
    domain: Address,
    /// Named where the account is not deployed.
    factory: Option<Address>,
}

#[async_trait]
impl SignAs for Safe {
    fn account(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        let domain_type = keccak256("EIP712Domain(uint256 chainId,address verifyingContract)");
        let domain = keccak256((domain_type, U256::from(self.chain_id), self.domain).abi_encode());
        let message = keccak256((keccak256("SafeMessage(bytes message)"), keccak256(digest)).abi_encode());
        let hash = keccak256([&[0x19, 1][..], domain.as_slice(), message.as_slice()].concat());
        let (signed, more) = match self.form {
            Form::Message => (hash, 0),
            Form::EthSign => (eip191_hash_message(hash), 4),
            Form::Bare => (digest, 0),
        };
        let one = |index: &usize| {
            let mut bytes = signer(*index).unwrap().sign_hash_sync(&signed).unwrap().as_bytes();
            bytes[64] += more;
            bytes
        };
        let signature: Bytes = self.signers.iter().flat_map(one).collect();
        let factory_data = self.create.clone();
        Ok(match self.factory {
            None => signature,
            Some(factory) => Counterfactual { factory, factory_data, signature }.encode(),
        })
    }
}

/// Accounts 1 and 2, in the order of their addresses, which a Safe asks for.
fn owners() -> Vec<usize> {
    let mut owners = vec![1, 2];
    owners.sort_by_key(|index| ACCOUNTS[*index].address);
    owners
}

/// The Safe of both that the factory makes, with tokens at its address; not deployed.
async fn safe(stage: &Stage, handler: Address, salt: u64) -> Safe {
    let setup = setupCall {
        owners: vec![ACCOUNTS[1].address, ACCOUNTS[2].address],
        threshold: U256::from(2),
        to: Address::ZERO,
        data: Bytes::new(),
        fallbackHandler: handler,
        paymentToken: Address::ZERO,
        payment: U256::ZERO,
        paymentReceiver: Address::ZERO,
    };
    let initializer = setup.abi_encode().into();
    let create = createProxyWithNonceCall { singleton: SAFE, initializer, saltNonce: U256::from(salt) };
    let create: Bytes = create.abi_encode().into();
    let asked = TransactionRequest::default().to(SAFE_PROXY_FACTORY).input(create.clone().into());
    let address = Address::from_word(B256::from_slice(&stage.chain.provider().call(asked).await.unwrap()));
    stage.chain.set_balance_of(address, U256::from(TOKENS_EACH));
    let (signers, form) = (owners(), Form::Message);
    Safe { address, create, signers, form, chain_id: CHAIN, domain: address, factory: None }
}

async fn deploy(stage: &Stage, safe: &Safe) {
    let call = TransactionRequest::default().to(SAFE_PROXY_FACTORY).input(safe.create.clone().into());
    let wallet = stage.chain.wallet(signer(7).unwrap());
    assert!(wallet.send_transaction(call).await.unwrap().get_receipt().await.unwrap().status());
    assert!(!stage.chain.provider().get_code_at(safe.address).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deployed_safe_pays() {
    let stage = stage(Vec::new()).await;
    let safe = safe(&stage, SAFE_4337_MODULE, 1).await;
    deploy(&stage, &safe).await;
    stage.pays(safe.clone()).await;
    stage.pays(Safe { form: Form::EthSign, ..safe.clone() }).await;
    // Wrapped all the same: there is code, so no factory is asked for and none needs to be listed.
    stage.pays(Safe { factory: Some(SAFE_PROXY_FACTORY), ..safe.clone() }).await;
    stage.stop().await;
}

#[tokio::test]
async fn what_a_safe_does_not_sign_is_refused() {
    let stage = stage(Vec::new()).await;
    let good = safe(&stage, SAFE_4337_MODULE, 1).await;
    deploy(&stage, &good).await;
    let (first, second) = (owners()[0], owners()[1]);
    // Too few, one twice, in the wrong order, a stranger in either's place.
    for signers in [vec![first], vec![first, first], vec![second, first], vec![first, 3], vec![3, second]] {
        stage.refuses(Safe { signers, ..good.clone() }, BAD).await;
    }
    // Both, of something else: the bare hash, another Safe's message, another chain's; and an owner's key alone.
    stage.refuses(Safe { form: Form::Bare, ..good.clone() }, BAD).await;
    stage.refuses(Safe { domain: SAFE, ..good.clone() }, BAD).await;
    stage.refuses(Safe { chain_id: CHAIN + 1, ..good.clone() }, BAD).await;
    stage.refuses(Raw(good.address, 1), BAD).await;
    // A Safe whose handler knows no EIP-1271.
    let silent = safe(&stage, Address::ZERO, 2).await;
    deploy(&stage, &silent).await;
    stage.refuses(silent, BAD).await;
    stage.pays(good).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_safe_that_is_not_deployed_pays() {
    let stage = stage(vec![SAFE_PROXY_FACTORY]).await;
    let safe = Safe { factory: Some(SAFE_PROXY_FACTORY), ..safe(&stage, SAFE_4337_MODULE, 1).await };
    stage.refuses(Safe { signers: vec![owners()[0]], ..safe.clone() }, BAD).await;
    // A factory that is not listed; a listed one that makes another account; nothing said of a factory.
    stage.refuses(Safe { factory: Some(KERNEL_FACTORY), ..safe.clone() }, "eip6492_factory_not_allowed").await;
    let create = self::safe(&stage, SAFE_4337_MODULE, 2).await.create;
    stage.refuses(Safe { create, ..safe.clone() }, "smart_wallet_deployment_failed").await;
    let undeployed = "invalid_exact_evm_payload_undeployed_smart_wallet";
    stage.refuses(Safe { factory: None, ..safe.clone() }, undeployed).await;

    stage.pays(safe.clone()).await;
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 2, "deployed, then paid");
    // And once more, deployed by now.
    stage.pays(safe).await;
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 3);
    stage.stop().await;
}
