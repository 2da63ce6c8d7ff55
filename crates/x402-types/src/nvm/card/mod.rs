//! The messages of the [x402 Card Delegation
//! Extension](https://github.com/nevermined-io/docs/blob/main/specs/x402-card-delegation.mdx) 0.1, scheme
//! `nvm:card-delegation`: a plan's credits, bought with a delegated card.
//!
//! Above this module an entry is [`Terms`](crate::Terms) as for `nvm:erc4337`: `asset` is the plan's id, `amount` the
//! credits for this request, `payTo` is empty. The network is the processor's name on the wire, `stripe`, and
//! `card:stripe` inside; only [`Processor`] converts between them.

mod code;
mod form;
mod payload;
mod processor;
mod required;

pub use code::CardCode;
pub(crate) use form::CardForm;
pub use payload::{CardAuthorization, CardPayload, CardPayment};
pub use processor::Processor;
pub use required::{CardExtra, CardRequirements};

use crate::RawJson;

/// Returns whether a payment names this scheme in `accepted`, whatever else it contains.
#[must_use]
pub fn is_payment(raw: &RawJson) -> bool {
    super::detect::is_card_payment(raw)
}
