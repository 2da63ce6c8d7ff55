//! Responses that are kept for named requests, so that the same request gets the same response again.
//!
//! The responses are in memory, for an hour at most, and beside that in a store, if the seller has one: then a restart loses
//! none. A request whose response was dropped is refused like every other request with a used payment: nothing is served or
//! paid twice.

use core::fmt;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use x402_types::{Fault, UnixSeconds};

use crate::Body;
use crate::body::BrokenOff;

/// The longest body that is kept. A longer body, or one of unknown length, is not.
const LONGEST: usize = 64 * 1024;
/// The most bytes that are kept, of bodies and headers together.
const MOST: usize = 16 * 1024 * 1024;
/// The time for which a response is kept.
const KEEP: Duration = Duration::from_hours(1);

/// Stores the responses of named requests beyond this process ([`Seller::with_kept_answers`](super::Seller::with_kept_answers)).
///
/// A response is a status, header lines and a body, as a message of HTTP/1.1 has them. It is stored once its payment is settled and before that is granted: whoever finds the payment granted finds the
/// response. A store keeps each for an hour; its body has 64 KiB at most.
#[async_trait]
pub trait KeepAnswers: Send + Sync + fmt::Debug {
    /// Stores the response of a request, in the place of one that was stored before, and may forget those of an hour ago.
    /// # Errors
    /// The store failed.
    async fn keep(&self, request: &str, answer: Vec<u8>, now: UnixSeconds) -> Result<(), Fault>;

    /// Returns the response of a request, if one is stored.
    /// # Errors
    /// The store failed.
    async fn kept(&self, request: &str) -> Result<Option<Vec<u8>>, Fault>;
}

/// The kept responses of one seller.
#[derive(Debug, Default)]
pub(super) struct KeptAnswers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Box<str>, Answer>,
    /// The requests, the oldest first. A request may occur twice.
    order: VecDeque<(Instant, Box<str>)>,
    size: usize,
}

#[derive(Debug)]
struct Answer {
    response: Response<Bytes>,
    size: usize,
}

impl KeptAnswers {
    /// Returns the response that this request had.
    pub(super) fn get(&self, request: &str) -> Option<Response<Bytes>> {
        self.kept().answers.get(request).map(|answer| answer.response.clone())
    }

    /// Keeps a response.
    pub(super) fn put(&self, request: Box<str>, response: Response<Bytes>) {
        let size = response.body().len().saturating_add(size_of_headers(response.headers()));
        let now = Instant::now();
        let mut kept = self.kept();
        kept.size = kept.size.saturating_add(size);
        kept.order.push_back((now, request.clone()));
        let old = kept.answers.insert(request, Answer { response, size });
        kept.size = kept.size.saturating_sub(old.map_or(0, |old| old.size));
        kept.forget(now.checked_sub(KEEP));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic can only leave a size that is too large, so that more is dropped than necessary.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, limit: Option<Instant>) {
        while self.order.front().is_some_and(|(at, _)| self.size > MOST || limit.is_some_and(|limit| *at < limit)) {
            let Some((_, request)) = self.order.pop_front() else { return };
            if let Some(answer) = self.answers.remove(&request) {
                self.size = self.size.saturating_sub(answer.size);
            }
        }
    }
}

fn size_of_headers(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len())).sum()
}

/// Reads the body of a response ahead, and returns the response with the body to keep. A body that is too long, or of
/// unknown length, is passed on unread, and is not kept. Trailers are passed on, and are not kept.
///
/// # Errors
/// The body ends early or fails.
pub(super) async fn in_hand<B: http_body::Body<Data = Bytes>>(
    response: Response<Body<B>>,
) -> Result<(Response<Body<B>>, Option<Bytes>), BrokenOff> {
    let (parts, body) = response.into_parts();
    let (body, read) = body.read_ahead(LONGEST).await?;
    Ok((Response::from_parts(parts, body), read))
}

/// Returns the response to keep for one whose body was read ahead.
pub(super) fn copy<B>(response: &Response<B>, body: Bytes) -> Response<Bytes> {
    let mut copy = Response::new(body);
    *copy.status_mut() = response.status();
    copy.headers_mut().clone_from(response.headers());
    copy
}

/// Writes a response for a store.
pub(super) fn to_bytes(response: &Response<Bytes>) -> Vec<u8> {
    let (headers, body) = (response.headers(), response.body());
    let length = size_of_headers(headers).saturating_add(headers.len().saturating_mul(4)).saturating_add(body.len());
    let mut bytes = Vec::with_capacity(length.saturating_add(7));
    bytes.extend_from_slice(response.status().as_str().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Reads a response that [`to_bytes`] wrote; `None` for all else.
pub(super) fn from_bytes(mut bytes: Bytes) -> Option<Response<Bytes>> {
    let mut line = || {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = bytes.split_to(end);
        drop(bytes.split_to(2));
        Some(line)
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(&line()?).ok()?;
    loop {
        let header = line()?;
        if header.is_empty() {
            return Some(response.map(|()| bytes));
        }
        let colon = header.windows(2).position(|pair| pair == b": ")?;
        let name = HeaderName::from_bytes(header.get(..colon)?).ok()?;
        let value = HeaderValue::from_maybe_shared(header.slice(colon.checked_add(2)?..)).ok()?;
        response.headers_mut().append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kept: &KeptAnswers, request: &str) -> Option<Response<Bytes>> {
        kept.get(request)
    }

    #[test]
    fn an_answer_is_one_requests() {
        let kept = KeptAnswers::default();
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CREATED;
        kept.put("request".into(), copy(&response, Bytes::from_static(b"body")));
        assert_eq!(answer(&kept, "request").unwrap().status(), StatusCode::CREATED);
        assert!(answer(&kept, "another").is_none());
    }

    #[test]
    fn a_stored_answer_is_read_as_it_was() {
        let mut response = Response::new(Bytes::from_static(b"a\r\n\r\nb\xff"));
        *response.status_mut() = StatusCode::CREATED;
        for (name, value) in [("set-cookie", "a=1"), ("set-cookie", "b: 2"), ("x-empty", "")] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let bytes = to_bytes(&response);
        let read = from_bytes(bytes.clone().into()).unwrap();
        assert_eq!((read.status(), read.headers()), (response.status(), response.headers()));
        assert_eq!(read.body(), response.body());
        let body = bytes.len() - response.body().len();
        for end in 0..body {
            assert!(from_bytes(Bytes::copy_from_slice(&bytes[..end])).is_none(), "{end}");
        }
        assert!(from_bytes(Bytes::from_static(b"20\r\n\r\n")).is_none());
        assert!(from_bytes(Bytes::from_static(b"200\r\nname value\r\n\r\n")).is_none());
    }

    #[test]
    fn what_is_kept_has_a_size_and_an_age() {
        let kept = KeptAnswers::default();
        let put = |number: usize| kept.put(number.to_string().into(), Response::new(Bytes::from(vec![0; LONGEST])));
        let most = MOST / LONGEST;
        (0..=most).for_each(put);
        assert!(answer(&kept, "0").is_none(), "the oldest goes");
        assert!(answer(&kept, "1").is_some() && answer(&kept, &most.to_string()).is_some());
        // The same request again takes no more room.
        (0..1_000).for_each(|_| put(7));
        let mut rows = kept.kept();
        assert!(rows.size <= MOST);
        rows.forget(Instant::now().checked_add(Duration::from_secs(1)));
        assert_eq!((rows.size, rows.answers.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_body_of_known_length_is_read_before_it_leaves() {
        use http_body_util::{BodyExt, Full, StreamBody};
        let (live, copy) =
            in_hand(Response::new(Body::inner(Full::new(Bytes::from_static(b"content"))))).await.unwrap();
        assert_eq!(http_body::Body::size_hint(live.body()).exact(), Some(7));
        assert_eq!(live.into_body().collect().await.unwrap().to_bytes(), "content");
        assert_eq!(copy.unwrap(), "content");
        let long = Full::new(Bytes::from(vec![0; LONGEST + 1]));
        let (live, copy) = in_hand(Response::new(Body::inner(long))).await.unwrap();
        assert!(copy.is_none());
        assert_eq!(live.into_body().collect().await.unwrap().to_bytes().len(), LONGEST + 1);
        let frames =
            futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(b"a")))]);
        let (live, copy) = in_hand(Response::new(Body::inner(StreamBody::new(frames)))).await.unwrap();
        assert!(copy.is_none(), "no length is known");
        assert_eq!(live.into_body().collect().await.unwrap().to_bytes(), "a");
    }

    /// Says that it has ten bytes, and gives one.
    struct Short(bool);

    impl http_body::Body for Short {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            let first = !std::mem::replace(&mut self.0, true);
            std::task::Poll::Ready(first.then(|| Ok(http_body::Frame::data(Bytes::from_static(b"a")))))
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(10)
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_answer() {
        assert!(in_hand(Response::new(Body::inner(Short(false)))).await.is_err());
    }
}
