//! The body of a request, read once however many dialects look at it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use x402_codec::Limits;

/// The body of `/verify` or `/settle`.
///
/// Nobody is handed its bytes but the function that reads them into a type, and what it made is kept: the second
/// dialect that asks for the same type is given the same value.
pub struct Body {
    bytes: Bytes,
    limits: Limits,
    views: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    reads: AtomicUsize,
}

impl Body {
    /// A body that is read within these limits.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, limits: Limits) -> Self {
        Self { bytes: bytes.into(), limits, views: Mutex::default(), reads: AtomicUsize::new(0) }
    }

    /// Whether this text stands anywhere in the body: what a dialect asks before it reads the body, for a member without
    /// which it is none of its own. A body that spells letters as `\u…` may have any text.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        let has = |part: &[u8]| self.bytes.windows(part.len().max(1)).any(|window| window == part);
        has(text.as_bytes()) || has(br"\u")
    }

    /// The body read as a `T`: by this function the first time, as it was read before from then on. A `T` is made by one
    /// dialect or family of dialects, so that its type says how the body was read.
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

    /// How often the body was read so far.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Body {
    /// Without the bytes: whoever reads a log could present the payment.
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
