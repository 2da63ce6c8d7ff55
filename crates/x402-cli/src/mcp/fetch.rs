//! The tool `fetch`: a request that is paid for within the owner's budgets.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value};
use tower_layer::Layer;
use tower_service::Service;
use url::Url;
use x402_codec::{Limits, header};
use x402_http::client::{ClientError, Dollars, PayError, PayLayer, Payer, PaymentSent, SpendLimits};

use super::books::Books;
use super::confirm::{CallBudget, Question};
use super::policy::authority;
use super::reach::{Reach, ReachError};
use super::tools::FetchArguments;
use crate::pay::{Proof, refusal, signed};

/// The most bytes of an answer that an agent is given.
pub(super) const LONGEST: usize = 256 * 1024;

/// Headers that the transport and the payment set.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "payment-signature",
    "sign-in-with-x",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-payment",
];

/// The end of a call.
pub(super) enum Ended {
    /// The server answered.
    Answered(Value),
    /// Nothing was paid, and a person must agree first.
    Ask(Question),
}

/// The parts of a request.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    /// Reads the arguments of a call.
    pub(super) fn new(arguments: &FetchArguments) -> Result<Self, String> {
        let url: Url = arguments.url.parse().map_err(|error| format!("url: {error}"))?;
        let (body, json) = match &arguments.body {
            None => (None, false),
            Some(Value::String(text)) => (Some(text.clone()), serde_json::from_str::<Value>(text).is_ok()),
            Some(value) => (Some(value.to_string()), true),
        };
        let method = match &arguments.method {
            Some(method) => method.parse().map_err(|_| "method: expected a token such as GET".to_owned())?,
            None if body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = headers(&arguments.headers)?;
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Ok(Self { url, method, headers, body: body.unwrap_or_default().into() })
    }

    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.uri_mut() = self.url.as_str().parse().map_err(|error| format!("url: {error}"))?;
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    fn host(&self) -> String {
        authority(self.url.host_str().unwrap_or_default(), self.url.port())
    }
}

fn headers(given: &Map<String, Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let key: HeaderName = name.parse().map_err(|_| format!("headers: {name:?} is no name of a header"))?;
        if OURS.contains(&key.as_str()) {
            return Err(format!("headers: {key} is not the agent's to set"));
        }
        let value = value.as_str().and_then(|value| value.parse().ok());
        headers.insert(key, value.ok_or_else(|| format!("headers.{name}: expected the text of a header"))?);
    }
    Ok(headers)
}

/// Makes a request, and pays for it if the budgets allow that.
pub(super) async fn fetch(
    payer: &Payer,
    books: &Arc<Books>,
    reach: &Reach,
    prepared: &Prepared,
    max: Option<Dollars>,
    agreed: Option<Question>,
) -> Result<Ended, String> {
    reach.check(&prepared.url).map_err(|error| error.to_string())?;
    let owners = books.policy().per_payment(&prepared.host());
    let cap = max.filter(|max| max.to_atomic(18) < owners.to_atomic(18)).unwrap_or(owners);
    let budget = Arc::new(CallBudget::new(books.clone(), agreed));
    let payer = payer.clone().with_spending(SpendLimits::default().with_cap(cap)).with_budget(budget.clone());
    let mut client = PayLayer::new(payer).with_redirects().layer(reach.clone());
    let response = match client.call(prepared.request()?).await {
        Ok(response) => response,
        Err(error) => {
            return match budget.question() {
                Some(question) => Ok(Ended::Ask(question)),
                None => Err(describe(&error)),
            };
        }
    };
    let (parts, body) = response.into_parts();
    let paid = Proof::of(&parts.extensions);
    let sent = parts.extensions.get::<PaymentSent>().is_some();
    let read = read(body).await;
    let (body, whole) = match &read {
        Ok((body, whole)) => (body.clone(), *whole),
        Err(_) => (Bytes::new(), false),
    };
    let mut answer = Map::new();
    answer.insert("status".to_owned(), parts.status.as_u16().into());
    answer.insert("paid".to_owned(), paid.as_ref().map(Proof::to_string).into());
    put_body(&mut answer, &parts.headers, &body, whole);
    if let Err(broken) = read {
        answer.insert("brokenOff".to_owned(), broken.into());
    }
    if let Some(paid) = &paid {
        answer.insert("receipt".to_owned(), paid.json());
    }
    let in_header = header::payment_required_header(&parts.headers, &Limits::DEFAULT).ok().flatten();
    if sent && let Some(why) = refusal(parts.status, in_header, &body) {
        answer.insert("refused".to_owned(), why.into());
    }
    Ok(Ended::Answered(answer.into()))
}

/// Reads at most [`LONGEST`] bytes of a body, and returns whether they are all of it.
pub(super) async fn read(
    body: impl http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
) -> Result<(Bytes, bool), String> {
    let mut body = body;
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        let room = LONGEST.saturating_sub(read.len());
        read.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok((read.into(), false));
        }
    }
    Ok((read.into(), true))
}

/// Writes the body: as text, or in base64 if it is none.
pub(super) fn put_body(answer: &mut Map<String, Value>, headers: &HeaderMap, body: &[u8], whole: bool) {
    if let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        answer.insert("contentType".to_owned(), kind.into());
    }
    match std::str::from_utf8(body) {
        Ok(text) => answer.insert("body".to_owned(), text.into()),
        // A text that was cut within a letter.
        Err(error) if !whole && error.error_len().is_none() => {
            answer.insert("body".to_owned(), String::from_utf8_lossy(body).trim_end_matches('\u{fffd}').into())
        }
        Err(_) => answer.insert("bodyBase64".to_owned(), base64_simd::STANDARD.encode_to_string(body).into()),
    };
    if !whole {
        answer.insert("bodyIsCut".to_owned(), true.into());
    }
}

/// Describes why there is no answer, and what became of the money.
fn describe(error: &ClientError<ReachError>) -> String {
    match error {
        ClientError::Unknown(_) => {
            format!("{error}. The same call, made again, shows the same payment; another call pays anew.")
        }
        ClientError::Pay(PayError::EarlierUnknown(open)) => {
            format!("{error} ({}). Its owner decides with `x402 pay --pay-anew`.", signed(open))
        }
        other => other.to_string(),
    }
}
