//! §7 Error Handling: the seven codes, and the envelope that carries them.

use crate::wire::wire;
use crate::{ErrorReason, Members, Rejection};

/// A row of [`Code::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeRow {
    /// The error code.
    pub code: Code,
    /// The HTTP status of a resource server's answer.
    pub status: u16,
    /// The text in column "Description" of §7.1.
    pub text: &'static str,
    /// The cases in which this implementation uses the code.
    pub when: &'static str,
}

macro_rules! codes {
    ($( $name:ident = $code:literal, $text:literal, $when:literal; )*) => {
        /// §7.1 Error Codes: a closed set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $( #[doc = concat!($text, ": ", $when, ".")] $name, )*
        }

        impl Code {
            /// Every code, with the HTTP status of a resource server's answer.
            pub const TABLE: &'static [CodeRow] = &[
                $( CodeRow { code: Self::$name, status: 402, text: $text, when: $when }, )*
            ];

            /// Returns the code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $code, )* }
            }
        }
    };
}

codes! {
    InvalidPayload = "INVALID_PAYLOAD", "The payment payload structure is invalid",
        "structure, version, scheme, no redeem key, unknown hash, mismatch with what was offered, spent nonce, more than was verified";
    InvalidSignature = "INVALID_SIGNATURE", "The EIP-712 signature verification failed",
        "the signature is not the account's, or a signed copy differs from `accepted`";
    InsufficientBalance = "INSUFFICIENT_BALANCE", "Client lacks balance and valid `order` permission",
        "fewer credits than needed, and no order key";
    InvalidUserOperation = "INVALID_USER_OPERATION", "UserOperation failed on-chain simulation",
        "a key does not permit its operation, or the operation would fail";
    ExpiredSessionKey = "EXPIRED_SESSION_KEY", "Session key has expired",
        "a key ends within 6 seconds, is not valid yet, or has no end";
    SettlementFailed = "SETTLEMENT_FAILED", "On-chain settlement transaction failed",
        "order or redemption failed for good";
    UnsupportedNetwork = "UNSUPPORTED_NETWORK", "The specified network is not supported",
        "not on the allow-list, or not CAIP-2";
}

impl Code {
    /// Returns the code as a reason on the wire: `invalidReason`, `errorReason`.
    #[must_use]
    pub const fn reason(self) -> ErrorReason {
        ErrorReason::defined(self.as_str())
    }

    /// Converts a reason to its code, if it is one of the seven.
    #[must_use]
    pub fn of(reason: &ErrorReason) -> Option<Self> {
        Self::TABLE.iter().map(|row| row.code).find(|code| code.as_str() == reason.as_str())
    }

    /// Returns the row of the table.
    #[must_use]
    pub fn row(self) -> Option<&'static CodeRow> {
        Self::TABLE.iter().find(|row| row.code == self)
    }

    /// Translates a reason of the scheme-independent parts into this scheme's codes. A reason without a counterpart
    /// among the seven (`duplicate_settlement`, `settlement_pending`, internal faults) is returned unchanged.
    #[must_use]
    pub fn translate(reason: ErrorReason) -> ErrorReason {
        const SHAPE: [ErrorReason; 5] = [
            ErrorReason::INVALID_PAYLOAD,
            ErrorReason::INVALID_PAYMENT_REQUIREMENTS,
            ErrorReason::INVALID_SCHEME,
            ErrorReason::UNSUPPORTED_SCHEME,
            ErrorReason::INVALID_X402_VERSION,
        ];
        if SHAPE.contains(&reason) {
            Self::InvalidPayload.reason()
        } else if reason == ErrorReason::INVALID_NETWORK {
            Self::UnsupportedNetwork.reason()
        } else {
            reason
        }
    }

    /// Creates a rejection with this code.
    #[must_use]
    pub fn because(self, message: impl Into<Box<str>>) -> Rejection {
        Rejection::new(self.reason()).because(message)
    }
}

wire! {
    /// §7.2: the object in `error`.
    pub struct ErrorBody {
        /// The code: one of the seven, or an x402 code if none of them fits.
        code: ErrorReason => "code" required;
        /// The description of the error, for people.
        message: String => "message" or String::new();
        /// Further data of the error: `clientAddress`, `requiredBalance`, `currentBalance`, `orderTx`, `nvmCode`.
        details: Members => "details" unless_empty;
    }
}

wire! {
    /// §7.2 Error Response Format.
    pub struct ErrorResponse {
        /// The error object.
        error: ErrorBody => "error" required;
    }
}

impl ErrorBody {
    /// Creates the response from a code and a message.
    #[must_use]
    pub fn new(code: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Members::new(), rest: Members::new() }
    }

    /// Adds details to the error.
    #[must_use]
    pub fn with(mut self, details: Members) -> Self {
        self.details = details;
        self
    }
}

impl From<&Rejection> for ErrorBody {
    fn from(rejection: &Rejection) -> Self {
        let text = || {
            let own = Code::of(&rejection.reason).and_then(Code::row).map(|row| row.text);
            own.or_else(|| rejection.reason.row().map(|row| row.text)).unwrap_or_default()
        };
        let message = rejection.message.as_deref().unwrap_or_else(text);
        Self::new(rejection.reason.clone(), message).with(rejection.details.clone())
    }
}
