//! `docs/spec-coverage.md` names tests that exist: in a table with a column `tests`, each name stands behind its file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

/// What is wrong with a table's rows, in words.
fn wrong(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut checked = false;
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        if !line.starts_with('|') || line.starts_with("|---") {
            checked &= line.starts_with('|');
            continue;
        }
        if cells.last() == Some(&"tests") {
            checked = true;
            continue;
        }
        if checked {
            let tests = if cells.len() == 4 { cells[3] } else { "" };
            wrong.extend(row(cells[0], cells.get(1).copied().unwrap_or_default(), tests, &read));
        }
    }
    wrong
}

fn row(name: &str, state: &str, tests: &str, read: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut file, mut text, mut found) = (None, None, 0);
    for token in tests.split('`').skip(1).step_by(2) {
        if token.ends_with(".rs") {
            text = read(token);
            if text.is_none() {
                wrong.push(format!("{name}: no file {token}"));
            }
            file = Some(token);
        } else if file.is_none() {
            wrong.push(format!("{name}: {token} stands behind no file"));
        } else if text.as_deref().is_some_and(|text| is_test(text, token)) {
            found += 1;
        } else {
            wrong.push(format!("{name}: no test {token} in {}", file.unwrap_or_default()));
        }
    }
    if state == "done" && found == 0 {
        wrong.push(format!("{name}: done, and no test"));
    }
    wrong
}

/// A function of that name with a test's attribute above it.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let named = line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
        let mut above = lines[..at].iter().rev().take_while(|above| above.starts_with("#[") || above.starts_with("//"));
        named.is_some_and(|rest| rest.starts_with('('))
            && above.any(|above| above.starts_with("#[test]") || above.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_test_that_the_coverage_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/spec-coverage.md")).unwrap();
    assert!(text.contains("| line | state | where | tests |"));
    let wrong = wrong(&text, |file| std::fs::read_to_string(root.join("crates").join(file)).ok());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_not_there_is_named() {
    let read = |file: &str| (file == "a.rs").then(|| "#[test]\nfn is() {}\nfn helper() {}\n".to_owned());
    let table = |row: &str| wrong(&format!("| line | state | where | tests |\n|---|---|---|---|\n{row}\n"), read);
    assert_eq!(table("| x | done | y | `a.rs` `is` |"), [""; 0]);
    assert_eq!(table("| x | n/a | y | |"), [""; 0]);
    for (row, named) in [
        ("| x | done | y | |", "no test"),
        ("| x | done | y | `a.rs` `i` |", "no test i in a.rs"),
        ("| x | done | y | `a.rs` `helper` |", "no test helper"),
        ("| x | done | y | `b.rs` `is` |", "no file b.rs"),
        ("| x | part | y | `is` |", "behind no file"),
    ] {
        assert!(table(row).iter().any(|text| text.contains(named)), "{row}: {:?}", table(row));
    }
}

/// Smart Accounts 0.3 §4.2 has 32 steps.
#[test]
fn every_step_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/spec-coverage.md")).unwrap();
    for step in 1..=32 {
        let row = format!("| Step {step}. ");
        assert_eq!(text.lines().filter(|line| line.starts_with(&row)).count(), 1, "{row}");
    }
}
