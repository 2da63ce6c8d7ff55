//! Sending operations: in a transaction of this process, or through a bundler.

use alloy_primitives::B256;
use async_trait::async_trait;
use x402_types::Fault;

use crate::bundler::BundlerError;
use crate::{BundleError, Landed, Revert, SimulationRefusal, UserOperation};

/// Sends operations to a chain.
#[async_trait]
pub trait SendUserOp: Send + Sync {
    /// Sends this operation, unless it landed already: it is first looked up by its hash, since any account may have
    /// bundled it. The call may be repeated.
    /// # Errors
    /// A fault of the operation; or [`SendError::Unknown`], after which the operation may land or not.
    async fn send_user_op(&self, op: &UserOperation) -> Result<Sent, SendError>;
}

/// The result of sending an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The operation was sent. Only its event proves that it lands.
    Handed {
        /// The hash of the operation.
        hash: B256,
        /// The transaction that carries it, if this process sent that itself.
        transaction: Option<B256>,
    },
    /// The operation is on the chain, and was not sent again. It may not be final.
    Landed(Box<Landed>),
}

/// The error for an operation that was not sent, or may not have been.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The operation does not fit into a transaction.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The EntryPoint would refuse the operation. Nothing was sent.
    #[error("refused: {0}")]
    Refused(#[from] SimulationRefusal),
    /// The call would revert. Nothing was sent.
    #[error("operation {hash} would revert with {revert}")]
    Reverts {
        /// The hash of the operation.
        hash: B256,
        /// The expected revert data.
        revert: Revert,
    },
    /// The bundler refused the operation, and has not seen it before.
    #[error(transparent)]
    Bundler(#[from] BundlerError),
    /// A node or bundler failed, or its response was lost. The operation may have been sent: look it up before drawing
    /// any conclusion.
    #[error("not known whether it was sent: {0}")]
    Unknown(#[from] Fault),
}

impl Sent {
    /// Returns the hash of the operation.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        match self {
            Self::Handed { hash, .. } => *hash,
            Self::Landed(landed) => landed.executed.hash,
        }
    }

    /// Returns the transaction that carries the operation, if it is known.
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
