//! Smart accounts as they are on public chains pay `exact` through a facilitator: Kernel and Safe, deployed or not, and
//! Simple7702Account and Kernel as the delegate of a key.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

#[path = "smart_accounts/safe.rs"]
mod safe;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_network::TransactionBuilder7702;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{Authorization, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use async_trait::async_trait;
use serde_json::{Value, json};
use x402_challenge::MemoryStore;
use x402_devchain::contracts::{KERNEL, KERNEL_FACTORY, SAFE_PROXY_FACTORY, SIMPLE_7702_ACCOUNT};
use x402_devchain::{ACCOUNTS, DevChain, TOKENS_EACH, signer};
use x402_erc4337::session::zerodev::{KernelAccount, KernelSignature, KernelVersion, wrapped_digest};
use x402_evm::chain::RpcChain;
use x402_evm::eip6492::Counterfactual;
use x402_evm::exact::{Exact, Payer, SignAs, TRANSFER_GAS};
use x402_evm::key::Key;
use x402_evm::rail::Fees;
use x402_evm::wallet::Signers;
use x402_extensions::bazaar::DiscoverableRoute;
use x402_extensions::builder_code::{BuilderCodes, FacilitatorCodes, PayerCodes, SellerCodes};
use x402_extensions::offer_receipt::{IssuerKey, KeepReceipt, KeptReceipt, KnownKeys, OfferIssuer, ReceiptBook};
use x402_extensions::sign_in::{OnChains, SignInGate, SignInWallet};
use x402_facilitator::clock::now;
use x402_facilitator::discovery::CatalogIndex;
use x402_facilitator::engine::Patience;
use x402_facilitator::heads::Polling;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_http::client::{AdmittedBy, PayClient, Receipt};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_store::catalog::{Catalog, CatalogFilter, Page};
use x402_store::sqlite::{Database, SqliteCatalog};
use x402_types::extension::PaymentIdentifier;
use x402_types::{ChainId, Fault, MakePayment, SigningContext, UnixSeconds};

use crate::support::{SELLER, body, send, terms, tls};

sol! {
    function createAccount(bytes data, bytes32 salt) external payable returns (address);
}

const PRICE: u64 = 10_000;
const CHAIN: u64 = 84532;

struct Stage {
    chain: DevChain,
    serving: Serving,
}

/// A facilitator on a chain of its own, account 0 its signer.
async fn stage(factories: Vec<Address>) -> Stage {
    stage_with(factories, Fees::default()).await
}

async fn stage_with(factories: Vec<Address>, fees: Fees) -> Stage {
    tls();
    let chain = DevChain::new().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
    let evm = Evm {
        polling: Polling { busy: Duration::from_millis(20), rest: Duration::from_millis(20) },
        factories,
        fees,
        ..Evm::new(chain.client(), ChainId::eip155(CHAIN), 0, x402_devchain::key(0).into_iter().collect())
    };
    let builder = Builder::new(owner(), ledger)
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(60))));
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let serving = Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap();
    Stage { chain, serving }
}

impl Stage {
    async fn ask(&self, path: &str, payer: impl SignAs + 'static) -> Value {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let mut entropy = [3; 32];
        entropy[..8].copy_from_slice(&NONCE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let now = UnixSeconds(self.chain.time());
        let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
        let terms = terms();
        let made = Payer::new(payer).make_payment(&terms, &context).await.unwrap();
        let url = format!("http://{}/{path}", self.serving.address());
        send(&url, body(&terms, &made.payload).to_string(), None).await.1
    }

    /// Verified and settled, and the chain says the same.
    async fn pays(&self, payer: impl SignAs + Clone + 'static) {
        let (from, before) = (payer.account(), self.paid());
        let verdict = self.ask("verify", payer.clone()).await;
        assert_eq!((&verdict["isValid"], &verdict["payer"]), (&json!(true), &json!(from.to_string())), "{verdict}");
        let settled = self.ask("settle", payer).await;
        assert_eq!((&settled["success"], &settled["payer"]), (&json!(true), &json!(from.to_string())), "{settled}");
        assert_eq!(self.paid() - before, U256::from(PRICE));
        let transfers = self.chain.transfers();
        let last = transfers.last().unwrap();
        assert_eq!((last.from, last.to), (from, ACCOUNTS[SELLER].address));
        assert_eq!(settled["transaction"], json!(last.transaction));
    }

    /// Refused by both routes, and nothing is sent.
    async fn refuses(&self, payer: impl SignAs + Clone + 'static, code: &str) {
        let sent = self.chain.nonce_of(ACCOUNTS[0].address);
        let verdict = self.ask("verify", payer.clone()).await;
        assert_eq!((&verdict["isValid"], &verdict["invalidReason"]), (&json!(false), &json!(code)), "{verdict}");
        let settled = self.ask("settle", payer).await;
        assert_eq!((&settled["success"], &settled["errorReason"]), (&json!(false), &json!(code)), "{settled}");
        assert_eq!(self.chain.nonce_of(ACCOUNTS[0].address), sent);
    }

    fn paid(&self) -> U256 {
        self.chain.balance_of(ACCOUNTS[SELLER].address) - U256::from(TOKENS_EACH)
    }

    /// A Kernel of account 1, not deployed, with tokens at its address.
    fn kernel(&self) -> Kernel {
        let owner = ACCOUNTS[1].address;
        let account =
            KernelAccount { version: KernelVersion::V031, meta_factory: false, owner, salt: B256::with_last_byte(1) };
        assert_eq!(account.factory(), KERNEL_FACTORY);
        self.chain.set_balance_of(account.address(), U256::from(TOKENS_EACH));
        Kernel { account, address: account.address(), signer: 1, factory: None }
    }

    async fn deploy(&self, kernel: &Kernel) {
        let call = TransactionRequest::default().to(KERNEL_FACTORY).input(kernel.account.factory_data().into());
        let wallet = self.chain.wallet(signer(7).unwrap());
        assert!(wallet.send_transaction(call).await.unwrap().get_receipt().await.unwrap().status());
        assert!(!self.chain.provider().get_code_at(kernel.address).await.unwrap().is_empty());
    }

    /// Account 6 delegates by EIP-7702, in a transaction of account 7 that calls it with these data.
    async fn delegate(&self, to: Address, nonce: u64, data: Bytes) {
        let account = ACCOUNTS[6].address;
        let authorization = Authorization { chain_id: U256::from(CHAIN), address: to, nonce };
        let signed = signer(6).unwrap().sign_hash_sync(&authorization.signature_hash()).unwrap();
        let authorizations = vec![authorization.into_signed(signed)];
        let delegate =
            TransactionRequest::default().to(account).input(data.into()).with_authorization_list(authorizations);
        let receipt = self.chain.wallet(signer(7).unwrap()).send_transaction(delegate).await.unwrap();
        assert!(receipt.get_receipt().await.unwrap().status());
        let code = self.chain.provider().get_code_at(account).await.unwrap();
        assert_eq!(code, [&[0xef, 1, 0][..], to.as_slice()].concat());
    }

    async fn stop(self) {
        self.serving.stop().await;
    }
}

/// A Kernel 0.3.1 whose root validator asks for a key's signature.
#[derive(Clone)]
struct Kernel {
    account: KernelAccount,
    address: Address,
    signer: usize,
    /// Named where the account is not deployed.
    factory: Option<Address>,
}

#[async_trait]
impl SignAs for Kernel {
    fn account(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        let wrapped = wrapped_digest(digest, self.address, KernelVersion::V031, CHAIN);
        let signature = signer(self.signer).unwrap().sign_hash_sync(&wrapped).unwrap().as_bytes().into();
        let signature = KernelSignature::Root(signature).encode();
        let factory_data = self.account.factory_data();
        Ok(match self.factory {
            None => signature,
            Some(factory) => Counterfactual { factory, factory_data, signature }.encode(),
        })
    }
}

/// Whatever bytes, for an account.
#[derive(Clone)]
struct Raw(Address, usize);

#[async_trait]
impl SignAs for Raw {
    fn account(&self) -> Address {
        self.0
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        Ok(signer(self.1).unwrap().sign_hash_sync(&digest).unwrap().as_bytes().into())
    }
}

#[tokio::test]
async fn a_deployed_kernel_pays() {
    let stage = stage(Vec::new()).await;
    let kernel = stage.kernel();
    stage.deploy(&kernel).await;
    stage.pays(kernel.clone()).await;
    // Wrapped all the same: there is code, so no factory is asked for and none needs to be listed.
    stage.pays(Kernel { factory: Some(KERNEL_FACTORY), ..kernel.clone() }).await;
    let bad = "invalid_exact_evm_payload_signature";
    // Another key under the same form; the owner's own signature without Kernel's form, which it reverts on.
    stage.refuses(Kernel { signer: 2, ..kernel.clone() }, bad).await;
    stage.refuses(Raw(kernel.address, 1), bad).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_kernel_that_is_not_deployed_pays() {
    let stage = stage(vec![KERNEL_FACTORY]).await;
    let kernel = Kernel { factory: Some(KERNEL_FACTORY), ..stage.kernel() };
    stage.refuses(Kernel { signer: 2, ..kernel.clone() }, "invalid_exact_evm_payload_signature").await;
    // A factory that is not listed; a listed one that makes another account; nothing said of a factory.
    stage.refuses(Kernel { factory: Some(SAFE_PROXY_FACTORY), ..kernel.clone() }, "eip6492_factory_not_allowed").await;
    let other = KernelAccount { salt: B256::with_last_byte(2), ..kernel.account };
    stage.refuses(Kernel { account: other, ..kernel.clone() }, "smart_wallet_deployment_failed").await;
    stage
        .refuses(Kernel { factory: None, ..kernel.clone() }, "invalid_exact_evm_payload_undeployed_smart_wallet")
        .await;

    stage.pays(kernel.clone()).await;
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 2, "deployed, then paid");
    // And once more, deployed by now.
    stage.pays(kernel).await;
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 3);
    stage.stop().await;
}

#[tokio::test]
async fn no_factory_is_called_that_is_not_configured() {
    let stage = stage(Vec::new()).await;
    let kernel = Kernel { factory: Some(KERNEL_FACTORY), ..stage.kernel() };
    stage.refuses(kernel, "eip6492_factory_not_allowed").await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_payments_at_once_deploy_once() {
    let stage = stage(vec![KERNEL_FACTORY]).await;
    let kernel = Kernel { factory: Some(KERNEL_FACTORY), ..stage.kernel() };
    let (first, second) = tokio::join!(stage.ask("settle", kernel.clone()), stage.ask("settle", kernel.clone()));
    assert_eq!((&first["success"], &second["success"]), (&json!(true), &json!(true)), "{first} {second}");
    assert_ne!(first["transaction"], second["transaction"]);
    assert_eq!(stage.paid(), U256::from(2 * PRICE));
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 3, "one deployment and two transfers");
    stage.stop().await;
}

/// A transaction above `network.max_gas` is never signed, so that its payment is refused before anything is claimed.
#[tokio::test]
async fn a_payment_that_needs_more_gas_than_is_ever_spent_is_refused() {
    // As much as a key's transfer takes, and no more.
    let stage = stage_with(vec![KERNEL_FACTORY], Fees::default().with_gas_cap(TRANSFER_GAS)).await;
    let kernel = stage.kernel();
    stage.refuses(Kernel { factory: Some(KERNEL_FACTORY), ..kernel.clone() }, "gas_above_limit").await;
    stage.deploy(&kernel).await;
    let verdict = stage.ask("verify", kernel.clone()).await;
    let (why, payer) = (verdict["invalidMessage"].as_str().unwrap(), &verdict["payer"]);
    assert!(why.starts_with("eip155:84532: a transaction needs ") && why.ends_with(" gas of 150000"), "{verdict}");
    assert_eq!(payer, &json!(kernel.address.to_string()));
    stage.refuses(kernel, "gas_above_limit").await;
    stage.pays(signer(2).unwrap()).await;
    stage.stop().await;

    // The deployment takes more than the transfer after it.
    let stage = stage_with(vec![KERNEL_FACTORY], Fees::default().with_gas_cap(2_149_999)).await;
    let kernel = stage.kernel();
    stage.refuses(Kernel { factory: Some(KERNEL_FACTORY), ..kernel.clone() }, "gas_above_limit").await;
    stage.deploy(&kernel).await;
    stage.pays(kernel).await;
    stage.stop().await;
}

/// [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702): account 6 delegates to Simple7702Account, by a transaction of
/// account 7.
#[tokio::test]
async fn a_delegated_key_pays() {
    let stage = stage(Vec::new()).await;
    let account = ACCOUNTS[6].address;
    stage.pays(signer(6).unwrap()).await;

    stage.delegate(SIMPLE_7702_ACCOUNT, 0, Bytes::new()).await;

    // Simple7702Account takes the account's own key, now because its code says so.
    stage.pays(signer(6).unwrap()).await;
    stage.refuses(Raw(account, 2), "invalid_exact_evm_payload_signature").await;
    // Delegated to code that takes nothing, the key still recovers to the account, and is refused.
    stage.chain.set_code(account, [&[0xef, 1, 0][..], KERNEL_FACTORY.as_slice()].concat().into()).unwrap();
    stage.refuses(signer(6).unwrap(), "invalid_exact_evm_payload_signature").await;
    stage.stop().await;
}

/// Account 6 delegates to Kernel 0.3.1 and makes account 5 its owner in the same transaction: from then on the owner signs
/// in Kernel's form, and the account's own key alone does not pay.
#[tokio::test]
async fn a_key_that_delegates_to_kernel_pays() {
    const BAD: &str = "invalid_exact_evm_payload_signature";
    let stage = stage(Vec::new()).await;
    let (owner, address) = (ACCOUNTS[5].address, ACCOUNTS[6].address);
    let account = KernelAccount { version: KernelVersion::V031, meta_factory: false, owner, salt: B256::ZERO };
    let initialize = createAccountCall::abi_decode(&account.factory_data()).unwrap().data;
    let kernel = Kernel { account, address, signer: 5, factory: None };
    stage.refuses(kernel.clone(), "invalid_exact_evm_payload_undeployed_smart_wallet").await;
    stage.delegate(KERNEL, 0, initialize).await;
    stage.pays(kernel.clone()).await;
    stage.refuses(Kernel { signer: 2, ..kernel.clone() }, BAD).await;
    // The account's own key, in Kernel's form and bare, though it recovers to the account.
    stage.refuses(Kernel { signer: 6, ..kernel.clone() }, BAD).await;
    stage.refuses(Raw(address, 6), BAD).await;
    // The owner's signature without Kernel's form.
    stage.refuses(Raw(address, 5), BAD).await;
    stage.pays(kernel).await;
    stage.stop().await;
}

/// Keeps the receipts that prove a payment.
#[derive(Default)]
struct Shelf(Mutex<Vec<KeptReceipt>>);

#[async_trait]
impl KeepReceipt for Shelf {
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault> {
        self.0.lock().unwrap().push(receipt.clone());
        Ok(())
    }
}

/// An account in the place of a key: it buys once with every extension, and then signs in.
async fn buys_with_every_extension(chain: &DevChain, payer: impl SignAs + Clone + 'static) {
    let account = payer.account();
    let codes = FacilitatorCodes::new().with_wallet("fac_w".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path().join("catalog.sqlite")).unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::new(database));
    let index = Arc::new(CatalogIndex::new(catalog.clone()));
    let evm = Evm {
        polling: Polling { busy: Duration::from_millis(20), rest: Duration::from_millis(20) },
        factories: vec![KERNEL_FACTORY],
        ..Evm::new(chain.client(), ChainId::eip155(CHAIN), 0, x402_devchain::key(0).into_iter().collect())
    };
    let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(now)) as Arc<dyn Ledger>)
        .with_call_suffix(move |claim| codes.suffix(claim))
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| {
            engine.with_patience(Patience::waiting(Duration::from_secs(3_600))).with_extension(index)
        });
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let serving = Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let remote = RemoteFacilitator::new(&format!("http://{}", serving.address())).unwrap();
    let reader = RpcChain::new(chain.client(), ChainId::eip155(CHAIN), 0).with_freshness(Duration::ZERO);
    let accounts = OnChains::new(Signers::any().with_factory(KERNEL_FACTORY)).with_chain(Arc::new(reader));
    let gate = SignInGate::new(&origin, &[5; 32], Arc::new(MemoryStore::default())).unwrap();
    let issuer: Key = ACCOUNTS[4].key.to_string().parse().unwrap();
    let schema = json!({"properties": {"city": {"type": "string"}}});
    let seller = Seller::new(&origin, Arc::new(remote))
        .unwrap()
        .with_extension(PaymentIdentifier::required())
        .with_extension(OfferIssuer::new(IssuerKey::eip712(issuer)).with_transaction())
        .with_extension(gate.with_accounts(Arc::new(accounts)))
        .with_extension(DiscoverableRoute::query("GET", &json!({"city": "Paris"}), &schema))
        .with_extension(SellerCodes::new("our_app".parse().unwrap()));
    let offer =
        Exact::default().requirements(ChainId::eip155(CHAIN), ACCOUNTS[SELLER].address, "$0.01".parse().unwrap());
    let paid = seller.charge([offer.unwrap()]).unwrap();
    let app = axum::Router::new().route("/report", axum::routing::get(async || "the report").layer(paid));
    tokio::spawn(axum::serve(listener, app).into_future());

    let shelf = Arc::new(Shelf::default());
    let buyer = x402_http::client::Payer::new(Payer::new(payer.clone()))
        .with_extension(PaymentIdentifier::optional())
        .with_extension(PayerCodes::new(["our_client".parse().unwrap()]).unwrap())
        .with_extension(ReceiptBook::new(shelf.clone()))
        .with_extension(SignInWallet::evm(payer));
    let client = PayClient::new(buyer).unwrap();
    let url = format!("{origin}/report");
    let before = chain.transfers().len();
    let first = client.get(&url).await.unwrap();
    assert_eq!(first.status().as_u16(), 200, "{}", first.text().await.unwrap());
    let receipt = first.extensions().get::<Receipt>().unwrap().0.clone();
    assert_eq!(receipt.payer.as_deref(), Some(&*account.to_string()));
    let kept = shelf.0.lock().unwrap().pop().unwrap();
    let proof = kept.prove(&KnownKeys::new()).unwrap();
    assert_eq!(&*proof.receipt.payload.payer, account.to_string());
    assert_eq!(proof.receipt.payload.transaction.as_deref(), Some(&*receipt.transaction));
    let found: Value = chain.client().request("eth_getTransactionByHash", [&receipt.transaction]).await.unwrap();
    let calldata = alloy_primitives::hex::decode(found["input"].as_str().unwrap()).unwrap();
    let codes = BuilderCodes::of_calldata(&calldata).unwrap();
    let services: Vec<_> = codes.services.iter().map(ToString::to_string).collect();
    assert_eq!((codes.app.unwrap().to_string(), services), ("our_app".into(), vec!["our_client".to_owned()]));

    let again = client.get(&url).await.unwrap();
    assert_eq!(again.status().as_u16(), 200);
    assert_eq!(again.extensions().get::<AdmittedBy>().map(|by| &*by.0), Some("sign-in-with-x"));
    assert_eq!(chain.transfers().len() - before, 1, "paid once");
    serving.stop().await;
    let (listed, _) = catalog.list(&CatalogFilter::default(), Page::new(0, 5)).await.unwrap();
    assert_eq!(listed.iter().map(|listed| &*listed.listing.resource).collect::<Vec<_>>(), [url]);
}

/// A contract that its payment deploys (EIP-6492), the same deployed (EIP-1271), and a key that delegates (EIP-7702).
#[tokio::test(flavor = "multi_thread")]
async fn smart_accounts_use_every_extension() {
    let stage = stage(Vec::new()).await;
    let kernel = Kernel { factory: Some(KERNEL_FACTORY), ..stage.kernel() };
    let account = ACCOUNTS[6].address;
    stage.chain.set_code(account, [&[0xef, 1, 0][..], SIMPLE_7702_ACCOUNT.as_slice()].concat().into()).unwrap();
    let chain = stage.chain.clone();
    stage.stop().await;
    buys_with_every_extension(&chain, kernel.clone()).await;
    assert!(!chain.provider().get_code_at(kernel.address).await.unwrap().is_empty());
    buys_with_every_extension(&chain, Kernel { factory: None, ..kernel }).await;
    buys_with_every_extension(&chain, Raw(account, 6)).await;
}

/// `isValidSignature` that says yes where the gas price is zero, as in a simulation, and reverts in a transaction: three
/// transactions for its payment, then it is refused, and others are served as before.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_reverts_outside_simulations_is_refused_after_three_transactions() {
    let stage = stage(Vec::new()).await;
    let account = Address::repeat_byte(0x66);
    let code = alloy_primitives::hex!("3a601257631626ba7e60e01b5f5260205ff35b5f5ffd");
    stage.chain.set_code(account, code.to_vec().into()).unwrap();
    stage.chain.set_balance_of(account, U256::from(TOKENS_EACH));
    let payer = Raw(account, 1);
    let sent = || stage.chain.nonce_of(ACCOUNTS[0].address);
    let refused = async {
        loop {
            let verdict = stage.ask("verify", payer.clone()).await;
            if verdict["invalidReason"] == json!("payer_reverts") {
                return verdict;
            }
            assert_eq!(verdict["isValid"], json!(true), "{verdict}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // The settlement has no end before the authorization has: what is waited for is the refusal.
    let verdict = tokio::select! {
        settled = stage.ask("settle", payer.clone()) => panic!("{settled}"),
        verdict = refused => verdict,
    };
    assert_eq!(verdict["payer"], json!(account.to_string()));
    assert_eq!(sent(), 3);
    stage.pays(signer(2).unwrap()).await;
    assert_eq!(sent(), 4);
    assert_eq!(stage.paid(), U256::from(PRICE));
    drop(stage);
}
