//! [ERC-4337 EntryPoint](https://eips.ethereum.org/EIPS/eip-4337#entrypoint-definition): the four versions in use.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{Address, address};

/// A version of the EntryPoint contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryPointVersion {
    /// 0.6: operations are not packed.
    V06,
    /// 0.7: operations are packed.
    V07,
    /// 0.8: the hash is EIP-712, and EIP-7702 accounts have an initCode of their own.
    V08,
    /// 0.9: a paymaster may sign after the account.
    V09,
}

impl EntryPointVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V06, Self::V07, Self::V08, Self::V09];

    /// Returns the address of this version, which is the same on every chain.
    #[must_use]
    pub const fn address(self) -> Address {
        match self {
            Self::V06 => address!("5FF137D4b0FDCD49DcA30c7CF57E578a026d2789"),
            Self::V07 => address!("0000000071727De22E5E9d8BAf0edAc6f37da032"),
            Self::V08 => address!("4337084D9E255Ff0702461CF8895CE9E3b5Ff108"),
            Self::V09 => address!("433709009B8330FDa32311DF1C2AFA402eD8D009"),
        }
    }

    /// Returns `0.6`, `0.7`, `0.8` or `0.9`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V06 => "0.6",
            Self::V07 => "0.7",
            Self::V08 => "0.8",
            Self::V09 => "0.9",
        }
    }
}

impl fmt::Display for EntryPointVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for a text that is none of `0.6`, `0.7`, `0.8`, `0.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an EntryPoint version: 0.6, 0.7, 0.8 or 0.9")]
pub struct UnknownVersion;

impl FromStr for EntryPointVersion {
    type Err = UnknownVersion;

    fn from_str(s: &str) -> Result<Self, UnknownVersion> {
        Self::ALL.into_iter().find(|v| v.as_str() == s).ok_or(UnknownVersion)
    }
}

/// One EntryPoint on one chain, for which operations are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryPoint {
    /// The version of the contract.
    pub version: EntryPointVersion,
    /// The address of the contract.
    pub address: Address,
    /// The number of its chain.
    pub chain_id: u64,
}

impl EntryPoint {
    /// Returns the canonical deployment of `version` on a chain.
    #[must_use]
    pub const fn canonical(version: EntryPointVersion, chain_id: u64) -> Self {
        Self { version, address: version.address(), chain_id }
    }
}
