//! The checks of a sign-in without its signature:
//! [sign-in-with-x](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md), "Validate Message
//! Fields".

use x402_types::challenge::IsoTime;
use x402_types::{ErrorReason, Rejection, UnixSeconds};

use super::origin::Origin;
use super::{
    DOMAIN_MISMATCH, EXPIRATION_TIME, EXPIRED, ISSUED_AT, ISSUED_IN_FUTURE, ISSUED_TOO_OLD, NOT_BEFORE, NOT_YET_VALID,
    SignInFields, URI_MISMATCH,
};

/// The greatest age of a sign-in in seconds: "default: < 5 minutes".
pub const MAX_AGE: u64 = 300;

impl SignInFields {
    /// Checks the fields against the server's configured origin and the time, in the order of the document.
    ///
    /// # Errors
    /// The code of the first field that is wrong.
    pub fn check(&self, origin: &str, now: UnixSeconds) -> Result<(), Rejection> {
        let refuse = |code: ErrorReason, why: String| Err(Rejection::new(code).because(why));
        let Some(expected) = Origin::of(origin) else {
            return refuse(DOMAIN_MISMATCH, "the server's origin is not an origin".into());
        };
        if self.domain != expected.host() {
            return refuse(DOMAIN_MISMATCH, format!("domain: expected {}", expected.host()));
        }
        if Origin::of(&self.uri).as_ref() != Some(&expected) {
            return refuse(URI_MISMATCH, format!("uri: expected a URL at {origin}"));
        }
        let Ok(issued) = self.issued_at.parse::<IsoTime>() else {
            return refuse(ISSUED_AT, format!("issuedAt: expected {}", IsoTime::EXPECTED));
        };
        if issued.ceil().0.saturating_add(MAX_AGE) < now.0 {
            return refuse(ISSUED_TOO_OLD, format!("issuedAt: expected a time within the last {MAX_AGE} seconds"));
        }
        if issued.floor() > now {
            return refuse(ISSUED_IN_FUTURE, "issuedAt: expected a time that is not in the future".into());
        }
        if let Some(text) = &self.expiration_time {
            match text.parse::<IsoTime>() {
                Err(_) => return refuse(EXPIRATION_TIME, format!("expirationTime: expected {}", IsoTime::EXPECTED)),
                Ok(until) if until.floor() < now => return refuse(EXPIRED, "expirationTime: it is over".into()),
                Ok(_) => {}
            }
        }
        if let Some(text) = &self.not_before {
            match text.parse::<IsoTime>() {
                Err(_) => return refuse(NOT_BEFORE, format!("notBefore: expected {}", IsoTime::EXPECTED)),
                Ok(from) if from.ceil() > now => return refuse(NOT_YET_VALID, "notBefore: it has not begun".into()),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}
