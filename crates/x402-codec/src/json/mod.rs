//! Strict JSON: [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259), read so that two readers cannot disagree.
//!
//! Valid UTF-8 without a byte order mark, no key twice in one object at any depth, a limit on depth, nothing after
//! the document, no half surrogate pairs, no number beyond a double. One reader, two faces: [`from_slice`] fills a
//! type in one pass, [`parse`] makes a tree that knows where its parts stand.

mod de;
mod dom;
mod lexer;
mod reader;

pub use de::{from_slice, from_str};
pub(crate) use de::{read, read_object, read_str};
pub use dom::{Member, Node, Value, parse};
pub(crate) use lexer::not_utf8;
pub(crate) use reader::within;
