//! Prints the steps: as one JSON object per line, or for people.

use std::io::Write;

use alloy_primitives::Address;
use serde::Serialize;
use serde_json::{Map, Value, json};
use x402_devchain::DevChain;

/// The output of the steps.
#[derive(Debug)]
pub(crate) struct Show {
    json: bool,
    step: u32,
}

impl Show {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, step: 0 }
    }

    /// Prints the token balances of accounts.
    pub(crate) fn balances(&mut self, when: &str, chain: &DevChain, accounts: &[(&str, Address)]) {
        let of = |(name, account): &(&str, Address)| {
            ((*name).to_owned(), Value::String(chain.balance_of(*account).to_string()))
        };
        let balances: Map<String, Value> = accounts.iter().map(of).collect();
        self.step(&json!({ "step": "balances", "when": when, "token": "USDC", "decimals": 6, "balances": balances }));
    }

    pub(crate) fn step(&mut self, step: &Value) {
        self.step = self.step.saturating_add(1);
        print(if self.json { step.to_string() } else { readable(self.step, step) });
    }

    /// Prints a step whose members keep their own order.
    pub(crate) fn last(&mut self, step: &impl Serialize) {
        match serde_json::to_string(step) {
            Ok(text) if self.json => print(text),
            Ok(text) => self.step(&serde_json::from_str(&text).unwrap_or_default()),
            Err(error) => print(error.to_string()),
        }
    }
}

fn print(text: String) {
    // If standard output is closed, there is no reader left; the payment continues nevertheless.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

fn readable(number: u32, step: &Value) -> String {
    let name = step.get("step").and_then(Value::as_str).unwrap_or_default();
    if name == "exchange" {
        return exchange(number, step);
    }
    let members = step.as_object().into_iter().flatten().filter(|(key, _)| *key != "step");
    let lines: Vec<String> = members.map(|(key, value)| format!("   {key:<12} {}", plain(value))).collect();
    format!("{number}. {name}\n{}\n", lines.join("\n"))
}

fn exchange(number: u32, step: &Value) -> String {
    let text = |pointer: &str| step.pointer(pointer).map(plain).unwrap_or_default();
    let (method, path, status) = (text("/request/method"), text("/request/path"), text("/response/status"));
    let mut out = format!("{number}. {method} {path} at the {} -> {status}\n", text("/to"));
    for (arrow, side) in [("->", "/request"), ("<-", "/response")] {
        let headers = step.pointer(&format!("{side}/headers")).and_then(Value::as_object);
        for (name, value) in headers.into_iter().flatten() {
            out.push_str(&format!("   {arrow} {name}\n{}\n", indented(value)));
        }
        let has_headers = headers.is_some_and(|headers| !headers.is_empty());
        // The 402 body repeats its header.
        if let Some(body) = step.pointer(&format!("{side}/body"))
            && !body.is_null()
            && !(has_headers && body.is_object())
        {
            out.push_str(&format!("   {arrow} body\n{}\n", indented(body)));
        }
    }
    out
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim_end().to_owned())
}

fn indented(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.trim_end().to_owned(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}
