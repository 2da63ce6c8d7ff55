//! The documents: commands stand where people and `.ci/run` look for them, code and configuration are what is built here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

const README: &str = include_str!("../../README.md");

#[test]
fn its_commands_are_the_demo_and_the_tests() {
    let commands: Vec<&str> =
        README.lines().filter(|line| line.starts_with("cargo") || line.starts_with("./")).take(2).collect();
    assert_eq!(commands, ["cargo run -p x402-cli -- demo", "cargo test --workspace"]);
}

/// The blocks of one language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&*fence).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn its_code_is_the_code_of_the_examples() {
    let sources = [include_str!("../src/bin/seller.rs"), include_str!("../src/bin/buyer.rs")];
    let programs = blocks("rust");
    assert_eq!(programs.len(), sources.len());
    for (program, source) in programs.iter().zip(sources) {
        assert!(source.ends_with(program), "the program in the README and its example differ: {program}");
    }
}

/// What a reader pastes compiles: each program with the lines of `Cargo.toml` above it, our crate from this folder, all
/// others as they are locked here. It shares the folder of the build that this test is from.
#[test]
fn its_programs_compile_as_they_are_pasted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_seller")).parent().unwrap().parent().unwrap();
    let work = tempfile::tempdir().unwrap();
    let ours = format!("x402 = {{ path = {:?}, version =", root.join("crates/x402"));
    let (manifests, programs) = (blocks("toml"), blocks("rust"));
    assert_eq!((manifests.len(), programs.len()), (2, 2));
    for (name, (manifest, program)) in ["seller", "buyer"].iter().zip(manifests.iter().zip(programs)) {
        let versions = manifest.replace("x402 = \"0.1\"", "x402 = { version = \"0.1\" }");
        let manifest = versions.replace("x402 = { version =", &ours);
        assert!(manifest.contains(&ours), "{manifest}");
        let package = work.path().join(name);
        std::fs::create_dir_all(package.join("src")).unwrap();
        let head = format!("[package]\nname = \"pasted-{name}\"\nedition = \"2024\"\n\n");
        std::fs::write(package.join("Cargo.toml"), head + &manifest).unwrap();
        std::fs::write(package.join("src/main.rs"), program).unwrap();
    }
    // The profiles are those of this workspace, so that macros and build scripts are there already.
    let ours = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let profiles = ours.find("[profile.dev]").and_then(|at| ours.get(at..)?.split("\n#").next()).unwrap();
    let workspace = format!("[workspace]\nresolver = \"3\"\nmembers = [\"buyer\", \"seller\"]\n\n{profiles}");
    std::fs::write(work.path().join("Cargo.toml"), workspace).unwrap();
    std::fs::copy(root.join("Cargo.lock"), work.path().join("Cargo.lock")).unwrap();
    let checked = std::process::Command::new(env!("CARGO"))
        .args(["check", "--offline", "--workspace", "--quiet"])
        .env("CARGO_TARGET_DIR", built)
        .current_dir(work.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
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
