//! The answer around a document:
//! [version 2 over HTTP](https://github.com/x402-foundation/x402/blob/main/specs/transports-v2/http.md), and what real
//! servers do instead.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;
use url::{Host, Url};
use x402_codec::header::PAYMENT_REQUIRED;

use crate::document;
use crate::encoding;
use crate::extract::{CheckedResponse, Source, lint_response};
use crate::place::short;
use crate::report::{DocumentFormat, Issue, quote};
use crate::summary::summary;
use crate::{Code, Options, Report, detect, lint};

/// An HTTP answer, as a client receives it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HttpAnswer<'r> {
    /// The status, 100 to 999, if it is known.
    pub status: Option<u16>,
    /// The URL that was requested, if it is known.
    pub url: Option<&'r str>,
    /// The headers in their order, names in any case; a name may be there more than once.
    pub headers: &'r [(&'r str, &'r [u8])],
    /// The body, as it was received.
    pub body: &'r [u8],
}

impl<'r> HttpAnswer<'r> {
    /// Creates an answer of which only headers and body are known.
    #[must_use]
    pub const fn new(headers: &'r [(&'r str, &'r [u8])], body: &'r [u8]) -> Self {
        Self { status: None, url: None, headers, body }
    }

    /// Sets the status.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the URL that was requested.
    #[must_use]
    pub const fn with_url(mut self, url: &'r str) -> Self {
        self.url = Some(url);
        self
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Lints the document of an answer, and the answer around it.
///
/// The document is found as [`lint_response`] finds it, and further in what servers send by mistake: under another
/// header, encoded in another way. An answer without one is `NO_TERMS`, never `INVALID_JSON`, unless it is JSON that
/// breaks off.
#[must_use]
pub fn lint_answer(answer: &HttpAnswer<'_>, options: &Options) -> CheckedResponse {
    let name = PAYMENT_REQUIRED.as_str();
    let mut around = Vec::new();
    let mut values = answer.named(name).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty());
    let mut checked = match values.next() {
        Some(value) => {
            let others = values.count();
            if others > 0 {
                let message = format!("`PAYMENT-REQUIRED` is there {} times", others + 1);
                around.push(issue(Code::RepeatedHeader, REQUIRED).message(message));
            }
            of_header(value, REQUIRED, options, &mut around)
        }
        None => of_body(answer, options, &mut around),
    };
    let has_terms = checked.report.normalized.is_some();
    if has_terms {
        terms(answer, &checked, options, &mut around);
    } else if !checked.json.is_empty() {
        status(answer, &checked, &mut around);
    }
    checked.report.add(around, options.strict);
    checked
}

/// The field of the header that carries the terms.
const REQUIRED: &str = "headers.PAYMENT-REQUIRED";

/// The number of headers that are looked into for a document.
const OTHERS: usize = 64;

fn issue(code: Code, field: impl Into<String>) -> Issue {
    Issue::new(code, field.into(), &(0..0))
}

/// Lints the document in a header value, however it is encoded.
fn of_header(value: &[u8], field: &str, options: &Options, around: &mut Vec<Issue>) -> CheckedResponse {
    let Some(reading) = encoding::read(value) else {
        return lint_response([(PAYMENT_REQUIRED.as_str(), value)], &[], options);
    };
    if let Some((severity, message)) = reading.flaw {
        around.push(issue(Code::HeaderEncoding, field).severity(severity).message(message));
    }
    let options = Options { header: Some(value.len()), ..options.clone() };
    document_of(reading.json.into_owned(), Some(Source::Header), &options)
}

fn document_of(json: Vec<u8>, source: Option<Source>, options: &Options) -> CheckedResponse {
    let report = lint(&json, options);
    let summary = summary(&report, &options.registry);
    CheckedResponse { report, source, summary, json }
}

/// Lints the document in the body or in a header of another name, or reports that there is none.
fn of_body(answer: &HttpAnswer<'_>, options: &Options, around: &mut Vec<Issue>) -> CheckedResponse {
    let checked = lint_response([], answer.body, options);
    let broken = checked.report.has(Code::InvalidJson) && answer.body.trim_ascii().first() == Some(&b'{');
    if broken || checked.report.normalized.is_some() {
        if checked.report.version == DocumentFormat::V2 {
            around.push(issue(Code::BodyOnly, REQUIRED));
        }
        return checked;
    }
    if let Some((name, value, reading)) = misnamed(answer) {
        let shown = short(name);
        let field = format!("headers.{shown}");
        around.push(no_terms(answer, format!("the terms are in `{}`, where no client looks", shown.escape_debug())));
        around.push(
            issue(Code::MisnamedHeader, field)
                .message(format!("the terms are in the header `{}`", shown.escape_debug())),
        );
        let options = Options { header: Some(value.len()), ..options.clone() };
        return document_of(reading, Some(Source::Header), &options);
    }
    let what = match other_protocol(answer) {
        Some(protocol) => format!("the answer asks for a payment by {protocol}, and not by x402"),
        None => {
            let body = match answer.body.trim_ascii() {
                [] => "an empty body",
                [b'<', ..] => "a body of HTML",
                _ => "a body that is no document of x402",
            };
            format!("the answer has no PAYMENT-REQUIRED header, and {body}")
        }
    };
    around.push(no_terms(answer, what));
    let empty = Report::empty();
    CheckedResponse { report: empty, source: None, summary: Vec::new(), json: Vec::new() }
}

/// Creates the issue of an answer without terms; the message names an unusual status.
fn no_terms(answer: &HttpAnswer<'_>, what: String) -> Issue {
    let message = match answer.status {
        None | Some(402) => what,
        Some(status @ 300..=399) => format!("{what}; its status is {status}: redirects are not followed"),
        Some(status) => format!("{what}; its status is {status}"),
    };
    issue(Code::NoTerms, REQUIRED).message(message)
}

/// Finds a document in a header of another name.
fn misnamed<'r>(answer: &HttpAnswer<'r>) -> Option<(&'r str, &'r [u8], Vec<u8>)> {
    answer.headers.iter().take(OTHERS).find_map(|(name, value)| {
        let value = value.trim_ascii();
        let begins = matches!(value.first(), Some(b'{')) || value.starts_with(b"eyJ") || value.starts_with(b"%7B");
        let reading = begins.then(|| encoding::read(value)).flatten()?;
        let json = reading.json.into_owned();
        (detect(&json) != DocumentFormat::Unknown).then_some((*name, value, json))
    })
}

/// Finds the name of another payment protocol in `WWW-Authenticate`.
fn other_protocol(answer: &HttpAnswer<'_>) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 3] = [("payment", "MPP"), ("l402", "L402"), ("lsat", "LSAT")];
    answer.named("WWW-Authenticate").find_map(|value| {
        let scheme = value.trim_ascii().split(|b| *b == b' ').next().unwrap_or_default();
        KNOWN.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(scheme)).map(|(_, name)| *name)
    })
}

/// Checks an answer that has terms.
fn terms(answer: &HttpAnswer<'_>, checked: &CheckedResponse, options: &Options, around: &mut Vec<Issue>) {
    status(answer, checked, around);
    if checked.source == Some(Source::Header)
        && let Some(message) = disagreement(answer, checked, options)
    {
        around.push(issue(Code::HeaderAndBodyDisagree, "body").message(message));
    }
    let guarded = answer.named("Cache-Control").any(|value| {
        let value = value.to_ascii_lowercase();
        let has = |word: &[u8]| value.windows(word.len()).any(|window| window == word);
        has(b"no-store") || has(b"no-cache") || has(b"private")
    });
    if !guarded {
        around.push(issue(Code::MissingCacheControl, "headers.Cache-Control"));
    }
    if let Some(protocol) = other_protocol(answer) {
        let message = format!("`WWW-Authenticate` asks for a payment by {protocol}, which clients of x402 pass over");
        around.push(issue(Code::OtherProtocol, "headers.WWW-Authenticate").message(message));
    }
    urls(answer, checked, around);
}

/// Checks the status of an answer in whose header or body there is a document.
fn status(answer: &HttpAnswer<'_>, checked: &CheckedResponse, around: &mut Vec<Issue>) {
    let Some(status) = answer.status.filter(|status| !matches!(status, 402 | 412)) else { return };
    if checked.report.has(Code::InvalidJson) {
        return;
    }
    let effect = if (200..300).contains(&status) { "the content is free" } else { "no client pays" };
    around.push(
        issue(Code::UnexpectedStatus, "status").message(format!("the terms come with status {status}: {effect}")),
    );
}

/// One way to pay, by what makes it another than the next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    key: [String; 3],
    pay_to: String,
    amount: String,
}

/// The number of entries that are compared.
const COMPARED: usize = 64;

fn offers(document: Option<&Value>) -> Vec<Offer> {
    let entries = document.and_then(|document| document.get("accepts")).and_then(Value::as_array);
    let offer = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        Offer { key: ["scheme", "network", "asset"].map(text), pay_to: text("payTo"), amount: text("amount") }
    };
    entries.into_iter().flatten().take(COMPARED).map(offer).collect()
}

/// Finds a difference between the terms of the header and those of the body, if that has any.
fn disagreement(answer: &HttpAnswer<'_>, checked: &CheckedResponse, options: &Options) -> Option<String> {
    let body = lint_response([], answer.body, options);
    let (header, body) = (offers(checked.report.normalized.as_ref()), offers(body.report.normalized.as_ref()));
    if header.is_empty() || body.is_empty() {
        return None;
    }
    let mut common = false;
    for one in &header {
        let mut same = body.iter().filter(|other| other.key == one.key).peekable();
        let Some(first) = same.peek().copied() else { continue };
        common = true;
        if !same.any(|other| other == one) {
            return Some(if first.amount == one.amount {
                format!("the header asks for a payment to {}, the body to {}", quote(&one.pay_to), quote(&first.pay_to))
            } else {
                format!(
                    "the header asks for {} atomic units, the body for {}",
                    quote(&one.amount),
                    quote(&first.amount)
                )
            });
        }
    }
    (!common).then(|| "no way to pay of the header is in the body".to_owned())
}

/// Checks the requested URL and that of the resource.
fn urls(answer: &HttpAnswer<'_>, checked: &CheckedResponse, around: &mut Vec<Issue>) {
    let requested = answer.url.and_then(|url| Url::parse(url).ok());
    let is_local = requested.as_ref().is_some_and(private);
    if requested.as_ref().is_some_and(|url| url.scheme() == "http") && !is_local {
        around.push(issue(Code::InsecureUrl, "url").message("the resource is requested by http"));
    }
    let span = document::read(Some(&checked.json), &Options::default()).ok().and_then(|root| {
        let resource = root.get("resource")?;
        Some(resource.get("url").unwrap_or(resource).span.clone())
    });
    let resource =
        checked.report.normalized.as_ref().and_then(|document| document.get("resource")?.get("url")?.as_str());
    let Some(url) = resource.and_then(|url| Url::parse(url).ok()) else { return };
    let at = |code| Issue::new(code, "resource.url".to_owned(), &span.unwrap_or_default());
    if private(&url) {
        if !is_local {
            around.push(
                at(Code::PrivateResource)
                    .message(format!("nobody else can reach {}", quote(url.host_str().unwrap_or_default()))),
            );
        }
    } else if url.scheme() == "http" {
        around.push(at(Code::InsecureUrl).message("the resource is paid for by http"));
    }
}

/// Returns whether the host is one that only this machine or its network reaches.
fn private(url: &Url) -> bool {
    match url.host() {
        None => false,
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let ends = |suffix: &str| name == suffix.trim_start_matches('.') || name.ends_with(suffix);
            [".localhost", ".local", ".internal", ".lan", ".home.arpa"].into_iter().any(ends)
        }
        Some(Host::Ipv4(ip)) => local(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => local(IpAddr::V6(ip)),
    }
}

fn local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            let unique = ip.segments().first().is_some_and(|first| first & 0xfe00 == 0xfc00);
            let link = ip.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80);
            ip == Ipv6Addr::LOCALHOST
                || ip.is_unspecified()
                || unique
                || link
                || ip.to_ipv4_mapped().is_some_and(|v4| local(IpAddr::V4(v4)))
        }
    }
}
