//! The corpora of the fuzz targets in `fuzz/`, and their replay without a fuzzer.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Returns the folder of the fuzz package, which is outside of the workspace.
#[must_use]
pub fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Reads the seeds of a target's corpus, sorted by name, so that each run takes them in one order. Files that a fuzzer
/// adds have names of 40 hex digits, and are left out.
/// # Errors
/// The corpus does not exist, or has no file.
pub fn corpus(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = fuzz().join("corpus").join(target);
    let mut paths = fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    let added = |name: &str| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    paths.retain(|path| !path.file_name().and_then(|name| name.to_str()).is_some_and(added));
    paths.sort();
    if paths.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is empty", folder.display())));
    }
    paths.iter().map(fs::read).collect()
}

/// Calls the body of a fuzz target with each file of its corpus and with 256 mutations of each, the same ones in every
/// run. An input that makes the body panic is printed.
/// # Errors
/// The errors of [`corpus`].
pub fn replay(target: &str, body: impl Fn(&[u8])) -> io::Result<()> {
    let seeds = corpus(target)?;
    let check = |input: &[u8]| {
        let _shown = Shown { target, input };
        body(input);
    };
    check(&[]);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in &seeds {
        check(seed);
        for _ in 0..256 {
            let mut input = seed.clone();
            for _ in 0..=random.below(3) {
                random.mutate(&mut input, &seeds);
            }
            check(&input);
        }
    }
    Ok(())
}

/// Prints the input, if its body panics.
struct Shown<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} panics at b\"{}\"", self.target, self.input.escape_ascii());
        }
    }
}

/// Xorshift: the only requirement is that each run produces the same inputs.
struct Random(u64);

impl Random {
    /// Returns a number from 0 to `end - 1`; 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default().checked_rem(end).unwrap_or_default()
    }

    /// Applies one mutation that fuzzers use.
    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        const TELLING: &[u8] = b"\"\\{}[]:,0129-+.eExX_=/ \n\0\x7F\x80\xFF";
        let at = self.below(input.len());
        let end = at + self.below(input.len() - at + 1).min(64);
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => drop(input.splice(at..at, input.get(at..end).unwrap_or_default().to_vec())),
            3 => input.insert(at, TELLING.get(self.below(TELLING.len())).copied().unwrap_or_default()),
            4 => {
                let other = seeds.get(self.below(seeds.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len());
                let to = from + self.below(other.len() - from + 1).min(64);
                drop(input.splice(at..end, other.get(from..to).unwrap_or_default().to_vec()));
            }
            kind => {
                let bit = 1 << self.below(8);
                let telling = TELLING.get(self.below(TELLING.len())).copied().unwrap_or_default();
                if let Some(byte) = input.get_mut(at) {
                    *byte = if kind == 5 { *byte ^ bit } else { telling };
                }
            }
        }
    }
}

/// Generates one test for each body of a fuzz target: the [`replay`] of the corpus that has its name.
#[macro_export]
macro_rules! replays {
    ($($target:ident),* $(,)?) => { $(
        #[test]
        fn $target() {
            $crate::replay(stringify!($target), super::$target).unwrap();
        }
    )* };
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn inputs(target: &str) -> Vec<Vec<u8>> {
        let seen = RefCell::new(Vec::new());
        replay(target, |input| seen.borrow_mut().push(input.to_vec())).unwrap();
        seen.into_inner()
    }

    #[test]
    fn every_run_makes_the_same_inputs_of_every_seed() {
        let seeds = corpus("diff_json").unwrap();
        let inputs = inputs("diff_json");
        assert_eq!(inputs.len(), 1 + seeds.len() * 257);
        assert_eq!(inputs, super::tests::inputs("diff_json"));
        assert!(seeds.iter().all(|seed| inputs.contains(seed)));
        let mut other: Vec<_> = inputs.iter().filter(|input| !seeds.contains(input)).collect();
        other.sort();
        other.dedup();
        assert!(other.len() > seeds.len() * 128, "{} of {}", other.len(), inputs.len());
    }

    #[test]
    fn a_target_without_a_corpus_is_an_error() {
        assert_eq!(replay("no_such_target", |_| {}).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
