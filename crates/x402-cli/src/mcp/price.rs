//! The tool `price`: the terms of a server for a request.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use x402_codec::{Limits, body, header};
use x402_types::{Assets, AtomicAmount, ChainId, PaymentRequired, networks};

use super::books::amount_in_dollars;
use super::fetch::{Prepared, put_body, read};
use super::reach::Reach;

/// Makes a request without a payment.
pub(super) async fn price(reach: &Reach, prepared: &Prepared) -> Result<Value, String> {
    let response = reach.send(prepared.request()?).await.map_err(|error| error.to_string())?;
    let (parts, answered) = http::Response::<reqwest::Body>::from(response).into_parts();
    let answered = answered.map_err(|error| error.to_string()).boxed();
    let (bytes, whole): (Bytes, bool) = read(answered).await?;
    if parts.status != StatusCode::PAYMENT_REQUIRED {
        let mut answer = Map::new();
        answer.insert("status".to_owned(), parts.status.as_u16().into());
        answer.insert("asksForPayment".to_owned(), false.into());
        put_body(&mut answer, &parts.headers, &bytes, whole);
        return Ok(answer.into());
    }
    let required = match header::payment_required_header(&parts.headers, &Limits::DEFAULT) {
        Ok(Some(required)) => Ok(required),
        Ok(None) => body::payment_required(&bytes, &Limits::DEFAULT),
        Err(error) => Err(error),
    };
    let required = required.map_err(|error| format!("the terms of the 402 answer cannot be read: {error}"))?;
    Ok(json!({ "status": 402, "asksForPayment": true, "ways": ways(&required)?, "error": error(&required) }))
}

fn error(required: &PaymentRequired) -> Option<&str> {
    match required {
        PaymentRequired::V1(document) => Some(document.error.as_str()),
        PaymentRequired::V2(document) => document.error.as_deref(),
    }
}

/// Lists the ways to pay, with the sum in dollars where the asset is a known dollar token.
fn ways(required: &PaymentRequired) -> Result<Vec<Value>, String> {
    let document = match required {
        PaymentRequired::V1(document) => serde_json::to_value(document),
        PaymentRequired::V2(document) => serde_json::to_value(document),
    };
    let document = document.map_err(|error| format!("the terms of the 402 answer cannot be shown: {error}"))?;
    let entries = document.get("accepts").and_then(Value::as_array);
    Ok(entries.into_iter().flatten().map(way).collect())
}

fn way(entry: &Value) -> Value {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let amount = text("amount").or_else(|| text("maxAmountRequired"));
    json!({
        "scheme": text("scheme"), "network": text("network"), "asset": text("asset"), "payTo": text("payTo"),
        "amount": amount, "dollars": amount.and_then(|amount| dollars(text("network")?, text("asset")?, amount)),
    })
}

fn dollars(network: &str, asset: &str, amount: &str) -> Option<String> {
    let network: ChainId = network.parse().ok().or_else(|| networks::by_name(network))?;
    let asset = Assets::default().find(network, asset).filter(|asset| asset.dollar)?.decimals;
    amount_in_dollars(amount.parse::<AtomicAmount>().ok()?, asset)
}
