//! The extension
//! [`payment-identifier`](https://github.com/coinbase/x402/blob/main/specs/extensions/payment_identifier.md): the client
//! gives its payment an id, which stays the same however often the payment is shown.

use core::fmt::Write;

use x402_types::{Members, PaymentRequired, RawJson};

use super::{Clock, PayError};

const NAME: &str = "payment-identifier";

/// Whether payments get an id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identifiers {
    /// A server that requires one is not paid.
    Never,
    /// Where the server declares the extension.
    WhereDeclared,
}

impl Identifiers {
    /// The server's extensions as the payment echoes them, with an id where one is due.
    pub(super) fn extensions(self, required: &PaymentRequired, clock: &dyn Clock) -> Result<Members, PayError> {
        let mut extensions = required.extensions();
        let Some(declared) = extensions.get(NAME) else { return Ok(extensions) };
        let mut declared: Members = match declared.read() {
            Ok(declared) => declared,
            // What is no object is echoed as it came.
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

/// 36 of the 16 to 128 characters that an id may have: `pay_` and 16 random bytes in hex.
fn id(clock: &dyn Clock) -> Option<String> {
    let random = clock.entropy()?;
    let mut id = "pay_".to_owned();
    for byte in random.iter().take(16) {
        write!(id, "{byte:02x}").ok()?;
    }
    Some(id)
}
