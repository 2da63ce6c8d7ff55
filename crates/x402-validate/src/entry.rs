//! One entry of `accepts`: the document's "Field Rules" for `accepts[]`, and those of schemes with other fields.

use x402_codec::json::{Node, Value};
use x402_types::{AtomicAmount, ChainId, SchemeName, TimeoutSeconds};

use crate::address::{Flaw, Namespace, Role};
use crate::amount;
use crate::caip2::Caip2;
use crate::extra;
use crate::lint::{Context, missing, spelt};
use crate::misplaced;
use crate::place::Place;
use crate::report::{Issue, quote};
use crate::token::Token;
use crate::unpayable;
use crate::{Code, Severity};

/// The set of rules by which a document is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V1,
    Legacy,
}

/// The members of an entry that the rules inspect.
pub(crate) struct Fields<'n, 'a> {
    pub(crate) node: &'n Node<'a>,
    pub(crate) scheme: Option<&'n Node<'a>>,
    pub(crate) network: Option<&'n Node<'a>>,
    pub(crate) amount: Option<&'n Node<'a>>,
    pub(crate) max_amount: Option<&'n Node<'a>>,
    pub(crate) asset: Option<&'n Node<'a>>,
    pub(crate) pay_to: Option<&'n Node<'a>>,
    pub(crate) timeout: Option<&'n Node<'a>>,
    pub(crate) resource: Option<&'n Node<'a>>,
    pub(crate) output_schema: Option<&'n Node<'a>>,
    pub(crate) extra: Option<&'n Node<'a>>,
    pub(crate) plan_id: Option<&'n Node<'a>>,
    pub(crate) description: Option<&'n Node<'a>>,
    pub(crate) mime_type: Option<&'n Node<'a>>,
}

impl<'n, 'a> Fields<'n, 'a> {
    pub(crate) fn of(node: &'n Node<'a>) -> Option<Self> {
        let members = node.as_object()?;
        let mut fields = Self {
            node,
            scheme: None,
            network: None,
            amount: None,
            max_amount: None,
            asset: None,
            pay_to: None,
            timeout: None,
            resource: None,
            output_schema: None,
            extra: None,
            plan_id: None,
            description: None,
            mime_type: None,
        };
        for member in members {
            let slot = match &*member.key {
                "scheme" => &mut fields.scheme,
                "network" => &mut fields.network,
                "amount" => &mut fields.amount,
                "maxAmountRequired" => &mut fields.max_amount,
                "asset" => &mut fields.asset,
                "payTo" => &mut fields.pay_to,
                "maxTimeoutSeconds" => &mut fields.timeout,
                "resource" => &mut fields.resource,
                "outputSchema" => &mut fields.output_schema,
                "extra" => &mut fields.extra,
                "planId" => &mut fields.plan_id,
                "description" => &mut fields.description,
                "mimeType" => &mut fields.mime_type,
                _ => continue,
            };
            *slot = Some(&member.value);
        }
        Some(fields)
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.scheme.and_then(Node::as_str) {
            Some("nvm:erc4337") => Kind::Erc4337,
            Some("nvm:card-delegation") => Kind::Card,
            Some("upto" | "batch-settlement") => Kind::Metered,
            _ => Kind::Transfer,
        }
    }

    /// Returns whether the entry is of one of Nevermined's schemes.
    pub(crate) fn is_nvm(&self) -> bool {
        self.scheme.and_then(Node::as_str).is_some_and(|scheme| scheme.starts_with("nvm:"))
    }

    /// Returns the token of the entry, if it is one that every client knows.
    pub(crate) fn token(&self, network: &Net<'_>) -> Option<Token> {
        Token::find(network.id()?, self.asset.and_then(Node::as_str)?)
    }

    /// Returns the price under the dialect's name for it, and under the other dialect's name.
    pub(crate) fn price(&self, dialect: Dialect) -> (Option<&'n Node<'a>>, Option<&'n Node<'a>>) {
        match dialect {
            Dialect::V2 => (self.amount, self.max_amount),
            Dialect::V1 => (self.max_amount, self.amount),
            Dialect::Legacy if self.amount.is_none_or(missing) => (self.max_amount, self.amount),
            Dialect::Legacy => (self.amount, self.max_amount),
        }
    }
}

/// The set of fields that a scheme requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `exact`, and unknown schemes: everything that the document requires.
    Transfer,
    /// `upto`, `batch-settlement`: the amount is decided later.
    Metered,
    /// `nvm:erc4337`: a plan in place of asset, amount and payTo.
    Erc4337,
    /// `nvm:card-delegation`: also a plan, and the network may be a card processor.
    Card,
}

impl Kind {
    const fn is_nvm(self) -> bool {
        matches!(self, Self::Erc4337 | Self::Card)
    }
}

/// The schemes that a published client pays.
const SCHEMES: [&str; 6] = ["exact", "upto", "batch-settlement", "auth-capture", "nvm:erc4337", "nvm:card-delegation"];

/// The networks of `nvm:card-delegation`.
const PROCESSORS: [&str; 3] = ["stripe", "braintree", "visa"];

pub(crate) fn check(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, dialect: Dialect) {
    let kind = fields.kind();
    scheme(cx, place, fields);
    let network = network(cx, place, fields, kind);
    price(cx, place, fields, &network, dialect, kind);
    asset(cx, place, fields, &network, kind);
    pay_to(cx, place, fields, &network, kind);
    timeout(cx, place, fields, dialect, kind);
    plan(cx, place, fields, kind);
    extra::check(cx, place, fields, &network, kind);
    unpayable::check(cx, place, fields, &network);
    texts(cx, place, fields, dialect);
    batch(cx, place, fields, &network);
}

/// Checks the scheme. No client knows a scheme whose name is malformed.
fn scheme(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>) {
    let Some(text) = required(cx, place, fields, "scheme", fields.scheme, Code::MissingScheme) else { return };
    if text.parse::<SchemeName>().is_err() {
        let span = fields.scheme.map_or(&fields.node.span, |node| &node.span);
        cx.push(Issue::new(Code::MissingScheme, place.field("scheme"), span).message(format!(
            "{} is no scheme: expected {}",
            quote(text),
            SchemeName::EXPECTED
        )));
    } else if !SCHEMES.contains(&text) {
        let span = fields.scheme.map_or(&fields.node.span, |node| &node.span);
        let issue = Issue::new(Code::UnknownScheme, place.field("scheme"), span);
        cx.push(match SCHEMES.iter().find(|known| misplaced::alike(known, text)) {
            Some(known) => issue
                .message(format!("{} is spelt \"{known}\": no client pays it in other letters", quote(text)))
                .fix(format!("write \"{known}\"")),
            None => issue.message(format!("the scheme {} is none that a published client pays", quote(text))),
        });
    }
}

/// Returns whether the text is the one spelling of a 256-bit identifier.
pub(crate) fn is_id(text: &str) -> bool {
    text.parse::<AtomicAmount>().is_ok()
}

/// Checks `description` and `mimeType`, which version 1 has in the entry: both are text.
fn texts(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, dialect: Dialect) {
    if dialect != Dialect::V1 {
        return;
    }
    for (name, node) in [("description", fields.description), ("mimeType", fields.mime_type)] {
        if let Some(node) = node.filter(|node| !node.is_null() && node.as_str().is_none()) {
            cx.push(
                Issue::new(Code::InvalidMember, place.field(name), &node.span)
                    .message(format!("`{name}` must be a string, found {}", node.kind())),
            );
        }
    }
}

/// Returns the text of a field, or reports it if it is absent, null, empty or not a string.
fn required<'n>(
    cx: &mut Context<'_>,
    place: Place<'_>,
    fields: &Fields<'_, '_>,
    name: &str,
    node: Option<&'n Node<'_>>,
    code: Code,
) -> Option<&'n str> {
    let Some(node) = node.filter(|node| !missing(node)) else {
        absent(cx, place, fields, name, node, code);
        return None;
    };
    if node.as_str().is_none() {
        cx.push(
            Issue::new(code, place.field(name), &node.span)
                .message(format!("`{name}` must be a string, found {}", node.kind())),
        );
    }
    node.as_str()
}

fn absent(
    cx: &mut Context<'_>,
    place: Place<'_>,
    fields: &Fields<'_, '_>,
    name: &str,
    node: Option<&Node<'_>>,
    code: Code,
) {
    cx.push(Issue::new(code, place.field(name), node.map_or(&fields.node.span, |node| &node.span)));
}

/// The network of an entry, as far as it is known.
pub(crate) struct Net<'n> {
    /// The identifier, if it is well-formed.
    pub(crate) caip2: Option<&'n str>,
    /// The identifier that the entry means: its own, or that of a simple name.
    pub(crate) meant: Option<String>,
    pub(crate) namespace: Option<Namespace>,
}

impl Net<'_> {
    /// Returns the identifier that the entry means, well-formed or by a simple name.
    pub(crate) fn id(&self) -> Option<&str> {
        self.caip2.or(self.meant.as_deref())
    }
}

/// Checks "CAIP-2 format". A simple name is an error whose fix is the identifier, by which the addresses are then
/// checked.
fn network<'n>(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'n, '_>, kind: Kind) -> Net<'n> {
    let nothing = Net { caip2: None, meant: None, namespace: None };
    let Some(node) = fields.network.filter(|node| !missing(node)) else {
        absent(cx, place, fields, "network", fields.network, Code::MissingNetwork);
        return nothing;
    };
    let bad =
        |message: String| Issue::new(Code::InvalidNetworkFormat, place.field("network"), &node.span).message(message);
    let Some(text) = node.as_str() else {
        cx.push(bad(format!("`network` must be a string, found {}", node.kind())));
        return nothing;
    };
    if kind == Kind::Card && PROCESSORS.contains(&text) {
        return nothing;
    }
    if let Some(id) = Caip2::parse(text) {
        if let (Err(why), "eip155") = (text.parse::<ChainId>(), id.namespace()) {
            cx.push(bad(format!("{} is no network: expected {why}", quote(text))));
            return Net { caip2: None, meant: None, namespace: Some(Namespace::Eip155) };
        }
        if cx.options.registry.network(text).is_none() {
            cx.push(
                Issue::new(Code::UnknownNetwork, place.field("network"), &node.span)
                    .message(format!("the network {} is not in the registry", quote(text))),
            );
        }
        return Net { caip2: Some(text), meant: None, namespace: Namespace::known(id.namespace()) };
    }
    let issue = bad(format!("{} is not a CAIP-2 identifier", quote(text)));
    let Some(id) = cx.options.registry.simple_name(text).map(str::to_owned) else {
        cx.push(match Caip2::stray(text) {
            Some(stray) => issue.fix(format!(
                "write `namespace:reference` with letters, digits, `-` and `_` only: '{}' is none of them",
                stray.escape_debug()
            )),
            None => issue,
        });
        return nothing;
    };
    cx.push(issue.fix(format!("use '{id}' instead of '{}'", text.escape_debug())));
    let namespace = Caip2::parse(&id).and_then(|id| Namespace::known(id.namespace()));
    Net { caip2: None, meant: Some(id), namespace }
}

/// Checks "String of digits only, > 0 (atomic units, not decimals)". Issues of `maxAmountRequired` are reported at
/// `.amount` too.
fn price(
    cx: &mut Context<'_>,
    place: Place<'_>,
    fields: &Fields<'_, '_>,
    network: &Net<'_>,
    dialect: Dialect,
    kind: Kind,
) {
    let (node, other) = fields.price(dialect);
    let other = other.filter(|other| !missing(other));
    let Some(node) = node.filter(|node| !missing(node)) else {
        if kind == Kind::Transfer {
            let span = node.map_or(&fields.node.span, |node| &node.span);
            let mut issue = Issue::new(Code::MissingAmount, place.field("amount"), span);
            match (dialect, other) {
                (Dialect::V1, Some(_)) => {
                    issue = issue.fix("version 1 names it `maxAmountRequired`: rename `amount`, or send version 2")
                }
                (Dialect::V1, None) => issue = issue.message("`maxAmountRequired` is missing"),
                (_, Some(_)) => issue = issue.fix("version 2 names it `amount`: rename `maxAmountRequired`"),
                _ => {}
            }
            cx.push(issue);
        }
        return;
    };
    let invalid = |message: String| Issue::new(Code::InvalidAmount, place.field("amount"), &node.span).message(message);
    let whole = |text: &str| {
        let token = fields.token(network)?;
        let atomic = amount::atomic(text, token.decimals, token.symbol)?;
        Some(format!("write \"{atomic}\": {} {} in atomic units", amount::human(&atomic, token.decimals), token.symbol))
    };
    let digits = match node.as_str() {
        None => {
            let issue = invalid(format!("the amount must be a string of digits, found {}", node.kind()));
            let number = node.as_number().unwrap_or_default();
            cx.push(match (amount::digits(number), whole(number)) {
                (Some(digits), _) => issue.fix(format!("write \"{digits}\", as a string")),
                (None, Some(fix)) => issue.fix(fix),
                (None, None) => issue,
            });
            None
        }
        Some(text) => {
            let digits = amount::digits(text);
            match digits {
                None => {
                    let issue = invalid(format!("{} is not a whole number of atomic units up to 2^256-1", quote(text)));
                    cx.push(match whole(text) {
                        Some(fix) => issue.fix(fix),
                        None => issue,
                    });
                }
                Some("0") => cx.push(Issue::new(Code::ZeroAmount, place.field("amount"), &node.span)),
                Some(digits) if digits.len() < text.len() => cx.push(
                    invalid(format!("{} has leading zeros, which not every reader takes", quote(text)))
                        .fix(format!("write \"{digits}\"")),
                ),
                Some(digits) => unpayable::sum(cx, place, node, digits, fields.token(network)),
            }
            digits
        }
    };
    let differs = other.is_some_and(|other| {
        let theirs = other.as_str().and_then(amount::digits);
        if digits.is_some() && theirs.is_some() { digits != theirs } else { node.value != other.value }
    });
    if differs {
        cx.push(
            invalid("`amount` and `maxAmountRequired` differ".to_owned())
                .fix("keep the one of this version: `amount` in version 2"),
        );
    }
}

/// Checks the token as an address of its network. Whether the token is known is checked only if the network is
/// well-formed.
fn asset(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>, kind: Kind) {
    let Some(node) = fields.asset.filter(|node| !missing(node)) else {
        if !kind.is_nvm() {
            absent(cx, place, fields, "asset", fields.asset, Code::MissingAsset);
        }
        return;
    };
    let formed = address(cx, place, "asset", node, network, Role::Asset, Code::MissingAsset);
    if let (true, Some(id), Some(text)) = (formed, network.caip2, node.as_str())
        && cx.options.registry.asset(id, text).is_none()
    {
        cx.push(Issue::new(Code::UnknownAsset, place.field("asset"), &node.span).message(format!(
            "the asset {} is not in the registry for {}",
            quote(text),
            quote(id)
        )));
    }
}

/// Checks the recipient as an address of its network.
fn pay_to(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>, kind: Kind) {
    let Some(node) = fields.pay_to.filter(|node| !missing(node)) else {
        if !kind.is_nvm() {
            absent(cx, place, fields, "payTo", fields.pay_to, Code::MissingPayTo);
        }
        return;
    };
    address(cx, place, "payTo", node, network, Role::PayTo, Code::MissingPayTo);
}

/// Returns whether the text has the form of an address or, for an unknown namespace, whether it is text at all.
fn address(
    cx: &mut Context<'_>,
    place: Place<'_>,
    name: &str,
    node: &Node<'_>,
    network: &Net<'_>,
    role: Role,
    no_string: Code,
) -> bool {
    let Some(namespace) = network.namespace else {
        if node.as_str().is_none() {
            let message = format!("`{name}` must be a string, found {}", node.kind());
            cx.push(Issue::new(no_string, place.field(name), &node.span).message(message));
        }
        return node.as_str().is_some();
    };
    let issue = |code| Issue::new(code, place.field(name), &node.span);
    let invalid = match namespace {
        Namespace::Eip155 => Code::InvalidEvmAddress,
        Namespace::Solana => Code::InvalidSolanaAddress,
        Namespace::Stellar => Code::InvalidStellarAddress,
        Namespace::Aptos => Code::InvalidAptosAddress,
    };
    let Some(text) = node.as_str() else {
        cx.push(issue(invalid).message(format!("`{name}` must be {}, found {}", namespace.noun(), node.kind())));
        return false;
    };
    match namespace.check(text, role) {
        Ok(()) => true,
        Err(Flaw::NoChecksum(right)) => {
            let fix =
                if right == text { "nothing: its checksum has no capitals".into() } else { format!("write {right}") };
            cx.push(issue(Code::NoEvmChecksum).fix(fix));
            true
        }
        Err(Flaw::BadChecksum(right)) => {
            cx.push(
                issue(Code::BadEvmChecksum)
                    .message(format!("{} fails its EIP-55 checksum", quote(text)))
                    .fix(format!("if only the case is wrong: {right}; else copy the address again")),
            );
            true
        }
        Err(Flaw::Elsewhere(other)) => {
            cx.push(issue(Code::AddressNetworkMismatch).message(format!(
                "{} is {}, and the network's namespace is `{}`",
                quote(text),
                other.noun(),
                namespace.as_str()
            )));
            false
        }
        Err(Flaw::Invalid) => {
            let mut issue = issue(invalid).message(format!("{} is not {}", quote(text), namespace.noun()));
            let id = network.id();
            if role == Role::PayTo && is_name(text) {
                issue = issue
                    .message(format!(
                        "{} is a name, and clients look up none: {} is expected",
                        quote(text),
                        namespace.noun()
                    ))
                    .fix("write the address that the name stands for");
            }
            let symbol =
                id.filter(|_| role == Role::Asset).and_then(|id| cx.options.registry.asset_by_symbol(id, text));
            if let Some(asset) = symbol {
                issue =
                    issue.fix(format!("write the address of {}: {}", asset.symbol, namespace.spell(&asset.address)));
            }
            cx.push(issue);
            false
        }
    }
}

/// Returns whether the text is a domain name, as the Ethereum Name Service has them.
fn is_name(text: &str) -> bool {
    text.contains('.')
        && text.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'))
}

/// Checks "Recommended. Positive integer."
fn timeout(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, dialect: Dialect, kind: Kind) {
    let Some(node) = fields.timeout else {
        if dialect == Dialect::V2 && !kind.is_nvm() {
            absent(cx, place, fields, "maxTimeoutSeconds", None, Code::MissingMaxTimeout);
        }
        return;
    };
    let number = node.as_number().and_then(|text| text.parse().ok());
    match number.and_then(TimeoutSeconds::whole) {
        Some(seconds) => unpayable::timeout(cx, place, node, seconds.get()),
        None => cx.push(
            Issue::new(Code::InvalidTimeout, place.field("maxTimeoutSeconds"), &node.span)
                .message(format!("`maxTimeoutSeconds` must be a positive integer up to 2^53-1, found {}", spelt(node))),
        ),
    }
}

/// Checks smart-accounts v0.3 §3.3: "planId | string | Yes | 256-bit plan identifier". It is optional in the card
/// delegation document.
fn plan(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, kind: Kind) {
    if !kind.is_nvm() {
        return;
    }
    match fields.plan_id.filter(|node| !missing(node)) {
        None => {
            let span = fields.plan_id.map_or(&fields.node.span, |node| &node.span);
            let issue = Issue::new(Code::MissingPlanId, place.field("planId"), span);
            cx.push(if kind == Kind::Card { issue.severity(Severity::Warning) } else { issue });
        }
        Some(node) if !node.as_str().is_some_and(is_id) => cx.push(
            Issue::new(Code::MissingPlanId, place.field("planId"), &node.span)
                .message(format!("`planId` must be a decimal 256-bit number in a string, found {}", spelt(node))),
        ),
        Some(_) => {}
    }
}

/// Checks `batch-settlement`: `extra.receiverAuthorizer` is an address, `extra.withdrawDelay` 900 to 2592000 seconds.
fn batch(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>) {
    if fields.scheme.and_then(Node::as_str) != Some("batch-settlement") {
        return;
    }
    let extra = |name| fields.extra.and_then(|extra| extra.get(name)).filter(|node| !missing(node));
    if let Some(node) = extra("receiverAuthorizer") {
        address(cx, place, "extra.receiverAuthorizer", node, network, Role::PayTo, Code::MissingPayTo);
    }
    if let Some(node) = extra("withdrawDelay")
        && !node.as_u64().is_some_and(|seconds| (900..=2_592_000).contains(&seconds))
    {
        cx.push(
            Issue::new(Code::InvalidTimeout, place.field("extra.withdrawDelay"), &node.span)
                .message("`withdrawDelay` must be 900 to 2592000 seconds")
                .fix("write a whole number of seconds from 900 to 2592000"),
        );
    }
}

impl Fields<'_, '_> {
    /// Returns whether there is an output schema; null counts as absent.
    pub(crate) fn has_output_schema(&self) -> bool {
        self.output_schema.is_some_and(|node| !matches!(node.value, Value::Null))
    }
}
