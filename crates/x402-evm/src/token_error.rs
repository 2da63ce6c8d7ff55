//! The errors of tokens: the custom errors of OpenZeppelin, Paxos and Agora, and the messages of FiatToken.

use alloy_primitives::{B256, Bytes, U256, hex};
use alloy_sol_types::{SolError, sol};
use x402_types::ErrorReason;

use crate::chain::Returned;

sol! {
    // OpenZeppelin contracts 5.7.0: ERC3009, NoncesKeyed, ERC-6093, Pausable; ERC20Blocklist and ERC20Restricted of its
    // community contracts.
    error ERC3009InvalidSignature();
    error ERC3009InvalidAuthorizationTime(uint256 validAfter, uint256 validBefore);
    error ERC3009UsedAuthorization(address authorizer, bytes32 nonce);
    error InvalidAccountNonce(address account, uint256 currentNonce);
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    error ERC20InvalidSender(address sender);
    error ERC20InvalidReceiver(address receiver);
    error EnforcedPause();
    error ERC20Blocked(address user);
    error ERC20UserRestricted(address account);
    // Paxos: EIP3009, PaxosBaseAbstract, PaxosTokenV2.
    error AuthorizationInvalid();
    error AuthorizationExpired();
    error BlockedAccountAuthorizer();
    error AddressFrozen();
    error ContractPaused();
    error InsufficientFunds();
    error InvalidSignature();
    // Agora: Erc20Core.
    error AccountIsFrozen(address frozenAccount);
    error TransferPaused();
    error SignatureVerificationPaused();
}

/// The meaning of an error for a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Blocked,
    Funds,
    Used,
    Signature,
    Nonce,
    Time,
    Other,
}

/// The selectors, names and meanings of errors.
const TABLE: &[([u8; 4], &str, Meaning)] = &[
    (ERC3009InvalidSignature::SELECTOR, ERC3009InvalidSignature::SIGNATURE, Meaning::Signature),
    (ERC3009InvalidAuthorizationTime::SELECTOR, ERC3009InvalidAuthorizationTime::SIGNATURE, Meaning::Time),
    (ERC3009UsedAuthorization::SELECTOR, ERC3009UsedAuthorization::SIGNATURE, Meaning::Used),
    (InvalidAccountNonce::SELECTOR, InvalidAccountNonce::SIGNATURE, Meaning::Nonce),
    (ERC20InsufficientBalance::SELECTOR, ERC20InsufficientBalance::SIGNATURE, Meaning::Funds),
    // OpenZeppelin's own code uses these only for the zero address; tokens built from it use them for blocked accounts.
    (ERC20InvalidSender::SELECTOR, ERC20InvalidSender::SIGNATURE, Meaning::Blocked),
    (ERC20InvalidReceiver::SELECTOR, ERC20InvalidReceiver::SIGNATURE, Meaning::Blocked),
    (EnforcedPause::SELECTOR, EnforcedPause::SIGNATURE, Meaning::Other),
    (ERC20Blocked::SELECTOR, ERC20Blocked::SIGNATURE, Meaning::Blocked),
    (ERC20UserRestricted::SELECTOR, ERC20UserRestricted::SIGNATURE, Meaning::Blocked),
    (AuthorizationInvalid::SELECTOR, AuthorizationInvalid::SIGNATURE, Meaning::Time),
    (AuthorizationExpired::SELECTOR, AuthorizationExpired::SIGNATURE, Meaning::Time),
    (BlockedAccountAuthorizer::SELECTOR, BlockedAccountAuthorizer::SIGNATURE, Meaning::Blocked),
    (AddressFrozen::SELECTOR, AddressFrozen::SIGNATURE, Meaning::Blocked),
    (ContractPaused::SELECTOR, ContractPaused::SIGNATURE, Meaning::Other),
    (InsufficientFunds::SELECTOR, InsufficientFunds::SIGNATURE, Meaning::Funds),
    (InvalidSignature::SELECTOR, InvalidSignature::SIGNATURE, Meaning::Signature),
    (AccountIsFrozen::SELECTOR, AccountIsFrozen::SIGNATURE, Meaning::Blocked),
    (TransferPaused::SELECTOR, TransferPaused::SIGNATURE, Meaning::Other),
    (SignatureVerificationPaused::SELECTOR, SignatureVerificationPaused::SIGNATURE, Meaning::Other),
];

/// Words in the messages of tokens that block by `require`: FiatToken, Tether, bridged tokens.
const BLOCKED: &[&str] = &["blacklist", "blocklist", "blocked", "frozen", "sanction"];
/// The maximum number of displayed characters of a token's own message.
const SHOWN: usize = 200;

/// A transfer that a token refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRefusal {
    /// The code, if the token reveals more than that the transfer would revert.
    pub(crate) reason: Option<ErrorReason>,
    /// The description for people.
    pub(crate) text: String,
}

impl TokenRefusal {
    /// Interprets the revert data of `transferWithAuthorization` under this nonce.
    pub(crate) fn read(answer: &Returned, nonce: B256) -> Self {
        if let Some(message) = answer.revert_reason() {
            let lower = message.to_ascii_lowercase();
            let blocked = BLOCKED.iter().any(|word| lower.contains(word));
            let text = message.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            return Self { reason: blocked.then_some(ErrorReason::PAYER_BLOCKED), text };
        }
        let would = "the transfer would revert";
        let Some(selector) = answer.data.first_chunk::<4>() else {
            return Self { reason: None, text: would.to_owned() };
        };
        let Some((_, name, meaning)) = TABLE.iter().find(|(known, ..)| known == selector) else {
            let text = format!("{would} with the unknown error {}", hex::encode_prefixed(selector));
            return Self { reason: None, text };
        };
        let reason = match meaning {
            Meaning::Blocked => Some(ErrorReason::PAYER_BLOCKED),
            Meaning::Funds => Some(ErrorReason::INSUFFICIENT_FUNDS),
            Meaning::Used => Some(ErrorReason::NONCE_ALREADY_USED),
            Meaning::Signature => Some(ErrorReason::INVALID_SIGNATURE),
            Meaning::Nonce | Meaning::Time | Meaning::Other => None,
        };
        let text = match meaning {
            Meaning::Nonce => keyed(&answer.data, nonce),
            _ => format!("{would} with {name}"),
        };
        Self { reason, text }
    }
}

/// Interprets a nonce of OpenZeppelin's `NoncesKeyed`.
fn keyed(data: &Bytes, nonce: B256) -> String {
    let next = InvalidAccountNonce::abi_decode(data).map(|error| error.currentNonce & U256::from(u64::MAX));
    let next = next.map_or_else(|_| "the next of its key".to_owned(), |next| next.to_string());
    let (_, counter) = nonce.split_at(24);
    format!(
        "the token reads the nonce as a key of 24 bytes and a counter of 8, and the counter 0x{} must be {next}: draw 24 \
         random bytes and put 8 zero bytes behind them",
        hex::encode(counter)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, keccak256};

    fn refused(data: Vec<u8>) -> TokenRefusal {
        TokenRefusal::read(&Returned { success: false, data: data.into() }, B256::repeat_byte(7))
    }

    #[test]
    fn a_blocked_payer_is_one_with_every_family() {
        let account = Address::repeat_byte(3);
        for data in [
            AddressFrozen {}.abi_encode(),
            BlockedAccountAuthorizer {}.abi_encode(),
            AccountIsFrozen { frozenAccount: account }.abi_encode(),
            ERC20InvalidSender { sender: account }.abi_encode(),
            ERC20Blocked { user: account }.abi_encode(),
            alloy_sol_types::Revert::from("Blacklistable: account is blacklisted").abi_encode(),
            alloy_sol_types::Revert::from("Tether: to is Blocked").abi_encode(),
        ] {
            assert_eq!(refused(data.clone()).reason, Some(ErrorReason::PAYER_BLOCKED), "{}", hex::encode(data));
        }
        assert_eq!(refused(ContractPaused {}.abi_encode()).reason, None);
    }

    #[test]
    fn what_is_unknown_is_shown() {
        assert_eq!(
            refused(hex!("deadbeef0000").to_vec()).text,
            "the transfer would revert with the unknown error 0xdeadbeef"
        );
        assert_eq!(refused(Vec::new()).text, "the transfer would revert");
        assert_eq!(refused(TransferPaused {}.abi_encode()).text, "the transfer would revert with TransferPaused()");
        let nonce = InvalidAccountNonce { account: Address::ZERO, currentNonce: U256::from(5) << 64 };
        let refused = refused(nonce.abi_encode());
        assert!(refused.text.contains("counter 0x0707070707070707 must be 0"), "{}", refused.text);
        assert_eq!(refused.reason, None);
    }

    /// Checks the selectors against those that block explorers show.
    #[test]
    fn selectors_are_the_hashes_of_their_signatures() {
        for (selector, signature, _) in TABLE {
            assert_eq!(&keccak256(signature)[..4], selector, "{signature}");
        }
        assert_eq!(ERC20InsufficientBalance::SELECTOR, hex!("e450d38c"));
        assert_eq!(InvalidAccountNonce::SELECTOR, hex!("752d88c0"));
        assert_eq!(EnforcedPause::SELECTOR, hex!("d93c0665"));
    }
}
