//! Names of the things that rows speak of.

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
            /// The text.
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
    /// What carries parcels one after the other: an account on a network, a bundler, a card processor.
    ///
    /// The network, a slash and the account, for example `eip155:84532/0x90f79bf6eb2c4f870365e785982e1f101e93b906`.
    LaneId
}
text_id! {
    /// What was sent, as the far side names it: on EVM networks a transaction hash, `0x` and lower case; at a
    /// bundler the hash of the operation; at a processor its own id.
    TxId
}
text_id! {
    /// One start of one process. A process that starts again is another owner.
    OwnerId
}

impl LaneId {
    /// The lane of an account on a network.
    #[must_use]
    pub fn new(network: ChainId, account: &str) -> Self {
        Self(format!("{network}/{account}").into())
    }

    /// The network, if the text begins with one.
    #[must_use]
    pub fn network(&self) -> Option<ChainId> {
        self.0.split_once('/')?.0.parse().ok()
    }

    /// The account: what stands behind the slash.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, account)| account)
    }
}

/// The account nonce that a transaction takes. On a lane that numbers nothing, a running number of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// The lane.
    pub lane: LaneId,
    /// The nonce.
    pub nonce: u64,
}

/// One request that is being answered, see [`crate::InFlightRequest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Who answers it.
    pub owner: OwnerId,
    /// Which of the owner's.
    pub number: u64,
}

/// What a step does: `transfer`, `order`, `redeem`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName(Cow<'static, str>);

impl StepName {
    /// A name that a mechanism defines.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
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

/// What lets a step happen once on the far side, in canonical bytes of its mechanism: (network, token, payer,
/// nonce), (network, entry point, sender, key, seq), a processor's idempotency key.
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
