//! Extensions: [x402 v2 §5.1.2](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md), "Extensions
//! enable modular optional functionality beyond core payment mechanics".
//!
//! An extension is one value. A seller, a payer and a facilitator register it, each by one line, and each calls the
//! methods of its role. No other code knows an extension by name.

pub mod echo;
mod payment_identifier;

pub use payment_identifier::PaymentIdentifier;

use core::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::v2::{PaymentPayload, ResourceInfo, SettleResponse};
use crate::{ChainId, Claim, Fault, Members, Offer, RawJson, Refusal, Rejection, SigningContext, Terms, UnixSeconds};

/// An extension, with a method for each thing that it may do. Every method but `name` has a default that does nothing.
#[async_trait]
pub trait Extension: Send + Sync + fmt::Debug {
    /// Returns the key of the extension in `extensions`, which is also its name in `/supported`.
    fn name(&self) -> &str;

    /// Returns the server's declaration, `{info, schema}`, or `None` where the server declares nothing for these offers.
    ///
    /// A route with a fixed price keeps its declaration as long as [`Extension::lasts`] permits. All members that the
    /// payment is compared with must be the same for the same offers at any time.
    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let _ = required;
        None
    }

    /// Returns the seconds for which a declaration may be sent again; 0 for one that is new in each 402 document, `None` if
    /// it never changes.
    fn lasts(&self) -> Option<u64> {
        None
    }

    /// Returns the members of `info` that a payment may omit or change although the server declared them.
    fn not_compared(&self) -> &[&str] {
        &[]
    }

    /// Returns what the client adds to the `info` that a server declared, for a payment of these terms. An addition cannot
    /// replace a member of the server. `context.now` is the time at which the payment is signed, `context.entropy` is drawn
    /// for this call alone.
    ///
    /// # Errors
    /// `Rejection` where this client cannot pay under the declaration, `Fault` where a signer fails.
    async fn complete(&self, info: &Members, terms: &Terms, context: &SigningContext<'_>) -> Result<Members, Refusal> {
        let _ = (info, terms, context);
        Ok(Members::new())
    }

    /// Returns the request headers that the extension reads in [`Extension::on_request`], in lower case.
    fn headers(&self) -> &[&str] {
        &[]
    }

    /// Decides whether the server serves a request that has one of [`Extension::headers`] without a payment. A payment beside
    /// it is not taken then.
    ///
    /// # Errors
    /// `Rejection` for a request that has the header and is not admitted: it can still be paid. `Fault` leaves it undecided.
    async fn on_request(&self, request: &Unpaid<'_>) -> Result<Option<Admission>, Refusal> {
        let _ = request;
        Ok(None)
    }

    /// Returns a request header, its name and its value, with which the server may serve the client without a payment. The
    /// client sends it once, and pays if it is not served.
    ///
    /// # Errors
    /// The client neither presents anything nor pays.
    async fn present(
        &self,
        declaration: &RawJson,
        context: &SigningContext<'_>,
    ) -> Result<Option<(String, String)>, Refusal> {
        let _ = (declaration, context);
        Ok(None)
    }

    /// Checks the `info` that a server declared against the terms that the client is about to pay.
    ///
    /// # Errors
    /// A `Rejection` with a code of the extension: these terms are not paid under this declaration.
    fn on_terms(&self, info: &Members, terms: &Terms, context: &SigningContext<'_>) -> Result<(), Rejection> {
        let _ = (info, terms, context);
        Ok(())
    }

    /// Reads the receipt of a payment that the client made. The client's caller gets the refusal beside the response: the
    /// money has moved, so nothing is undone.
    ///
    /// # Errors
    /// `Rejection` for a receipt that does not hold, `Fault` for one that could not be kept.
    async fn on_paid(&self, paid: &PaidRequest<'_>) -> Result<(), Refusal> {
        let _ = paid;
        Ok(())
    }

    /// Reads a payment before it is verified, in the server and in the facilitator. A returned text names the request:
    /// one name is for one payment, and the same payment under its name is the same request.
    ///
    /// # Errors
    /// `Rejection` with a code of the extension refuses the payment. `Fault` leaves it undecided.
    async fn on_claim(&self, claim: &Claim) -> Result<Option<String>, Refusal> {
        let _ = claim;
        Ok(None)
    }

    /// Records that a payment was settled: at a seller before its answer leaves, at a facilitator beside the answer, which
    /// does not wait. The method may be called again for the same payment.
    ///
    /// # Errors
    /// The record could not be written. A seller then answers that the outcome is unknown, and records it when the same
    /// request comes again; a facilitator only logs it.
    async fn on_settled(&self, settled: &SettledClaim<'_>) -> Result<(), Fault> {
        let _ = settled;
        Ok(())
    }

    /// Returns the value under the extension's name in the receipt of a settled payment. The success is stored as answered
    /// by then, so the method must not wait. A receipt may be sent again: it must confirm the same payment each time.
    fn on_receipt(&self, settled: &SettledClaim<'_>) -> Option<RawJson> {
        let _ = settled;
        None
    }

    /// Returns what a facilitator reports to the seller of a settled payment, beside its answer, in the header
    /// `EXTENSION-RESPONSES`. The payer does not learn it. The method must not wait, as [`Extension::on_receipt`].
    fn report(&self, claim: &Claim) -> Option<RawJson> {
        let _ = claim;
        None
    }
}

/// The time and the randomness of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The current time.
    pub now: UnixSeconds,
    /// Fresh random bytes; `None` if there is no source.
    pub entropy: Option<[u8; 32]>,
}

impl Moment {
    /// Creates the moment of this time, without randomness.
    #[must_use]
    pub const fn at(now: UnixSeconds) -> Self {
        Self { now, entropy: None }
    }
}

/// A request that an extension may admit without a payment.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Unpaid<'a> {
    headers: &'a (dyn Fn(&str) -> Option<&'a [u8]> + Send + Sync),
    /// The resource, by the server's configured origin.
    pub resource: &'a ResourceInfo,
    /// The entries by which the resource can be paid.
    pub offers: &'a [Offer],
    /// Whether every request of the resource costs the same.
    pub has_fixed_price: bool,
    /// The current time.
    pub now: UnixSeconds,
}

impl<'a> Unpaid<'a> {
    /// Describes a request; `headers` returns the value of a header that occurs once.
    #[must_use]
    pub const fn new(
        headers: &'a (dyn Fn(&str) -> Option<&'a [u8]> + Send + Sync),
        resource: &'a ResourceInfo,
        offers: &'a [Offer],
        has_fixed_price: bool,
        now: UnixSeconds,
    ) -> Self {
        Self { headers, resource, offers, has_fixed_price, now }
    }

    /// Returns the value of a header, if the request has it once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        (self.headers)(name)
    }
}

impl fmt::Debug for Unpaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpaid").field("resource", &self.resource.url).field("now", &self.now).finish_non_exhaustive()
    }
}

/// The admission of a request without a payment. A handler finds it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// The network of the account.
    pub network: ChainId,
    /// The account that is served.
    pub account: Box<str>,
}

impl Admission {
    /// Admits this account.
    #[must_use]
    pub fn new(network: ChainId, account: &str) -> Self {
        Self { network, account: account.into() }
    }
}

/// A payment that was settled.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SettledClaim<'a> {
    /// The payment that was settled.
    pub claim: &'a Claim,
    /// The resource: the server's own at a seller, the one that the payment names at a facilitator.
    pub resource: Option<&'a ResourceInfo>,
    /// The receipt as far as it is made.
    pub receipt: &'a SettleResponse,
    /// The current time.
    pub now: UnixSeconds,
}

impl<'a> SettledClaim<'a> {
    /// Combines a payment with its receipt.
    #[must_use]
    pub const fn new(
        claim: &'a Claim,
        resource: Option<&'a ResourceInfo>,
        receipt: &'a SettleResponse,
        now: UnixSeconds,
    ) -> Self {
        Self { claim, resource, receipt, now }
    }
}

/// A request that a client has paid for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PaidRequest<'a> {
    /// The payment, with the extensions that it echoed.
    pub payment: &'a PaymentPayload,
    /// The receipt in the response.
    pub receipt: &'a SettleResponse,
    /// The URL of the request.
    pub url: &'a str,
    /// The HTTP method of the request.
    pub method: &'a str,
    /// The current time.
    pub now: UnixSeconds,
}

impl<'a> PaidRequest<'a> {
    /// Combines a payment with the receipt of its response.
    #[must_use]
    pub const fn new(
        payment: &'a PaymentPayload,
        receipt: &'a SettleResponse,
        url: &'a str,
        method: &'a str,
        now: UnixSeconds,
    ) -> Self {
        Self { payment, receipt, url, method, now }
    }
}

/// The resource and the offers of the 402 document in which an extension declares itself.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Required<'a> {
    /// The protected resource.
    pub resource: &'a ResourceInfo,
    /// The entries of `accepts`.
    pub offers: &'a [Offer],
    /// The time and the randomness of the declaration.
    pub moment: Moment,
}

impl<'a> Required<'a> {
    /// Describes the 402 document of this resource with these offers.
    #[must_use]
    pub const fn new(resource: &'a ResourceInfo, offers: &'a [Offer], moment: Moment) -> Self {
        Self { resource, offers, moment }
    }
}

/// The name that an extension gives a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestName {
    /// The name of the extension.
    pub extension: Box<str>,
    /// The name of the request.
    pub name: Box<str>,
}

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.extension, self.name)
    }
}

/// The extensions that are registered with a seller, a payer or a facilitator.
#[derive(Debug, Clone, Default)]
pub struct Extensions(Vec<Arc<dyn Extension>>);

impl Extensions {
    /// Creates an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Registers an extension. An extension with the same name is replaced.
    pub fn register(&mut self, extension: Arc<dyn Extension>) {
        match self.0.iter_mut().find(|known| known.name() == extension.name()) {
            Some(known) => *known = extension,
            None => self.0.push(extension),
        }
    }

    /// Returns whether no extension is registered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the extensions in the order of their registration.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Extension> {
        self.0.iter().map(|extension| &**extension)
    }

    /// Returns the extension with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Extension> {
        self.iter().find(|extension| extension.name() == name)
    }

    /// Returns the member `extensions` of a 402 document.
    #[must_use]
    pub fn declared(&self, required: &Required<'_>) -> Members {
        let mut declared = Members::new();
        for extension in self.iter() {
            if let Some(declaration) = extension.declare(required) {
                declared.insert(extension.name(), declaration);
            }
        }
        declared
    }

    /// Compares the echo of a payment with the declarations.
    ///
    /// # Errors
    /// [`ErrorReason::EXTENSION_ECHO_MISMATCH`](crate::ErrorReason::EXTENSION_ECHO_MISMATCH), with the extension's name.
    pub fn compare(&self, declared: &Members, claim: &Claim) -> Result<(), Rejection> {
        for (name, declaration) in declared.iter() {
            let not_compared = self.get(name).map_or(&[][..], Extension::not_compared);
            echo::compare(name, declaration, claim.extensions.get(name), not_compared)?;
        }
        Ok(())
    }

    /// Passes a payment to every extension, in the order of registration. The first returned name is the request's.
    ///
    /// # Errors
    /// The refusal of the first extension that refuses the payment.
    pub async fn on_claim(&self, claim: &Claim) -> Result<Option<RequestName>, Refusal> {
        let mut named = None;
        for extension in self.iter() {
            if let Some(name) = extension.on_claim(claim).await? {
                named.get_or_insert_with(|| RequestName { extension: extension.name().into(), name: name.into() });
            }
        }
        Ok(named)
    }

    /// Returns the seconds for which all declarations may be sent again; `None` if they never change.
    #[must_use]
    pub fn lasts(&self) -> Option<u64> {
        self.iter().filter_map(Extension::lasts).min()
    }

    /// Returns whether the request has a header that an extension reads.
    #[must_use]
    pub fn reads(&self, has: impl Fn(&str) -> bool) -> bool {
        self.iter().any(|extension| extension.headers().iter().any(|name| has(name)))
    }

    /// Passes a request without a payment to every extension until one admits it.
    ///
    /// # Errors
    /// The first refusal, if no extension admits the request.
    pub async fn on_request(&self, request: &Unpaid<'_>) -> Result<Option<Admission>, Refusal> {
        let mut refused = None;
        for extension in self.iter() {
            match extension.on_request(request).await {
                Ok(None) => {}
                Ok(admission) => return Ok(admission),
                Err(refusal) => drop(refused.get_or_insert(refusal)),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Passes a settled payment to every extension that records it.
    ///
    /// # Errors
    /// The fault of the first extension that could not record it.
    pub async fn on_settled(&self, settled: &SettledClaim<'_>) -> Result<(), Fault> {
        for extension in self.iter() {
            extension.on_settled(settled).await?;
        }
        Ok(())
    }

    /// Returns what the extensions report to the seller of a settled payment, by their names.
    #[must_use]
    pub fn reports(&self, claim: &Claim) -> Members {
        let mut reports = Members::new();
        for extension in self.iter() {
            if let Some(report) = extension.report(claim) {
                reports.insert(extension.name(), report);
            }
        }
        reports
    }

    /// Adds the values of the extensions to the receipt of a settled payment.
    pub fn on_receipt(
        &self,
        claim: &Claim,
        resource: Option<&ResourceInfo>,
        receipt: &mut SettleResponse,
        now: UnixSeconds,
    ) {
        for extension in self.iter() {
            if let Some(value) = extension.on_receipt(&SettledClaim::new(claim, resource, receipt, now)) {
                receipt.extensions.insert(extension.name(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Plain;

    impl Extension for Plain {
        fn name(&self) -> &str {
            "plain"
        }
    }

    #[test]
    fn the_trait_is_object_safe_and_a_name_is_all_that_it_needs() {
        let mut extensions = Extensions::new();
        let extension: Arc<dyn Extension> = Arc::new(Plain);
        extensions.register(extension);
        extensions.register(Arc::new(Plain));
        assert_eq!(extensions.iter().map(Extension::name).collect::<Vec<_>>(), ["plain"]);
        let resource = ResourceInfo::of("https://api.example.com/");
        assert!(extensions.declared(&Required::new(&resource, &[], Moment::at(UnixSeconds(0)))).is_empty());
    }
}
