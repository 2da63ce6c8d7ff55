//! `x402 wallet`, `completions` and `man`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use serde_json::{Value, json};
use x402_devchain::ACCOUNTS;
use x402_facilitator::dev::DevFacilitator;

fn x402(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_x402")).args(arguments).env_remove("X402_PRIVATE_KEY").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().trim_end().to_owned()
}

/// The vector of Web3 Secret Storage for PBKDF2; its key has the address that the document's own vector for the older version
/// of the format states.
const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
    "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
    "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
    "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
    "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
    "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

#[test]
fn a_new_keystore_opens_with_its_password_alone_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("password"), "correct horse\n").unwrap();
    std::fs::write(at("other"), "battery staple\n").unwrap();
    std::fs::write(at("empty"), "\n").unwrap();
    let new =
        |password: &str| x402(&["wallet", "new", "--keystore", &at("key.json"), "--password-file", &at(password)]);
    assert!(text(&new("empty").stderr).contains("the file is empty"));
    let made = new("password");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let address = |file: &str, password: &str| {
        x402(&["wallet", "address", "--keystore", &at(file), "--password-file", &at(password)])
    };
    assert_eq!(text(&address("key.json", "password").stdout), text(&made.stdout));
    let wrong = address("key.json", "other");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!text(&wrong.stderr).contains("battery"), "{}", text(&wrong.stderr));
    let written = std::fs::read(at("key.json")).unwrap();
    assert_eq!(new("password").status.code(), Some(2), "no file is overwritten");
    assert_eq!(std::fs::read(at("key.json")).unwrap(), written);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(at("key.json")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(at("vector.json"), PBKDF2).unwrap();
    std::fs::write(at("testpassword"), "testpassword").unwrap();
    assert_eq!(text(&address("vector.json", "testpassword").stdout), "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b");
    // Without a key there is none.
    assert!(text(&x402(&["wallet", "address"]).stderr).contains("X402_PRIVATE_KEY is not set"));
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_are_those_of_the_chain() {
    x402_http::service::install_tls();
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let rich = ACCOUNTS[1].address.to_string();
    let poor = "0x000000000000000000000000000000000000bEEF";
    let rpc = facilitator.rpc().to_owned();
    let held = move |account: String| {
        let rpc = rpc.clone();
        tokio::task::spawn_blocking(move || {
            let output = x402(&["wallet", "balances", "--address", &account, "--rpc", &rpc, "--json"]);
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        })
    };
    let told = held(rich.clone()).await.unwrap();
    let usdc = facilitator.chain().balance_of(ACCOUNTS[1].address).to_string();
    assert_eq!((&told["network"], &told["address"]), (&json!("eip155:84532"), &json!(rich)));
    assert_eq!((&told["tokens"][0]["symbol"], &told["tokens"][0]["amount"]), (&json!("USDC"), &json!(usdc)));
    assert_eq!(told["hint"], Value::Null);
    let told = held(poor.to_owned()).await.unwrap();
    assert_eq!((&told["native"], &told["tokens"][0]["units"]), (&json!("0"), &json!("0")));
    assert!(told["hint"].as_str().unwrap().contains("faucet"), "{told}");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    assert!(x402(&["man", folder.path().to_str().unwrap()]).status.success());
    let help = text(&x402(&["--help"]).stdout);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(commands.contains(&"mcp") && commands.contains(&"wallet"));
    let bash = text(&x402(&["completions", "bash"]).stdout);
    for command in commands {
        assert!(folder.path().join(format!("x402-{command}.1")).exists(), "{command}");
        assert!(bash.contains(command), "{command}");
    }
    assert_eq!(x402(&["man", "/nonexistent/folder"]).status.code(), Some(2));
}
