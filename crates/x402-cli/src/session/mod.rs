//! `x402 session`: inspects session keys and their approval by the owner, issues and revokes them.

mod inspect;
mod issue;
mod register;
mod report;
mod revoke;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use x402_erc4337::session::zerodev::{ApprovalError, MAX_APPROVAL};
use zeroize::Zeroizing;

/// Issues, inspects and revokes session keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Session {
    /// Shows the scope of a serialized session key.
    Inspect(inspect::Inspect),
    /// Permits an address to make some calls; prints the serialized session key.
    Issue(issue::Issue),
    /// Registers a session key at a facilitator, or removes it.
    Register(register::Register),
    /// Prints the calls by which the owner revokes a session key.
    Revoke(revoke::Revoke),
}

/// The reason why there is no report.
#[derive(Debug)]
enum Failure {
    Unreadable(String),
    Refused(String),
}

impl From<ApprovalError> for Failure {
    fn from(e: ApprovalError) -> Self {
        match e {
            ApprovalError::TooLong | ApprovalError::Base64 | ApprovalError::Json(_) => Self::Unreadable(e.to_string()),
            e => Self::Refused(e.to_string()),
        }
    }
}

pub(crate) async fn run(command: Session) -> ExitCode {
    let done = match command {
        Session::Inspect(args) => inspect::run(&args).await,
        Session::Issue(args) => issue::run(&args),
        Session::Register(args) => register::run(&args).await,
        Session::Revoke(args) => revoke::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
        Err(Failure::Unreadable(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn show(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn input(file: Option<&PathBuf>) -> Result<Zeroizing<String>, Failure> {
    let most = u64::try_from(MAX_APPROVAL).unwrap_or(u64::MAX).saturating_add(64);
    let mut text = Zeroizing::new(String::with_capacity(MAX_APPROVAL + 64));
    let read = match file.filter(|f| f.as_os_str() != "-") {
        Some(file) => std::fs::File::open(file).and_then(|f| f.take(most).read_to_string(&mut text)),
        None => std::io::stdin().take(most).read_to_string(&mut text),
    };
    read.map(|_| text).map_err(|e| Failure::Unreadable(e.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use alloy_primitives::{Address, U256};
    use serde_json::Value;
    use x402_erc4337::Call;
    use x402_erc4337::session::zerodev::{Approval, invalidate_nonce};

    use super::inspect::{Key, OnChain, report};
    use super::issue::{Issue, issue};
    use super::report::Report;
    use super::revoke::owner_calls;
    use super::*;

    pub(super) fn cases() -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../../x402-testkit/vectors/erc4337.json")).unwrap();
        all["kernelPermissions"].as_array().unwrap().clone()
    }

    pub(super) fn value(report: &Report) -> Value {
        serde_json::to_value(report).unwrap()
    }

    pub(super) fn read(text: &str, signers: &[Address], chains: &[u64]) -> Result<Report, Failure> {
        Key::read(text.trim())?.report(signers, chains, None)
    }

    pub(super) fn codes(report: &Value) -> Vec<&str> {
        report["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect()
    }

    pub(super) fn lower(v: &Value) -> String {
        v.to_string().to_lowercase()
    }

    fn issue_args(call: &str) -> Issue {
        Issue {
            signer: cases()[0]["sessionKey"].as_str().unwrap().parse().unwrap(),
            chain_id: 84532,
            call: vec![call.to_owned()],
            valid_until: 1_900_000_000,
            valid_after: 0,
            count: Some(3),
            kernel: "0.3.1".to_owned(),
            index: U256::ZERO,
            nonce: 1,
            key_file: None,
        }
    }

    #[test]
    fn an_issued_key_is_valid_closed_and_can_be_taken_back() {
        let case = &cases()[0];
        let owner: x402_evm::key::Key = case["ownerPrivateKey"].as_str().unwrap().parse().unwrap();
        let plans = case["plansContract"].as_str().unwrap();
        let args = issue_args(&format!("{plans}:0x7cbc2373:0=42:32<=5"));
        let text = issue(&args, &owner).unwrap();
        let report = value(&read(&text, &[args.signer], &[84532]).unwrap());
        assert_eq!(lower(&report["account"]), lower(&case["account"]));
        assert_eq!(report["enableSignature"], "valid");
        assert_eq!(report["calls"][0]["rules"][1]["condition"], "less_or_equal");
        assert_eq!(codes(&report), <[&str; 0]>::default());

        let calls = owner_calls(&Approval::read(&text).unwrap(), Some(2));
        assert_eq!(calls.iter().map(|c| c.name).collect::<Vec<_>>(), ["uninstallValidation", "invalidateNonce"]);
        assert!(calls[0].call_data.starts_with(&[0xe6, 0xf3, 0xd5, 0x0a]));

        for bad in ["", plans, "0x12:0x7cbc2373", &format!("{plans}:7"), &format!("{plans}:0x7cbc2373:0>5")] {
            assert!(matches!(issue(&issue_args(bad), &owner), Err(Failure::Refused(_))), "{bad}");
        }
        let itself = issue_args(&format!("{}:0x7cbc2373", case["account"].as_str().unwrap()));
        assert!(matches!(issue(&itself, &owner), Err(Failure::Refused(_))));
    }

    /// ZeroDev's SDK (@zerodev/permissions 5.6.3) cannot read an argument of 33 decimal digits or more; the same limit as a
    /// rule in hex it reads. The permission's number is the SDK's, of the account that it read from this text.
    #[test]
    fn an_issued_key_has_its_limits_in_hex_which_the_sdk_can_read() {
        let owner: x402_evm::key::Key = cases()[0]["ownerPrivateKey"].as_str().unwrap().parse().unwrap();
        let token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
        let text = issue(&issue_args(&format!("{token}:0x095ea7b3:32<={}", U256::MAX)), &owner).unwrap();
        let written: Value = x402_codec::header::decode(text.as_bytes(), &x402_codec::Limits::DEFAULT).unwrap();
        let policies = written["permissionParams"]["policies"].as_array().unwrap();
        let call =
            policies.iter().map(|policy| &policy["policyParams"]).find(|policy| policy["type"] == "call").unwrap();
        let call = &call["permissions"][0];
        assert_eq!(call["rules"][0]["params"], serde_json::json!([format!("{:#066x}", U256::MAX)]));
        assert!(call.get("args").is_none() && call.get("abi").is_none(), "{call}");
        assert_eq!(written["permissionParams"]["permissionId"], "0x6e553efa");
    }

    /// Checks a key in use on a chain, over HTTP, which its owner then revokes.
    #[tokio::test]
    async fn the_chain_says_whether_it_is_enabled() {
        use x402_devchain::{ACCOUNTS, DevChain, TOKEN, key, signer};
        use x402_erc4337::{
            EntryPoint, EntryPointVersion, Gas, Init, KernelMode, KernelValidation, NonceKey, OperationBuilder,
            SelfBundler, SendUserOp,
        };
        use x402_evm::key::Sign;
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let owner = key(1).unwrap();
        let args = Issue { signer: ACCOUNTS[2].address, ..issue_args(&format!("{TOKEN}:0xa9059cbb:32<=5")) };
        let text = issue(&args, &owner).unwrap();
        let approval = Approval::read(&text).unwrap();
        let (account, id) = (approval.account, approval.permission_id);
        let inspect = async || {
            let found = OnChain::read(&node.url, account, id).await.unwrap();
            value(&report(&approval, &[args.signer], &[], Some(&found)).unwrap())
        };
        let before = inspect().await;
        assert_eq!(
            (&before["deployed"], &before["enabled"], &before["nonce"]),
            (&false.into(), &false.into(), &1.into())
        );
        assert_eq!((&before["chainId"], &before["enableSignature"]), (&84532.into(), &"valid".into()));

        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 84532);
        let bundler = SelfBundler::new(chain.wallet(signer(0).unwrap()), entry_point, ACCOUNTS[0].address);
        let gas = Gas { call_gas_limit: 200_000, verification_gas_limit: 2_000_000, ..Gas::default() };
        let session = key(2).unwrap();
        let permission = approval.check(args.signer, 84532, 1).unwrap();
        let data = [&[0xa9, 0x05, 0x9c, 0xbb][..], &[0; 12], ACCOUNTS[3].address.as_slice(), &[0; 32]].concat();
        let transfer = Call { target: TOKEN, value: U256::ZERO, data: data.into() };
        let ready = OperationBuilder::new(entry_point, approval.account)
            .init(approval.init())
            .nonce(permission.nonce_key(KernelMode::Enable, 0), 0)
            .call(&transfer)
            .unwrap()
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = session.sign_message(ready.hash().as_slice()).await.unwrap().to_bytes();
        let signature = x402_erc4337::session::zerodev::user_op_signature(&signature);
        let signature = permission.enable_signature(approval.enable_signature.as_ref().unwrap(), &signature);
        bundler.send_user_op(&ready.signed(signature)).await.unwrap();
        let during = inspect().await;
        assert_eq!(
            (&during["deployed"], &during["enabled"], &during["nonce"]),
            (&true.into(), &true.into(), &1.into())
        );
        assert_eq!(lower(&during["owner"]), lower(&owner.address().to_string().into()));

        let taken = OperationBuilder::new(entry_point, approval.account)
            .init(Init::None)
            .nonce(NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0), 0)
            .call_data(invalidate_nonce(approval.account, 2).data)
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = owner.sign_message(taken.hash().as_slice()).await.unwrap().to_bytes();
        bundler.send_user_op(&taken.signed(signature.to_vec().into())).await.unwrap();
        let after = inspect().await;
        assert_eq!(
            (&after["enabled"], &after["nonce"], &after["enableSignature"]),
            (&false.into(), &2.into(), &"invalid".into())
        );
        assert_eq!(codes(&after), ["revoked"]);

        assert!(matches!(OnChain::read("ftp://127.0.0.1", account, id).await, Err(Failure::Unreadable(_))));
        drop(node);
        assert!(matches!(OnChain::read("http://127.0.0.1:1", account, id).await, Err(Failure::Unreadable(_))));
    }
}
