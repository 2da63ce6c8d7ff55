//! Members under another name or in another place than
//! [version 2](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md) §5.1 has them:
//! recognised, named, and set right in the normalized document.

use x402_codec::json::{Member, Node};

use crate::Code;
use crate::entry::{Dialect, Fields};
use crate::lint::{Context, Top};
use crate::place::{Place, short};
use crate::report::{DocumentFormat, Issue, quote};

/// The members of a document.
const TOP: [&str; 5] = ["x402Version", "error", "resource", "accepts", "extensions"];

/// The members of an entry, of both versions.
const ENTRY: [&str; 13] = [
    "scheme",
    "network",
    "amount",
    "maxAmountRequired",
    "asset",
    "payTo",
    "maxTimeoutSeconds",
    "extra",
    "resource",
    "description",
    "mimeType",
    "outputSchema",
    "planId",
];

/// Other words for members, as servers write them.
const SYNONYMS: [(&str, &str); 13] = [
    ("resourceinfo", "resource"),
    ("paymentrequirements", "accepts"),
    ("payments", "accepts"),
    ("token", "asset"),
    ("tokenaddress", "asset"),
    ("currency", "asset"),
    ("recipient", "payTo"),
    ("receiver", "payTo"),
    ("payee", "payTo"),
    ("price", "amount"),
    ("chain", "network"),
    ("chainid", "network"),
    ("timeout", "maxTimeoutSeconds"),
];

/// The members that version 1 has in an entry, and their places in version 2.
const MOVED: [(&str, &str); 4] = [
    ("resource", "`resource.url` at the top level"),
    ("description", "`resource.description` at the top level"),
    ("mimeType", "`resource.mimeType` at the top level"),
    ("outputSchema", "`extensions.bazaar`"),
];

/// Lowers a name and drops what joins its words, so that `pay_to`, `PayTo` and `payto` are one.
fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|b| !matches!(b, b'_' | b'-' | b' ')).map(|b| b.to_ascii_lowercase())
}

/// Returns whether two names are one but for their letters' case and what joins their words.
pub(crate) fn alike(one: &str, other: &str) -> bool {
    folded(one).eq(folded(other))
}

/// Finds the member that a name spells in other letters. `resourceInfo` means `resource` and has the same content.
pub(crate) fn meant(name: &str, of: &[&'static str]) -> Option<&'static str> {
    let other = of.iter().find(|known| **known != name && alike(known, name)).copied();
    other.or_else(|| (of.contains(&"resource") && alike(name, "resourceInfo")).then_some("resource"))
}

/// Finds a member of a document by its name, or by the same name in other letters.
pub(crate) fn top<'n, 'a>(root: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    find(root, name, &TOP)
}

/// Finds a member of an entry by its name, or by the same name in other letters.
pub(crate) fn entry<'n, 'a>(entry: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    find(entry, name, &ENTRY)
}

/// Returns the name under which a member of an entry belongs into the normalized document.
pub(crate) fn entry_name<'k>(members: &[Member<'_>], key: &'k str) -> &'k str {
    match meant(key, &ENTRY) {
        Some(name) if !members.iter().any(|member| member.key == name) => name,
        _ => key,
    }
}

fn find<'n, 'a>(node: &'n Node<'a>, name: &str, of: &[&'static str]) -> Option<&'n Node<'a>> {
    node.get(name).or_else(|| {
        let other = node.as_object()?.iter().find(|member| meant(&member.key, of) == Some(name))?;
        Some(&other.value)
    })
}

/// Checks the names of the document's members, and of its entries'.
pub(crate) fn check(
    cx: &mut Context<'_>,
    place: Place<'_>,
    root: &Node<'_>,
    entries: &[(usize, Fields<'_, '_>)],
    dialect: Dialect,
) {
    if dialect != Dialect::Legacy {
        names(cx, place, root, &TOP, dialect);
    }
    for (index, fields) in entries {
        let place = if dialect == Dialect::Legacy { place } else { place.entry(*index) };
        names(cx, place, fields.node, &ENTRY, dialect);
        places(cx, place, fields, dialect);
    }
}

/// Reports members that another member is absent for.
fn names(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>, of: &[&'static str], dialect: Dialect) {
    let members = node.as_object().unwrap_or_default();
    for member in members {
        if of.contains(&&*member.key) {
            continue;
        }
        let same = meant(&member.key, of);
        let synonym = || {
            SYNONYMS.iter().find(|(other, name)| of.contains(name) && alike(other, &member.key)).map(|(_, name)| *name)
        };
        let Some(name) = same.or_else(synonym).map(|name| of_version(name, dialect)) else { continue };
        if node.get(name).is_some() {
            continue;
        }
        let shown = short(&member.key);
        let what = format!("{} is no member of x402: the protocol has `{name}`", quote(&member.key));
        cx.push(
            Issue::new(Code::MisnamedMember, place.field(&shown), &member.value.span)
                .message(what)
                .fix(format!("write `{name}`")),
        );
    }
}

/// Returns the name that the version has for the price.
fn of_version(name: &'static str, dialect: Dialect) -> &'static str {
    match (name, dialect) {
        ("maxAmountRequired", Dialect::V2) => "amount",
        ("amount", Dialect::V1) => "maxAmountRequired",
        _ => name,
    }
}

/// Reports members of an entry that belong elsewhere.
fn places(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, dialect: Dialect) {
    let mut misplaced = |path: &str, node: &Node<'_>, home: &str| {
        cx.push(
            Issue::new(Code::MisplacedMember, place.field(path), &node.span)
                .message(format!("version 2 has it as {home}, where clients look for it"))
                .fix(format!("move it to {home}")),
        );
    };
    if let Some((path, node)) = bazaar(fields) {
        misplaced(path, node, "`extensions.bazaar` at the top level");
    }
    if dialect == Dialect::V2 {
        for (name, home) in MOVED {
            if let Some(node) = fields.node.get(name).filter(|node| !node.is_null()) {
                misplaced(name, node, home);
            }
        }
    }
}

/// Finds a bazaar extension in an entry: clients and indexers look for it at the top level.
pub(crate) fn bazaar<'n, 'a>(fields: &Fields<'n, 'a>) -> Option<(&'static str, &'n Node<'a>)> {
    let of = |outer: &str| fields.node.get(outer).and_then(|node| node.get("bazaar"));
    let found =
        [("extensions.bazaar", of("extensions")), ("extra.bazaar", of("extra")), ("bazaar", fields.node.get("bazaar"))];
    found.into_iter().find_map(|(path, node)| Some((path, node.filter(|node| node.as_object().is_some())?)))
}

/// A document below members of another one, as error envelopes of frameworks put it.
pub(crate) struct Wrapped<'n, 'a> {
    /// The names of the members that lead to it: `error.data`.
    pub(crate) path: String,
    pub(crate) document: &'n Node<'a>,
    pub(crate) members: &'n [Member<'a>],
}

/// The number of levels at which a wrapped document is looked for.
const LEVELS: usize = 3;

/// The number of members of one object that are looked into.
const WIDTH: usize = 32;

/// Finds the document below the members of one that has no known format.
pub(crate) fn wrapped<'n, 'a>(members: &'n [Member<'a>]) -> Option<Wrapped<'n, 'a>> {
    let mut level = vec![(String::new(), members)];
    for _ in 0..LEVELS {
        let mut below = Vec::new();
        for (path, members) in level {
            for member in members.iter().take(WIDTH) {
                let Some(inner) = member.value.as_object().filter(|_| !member.key.is_empty()) else { continue };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", short(&member.key));
                if Top::of(inner).version(false) != DocumentFormat::Unknown {
                    return Some(Wrapped { path, document: &member.value, members: inner });
                }
                below.push((path, inner));
            }
        }
        below.truncate(WIDTH);
        level = below;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_in_any_letters() {
        for (name, want) in [
            ("pay_to", Some("payTo")),
            ("PayTo", Some("payTo")),
            ("payto", Some("payTo")),
            ("max-timeout-seconds", Some("maxTimeoutSeconds")),
            ("payTo", None),
            ("pay", None),
            ("resourceInfo", Some("resource")),
        ] {
            assert_eq!(meant(name, &ENTRY), want, "{name}");
        }
        assert_eq!(meant("x402_version", &TOP), Some("x402Version"));
        assert_eq!(meant(&"pay_to".repeat(1000), &ENTRY), None);
    }
}
