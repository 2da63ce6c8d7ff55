//! The `proof` member of a payment: evidence that the payment was made.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::wire;
use crate::{Malformed, RawJson};

/// `proof.type`. The set is closed, so that an unknown type is refused before anything is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProofKind {
    /// A facilitator's ticket.
    Facilitator,
    /// A transaction on the chain.
    Onchain,
    /// An EIP-3009 authorization.
    Exact,
    /// A BOLT11 invoice and its preimage.
    Lightning,
    /// A mock proof, for development only.
    Mock,
}

impl ProofKind {
    /// Every kind of proof.
    pub const ALL: &'static [Self] = &[Self::Facilitator, Self::Onchain, Self::Exact, Self::Lightning, Self::Mock];
    const EXPECTED: &'static str = "`facilitator`, `onchain`, `exact`, `lightning` or `mock`";

    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Facilitator => "facilitator",
            Self::Onchain => "onchain",
            Self::Exact => "exact",
            Self::Lightning => "lightning",
            Self::Mock => "mock",
        }
    }
}

impl FromStr for ProofKind {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.iter().copied().find(|kind| kind.as_str() == s);
        found.ok_or(Malformed::new(Self::EXPECTED))
    }
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ProofKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProofKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

wire! {
    /// A proof. It holds the members of its own [`kind`](Proof::kind); the others are absent.
    pub struct Proof {
        /// The kind of proof.
        kind: ProofKind => "type" required;
        /// `facilitator`: the ticket that it issued.
        ticket: Option<Box<str>> => "ticket" optional;
        /// `facilitator`: the URL where, according to the client, the ticket can be verified. The server never calls
        /// it.
        verify_url: Option<Box<str>> => "verifyUrl" optional;
        /// `facilitator`: the URL where, according to the client, the ticket can be settled. The server never calls it.
        settle_url: Option<Box<str>> => "settleUrl" optional;
        /// `onchain`: the hash of the transaction.
        tx_hash: Option<Box<str>> => "txHash" optional;
        /// `onchain`: the block that holds the transaction, according to the client.
        block_number: Option<u64> => "blockNumber" optional;
        /// `exact`: the scheme's payload, an object.
        payload: Option<RawJson> => "payload" optional;
        /// `lightning`: the BOLT11 invoice.
        invoice: Option<Box<str>> => "invoice" optional;
        /// `lightning`: the preimage of its payment hash, in hex.
        preimage: Option<Box<str>> => "preimage" optional;
        /// `mock`: the text that the mock wallet generates.
        signature: Option<Box<str>> => "signature" optional;
    }
}

impl Proof {
    /// Creates a proof of this kind without members.
    #[must_use]
    pub const fn new(kind: ProofKind) -> Self {
        Self {
            kind,
            ticket: None,
            verify_url: None,
            settle_url: None,
            tx_hash: None,
            block_number: None,
            payload: None,
            invoice: None,
            preimage: None,
            signature: None,
            rest: crate::Members::new(),
        }
    }

    /// Checks that the members of the proof's kind are present and well-formed.
    ///
    /// # Errors
    /// The name of the member that is missing or malformed, and its expected form.
    pub fn complete(&self) -> Result<(), (&'static str, Malformed)> {
        const TEXT: Malformed = Malformed::new("a string of 1 character or more, without controls");
        let text = |name, value: &Option<Box<str>>| match value {
            Some(text) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(()),
            _ => Err((name, TEXT)),
        };
        let hash = |name, value: &Option<Box<str>>, prefix| {
            let digits = value.as_deref().and_then(|text| text.strip_prefix(prefix)).unwrap_or_default();
            let fits = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if fits { Ok(()) } else { Err((name, Malformed::new("32 bytes in hex"))) }
        };
        match self.kind {
            ProofKind::Facilitator => text("ticket", &self.ticket),
            ProofKind::Onchain => hash("txHash", &self.tx_hash, "0x"),
            ProofKind::Exact => match &self.payload {
                Some(payload) if payload.as_str().starts_with('{') => Ok(()),
                _ => Err(("payload", Malformed::new("a JSON object"))),
            },
            ProofKind::Lightning => text("invoice", &self.invoice).and_then(|()| hash("preimage", &self.preimage, "")),
            ProofKind::Mock => text("signature", &self.signature),
        }
    }
}
