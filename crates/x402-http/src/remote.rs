//! A facilitator over HTTP: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;
use x402_codec::{DecodeError, Limits, body, header};
use x402_facilitator_core::{Facilitator, KEEPS_REQUESTS, PaymentRequest};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Fault, Members};

use crate::service::{base, below, first_bytes, install_tls};

/// Provides the headers that authorize each request to a facilitator: hosted ones bind their token to method and URL.
#[async_trait]
pub trait Authorize: Send + Sync {
    /// Returns the headers for this request. Their values are marked sensitive before they are sent.
    ///
    /// # Errors
    /// The credentials are not available now: nothing is sent.
    async fn headers(&self, method: &Method, url: &Url) -> Result<HeaderMap, Fault>;
}

/// The waiting times for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The limit for connecting: 5 s.
    pub connect: Duration,
    /// The limit for `/verify` and `/supported`: 10 s.
    pub verify: Duration,
    /// For `/settle`, which waits for blocks: 90 s, as the TypeScript SDK does. The outcome is unknown when it ends.
    pub settle: Duration,
}

impl Timeouts {
    /// The default limits: 5, 10 and 90 seconds.
    pub const DEFAULT: Self =
        Self { connect: Duration::from_secs(5), verify: Duration::from_secs(10), settle: Duration::from_secs(90) };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A facilitator over HTTP.
#[derive(Clone)]
pub struct RemoteFacilitator {
    http: reqwest::Client,
    verify: Url,
    settle: Url,
    supported: Url,
    timeouts: Timeouts,
    limits: Limits,
    authorize: Option<Arc<dyn Authorize>>,
    reports: Option<Arc<ReportHook>>,
    keeps_requests: bool,
    /// Whether the facilitator keeps requests according to its own `/supported`, as last read.
    advertised: Arc<AtomicBool>,
}

/// A function that receives the reports of a facilitator's extensions about a settled payment, by their names.
type ReportHook = dyn Fn(&PaymentRequest, &Members) + Send + Sync;

/// The reason for which a facilitator cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The address is not an http or https URL, or has a user, a query or a fragment.
    #[error("a facilitator's address is an http or https URL without user, query and fragment")]
    Address,
    /// The HTTP client cannot start.
    #[error("the HTTP client cannot start")]
    Client(#[source] reqwest::Error),
}

/// The header by which a facilitator recognises a repeated request. Settling again with it is the same request.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl RemoteFacilitator {
    /// Returns a facilitator at an address, for example `https://x402.org/facilitator`.
    ///
    /// # Errors
    /// The address is malformed, or there is no TLS.
    pub fn new(address: &str) -> Result<Self, RemoteError> {
        Self::with_timeouts(address, Timeouts::DEFAULT)
    }

    /// Returns a facilitator at an address, with waiting times of its own.
    ///
    /// # Errors
    /// The address is malformed, or there is no TLS.
    pub fn with_timeouts(address: &str, timeouts: Timeouts) -> Result<Self, RemoteError> {
        let base = base(address).ok_or(RemoteError::Address)?;
        Ok(Self {
            verify: below(&base, "verify"),
            settle: below(&base, "settle"),
            supported: below(&base, "supported"),
            http: client(timeouts)?,
            timeouts,
            limits: Limits::DEFAULT,
            authorize: None,
            reports: None,
            keeps_requests: false,
            advertised: Arc::default(),
        })
    }

    /// Declares that the facilitator keeps what it began, and answers a request that is named by `Idempotency-Key` and
    /// comes again with what became of it, also after a restart, as `x402-facilitator` does. Its refusal of a
    /// settlement that was begun and not answered is then believed; of any other facilitator hardly any is, since it
    /// would verify such a request anew.
    ///
    /// The declaration is not needed for a facilitator whose `/supported` has [`KEEPS_REQUESTS`], once that was read.
    #[must_use]
    pub const fn with_kept_requests(mut self) -> Self {
        self.keeps_requests = true;
        self
    }

    /// Sets the headers of each request.
    #[must_use]
    pub fn with_authorize(mut self, authorize: Arc<dyn Authorize>) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// Sets a function that receives the reports of the facilitator's extensions about each settled payment, by their names:
    /// the header `EXTENSION-RESPONSES`. A header that cannot be read is no report. The payer never learns of it.
    #[must_use]
    pub fn with_report_hook(mut self, hook: impl Fn(&PaymentRequest, &Members) + Send + Sync + 'static) -> Self {
        self.reports = Some(Arc::new(hook));
        self
    }

    /// Sets the limits of the answers that are read.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    async fn post(
        &self,
        url: &Url,
        request: &PaymentRequest,
        timeout: Duration,
    ) -> Result<((u16, Bytes), HeaderMap), Fault> {
        let json = match &request.form {
            Some(form) => form.request_body(request)?,
            None => {
                let terms = &request.claim.terms;
                let requirements = terms.to_requirements(&request.resource);
                body::write_verify_request(terms.version, &request.raw, &requirements).map_err(Fault::broken)?
            }
        };
        let mut headers = authorized(self.authorize.as_deref(), &Method::POST, url).await?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(key) = HeaderValue::from_str(&request.claim.identity.request)
            && !key.is_empty()
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let request = self.http.post(url.clone()).headers(headers).timeout(timeout).body(json);
        exchange_with_headers(request, self.limits.body).await
    }
}

/// Returns a client for services that verify or settle payments.
pub(crate) fn client(timeouts: Timeouts) -> Result<reqwest::Client, RemoteError> {
    install_tls();
    let builder = reqwest::Client::builder()
        .connect_timeout(timeouts.connect)
        // A redirect must not take a payment elsewhere.
        .redirect(reqwest::redirect::Policy::none());
    builder.build().map_err(RemoteError::Client)
}

/// Returns the headers that authorize a request.
pub(crate) async fn authorized(
    authorize: Option<&dyn Authorize>,
    method: &Method,
    url: &Url,
) -> Result<HeaderMap, Fault> {
    let Some(authorize) = authorize else { return Ok(HeaderMap::new()) };
    let mut headers = authorize.headers(method, url).await?;
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

/// Sends a request and reads the response, up to a maximum number of bytes.
pub(crate) async fn exchange(request: reqwest::RequestBuilder, most: usize) -> Result<(u16, Bytes), Fault> {
    Ok(exchange_with_headers(request, most).await?.0)
}

/// Does the same, and returns the headers of the response, too.
async fn exchange_with_headers(
    request: reqwest::RequestBuilder,
    most: usize,
) -> Result<((u16, Bytes), HeaderMap), Fault> {
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let headers = core::mem::take(response.headers_mut());
    let answer = first_bytes(&mut response, most.saturating_add(1)).await.map_err(unreachable)?;
    if answer.len() > most {
        return Err(Fault::unreachable(SERVICE, format_args!("HTTP {status}, an answer over {most} bytes")));
    }
    Ok(((status, answer.into()), headers))
}

pub(crate) const SERVICE: &str = "facilitator";

/// Returns the fault of an error without its URL, in which some keep a key.
fn unreachable(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let cause = core::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::unreachable(SERVICE, format_args!("{error}{cause}"))
}

/// Reads an answer. A refusal counts whatever the status, since some facilitators send refusals with 400, 409 or 500. A
/// yes counts with 2xx alone. Anything else is a fault.
fn read<T>(
    (status, answer): (u16, Bytes),
    read: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    yes: impl FnOnce(&T) -> bool,
) -> Result<T, Fault> {
    let fault =
        |error: &dyn fmt::Display| Fault::no_verdict(SERVICE, status, format_args!("{error}{}", Shown(&answer)));
    let verdict = read(&answer).map_err(|error| fault(&error))?;
    if yes(&verdict) && !(200..300).contains(&status) {
        return Err(fault(&"and yet a yes"));
    }
    Ok(verdict)
}

/// The beginning of a body, for a log. Characters that are no plain text are escaped.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        let (start, cut) = self.0.split_at_checked(LONGEST).map_or((self.0, ""), |(start, _)| (start, "…"));
        if start.is_empty() {
            return f.write_str(", with an empty body");
        }
        f.write_str(", its body begins: ")?;
        for letter in String::from_utf8_lossy(start).chars() {
            match letter {
                '"' | '\'' => fmt::Write::write_char(f, letter)?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        f.write_str(cut)
    }
}

#[async_trait]
impl Facilitator for RemoteFacilitator {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        let (answer, _) = self.post(&self.verify, request, self.timeouts.verify).await?;
        read(answer, |json| body::verify_response(json, &self.limits), |verdict| verdict.is_valid)
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        let (answer, headers) = self.post(&self.settle, request, self.timeouts.settle).await?;
        let response = read(answer, |json| body::settle_response(json, &self.limits), |verdict| verdict.success)?;
        if let (true, Some(hook)) = (response.success, &self.reports)
            && let Ok(Some(reports)) = header::extension_responses(&headers, &self.limits)
        {
            hook(request, &reports);
        }
        match &request.form {
            Some(form) => form.settle_response(response),
            None => Ok(response),
        }
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        let headers = authorized(self.authorize.as_deref(), &Method::GET, &self.supported).await?;
        let request = self.http.get(self.supported.clone()).headers(headers).timeout(self.timeouts.verify);
        let answer = exchange(request, self.limits.body).await?;
        let supported = read(answer, |json| body::supported_response(json, &self.limits), |_| true)?;
        let keeps = supported.rest.get(KEEPS_REQUESTS).and_then(|keeps| keeps.read().ok());
        self.advertised.store(keeps == Some(true), Ordering::Relaxed);
        Ok(supported)
    }

    fn keeps_requests(&self) -> bool {
        self.keeps_requests || self.advertised.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RemoteFacilitator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFacilitator").field("settle", &self.settle.as_str()).finish_non_exhaustive()
    }
}
