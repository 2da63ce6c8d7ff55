//! [`payment-identifier`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/payment_identifier.md): the client
//! gives its payment an id, "same `id`, same payload: return cached response; same `id`, different payload: return 409".
//!
//! The extension makes and reads the id. The seller and the facilitator record the payment of an id, as they do for every
//! other name of a request.

use core::fmt::Write;

use async_trait::async_trait;

use super::{Extension, Required, echo};
use crate::{Claim, ErrorReason, Members, RawJson, Refusal, Rejection, SigningContext, Terms};

/// The extension `payment-identifier`, in all three roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaymentIdentifier {
    required: bool,
}

impl PaymentIdentifier {
    /// The key of the extension in `extensions`.
    pub const NAME: &'static str = "payment-identifier";
    /// The code of a payment without an id where the server requires one. Its status is 400.
    pub const REQUIRED: ErrorReason = ErrorReason::defined("payment_identifier_required");
    /// The code of an id that is not 16 to 128 letters, digits, `-` and `_`. Its status is 400.
    pub const MALFORMED: ErrorReason = ErrorReason::defined("invalid_payment_identifier");

    /// Creates the extension for clients, for facilitators, and for servers that accept payments without an id.
    #[must_use]
    pub const fn optional() -> Self {
        Self { required: false }
    }

    /// Creates the extension for servers that refuse payments without an id.
    #[must_use]
    pub const fn required() -> Self {
        Self { required: true }
    }

    /// Returns whether an id is valid: "Length: 16-128 characters. Characters: alphanumeric, hyphens, underscores."
    #[must_use]
    pub fn is_valid(id: &str) -> bool {
        (16..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    }

    /// Returns the id in the extensions of a payment. A member that is `null` counts as absent.
    ///
    /// # Errors
    /// [`PaymentIdentifier::MALFORMED`].
    pub fn read(extensions: &Members) -> Result<Option<String>, Rejection> {
        const PATH: &str = "extensions.payment-identifier";
        let malformed = |words: String| Rejection::new(Self::MALFORMED).because(words).with_status(400);
        let Some(echo) = extensions.get(Self::NAME).filter(|echo| echo.as_str() != "null") else { return Ok(None) };
        let info = echo::info(echo).ok_or_else(|| malformed(format!("{PATH}: expected an object with `info`")))?;
        let Some(id) = info.get("id").filter(|id| id.as_str() != "null") else { return Ok(None) };
        let id = id.read().ok().filter(|id: &String| Self::is_valid(id)).ok_or_else(|| {
            malformed(format!("{PATH}.info.id: expected a string of 16 to 128 letters, digits, `-` and `_`"))
        })?;
        Ok(Some(id))
    }
}

#[async_trait]
impl Extension for PaymentIdentifier {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn declare(&self, _: &Required<'_>) -> Option<RawJson> {
        let required = self.required;
        let declaration = format!(
            r#"{{"info":{{"required":{required}}},"schema":{{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{{"required":{{"type":"boolean"}},"id":{{"type":"string","minLength":16,"maxLength":128,"pattern":"^[a-zA-Z0-9_-]+$"}}}},"required":["required"]}}}}"#
        );
        RawJson::parse(declaration).ok()
    }

    /// Makes an id of `pay_` and 16 random bytes in hex, as the TypeScript SDK does. "Recommendation: UUID v4 with prefix."
    async fn complete(&self, _: &Members, _: &Terms, context: &SigningContext<'_>) -> Result<Members, Refusal> {
        let mut id = "pay_".to_owned();
        for byte in context.entropy.iter().take(16) {
            let _ = write!(id, "{byte:02x}");
        }
        let mut additions = Members::new();
        additions.insert_text("id", &id);
        Ok(additions)
    }

    async fn on_claim(&self, claim: &Claim) -> Result<Option<String>, Refusal> {
        let id = Self::read(&claim.extensions)?;
        if id.is_none() && self.required {
            let words = "extensions.payment-identifier.info.id: expected an id, found none";
            return Err(Rejection::new(Self::REQUIRED).because(words).with_status(400).into());
        }
        Ok(id)
    }
}
