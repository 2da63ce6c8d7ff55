//! `.ci/run` decides what lands, so each script beside it is one of its steps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::Path;

#[test]
fn every_script_is_a_step() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 5, "{names:?}");
    // A script runs as a step of `run`, or by a script that does.
    let mut run = vec!["run".to_owned()];
    let mut at = 0;
    while at < run.len() {
        let text = read(&run[at]);
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for name in &names {
            let path = format!(".ci/{name}");
            let runs =
                |line: &&str| line.split([' ', '"', '=']).any(|word| word == path || word == format!("$PWD/{path}"));
            if !run.contains(name) && code.iter().any(runs) {
                run.push(name.clone());
            }
        }
        at += 1;
    }
    let idle: Vec<_> = names.iter().filter(|name| !run.contains(name)).collect();
    assert!(idle.is_empty(), "{idle:?} are steps of nothing in .ci/run");
}
