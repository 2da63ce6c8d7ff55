//! The messages of payments by card: claims of what servers present, and the answers of sections "Codes and statuses" and
//! "Receipts".

use x402_card::{CardTrail, trail};
use x402_facilitator_core::{Outcome, Payment};
use x402_types::nvm::ErrorBody;
use x402_types::nvm::card::{CardCode, CardPayment, CardRequirements};
use x402_types::v2::{ResourceInfo, SettleResponse, VerifyResponse};
use x402_types::{AtomicAmount, Claim, Entry, ErrorReason, Members, NetworkName, RawJson, Rejection, Terms};

use crate::dialects::nvm::check_resource;

/// Makes the claim of a payment for one of the offered entries and this number of credits. Nothing of the payment's
/// unsigned envelope is taken over.
pub(super) fn claim<T>(
    payment: CardPayment,
    accepts: &[Entry<T>],
    resource: &ResourceInfo,
    credits: AtomicAmount,
) -> Result<Claim, Rejection> {
    let offered = accepts.iter().filter_map(|entry| match entry {
        Entry::Opaque(raw) => raw.read::<CardRequirements>().ok(),
        Entry::Known(_) => None,
    });
    let offered: Vec<CardRequirements> = offered.collect();
    let Some(entry) = offered.iter().find(|entry| entry.is_accepted_by(&payment.accepted)) else {
        let same_plan = offered.iter().any(|entry| entry.plan_id == payment.accepted.plan_id);
        let code = if same_plan { "BCK.X402.0013" } else { "BCK.X402.0014" };
        let why = "accepted: expected one of the entries of paymentRequired.accepts";
        return Err(CardCode::InvalidPayload.because(why).detail("nvmCode", code));
    };
    check_resource(payment.resource.as_ref(), resource, entry.extra.agent_id.is_some())?;
    let terms = entry.to_terms(credits).map_err(|why| CardCode::InvalidPayload.because(format!("accepted: {why}")))?;
    let mut claim = payment.into_claim(terms);
    claim.resource = Some(resource.clone());
    Ok(claim)
}

/// Translates a refusal of the parts that serve every scheme into the extension's codes.
pub(super) fn refusal(mut rejection: Rejection) -> Rejection {
    let unserved = [ErrorReason::UNSUPPORTED_SCHEME, ErrorReason::INVALID_NETWORK];
    if unserved.contains(&rejection.reason) {
        let payer = rejection.payer.take();
        rejection =
            CardCode::InvalidPayload.because("accepted.network: not served here").detail("nvmCode", "BCK.X402.0034");
        rejection.payer = payer;
    }
    rejection.reason = CardCode::translate(rejection.reason);
    rejection
}

/// Adds Nevermined's own code to the refusal of a body that cannot be read.
pub(super) fn unreadable(rejection: Rejection) -> Rejection {
    if rejection.details.get("nvmCode").is_some() { rejection } else { rejection.detail("nvmCode", "BCK.X402.0010") }
}

/// Describes a refusal in the extension's own form.
fn error(rejection: &Rejection) -> ErrorBody {
    let of_code = || {
        let ours = CardCode::of(&rejection.reason).map(CardCode::text);
        ours.or_else(|| rejection.reason.row().map(|row| row.text)).unwrap_or_default()
    };
    let message = rejection.message.as_deref().unwrap_or_else(of_code);
    ErrorBody::new(rejection.reason.clone(), message).with(rejection.details.clone())
}

fn keep(members: &mut Members, name: &str, value: &impl serde::Serialize) {
    if let Ok(value) = RawJson::of(value) {
        members.insert(name, value);
    }
}

/// Names the network as the terms' scheme does.
pub(super) fn name_network(members: &mut Members, terms: &Terms) {
    keep(members, "network", &terms.network_name());
}

/// Writes a verdict.
pub(super) fn verdict(outcome: Result<String, Rejection>, network: &NetworkName) -> VerifyResponse {
    let mut rest = Members::new();
    if !network.as_str().is_empty() {
        keep(&mut rest, "network", network);
    }
    match outcome {
        Ok(payer) => VerifyResponse { rest, ..VerifyResponse::valid(payer) },
        Err(rejection) => {
            let said = error(&rejection);
            keep(&mut rest, "error", &said);
            VerifyResponse { invalid_message: Some(said.message), rest, ..VerifyResponse::invalid(&rejection) }
        }
    }
}

/// Writes a settlement that was refused.
pub(super) fn refused(rejection: &Rejection, network: NetworkName) -> SettleResponse {
    let said = error(rejection);
    let mut response = SettleResponse::failed(rejection.reason.clone(), network);
    response.error_message = Some(said.message.clone());
    response.payer = rejection.payer.as_deref().map(str::to_owned);
    keep(&mut response.rest, "error", &said);
    response
}

/// Writes the state of a settlement. No cents, customer, card or text of the processor is in it.
pub(super) fn answer(outcome: &Outcome, row: Option<&Payment>, terms: &Terms) -> SettleResponse {
    let network = terms.network_name();
    let trail = row.map(trail).unwrap_or_default();
    let (reason, payer) = match outcome {
        Outcome::Settled { receipt, replayed } => {
            let transaction = receipt.transaction.as_ref().map(|tx| tx.as_str()).unwrap_or_default();
            let mut response = SettleResponse::settled(&receipt.payer, transaction, network);
            response.extensions = receipt.extensions.clone();
            response.rest = receipt.extra.clone();
            if *replayed {
                keep(&mut response.rest, "replayed", &true);
            }
            return response;
        }
        Outcome::Failed { reason, payer, .. } => (reason.clone(), Some(payer)),
        Outcome::Pending { payer, .. } => (ErrorReason::SETTLEMENT_PENDING, Some(payer)),
        Outcome::Duplicate { .. } => (ErrorReason::DUPLICATE_SETTLEMENT, None),
        Outcome::Spent { payer, .. } => (ErrorReason::DUPLICATE_SETTLEMENT, Some(payer)),
    };
    let mut rejection = detailed(reason, &trail);
    if let Some(payer) = payer {
        rejection = rejection.of(payer.as_str());
    }
    let mut response = refused(&rejection, network);
    if let Some(order) = &trail.order {
        response.rest.insert_text("orderTx", order);
    }
    response
}

/// Adds the details of a failure.
fn detailed(reason: ErrorReason, trail: &CardTrail) -> Rejection {
    let code = match CardCode::of(&reason) {
        Some(CardCode::CardDeclined | CardCode::PaymentFailed) => "BCK.X402.0049",
        Some(CardCode::MintFailed) => "BCK.X402.0017",
        Some(CardCode::BurnFailed) => "BCK.X402.0009",
        Some(CardCode::InsufficientBalance) => "BCK.X402.0023",
        Some(CardCode::TransactionLimitReached) => "BCK.X402.0022",
        Some(CardCode::DelegationInactive) => "BCK.X402.0020",
        Some(CardCode::DelegationNotFound) => "BCK.X402.0019",
        _ if reason == ErrorReason::SETTLEMENT_PENDING => "BCK.X402.0048",
        _ if reason == ErrorReason::DUPLICATE_SETTLEMENT => "BCK.X402.0059",
        _ => "",
    };
    let mut rejection = Rejection::new(reason.clone());
    if !code.is_empty() {
        rejection = rejection.detail("nvmCode", code);
    }
    match CardCode::of(&reason) {
        Some(CardCode::CardDeclined) => {
            rejection = trail.decline.iter().fold(rejection, |it, code| it.detail("declineCode", code));
        }
        Some(CardCode::PaymentFailed) => {
            rejection = trail.decline.iter().fold(rejection, |it, code| it.detail("cause", code));
        }
        Some(CardCode::MintFailed) => {
            rejection = trail.order.iter().fold(rejection, |it, order| it.detail("orderTx", order));
            rejection = trail.refund.iter().fold(rejection, |it, refund| it.detail("refund", refund));
        }
        _ => {}
    }
    rejection
}

/// Adds the members that only a status other than 200 has.
pub(super) fn of_status(status: axum::http::StatusCode, members: &mut Members) {
    if status == axum::http::StatusCode::SERVICE_UNAVAILABLE {
        keep(members, "retryable", &true);
    }
}
