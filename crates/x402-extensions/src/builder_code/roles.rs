//! The parts of seller, payer and facilitator in [`builder-code`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/builder_code.md).

use async_trait::async_trait;
use serde_json::json;
use x402_types::extension::{Required, echo};
use x402_types::{Claim, ErrorReason, Extension, Members, RawJson, Refusal, Rejection, SigningContext, Terms};

use super::{BuilderCode, BuilderCodes, MAX_ECHOED, MAX_OWN, MAX_SERVICES, NAME, texts};

/// The error of more codes than one party names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {MAX_OWN} codes of services")]
pub struct TooManyCodes;

fn own(services: impl IntoIterator<Item = BuilderCode>) -> Result<Vec<BuilderCode>, TooManyCodes> {
    let services: Vec<_> = services.into_iter().take(MAX_OWN.saturating_add(1)).collect();
    if services.len() > MAX_OWN { Err(TooManyCodes) } else { Ok(services) }
}

fn list(services: &[BuilderCode]) -> Vec<&str> {
    services.iter().map(BuilderCode::as_str).collect()
}

/// The seller's codes: the app that sells, and services that take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SellerCodes {
    app: BuilderCode,
    services: Vec<BuilderCode>,
}

impl SellerCodes {
    /// Declares the code of the app.
    #[must_use]
    pub const fn new(app: BuilderCode) -> Self {
        Self { app, services: Vec::new() }
    }

    /// Declares the codes of services, at most five.
    ///
    /// # Errors
    /// There are more.
    pub fn with_services(mut self, services: impl IntoIterator<Item = BuilderCode>) -> Result<Self, TooManyCodes> {
        self.services = own(services)?;
        Ok(self)
    }
}

#[async_trait]
impl Extension for SellerCodes {
    fn name(&self) -> &str {
        NAME
    }

    fn declare(&self, _: &Required<'_>) -> Option<RawJson> {
        let mut info = json!({ "a": self.app.as_str() });
        if let (false, Some(info)) = (self.services.is_empty(), info.as_object_mut()) {
            info.insert("s".into(), json!(list(&self.services)));
        }
        let code = |of: &str| json!({"type": "string", "pattern": "^[a-z0-9_]{1,32}$", "description": of});
        let services = json!({"type": "array", "maxItems": MAX_SERVICES,
            "items": {"type": "string", "pattern": "^[a-z0-9_]{1,32}$"}, "description": "Service builder codes"});
        let properties = json!({"a": code("App builder code"), "w": code("Wallet builder code"), "s": services});
        let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": properties, "additionalProperties": false});
        RawJson::of(&json!({ "info": info, "schema": schema })).ok()
    }

    /// Names `s`: a payment has codes of its own there beside the seller's.
    fn not_compared(&self) -> &[&str] {
        &["s"]
    }

    /// Refuses a payment that names the extension and leaves out a code of the seller, or has more than ten codes of services.
    async fn on_claim(&self, claim: &Claim) -> Result<Option<String>, Refusal> {
        let Some(info) = claim.extensions.get(NAME).and_then(echo::info) else { return Ok(None) };
        let services = texts(&info);
        let has_all = self.services.iter().all(|own| services.iter().any(|code| code == own.as_str()));
        if has_all && services.len() <= MAX_ECHOED {
            return Ok(None);
        }
        let words =
            format!("extensions.{NAME}.info.s: expected the codes that the server declared, and at most {MAX_ECHOED}");
        Err(Rejection::new(ErrorReason::EXTENSION_ECHO_MISMATCH).because(words).into())
    }
}

/// The payer's codes: services that take part on its side. They are added where a seller declares codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayerCodes(Vec<BuilderCode>);

impl PayerCodes {
    /// Adds these codes, at most five.
    ///
    /// # Errors
    /// There are more.
    pub fn new(services: impl IntoIterator<Item = BuilderCode>) -> Result<Self, TooManyCodes> {
        Ok(Self(own(services)?))
    }
}

#[async_trait]
impl Extension for PayerCodes {
    fn name(&self) -> &str {
        NAME
    }

    /// Puts the payer's codes before those of the seller, as the published SDK does.
    async fn complete(&self, info: &Members, _: &Terms, _: &SigningContext<'_>) -> Result<Members, Refusal> {
        let mut codes: Vec<String> = self.0.iter().map(|code| code.as_str().to_owned()).collect();
        codes.extend(texts(info));
        let mut additions = Members::new();
        if let Ok(codes) = RawJson::of(&codes) {
            additions.insert("s", codes);
        }
        Ok(additions)
    }
}

/// The facilitator's codes: the account that sends the transaction, and its service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FacilitatorCodes {
    wallet: Option<BuilderCode>,
    service: Option<BuilderCode>,
}

impl FacilitatorCodes {
    /// Passes on the codes of payments, and adds none.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the code of the account that sends the transactions.
    #[must_use]
    pub fn with_wallet(mut self, wallet: BuilderCode) -> Self {
        self.wallet = Some(wallet);
        self
    }

    /// Sets the code of the facilitator among the services.
    #[must_use]
    pub fn with_service(mut self, service: BuilderCode) -> Self {
        self.service = Some(service);
        self
    }

    /// Returns the suffix of the calls that settle a payment; empty if there is no code.
    #[must_use]
    pub fn suffix(&self, claim: &Claim) -> Vec<u8> {
        let codes = BuilderCodes::echoed(&claim.extensions);
        let codes = codes.with_facilitator(self.wallet.as_ref(), self.service.as_ref());
        if codes.is_empty() { Vec::new() } else { codes.to_suffix() }
    }
}

impl Extension for FacilitatorCodes {
    fn name(&self) -> &str {
        NAME
    }
}
