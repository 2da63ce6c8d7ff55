//! Responses that are kept for named requests, so that the same request gets the same response again.
//!
//! The responses are in memory, for an hour at most. A request whose response was dropped is refused like every other
//! request with a used payment: nothing is served or paid twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Response};
use x402_types::PaymentKey;

use crate::Body;
use crate::body::BrokenOff;

/// The longest body that is kept. A longer body, or one of unknown length, is not.
const LONGEST: usize = 64 * 1024;
/// The most bytes that are kept, of bodies and headers together.
const MOST: usize = 16 * 1024 * 1024;
/// The time for which a response is kept.
const KEEP: Duration = Duration::from_hours(1);

/// The kept responses of one seller.
#[derive(Debug, Default)]
pub(super) struct KeptAnswers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<PaymentKey, Answer>,
    /// The names of the responses, the oldest first. A name may occur twice.
    order: VecDeque<(Instant, PaymentKey)>,
    size: usize,
}

#[derive(Debug)]
struct Answer {
    request: Box<str>,
    response: Response<Bytes>,
    size: usize,
}

impl KeptAnswers {
    /// Returns the response that this request had under this name.
    pub(super) fn get<B>(&self, name: &PaymentKey, request: &str) -> Option<Response<Body<B>>> {
        let kept = self.kept();
        let answer = kept.answers.get(name).filter(|answer| *answer.request == *request)?;
        Some(answer.response.clone().map(Body::own))
    }

    /// Keeps a response.
    pub(super) fn put(&self, name: PaymentKey, request: &str, response: Response<Bytes>) {
        let size = response.body().len().saturating_add(size_of_headers(response.headers()));
        let now = Instant::now();
        let mut kept = self.kept();
        kept.size = kept.size.saturating_add(size);
        kept.order.push_back((now, name.clone()));
        let old = kept.answers.insert(name, Answer { request: request.into(), response, size });
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
            let Some((_, name)) = self.order.pop_front() else { return };
            if let Some(answer) = self.answers.remove(&name) {
                self.size = self.size.saturating_sub(answer.size);
            }
        }
    }
}

fn size_of_headers(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len())).sum()
}

/// Reads the body of a response ahead, and returns the response with a copy to keep. A body that is too long, or of
/// unknown length, is passed on unread, without a copy. Trailers are passed on, and are in no copy.
///
/// # Errors
/// The body ends early or fails.
pub(super) async fn in_hand<B: http_body::Body<Data = Bytes>>(
    response: Response<Body<B>>,
) -> Result<(Response<Body<B>>, Option<Response<Bytes>>), BrokenOff> {
    let (parts, body) = response.into_parts();
    let (body, read) = body.read_ahead(LONGEST).await?;
    let copy = read.map(|read| {
        let mut copy = Response::new(read);
        *copy.status_mut() = parts.status;
        copy.headers_mut().clone_from(&parts.headers);
        copy
    });
    Ok((Response::from_parts(parts, body), copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn name(number: usize) -> PaymentKey {
        PaymentKey::from_bytes(&number.to_be_bytes())
    }

    fn answer(
        kept: &KeptAnswers,
        number: usize,
        request: &str,
    ) -> Option<Response<Body<http_body_util::Empty<Bytes>>>> {
        kept.get(&name(number), request)
    }

    #[test]
    fn an_answer_is_one_requests() {
        let kept = KeptAnswers::default();
        let mut response = Response::new(Bytes::from_static(b"body"));
        *response.status_mut() = StatusCode::CREATED;
        kept.put(name(1), "request", response);
        assert_eq!(answer(&kept, 1, "request").unwrap().status(), StatusCode::CREATED);
        assert!(answer(&kept, 1, "another").is_none());
        assert!(answer(&kept, 2, "request").is_none());
    }

    #[test]
    fn what_is_kept_has_a_size_and_an_age() {
        let kept = KeptAnswers::default();
        let put = |number| kept.put(name(number), "request", Response::new(Bytes::from(vec![0; LONGEST])));
        let most = MOST / LONGEST;
        (0..=most).for_each(put);
        assert!(answer(&kept, 0, "request").is_none(), "the oldest goes");
        assert!(answer(&kept, 1, "request").is_some() && answer(&kept, most, "request").is_some());
        // The same name again takes no more room.
        (0..1_000).for_each(|_| put(7));
        assert!(kept.kept().size <= MOST);
        let mut rows = kept.kept();
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
        assert_eq!(copy.unwrap().into_body(), "content");
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
