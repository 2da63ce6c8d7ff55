//! The payments that have their answer, for accounting and for an operator's page.

use async_trait::async_trait;
use x402_facilitator_core::Payment;
use x402_types::Fault;

/// Reads the payments that have their answer and were not forgotten yet.
#[async_trait]
pub trait ReadAnswered: Send + Sync + std::fmt::Debug {
    /// Returns the answered payments whose key follows these bytes, by ascending key, at most `limit`. Empty bytes begin
    /// with the first.
    /// # Errors
    /// The store failed.
    async fn answered(&self, after: &[u8], limit: usize) -> Result<Vec<Payment>, Fault>;
}
