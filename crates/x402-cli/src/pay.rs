//! `x402 pay`: makes one request, and pays for it if the server requires payment.

mod allowance;
pub(crate) mod journal;
mod request;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use x402_challenge::{ExactProof, MakeProof};
use x402_codec::{Limits, header};
use x402_evm::exact;
use x402_extensions::offer_receipt::ReceiptBook;
use x402_http::client::{
    ChallengeReceipt, ClientError, Dollars, OpenPayment, PayClient, PayError, Payer, PaymentSent, Receipt,
    ReceiptOutcome, ReceiptRefusals, SpendLimits,
};
use x402_types::extension::PaymentIdentifier;
use x402_types::{ErrorReason, PaymentRequired, challenge};

use crate::keys::KeySource;
use journal::Journal;

/// Makes a request and pays for it. The key is read from the environment variable `X402_PRIVATE_KEY` or from a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The URL to request.
    url: String,
    /// The most to pay, in US dollars.
    #[arg(long, default_value = "1")]
    max: Dollars,
    /// The longest validity of an authorization, in seconds.
    #[arg(long, default_value_t = 3_600)]
    max_seconds: u64,
    #[command(flatten)]
    request: request::Request,
    #[command(flatten)]
    allowance: allowance::Allowance,
    #[command(flatten)]
    key: KeySource,
    /// The file that stores payments whose result is unknown, so that the same command presents the same payment again:
    /// by default `x402/payments.sqlite` in `$XDG_STATE_HOME`. It contains signed payments.
    #[arg(long, value_name = "PATH", conflicts_with = "no_journal")]
    journal: Option<PathBuf>,
    /// Stores nothing: the same command, run again, makes a new payment.
    #[arg(long)]
    no_journal: bool,
    /// Makes a new payment if an earlier payment of this request expired and it is unknown whether it was settled.
    #[arg(long)]
    pay_anew: bool,
    /// Prints one JSON object: status, body, payment, error.
    #[arg(long)]
    json: bool,
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

fn journal(path: Option<PathBuf>, none: bool, anew: bool) -> Result<Journal, String> {
    if none {
        return Journal::in_memory();
    }
    let path = path.or_else(journal::default_path);
    let path = path.ok_or("neither XDG_STATE_HOME nor HOME is set; give --journal or --no-journal")?;
    Journal::open(&path, anew)
}

async fn pay(args: Args) -> Result<ExitCode, (ExitCode, String)> {
    let usage = |message: String| (ExitCode::from(2), message);
    let key = args.key.read().map_err(usage)?;
    let parts = args.request.parts().map_err(usage)?;
    let journal = Arc::new(journal(args.journal, args.no_journal, args.pay_anew).map_err(usage)?);
    let limits = SpendLimits::default().with_cap(args.max).with_longest_authorization(args.max_seconds);
    let proof = Arc::new(ExactProof::new(exact::Payer::new(key.clone()))) as Arc<dyn MakeProof>;
    let payer = Payer::new(exact::Payer::new(key.clone())).with_proofs([proof]);
    let payer = args.allowance.add_to(payer, key).await.map_err(usage)?;
    let payer = payer.with_spending(limits).with_extension(PaymentIdentifier::optional());
    let payer = payer.with_extension(ReceiptBook::new(journal.clone()));
    let client = PayClient::new(payer.with_journal(journal.clone())).map_err(|error| usage(error.to_string()))?;
    let mut request = client.http().request(parts.method, &args.url).headers(parts.headers);
    if let Some(body) = parts.body {
        request = request.body(body);
    }
    let request = request.build().map_err(|error| usage(error.to_string()))?;
    let response = client.execute(request).await.map_err(|error| match error {
        ClientError::Transport(error) => usage(error.to_string()),
        ClientError::Unknown(_) => {
            let again = if args.no_journal { "" } else { "; the same command shows the same payment again" };
            let signed = journal.last().map(|open| format!("\n{}{again}", signed(&open))).unwrap_or_default();
            (ExitCode::FAILURE, format!("{error}{signed}"))
        }
        ClientError::Pay(PayError::EarlierUnknown(ref open)) => {
            let message = format!("{error}\n{}; --pay-anew pays once more", signed(open));
            (ExitCode::FAILURE, message)
        }
        other => (ExitCode::FAILURE, other.to_string()),
    })?;
    let status = response.status();
    let receipt = Proof::of(response.extensions());
    let sent = response.extensions().get::<PaymentSent>().copied();
    let refusals = response.extensions().get::<ReceiptRefusals>().cloned();
    let in_header = header::payment_required_header(response.headers(), &Limits::DEFAULT).ok().flatten();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => {
            return Err((ExitCode::FAILURE, broken_off(&error, receipt.as_ref(), &journal, args.no_journal).await));
        }
    };
    let refused = sent.and_then(|_| refusal(status, in_header, &body));
    let out = |text: &[u8]| std::io::stdout().write_all(text).map_err(|error| usage(error.to_string()));
    if args.json {
        let text = String::from_utf8_lossy(&body);
        let body = serde_json::from_str::<Value>(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
        let payment = receipt.as_ref().map(Proof::json);
        let answer = json!({ "status": status.as_u16(), "body": body, "payment": payment, "error": refused });
        out(format!("{answer}\n").as_bytes())?;
    } else {
        out(&body)?;
    }
    if let Some(sent) = sent {
        tell(status, sent, receipt.as_ref(), refused.as_deref(), args.json);
    }
    for (extension, why) in refusals.iter().flat_map(|ReceiptRefusals(list)| list) {
        eprintln!("{extension}: the receipt is not kept: {why}");
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Describes an answer whose body broke off. If it was paid, the journal keeps the payment.
async fn broken_off(error: &reqwest::Error, receipt: Option<&Proof>, journal: &Journal, no_journal: bool) -> String {
    let broken = format!("the answer broke off: {error}");
    let Some(proof) = receipt else { return broken };
    let kept = match proof {
        Proof::Offer(receipt) if matches!(receipt.outcome(), ReceiptOutcome::Paid { .. }) && !no_journal => {
            journal.take_back(receipt).await.is_ok()
        }
        _ => false,
    };
    let again = if kept { "; the same command shows the same payment again" } else { "" };
    format!("{proof}\n{broken}{again}")
}

/// The server's receipt, in the dialect of the payment.
pub(crate) enum Proof {
    Offer(Receipt),
    Challenge(ChallengeReceipt),
}

impl Proof {
    pub(crate) fn of(extensions: &http::Extensions) -> Option<Self> {
        let challenge = || extensions.get().cloned().map(Self::Challenge);
        extensions.get().cloned().map(Self::Offer).or_else(challenge)
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Offer(Receipt(settlement)) => json!(settlement),
            Self::Challenge(ChallengeReceipt(response)) => json!(response),
        }
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offer(receipt) => receipt.fmt(f),
            Self::Challenge(receipt) => receipt.fmt(f),
        }
    }
}

/// Reports the result of a payment on standard error.
fn tell(status: StatusCode, sent: PaymentSent, receipt: Option<&Proof>, refused: Option<&str>, json: bool) {
    if sent.header_may_be_too_long {
        eprintln!(
            "the payment header has {} bytes; {status} may be a proxy's answer to a header of that length",
            sent.header_bytes
        );
    }
    if json {
        return;
    }
    match (receipt, refused) {
        // A server takes a challenge once: it refuses a payment that it was shown before.
        (Some(receipt @ Proof::Challenge(_)), _) if matches!(status.as_u16(), 402 | 409) => {
            eprintln!("paid without an answer ({receipt})")
        }
        (Some(receipt), _) => eprintln!("{receipt}"),
        (None, Some(reason)) if ErrorReason::PERMIT2_ALLOWANCE_REQUIRED.as_str() == reason => {
            eprintln!("refused: {reason}; --approve with --rpc sends the transaction that gives Permit2 the allowance")
        }
        (None, Some(reason)) => eprintln!("refused: {reason}"),
        (None, None) if status.is_success() => {
            eprintln!("a payment was sent; the answer has no receipt that can be read")
        }
        (None, None) => eprintln!("a payment was sent; the answer does not say what became of it"),
    }
}

/// Returns the reason of a refusal: that of a challenge's payment, from the body; otherwise the `error` of the second
/// 402, from its header or its body.
pub(crate) fn refusal(status: StatusCode, in_header: Option<PaymentRequired>, body: &[u8]) -> Option<String> {
    let challenge: Option<challenge::RefusalBody> = serde_json::from_slice(body).ok();
    if let Some(refusal) = challenge.filter(|refusal| refusal.error.status() == status.as_u16()) {
        return Some(format!("{}: {}", refusal.error.as_str(), refusal.message));
    }
    if !matches!(status, StatusCode::PAYMENT_REQUIRED | StatusCode::PRECONDITION_FAILED) {
        return None;
    }
    let required = in_header.or_else(|| x402_codec::body::payment_required(body, &Limits::DEFAULT).ok())?;
    match required {
        PaymentRequired::V1(document) => Some(document.error).filter(|error| !error.is_empty()),
        PaymentRequired::V2(document) => document.error,
    }
}

/// Describes the signed payment, without the signature.
pub(crate) fn signed(open: &OpenPayment) -> String {
    let payment: Option<Value> = header::decode(open.value.as_bytes(), &Limits::DEFAULT).ok();
    let payment = payment.unwrap_or_default();
    let places =
        ["/payload/authorization/nonce", "/payload/permit2Authorization/nonce", "/proof/payload/authorization/nonce"];
    let nonce = places.into_iter().find_map(|place| payment.pointer(place)?.as_str());
    let nonce = nonce.map(|nonce| format!("nonce {nonce}, ")).unwrap_or_default();
    let challenge = open.challenge.as_ref().map(|challenge| format!("challenge {}, ", challenge.id.as_str()));
    format!("signed: {}{nonce}valid until {}", challenge.unwrap_or_default(), open.valid_until)
}
