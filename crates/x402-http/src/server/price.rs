//! The price of a route.

use core::fmt;
use core::future::Future;

use async_trait::async_trait;
use http::request::Parts;
use x402_types::{Fault, Offer};

/// The price of a request, decided for each request: several entries are several ways to pay.
///
/// The same request must be offered the same entries when it comes back with its payment.
#[async_trait]
pub trait Pricing: Send + Sync {
    /// Returns the entries offered for this request.
    ///
    /// # Errors
    /// The price is not known now; the request is answered with 503.
    async fn offers(&self, request: &Parts) -> Result<Vec<Offer>, Fault>;
}

/// Returns a price from a closure: it takes what it needs from the request, then may wait.
///
/// ```
/// # use x402_http::server::{Pricing, price_by};
/// # use x402_types::{Fault, Offer};
/// # fn offers(_: usize) -> Vec<Offer> { Vec::new() }
/// let by_length = price_by(|request| {
///     let words = request.uri.query().unwrap_or_default().split('+').count();
///     async move { Ok::<_, Fault>(offers(words)) }
/// });
/// # fn check(_: impl Pricing) {}
/// # check(by_length);
/// ```
pub fn price_by<F, W>(ask: F) -> impl Pricing
where
    F: Fn(&Parts) -> W + Send + Sync,
    W: Future<Output = Result<Vec<Offer>, Fault>> + Send + 'static,
{
    By(ask)
}

struct By<F>(F);

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By")
    }
}

#[async_trait]
impl<F, W> Pricing for By<F>
where
    F: Fn(&Parts) -> W + Send + Sync,
    W: Future<Output = Result<Vec<Offer>, Fault>> + Send + 'static,
{
    async fn offers(&self, request: &Parts) -> Result<Vec<Offer>, Fault> {
        (self.0)(request).await
    }
}
