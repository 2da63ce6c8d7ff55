//! The extension
//! [`payment-identifier`](https://github.com/coinbase/x402/blob/main/specs/extensions/payment_identifier.md): the
//! client gives its payment an id, which stays the same however often the payment is sent.

use core::fmt::Write;

use x402_types::{Members, PaymentRequired, RawJson};

use super::{Clock, PayError};

const NAME: &str = "payment-identifier";

/// The policy for payment ids.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identifiers {
    /// Payments have no id, and a server that requires one is not paid.
    Never,
    /// Payments have an id where the server declares the extension.
    WhereDeclared,
}

impl Identifiers {
    /// Copies the server's extensions into the payment, with an id if the server declares the extension.
    pub(super) fn extensions(self, required: &PaymentRequired, clock: &dyn Clock) -> Result<Members, PayError> {
        let mut extensions = required.extensions();
        let Some(declared) = extensions.get(NAME) else { return Ok(extensions) };
        let mut declared: Members = match declared.read() {
            Ok(declared) => declared,
            // An extension that is not an object is echoed unchanged.
            Err(_) => return Ok(extensions),
        };
        let mut info: Members = declared.get("info").and_then(|info| info.read().ok()).unwrap_or_default();
        match self {
            Self::Never => {
                let due = info.get("required").and_then(|due| due.read::<bool>().ok()).unwrap_or_default();
                if due { Err(PayError::IdentifierRequired) } else { Ok(extensions) }
            }
            Self::WhereDeclared => {
                info.insert_text("id", &id(clock).ok_or(PayError::Entropy)?);
                declared.insert("info", written(&info)?);
                extensions.insert(NAME, written(&declared)?);
                Ok(extensions)
            }
        }
    }
}

fn written(members: &Members) -> Result<RawJson, PayError> {
    RawJson::of(members).map_err(|error| x402_types::Fault::broken(error).into())
}

/// Makes an id of 36 characters, where 16 to 128 are allowed: `pay_` and 16 random bytes in hex.
fn id(clock: &dyn Clock) -> Option<String> {
    let random = clock.entropy()?;
    let mut id = "pay_".to_owned();
    for byte in random.iter().take(16) {
        write!(id, "{byte:02x}").ok()?;
    }
    Some(id)
}
