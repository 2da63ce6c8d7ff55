//! The documents: commands stand where people and `.ci/run` look for them, code and configuration are what is built here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

const README: &str = include_str!("../../README.md");

#[test]
fn its_commands_are_the_demo_and_the_tests() {
    let commands: Vec<&str> =
        README.lines().filter(|line| line.starts_with("cargo") || line.starts_with("./")).take(2).collect();
    assert_eq!(commands, ["cargo run -p x402-cli -- demo", "cargo test --workspace"]);
}

#[test]
fn its_code_is_the_code_of_the_examples() {
    let sources = [include_str!("../src/bin/seller.rs"), include_str!("../src/bin/buyer.rs")];
    let blocks: Vec<&str> = README.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), sources.len());
    for (block, source) in blocks.iter().zip(sources) {
        let mut lines = source.lines().map(str::trim);
        for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert!(lines.any(|of| of == line), "not in the example, or not in this order: {line}");
        }
    }
}

/// `docs/operations.md` shows every key, and the facilitator takes it as it stands there.
#[test]
fn the_configuration_in_operations_is_taken() {
    let page = include_str!("../../docs/operations.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = x402_facilitator::config::Config::parse(text).unwrap();
    let network = &config.networks[0];
    assert_eq!((config.callers.len(), network.signers.len(), network.assets.len()), (1, 2, 1));
}

#[test]
fn files_that_documents_name_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("SECURITY.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    let mut missing = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in text.split('`').filter(|name| !name.contains(char::is_whitespace) && name.contains('/')) {
            let path = match name.split('/').next().unwrap() {
                "crates" | "docs" | "examples" => root.join(name),
                first if first.starts_with("x402-") => root.join("crates").join(name),
                _ => continue,
            };
            if !name.contains('*') && !path.exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
