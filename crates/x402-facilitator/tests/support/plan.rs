//! A plan that is configured, payments for it, and what the chain says of them.

use std::fmt::Write as _;
use std::path::Path;

use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::Filter;
use alloy_sol_types::SolEvent;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, PLANS, Plans as Contract, TOKEN, signer};
use x402_erc4337::nvm::{Payer, Plans};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_facilitator::dev::served;
use x402_types::nvm::{self, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, MakePayment, SigningContext, UnixSeconds};

use super::process::SESSION;

/// The plan that is configured.
pub(crate) const PLAN: u64 = 42;
/// What an order costs.
pub(crate) const PRICE: u64 = 1_000_000;
/// What an order brings and a request costs, so that every request orders.
pub(crate) const CREDITS: u64 = 10;
pub(crate) const OWNER: usize = 1;
pub(crate) const SELLER: usize = 2;
pub(crate) const URL: &str = "https://agent.example/tasks";

pub(crate) fn entry(network: ChainId) -> Requirements {
    let session = ACCOUNTS[SESSION].address.to_string();
    Requirements::new(network, U256::from(PLAN).into()).with_session_signer(&session).with_verb("POST")
}

/// The body of `/settle`, for a fresh payment of the account.
pub(crate) async fn body(payer: &impl MakePayment, chain: &DevChain, nonce: u8) -> Value {
    let network = ChainId::eip155(chain.chain_id());
    let terms = entry(network).to_terms(AtomicAmount::ZERO).unwrap();
    let context = SigningContext { now: UnixSeconds(chain.time()), entropy: [nonce; 32], url: URL, method: "POST" };
    let made = payer.make_payment(&terms, &context).await.unwrap();
    let payment = nvm::v03::PaymentPayload::new(Some(ResourceInfo::of(URL)), entry(network), made.payload);
    json!({
        "paymentRequired": {
            "x402Version": 2, "error": "Payment required", "resource": { "url": URL },
            "accepts": [entry(network)], "extensions": {},
        },
        "paymentPayload": payment,
        "maxAmount": CREDITS.to_string(),
    })
}

pub(crate) async fn settle(url: &str, body: &Value, id: &str) -> reqwest::Result<(u16, Value)> {
    let request = reqwest::Client::new().post(format!("{url}/settle")).json(body).header("idempotency-key", id);
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await.unwrap_or_default()))
}

/// Orders that were paid.
pub(crate) fn orders(chain: &DevChain) -> usize {
    chain.transfers().iter().filter(|transfer| transfer.to == ACCOUNTS[SELLER].address).count()
}

/// What was redeemed, by the transactions.
pub(crate) async fn redemptions(chain: &DevChain) -> Vec<(String, U256)> {
    let filter = Filter::new().address(PLANS).event_signature(Contract::TransferSingle::SIGNATURE_HASH).from_block(0);
    let logs = chain.provider().get_logs(&filter).await.unwrap();
    let burns = logs.iter().filter_map(|log| {
        let event = Contract::TransferSingle::decode_log(&log.inner).unwrap();
        (event.to == Address::ZERO).then(|| (log.transaction_hash.unwrap().to_string(), event.value))
    });
    burns.collect()
}

/// The plan, as the facilitator's configuration has it.
pub(crate) fn with_plan(config: &Path) {
    let mut text = std::fs::read_to_string(config).unwrap();
    write!(
        text,
        r#"
            [network.nvm]
            session_signer = {{ env = "TEST_SESSION" }}
            undeployed = true
            [[network.nvm.plan]]
            id = "{PLAN}"
            template = "{PLANS}"
            credits = "{PLANS}"
            token = "{TOKEN}"
            spender = "{PLANS}"
            price = "{PRICE}"
            credits_per_order = "{CREDITS}"
            maximum = "{CREDITS}"
        "#
    )
    .unwrap();
    std::fs::write(config, text).unwrap();
}

/// Registers the plan, and returns who pays for it, with money for so many orders, and his account.
pub(crate) fn subscriber(chain: &DevChain, times: u64) -> (impl MakePayment, Address) {
    let plan = DevPlan::credits(ACCOUNTS[SELLER].address, PRICE, CREDITS);
    chain.register_plan(U256::from(PLAN), plan).unwrap();
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
    chain.set_balance_of(account.address(), U256::from(times * PRICE));
    let plans = Plans::new([served(U256::from(PLAN), plan)]).unwrap();
    let payer = Payer::new(signer(OWNER).unwrap(), account, plans, vec![ACCOUNTS[SESSION].address]);
    (payer, account.address())
}
