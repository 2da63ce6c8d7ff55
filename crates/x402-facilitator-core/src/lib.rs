#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

mod admit;
mod bytes;
#[cfg(feature = "conformance")]
pub mod conformance;
mod draft;
mod facilitator;
mod held;
mod ids;
mod in_flight;
mod ledger;
mod mechanism;
mod memory;
mod observer;
mod outcome;
mod payment;
mod rail;
mod receipt;
mod routing;
mod settlement;
mod slot;
mod upkeep;
mod verified;
mod worker;

pub use admit::Admit;
pub use draft::{PaymentDraft, Stage, StoredDrafts};
pub use facilitator::{AskFacilitator, Facilitator, KEEPS_REQUESTS, PaymentRequest};
pub use held::HeldLedger;
pub use ids::{LaneId, OnceKey, OwnerId, RequestId, SlotId, StepName, TxId};
pub use in_flight::InFlightRequest;
pub use ledger::{CommitError, LaneView, Lease, Ledger, Next, Share, Write};
pub use mechanism::{EntryDefaults, MAX_PARCELS, Mechanism, NextStep, Observation, Verdict};
pub use memory::MemoryLedger;
pub use observer::{Doing, Happening, Observer};
pub use outcome::Outcome;
pub use payment::{Event, Payment, Step, StepState, Telling, Todo};
pub use rail::{Attempt, Delivery, Nonces, Parcel, Rail};
pub use receipt::{Receipt, StepProof};
pub use settlement::{MOST_IN_FLIGHT, Pace, Settlement};
pub use slot::Slot;
pub use verified::Verified;
pub use worker::{Carried, Progress};
