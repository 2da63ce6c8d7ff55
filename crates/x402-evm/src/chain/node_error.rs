//! The refusals of nodes: one table of their messages, sorted into kinds.
//!
//! JSON-RPC has no codes for these that nodes agree on, so the message decides, and the code only if the message is
//! inconclusive. The tests below contain the messages of real nodes.

use alloy_transport::{TransportError, TransportErrorKind};
use x402_types::{Fault, NotTaken};

/// The kind of an error that a node, or the connection to it, returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeError {
    /// The node already has this exact transaction.
    AlreadyKnown,
    /// A transaction with this nonce is already in a block.
    NonceUsed,
    /// The nonce is ahead of the account's.
    NonceTooHigh,
    /// The fee is below the base fee or the node's own minimum, or too low to replace the transaction in the pool.
    FeeTooLow,
    /// The gas limit is below what the transaction needs before it executes anything.
    GasLimitTooLow,
    /// The account cannot pay for the gas.
    NoGasFunds,
    /// The call reverted: a result of the contract.
    Reverted,
    /// The query covers more blocks or matches more logs than the node returns at once.
    TooMuch,
    /// The node no longer has the state of the block, or the block is not on its chain.
    StateGone,
    /// The node does not have the block yet: it lags behind another node.
    BlockUnknown,
    /// A temporary failure: a rate limit, a gateway without its node, a broken connection.
    MayPass,
    /// Any other error.
    Unusable,
}

/// Messages in lower case, and their kinds. The first match decides.
const WORDS: &[(&str, NodeError)] = &[
    ("execution reverted", NodeError::Reverted),
    ("vm exception while processing transaction: rever", NodeError::Reverted),
    // The type of the transaction is not supported; this must not match "known transaction".
    ("unknown transaction", NodeError::Unusable),
    ("already known", NodeError::AlreadyKnown),
    ("alreadyknown", NodeError::AlreadyKnown),
    ("known transaction", NodeError::AlreadyKnown),
    ("already imported", NodeError::AlreadyKnown),
    ("already in mempool", NodeError::AlreadyKnown),
    ("already exists in cache", NodeError::AlreadyKnown),
    ("existing tx with same hash", NodeError::AlreadyKnown),
    ("nonce too low", NodeError::NonceUsed),
    ("nonce is too low", NodeError::NonceUsed),
    ("oldnonce", NodeError::NonceUsed),
    ("nonce below current nonce", NodeError::NonceUsed),
    ("nonce too high", NodeError::NonceTooHigh),
    ("nonce is too high", NodeError::NonceTooHigh),
    ("nonce too distant", NodeError::NonceTooHigh),
    ("noncegap", NodeError::NonceTooHigh),
    ("nonce gap", NodeError::NonceTooHigh),
    ("underpriced", NodeError::FeeTooLow),
    ("less than block base fee", NodeError::FeeTooLow),
    ("feetoolow", NodeError::FeeTooLow),
    ("fee too low", NodeError::FeeTooLow),
    ("is too low for the next block", NodeError::FeeTooLow),
    ("gas price below", NodeError::FeeTooLow),
    ("gas price too low", NodeError::FeeTooLow),
    ("gas price is too low", NodeError::FeeTooLow),
    ("below the minimum", NodeError::FeeTooLow),
    ("below minimum", NodeError::FeeTooLow),
    ("replacementnotallowed", NodeError::FeeTooLow),
    ("intrinsic gas", NodeError::GasLimitTooLow),
    ("intrinsicgas", NodeError::GasLimitTooLow),
    ("insufficient gas for floor data gas cost", NodeError::GasLimitTooLow),
    ("insufficient funds", NodeError::NoGasFunds),
    ("insufficientfunds", NodeError::NoGasFunds),
    ("enough funds to send tx", NodeError::NoGasFunds),
    ("insufficient balance", NodeError::NoGasFunds),
    ("exceeds account balance", NodeError::NoGasFunds),
    ("missing trie node", NodeError::StateGone),
    ("state not available", NodeError::StateGone),
    ("is not available, not found", NodeError::StateGone),
    ("historical state", NodeError::StateGone),
    ("state recreation", NodeError::StateGone),
    ("world state unavailable", NodeError::StateGone),
    ("maximum proof window", NodeError::StateGone),
    ("pruned", NodeError::StateGone),
    ("not currently canonical", NodeError::StateGone),
    ("header not found", NodeError::BlockUnknown),
    ("header for hash not found", NodeError::BlockUnknown),
    ("block not found", NodeError::BlockUnknown),
    ("unknown block", NodeError::BlockUnknown),
    ("could not find block", NodeError::BlockUnknown),
    ("beyond current head", NodeError::BlockUnknown),
    ("rate limit", NodeError::MayPass),
    ("request limit", NodeError::MayPass),
    ("requests per second", NodeError::MayPass),
    ("too many requests", NodeError::MayPass),
    ("capacity exceeded", NodeError::MayPass),
    ("compute units", NodeError::MayPass),
    ("throughput", NodeError::MayPass),
    ("try again", NodeError::MayPass),
    ("please retry", NodeError::MayPass),
    ("temporarily unavailable", NodeError::MayPass),
    ("more than", NodeError::TooMuch),
    ("too many", NodeError::TooMuch),
    ("too large", NodeError::TooMuch),
    ("block range", NodeError::TooMuch),
    ("limit exceeded", NodeError::TooMuch),
    ("response size", NodeError::TooMuch),
];

/// The maximum number of displayed characters of a node's message, which may be of any length.
const SHOWN: usize = 300;

impl NodeError {
    /// Returns the kind of an error.
    #[must_use]
    pub fn of(error: &TransportError) -> Self {
        match error {
            TransportError::ErrorResp(refusal) => Self::of_response(refusal.code, &refusal.message),
            TransportError::Transport(way) => match way.as_http_error() {
                Some(http) if matches!(http.status, 408 | 429 | 500 | 502..=504 | 520..=530) => Self::MayPass,
                Some(http) if http.status == 413 => Self::TooMuch,
                Some(_) => Self::Unusable,
                None if matches!(way, TransportErrorKind::NonRetryable(_)) => Self::Unusable,
                None => Self::MayPass,
            },
            _ => Self::Unusable,
        }
    }

    /// Returns the kind of a JSON-RPC error.
    #[must_use]
    pub fn of_response(code: i64, message: &str) -> Self {
        if code == 3 {
            return Self::Reverted;
        }
        let words: String = message.chars().take(SHOWN).collect::<String>().to_ascii_lowercase();
        let found = WORDS.iter().find(|(known, _)| words.contains(known)).map(|(_, kind)| *kind);
        match (found, code) {
            (Some(kind), _) => kind,
            (None, 429 | -32005) => Self::MayPass,
            (None, _) => Self::Unusable,
        }
    }

    /// Converts to the fault of a transaction that was to be sent. Only for these is the reason in the message trusted:
    /// the message of a call may be a contract's own.
    pub(crate) fn of_sending(self, error: TransportError) -> Fault {
        let why = match self {
            Self::NoGasFunds => NotTaken::NoGasFunds,
            Self::FeeTooLow => NotTaken::FeeTooLow,
            Self::GasLimitTooLow => NotTaken::GasLimitTooLow,
            Self::NonceTooHigh => NotTaken::NonceTooHigh,
            _ => return node_fault(error),
        };
        Fault::NotTaken { service: "the node", why, detail: shown(&error).into() }
    }

    /// Returns the prefix for the node's own message if the message alone does not show which side must act.
    const fn label(self) -> &'static str {
        match self {
            Self::MayPass => "it may pass: ",
            Self::TooMuch => "too much at once: ",
            Self::StateGone => "it does not have the state of that block any more: ",
            Self::BlockUnknown => "it does not have that block yet: ",
            _ => "",
        }
    }
}

/// Makes a fault of an error of the node or the connection. reqwest's messages end with the URL, which may contain a
/// key and is left out.
#[must_use]
pub fn node_fault(error: TransportError) -> Fault {
    let kind = NodeError::of(&error);
    Fault::unreachable("the node", format_args!("{}{}", kind.label(), shown(&error)))
}

fn shown(error: &TransportError) -> String {
    let text = error.to_string();
    text.split(" for url (").next().unwrap_or_default().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the nodes' sources and the reports of their users have them.
    #[test]
    fn every_node_s_words_are_of_the_right_kind() {
        let rows: &[(i64, &str, NodeError)] = &[
            // geth, reth, op-geth, arbitrum nitro.
            (-32000, "already known", NodeError::AlreadyKnown),
            (-32000, "nonce too low: next nonce 5, tx nonce 4", NodeError::NonceUsed),
            (-32000, "nonce too high", NodeError::NonceTooHigh),
            (-32000, "replacement transaction underpriced", NodeError::FeeTooLow),
            (-32000, "transaction underpriced: gas tip cap 1, minimum needed 1000000", NodeError::FeeTooLow),
            (-32000, "max fee per gas less than block base fee: address 0x00", NodeError::FeeTooLow),
            (-32000, "insufficient funds for gas * price + value: balance 0, tx cost 1", NodeError::NoGasFunds),
            (-32000, "intrinsic gas too low: gas 150000, minimum needed 180000", NodeError::GasLimitTooLow),
            (-32000, "intrinsic gas too low", NodeError::GasLimitTooLow),
            (-32000, "insufficient gas for floor data gas cost: have 1, want 2", NodeError::GasLimitTooLow),
            (-32000, "missing trie node 0a (path ) state 0x0a is not available, not found", NodeError::StateGone),
            (-32000, "header not found", NodeError::BlockUnknown),
            (-32000, "header for hash not found", NodeError::BlockUnknown),
            (-32000, "hash 0x12 is not currently canonical", NodeError::StateGone),
            // anvil.
            (-32003, "max fee per gas less than block base fee", NodeError::FeeTooLow),
            (-32003, "Insufficient funds for gas * price + value", NodeError::NoGasFunds),
            (-32003, "transaction already imported", NodeError::AlreadyKnown),
            (-32003, "nonce too low", NodeError::NonceUsed),
            (-32003, "intrinsic gas too low", NodeError::GasLimitTooLow),
            // hardhat.
            (-32000, "Known transaction: 0xabc", NodeError::AlreadyKnown),
            (-32000, "Nonce too low. Expected nonce to be 5 but got 4.", NodeError::NonceUsed),
            (-32000, "Nonce too high. Expected nonce to be 5 but got 6.", NodeError::NonceTooHigh),
            (
                -32000,
                "Transaction maxFeePerGas (1) is too low for the next block, which has a baseFeePerGas of 2",
                NodeError::FeeTooLow,
            ),
            (-32000, "Sender doesn't have enough funds to send tx. The max upfront cost is: 1", NodeError::NoGasFunds),
            (
                -32603,
                "VM Exception while processing transaction: reverted with reason 'nonce too low'",
                NodeError::Reverted,
            ),
            // ganache.
            (-32003, "transaction underpriced", NodeError::FeeTooLow),
            (-32003, "insufficient funds for gas * price + value", NodeError::NoGasFunds),
            // Nethermind, Besu, Erigon.
            (-32010, "AlreadyKnown", NodeError::AlreadyKnown),
            (-32010, "OldNonce, Current nonce: 5, nonce of rejected tx: 4", NodeError::NonceUsed),
            (-32010, "FeeTooLow, EffectivePriorityFeePerGas too low 1 < 2", NodeError::FeeTooLow),
            (-32010, "InsufficientFunds, Account balance: 0, cumulative cost: 1", NodeError::NoGasFunds),
            (-32000, "Known transaction", NodeError::AlreadyKnown),
            (-32001, "Nonce too low", NodeError::NonceUsed),
            (-32004, "Upfront cost exceeds account balance", NodeError::NoGasFunds),
            (-32003, "Intrinsic gas exceeds gas limit", NodeError::GasLimitTooLow),
            (-32009, "Gas price below configured minimum gas price", NodeError::FeeTooLow),
            (-32000, "World state unavailable", NodeError::StateGone),
            (-32000, "existing tx with same hash", NodeError::AlreadyKnown),
            // Hosted nodes.
            (429, "Your app has exceeded its compute units per second capacity.", NodeError::MayPass),
            (429, "no words that say so", NodeError::MayPass),
            (-32005, "daily request count exceeded, request rate limited", NodeError::MayPass),
            (-32007, "50/second request limit reached", NodeError::MayPass),
            (-32005, "query returned more than 10000 results", NodeError::TooMuch),
            (-32600, "Under the free tier, eth_getLogs requests may have up to a 10 block range.", NodeError::TooMuch),
            (-32602, "eth_getLogs is limited to a 10,000 range", NodeError::Unusable),
            // Neither known nor anything else.
            (-32000, "unknown transaction type: 4", NodeError::Unusable),
            (-32601, "the method eth_x does not exist/is not available", NodeError::Unusable),
            (-32603, "internal", NodeError::Unusable),
            // A contract's own words prove nothing.
            (3, "execution reverted: insufficient funds", NodeError::Reverted),
            (-32000, "execution reverted: already known", NodeError::Reverted),
        ];
        for (code, message, kind) in rows {
            assert_eq!(NodeError::of_response(*code, message), *kind, "{code} {message}");
        }
    }

    #[test]
    fn what_broke_on_the_way_may_pass() {
        let http = |status| NodeError::of(&TransportErrorKind::http_error(status, String::new()));
        for status in [429, 502, 503, 504] {
            assert_eq!(http(status), NodeError::MayPass, "{status}");
        }
        assert_eq!((http(401), http(404), http(413)), (NodeError::Unusable, NodeError::Unusable, NodeError::TooMuch));
        assert_eq!(NodeError::of(&TransportErrorKind::backend_gone()), NodeError::MayPass);
        assert_eq!(NodeError::of(&TransportErrorKind::custom_str("connection reset")), NodeError::MayPass);
    }

    #[test]
    fn a_fault_names_its_kind_and_is_short() {
        let refused = |message: &str| {
            TransportError::err_resp(alloy_json_rpc::ErrorPayload {
                code: -32003,
                message: message.to_owned().into(),
                data: None,
            })
        };
        let sending = |message| {
            let error = refused(message);
            NodeError::of(&error).of_sending(error)
        };
        let poor = sending("Insufficient funds for gas * price + value");
        assert!(matches!(poor, Fault::NotTaken { why: NotTaken::NoGasFunds, .. }), "{poor:?}");
        let cheap = sending("max fee per gas less than block base fee");
        assert!(matches!(cheap, Fault::NotTaken { why: NotTaken::FeeTooLow, .. }), "{cheap:?}");
        assert!(
            cheap.to_string().starts_with("the node does not take the transaction, its fee is too low: "),
            "{cheap}"
        );
        let long = node_fault(refused(&"x".repeat(10_000_000))).to_string();
        assert!(long.len() < 400, "{}", long.len());
    }
}
