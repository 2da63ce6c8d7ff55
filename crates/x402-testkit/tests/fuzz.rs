//! A fuzz target is one line, and has a body, a replay, a corpus and a row in `fuzz/README.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use x402_testkit::{corpus, fuzz};

/// The names in a folder, without `.rs`.
fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let names = fs::read_dir(folder).unwrap().map(|entry| name(entry).trim_end_matches(".rs").to_owned());
    names.collect()
}

/// What stands between two marks, each time.
fn between<'t>(text: &'t str, start: &str, end: &str) -> impl Iterator<Item = &'t str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// The crate of a target.
fn crate_of(target: &str) -> String {
    let text = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
    let (head, tail) =
        ("#![no_main]\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| ", format!("::fuzz::{target}(data));\n"));
    let name = text.strip_prefix(head).and_then(|rest| rest.strip_suffix(&tail));
    name.unwrap_or_else(|| panic!("{target} is not one line that calls its body: {text}")).replace('_', "-")
}

#[test]
fn every_target_is_one_line_with_a_body_a_replay_and_a_corpus() {
    let targets = names(&fuzz().join("fuzz_targets"));
    assert!(targets.len() >= 8, "{targets:?}");
    assert_eq!(names(&fuzz().join("corpus")), targets);
    for target in &targets {
        corpus(target).unwrap();
    }
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let built: BTreeSet<String> = between(&manifest, "path = \"fuzz_targets/", ".rs\"").map(str::to_owned).collect();
    assert_eq!(built, targets);
    let readme = fs::read_to_string(fuzz().join("README.md")).unwrap();
    let told: BTreeSet<String> = between(&readme, "\n| `", "` |").map(str::to_owned).collect();
    assert_eq!(told, targets);

    let crates: BTreeSet<String> = targets.iter().map(|target| crate_of(target)).collect();
    let mut bodies = BTreeSet::new();
    for name in crates {
        let text = fs::read_to_string(fuzz().join(format!("../crates/{name}/src/fuzz.rs"))).unwrap();
        let body = |line: &str| Some(line.strip_prefix("pub fn ")?.strip_suffix("(data: &[u8]) {")?.to_owned());
        let mine: BTreeSet<String> = text.lines().filter_map(body).collect();
        let list = between(&text, "replays!(", ")").flat_map(|list| list.split(','));
        let replayed: BTreeSet<String> = list.map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        assert_eq!(mine, replayed, "{name}");
        assert!(mine.iter().all(|target| crate_of(target) == name), "{name}: {mine:?}");
        bodies.extend(mine);
    }
    assert_eq!(bodies, targets);
}
