//! §3.3 Session Key Object and §3.4 Session Key Operations.

use core::fmt;

use const_hex as hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::wire;
use crate::{Malformed, Members, keccak256};

/// §3.4: the operation that a session key permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// "Executes a purchase operation (subscribe, buy credits, etc.). Used for auto top-up."
    Order,
    /// "Consumes access (deduct credits, mark subscription usage). Required for settlement." `burn` is the same
    /// operation.
    Redeem,
}

impl Operation {
    /// Returns the operation of a key's `id`; `None` for "additional operation identifiers", which are ignored.
    #[must_use]
    pub fn of(id: &str) -> Option<Self> {
        match id {
            "order" => Some(Self::Order),
            "redeem" | "burn" => Some(Self::Redeem),
            _ => None,
        }
    }
}

wire! {
    /// The session key as JSON has it.
    struct Wire {
        id: String => "id" required;
        data: Option<String> => "data" optional;
        hash: Option<String> => "hash" optional;
    }
}

/// A session key: its `id`, and the serialized key or its hash.
///
/// "Each session key object MUST contain an `id` field and either `data` OR `hash`". `data` is the base64 text of the
/// key; `0x` and 64 hex digits there are a hash, as in real payloads. If both are present, they must agree.
///
/// The text may hold a private key, so `Debug` omits it.
#[derive(Clone, PartialEq)]
pub struct SessionKey {
    wire: Wire,
    hash: [u8; 32],
    text: bool,
}

impl SessionKey {
    /// Creates a key from its serialized text.
    #[must_use]
    pub fn with_data(id: &str, data: &str) -> Self {
        let wire = Wire { id: id.to_owned(), data: Some(data.to_owned()), hash: None, rest: Members::new() };
        Self { wire, hash: keccak256(data.as_bytes()), text: true }
    }

    /// Creates a reference to a key that the facilitator already has, by the hash of its text.
    #[must_use]
    pub fn with_hash(id: &str, hash: impl Into<[u8; 32]>) -> Self {
        let hash = hash.into();
        let wire = Wire { id: id.to_owned(), data: None, hash: Some(hex::encode_prefixed(hash)), rest: Members::new() };
        Self { wire, hash, text: false }
    }

    /// Returns `id` as it was written: the signature covers this text.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.wire.id
    }

    /// Returns the operation that the key permits, if it is a known one.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        Operation::of(&self.wire.id)
    }

    /// Returns the keccak256 of the text as sent, or the 32 bytes of a hash: both forms have the same signature.
    #[must_use]
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Returns the base64 text of the key; `None` means that only its hash was sent, so that the text must be looked
    /// up.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        self.wire.data.as_deref().filter(|_| self.text)
    }
}

/// Parses `0x` and 64 hex digits.
pub(super) fn word(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64)?;
    hex::decode_to_array(digits).ok()
}

impl TryFrom<Wire> for SessionKey {
    type Error = Malformed;

    fn try_from(wire: Wire) -> Result<Self, Malformed> {
        if wire.id.is_empty() {
            return Err(Malformed::new("a session key with a non-empty `id`"));
        }
        let named = wire.hash.as_deref().map(|text| word(text).ok_or(Malformed::new("`hash`: `0x` and 64 hex digits")));
        let named = named.transpose()?;
        let (hash, text) = match (wire.data.as_deref(), named) {
            (None, None) => return Err(Malformed::new("a session key with `data` or `hash`")),
            (None, Some(hash)) => (hash, false),
            (Some(""), _) => return Err(Malformed::new("`data`: the base64 text of a session key")),
            (Some(data), named) => {
                let (hash, text) = word(data).map_or_else(|| (keccak256(data.as_bytes()), true), |hash| (hash, false));
                if named.is_some_and(|named| named != hash) {
                    return Err(Malformed::new("`hash` to be the keccak256 of `data`"));
                }
                (hash, text)
            }
        };
        Ok(Self { wire, hash, text })
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Wire::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey")
            .field("id", &self.wire.id)
            .field("hash", &hex::encode_prefixed(self.hash))
            .finish_non_exhaustive()
    }
}
