//! Gets a URL and pays for it if it must: `X402_PRIVATE_KEY=0x… buyer URL`. At most ten cents.

use std::env;
use std::error::Error;

use x402::client::{PayClient, Payer, Receipt, SpendLimits};
use x402::evm::exact;
use x402::evm::key::Key;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("usage: buyer URL")?;

    let key: Key = env::var("X402_PRIVATE_KEY")?.parse()?;
    let limits = SpendLimits::default().with_cap("0.10".parse()?);
    let payer = Payer::new(exact::Payer::new(key)).with_spending(limits);
    let client = PayClient::new(payer)?;

    let response = client.get(&url).await?;
    if let Some(receipt) = response.extensions().get::<Receipt>() {
        // "paid: transaction 0x… on eip155:8453", or the reason why it was not paid.
        eprintln!("{receipt}");
    }
    println!("{}", response.error_for_status()?.text().await?);
    Ok(())
}
