//! That `.ci/semver` refuses what a release promised and the next one does not keep.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const API: &str = "pub mod x402_types\npub fn x402_types::Terms::of(&str) -> Self\npub struct x402_types::Terms\n";

/// A clone whose one commit is release 0.1.0 with that API.
fn released(name: &str) -> PathBuf {
    let clone = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("semver-{name}"));
    let _ = fs::remove_dir_all(&clone);
    fs::create_dir_all(clone.join("docs/api")).unwrap();
    write(&clone, "docs/api/x402-types.txt", API);
    write(
        &clone,
        "CHANGELOG.md",
        "# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n### Breaking\n\n- `x402_types::Terms`\n",
    );
    version(&clone, "0.1.0");
    git(&clone, &["init", "--quiet"]);
    git(&clone, &["add", "."]);
    git(&clone, &["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "0.1.0"]);
    let commit = git(&clone, &["rev-parse", "HEAD"]);
    write(&clone, "docs/api/RELEASE", &format!("# version and commit\n0.1.0 {commit}\n"));
    clone
}

fn write(clone: &Path, file: &str, text: &str) {
    fs::write(clone.join(file), text).unwrap();
}

fn version(clone: &Path, version: &str) {
    write(clone, "Cargo.toml", &format!("[workspace.package]\nversion = \"{version}\"\n"));
}

fn git(clone: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(clone).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Runs the script; `Err` with what it printed where it refuses.
fn check(clone: &Path) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/semver");
    let output = Command::new(script).arg(clone).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(told(&output)) }
}

#[test]
fn an_item_that_is_gone_needs_a_new_series_or_a_line_in_the_changelog() {
    let clone = released("gone");
    assert_eq!(check(&clone), Ok(()), "the same");
    write(&clone, "docs/api/x402-types.txt", &format!("{API}pub struct x402_types::Claim\n"));
    assert_eq!(check(&clone), Ok(()), "one more");

    let changed = API.replace("(&str)", "(String)");
    write(&clone, "docs/api/x402-types.txt", &changed);
    let refused = "since 0.1.0: -pub fn x402_types::Terms::of(&str) -> Self\n".to_owned();
    assert_eq!(check(&clone), Err(refused.clone()));
    version(&clone, "0.1.1");
    assert_eq!(check(&clone), Err(refused.clone()), "the same series");
    version(&clone, "0.2.0");
    assert_eq!(check(&clone), Ok(()), "another series");

    version(&clone, "0.1.1");
    let changes = "## [Unreleased]\n\n### Changed\n\n- `x402_types::Terms::of`\n\n## [0.1.0]\n";
    write(&clone, "CHANGELOG.md", changes);
    assert_eq!(check(&clone), Err(refused), "named, but not as breaking");
    write(&clone, "CHANGELOG.md", &changes.replace("Changed", "Breaking"));
    assert_eq!(check(&clone), Ok(()), "named as breaking");
}

#[test]
fn a_library_that_is_gone_is_every_item_of_it() {
    let clone = released("library");
    fs::remove_file(clone.join("docs/api/x402-types.txt")).unwrap();
    assert_eq!(check(&clone).unwrap_err().lines().count(), API.lines().count());
}

#[test]
fn a_release_that_is_not_there_is_an_error_and_none_is_none() {
    let clone = released("none");
    write(&clone, "docs/api/RELEASE", &format!("0.1.0 {}\n", "0".repeat(40)));
    assert!(check(&clone).unwrap_err().contains("is not in this clone"));
    write(&clone, "docs/api/RELEASE", "none\n");
    assert_eq!(check(&clone), Ok(()));
}
