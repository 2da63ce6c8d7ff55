//! The errors of Permit2 and the proxies: `PermitErrors.sol` and `SignatureVerification.sol` of
//! [Permit2](https://github.com/Uniswap/permit2), and the contracts of x402.

use alloy_sol_types::{SolError, sol};
use x402_types::ErrorReason;

sol! {
    // The proxies.
    error InvalidPermit2Address();
    error InvalidDestination();
    error InvalidOwner();
    error InvalidAmount();
    error PaymentTooEarly();
    error Permit2612AmountMismatch();
    error ReentrancyGuardReentrantCall();
    error AmountExceedsPermitted();
    error UnauthorizedFacilitator();
    // Permit2.
    error InvalidNonce();
    error SignatureExpired(uint256 signatureDeadline);
    error InvalidSignature();
    error InvalidSignatureLength();
    error InvalidSigner();
    error InvalidContractSignature();
}

/// An error of Permit2 or a proxy, with its meaning for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContractError {
    /// The signature of the error: name and parameter types.
    pub name: &'static str,
    /// The code that a payment is refused with.
    pub reason: ErrorReason,
}

/// The selectors, names and codes.
const TABLE: &[([u8; 4], &str, ErrorReason)] = &[
    row::<InvalidPermit2Address>(ErrorReason::PERMIT2_PROXY_NOT_DEPLOYED),
    row::<InvalidDestination>(ErrorReason::PERMIT2_INVALID_DESTINATION),
    row::<InvalidOwner>(ErrorReason::PERMIT2_INVALID_OWNER),
    row::<InvalidAmount>(ErrorReason::PERMIT2_INVALID_AMOUNT),
    row::<PaymentTooEarly>(ErrorReason::PERMIT2_PAYMENT_TOO_EARLY),
    row::<Permit2612AmountMismatch>(ErrorReason::PERMIT2_2612_AMOUNT_MISMATCH),
    row::<ReentrancyGuardReentrantCall>(ErrorReason::PERMIT2_SIMULATION_FAILED),
    row::<AmountExceedsPermitted>(ErrorReason::UPTO_AMOUNT_EXCEEDS_PERMITTED),
    row::<UnauthorizedFacilitator>(ErrorReason::UPTO_UNAUTHORIZED_FACILITATOR),
    row::<InvalidNonce>(ErrorReason::PERMIT2_INVALID_NONCE),
    row::<SignatureExpired>(ErrorReason::PERMIT2_DEADLINE_EXPIRED),
    row::<InvalidSignature>(ErrorReason::INVALID_PERMIT2_SIGNATURE),
    row::<InvalidSignatureLength>(ErrorReason::INVALID_PERMIT2_SIGNATURE),
    row::<InvalidSigner>(ErrorReason::INVALID_PERMIT2_SIGNATURE),
    row::<InvalidContractSignature>(ErrorReason::INVALID_PERMIT2_SIGNATURE),
];

const fn row<E: SolError>(reason: ErrorReason) -> ([u8; 4], &'static str, ErrorReason) {
    (E::SELECTOR, E::SIGNATURE, reason)
}

impl ContractError {
    /// Reads the data of a revert; `None` if it begins with no error of these contracts.
    #[must_use]
    pub fn read(revert: &[u8]) -> Option<Self> {
        let selector = revert.first_chunk::<4>()?;
        let (_, name, reason) = TABLE.iter().find(|(known, ..)| known == selector)?;
        Some(Self { name, reason: reason.clone() })
    }
}
