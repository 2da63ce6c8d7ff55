//! The files that serve every scheme, dialect and transport name none of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod by_another_name;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

/// The seller's files that serve every scheme and dialect, below `crates/x402-http/src`: folders with a slash.
const SELLER: &[&str] = &[
    "checkout/",
    "remote.rs",
    "server/answer.rs",
    "server/dialect.rs",
    "server/flow.rs",
    "server/layer.rs",
    "server/seller.rs",
];

/// Names of schemes and dialects, as code has them.
const NAMES: &[&str] =
    &["nvm", "by_plan", "ByPlan", "V02", "V03", "Version::V1", "is_known_to_v1", "SchemeName::", "NVM_", "EXACT"];

/// The files of the message types and of the codec that may name a dialect of their own, and why. Every other file
/// serves them all.
const OF_ONE_DIALECT: &[(&str, &str)] = &[
    ("x402-types/src/lib.rs", "names its modules"),
    ("x402-types/src/forms.rs", "the list of forms"),
    ("x402-types/src/scheme.rs", "the table of scheme names"),
    ("x402-types/src/reason.rs", "the table of codes"),
    ("x402-types/src/authorization_kind.rs", "the table of kinds, whose numbers must differ"),
    ("x402-types/src/fuzz.rs", "the list of fuzz targets"),
    ("x402-codec/src/lib.rs", "names its modules"),
    ("x402-codec/src/fuzz.rs", "the list of fuzz targets"),
];

/// Names of the dialects that have a module of their own, as code has them.
const DIALECTS: &[&str] = &["nvm", "Nvm", "NVM", "challenge", "Challenge"];

/// What a transport is made of: the part of a seller that knows no transport may use none of it.
const TRANSPORT: &[&str] =
    &["use http::", "http::", "tower", "HeaderMap", "StatusCode", "Response<", "Request<", "crate::server"];

/// The lines of a file that are no comments, before its tests.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned()));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

fn files(of: &[&str]) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../x402-http/src");
    let mut files = Vec::new();
    for name in of {
        let path = source.join(name);
        if name.ends_with('/') {
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            files.extend(entries.filter(|path| path.extension().is_some_and(|ext| ext == "rs")));
        } else {
            files.push(path);
        }
    }
    assert!(files.len() >= of.len(), "{files:?}");
    files
}

/// The source files of a crate directly in `src`, and those in folders that no dialect has for itself.
fn shared(of: &str) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("src");
    let mut folders = vec![source];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if DIALECTS.contains(&stem) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs")
                && !OF_ONE_DIALECT.iter().any(|(file, _)| path.ends_with(file))
            {
                files.push(path);
            }
        }
    }
    files
}

fn find(files: &[PathBuf], names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        for (at, line) in code(path) {
            for name in names.iter().filter(|name| line.contains(*name)) {
                found.push(format!("{}:{at}: {name}: {line}", path.display()));
            }
        }
    }
    found
}

#[test]
fn the_sellers_generic_files_name_no_scheme_and_no_dialect() {
    let found = find(&files(SELLER), NAMES);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // And the names are those that the dialects use.
    let dialects = find(&files(&["dialects/"]), NAMES);
    for name in ["nvm", "V02", "is_known_to_v1", "Version::V1", "SchemeName::"] {
        assert!(dialects.iter().any(|line| line.contains(&format!(": {name}: "))), "{name} is named nowhere");
    }
}

#[test]
fn what_a_seller_does_with_a_payment_knows_no_transport() {
    let found = find(&files(&["checkout/"]), TRANSPORT);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let layer = find(&files(&["server/flow.rs"]), TRANSPORT);
    assert!(layer.len() >= 5, "the names are not those of the transport: {layer:?}");
}

#[test]
fn the_shared_files_of_messages_and_codec_name_no_dialect() {
    for (name, least) in [("x402-types", 25), ("x402-codec", 8)] {
        let files = shared(name);
        assert!(files.len() >= least, "{name}: {files:?}");
        let found = find(&files, DIALECTS);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
    // Each exception is needed.
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, why) in OF_ONE_DIALECT {
        assert!(!find(&[crates.join(file)], DIALECTS).is_empty(), "{file} ({why}) names no dialect any more");
    }
}
