//! Reads the body of a response that its caller gets as well.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::Body;

/// Returns the body if it is no longer than `limit`, and the body again for the caller.
pub(super) async fn peek<B>(body: B, limit: usize) -> (Option<Bytes>, Body<B>)
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = Box::pin(body);
    let mut read = BytesMut::new();
    loop {
        match body.frame().await {
            None => {
                let read = read.freeze();
                return (Some(read.clone()), Body::own(read));
            }
            Some(Ok(frame)) => {
                // Trailers are dropped.
                let Ok(data) = frame.into_data() else { continue };
                let fits = read.len().saturating_add(data.remaining()) <= limit;
                read.put(data);
                if !fits {
                    return (None, Body::begun(read.freeze(), body));
                }
            }
            Some(Err(_)) => return (None, Body::begun(read.freeze(), body)),
        }
    }
}
