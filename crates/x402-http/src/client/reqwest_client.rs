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
/// It follows redirects itself, so that no payment and no secret goes to another origin than the one that was asked.
#[derive(Debug, Clone)]
pub struct PayClient {
    http: reqwest::Client,
    pay: Pay<Transport>,
}

impl PayClient {
    /// A client with reqwest's defaults.
    ///
    /// # Errors
    /// reqwest cannot start: no TLS.
    pub fn new(payer: Payer) -> Result<Self, reqwest::Error> {
        Self::from_builder(reqwest::Client::builder(), payer)
    }

    /// A client with settings of its own: proxies, timeouts, certificates. Its redirect policy is replaced.
    ///
    /// # Errors
    /// reqwest cannot start with these settings.
    pub fn from_builder(builder: reqwest::ClientBuilder, payer: Payer) -> Result<Self, reqwest::Error> {
        install_tls();
        let http = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        let pay = PayLayer::new(payer).follow_redirects().layer(Transport(http.clone()));
        Ok(Self { http, pay })
    }

    /// The client underneath, to build requests with: `pay.execute(pay.http().post(url).json(&q).build()?)`.
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Gets a URL, and pays for it if it must.
    ///
    /// # Errors
    /// The transport's, or why nothing was paid.
    pub async fn get(&self, url: &str) -> Result<reqwest::Response, ClientError<reqwest::Error>> {
        let request = self.http.get(url).build().map_err(ClientError::Transport)?;
        self.execute(request).await
    }

    /// Makes a request, and pays for it if it must. The receipt is in the response's extensions.
    ///
    /// # Errors
    /// The transport's, or why nothing was paid.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, ClientError<reqwest::Error>> {
        let request = http::Request::<reqwest::Body>::try_from(request).map_err(ClientError::Transport)?;
        let response = self.pay.clone().call(request).await?;
        let (mut parts, body) = response.into_parts();
        if let Some(AnsweredBy(url)) = parts.extensions.remove() {
            // The only way to tell reqwest the URL is by an extension of its own type.
            if let Ok(carrier) = http::Response::builder().url(url).body(()) {
                parts.extensions.extend(carrier.into_parts().0.extensions);
            }
        }
        Ok(http::Response::from_parts(parts, reqwest::Body::wrap(body)).into())
    }
}

/// Which URL answered.
#[derive(Debug, Clone)]
struct AnsweredBy(Url);

/// reqwest as a service of plain HTTP types.
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
