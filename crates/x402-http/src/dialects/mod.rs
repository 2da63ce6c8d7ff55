//! The built-in dialects: x402 of both versions, the Smart Accounts Extension of both versions, and the Card Delegation
//! Extension.

mod card;
mod nvm;
mod x402;

pub use card::NvmCard;
pub use nvm::{Nvm02, Nvm03};
pub use x402::{X402V1, X402V2};

/// The dialects that a seller reads by default. The last one is tried first; version 2 takes every payment that no
/// other dialect recognises.
macro_rules! built_in {
    () => {
        [
            std::sync::Arc::new($crate::dialects::X402V2) as _,
            std::sync::Arc::new($crate::dialects::Nvm02) as _,
            std::sync::Arc::new($crate::dialects::Nvm03) as _,
            std::sync::Arc::new($crate::dialects::NvmCard) as _,
        ]
    };
}
pub(crate) use built_in;
