//! Positional parameters of a call, and the block that one of them identifies.

use alloy_eips::{BlockId, BlockNumberOrTag};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::RpcError;
use crate::world::World;

pub(crate) struct Params<'a>(pub(crate) &'a [Value]);

/// The state or block that a call refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The state after this block.
    Number(u64),
    /// The state after a block mined now.
    Pending,
}

impl Params<'_> {
    /// Parses a parameter that is required.
    pub(crate) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.optional(index)?.ok_or_else(|| RpcError::params(format!("missing value for required argument {index}")))
    }

    /// Parses a parameter that may be absent or null.
    pub(crate) fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        let Some(value) = self.0.get(index).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = |error| RpcError::params(format!("invalid argument {index}: {error}"));
        T::deserialize(value).map(Some).map_err(wrong)
    }

    /// Parses a number written as a hex quantity, a decimal string or a JSON number, as the `evm_` methods accept it.
    pub(crate) fn number(&self, index: usize) -> Result<Option<u64>, RpcError> {
        let Some(value) = self.0.get(index).filter(|value| !value.is_null()) else { return Ok(None) };
        let parsed = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            },
            _ => None,
        };
        parsed.map(Some).ok_or_else(|| RpcError::params(format!("invalid argument {index}: not a number")))
    }

    pub(crate) fn required_number(&self, index: usize) -> Result<u64, RpcError> {
        self.number(index)?.ok_or_else(|| RpcError::params(format!("missing value for required argument {index}")))
    }

    /// Returns the block given at `index`, whose state must be available; the default is `latest`.
    pub(crate) fn state(&self, index: usize, world: &World) -> Result<At, RpcError> {
        if let Some((code, message)) = &world.view.no_block_hash
            && matches!(self.optional::<BlockId>(index), Ok(Some(BlockId::Hash(_))))
        {
            return Err(RpcError::new(*code, message.clone()));
        }
        let at = self.block(index, world)?;
        match (at, world.view.state_window) {
            (At::Number(number), Some(window)) if world.head_number().saturating_sub(number) > window => {
                let root = world.block(number).map(|block| block.header.state_root).unwrap_or_default();
                Err(RpcError::refused(format!("missing trie node {root} (path ) state {root} is not available")))
            }
            _ => Ok(at),
        }
    }

    /// Returns the block given at `index`; the default is `latest`.
    pub(crate) fn block(&self, index: usize, world: &World) -> Result<At, RpcError> {
        match self.optional::<BlockId>(index)? {
            None => Ok(At::Number(world.head_number())),
            Some(BlockId::Number(tag)) => numbered(tag, world).ok_or_else(|| RpcError::refused("header not found")),
            Some(BlockId::Hash(hash)) => {
                // EIP-1898. Replaced blocks are not kept, so one that is not canonical is not found either.
                let number = world.number_of(hash.block_hash);
                number.map(At::Number).ok_or_else(|| RpcError::refused("header for hash not found"))
            }
        }
    }
}

/// Returns the block of a number or tag; `None` for a number above the head.
pub(crate) fn numbered(tag: BlockNumberOrTag, world: &World) -> Option<At> {
    Some(match tag {
        BlockNumberOrTag::Latest => At::Number(world.head_number()),
        BlockNumberOrTag::Finalized | BlockNumberOrTag::Safe => At::Number(world.final_number()),
        BlockNumberOrTag::Earliest => At::Number(0),
        BlockNumberOrTag::Pending => At::Pending,
        BlockNumberOrTag::Number(number) => At::Number((number <= world.head_number()).then_some(number)?),
    })
}
