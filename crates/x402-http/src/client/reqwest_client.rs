//! The client on reqwest.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use reqwest::ResponseBuilderExt;
use tower_layer::Layer;
use tower_service::Service;
use url::Url;

use super::{ClientError, Pay, PayLayer, Payer};
use crate::service::install_tls;

/// A [`reqwest::Client`] that pays.
///
/// It follows redirects itself, so that no payment and no secret goes to an origin other than the requested one.
#[derive(Debug, Clone)]
pub struct PayClient {
    http: reqwest::Client,
    pay: Pay<Transport>,
}

impl PayClient {
    /// Creates a client with reqwest's defaults.
    /// # Errors
    /// reqwest cannot start: no TLS.
    pub fn new(payer: Payer) -> Result<Self, reqwest::Error> {
        Self::from_builder(reqwest::Client::builder(), payer)
    }

    /// Creates a client with custom settings: proxies, timeouts, certificates. Its redirect policy is replaced.
    /// # Errors
    /// reqwest cannot start with these settings.
    pub fn from_builder(builder: reqwest::ClientBuilder, payer: Payer) -> Result<Self, reqwest::Error> {
        install_tls();
        let http = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        let pay = PayLayer::new(payer).with_redirects().layer(Transport(http.clone()));
        Ok(Self { http, pay })
    }

    /// Returns the underlying client, to build requests with: `pay.execute(pay.http().post(url).json(&q).build()?)`.
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Requests a URL with GET, and pays for it if required.
    /// # Errors
    /// The transport's error, or the reason why nothing was paid.
    pub async fn get(&self, url: &str) -> Result<reqwest::Response, ClientError<reqwest::Error>> {
        let request = self.http.get(url).build().map_err(ClientError::Transport)?;
        self.execute(request).await
    }

    /// Makes a request, and pays for it if required. The receipt is in the response's extensions.
    /// # Errors
    /// The transport's error, or the reason why nothing was paid.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, ClientError<reqwest::Error>> {
        let request = http::Request::<reqwest::Body>::try_from(request).map_err(ClientError::Transport)?;
        let response = self.pay.clone().call(request).await?;
        let (mut parts, body) = response.into_parts();
        if let Some(AnsweredBy(url)) = parts.extensions.remove() {
            // An extension of reqwest's own type is the only way to pass the URL to reqwest.
            if let Ok(carrier) = http::Response::builder().url(url).body(()) {
                parts.extensions.extend(carrier.into_parts().0.extensions);
            }
        }
        Ok(http::Response::from_parts(parts, reqwest::Body::wrap(body)).into())
    }
}

/// The URL that answered.
#[derive(Debug, Clone)]
struct AnsweredBy(Url);

/// The client of reqwest, as a service of plain HTTP types.
#[derive(Debug, Clone)]
struct Transport(reqwest::Client);

impl Service<Request<Full<Bytes>>> for Transport {
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, reqwest::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let http = self.0.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
            let response = http.execute(request).await?;
            let url = response.url().clone();
            let mut response = Response::<reqwest::Body>::from(response);
            response.extensions_mut().insert(AnsweredBy(url));
            Ok(response)
        })
    }
}
