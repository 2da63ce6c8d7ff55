//! A scheme, a dialect or an extension under another name is named all the same: an alias of its type, and a constant
//! that holds it. The names are read from the code, so that a new scheme is looked for as soon as it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

/// The crates whose files serve every scheme and dialect, each with what below its `src` may name one: a path's begin.
const GENERIC: &[(&str, &[&str])] = &[
    ("x402-facilitator-core", &["conformance"]),
    ("x402-facilitator", &["configured.rs", "dev.rs", "dialects/", "discovery/", "mechanisms"]),
    ("x402-http", &["client/challenge/", "dialects/", "server/challenge/"]),
];

/// The interfaces whose implementations are what a generic file may not name.
const INTERFACES: &[&str] = &["Dialect", "HttpDialect", "Extension", "Mechanism", "OwnDialect"];

/// The code of the workspace's libraries: path and tokens.
type Code = BTreeMap<PathBuf, Vec<(usize, Token)>>;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read() -> Code {
    let mut code = Code::new();
    let entries = fs::read_dir(crates()).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs")
                && !["fuzz.rs", "tests.rs"].iter().any(|no_code| path.ends_with(no_code))
            {
                let text = fs::read_to_string(&path).unwrap();
                code.insert(path, tokens(&text));
            }
        }
    }
    code
}

fn word(token: Option<&(usize, Token)>) -> Option<&str> {
    match token {
        Some((_, Token::Word(word))) => Some(word),
        _ => None,
    }
}

/// What names a scheme, a dialect or an extension: identifiers, and texts.
#[derive(Debug, Default)]
struct Names {
    words: BTreeSet<String>,
    texts: BTreeSet<String>,
}

/// Where a file is read: within how many braces, and whether within a `use`.
#[derive(Debug, Default)]
struct Place {
    depth: isize,
    in_use: bool,
}

impl Names {
    /// The names that the code defines: the constants of scheme names with their texts, and the types of each interface.
    fn defined(code: &Code) -> Self {
        let mut names = Self::default();
        let schemes = code.iter().find(|(path, _)| path.ends_with("x402-types/src/scheme.rs")).unwrap().1;
        for at in 0..schemes.len() {
            let after = |places| schemes.get(at + places);
            // pub const NAME: Self = Self(Cow::Borrowed("text"));
            if word(after(0)) == Some("const")
                && let (Some(name), Some("Self")) = (word(after(1)), word(after(3)))
            {
                names.words.insert(name.to_owned());
                let text = schemes[at..].iter().find_map(|(_, token)| match token {
                    Token::Text(text) => Some(text.clone()),
                    _ => None,
                });
                names.texts.extend(text);
            }
        }
        for tokens in code.values() {
            for at in 0..tokens.len() {
                let after = |places| tokens.get(at + places);
                // impl Dialect for Type
                if word(after(0)).is_some_and(|name| INTERFACES.contains(&name))
                    && word(after(1)) == Some("for")
                    && let Some(name) = word(after(2)).filter(|name| name.len() > 1)
                {
                    names.words.insert(name.to_owned());
                }
            }
        }
        names
    }

    fn holds(&self, token: &Token) -> bool {
        match token {
            Token::Word(word) => self.words.contains(word),
            Token::Text(text) => text
                .split(|letter: char| !letter.is_alphanumeric() && !matches!(letter, ':' | '-'))
                .any(|word| self.texts.contains(word)),
            Token::Mark(_) => false,
        }
    }

    /// Adds the other names of what is named: `X as Y`, and constants and types that are made of it.
    fn with_others(mut self, code: &Code) -> Self {
        loop {
            let before = self.words.len();
            for tokens in code.values() {
                let mut place = Place::default();
                for at in 0..tokens.len() {
                    self.add_other(&tokens[at..], &mut place);
                }
            }
            if self.words.len() == before {
                return self;
            }
        }
    }

    /// Adds the other name that the code at this place gives to what is named, if it does.
    fn add_other(&mut self, tokens: &[(usize, Token)], at: &mut Place) {
        let mark = |at: usize| if let Some((_, Token::Mark(mark))) = tokens.get(at) { Some(*mark) } else { None };
        match mark(0) {
            Some('{') => at.depth += 1,
            Some('}') => at.depth -= 1,
            Some(';') => at.in_use = false,
            _ => {}
        }
        let other = match (word(tokens.first()), word(tokens.get(1)), word(tokens.get(2))) {
            (Some("use"), ..) => {
                at.in_use = true;
                return;
            }
            (Some(name), Some("as"), Some(other)) if at.in_use && self.words.contains(name) => other,
            (Some("const" | "static"), Some(other), _) if mark(2) == Some(':') && self.are_in_value(tokens) => other,
            // Below, in an `impl`, it is an associated type.
            (Some("type"), Some(other), _) if at.depth == 0 && self.are_in_value(tokens) => other,
            _ => return,
        };
        if other != "_" {
            self.words.insert(other.to_owned());
        }
    }

    /// Returns whether a name stands between the next `=` and the end of the item.
    fn are_in_value(&self, tokens: &[(usize, Token)]) -> bool {
        let end = tokens.iter().position(|(_, token)| *token == Token::Mark(';')).unwrap_or(tokens.len());
        let value = tokens[..end].iter().skip_while(|(_, token)| *token != Token::Mark('='));
        value.into_iter().any(|(_, token)| self.holds(token))
    }

    /// The places in a crate's generic files that hold a name.
    fn found_in(&self, code: &Code, name: &str, specific: &[&str]) -> Vec<String> {
        let source = crates().join(name).join("src");
        let mut found = Vec::new();
        for (path, tokens) in code {
            let Ok(file) = path.strip_prefix(&source) else { continue };
            if specific.iter().any(|begin| file.to_str().unwrap().starts_with(begin)) {
                continue;
            }
            let named = tokens.iter().filter(|(_, token)| self.holds(token));
            found.extend(named.map(|(line, token)| format!("{name}/src/{}:{line}: {token:?}", file.display())));
        }
        found
    }
}

#[test]
fn generic_files_name_none_by_another_name_either() {
    let code = read();
    let names = Names::defined(&code).with_others(&code);
    let found = GENERIC.iter().flat_map(|(name, specific)| names.found_in(&code, name, specific));
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Each exception is needed.
    for (name, specific) in GENERIC {
        for begin in *specific {
            let others: Vec<&str> = specific.iter().filter(|other| *other != begin).copied().collect();
            assert!(!names.found_in(&code, name, &others).is_empty(), "{name}/src/{begin} names none any more");
        }
    }
}

/// Checks on invented code that each way around the names is seen.
#[test]
fn another_name_is_seen() {
    let seen = |code: &str| {
        let mut names = Names::default();
        names.words.extend(["EXACT", "Nvm03"].map(str::to_owned));
        names.texts.insert("exact".to_owned());
        let code = Code::from([(crates().join("x402-http/src/checkout/any.rs"), tokens(code))]);
        names.with_others(&code).found_in(&code, "x402-http", &[]).len()
    };
    assert_eq!(seen("use crate::checkout::Dialect as Any; const NAME: &str = \"inexact\"; // exact"), 0);
    assert_eq!(seen("use x402_types::SchemeName as S; fn f(s: &S) -> bool { *s == S::EXACT }"), 1);
    assert_eq!(seen("use crate::dialects::Nvm03 as First; fn f() -> First { First }"), 4);
    assert_eq!(seen("const A: &str = \"exact\"; const B: &str = A; fn f(s: &str) -> bool { s == B }"), 5);
    assert_eq!(seen("type Plans =\n    Box<crate::dialects::Nvm03>;\nfn f(_: Plans) {}"), 3);
    assert_eq!(seen("fn f(s: &str) -> bool { s.starts_with(r\"exact\") || s == \"scheme=exact\" }"), 2);
}

/// Checks that the code defines what is looked for.
#[test]
fn the_names_are_those_of_the_code() {
    let names = Names::defined(&read());
    for word in
        ["EXACT", "UPTO", "NVM_ERC4337", "X402V1", "X402V2", "Nvm", "Nvm02", "PaymentIdentifier", "ExactMechanism"]
    {
        assert!(names.words.contains(word), "{word}: {:?}", names.words);
    }
    for text in ["exact", "nvm:erc4337"] {
        assert!(names.texts.contains(text), "{text}: {:?}", names.texts);
    }
}
