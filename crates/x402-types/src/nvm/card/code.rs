//! Section "Error codes": a closed set of reasons.

use crate::{ErrorReason, Rejection};

macro_rules! codes {
    ($( $name:ident = $code:literal, $text:literal; )*) => {
        /// The codes of `invalidReason` and `errorReason` of this scheme.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CardCode {
            $( #[doc = concat!("The reason that ", $text, ".")] $name, )*
        }

        impl CardCode {
            /// The list of all codes.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Returns the code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $code, )* }
            }

            /// Returns the text of the code, for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }
        }
    };
}

codes! {
    InvalidPayload = "INVALID_PAYLOAD", "the payment cannot be read, or is not for what was offered";
    InvalidToken = "INVALID_TOKEN", "the token is not one of this facilitator's, or does not fit its delegation";
    ExpiredToken = "EXPIRED_TOKEN", "the token has expired";
    DelegationNotFound = "DELEGATION_NOT_FOUND", "the token's owner has no such delegation";
    DelegationInactive = "DELEGATION_INACTIVE", "the delegation is revoked, expired or exhausted, or its card was removed";
    InsufficientBalance = "INSUFFICIENT_BALANCE", "the credits are short, and the delegation's limit does not cover more";
    MintFailed = "MINT_FAILED", "the card was charged and the credits were refused";
    BurnFailed = "BURN_FAILED", "the credits could not be used; they stay the subscriber's";
    TransactionLimitReached = "TRANSACTION_LIMIT_REACHED", "the delegation has no charge left";
    PaymentFailed = "PAYMENT_FAILED", "the processor cannot make the charge";
    CardDeclined = "CARD_DECLINED", "the card was declined";
    CurrencyMismatch = "CURRENCY_MISMATCH", "the plan's currency is not the delegation's";
    MerchantAccountInvalid = "MERCHANT_ACCOUNT_INVALID", "the seller's account is not usable, or not the one that the delegation allows";
    BudgetExceeded = "BUDGET_EXCEEDED", "the delegation's limit is exceeded: a peer's older word for a short balance";
}

impl CardCode {
    /// Returns the code as a reason on the wire.
    #[must_use]
    pub const fn reason(self) -> ErrorReason {
        ErrorReason::defined(self.as_str())
    }

    /// Converts a reason to its code, if it is one of this scheme.
    #[must_use]
    pub fn of(reason: &ErrorReason) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == reason.as_str())
    }

    /// Creates a rejection with this code.
    #[must_use]
    pub fn because(self, message: impl Into<Box<str>>) -> Rejection {
        Rejection::new(self.reason()).because(message)
    }

    /// Translates a reason of the scheme-independent parts into this scheme's codes. A reason without a counterpart
    /// (`duplicate_settlement`, `settlement_pending`, internal faults) is returned unchanged.
    #[must_use]
    pub fn translate(reason: ErrorReason) -> ErrorReason {
        const SHAPE: [ErrorReason; 6] = [
            ErrorReason::INVALID_PAYLOAD,
            ErrorReason::INVALID_PAYMENT_REQUIREMENTS,
            ErrorReason::INVALID_SCHEME,
            ErrorReason::UNSUPPORTED_SCHEME,
            ErrorReason::INVALID_NETWORK,
            ErrorReason::INVALID_X402_VERSION,
        ];
        if SHAPE.contains(&reason) { Self::InvalidPayload.reason() } else { reason }
    }
}
