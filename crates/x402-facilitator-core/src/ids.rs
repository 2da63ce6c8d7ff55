//! Identifiers in rows.

use core::fmt;
use std::borrow::Cow;

use x402_types::ChainId;

use crate::bytes;

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_id! {
    /// A sequence of transactions: an account on a network, a bundler, a card processor.
    ///
    /// The text is the network, a slash and the account, for example
    /// `eip155:84532/0x90f79bf6eb2c4f870365e785982e1f101e93b906`.
    LaneId
}
text_id! {
    /// The far side's identifier of a transaction: on EVM networks the transaction hash, `0x` and lower case; at a
    /// bundler the hash of the operation; at a processor its own id.
    TxId
}
text_id! {
    /// One start of one process. A process that is restarted is another owner.
    OwnerId
}

impl LaneId {
    /// Creates the lane of an account on a network.
    #[must_use]
    pub fn new(network: ChainId, account: &str) -> Self {
        Self(format!("{network}/{account}").into())
    }

    /// Returns the network, if the text begins with one.
    #[must_use]
    pub fn network(&self) -> Option<ChainId> {
        self.0.split_once('/')?.0.parse().ok()
    }

    /// Returns the account: the part after the slash.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, account)| account)
    }
}

/// Lane and account nonce. On a lane without nonces, the number is a running number of this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// The lane of the slot.
    pub lane: LaneId,
    /// The account nonce.
    pub nonce: u64,
}

/// One request that is being answered, see [`crate::InFlightRequest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The process that answers the request.
    pub owner: OwnerId,
    /// The number of the request within that process.
    pub number: u64,
}

/// The name of a step's action: `transfer`, `order`, `redeem`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName(Cow<'static, str>);

impl StepName {
    /// Creates a name that a mechanism defines.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for StepName {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The value that lets a step happen only once on the far side, in canonical bytes of its mechanism: (network, token,
/// payer, nonce), (network, entry point, sender, key, seq), a processor's idempotency key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OnceKey(pub Vec<u8>);

impl fmt::Display for OnceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytes::write(&self.0, f)
    }
}

impl fmt::Debug for OnceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
