//! Signing in: the extension
//! [`sign-in-with-x`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md).
//!
//! An account that has paid for a resource proves itself by a signature, and gets the resource again. [`SignInGate`] is the
//! seller's half of the extension, [`SignInWallet`] the buyer's.

mod accounts;
mod check;
mod gate;
mod message;
mod origin;
mod wallet;

pub use accounts::{KeysAlone, OnChains, SignedBy, VerifyAccount};
pub use check::MAX_AGE;
pub use gate::{OriginError, SignInGate};
pub use message::{MAX_HEADER, SignIn, SignInAccount, SignInFields};
pub use wallet::SignInWallet;

use x402_types::ErrorReason;

/// The key of the extension in `extensions`.
pub const NAME: &str = "sign-in-with-x";
/// The header of the request, in lower case.
pub const HEADER: &str = "sign-in-with-x";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => { $(
        $(#[$doc])*
        pub const $name: ErrorReason = ErrorReason::defined($code);
    )* };
}

codes! {
    /// The code of another domain than the server's.
    DOMAIN_MISMATCH = "invalid_siwx_domain_mismatch";
    /// The code of a URL at another origin than the server's.
    URI_MISMATCH = "invalid_siwx_uri_mismatch";
    /// The code of a malformed `issuedAt`.
    ISSUED_AT = "invalid_siwx_issued_at";
    /// The code of a sign-in that is too old.
    ISSUED_TOO_OLD = "invalid_siwx_issued_at_too_old";
    /// The code of a sign-in of the future.
    ISSUED_IN_FUTURE = "invalid_siwx_issued_at_in_future";
    /// The code of a malformed `expirationTime`.
    EXPIRATION_TIME = "invalid_siwx_expiration_time";
    /// The code of a sign-in that has expired.
    EXPIRED = "invalid_siwx_expired";
    /// The code of a malformed `notBefore`.
    NOT_BEFORE = "invalid_siwx_not_before";
    /// The code of a sign-in that is not valid yet.
    NOT_YET_VALID = "invalid_siwx_not_yet_valid";
    /// The code of a nonce that this server did not make for the message, or that was used.
    NONCE = "invalid_siwx_nonce";
    /// The code of a signature that is not the account's.
    SIGNATURE = "invalid_siwx_signature";
    /// The code of a chain whose accounts do not sign in here.
    UNSUPPORTED_CHAIN = "invalid_siwx_unsupported_chain";
    /// The code of a signature or an account that cannot be read.
    MALFORMED_SIGNATURE = "invalid_siwx_malformed_signature";
    /// The code of a header that cannot be read; the published SDK has no code for it.
    MALFORMED = "invalid_siwx_header";
    /// The code of an account that has not paid for the resource, or whose time is over; the published SDK has none.
    NOT_ENTITLED = "invalid_siwx_not_entitled";
    /// The code of a verifier that failed. It is in logs alone: a fault is answered with 503.
    VERIFIER = "invalid_siwx_verifier_error";
}
