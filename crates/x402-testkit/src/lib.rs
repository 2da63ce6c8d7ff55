#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod corpus;
mod log;
pub mod postgres;

pub use corpus::{corpus, fuzz, replay};
pub use log::Log;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Returns the folder of the vectors.
#[must_use]
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Reads the text of one file, by its path under [`vectors`].
/// # Errors
/// The file cannot be read; the error names its path.
pub fn vector(path: impl AsRef<Path>) -> io::Result<String> {
    let path = vectors().join(path);
    fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Reads every recorded message, sorted by name: the file's name without `.json`, and its text.
/// # Errors
/// The folder or a file in it cannot be read.
pub fn messages() -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(vectors().join("messages"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}
