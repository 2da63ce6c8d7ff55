//! The buyer's half: [x402 over HTTP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/http.md) from the
//! 402 to the receipt.
//!
//! The client pays once per request: a second 402 is a response, not another bill. While the result of a payment is
//! unknown, the same authorization is sent again, never a new one, since a new one could be settled in addition to the
//! first. A refusal of a payment that was sent before with an unknown result does not end this, since it may be caused
//! by the first attempt. The same holds if the payment was settled and the request was not served: the same request,
//! made again, presents the same payment. With a [`PaymentJournal`] all of it holds across processes.

mod budget;
#[cfg(feature = "challenge")]
mod challenge;
mod entry;
mod error;
mod exchange;
mod extensions;
mod flight;
mod hooked;
mod journal;
mod kept;
mod limits;
mod outcome;
mod payer;
mod peek;
mod policy;
mod refused;
mod remedy;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod service;

pub use crate::clock::{Clock, SystemClock, Timer};
pub use budget::{Budget, Closed, MemoryBudget, OverBudget, ReserveError, Spend};
#[cfg(feature = "challenge")]
pub use challenge::{ChallengeReceipt, OpenChallenge, OpenEntitlement};
pub use error::{ClientError, NotPayable, PayError};
pub use extensions::{AdmittedBy, ReceiptRefusals};
pub(crate) use flight::UnreadBody;
pub use journal::{OpenPayment, PaymentJournal};
pub use limits::SpendLimits;
pub use outcome::{PaymentSent, Receipt, ReceiptOutcome};
pub use payer::Payer;
pub use policy::{PayPolicy, Selector};
#[cfg(feature = "reqwest")]
pub use reqwest_client::PayClient;
pub use service::{Pay, PayFuture, PayLayer};
pub use x402_types::Dollars;
