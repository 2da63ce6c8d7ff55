//! Recognises the documents of this extension, and parses payments in the order of §5.1.
//!
//! "It is one if the scheme says so, an entry has `planId`, `authorization` has `sessionKeys`, or `extensions` has
//! `smart-account`." Then the codes of §7 apply.

use crate::nvm::{Code, Payload, PaymentPayload, v02, v03};
use crate::wire::wire;
use crate::{ChainId, Members, RawJson, Rejection, SchemeName};

wire! {
    /// The members that identify a document. Each may be absent or malformed.
    struct Marks {
        x402_version: Option<RawJson> => "x402Version" optional;
        scheme: Option<RawJson> => "scheme" optional;
        network: Option<RawJson> => "network" optional;
        plan_id: Option<RawJson> => "planId" optional;
        accepted: Option<RawJson> => "accepted" optional;
        accepts: Option<RawJson> => "accepts" optional;
        payload: Option<RawJson> => "payload" optional;
        authorization: Option<RawJson> => "authorization" optional;
        session_keys: Option<RawJson> => "sessionKeys" optional;
        extensions: Option<RawJson> => "extensions" optional;
    }
}

impl Marks {
    fn of(raw: Option<&RawJson>) -> Option<Self> {
        raw?.read().ok()
    }

    /// Returns whether the scheme is the other one whose entries have a plan.
    fn is_of_card(&self) -> bool {
        self.says(SchemeName::NVM_CARD_DELEGATION.as_str())
    }

    fn is_entry(&self) -> bool {
        !self.is_of_card() && (self.plan_id.is_some() || self.says(SchemeName::NVM_ERC4337.as_str()))
    }

    fn says(&self, scheme: &str) -> bool {
        self.scheme.as_ref().and_then(|raw| raw.read::<String>().ok()).is_some_and(|name| name == scheme)
    }

    fn has_extension(&self) -> bool {
        let extensions = self.extensions.as_ref().and_then(|raw| raw.read::<Members>().ok());
        extensions.is_some_and(|extensions| extensions.get(v02::EXTENSION).is_some())
    }
}

/// Returns whether an entry of `accepts` is of this scheme, or claims to be.
pub(super) fn is_entry(raw: &RawJson) -> bool {
    Marks::of(Some(raw)).is_some_and(|marks| marks.is_entry())
}

/// Returns whether a payment is one of this extension, or claims to be.
#[must_use]
pub fn is_payment(raw: &RawJson) -> bool {
    let Some(marks) = Marks::of(Some(raw)) else { return false };
    let accepted = Marks::of(marks.accepted.as_ref());
    // The scheme decides before the shape does: a payment by card has a plan and may have session keys as well.
    if accepted.as_ref().is_some_and(Marks::is_of_card) {
        return false;
    }
    let has_keys = || {
        let payload = Marks::of(marks.payload.as_ref());
        let authorization = payload.and_then(|payload| Marks::of(payload.authorization.as_ref()));
        authorization.is_some_and(|authorization| authorization.session_keys.is_some())
    };
    marks.is_entry() || accepted.is_some_and(|accepted| accepted.is_entry()) || marks.has_extension() || has_keys()
}

/// Returns whether a payment is of the other scheme whose entries have a plan.
pub(super) fn is_card_payment(raw: &RawJson) -> bool {
    let accepted = Marks::of(Some(raw)).and_then(|marks| Marks::of(marks.accepted.as_ref()));
    accepted.is_some_and(|accepted| accepted.is_of_card())
}

/// Returns whether a 402 document offers something of this extension, or claims to.
#[must_use]
pub fn is_required(raw: &RawJson) -> bool {
    let Some(marks) = Marks::of(Some(raw)) else { return false };
    let entries = marks.accepts.as_ref().and_then(|raw| raw.read::<Vec<RawJson>>().ok());
    marks.has_extension() || entries.is_some_and(|entries| entries.iter().any(is_entry))
}

/// Parses a payment, with the checks in the order of §5.1: version, scheme, network, shape.
pub(super) fn read_payment(raw: &RawJson) -> Result<PaymentPayload, Rejection> {
    let unreadable = |error: serde_json::Error| Code::InvalidPayload.because(format!("paymentPayload: {error}"));
    let marks: Marks = raw.read().map_err(unreadable)?;
    // "`x402Version` MUST equal `2`"
    if marks.x402_version.as_ref().is_none_or(|version| version.as_str() != "2") {
        return Err(Code::InvalidPayload.because("x402Version: expected the integer 2"));
    }
    // Version 0.2 has no `accepted`, and carries its authorization in the extension.
    if marks.accepted.is_none() && marks.has_extension() {
        if !marks.says(SchemeName::EXACT.as_str()) {
            return Err(Code::InvalidPayload.because("scheme: expected exact, as version 0.2 has it"));
        }
        let payment: v02::PaymentPayload = raw.read().map_err(unreadable)?;
        if payment.network().is_none() {
            return Err(Code::UnsupportedNetwork.because("network: expected a name such as base-sepolia"));
        }
        Payload::from_raw(&payment.extension)?;
        return Ok(PaymentPayload::V02(Box::new(payment)));
    }
    let accepted = Marks::of(marks.accepted.as_ref())
        .ok_or_else(|| Code::InvalidPayload.because("accepted: expected the chosen entry"))?;
    // "`scheme` MUST equal `nvm:erc4337`"
    if !accepted.says(SchemeName::NVM_ERC4337.as_str()) {
        return Err(Code::InvalidPayload.because("accepted.scheme: expected nvm:erc4337"));
    }
    // "`network` MUST be a supported network using CAIP-2 format"
    if let Some(network) = &accepted.network
        && network.read::<ChainId>().is_err()
    {
        return Err(Code::UnsupportedNetwork.because("accepted.network: expected CAIP-2, for example eip155:84532"));
    }
    let payment: v03::PaymentPayload = raw.read().map_err(unreadable)?;
    // "Client's smart account address": required from version 0.3 on.
    if Payload::from_raw(&payment.payload)?.authorization().from().is_none() {
        return Err(Code::InvalidPayload.because("payload.authorization.from: expected the account's address"));
    }
    Ok(PaymentPayload::V03(Box::new(payment)))
}
