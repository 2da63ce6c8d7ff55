//! The binary tells whose contracts it holds.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn every_contract_of_others_is_named_with_its_licence() {
    let output = Command::new(env!("CARGO_BIN_EXE_x402-facilitator")).arg("licences").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let held = Path::new(env!("CARGO_MANIFEST_DIR")).join("../x402-devchain/contracts/third-party");
    let names = held.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.ends_with(".bin")).collect();
    assert!(names.iter().any(|name| name.starts_with("EntryPoint")), "{names:?}");
    for name in names {
        let row = text.lines().find(|line| line.contains(&format!("`{name}`")));
        assert!(row.is_some_and(|row| row.contains("MIT") || row.contains("GPL-3.0")), "{name}");
    }
}
