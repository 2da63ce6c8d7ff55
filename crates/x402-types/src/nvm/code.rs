//! §7 Error Handling: the seven codes, and the envelope they stand in.

use crate::wire::wire;
use crate::{ErrorReason, Members, Rejection};

/// A row of [`Code::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeRow {
    /// The code.
    pub code: Code,
    /// The status that a resource server answers with.
    pub status: u16,
    /// §7.1 Description.
    pub text: &'static str,
    /// When it is given here.
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
            /// Every code, with the status that a resource server answers with.
            pub const TABLE: &'static [CodeRow] = &[
                $( CodeRow { code: Self::$name, status: 402, text: $text, when: $when }, )*
            ];

            /// The code as it stands on the wire.
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
    /// The code as a reason on the wire: `invalidReason`, `errorReason`.
    #[must_use]
    pub const fn reason(self) -> ErrorReason {
        ErrorReason::defined(self.as_str())
    }

    /// The code of a reason, if it is one of the seven.
    #[must_use]
    pub fn of(reason: &ErrorReason) -> Option<Self> {
        Self::TABLE.iter().map(|row| row.code).find(|code| code.as_str() == reason.as_str())
    }

    /// The row of the table.
    #[must_use]
    pub fn row(self) -> Option<&'static CodeRow> {
        Self::TABLE.iter().find(|row| row.code == self)
    }

    /// What the parts that serve every scheme call a fault, in this scheme's codes. What has no code among the seven
    /// (`duplicate_settlement`, `settlement_pending`, faults of ours) keeps its own.
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

    /// A refusal with this code.
    #[must_use]
    pub fn because(self, message: impl Into<Box<str>>) -> Rejection {
        Rejection::new(self.reason()).because(message)
    }
}

wire! {
    /// §7.2: what stands in `error`.
    pub struct ErrorBody {
        /// The code: one of the seven, or an x402 code where none of them fits.
        code: ErrorReason => "code" required;
        /// What happened, for people.
        message: String => "message" or String::new();
        /// What the code adds: `clientAddress`, `requiredBalance`, `currentBalance`, `orderTx`, `nvmCode`.
        details: Members => "details" unless_empty;
    }
}

wire! {
    /// §7.2 Error Response Format.
    pub struct ErrorResponse {
        /// The error.
        error: ErrorBody => "error" required;
    }
}

impl ErrorBody {
    /// An error.
    #[must_use]
    pub fn new(code: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Members::new(), rest: Members::new() }
    }

    /// With details.
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
