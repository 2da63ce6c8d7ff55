//! A response body: the inner service's, unchanged, or one made by this crate.

#[cfg(feature = "server")]
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
#[cfg(feature = "server")]
use bytes::BytesMut;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response: the inner service's, forwarded frame by frame, or bytes made by this crate.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Watched { #[pin] body: B, unread: Option<Unread> },
        Own { bytes: Option<Bytes> },
        Begun { read: Option<Bytes>, rest: Pin<Box<B>> },
    }
}

/// A payment that is kept again if the body breaks off.
#[cfg(feature = "client")]
type Unread = Box<crate::client::UnreadBody>;
#[cfg(not(feature = "client"))]
type Unread = core::convert::Infallible;

impl<B> Body<B> {
    /// If an inner body breaks off, the payment for it is kept again.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "a server pays nothing"))]
    pub(crate) fn watched(self, unread: Unread) -> Self {
        match self.kind {
            Kind::Inner { body } => Self { kind: Kind::Watched { body, unread: Some(unread) } },
            kind => Self { kind },
        }
    }

    /// Wraps the inner service's body.
    pub const fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Creates a body from bytes.
    #[must_use]
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: Kind::Own { bytes: (!bytes.is_empty()).then_some(bytes) } }
    }

    /// Creates a body of which these bytes were read already.
    #[cfg(any(feature = "server", feature = "client"))]
    pub(crate) fn begun(read: Bytes, rest: Pin<Box<B>>) -> Self {
        Self { kind: Kind::Begun { read: (!read.is_empty()).then_some(read), rest } }
    }
}

/// The error of a body that ends early, fails, or has another length than announced.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(crate) struct BrokenOff;

#[cfg(feature = "server")]
impl<B: http_body::Body<Data = Bytes>> Body<B> {
    /// Reads an inner body whose length is known and at most `longest`. Returns a body to send, and the bytes read.
    pub(crate) async fn read_ahead(self, longest: usize) -> Result<(Self, Option<Bytes>), BrokenOff> {
        let Kind::Inner { body } = self.kind else { return Ok((self, None)) };
        let Some(length) = body.size_hint().exact().and_then(|length| usize::try_from(length).ok()) else {
            return Ok((Self::inner(body), None));
        };
        if length > longest {
            return Ok((Self::inner(body), None));
        }
        let mut rest = Box::pin(body);
        let mut read = BytesMut::with_capacity(length);
        while read.len() < length {
            match poll_fn(|cx| rest.as_mut().poll_frame(cx)).await {
                Some(Ok(frame)) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return Err(BrokenOff),
            }
        }
        if read.len() > length {
            return Err(BrokenOff);
        }
        let read = read.freeze();
        Ok((Self::begun(read.clone(), rest), Some(read)))
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx),
            KindProjection::Watched { body, unread } => {
                let frame = body.poll_frame(cx);
                #[cfg(feature = "client")]
                if let Poll::Ready(Some(Err(_))) = &frame
                    && let Some(unread) = unread.take()
                {
                    unread.broke_off();
                }
                #[cfg(not(feature = "client"))]
                let _ = unread;
                frame
            }
            KindProjection::Own { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            KindProjection::Begun { read, rest } => match read.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => rest.as_mut().poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } | Kind::Watched { body, .. } => body.is_end_stream(),
            Kind::Own { bytes } => bytes.is_none(),
            Kind::Begun { read, rest } => read.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } | Kind::Watched { body, .. } => body.size_hint(),
            Kind::Own { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Begun { read, rest } => {
                let (read, rest) = (read.as_ref().map_or(0, |read| read.len() as u64), rest.size_hint());
                let mut whole = SizeHint::new();
                whole.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper() {
                    whole.set_upper(upper.saturating_add(read));
                }
                whole
            }
        }
    }
}
