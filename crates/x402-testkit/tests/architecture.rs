//! What `docs/architecture.md` promises of the way of one payment: at most six files to its settlement, and six to its answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

const MOST: usize = 6;

/// The files in the numbered rows of the table that follows a line, in order.
fn files(document: &str, heading: &str) -> Vec<String> {
    let (_, rest) = document.split_once(heading).unwrap_or_else(|| panic!("no line `{heading}`"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let numbered = cells.filter(|cells| cells[1].parse::<usize>().is_ok());
    numbered.map(|cells| cells[2].trim_matches('`').to_owned()).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
}

/// The names by which another file reaches this one: its module, and the types and functions that it defines.
fn names(file: &str, text: &str) -> Vec<String> {
    let module = Path::new(file).file_stem().unwrap().to_str().unwrap().to_owned();
    let defined = text.lines().filter(|line| !line.trim_start().starts_with("//")).filter_map(|line| {
        let mut words = words(line).skip_while(|word| !matches!(*word, "struct" | "enum" | "trait" | "fn"));
        words.next()?;
        words.next().map(str::to_owned)
    });
    defined.chain([module]).filter(|name| name != "new").collect()
}

#[test]
fn one_payment_crosses_six_files_to_its_settlement_and_six_to_its_answer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for (heading, folder, entry) in [
        ("From the layer to the request for settlement", "crates/x402-http/src", "server/layer.rs"),
        ("From the facilitator's route to its answer", "crates", "x402-facilitator/src/routes/exchange.rs"),
    ] {
        let files = files(&document, heading);
        assert_eq!(files.first().map(String::as_str), Some(entry), "{heading}");
        assert!(files.len() <= MOST, "{heading}: {files:?}");
        let read =
            |file: &String| std::fs::read_to_string(root.join(folder).join(file)).unwrap_or_else(|_| panic!("{file}"));
        let texts: Vec<String> = files.iter().map(read).collect();
        for at in 1..files.len() {
            let names = names(&files[at], &texts[at]);
            let reached = texts[..at].iter().any(|text| words(text).any(|word| names.iter().any(|name| name == word)));
            assert!(reached, "{} is reached from none of {:?}", files[at], &files[..at]);
        }
    }
}
