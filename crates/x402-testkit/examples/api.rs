//! The public API of every published library beside its golden file in `docs/api/`: `api FOLDER`, where FOLDER holds
//! what rustdoc says of each as JSON. `UPDATE_GOLDEN=1` rewrites the files.
//!
//! `.ci/api` runs it behind `cargo doc`, which makes the JSON by way of `.ci/rustdoc`. Its format is that of one
//! version of Rust, the workspace's: another one is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::{env, error, fs};

use cargo_metadata::{MetadataCommand, TargetKind};
use public_api::Builder;

fn main() -> Result<ExitCode, Box<dyn error::Error>> {
    let folder = env::args_os().nth(1).ok_or("usage: api FOLDER")?;
    // The files are those of the clone that it runs in. It may have been built in another one.
    let golden = Path::new("docs/api");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let libraries = libraries()?;
    let mut differs = Vec::new();
    for name in &libraries {
        let json = Path::new(&folder).join(format!("{}.json", name.replace('-', "_")));
        let file = golden.join(format!("{name}.txt"));
        // What is derived and what every type has says nothing new.
        let api = Builder::from_rustdoc_json(&json).omit_blanket_impls(true).omit_auto_trait_impls(true);
        let api = api.omit_auto_derived_impls(true).build().map_err(|why| format!("{}: {why}", json.display()))?;
        let now: String = api.items().map(|item| format!("{item}\n")).collect();
        if update {
            fs::write(&file, now)?;
            continue;
        }
        let then = fs::read_to_string(&file).unwrap_or_default();
        if now != then {
            let (now, then): (BTreeSet<&str>, BTreeSet<&str>) = (now.lines().collect(), then.lines().collect());
            then.difference(&now).for_each(|gone| println!("{name}: -{gone}"));
            now.difference(&then).for_each(|new| println!("{name}: +{new}"));
            differs.push(name.as_str());
        }
    }
    for entry in fs::read_dir(golden)? {
        let name = entry?.file_name();
        // Says with which release `.ci/semver` compares these.
        if name == "RELEASE" {
            continue;
        }
        let of = name.to_str().and_then(|name| name.strip_suffix(".txt"));
        if !of.is_some_and(|of| libraries.iter().any(|name| name == of)) {
            return Err(format!("docs/api/{} belongs to no published library", name.display()).into());
        }
    }
    if differs.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("the public API of {} is not what docs/api says: UPDATE_GOLDEN=1 .ci/api", differs.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The published packages of the workspace that have a library.
fn libraries() -> Result<Vec<String>, cargo_metadata::Error> {
    let published = |package: &cargo_metadata::Package| package.publish.as_ref().is_none_or(|to| !to.is_empty());
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.packages.iter().filter(|package| published(package));
    let library = |package: &&cargo_metadata::Package| {
        package.targets.iter().any(|target| target.kind.contains(&TargetKind::Lib))
    };
    Ok(packages.filter(library).map(|package| package.name.to_string()).collect())
}
