//! Writes the linter's reports on the corpus of its tests, on the cases of public reports and on the pages of its codes, one
//! JSON object a line: what another build of the linter must say of the same inputs (`npm/x402-validate/test`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a missing file has to be heard")]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use x402_validate::{Code, HttpAnswer, Options, Registry, lint, lint_answer, summary};

/// A case of the corpus, as far as it says what is linted and how.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    document: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    options: Switches,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(default)]
struct Switches {
    strict: bool,
    all: bool,
    header: Option<usize>,
}

#[derive(serde::Deserialize)]
struct File {
    code: String,
    has: Vec<Case>,
    lacks: Vec<Case>,
}

impl Switches {
    fn options(self) -> Options {
        let registry = if self.all { Registry::all() } else { Registry::document() };
        Options { strict: self.strict, header: self.header, ..Options::default() }.with_registry(registry)
    }

    fn named(self) -> Value {
        json!({ "strict": self.strict, "allNetworks": self.all, "header": self.header })
    }
}

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in files(&here.join("tests/corpus")) {
        let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in file.has.into_iter().chain(file.lacks) {
            let bytes = match (case.document, case.text, case.base64) {
                (Some(raw), _, _) => raw.get().as_bytes().to_vec(),
                (_, Some(text), _) => text.into_bytes(),
                (_, _, Some(base64)) => STANDARD.decode(base64).unwrap(),
                _ => panic!("{}: one of document, text, base64", case.name),
            };
            document(&format!("{} / {}", file.code, case.name), &bytes, case.options);
        }
    }
    let cases = here.join("../x402-testkit/vectors/cases");
    for path in files(&cases.join("documents")) {
        let switches = Switches { all: true, ..Switches::default() };
        document(&path.display().to_string(), &std::fs::read(&path).unwrap(), switches);
    }
    for path in files(&cases.join("answers")) {
        answer(&path);
    }
    for row in Code::TABLE {
        println!("{}", json!({ "kind": "code", "code": row.name, "page": row.code.page() }));
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn document(name: &str, bytes: &[u8], switches: Switches) {
    let options = switches.options();
    let report = lint(bytes, &options);
    let offers = summary(&report, &options.registry);
    let mut report = serde_json::to_value(report).unwrap();
    report["summary"] = serde_json::to_value(offers).unwrap();
    let document = STANDARD.encode(bytes);
    println!(
        "{}",
        json!({ "kind": "document", "name": name, "document": document, "options": switches.named(), "report": report })
    );
}

fn answer(path: &Path) {
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut headers = Vec::new();
    for (name, value) in recorded["headers"].as_object().unwrap() {
        for value in value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]) {
            headers.push((name.as_str(), value.as_str().unwrap().as_bytes().to_vec()));
        }
    }
    let body = recorded["body"].as_str().map_or_else(|| recorded["body"].to_string(), str::to_owned);
    let status = u16::try_from(recorded["status"].as_u64().unwrap()).unwrap();
    for strict in [false, true] {
        let switches = Switches { strict, ..Switches::default() };
        let borrowed: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let found = HttpAnswer::new(&borrowed, body.as_bytes()).with_status(status);
        let report = lint_answer(&found, &switches.options());
        let encoded: Vec<_> = headers.iter().map(|(name, value)| (name, STANDARD.encode(value))).collect();
        let answer = json!({ "status": status, "headers": encoded, "body": STANDARD.encode(&body) });
        println!(
            "{}",
            json!({ "kind": "answer", "name": path.display().to_string(), "answer": answer, "options": switches.named(), "report": report })
        );
    }
}
