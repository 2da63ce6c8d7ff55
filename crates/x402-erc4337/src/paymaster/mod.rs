//! Paymasters: contracts that pay for operations, and services that choose and sign for them.

#[cfg(feature = "rpc")]
mod service;
mod verifying;

#[cfg(feature = "rpc")]
pub use service::{PaymasterService, ServiceError, Stub};
pub use verifying::{SponsorError, VerifyingPaymaster};
