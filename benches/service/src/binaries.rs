//! Ours of this working tree and of commit 17f55ea, built in release from their own sources and lock files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fault::Fallible;

/// The commit that the goals name.
pub const BEFORE: &str = "17f55ea850615f190bbd225bf1cc3917d857799b";

/// The facilitator of this working tree, without a chain of its own.
pub fn this(repository: &Path, target: &Path, work: &Path) -> Fallible<PathBuf> {
    build(repository, target, &["--no-default-features"])?;
    keep(target, work, "this")
}

/// The facilitator as it stood.
pub fn before(repository: &Path, work: &Path) -> Fallible<PathBuf> {
    let source = work.join("17f55ea");
    if !source.join("Cargo.toml").exists() {
        std::fs::create_dir_all(&source)?;
        let mut archive =
            Command::new("git").arg("-C").arg(repository).args(["archive", BEFORE]).stdout(Stdio::piped()).spawn()?;
        let tar = archive.stdout.take().ok_or("its output is piped")?;
        let unpacked = Command::new("tar").arg("-x").arg("-C").arg(&source).stdin(tar).status()?;
        if !archive.wait()?.success() || !unpacked.success() {
            drop(std::fs::remove_dir_all(&source));
            return Err(format!("git archive {BEFORE} failed: is this clone shallow?").into());
        }
    }
    // A target folder of its own: cargo takes both trees' crates for the same ones, and archived files are old.
    let target = source.join("target");
    build(&source, &target, &[])?;
    keep(&target, work, "before")
}

fn build(source: &Path, target: &Path, more: &[&str]) -> Fallible<()> {
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "x402-facilitator",
            "--bin",
            "x402-facilitator",
        ])
        .args(more)
        .arg("--target-dir")
        .arg(target)
        .current_dir(source)
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{} was not built", source.display()).into()) }
}

/// Copies the binary, which a later build of the same target folder would replace.
fn keep(target: &Path, work: &Path, name: &str) -> Fallible<PathBuf> {
    let kept = work.join(format!("x402-facilitator-{name}"));
    std::fs::copy(target.join("release/x402-facilitator"), &kept)?;
    Ok(kept)
}
