//! `accepts[].extra`: [`exact` on EVM networks](https://github.com/x402-foundation/x402/blob/main/specs/schemes/exact/scheme_exact_evm.md)
//! names the token's EIP-712 domain in it; smart-accounts v0.3 §3.3 has members of its own.

use x402_codec::json::Node;

use crate::entry::{Fields, Kind, Net, is_id};
use crate::lint::{Context, missing, spelt};
use crate::place::Place;
use crate::report::{Issue, quote};
use crate::{Code, Namespace};

/// The fix for an entry of `nvm:erc4337` without `extra.version`.
const SCHEME_VERSION: &str = "write \"extra\": {\"version\": \"1\"}";

/// The transfer methods that a published client signs.
const METHODS: [&str; 2] = ["eip3009", "permit2"];

/// The payment flows of version 2 §6.1.
const FLOWS: [&str; 3] = ["authorization", "upfront", "escrow"];

/// Checks the scheme's additional members, an object. For a known token, `exact` payments can be signed only under the
/// token's EIP-712 domain.
pub(crate) fn check(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>, kind: Kind) {
    let issue = |name: &str, node: &Node<'_>| Issue::new(Code::InvalidExtra, place.field(name), &node.span);
    let present = fields.extra.filter(|node| !node.is_null());
    if let Some(node) = present.filter(|node| node.as_object().is_none()) {
        return cx.push(issue("extra", node).message(format!("`extra` must be an object, found {}", node.kind())));
    }
    match (present, kind) {
        (Some(node), Kind::Erc4337) => return plan_extra(cx, place, node),
        (None, Kind::Erc4337) => {
            // An absent member is reported at the object that lacks it.
            let (name, whole) = fields.extra.map_or(("", fields.node), |null| ("extra", null));
            return cx.push(issue(name, whole).message("`extra` is missing").fix(SCHEME_VERSION));
        }
        (Some(node), _) => methods(cx, place, node),
        (None, _) => {}
    }
    if fields.scheme.and_then(Node::as_str) == Some("exact") && network.namespace == Some(Namespace::Eip155) {
        domain(cx, place, fields, network);
    }
}

/// Checks the members by which the way of the money is chosen: clients build no payment for one that they do not know.
fn methods(cx: &mut Context<'_>, place: Place<'_>, extra: &Node<'_>) {
    for (name, known) in [("assetTransferMethod", &METHODS[..]), ("paymentFlow", &FLOWS[..])] {
        // Some clients read a null as text that they do not know, and not as an absent member.
        let Some(node) = extra.get(name).filter(|node| node.as_str() != Some("")) else { continue };
        if !node.as_str().is_some_and(|text| known.contains(&text)) {
            cx.push(
                Issue::new(Code::UnknownMethod, place.field(&format!("extra.{name}")), &node.span)
                    .message(format!("{} is no `{name}` that a published client knows", spelt(node)))
                    .fix(format!("write one of {}, or leave `{name}` out", known.join(", "))),
            );
        }
    }
}

/// Checks the EIP-712 domain of a payment by EIP-3009: it is the token's own, and the payer has it from `extra`.
fn domain(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>) {
    let Some(token) = fields.asset.and_then(Node::as_str) else { return };
    let issue = |name: &str, node: &Node<'_>| Issue::new(Code::InvalidExtra, place.field(name), &node.span);
    let extra = fields.extra.filter(|node| !node.is_null());
    let member = |name: &str| extra.and_then(|extra| extra.get(name)).filter(|node| !missing(node));
    if let Some(contract) = member("verifyingContract")
        && !contract.as_str().is_some_and(|contract| contract.eq_ignore_ascii_case(token))
    {
        cx.push(
            issue("extra.verifyingContract", contract)
                .message(format!(
                    "the token is the verifying contract of its own transfers: {} is not `asset`, and no payer by EIP-3009 can sign for it",
                    spelt(contract)
                ))
                .fix("leave `verifyingContract` out"),
        );
    }
    let known = fields.token(network).filter(|token| !token.name.is_empty());
    let method = member("assetTransferMethod").and_then(Node::as_str);
    let eip3009 = method.map_or_else(|| known.is_none_or(|token| token.eip3009), |method| method == "eip3009");
    let write =
        |(name, version): (String, String)| format!("write \"extra\": {{\"name\": {name}, \"version\": {version}}}");
    if extra.is_none() && eip3009 {
        let span = fields.extra.map_or(&fields.node.span, |null| &null.span);
        let issue = Issue::new(Code::MissingEip712Domain, place.field("extra"), span);
        return cx.push(match known {
            Some(token) => issue.fix(write((quote(token.name), quote(token.version)))),
            None => issue,
        });
    }
    for (name, own) in [("name", known.map(|token| token.name)), ("version", known.map(|token| token.version))] {
        let path = format!("extra.{name}");
        let fix = |issue: Issue| match own {
            Some(own) => issue.fix(format!("write \"{name}\": {}", quote(own))),
            None => issue,
        };
        match (member(name), own) {
            (Some(node), Some(own)) if node.as_str() != Some(own) => {
                let symbol = known.map_or("the token", |token| token.symbol);
                cx.push(fix(issue(&path, node).message(format!(
                    "{} is not the EIP-712 {name} of {symbol}: {}",
                    spelt(node),
                    quote(own)
                ))));
            }
            (Some(node), None) if node.as_str().is_none() && eip3009 => cx.push(
                Issue::new(Code::MissingEip712Domain, place.field(&path), &node.span)
                    .message(format!("`{path}` must be a string, found {}", node.kind())),
            ),
            (None, _) if eip3009 => {
                let span =
                    extra.map_or(&fields.node.span, |extra| extra.get(name).map_or(&extra.span, |node| &node.span));
                cx.push(fix(Issue::new(Code::MissingEip712Domain, place.field(&path), span)
                    .message(format!("`{path}` is missing"))));
            }
            _ => {}
        }
    }
}

/// Checks smart-accounts v0.3 §3.3: `version` is required, `agentId` a 256-bit number in a string, `httpVerb` text.
fn plan_extra(cx: &mut Context<'_>, place: Place<'_>, extra: &Node<'_>) {
    let issue = |name: &str, node: &Node<'_>| Issue::new(Code::InvalidExtra, place.field(name), &node.span);
    match extra.get("version") {
        Some(version) if version.as_str().is_some() => {}
        None => cx.push(issue("extra", extra).message("`extra.version` is missing").fix(SCHEME_VERSION)),
        Some(other) => cx.push(
            issue("extra.version", other)
                .message(format!("`version` must be a string, found {}", spelt(other)))
                .fix(SCHEME_VERSION),
        ),
    }
    let mut wrong = |name: &str, node: &Node<'_>, expected: &str| {
        cx.push(
            issue(name, node)
                .message(format!("`{name}` must be {expected}, found {}", spelt(node)))
                .fix(format!("write {expected}")),
        );
    };
    let there = |name| extra.get(name).filter(|node| !node.is_null());
    if let Some(agent) = there("agentId").filter(|node| !node.as_str().is_some_and(is_id)) {
        wrong("extra.agentId", agent, "a decimal 256-bit number in a string");
    }
    if let Some(verb) = there("httpVerb").filter(|node| node.as_str().is_none()) {
        wrong("extra.httpVerb", verb, "a string");
    }
}
