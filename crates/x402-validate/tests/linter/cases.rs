//! `vectors/cases/documents`: what public reports of sellers show, and what the linter says of each.

use std::collections::BTreeSet;

use x402_validate::{Code, Issue, Options, Registry, Report, Severity, lint};

use Severity::{Error, Warning};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/cases/documents");

/// The file, whether it is valid, and what is said of it: code, field, severity, words of the message, words of the fix.
type Row = (&'static str, bool, &'static [(Code, &'static str, Severity, &'static str, &'static str)]);

/// The README of the cases says what each should give.
const ROWS: &[Row] = &[
    (
        "l01-price-millionfold",
        false,
        &[(
            Code::LargeAmount,
            "accepts[0].amount",
            Warning,
            "the price is 10000 USDC, ten thousand dollars",
            "write \"10000\" if 0.01 USDC is meant",
        )],
    ),
    (
        "l02-domain-name-usdc-on-base",
        false,
        &[(Code::InvalidExtra, "accepts[0].extra.name", Error, "USDC", "USD Coin")],
    ),
    (
        "l05-other-verifying-contract",
        false,
        &[(
            Code::InvalidExtra,
            "accepts[0].extra.verifyingContract",
            Error,
            "is not `asset`, and no payer by EIP-3009 can sign for it",
            "leave",
        )],
    ),
    ("l06-flat-version-2", false, &[(Code::MissingAccepts, "accepts", Error, "version 2 has it", "\"accepts\": [")]),
    (
        "l07-network-with-dots",
        false,
        &[(
            Code::InvalidNetworkFormat,
            "accepts[0].network",
            Error,
            "acme:api.example.com",
            "letters, digits, `-` and `_` only: '.' is none of them",
        )],
    ),
    (
        "l08-new-chain-beside-base",
        true,
        &[
            (Code::UnknownNetwork, "accepts[0].network", Warning, "eip155:4663", ""),
            (Code::UnknownAsset, "accepts[0].asset", Warning, "", ""),
        ],
    ),
    ("l09-accepts-empty", false, &[(Code::EmptyAccepts, "accepts", Error, "", "add at least one way to pay")]),
    (
        "l11-extensions-as-list",
        true,
        &[(Code::InvalidMember, "extensions", Warning, "must be an object", "write an object")],
    ),
    (
        "l12-v1-with-caip2-and-token",
        false,
        &[
            (Code::MissingAmount, "accepts[0].amount", Error, "`maxAmountRequired` is missing", ""),
            (Code::MissingAsset, "accepts[0].asset", Error, "", ""),
            (Code::MisnamedMember, "accepts[0].token", Warning, "\"token\" is no member of x402", "write `asset`"),
        ],
    ),
    (
        "l15-amount-in-dollars",
        false,
        &[(Code::InvalidAmount, "accepts[0].amount", Error, "$0.01", "write \"10000\": 0.01 USDC in atomic units")],
    ),
    (
        "l16-amount-number",
        false,
        &[(Code::InvalidAmount, "accepts[0].amount", Error, "found a number", "write \"10000\", as a string")],
    ),
    (
        "l18-bazaar-schema-of-the-body",
        true,
        &[(
            Code::InvalidBazaarSchema,
            "extensions.bazaar.schema",
            Warning,
            "does not describe `info`: its `properties` have no `input`",
            "write the schema of `info`",
        )],
    ),
    ("l19-exact-and-upto", true, &[]),
    (
        "l22-timeout-milliseconds",
        true,
        &[(
            Code::LongTimeout,
            "accepts[0].maxTimeoutSeconds",
            Warning,
            "300000 seconds are 3.5 days: they are more likely milliseconds",
            "write 300",
        )],
    ),
    (
        "l23-payto-ens",
        false,
        &[(
            Code::InvalidEvmAddress,
            "accepts[0].payTo",
            Error,
            "\"seller.example.eth\" is a name",
            "write the address that the name stands for",
        )],
    ),
    ("l24-unicode-token-name", true, &[]),
    ("l25-version-as-text", false, &[(Code::InvalidVersion, "x402Version", Error, "found \"2\"", "as a number")]),
    ("l28-two-entries-one-broken", false, &[(Code::MissingPayTo, "accepts[0].payTo", Error, "", "")]),
    (
        "l29-resource-as-text",
        false,
        &[(
            Code::MissingResource,
            "resource",
            Error,
            "must be an object with `url`",
            "write \"resource\": {\"url\": \"https://api.example.com/report\"}",
        )],
    ),
    (
        "l32-v2-with-v1-amount-names",
        false,
        &[
            (Code::MissingAmount, "accepts[0].amount", Error, "", "rename `maxAmountRequired`"),
            (Code::InvalidNetworkFormat, "accepts[0].network", Error, "", "use 'eip155:8453' instead of 'base'"),
        ],
    ),
    (
        "l35-amount-leading-zero",
        false,
        &[(Code::InvalidAmount, "accepts[0].amount", Error, "leading zeros", "write \"10000\"")],
    ),
    (
        "l36-scheme-capital",
        true,
        &[(Code::UnknownScheme, "accepts[0].scheme", Warning, "no client pays it in other letters", "write \"exact\"")],
    ),
    ("l39-solana-only", true, &[]),
    (
        "l41-resourceInfo",
        false,
        &[
            (Code::MissingResource, "resource", Error, "resourceInfo", "rename \"resourceInfo\" to `resource`"),
            (Code::MisnamedMember, "resourceInfo", Warning, "", "write `resource`"),
        ],
    ),
    ("l42-v1-with-caip2-complete", true, &[]),
    ("l43-v1-nulls", false, &[(Code::InvalidNetworkFormat, "accepts[0].network", Error, "", "eip155:8453")]),
    ("m02-manifest-services", false, &[(Code::UnknownFormat, "$", Error, "", "")]),
];

fn report(name: &str) -> Report {
    let text = std::fs::read_to_string(format!("{FOLDER}/{name}.json")).unwrap();
    lint(&text, &Options::default().with_registry(Registry::all()))
}

#[test]
fn each_says_what_no_client_pays_and_what_to_write() {
    for (name, valid, issues) in ROWS {
        let report = report(name);
        assert_eq!(report.valid, *valid, "{name}: {:?}", report.errors);
        for (code, field, severity, message, fix) in *issues {
            let says = |issue: &&Issue| issue.code == *code && issue.field == *field;
            let all: Vec<&Issue> = report.issues().collect();
            let issue = report.issues().find(says).unwrap_or_else(|| panic!("{name}: {code} in {all:?}"));
            assert_eq!(issue.severity, *severity, "{name}: {issue:?}");
            assert!(issue.message.contains(message), "{name}: {issue:?}");
            assert!(issue.fix.as_deref().unwrap_or_default().contains(fix), "{name}: {issue:?}");
        }
        // `--strict` makes errors of the warnings, and of nothing else.
        let text = std::fs::read_to_string(format!("{FOLDER}/{name}.json")).unwrap();
        let strict = lint(&text, &Options::default().with_registry(Registry::all()).with_warnings_as_errors());
        assert_eq!(strict.valid, report.errors.is_empty() && report.warnings.is_empty(), "{name}");
    }
}

#[test]
fn what_is_fine_is_said_nothing_of() {
    // A scheme that the client passes over, a name beyond ASCII, another chain: nothing is wrong with these.
    for name in ["l19-exact-and-upto", "l24-unicode-token-name", "l39-solana-only"] {
        let report = report(name);
        let codes: Vec<Code> = report.issues().map(|issue| issue.code).collect();
        assert_eq!(codes, [Code::MissingInputSchema], "{name}");
    }
    // The broken entry is named, the other one is not.
    let report = report("l28-two-entries-one-broken");
    assert!(report.issues().all(|issue| !issue.field.starts_with("accepts[1]")), "{report:?}");
}

#[test]
fn what_is_named_otherwise_is_set_right() {
    let normalized = |name: &str| report(name).normalized.unwrap();
    assert_eq!(normalized("l41-resourceInfo")["resource"]["url"], "https://api.example.com/report");
    assert_eq!(normalized("l29-resource-as-text")["resource"]["url"], "https://api.example.com/report");
    let flat = normalized("l06-flat-version-2");
    assert_eq!(flat["accepts"][0]["network"], "eip155:8453", "{flat}");
}

#[test]
fn every_case_is_in_the_table() {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    assert_eq!(ROWS.iter().map(|(name, ..)| (*name).to_owned()).collect::<BTreeSet<_>>(), files);
}
