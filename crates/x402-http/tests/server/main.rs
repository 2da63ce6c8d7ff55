//! The layer, in memory: matching, grants, races, futures dropped at every point, malformed headers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod extensions;
mod facilitators;
mod foreign;
mod grants;
mod hooks;
mod malformed;
mod offers;
mod outcomes;
mod stage;

use x402_http::server::Grants;

#[test]
fn seams_are_object_safe() {
    fn object<T: ?Sized>() {}
    object::<dyn Grants>();
    object::<dyn x402_http::server::Pricing>();
    object::<dyn x402_http::client::Budget>();
    object::<dyn x402_http::client::Timer>();
    object::<dyn x402_http::remote::Authorize>();
}
