//! Strict JSON: [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259), restricted so that two parsers cannot disagree.
//!
//! The text must be valid UTF-8 without a byte order mark, without duplicate keys at any depth, within a depth limit,
//! without further data after the document, half surrogate pairs, or numbers beyond a double. One parser has two entry
//! points: [`from_slice`] fills a type in one pass, [`parse`] builds a tree whose nodes know their positions.

mod de;
mod dom;
mod lexer;
mod reader;

pub(crate) use de::{Object, read, read_object, read_str};
pub use de::{from_slice, from_str};
pub use dom::{Member, Node, Value, parse};
pub(crate) use lexer::not_utf8;
pub(crate) use reader::within;
