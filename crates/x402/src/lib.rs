#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "challenge")]
pub use x402_challenge as challenge;
#[cfg(feature = "plans")]
pub use x402_erc4337 as erc4337;
#[cfg(feature = "evm")]
pub use x402_evm as evm;
#[cfg(any(feature = "builder-code", feature = "discovery", feature = "receipts", feature = "sign-in"))]
pub use x402_extensions as extensions;
#[cfg(feature = "facilitator")]
pub use x402_facilitator as facilitator;
pub use x402_types as types;

/// The seller's half: a tower layer that requires payment.
#[cfg(feature = "server")]
pub mod server {
    #[doc(no_inline)]
    pub use x402_http::remote::RemoteFacilitator;
    #[doc(no_inline)]
    pub use x402_http::server::*;
    #[cfg(feature = "durable")]
    #[doc(no_inline)]
    pub use x402_store::sqlite::{Database, SqliteGrants};
    #[cfg(feature = "durable")]
    #[doc(no_inline)]
    pub use x402_store::{Stores, open_grants};
}

/// The buyer's half: a client that pays.
#[cfg(feature = "client")]
pub mod client {
    #[doc(no_inline)]
    pub use x402_http::client::*;
}
