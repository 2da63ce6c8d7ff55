//! Gets a URL, and pays or signs in where it must, with every extension of the buyer's side: `X402_PRIVATE_KEY=0x… extended_buyer
//! URL [TIMES]`. Prints a line of JSON for each time. At most ten cents each.

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use x402::client::{AdmittedBy, PayClient, Payer, Receipt, ReceiptRefusals, SpendLimits};
use x402::evm::exact;
use x402::evm::key::Key;
use x402::extensions::builder_code::PayerCodes;
use x402::extensions::offer_receipt::{KeepReceipt, KeptReceipt, KnownKeys, ReceiptBook};
use x402::extensions::sign_in::SignInWallet;
use x402::types::Fault;
use x402::types::extension::PaymentIdentifier;

/// Keeps no receipt, but counts those that prove a payment.
#[derive(Default)]
struct Proven(AtomicUsize);

#[async_trait]
impl KeepReceipt for Proven {
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault> {
        receipt.prove(&KnownKeys::new()).map_err(Fault::broken)?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("usage: extended_buyer URL [TIMES]")?;
    let times = env::args().nth(2).map_or(Ok(1), |times| times.parse::<u32>())?;
    let key: Key = env::var("X402_PRIVATE_KEY")?.parse()?;
    let proven = Arc::new(Proven::default());
    let payer = Payer::new(exact::Payer::new(key.clone()))
        .with_spending(SpendLimits::default().with_cap("0.10".parse()?))
        .with_extension(PaymentIdentifier::optional())
        .with_extension(PayerCodes::new(["our_client".parse()?])?)
        .with_extension(ReceiptBook::new(proven.clone()))
        .with_extension(SignInWallet::evm(key));
    let client = PayClient::new(payer)?;
    for _ in 0..times {
        let response = client.get(&url).await?;
        let of = response.extensions();
        let line = json!({
            "status": response.status().as_u16(),
            "payment": of.get::<Receipt>().map(|receipt| json!(receipt.0)),
            "admittedBy": of.get::<AdmittedBy>().map(|by| by.0.to_string()),
            "refusedReceipts": of.get::<ReceiptRefusals>().is_some(),
            "receipts": proven.0.load(Ordering::Relaxed),
        });
        let body: Value = response.json().await.unwrap_or_default();
        println!("{}", with(line, "body", body));
    }
    Ok(())
}

fn with(mut line: Value, name: &str, value: Value) -> Value {
    if let Some(members) = line.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    line
}
