//! A request at a route that is paid by challenge: decide, run the handler, tell the payer.

use std::sync::Arc;

use http::{Request, Response};
use tower_service::Service;

use super::super::answer::make_private;
use super::super::flow;
use super::Counter;
use super::answer;
use super::ask::Access;
use super::counter::Decision;
use crate::Body;

pub(in super::super) async fn run<S, Q, B>(
    counter: Arc<Counter>,
    mut inner: S,
    request: Request<Q>,
) -> Result<Response<Body<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: http_body::Body<Data = bytes::Bytes>,
{
    let (mut parts, body) = request.into_parts();
    let (access, grant) = match counter.decide(&parts).await {
        Decision::Granted(access, grant) => (access, grant),
        Decision::Offers(route) => return flow::run(route, inner, Request::from_parts(parts, body)).await,
        Decision::Answered(answer) => return Ok(*answer),
    };
    parts.extensions.insert(access.clone());
    // What a refused settlement is answered with needs the request once more; the handler has its body.
    let asked = counter.is_metered(&access).then(|| parts.clone());
    let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
    if let (Some(asked), Access::Paid(granted)) = (&asked, &access) {
        match counter.settle(asked, granted).await {
            Ok(None) => {}
            // What was used is written down, and settled when somebody asks again.
            Ok(Some(fault)) => drop(response.extensions_mut().insert(fault)),
            Err(answer) => return Ok(*answer),
        }
    }
    let headers = response.headers_mut();
    if let Access::Paid(granted) = &access {
        answer::attach(headers, granted, grant.as_ref());
    }
    make_private(headers);
    Ok(response)
}
