//! Ours beside x402-rs 2.0.2 and r402 0.21.0, in one process and one run: `cargo run --release`.
//!
//! `cargo run --release -- paid` runs the rows whose name holds that word.

mod codec;
mod evm;
mod middleware;
mod permit2;
mod sample;
mod table;
mod timing;

fn main() {
    // Some of the middlewares look for a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let _inside = runtime.enter();
    let asked = std::env::args().nth(1).unwrap_or_default();
    table::head();
    for row in codec::rows().into_iter().chain(evm::rows()).chain(permit2::rows()).chain(middleware::rows()) {
        if row.name.contains(&asked) {
            row.print();
        }
    }
}
