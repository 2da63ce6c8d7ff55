//! The image and the example for Kubernetes: what they promise, and that the binary serves with the configuration in them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use x402_devchain::{ACCOUNTS, DevChain, MiningMode};
use x402_facilitator::config::{Config, SecretSource};

use crate::support::process::Facilitator;
use crate::support::tls;

fn deploy(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)).unwrap()
}

/// The block of text below a key of YAML, without its indentation.
fn block(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != format!("{key}: |"));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let of_key = indent(lines.next().unwrap());
    let lines = lines.take_while(|line| line.trim().is_empty() || indent(line) > of_key);
    lines.map(|line| line.get(of_key + 2..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_image_is_one_static_binary_without_rights() {
    let file = deploy("docker/Dockerfile");
    let lines: Vec<&str> = file.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let from: Vec<&&str> = lines.iter().filter(|line| line.starts_with("FROM ")).collect();
    let release = include_str!("../../../Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = "));
    let release = release.unwrap().trim_matches('"');
    // Binaries of Alpine's Rust are linked statically, and nothing else is in the image.
    assert_eq!(from, [&&*format!("FROM rust:{release}-alpine AS build"), &"FROM scratch"]);
    let last = lines.iter().rposition(|line| *line == "FROM scratch").unwrap();
    let (build, image) = lines.split_at(last);
    assert!(image.contains(&"USER 65532:65532"));
    assert!(image.contains(&"ENTRYPOINT [\"/usr/local/bin/x402-facilitator\"]"));
    assert!(!image.iter().any(|line| line.starts_with("RUN ")), "there is no shell");
    // It is built as it is locked, with every feature but the chain in the process.
    let build = build.join(" ");
    assert!(build.contains("cargo build --locked --release -p x402-facilitator --no-default-features"));
    let features = build.split("--features ").nth(1).unwrap().split_whitespace().next().unwrap();
    let manifest = include_str!("../Cargo.toml").lines().find_map(|line| line.strip_prefix("default = [")).unwrap();
    let mut default: Vec<&str> =
        manifest.trim_end_matches(']').split(", ").map(|name| name.trim_matches('"')).collect();
    default.retain(|name| *name != "dev");
    assert_eq!(features.split(',').collect::<Vec<_>>(), default);
}

#[test]
fn the_pod_has_no_rights_and_time_to_finish() {
    let file = deploy("kubernetes/x402-facilitator.yaml");
    let has = |line: &str| file.lines().any(|it| it.trim() == line);
    for line in [
        "automountServiceAccountToken: false",
        "runAsNonRoot: true",
        "runAsUser: 65532",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "type: RuntimeDefault",
        // The ledger is a file: two processes never run at once.
        "replicas: 1",
        "type: Recreate",
    ] {
        assert!(has(line), "{line}");
    }
    let unit = deploy("systemd/x402-facilitator.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(has(&format!("terminationGracePeriodSeconds: {stop}")), "as long as systemd waits");

    let config = Config::parse(&block(&file, "facilitator.toml")).unwrap();
    let admin = config.admin.as_ref().unwrap().listen;
    for port in [config.listen.port(), admin.port()] {
        assert!(has(&format!("containerPort: {port}")), "{port}");
    }
    assert!(has(&format!("port: {}", config.listen.port())));
    // What it reads and writes is mounted.
    let mounts: Vec<&str> = file.lines().filter_map(|line| line.trim().strip_prefix("mountPath: ")).collect();
    let mut files: Vec<PathBuf> = vec!["/var/lib/x402/ledger.sqlite".into()];
    for network in &config.networks {
        for source in network.signers.iter().chain([&network.rpc]) {
            let SecretSource::File(path) = source else { panic!("{source:?}") };
            files.push(path.clone());
        }
    }
    for path in files {
        assert!(mounts.iter().any(|mount| path.starts_with(mount)), "{}", path.display());
    }
    assert!(mounts.contains(&"/etc/x402/facilitator.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_serves_with_the_configuration_of_the_pod() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("rpc"), &node.url).unwrap();
    fs::write(path("signer"), ACCOUNTS[0].key.to_string()).unwrap();
    let config = block(&deploy("kubernetes/x402-facilitator.yaml"), "facilitator.toml");
    // The places of the container are in a folder here, and the ports are free ones.
    let config = config.replace("/etc/x402/secrets", &path("")).replace("/var/lib/x402/", &path(""));
    let config = config.replace("0.0.0.0:4020", "0.0.0.0:0").replace("0.0.0.0:4021", "127.0.0.1:0");
    fs::write(path("facilitator.toml"), config).unwrap();
    let facilitator = Facilitator::start_in(folder.path());
    let port = facilitator.url.rsplit(':').next().unwrap();
    for probe in ["health", "ready"] {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/{probe}")).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{probe}");
    }
    let url = format!("http://127.0.0.1:{port}/verify");
    assert_eq!(reqwest::Client::new().post(url).body("{}").send().await.unwrap().status().as_u16(), 401);
}
