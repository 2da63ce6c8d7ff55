#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

pub mod address;
pub mod amount;
mod answer;
mod caip2;
mod code;
mod document;
mod encoding;
mod entry;
mod extensions;
mod extra;
mod extract;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod lint;
mod misplaced;
mod normalize;
mod place;
pub mod registry;
mod report;
mod resource;
mod schema;
mod summary;
mod token;
mod unpayable;

pub use address::Namespace;
pub use answer::{HttpAnswer, lint_answer};
pub use caip2::Caip2;
pub use code::{Code, CodeOrigin, Row, Severity, UnknownCode};
pub use document::Document;
pub use extract::{CheckedResponse, ExtractError, Extracted, Source, extract, lint_response};
pub use lint::{Options, detect, lint};
pub use registry::Registry;
pub use report::{DocumentFormat, Issue, Report};
pub use summary::{Summary, summary};
