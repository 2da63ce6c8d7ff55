//! `x402 decode` and `x402 encode`: header values to JSON and back.

use std::io::{Read, Write};
use std::process::ExitCode;

use alloy_primitives::hex;
use serde::Serialize;
use serde_json::{Value, json};
use x402_codec::{DecodeError, Limits, base64, json};
use x402_evm::batching::calls_of_batch;
use x402_extensions::builder_code::{BuilderCode, BuilderCodes};
use x402_types::v2::SettleResponse;
use x402_types::{PaymentPayload, PaymentRequired};

/// The message that a header contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Header {
    /// The terms of payment, version 2.
    #[value(name = "PAYMENT-REQUIRED")]
    PaymentRequired,
    /// A payment of version 2.
    #[value(name = "PAYMENT-SIGNATURE")]
    PaymentSignature,
    /// A receipt of version 2.
    #[value(name = "PAYMENT-RESPONSE")]
    PaymentResponse,
    /// A payment of version 1.
    #[value(name = "X-PAYMENT")]
    XPayment,
    /// A receipt of version 1.
    #[value(name = "X-PAYMENT-RESPONSE")]
    XPaymentResponse,
}

/// Decodes the value of a payment header.
#[derive(Debug, clap::Args)]
pub(crate) struct Decode {
    /// The header that had the value; without it, any JSON is accepted.
    #[arg(long, ignore_case = true)]
    header: Option<Header>,
    /// The value is the calldata of a transaction, in hex: shows the builder codes at their end, and of a batch those of
    /// each call.
    #[arg(long, conflicts_with = "header")]
    calldata: bool,
    /// The value; `-` or nothing reads it from standard input.
    value: Option<String>,
}

/// Encodes JSON as the value of a payment header.
#[derive(Debug, clap::Args)]
pub(crate) struct Encode {
    /// The header to encode for; without it, any JSON is accepted.
    #[arg(long, ignore_case = true)]
    header: Option<Header>,
    /// The JSON; `-` or nothing reads it from standard input.
    json: Option<String>,
}

/// The output of `decode` and `encode` for malformed input.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    code: &'a str,
    at: String,
    message: String,
}

fn input(argument: Option<String>) -> Result<Vec<u8>, ExitCode> {
    match argument {
        Some(text) if text != "-" => Ok(text.into_bytes()),
        _ => {
            // One byte beyond the maximum is read, so that longer input is recognised.
            let most = u64::try_from(Limits::DEFAULT.body).unwrap_or(u64::MAX).saturating_add(1);
            let mut text = Vec::new();
            match std::io::stdin().take(most).read_to_end(&mut text) {
                Ok(_) => Ok(text.trim_ascii().to_vec()),
                Err(error) => {
                    eprintln!("{error}");
                    Err(ExitCode::from(2))
                }
            }
        }
    }
}

fn finish(outcome: Result<String, DecodeError>) -> ExitCode {
    match outcome {
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(2),
        },
        Err(error) => {
            let refusal = Refusal { code: error.code(), at: error.at().to_string(), message: error.to_string() };
            eprintln!("{}", serde_json::to_string(&refusal).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

/// Checks that the text is the message that the header contains.
fn check(header: Option<Header>, text: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    match header {
        None => json::parse(text, limits).map(drop),
        Some(Header::PaymentRequired) => json::from_slice::<PaymentRequired>(text, limits).map(drop),
        Some(Header::PaymentSignature | Header::XPayment) => json::from_slice::<PaymentPayload>(text, limits).map(drop),
        Some(Header::PaymentResponse | Header::XPaymentResponse) => {
            json::from_slice::<SettleResponse>(text, limits).map(drop)
        }
    }
}

/// Decodes the text of a header value: base64, or the raw JSON that some servers put into `PAYMENT-REQUIRED`.
fn text(header: Option<Header>, value: &[u8], limits: &Limits) -> Result<String, DecodeError> {
    let raw = value.starts_with(b"{") && matches!(header, None | Some(Header::PaymentRequired));
    let bytes = if raw { value.to_vec() } else { base64::decode(value, limits.header)? };
    check(header, &bytes, limits)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Describes the builder codes at the end of calldata; of a batch, those of each call in it.
fn builder_codes(value: &[u8]) -> Result<String, &'static str> {
    let digits = value.strip_prefix(b"0x").unwrap_or(value);
    let calldata = hex::decode(digits).map_err(|_| "expected calldata: an even number of hex digits")?;
    if let Some(codes) = BuilderCodes::of_calldata(&calldata) {
        return Ok(described(&codes).to_string());
    }
    let calls = calls_of_batch(&calldata).unwrap_or_default();
    let read: Vec<_> = calls.iter().map(|(to, data)| (to, BuilderCodes::of_calldata(data))).collect();
    if read.iter().all(|(_, codes)| codes.is_none()) {
        return Err("the calldata have no builder codes of ERC-8021, schema 2");
    }
    let calls: Vec<_> =
        read.iter().map(|(to, codes)| json!({ "to": to, "codes": codes.as_ref().map(described) })).collect();
    Ok(json!({ "batch": calls }).to_string())
}

fn described(codes: &BuilderCodes) -> Value {
    let text = |code: &Option<BuilderCode>| code.as_ref().map(ToString::to_string);
    let services: Vec<_> = codes.services.iter().map(ToString::to_string).collect();
    json!({ "app": text(&codes.app), "wallet": text(&codes.wallet), "services": services })
}

pub(crate) fn decode(args: Decode) -> ExitCode {
    if args.calldata {
        return match input(args.value).map(|value| builder_codes(&value)) {
            Ok(Ok(text)) => finish(Ok(text)),
            Ok(Err(why)) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
            Err(code) => code,
        };
    }
    match input(args.value) {
        Ok(value) => finish(text(args.header, &value, &Limits::DEFAULT)),
        Err(code) => code,
    }
}

pub(crate) fn encode(args: Encode) -> ExitCode {
    let limits = Limits::DEFAULT;
    match input(args.json) {
        Ok(text) => finish(check(args.header, &text, &limits).map(|()| base64::encode(&text))),
        Err(code) => code,
    }
}
