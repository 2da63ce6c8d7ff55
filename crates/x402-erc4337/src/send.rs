//! Sending: an operation is handed to the chain in a transaction of our own, or to a bundler.

use alloy_primitives::B256;
use async_trait::async_trait;
use x402_types::Fault;

use crate::bundler::BundlerError;
use crate::{BundleError, Landed, Refused, Revert, UserOperation};

/// Hands operations over.
#[async_trait]
pub trait SendUserOp: Send + Sync {
    /// Hands this operation over, unless it landed already: it is looked up by its hash first, for anybody may have
    /// landed it. May be repeated.
    ///
    /// # Errors
    /// What is wrong with the operation; or [`SendError::Unknown`], after which it may land or not.
    async fn send_user_op(&self, op: &UserOperation) -> Result<Sent, SendError>;
}

/// What became of an operation that was to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way. Whether it lands, only its event says.
    Handed {
        /// Which operation.
        hash: B256,
        /// The transaction that carries it, where we sent that ourselves.
        transaction: Option<B256>,
    },
    /// It is on the chain, and was not sent again. It need not be final.
    Landed(Box<Landed>),
}

/// An operation that was not sent, or of which that is not known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No transaction can carry it.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The EntryPoint would refuse it. Nothing was sent.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// Its call would revert. Nothing was sent.
    #[error("operation {hash} would revert with {revert}")]
    Reverts {
        /// Which operation.
        hash: B256,
        /// What it would revert with.
        revert: Revert,
    },
    /// The bundler refused it, and has not seen it before.
    #[error(transparent)]
    Bundler(#[from] BundlerError),
    /// A node or bundler failed, or its answer was lost. It may have been sent: look it up before anything is made of
    /// this.
    #[error("not known whether it was sent: {0}")]
    Unknown(#[from] Fault),
}

impl Sent {
    /// Which operation.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        match self {
            Self::Handed { hash, .. } => *hash,
            Self::Landed(landed) => landed.executed.hash,
        }
    }

    /// The transaction that carries it, where that is known.
    #[must_use]
    pub const fn transaction(&self) -> Option<B256> {
        match self {
            Self::Handed { transaction, .. } => *transaction,
            Self::Landed(landed) => Some(landed.transaction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe() {
        fn one(_: Option<&dyn SendUserOp>) {}
        one(None);
    }
}
