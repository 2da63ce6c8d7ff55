//! An entry of `accepts` in the form that the client uses.

use http::{HeaderName, HeaderValue};
use x402_codec::header::{self, PaymentHeader};
use x402_codec::{DecodeError, EncodeError, Limits, json};
use x402_types::form::{SchemeForm, read_entry};
use x402_types::v2::ResourceInfo;
use x402_types::{
    Entry, MadePayment, Malformed, Members, PaymentPayload, PaymentRequired, RawJson, Terms, Version, v1, v2,
};

use super::NotPayable;

/// The reason why an entry cannot be parsed, with the member.
#[derive(Debug)]
pub(super) struct Unreadable(String);

impl From<Unreadable> for NotPayable {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self::Unreadable(why.into())
    }
}

/// An entry as the server wrote it: the payment echoes it in full.
pub(super) enum Asked<'d> {
    V1(Box<v1::PaymentRequirements>),
    V2(&'d v2::PaymentRequirements),
    /// An entry in the form of its scheme's own, and its terms.
    Own(&'static dyn SchemeForm, &'d RawJson, Result<Terms, Malformed>),
}

/// Parses the entries, in the server's order.
pub(super) fn entries<'d>(required: &'d PaymentRequired, limits: &Limits) -> Vec<Result<Asked<'d>, Unreadable>> {
    match required {
        PaymentRequired::V1(document) => document
            .accepts
            .iter()
            .map(|entry| match entry {
                Entry::Known(entry) => Ok(Asked::V1(Box::new(entry.clone()))),
                Entry::Opaque(raw) => match leniently(raw) {
                    Some(entry) => Ok(Asked::V1(Box::new(entry))),
                    None => Err(why::<v1::PaymentRequirements>(raw, limits)),
                },
            })
            .collect(),
        PaymentRequired::V2(document) => document
            .accepts
            .iter()
            .map(|entry| match entry {
                Entry::Known(entry) => Ok(Asked::V2(entry)),
                Entry::Opaque(raw) => match read_entry(raw) {
                    Some((form, terms)) => Ok(Asked::Own(form, raw, terms)),
                    None => Err(why::<v2::PaymentRequirements>(raw, limits)),
                },
            })
            .collect(),
    }
}

/// Parses an entry of version 1 without the members that do not affect money: a payment of version 1 does not echo
/// them.
fn leniently(raw: &RawJson) -> Option<v1::PaymentRequirements> {
    let members: Members = raw.read().ok()?;
    let mut deciding = Members::new();
    for (key, value) in members.iter() {
        if !matches!(key, "resource" | "description" | "mimeType" | "outputSchema") {
            deciding.insert(key, value.clone());
        }
    }
    RawJson::of(&deciding).ok()?.read().ok()
}

/// Finds the fault by the strict parser, whose error names the member.
fn why<T: serde::de::DeserializeOwned>(raw: &RawJson, limits: &Limits) -> Unreadable {
    let read: Result<T, DecodeError> = json::from_slice(raw.as_str().as_bytes(), limits);
    Unreadable(read.err().map_or_else(|| "its form is not known".to_owned(), |error| error.to_string()))
}

impl Asked<'_> {
    pub(super) fn terms(&self) -> Result<Terms, Unreadable> {
        match self {
            Self::V1(entry) => Terms::try_from(&**entry)
                .map_err(|_| Unreadable(format!("network: {} is not known", entry.network.as_str()))),
            Self::V2(entry) => Ok((*entry).into()),
            Self::Own(_, _, terms) => terms.clone().map_err(|why| Unreadable(why.to_string())),
        }
    }

    /// Returns the resource that the scheme signs: the requested URL, unless the scheme's form takes the server's.
    pub(super) fn url<'u>(&self, required: &'u Option<ResourceInfo>, requested: &'u str) -> &'u str {
        match self {
            Self::Own(form, ..) => form.signed_url(required.as_ref().map(|resource| resource.url.as_str()), requested),
            Self::V1(_) | Self::V2(_) => requested,
        }
    }

    /// Writes the payment for the entry in its header.
    pub(super) fn header(
        &self,
        required: &PaymentRequired,
        extensions: Members,
        made: MadePayment,
    ) -> Result<(HeaderName, HeaderValue), EncodeError> {
        let payment = match self {
            Self::V1(entry) => PaymentPayload::V1(v1::PaymentPayload {
                x402_version: Version::V1,
                scheme: entry.scheme.clone(),
                network: entry.network.clone(),
                payload: made.payload,
                rest: Members::new(),
            }),
            Self::V2(entry) => {
                let mut accepted = (*entry).clone();
                for (key, value) in made.extra.iter() {
                    accepted.extra.insert(key, value.clone());
                }
                // Some servers read version 2 in the form of version 1, and expect these at the top; others ignore
                // them.
                let mut rest = Members::new();
                rest.insert_text("scheme", accepted.scheme.as_str());
                rest.insert_text("network", accepted.network.as_str());
                PaymentPayload::V2(v2::PaymentPayload {
                    x402_version: Version::V2,
                    resource: required.resource(),
                    accepted,
                    payload: made.payload,
                    extensions,
                    rest,
                })
            }
            Self::Own(form, entry, _) => {
                let payment = form.pay(entry, required.resource(), made);
                let unwritten = |why: Malformed| EncodeError::Json { detail: why.to_string().into() };
                let name = PaymentHeader::of(required.version()).name().clone();
                return Ok((name, header::encode(&payment.map_err(unwritten)?)?));
            }
        };
        header::encode_payment(&payment)
    }
}
