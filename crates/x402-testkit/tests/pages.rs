//! The pages do not repeat themselves, as merges of two branches make them do, and name what the sources have.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A page has no two runs of so many words in common.
const RUN: usize = 10;

/// Pages that no rule here is for: the list of changes repeats itself over releases and names what is gone; the error
/// codes are generated; the benchmarks name other projects' functions.
const REPEATING: &[&str] = &["CHANGELOG.md", "docs/error-codes.md"];
const FOREIGN: &[&str] = &["CHANGELOG.md", "docs/error-codes.md", "docs/benchmarks.md"];

#[test]
fn no_page_repeats_itself() {
    let mut faults = Vec::new();
    for (name, text) in pages(REPEATING) {
        faults.extend(repeated(&text).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_paragraph_that_a_merge_doubled_is_found() {
    let lines = "It goes into the paying client as it is: `Payer::new`.\nLimits and budgets stand\nbefore it.\n";
    let merged = format!("{lines}{}", lines.replace("stand\nbefore it", "are checked before it"));
    assert_eq!(repeated(&merged).len(), 1, "the same paragraph in two wordings");
    assert_eq!(repeated(&format!("{lines}\n## Elsewhere\n\n{lines}")).len(), 1, "anywhere on the page");
    assert_eq!(repeated(lines), Vec::<String>::new());
    let table = "| key | meaning |\n|---|---|\n| `one` | a |\n| `two` | b |\n";
    assert_eq!(repeated(&format!("{table}\n{table}")), Vec::<String>::new(), "two tables");
    assert_eq!(repeated(&format!("{table}| `one` | c |\n")).len(), 1, "a row in two wordings");
    let code = "```\nlet one = two + three + four + five + six + seven;\n```\n";
    assert_eq!(repeated(&format!("{code}{code}")), Vec::<String>::new());
}

#[test]
fn names_on_the_pages_are_in_the_sources() {
    let sources = sources();
    let functions: BTreeSet<&str> = sources.iter().flat_map(|text| after(text, "fn ")).collect();
    // A page may name a recorded case as well.
    let vectors: Vec<String> = fs::read_dir(root().join("crates/x402-testkit/vectors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let recorded = |name: &str| vectors.iter().any(|text| text.contains(&format!("\"{name}\"")));
    let mut types: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in &sources {
        for name in text.lines().filter(|line| declares(line)).flat_map(names) {
            types.entry(name).or_default().push(text);
        }
    }
    assert!(functions.len() > 1_000 && types.len() > 300, "{} {}", functions.len(), types.len());
    let mut faults = Vec::new();
    for (page, text) in pages(FOREIGN) {
        for quoted in quoted(&text) {
            let missing = if quoted.matches('_').count() >= 4 && is_word(quoted) && !quoted.starts_with("invalid_") {
                !functions.contains(quoted) && !recorded(quoted)
            } else if ["crates/", "docs/", "examples/"].iter().any(|root| quoted.starts_with(root)) {
                let path = quoted.split([' ', '#', '*', '{']).next().unwrap_or_default();
                let folder = root().join(&page).parent().unwrap().to_owned();
                !root().join(path).exists() && !folder.join(path).exists()
            } else {
                !members(quoted).all(|(of, member)| has_member(types.get(of).map_or(&[], Vec::as_slice), member))
            };
            if missing {
                faults.push(format!("{page}: `{quoted}`"));
            }
        }
    }
    assert!(faults.is_empty(), "not in the sources:\n{}", faults.join("\n"));
}

/// What a page says twice: a run of words in its prose, or the first cell of a row within one table.
fn repeated(text: &str) -> Vec<String> {
    let (mut faults, mut runs, mut cells) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut words, mut code) = (Vec::new(), false);
    for line in text.lines().chain([""]) {
        code ^= line.trim_start().starts_with("```");
        let row = line.starts_with('|');
        if !row {
            cells.clear();
        } else if !code {
            let cell = line.trim_matches('|').split(" | ").next().unwrap_or_default().trim();
            if cell.chars().any(|c| c != '-' && c != ':') && !cells.insert(cell) {
                faults.push(format!("a second row {cell}"));
            }
        }
        if code || row || line.trim().is_empty() || line.starts_with('#') {
            let mut at = 0;
            while at + RUN <= words.len() {
                if runs.contains(&words[at..at + RUN]) {
                    faults.push(format!("once more: {}", words[at..at + RUN].join(" ")));
                    at += RUN;
                } else {
                    // A run that begins within this paragraph may come again in it.
                    runs.insert(words[at..at + RUN].to_vec());
                    at += 1;
                }
            }
            words.clear();
        } else {
            words.extend(line.split_whitespace());
        }
    }
    faults
}

/// The names that follow a keyword.
fn after<'t>(text: &'t str, keyword: &'static str) -> impl Iterator<Item = &'t str> {
    text.split(keyword).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Whether a line declares a type, or opens an implementation.
fn declares(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
    ["struct ", "enum ", "trait ", "type ", "impl ", "impl<"].iter().any(|keyword| line.starts_with(keyword))
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| name.starts_with(char::is_uppercase))
}

/// The pairs `Type::member` of a text.
fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts: Vec<&str> = text.split("::").collect();
    let pairs: Vec<_> = parts.windows(2).map(|pair| (last(pair[0]), first(pair[1]))).collect();
    // A constant in capitals alone is a module's or a chain's.
    pairs.into_iter().filter(|(of, member)| {
        of.starts_with(char::is_uppercase) && of.contains(char::is_lowercase) && !member.is_empty()
    })
}

/// Whether one of the files that declare or extend a type has this member: a function, a field, a variant, a constant.
fn has_member(files: &[&str], member: &str) -> bool {
    let declares = |text: &&str| {
        let function = after(text, "fn ").any(|name| name == member);
        let field = text.contains(&format!("pub {member}: "));
        let other = !member.starts_with(char::is_lowercase) && text.contains(member);
        function || field || other
    };
    files.iter().any(declares)
}

fn first(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn last(text: &str) -> &str {
    let begin = text.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    text.get(begin..).unwrap_or_default()
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The texts between backquotes, outside of code.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.lines().flat_map(|line| line.split('`').skip(1).step_by(2))).collect()
}

/// The pages of the repository except these, by their paths.
fn pages(except: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files(&root(), "md") {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if !except.contains(&&*name) {
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

fn sources() -> Vec<String> {
    files(&root(), "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files with this extension, except what is built or comes from others.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                let skipped = ["target", "node_modules", "third-party"].contains(&name) || name.starts_with('.');
                folders.extend((!skipped).then_some(path));
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
