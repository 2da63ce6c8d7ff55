//! What a seller decides itself, through the whole product: client, seller's layer, facilitator, devchain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

#[path = "selling/choices.rs"]
mod choices;
#[path = "selling/hooked.rs"]
mod hooked;
#[path = "selling/precedence.rs"]
mod precedence;
#[path = "selling/prices.rs"]
mod prices;
#[path = "selling/shop.rs"]
mod shop;
