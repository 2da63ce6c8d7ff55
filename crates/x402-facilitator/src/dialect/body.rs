//! The body of a request, which is parsed once however many dialects inspect it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use x402_codec::Limits;

/// The body of `/verify` or `/settle`.
///
/// Only the function that reads the bytes into a type sees them. Its result is kept, and the next dialect that needs the
/// same type gets the same value.
pub struct Body {
    bytes: Bytes,
    limits: Limits,
    views: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    reads: AtomicUsize,
}

impl Body {
    /// Creates a body that is read within these limits.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, limits: Limits) -> Self {
        Self { bytes: bytes.into(), limits, views: Mutex::default(), reads: AtomicUsize::new(0) }
    }

    /// Returns whether the body may contain this text. A dialect looks for the name of a member that all of its bodies
    /// have, before it reads the body. A body that spells letters as `\u…` may contain any text.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        let has = |part: &[u8]| self.bytes.windows(part.len().max(1)).any(|window| window == part);
        has(text.as_bytes()) || has(br"\u")
    }

    /// Returns the body as a `T`. The first call reads the body by this function; later calls return what the first one
    /// read. Only one family of dialects may read a `T`, since the type is the key under which the value is kept.
    #[must_use]
    pub fn view<T: Any + Send + Sync>(&self, read: impl FnOnce(&[u8], &Limits) -> T) -> Arc<T> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.iter().find_map(|view| Arc::clone(view).downcast().ok()) {
            return view;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let view = Arc::new(read(&self.bytes, &self.limits));
        views.push(Arc::clone(&view) as _);
        view
    }

    /// Returns the number of times that the body was read.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Body {
    /// Leaves the bytes out: a reader of the log could use the payment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_once_into_each_type() {
        let body = Body::new(r#"{"a":1}"#, Limits::DEFAULT);
        let length = body.view(|bytes, _| bytes.len());
        assert_eq!((*length, body.reads()), (7, 1));
        assert_eq!((*body.view(|_, _| 0_usize), body.reads()), (7, 1), "as it was read first");
        assert_eq!((*body.view(|_, limits| limits.depth), body.reads()), (Limits::DEFAULT.depth, 2));
    }

    #[test]
    fn a_text_is_found_and_one_in_escapes_may_be_there() {
        let body = |text: &'static str| Body::new(text, Limits::DEFAULT);
        assert!(body(r#"{"action":1}"#).mentions(r#""action""#));
        assert!(body(r#"{"\u0061ction":1}"#).mentions(r#""action""#));
        assert!(!body(r#"{"actions":"a\/b"}"#).mentions(r#""action""#));
        assert!(!body("").mentions(r#""action""#));
    }
}
