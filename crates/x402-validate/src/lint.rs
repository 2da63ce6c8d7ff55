//! The linter: the document's "Field Rules". It takes one document and returns every issue.

use x402_codec::json::{Member, Node, Value};

use crate::document::{self, Document};
use crate::entry::{self, Dialect, Fields};
use crate::extensions;
use crate::misplaced::{self, Wrapped};
use crate::normalize;
use crate::place::Place;
use crate::report::{DocumentFormat, Issue, Issues, Report, quote};
use crate::resource;
use crate::{Code, Registry, Severity};

/// The options of the linter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether warnings are reported as errors.
    pub strict: bool,
    /// The longest document, in bytes: 1 MiB.
    pub limit: usize,
    /// The length of the encoded header that carried the document, if there was one.
    pub header: Option<usize>,
    /// The known networks, assets and simple names: exactly the document's.
    pub registry: Registry,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict: false, limit: 1024 * 1024, header: None, registry: Registry::document() }
    }
}

impl Options {
    /// Reports warnings as errors.
    #[must_use]
    pub const fn with_warnings_as_errors(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Replaces the registry, for example by [`Registry::all`].
    #[must_use]
    pub fn with_registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }
}

/// Reports every issue of a document. The function is pure: it uses neither clock nor network and does not panic; time
/// and memory are linear in the input.
#[must_use]
pub fn lint<'a>(document: impl Into<Document<'a>>, options: &Options) -> Report {
    let bytes = document.into().bytes();
    let root = match document::read(bytes.as_deref(), options) {
        Ok(root) => root,
        Err(report) => return report,
    };
    let mut issues = Issues::default();
    let (version, normalized) = match &root.value {
        Value::Object(members) => whole(&root, members, bytes.as_deref().unwrap_or_default(), options, &mut issues),
        _ => (DocumentFormat::Unknown, other(&root, options, &mut issues)),
    };
    Report::new(version, issues, normalized, options.strict)
}

/// Detects the format of a document, or the one by which it would be checked.
#[must_use]
pub fn detect<'a>(document: impl Into<Document<'a>>) -> DocumentFormat {
    let options = Options { registry: Registry::empty(), ..Options::default() };
    let bytes = document.into().bytes();
    let Ok(root) = document::read(bytes.as_deref(), &options) else { return DocumentFormat::Unknown };
    root.as_object().map_or(DocumentFormat::Unknown, |members| Top::of(members).version(true))
}

/// The members of a document that the rules inspect.
#[derive(Default)]
pub(crate) struct Top<'n, 'a> {
    pub(crate) x402_version: Option<&'n Node<'a>>,
    pub(crate) accepts: Option<&'n Node<'a>>,
    pub(crate) resource: Option<&'n Node<'a>>,
    pub(crate) error: Option<&'n Node<'a>>,
    pub(crate) extensions: Option<&'n Node<'a>>,
    endpoints: Option<&'n [Member<'a>]>,
    pay_to: bool,
    max_amount: bool,
    dialect: bool,
}

impl<'n, 'a> Top<'n, 'a> {
    pub(crate) fn of(members: &'n [Member<'a>]) -> Self {
        let mut top = Self::default();
        for member in members {
            let value = &member.value;
            match &*member.key {
                "x402Version" => top.x402_version = Some(value),
                "accepts" => top.accepts = Some(value),
                "resource" => top.resource = Some(value),
                "error" => top.error = Some(value),
                "extensions" => top.extensions = Some(value),
                "endpoints" => top.endpoints = value.as_object(),
                "payTo" => top.pay_to = true,
                "maxAmountRequired" => top.max_amount = true,
                "version" => top.dialect = value.as_str() == Some("x402.v1"),
                _ => {}
            }
        }
        top
    }

    /// Determines the version in x402lint's order: the manifest first, then by version. A document whose version is
    /// missing or wrong is checked as version 1 if it has `maxAmountRequired`, otherwise as version 2.
    pub(crate) fn version(&self, manifest: bool) -> DocumentFormat {
        let nothing = self.accepts.is_none() && !self.pay_to && self.x402_version.is_none();
        if self.dialect {
            return DocumentFormat::Unknown;
        }
        if let Some(endpoints) = self.endpoints.filter(|_| manifest)
            && (nothing || endpoints.iter().any(|m| m.value.get("accepts").is_some_and(|a| a.as_array().is_some())))
        {
            return DocumentFormat::Manifest;
        }
        if nothing {
            return DocumentFormat::Unknown;
        }
        if self.accepts.is_none() && self.pay_to {
            return DocumentFormat::Legacy;
        }
        match self.x402_version.and_then(Node::as_number) {
            Some("2") => DocumentFormat::V2,
            Some("1") => DocumentFormat::V1,
            _ if self.max_amount
                || self.entries().iter().any(|e| misplaced::entry(e, "maxAmountRequired").is_some()) =>
            {
                DocumentFormat::V1
            }
            _ => DocumentFormat::V2,
        }
    }

    pub(crate) fn entries(&self) -> &'n [Node<'a>] {
        self.accepts.and_then(Node::as_array).unwrap_or_default()
    }
}

/// The state that the rules share.
pub(crate) struct Context<'o> {
    pub(crate) options: &'o Options,
    pub(crate) issues: &'o mut Issues,
    /// The number of bytes of JSON Schemas that may still be compiled.
    pub(crate) schemas: usize,
}

impl Context<'_> {
    pub(crate) fn push(&mut self, issue: Issue) {
        self.issues.push(issue);
    }
}

fn whole(
    root: &Node<'_>,
    members: &[Member<'_>],
    bytes: &[u8],
    options: &Options,
    issues: &mut Issues,
) -> (DocumentFormat, Option<serde_json::Value>) {
    let top = Top::of(members);
    let version = top.version(true);
    let mut cx = Context { options, issues, schemas: crate::schema::BUDGET };
    let wrapped = (version == DocumentFormat::Unknown && !top.dialect).then(|| misplaced::wrapped(members)).flatten();
    let normalized = match (version, top.endpoints, wrapped) {
        (DocumentFormat::Manifest, Some(endpoints), _) => manifest(&mut cx, root, endpoints),
        (_, _, Some(wrapped)) => inner(&mut cx, root, &wrapped),
        _ => one(&mut cx, Place::ROOT, root, &top, version),
    };
    if version == DocumentFormat::V2 || options.header.is_some() {
        header(&mut cx, root, bytes);
    }
    (version, normalized)
}

/// Reports a document that lies below members of another one, and lints it there.
fn inner(cx: &mut Context<'_>, root: &Node<'_>, wrapped: &Wrapped<'_, '_>) -> Option<serde_json::Value> {
    let fix = format!("send what `{}` has alone", wrapped.path.escape_debug());
    let message =
        format!("the payment requirements are below `{}`, where no client looks for them", wrapped.path.escape_debug());
    cx.push(
        Issue::new(Code::UnknownFormat, Place::ROOT.field(""), &root.span).message(message.clone()).fix(fix.clone()),
    );
    let place = Place::wrapped(&wrapped.path);
    cx.push(Issue::new(Code::WrappedDocument, place.field(""), &wrapped.document.span).message(message).fix(fix));
    let top = Top::of(wrapped.members);
    one(cx, place, wrapped.document, &top, top.version(false))
}

/// Reports a document that is no object. A list of entries, as some servers send it, is set right.
fn other(root: &Node<'_>, options: &Options, issues: &mut Issues) -> Option<serde_json::Value> {
    let entry = |node: &&Node<'_>| ["scheme", "network", "payTo"].iter().all(|name| node.get(name).is_some());
    let entries = root.as_array().filter(|elements| elements.first().as_ref().is_some_and(entry));
    let Some(elements) = entries else {
        issues.push(not_object(Place::ROOT, root));
        return None;
    };
    issues.push(not_object(Place::ROOT, root).fix(WRAPPED_LIST));
    issues.push(
        Issue::new(Code::WrappedDocument, Place::ROOT.field(""), &root.span)
            .message("the document is the list of entries alone")
            .fix(WRAPPED_LIST),
    );
    Some(normalize::list(elements, &options.registry))
}

/// The fix for a list of entries.
const WRAPPED_LIST: &str =
    "write {\"x402Version\": 2, \"resource\": {\"url\": …}, \"accepts\": [ … ]}, with the list as `accepts`";

/// "Each endpoint is linted as its own document under `endpoints.NAME.`"
fn manifest(cx: &mut Context<'_>, root: &Node<'_>, endpoints: &[Member<'_>]) -> Option<serde_json::Value> {
    if endpoints.is_empty() {
        let span = root.get("endpoints").map_or(&root.span, |node| &node.span);
        cx.push(
            Issue::new(Code::EmptyAccepts, Place::ROOT.field("endpoints"), span)
                .message("the manifest has no endpoints")
                .fix("add an endpoint: a name and its payment requirements"),
        );
    }
    let mut out = serde_json::Map::new();
    for member in endpoints {
        let place = Place::endpoint(&member.key);
        let Some(members) = member.value.as_object() else {
            cx.push(not_object(place, &member.value));
            continue;
        };
        let top = Top::of(members);
        if let Some(normalized) = one(cx, place, &member.value, &top, top.version(false)) {
            out.insert(member.key.clone().into_owned(), normalized);
        }
    }
    let mut manifest = serde_json::Map::new();
    manifest.insert("endpoints".to_owned(), out.into());
    Some(manifest.into())
}

fn not_object(place: Place<'_>, node: &Node<'_>) -> Issue {
    Issue::new(Code::NotObject, place.field(""), &node.span)
        .message(format!("expected an object, found {}", node.kind()))
}

fn one(
    cx: &mut Context<'_>,
    place: Place<'_>,
    root: &Node<'_>,
    top: &Top<'_, '_>,
    version: DocumentFormat,
) -> Option<serde_json::Value> {
    let dialect = match version {
        DocumentFormat::V2 => Dialect::V2,
        DocumentFormat::V1 => Dialect::V1,
        DocumentFormat::Legacy => Dialect::Legacy,
        DocumentFormat::Manifest | DocumentFormat::Unknown => {
            let mut issue = Issue::new(Code::UnknownFormat, place.field(""), &root.span);
            if top.dialect {
                issue = issue
                    .message("the document is a challenge of the x402.v1 dialect, not of x402 version 1 or 2")
                    .fix("this is 402Kit's x402.v1 dialect: serve x402 version 2 instead, or check it with 402Kit");
            }
            cx.push(issue);
            return None;
        }
    };
    x402_version(cx, place, root, top, dialect);
    if dialect != Dialect::V2 {
        cx.push(Issue::new(Code::LegacyFormat, place.field(""), &root.span));
    }
    if let (Dialect::Legacy, Some("2")) = (dialect, top.x402_version.and_then(Node::as_number)) {
        cx.push(
            Issue::new(Code::MissingAccepts, place.field("accepts"), &root.span)
                .message("`accepts` is missing: version 2 has it, and clients of version 2 read no flat document")
                .fix("put what can be paid into \"accepts\": [ … ]; `normalized` shows it"),
        );
    }
    let entries = entries(cx, place, root, top, dialect);
    misplaced::check(cx, place, root, &entries, dialect);
    envelope(cx, place, top);
    resource::check(cx, place, root, top, &entries, dialect);
    for (index, fields) in &entries {
        let place = if dialect == Dialect::Legacy { place } else { place.entry(*index) };
        entry::check(cx, place, fields, dialect);
        extensions::output_schema(cx, place, fields);
    }
    extensions::check(cx, place, root, top.extensions, &entries);
    Some(normalize::document(root, dialect, &cx.options.registry))
}

/// Checks the kinds of the document's other members. Clients pass over a wrong one, since it decides no money; some
/// refuse the whole document.
fn envelope(cx: &mut Context<'_>, place: Place<'_>, top: &Top<'_, '_>) {
    let error = top.error.filter(|node| node.as_str().is_none()).map(|node| ("error", node, "a string"));
    let other = |node: &&Node<'_>| node.as_object().is_none();
    let extensions =
        top.extensions.filter(other).map(|node| ("extensions", node, "an object: each extension by its name"));
    for (name, node, expected) in error.into_iter().chain(extensions).filter(|(_, node, _)| !node.is_null()) {
        cx.push(
            Issue::new(Code::InvalidMember, place.field(name), &node.span)
                .severity(Severity::Warning)
                .message(format!("`{name}` must be {expected}, found {}", node.kind()))
                .fix(format!("write {expected}, or leave it out")),
        );
    }
}

fn x402_version(cx: &mut Context<'_>, place: Place<'_>, root: &Node<'_>, top: &Top<'_, '_>, dialect: Dialect) {
    let field = || place.field("x402Version");
    match top.x402_version {
        Some(node) if !missing(node) => {
            if !matches!(node.as_number(), Some("1" | "2")) {
                cx.push(
                    Issue::new(Code::InvalidVersion, field(), &node.span)
                        .message(format!("`x402Version` must be the number 1 or 2, found {}", spelt(node))),
                );
            }
        }
        // The flat form is older than the version member.
        _ if dialect == Dialect::Legacy => {}
        absent => cx.push(Issue::new(Code::MissingVersion, field(), absent.map_or(&root.span, |node| &node.span))),
    }
}

/// Returns the entries that are objects, with their places. In the flat form the only entry is the document itself.
fn entries<'n, 'a>(
    cx: &mut Context<'_>,
    place: Place<'_>,
    root: &'n Node<'a>,
    top: &Top<'n, 'a>,
    dialect: Dialect,
) -> Vec<(usize, Fields<'n, 'a>)> {
    if dialect == Dialect::Legacy {
        return Fields::of(root).map(|fields| (0, fields)).into_iter().collect();
    }
    let Some(node) = top.accepts.filter(|node| !missing(node)) else {
        let span = top.accepts.map_or(&root.span, |node| &node.span);
        cx.push(Issue::new(Code::MissingAccepts, place.field("accepts"), span));
        return Vec::new();
    };
    let Some(elements) = node.as_array() else {
        cx.push(
            Issue::new(Code::InvalidAccepts, place.field("accepts"), &node.span)
                .message(format!("`accepts` must be an array of objects, found {}", node.kind())),
        );
        return Vec::new();
    };
    if elements.is_empty() {
        cx.push(Issue::new(Code::EmptyAccepts, place.field("accepts"), &node.span));
    }
    let mut entries = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        match Fields::of(element) {
            Some(fields) => entries.push((index, fields)),
            None => cx.push(
                Issue::new(Code::InvalidAccepts, place.entry(index).field(""), &element.span)
                    .message(format!("an entry of `accepts` must be an object, found {}", element.kind())),
            ),
        }
    }
    entries
}

/// Checks the length of the encoded header against nginx's default for a whole response head (4 KiB): the header that
/// was sent, or the one that the compact document would need.
fn header(cx: &mut Context<'_>, root: &Node<'_>, bytes: &[u8]) {
    const LARGEST: usize = 3_500;
    let encoded = |n: usize| n.div_ceil(3) * 4;
    let length = match cx.options.header {
        Some(length) => length,
        None if encoded(bytes.len()) <= LARGEST => return,
        None => encoded(compact(bytes)),
    };
    if length > LARGEST {
        cx.push(Issue::new(Code::HeaderTooLarge, Place::ROOT.field(""), &root.span).message(format!(
            "the encoded header is {length} bytes long; over {LARGEST}, a proxy with default settings may answer 502 instead"
        )));
    }
}

/// Returns the length without white space between tokens.
fn compact(json: &[u8]) -> usize {
    let (mut length, mut quoted, mut escaped) = (0, false, false);
    for byte in json {
        if quoted || !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            length += 1;
        }
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b'\\' if quoted && !escaped => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    length
}

/// "A required field that is absent, null or empty."
pub(crate) fn missing(node: &Node<'_>) -> bool {
    node.is_null() || node.as_str() == Some("")
}

/// Formats a value for a message: quoted, escaped and cut.
pub(crate) fn spelt(node: &Node<'_>) -> String {
    match &node.value {
        Value::String(text) => quote(text),
        Value::Number(text) if text.len() <= 80 => (*text).to_owned(),
        _ => node.kind().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_tokens_does_not_count() {
        for (text, want) in
            [("{ \"a b\" : [ 1 ,\n2 ] }", r#"{"a b":[1,2]}"#), (r#"{"a\" ": "\\" }"#, r#"{"a\" ":"\\"}"#)]
        {
            assert_eq!(compact(text.as_bytes()), want.len(), "{text}");
        }
    }

    #[test]
    fn formats_are_told_apart() {
        for (text, want) in [
            ("[]", DocumentFormat::Unknown),
            ("{", DocumentFormat::Unknown),
            ("{}", DocumentFormat::Unknown),
            (r#"{"x402Version":2}"#, DocumentFormat::V2),
            (r#"{"x402Version":1,"accepts":[]}"#, DocumentFormat::V1),
            (r#"{"accepts":[]}"#, DocumentFormat::V2),
            (r#"{"accepts":[{"maxAmountRequired":"1"}]}"#, DocumentFormat::V1),
            (r#"{"x402Version":3,"accepts":[{"maxAmountRequired":"1"}]}"#, DocumentFormat::V1),
            (r#"{"payTo":"0x"}"#, DocumentFormat::Legacy),
            (r#"{"x402Version":2,"payTo":"0x"}"#, DocumentFormat::Legacy),
            (r#"{"x402Version":2,"payTo":"0x","accepts":[]}"#, DocumentFormat::V2),
            (r#"{"endpoints":{}}"#, DocumentFormat::Manifest),
            (r#"{"endpoints":[]}"#, DocumentFormat::Unknown),
            (r#"{"x402Version":2,"endpoints":{"a":{"accepts":[]}}}"#, DocumentFormat::Manifest),
            (r#"{"x402Version":2,"endpoints":{"a":{}}}"#, DocumentFormat::V2),
            (r#"{"version":"x402.v1","payTo":"0x"}"#, DocumentFormat::Unknown),
        ] {
            assert_eq!(detect(text), want, "{text}");
        }
    }
}
