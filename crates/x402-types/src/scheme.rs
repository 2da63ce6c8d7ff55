//! Scheme names: x402 v2 §6, an open set.

use core::fmt;
use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// The name of a payment scheme. Unknown names survive.
///
/// The grammar is 1 to 64 printable ASCII characters without a space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemeName(Cow<'static, str>);

impl SchemeName {
    /// `exact`: a fixed sum, moved once.
    pub const EXACT: Self = Self(Cow::Borrowed("exact"));
    /// `upto`: the payer authorizes a maximum, and the used part of it is moved.
    pub const UPTO: Self = Self(Cow::Borrowed("upto"));
    /// `batch-settlement`: vouchers on a channel.
    pub const BATCH_SETTLEMENT: Self = Self(Cow::Borrowed("batch-settlement"));
    /// `auth-capture`: authorized first, captured later.
    pub const AUTH_CAPTURE: Self = Self(Cow::Borrowed("auth-capture"));
    /// `nvm:erc4337`: credits of a plan, by session keys of a smart account.
    pub const NVM_ERC4337: Self = Self(Cow::Borrowed("nvm:erc4337"));
    /// `nvm:card-delegation`: credits of a plan, by a delegated card.
    pub const NVM_CARD_DELEGATION: Self = Self(Cow::Borrowed("nvm:card-delegation"));

    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a scheme name: 1 to 64 printable ASCII characters without a space";

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::str::FromStr for SchemeName {
    type Err = Malformed;

    #[inline]
    fn from_str(s: &str) -> Result<Self, Malformed> {
        match s {
            "exact" => return Ok(Self::EXACT),
            "upto" => return Ok(Self::UPTO),
            "batch-settlement" => return Ok(Self::BATCH_SETTLEMENT),
            "auth-capture" => return Ok(Self::AUTH_CAPTURE),
            "nvm:erc4337" => return Ok(Self::NVM_ERC4337),
            "nvm:card-delegation" => return Ok(Self::NVM_CARD_DELEGATION),
            _ => {}
        }
        if (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(Cow::Owned(s.to_owned())))
        } else {
            Err(Malformed::new(Self::EXPECTED))
        }
    }
}

impl fmt::Display for SchemeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SchemeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SchemeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SchemeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}
