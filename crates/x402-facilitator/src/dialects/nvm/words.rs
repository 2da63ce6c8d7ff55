//! The messages of `nvm:erc4337` at a facilitator: claims of the payments that servers present, and answers in the form
//! of [Smart Accounts 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §6.3 and §7 beside that of x402.

use x402_erc4337::nvm::is_resource;
use x402_facilitator_core::{Outcome, Payment, StepName};
use x402_types::nvm::{Code, ErrorBody, PaymentPayload, Receipt, Requirements};
use x402_types::v2::{ResourceInfo, SettleResponse, VerifyResponse};
use x402_types::{AtomicAmount, ChainId, Claim, ErrorReason, Members, NetworkName, RawJson, Rejection};

/// The mechanism's name for the step that purchases credits.
const ORDER: StepName = StepName::new("order");

/// "Match with `paymentRequired`": makes the claim of a payment for one of the offered entries and this number of
/// credits.
///
/// # Errors
/// `INVALID_PAYLOAD`: the payment is for another entry or resource, or has an agent without a resource.
pub(super) fn claim<'a>(
    payment: PaymentPayload,
    mut offered: impl Iterator<Item = &'a Requirements>,
    resource: &ResourceInfo,
    credits: AtomicAmount,
) -> Result<Claim, Rejection> {
    let entry = match &payment {
        PaymentPayload::V03(payment) => offered.find(|entry| entry.is_accepted_by(&payment.accepted)),
        // "`planId` the only offered entry's".
        PaymentPayload::V02(payment) => {
            offered.next().filter(|entry| entry.network.chain_id() == payment.network() && offered.next().is_none())
        }
    };
    let Some(entry) = entry else {
        return refuse("accepted: expected one of the entries of paymentRequired.accepts", "BCK.X402.0014");
    };
    let names_agent = match &payment {
        PaymentPayload::V03(payment) => payment.accepted.extra.agent_id.is_some(),
        PaymentPayload::V02(_) => false,
    };
    check_resource(payment.resource(), resource, names_agent)?;
    let terms =
        entry.to_terms(credits).map_err(|_| Code::UnsupportedNetwork.because("accepted.network: expected CAIP-2"))?;
    let mut claim = payment.into_claim(terms);
    claim.resource = Some(resource.clone());
    Ok(claim)
}

/// Compares the resource that the payer names with the one that the server sells.
///
/// # Errors
/// `INVALID_PAYLOAD`: the resource differs, or an agent has no resource.
pub(crate) fn check_resource(
    echo: Option<&ResourceInfo>,
    resource: &ResourceInfo,
    names_agent: bool,
) -> Result<(), Rejection> {
    match echo.map(|resource| resource.url.as_str()).filter(|url| !url.is_empty()) {
        // "`agentId` without `resource.url` is `INVALID_PAYLOAD`." The payer's echo is optional: it could only repeat
        // the server's resource.
        None if names_agent && resource.url.is_empty() => {
            refuse("resource.url: expected beside extra.agentId", "BCK.X402.0012")
        }
        // Neither of the two is signed, so either may be the path of the other.
        Some(url) if !is_resource(url, &resource.url) && !is_resource(&resource.url, url) => {
            refuse("resource.url: another resource than paymentRequired has", "BCK.X402.0013")
        }
        _ => Ok(()),
    }
}

fn refuse<T>(why: &str, code: &str) -> Result<T, Rejection> {
    Err(Code::InvalidPayload.because(why).detail("nvmCode", code))
}

/// Translates a refusal of the parts that serve every scheme into the extension's codes.
pub(super) fn refusal(rejection: Rejection) -> Rejection {
    // A facilitator that serves no plan on a network has the network on no allow-list.
    let unserved = [ErrorReason::UNSUPPORTED_SCHEME, ErrorReason::INVALID_NETWORK].contains(&rejection.reason);
    let payer = rejection.payer.clone();
    let mut rejection = match rejection.reason {
        _ if unserved => Code::UnsupportedNetwork.because("accepted.network: nvm:erc4337 is not served there"),
        ref reason if *reason == ErrorReason::DUPLICATE_SETTLEMENT => spent(),
        _ => rejection,
    };
    rejection.payer = payer;
    rejection.reason = Code::translate(rejection.reason);
    rejection
}

/// Nevermined's own code for a payment that is used already.
const SPENT: &str = "BCK.X402.0059";

/// "A v3 nonce belongs to the first id whose settle was accepted, whatever its end."
pub(super) fn spent() -> Rejection {
    Code::InvalidPayload.because("this payment was used for another request").detail("nvmCode", SPENT)
}

/// The refusal with status 409: the id or the caller's key belongs to another payment or amount.
pub(super) fn taken() -> Rejection {
    Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).detail("nvmCode", SPENT)
}

/// Describes a refusal in both forms.
fn error(rejection: &Rejection) -> ErrorBody {
    ErrorBody::from(rejection)
}

fn keep(members: &mut Members, key: &str, value: &impl serde::Serialize) {
    if let Ok(value) = RawJson::of(value) {
        members.insert(key, value);
    }
}

/// Adds `code` and `message` as in the envelope of Nevermined's own errors (`NVMException`): its clients read them at a
/// status that is no success. payments-py 1.18 withholds what it sold only at the code of a spent payment.
pub(super) fn exception(members: &mut Members) {
    if let Some((code, message)) = nevermineds(members) {
        members.insert_text("code", &code);
        members.insert_text("message", &message);
    }
}

/// Returns whether the reason of a refusal is that the payment was used already.
pub(super) fn is_spent(members: &Members) -> bool {
    nevermineds(members).is_some_and(|(code, _)| code == SPENT)
}

/// Returns Nevermined's own code of a refusal, and the message.
fn nevermineds(members: &Members) -> Option<(String, String)> {
    let said: ErrorBody = members.get("error")?.read().ok()?;
    Some((said.details.text("nvmCode")?, said.message))
}

/// Writes a verdict: the members that x402 servers read, and the extension's own envelope.
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
            let invalid_message = Some(said.message);
            VerifyResponse { invalid_message, rest, ..VerifyResponse::invalid(&rejection) }
        }
    }
}

/// Writes a settlement that was refused before anything was sent: "a failure receipt has `transaction` =
/// `transactionHash` = "" and keeps `orderTx`".
pub(super) fn refused(rejection: &Rejection, network: impl Into<NetworkName>) -> SettleResponse {
    let said = error(rejection);
    let mut receipt = Receipt::new(false, "", network);
    receipt.payer = rejection.payer.as_deref().map(str::to_owned);
    receipt.error_reason = Some(said.code.clone());
    receipt.error_message = Some(said.message.clone());
    receipt.error = Some(said);
    receipt.into()
}

/// Writes the state of a settlement.
pub(super) fn answer(outcome: &Outcome, row: Option<&Payment>, network: ChainId) -> SettleResponse {
    let order = row.and_then(|row| row.proven(&ORDER)).map(|proof| proof.tx.as_str());
    let (reason, payer, transaction) = match outcome {
        Outcome::Settled { receipt, replayed } => {
            let transaction = receipt.transaction.as_ref().map(|tx| tx.as_str()).unwrap_or_default();
            let mut said = Receipt::new(true, transaction, network);
            said.payer = Some(receipt.payer.clone());
            said.replayed = *replayed;
            said.rest = receipt.extra.clone();
            return said.into();
        }
        Outcome::Failed { reason, payer, .. } => (reason.clone(), Some(payer), None),
        Outcome::Pending { transaction, payer } => (ErrorReason::SETTLEMENT_PENDING, Some(payer), transaction.as_ref()),
        Outcome::Duplicate { transaction } => (ErrorReason::DUPLICATE_SETTLEMENT, None, transaction.as_ref()),
        Outcome::Spent { transaction, payer } => (Code::InvalidPayload.reason(), Some(payer), transaction.as_ref()),
    };
    let mut rejection = match outcome {
        Outcome::Spent { .. } => spent(),
        Outcome::Duplicate { .. } => taken(),
        _ => Rejection::new(reason),
    };
    if let Some(order) = order.filter(|_| matches!(outcome, Outcome::Failed { .. })) {
        rejection = rejection.detail("orderTx", order);
    }
    if let Some(payer) = payer {
        rejection = rejection.of(payer.as_str());
    }
    let mut response = refused(&rejection, network);
    if let Some(order) = order {
        response.rest.insert_text("orderTx", order);
    }
    if let Some(transaction) = transaction {
        response.transaction = transaction.as_str().to_owned();
        response.rest.insert_text("transactionHash", transaction.as_str());
    }
    response
}

#[cfg(test)]
mod tests {
    use x402_facilitator_core::{Receipt as Made, TxId};
    use x402_types::nvm::Requirements;

    use super::*;

    const NETWORK: &str = "eip155:84532";

    fn outcome(made: Outcome) -> serde_json::Value {
        serde_json::to_value(answer(&made, None, NETWORK.parse().unwrap())).unwrap()
    }

    #[test]
    fn a_receipt_has_both_names_of_its_transaction() {
        let mut extra = Members::new();
        extra.insert_text("creditsRedeemed", "5");
        extra.insert_text("orderTx", "0x02");
        let mut receipt = Made::new(Some(TxId::from("0x01")), NETWORK.parse().unwrap(), "0xa".to_owned());
        receipt.extra = extra;
        let said = outcome(Outcome::Settled { receipt: receipt.clone(), replayed: false });
        assert_eq!((&said["transaction"], &said["transactionHash"]), (&"0x01".into(), &"0x01".into()));
        assert_eq!((&said["creditsRedeemed"], &said["orderTx"]), (&"5".into(), &"0x02".into()));
        assert!(said.get("replayed").is_none());
        let again = outcome(Outcome::Settled { receipt, replayed: true });
        assert_eq!(again["replayed"], true);
    }

    #[test]
    fn a_failure_names_no_transaction_and_a_pending_one_does() {
        let transaction = Some(TxId::from("0x01"));
        let reason = Code::SettlementFailed.reason();
        let failed = outcome(Outcome::Failed { reason, transaction: transaction.clone(), payer: "0xa".into() });
        assert_eq!((&failed["transaction"], &failed["transactionHash"]), (&"".into(), &"".into()));
        assert_eq!((&failed["success"], &failed["errorReason"]), (&false.into(), &"SETTLEMENT_FAILED".into()));
        assert_eq!(failed["error"]["code"], "SETTLEMENT_FAILED");
        assert_eq!(failed["error"]["message"], "On-chain settlement transaction failed");
        let pending = outcome(Outcome::Pending { transaction: transaction.clone(), payer: "0xa".into() });
        assert_eq!((&pending["transaction"], &pending["errorReason"]), (&"0x01".into(), &"settlement_pending".into()));
        let duplicate = outcome(Outcome::Duplicate { transaction });
        assert_eq!((&duplicate["transaction"], &duplicate["success"]), (&"0x01".into(), &false.into()));
        let spent = outcome(Outcome::Spent { transaction: Some(TxId::from("0x01")), payer: "0xa".into() });
        assert_eq!((&spent["transaction"], &spent["errorReason"]), (&"0x01".into(), &"INVALID_PAYLOAD".into()));
        assert_eq!((&spent["payer"], &spent["success"]), (&"0xa".into(), &false.into()));
        assert_eq!(spent["error"]["details"]["nvmCode"], "BCK.X402.0059");
    }

    #[test]
    fn a_payment_fits_one_of_the_entries_offered() {
        let vector = |name: &str| {
            let path = format!("{}/../x402-testkit/vectors/nvm/{name}.json", env!("CARGO_MANIFEST_DIR"));
            serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        let required: x402_types::nvm::PaymentRequired =
            serde_json::from_value(vector("payment-required")["json"].take()).unwrap();
        let read =
            |json: &serde_json::Value| PaymentPayload::from_raw(&RawJson::parse(json.to_string()).unwrap()).unwrap();
        let fits = |json: &serde_json::Value, offered: &[Requirements], url: &str| {
            let outcome = claim(read(json), offered.iter(), &ResourceInfo::of(url), AtomicAmount::from(5));
            outcome.map_err(|rejection| (rejection.reason, rejection.details.text("nvmCode").unwrap()))
        };
        let offered: Vec<Requirements> = required.offered().cloned().collect();
        let url = required.resource.url.as_str();
        let payment = vector("payment-payload")["json"].take();
        let good = fits(&payment, &offered, url).unwrap();
        assert_eq!((good.terms.amount, good.resource.unwrap().url.as_str()), (AtomicAmount::from(5), url));
        let invalid = |code: &str| Err((Code::InvalidPayload.reason(), code.to_owned()));
        assert_eq!(fits(&payment, &[], url), invalid("BCK.X402.0014"));
        let other = Requirements::new(NETWORK.parse().unwrap(), "7".parse().unwrap());
        assert_eq!(fits(&payment, core::slice::from_ref(&other), url), invalid("BCK.X402.0014"));
        assert_eq!(fits(&payment, &offered, "/api/other"), invalid("BCK.X402.0013"));
        let absolute = format!("https://shop.example{url}");
        assert_eq!(
            fits(&payment, &offered, &absolute).unwrap().resource.unwrap().url,
            absolute,
            "the echo is its path"
        );
        let mut alone = payment;
        alone.as_object_mut().unwrap().remove("resource");
        assert_eq!(fits(&alone, &offered, url).unwrap().resource.unwrap().url, url, "the echo is optional");
        assert_eq!(fits(&alone, &offered, ""), invalid("BCK.X402.0012"), "neither names it");

        let old = vector("payment-payload-v0.2")["filled"].take();
        assert!(fits(&old, &offered, url).is_ok());
        let both = [offered, vec![other]].concat();
        assert_eq!(fits(&old, &both, url), invalid("BCK.X402.0014"));
    }

    #[test]
    fn what_is_not_served_is_on_no_allow_list() {
        for reason in [ErrorReason::UNSUPPORTED_SCHEME, ErrorReason::INVALID_NETWORK] {
            assert_eq!(refusal(Rejection::new(reason)).reason, Code::UnsupportedNetwork.reason());
        }
        let twice = refusal(Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT));
        assert_eq!(twice.details.text("nvmCode").as_deref(), Some("BCK.X402.0059"));
        let fine = Code::InsufficientBalance.because("short").detail("currentBalance", "0");
        assert_eq!(refusal(fine.clone()), fine);
    }
}
