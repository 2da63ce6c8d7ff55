//! `x402 pay`: one request, paid for if it must be.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use x402_evm::exact;
use x402_http::client::{ClientError, Dollars, PayClient, Payer, Receipt, SpendLimits};
use zeroize::Zeroizing;

/// Makes a request and pays for it. The key comes from the environment variable `X402_PRIVATE_KEY` or from a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask for.
    url: String,
    /// The most to pay, in US dollars.
    #[arg(long, default_value = "1")]
    max: Dollars,
    /// The request's method.
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// The request's body.
    #[arg(long, short)]
    data: Option<String>,
    /// A file with the private key.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Prints one JSON object: status, body, payment.
    #[arg(long)]
    json: bool,
}

/// The environment variable that holds the key.
const KEY: &str = "X402_PRIVATE_KEY";

fn signer(file: Option<PathBuf>) -> Result<PrivateKeySigner, String> {
    let text = match &file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => std::env::var(KEY).map_err(|_| format!("{KEY} is not set; set it or give --key-file"))?,
    };
    let text = Zeroizing::new(text);
    // What it says of a bad key is not repeated: it may quote it.
    text.trim().parse().map_err(|_| "the private key: expected `0x` and 64 hex digits".to_owned())
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match pay(args).await {
        Ok(code) => code,
        Err((code, message)) => {
            eprintln!("{message}");
            code
        }
    }
}

async fn pay(args: Args) -> Result<ExitCode, (ExitCode, String)> {
    let usage = |message: String| (ExitCode::from(2), message);
    let payer = exact::Payer::new(signer(args.key_file).map_err(usage)?);
    let payer = Payer::new([Arc::new(payer) as _]).spending(SpendLimits::default().per_payment(args.max));
    let client = PayClient::new(payer).map_err(|error| usage(error.to_string()))?;
    let method = args.method.parse().map_err(|_| usage("the method: expected a token such as GET".to_owned()))?;
    let mut request = client.http().request(method, &args.url);
    if let Some(body) = args.data {
        request = request.body(body);
    }
    let request = request.build().map_err(|error| usage(error.to_string()))?;
    let response = client.execute(request).await.map_err(|error| match error {
        ClientError::Transport(error) => usage(error.to_string()),
        other => (ExitCode::FAILURE, other.to_string()),
    })?;
    let status = response.status();
    let receipt = response.extensions().get::<Receipt>().map(|receipt| receipt.0.clone());
    let body = response.bytes().await.map_err(|error| usage(error.to_string()))?;
    let out = |text: &[u8]| std::io::stdout().write_all(text).map_err(|error| usage(error.to_string()));
    if args.json {
        let text = String::from_utf8_lossy(&body);
        let body = serde_json::from_str::<Value>(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
        let answer = json!({ "status": status.as_u16(), "body": body, "payment": receipt });
        out(format!("{answer}\n").as_bytes())?;
    } else {
        out(&body)?;
        if let Some(receipt) = receipt {
            eprintln!("paid: transaction {} on {}", receipt.transaction, receipt.network);
        }
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
