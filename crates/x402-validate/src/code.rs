//! The codes of the linter: [x402 configuration rules, "Error Codes"](https://x402check.com), two of x402lint, and this
//! project's own.
//!
//! One table generates the variant, its wire name, its severity, its text, its fix and its page in
//! `docs/error-codes.md`.

use core::fmt;
use core::str::FromStr;

use serde::{Serialize, Serializer};

/// The effect of an issue on the validity of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is invalid.
    Error,
    /// The document is valid and could be better.
    Warning,
}

impl Severity {
    /// Returns `error` or `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The document or project that defines a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeOrigin {
    /// `x402-config-rules.md`, the document whose rules the linter checks.
    Document,
    /// The tool x402lint 0.3.1.
    X402lint,
    /// This project itself.
    Ours,
}

/// A row of [`Code::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The code of the row.
    pub code: Code,
    /// The name of the code.
    pub name: &'static str,
    /// The origin of the code.
    pub origin: CodeOrigin,
    /// The severity, unless the code's page makes an exception.
    pub severity: Severity,
    /// The field at which the issue is reported.
    pub at: &'static str,
    /// The description of the fault, in one line.
    pub text: &'static str,
    /// The remedy, in one line.
    pub fix: &'static str,
    /// The exact condition under which the issue is reported.
    pub page: &'static str,
    /// A fragment of JSON that has the fault.
    pub wrong: &'static str,
    /// The same fragment without the fault.
    pub right: &'static str,
}

macro_rules! codes {
    ($( $variant:ident = $name:literal, $origin:ident, $severity:ident, $at:literal;
        $text:literal; $fix:literal; $page:literal; $wrong:literal => $right:literal; )*) => {
        /// A stable machine-readable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $( #[doc = concat!("`", $name, "`: ", $text, ".")] $variant, )*
        }

        impl Code {
            /// Every code, in the order of the document.
            pub const TABLE: &'static [Row] = &[
                $( Row {
                    code: Self::$variant, name: $name, origin: CodeOrigin::$origin, severity: Severity::$severity, at: $at,
                    text: $text, fix: $fix, page: $page, wrong: $wrong, right: $right,
                }, )*
            ];

            /// Returns the code's row of the table.
            #[must_use]
            pub const fn row(self) -> &'static Row {
                match self {
                    $( Self::$variant => const { &Row {
                        code: Self::$variant, name: $name, origin: CodeOrigin::$origin, severity: Severity::$severity,
                        at: $at, text: $text, fix: $fix, page: $page, wrong: $wrong, right: $right,
                    } }, )*
                }
            }

            /// Returns the name of the code: `MISSING_ACCEPTS`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

codes! {
    InvalidJson = "INVALID_JSON", Document, Error, "$";
        "the input is not JSON";
        "send one JSON object, UTF-8 without a byte order mark, each key once";
        "The message contains what was expected and the byte offset. Reported for syntax, invalid UTF-8, a byte order mark, half surrogate pairs, a duplicate key in one object (two readers would see two documents), numbers beyond a double, nesting deeper than 64 levels, more than 1 MiB, and a header that is neither JSON nor base64. Nothing else is checked.";
        r#"{"x402Version":2,}"# => r#"{"x402Version":2}"#;
    NotObject = "NOT_OBJECT", Document, Error, "$";
        "the document is not an object";
        "send the payment requirements as one JSON object";
        "The input is JSON, but an array, a string, a number, a boolean or null. Also reported at `endpoints.NAME` for an endpoint of a manifest.";
        r#"[{"scheme":"exact"}]"# => r#"{"x402Version":2,"accepts":[{"scheme":"exact"}]}"#;
    UnknownFormat = "UNKNOWN_FORMAT", Document, Error, "$";
        "the document is in no known x402 format";
        "write version 2: `x402Version`, `resource` and `accepts`";
        "The object has none of `accepts`, `payTo`, `x402Version` and no `endpoints` record. Also reported for `\"version\":\"x402.v1\"`: that is the challenge of 402Kit, another dialect, which this linter does not check.";
        r#"{"price":"$0.01"}"# => r#"{"x402Version":2,"resource":{"url":"https://api.example.com/a"},"accepts":[]}"#;
    MissingVersion = "MISSING_VERSION", Document, Error, "x402Version";
        "`x402Version` is missing";
        "add \"x402Version\": 2";
        "`x402Version` is absent, null or empty. The document is then checked as version 1 if it has `maxAmountRequired`, else as version 2. The flat legacy form has no version and needs none.";
        r#"{"accepts":[]}"# => r#"{"x402Version":2,"accepts":[]}"#;
    InvalidVersion = "INVALID_VERSION", Document, Error, "x402Version";
        "`x402Version` is neither 1 nor 2";
        "write \"x402Version\": 2, as a number";
        "It must be the number `1` or `2`, spelt so: `3`, `\"2\"` and `2.0` are refused. The document is then checked as version 1 if it has `maxAmountRequired`, else as version 2.";
        r#"{"x402Version":"2"}"# => r#"{"x402Version":2}"#;
    MissingAccepts = "MISSING_ACCEPTS", Document, Error, "accepts";
        "`accepts` is missing";
        "add `accepts`, an array with at least one way to pay";
        "`accepts` is absent, null or empty text, and the document is not of the flat legacy form. Also reported for the flat form with `\"x402Version\": 2`, which no client reads.";
        r#"{"x402Version":2}"# => r#"{"x402Version":2,"accepts":[{"scheme":"exact"}]}"#;
    EmptyAccepts = "EMPTY_ACCEPTS", Document, Error, "accepts";
        "`accepts` is empty";
        "add at least one way to pay to `accepts`";
        "`accepts` is an array without entries, so that payment is impossible. Also reported at `endpoints` for a manifest without endpoints.";
        r#"{"x402Version":2,"accepts":[]}"# => r#"{"x402Version":2,"accepts":[{"scheme":"exact"}]}"#;
    InvalidAccepts = "INVALID_ACCEPTS", Document, Error, "accepts, accepts[0]";
        "`accepts` is not an array of objects";
        "write `accepts` as an array of objects";
        "`accepts` is of another type than array, or an entry is not an object; the entry is then named.";
        r#"{"accepts":{"scheme":"exact"}}"# => r#"{"accepts":[{"scheme":"exact"}]}"#;
    MissingScheme = "MISSING_SCHEME", Document, Error, "accepts[0].scheme";
        "`scheme` is missing";
        "add \"scheme\": \"exact\"";
        "`scheme` is absent, null, empty or not a string.";
        r#"{"accepts":[{"network":"eip155:8453"}]}"# => r#"{"accepts":[{"scheme":"exact","network":"eip155:8453"}]}"#;
    MissingNetwork = "MISSING_NETWORK", Document, Error, "accepts[0].network";
        "`network` is missing";
        "add the CAIP-2 network, such as \"network\": \"eip155:8453\"";
        "`network` is absent, null or empty.";
        r#"{"accepts":[{"scheme":"exact"}]}"# => r#"{"accepts":[{"scheme":"exact","network":"eip155:8453"}]}"#;
    InvalidNetworkFormat = "INVALID_NETWORK_FORMAT", Document, Error, "accepts[0].network";
        "`network` is not a CAIP-2 identifier";
        "write `namespace:reference`, such as `eip155:8453`";
        "It must match `[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}`. The reference of an `eip155` network is the number of its chain, without leading zeros. A simple name such as `base` (in any case) is reported with the identifier that it means. An entry of `nvm:card-delegation` may name a card processor instead: `stripe`, `braintree`, `visa`.";
        r#"{"accepts":[{"network":"base"}]}"# => r#"{"accepts":[{"network":"eip155:8453"}]}"#;
    MissingAmount = "MISSING_AMOUNT", Document, Error, "accepts[0].amount";
        "`amount` is missing";
        "add the price in atomic units as a string, such as \"amount\": \"10000\"";
        "`amount` (version 2) or `maxAmountRequired` (version 1, reported at `.amount` too) is absent, null or empty. It is not required for the schemes `upto`, `batch-settlement`, `nvm:erc4337`, `nvm:card-delegation`.";
        r#"{"accepts":[{"scheme":"exact"}]}"# => r#"{"accepts":[{"scheme":"exact","amount":"10000"}]}"#;
    InvalidAmount = "INVALID_AMOUNT", Document, Error, "accepts[0].amount";
        "`amount` is not a whole number of atomic units in a string";
        "write digits only, as a string: 0.01 USDC is \"10000\"";
        "It must be a string of the digits 0 to 9, at most 2^256-1. A number, a sign, a decimal point, an exponent, spaces and leading zeros are refused. Also reported if `amount` and `maxAmountRequired` are both present and differ.";
        r#"{"accepts":[{"amount":"0.01"}]}"# => r#"{"accepts":[{"amount":"10000"}]}"#;
    ZeroAmount = "ZERO_AMOUNT", Document, Error, "accepts[0].amount";
        "`amount` is zero";
        "ask for at least one atomic unit, or do not answer 402";
        "The amount consists of zeros only: `\"0\"`, `\"000\"`.";
        r#"{"accepts":[{"amount":"0"}]}"# => r#"{"accepts":[{"amount":"1"}]}"#;
    MissingAsset = "MISSING_ASSET", Document, Error, "accepts[0].asset";
        "`asset` is missing";
        "add the token's contract address as `asset`";
        "`asset` is absent, null or empty, or not a string on a network whose addresses are not known here.";
        r#"{"accepts":[{"network":"eip155:8453"}]}"# => r#"{"accepts":[{"network":"eip155:8453","asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}]}"#;
    MissingPayTo = "MISSING_PAY_TO", Document, Error, "accepts[0].payTo";
        "`payTo` is missing";
        "add the address that is to be paid as `payTo`";
        "`payTo` is absent, null or empty, or not a string on a network whose addresses are not known here.";
        r#"{"accepts":[{"network":"eip155:8453"}]}"# => r#"{"accepts":[{"network":"eip155:8453","payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    MissingResource = "MISSING_RESOURCE", Document, Error, "resource, resource.url";
        "`resource` is missing or incomplete";
        "add \"resource\": { \"url\": \"https://…\" } at the top level";
        "In version 2, `resource` is absent, null, empty or not an object. In both versions, a `resource` object has no `url`, or a `method`, `headers` or `body` of another type than the document gives them: a string, an object of strings, a string.";
        r#"{"x402Version":2,"accepts":[]}"# => r#"{"x402Version":2,"resource":{"url":"https://api.example.com/a"},"accepts":[]}"#;
    InvalidUrl = "INVALID_URL", Document, Error, "resource.url";
        "the resource's URL is not an absolute http, https or mcp URL";
        "write the absolute URL, such as https://api.example.com/weather";
        "It must be absolute, of the scheme http, https or mcp, with a host and without a user name or password. A path alone is a warning where every entry is of an `nvm:` scheme: Nevermined's servers send it so.";
        r#"{"resource":{"url":"/weather"}}"# => r#"{"resource":{"url":"https://api.example.com/weather"}}"#;
    InvalidTimeout = "INVALID_TIMEOUT", Document, Error, "accepts[0].maxTimeoutSeconds";
        "`maxTimeoutSeconds` is not a positive integer";
        "write a whole number of seconds, such as \"maxTimeoutSeconds\": 60";
        "It must be a JSON number that is whole, above zero and at most 2^53-1, the largest that every reader keeps; null, text, fractions and negative numbers are refused. `60.0` and `6e1` are whole.";
        r#"{"accepts":[{"maxTimeoutSeconds":"60"}]}"# => r#"{"accepts":[{"maxTimeoutSeconds":60}]}"#;
    InvalidEvmAddress = "INVALID_EVM_ADDRESS", Document, Error, "accepts[0].payTo, accepts[0].asset";
        "not an EVM address";
        "write 0x and 40 hex digits";
        "On an `eip155` network `payTo` and `asset` are `0x` and 40 hex digits.";
        r#"{"accepts":[{"network":"eip155:8453","payTo":"0xabc"}]}"# => r#"{"accepts":[{"network":"eip155:8453","payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    BadEvmChecksum = "BAD_EVM_CHECKSUM", Document, Error, "accepts[0].payTo, accepts[0].asset";
        "the address fails its EIP-55 checksum";
        "copy the address again from its source; one character of it may be wrong";
        "An EVM address with letters in both cases must have the case that EIP-55 prescribes. The fix shows the address in its right case, in case only that is wrong.";
        r#"{"accepts":[{"payTo":"0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"# => r#"{"accepts":[{"payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    InvalidSolanaAddress = "INVALID_SOLANA_ADDRESS", Document, Error, "accepts[0].payTo, accepts[0].asset";
        "not a Solana address";
        "write 32 bytes in base58, 32 to 44 characters";
        "On a `solana` network `payTo` and `asset` are 32 to 44 characters of base58 that decode to exactly 32 bytes.";
        r#"{"accepts":[{"asset":"USDC"}]}"# => r#"{"accepts":[{"asset":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"}]}"#;
    AddressNetworkMismatch = "ADDRESS_NETWORK_MISMATCH", Document, Error, "accepts[0].payTo, accepts[0].asset";
        "the address belongs to another kind of network";
        "use an address of this network, or the network of this address";
        "The address is not one of this network's and would be right in another namespace. Payments sent to it are lost. An Aptos address counts here only at its full 64 digits: a shorter one is more likely a damaged EVM address.";
        r#"{"accepts":[{"network":"eip155:8453","payTo":"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"}]}"# => r#"{"accepts":[{"network":"eip155:8453","payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    NoEvmChecksum = "NO_EVM_CHECKSUM", Document, Warning, "accepts[0].payTo, accepts[0].asset";
        "the address has no EIP-55 checksum";
        "write the address with its checksum";
        "All letters of the EVM address are lower case, so a typing error would go unseen. The fix shows the address with its checksum; for the few addresses whose checksum has no capitals it states that. All upper case, and digits only, is no issue.";
        r#"{"accepts":[{"payTo":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"}]}"# => r#"{"accepts":[{"payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    UnknownNetwork = "UNKNOWN_NETWORK", Document, Warning, "accepts[0].network";
        "the network is not in the registry";
        "check the identifier; clients and facilitators may not serve this network";
        "The identifier is well formed and not in the registry of networks. `--all-networks` knows more of them.";
        r#"{"accepts":[{"network":"eip155:999999"}]}"# => r#"{"accepts":[{"network":"eip155:8453"}]}"#;
    UnknownAsset = "UNKNOWN_ASSET", Document, Warning, "accepts[0].asset";
        "the asset is not in the registry";
        "check the address; its symbol and decimals are not known here";
        "The network is well formed and the registry does not know this asset on it. Not reported beside an issue about the form of the same address.";
        r#"{"accepts":[{"asset":"0x0000000000000000000000000000000000000001"}]}"# => r#"{"accepts":[{"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}]}"#;
    LegacyFormat = "LEGACY_FORMAT", Document, Warning, "$";
        "the document is in an old format";
        "send version 2; `normalized` shows it";
        "The document is of version 1, or of the flat form that has `payTo` at the top level and no `accepts`. Fields of the flat form are reported as `payTo`, not `accepts[0].payTo`.";
        r#"{"x402Version":1,"accepts":[{"maxAmountRequired":"10000"}]}"# => r#"{"x402Version":2,"accepts":[{"amount":"10000"}]}"#;
    MissingMaxTimeout = "MISSING_MAX_TIMEOUT", Document, Warning, "accepts[0].maxTimeoutSeconds";
        "`maxTimeoutSeconds` is missing";
        "add \"maxTimeoutSeconds\": 60";
        "Version 2 only. Without it clients guess the necessary validity of their authorization. Not required for `nvm:` schemes.";
        r#"{"accepts":[{"scheme":"exact"}]}"# => r#"{"accepts":[{"scheme":"exact","maxTimeoutSeconds":60}]}"#;
    InvalidBazaarInfo = "INVALID_BAZAAR_INFO", Document, Warning, "extensions.bazaar, extensions.bazaar.info, extensions.bazaar.info.output";
        "the bazaar extension does not describe the resource";
        "write `bazaar` as { info: { input, output }, schema }";
        "`bazaar`, `info` or `info.output` is not an object, or `routeTemplate` is not a path of `/a-zA-Z0-9_:.-~%` without `..` and `://`. What is absent is reported at the object that lacks it.";
        r#"{"extensions":{"bazaar":{"info":"GET"}}}"# => r#"{"extensions":{"bazaar":{"info":{"input":{"type":"http","method":"GET"},"output":{"type":"json"}},"schema":{"type":"object"}}}}"#;
    InvalidBazaarSchema = "INVALID_BAZAAR_SCHEMA", Document, Warning, "extensions.bazaar.schema";
        "the bazaar extension has no JSON Schema that compiles";
        "write a JSON Schema with `type`, `$schema` or `properties`, and only references inside itself";
        "`schema` is absent, not an object, has none of `type`, `$schema` and `properties`, does not compile, or refers to another document: nothing is ever fetched. Schemas beyond 64 KiB in one document are not compiled and reported. Or `schema` does not describe `info`: its `properties` have no `input`, or `info` does not satisfy it; the latter is checked for an `info` of 16 KiB at most and schemas without references, patterns and the like.";
        r#"{"extensions":{"bazaar":{"schema":{"type":"objekt"}}}}"# => r#"{"extensions":{"bazaar":{"schema":{"type":"object"}}}}"#;
    InvalidOutputSchema = "INVALID_OUTPUT_SCHEMA", Document, Warning, "accepts[0].outputSchema, accepts[0].outputSchema.output";
        "`outputSchema` does not describe the resource";
        "write `outputSchema` as { input: { type, method }, output: { … } }";
        "`outputSchema` or its `output` is not an object, or `output` is a JSON Schema (it has `$schema` or `properties`) that does not compile. null as `outputSchema` counts as absent. What is absent is reported at the object that lacks it.";
        r#"{"accepts":[{"outputSchema":"json"}]}"# => r#"{"accepts":[{"outputSchema":{"input":{"type":"http","method":"GET"},"output":{"type":"object"}}}]}"#;
    MissingInputSchema = "MISSING_INPUT_SCHEMA", Document, Warning, "extensions";
        "the document does not describe how to call the resource";
        "add `extensions.bazaar` with `info` and `schema`, so that agents can find and call the resource";
        "There is neither `extensions.bazaar` nor an `outputSchema`.";
        r#"{"extensions":{}}"# => r#"{"extensions":{"bazaar":{"info":{"input":{"type":"http","method":"GET"},"output":{"type":"json"}},"schema":{"type":"object"}}}}"#;
    InvalidBazaarInfoInput = "INVALID_BAZAAR_INFO_INPUT", X402lint, Warning, "extensions.bazaar.info.input";
        "the bazaar extension does not say how to call the resource";
        "add `input.type` (\"http\") and `input.method` (\"GET\", \"POST\", …)";
        "`info.input` is absent, not an object, or lacks `type` or `method`. For `\"type\":\"http\"` the method is one of GET, HEAD, DELETE, POST, PUT, PATCH. An input of `\"type\":\"mcp\"` has `toolName` and `inputSchema` instead, and its schema must compile.";
        r#"{"extensions":{"bazaar":{"info":{"input":{"type":"http"}}}}}"# => r#"{"extensions":{"bazaar":{"info":{"input":{"type":"http","method":"GET"}}}}}"#;
    InvalidOutputSchemaInput = "INVALID_OUTPUT_SCHEMA_INPUT", X402lint, Warning, "accepts[0].outputSchema.input";
        "`outputSchema` does not say how to call the resource";
        "add `input.type` (\"http\") and `input.method` (\"GET\", \"POST\", …)";
        "`outputSchema.input` is absent, not an object, or lacks `type` or `method`.";
        r#"{"accepts":[{"outputSchema":{"input":{"type":"http"}}}]}"# => r#"{"accepts":[{"outputSchema":{"input":{"type":"http","method":"GET"}}}]}"#;
    InvalidStellarAddress = "INVALID_STELLAR_ADDRESS", Ours, Error, "accepts[0].payTo, accepts[0].asset";
        "not a Stellar address";
        "write a strkey that begins with G, M or C; as asset also `native` or `CODE:G…`";
        "On a `stellar` network `payTo` is a strkey of an account (`G…`), a muxed account (`M…`) or a contract (`C…`) whose checksum is right. An `asset` may also be `native` or `CODE:G…`, a code of 1 to 12 letters and digits and its issuer.";
        r#"{"accepts":[{"network":"stellar:pubnet","asset":"USDC"}]}"# => r#"{"accepts":[{"network":"stellar:pubnet","asset":"USDC:GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"}]}"#;
    InvalidAptosAddress = "INVALID_APTOS_ADDRESS", Ours, Error, "accepts[0].payTo, accepts[0].asset";
        "not an Aptos address";
        "write 0x and up to 64 hex digits; as asset also 0x…::module::Name";
        "On an `aptos` network `payTo` is `0x` and 1 to 64 hex digits. An `asset` may also be a type: `0x1::aptos_coin::AptosCoin`.";
        r#"{"accepts":[{"network":"aptos:1","asset":"APT"}]}"# => r#"{"accepts":[{"network":"aptos:1","asset":"0x1::aptos_coin::AptosCoin"}]}"#;
    MissingPlanId = "MISSING_PLAN_ID", Ours, Error, "accepts[0].planId";
        "`planId` is missing";
        "add the plan's id as `planId`, a decimal number in a string";
        "An entry of `nvm:erc4337` names the plan that is ordered and redeemed; `planId` is absent, null, empty, or not the decimal digits of a 256-bit number in a string, without leading zeros. For `nvm:card-delegation` an absent one is a warning: the field is optional there, and every server sends it.";
        r#"{"accepts":[{"scheme":"nvm:erc4337","network":"eip155:84532"}]}"# => r#"{"accepts":[{"scheme":"nvm:erc4337","network":"eip155:84532","planId":"44742763076047497640080230236781474129970992727896593861997347135613135571071"}]}"#;
    InvalidPaymentIdentifier = "INVALID_PAYMENT_IDENTIFIER", Ours, Error, "extensions.payment-identifier";
        "the payment-identifier extension is malformed";
        "write \"payment-identifier\": { \"info\": { \"required\": false } }";
        "The extension is an object whose `info.required` is true or false. An `info.id` is 16 to 128 letters, digits, `_` and `-`. A `schema` is an object that compiles. What is absent is reported at the object that lacks it.";
        r#"{"extensions":{"payment-identifier":{"info":{"required":"yes"}}}}"# => r#"{"extensions":{"payment-identifier":{"info":{"required":true}}}}"#;
    InvalidExtra = "INVALID_EXTRA", Ours, Error, "accepts[0].extra";
        "`extra` is not what the scheme adds";
        "write `extra` as an object; for a known token leave out what it does not have, and name its EIP-712 domain";
        "`extra` is not an object. Or, for `exact` on a token that is known: `extra.name` or `extra.version` is not that of the token's EIP-712 domain, so that every signature fails; `extra.verifyingContract` is another contract than `asset`. What is absent is `MISSING_EIP712_DOMAIN`. An entry of `nvm:erc4337` has an `extra.version` (a string), an `agentId` of decimal digits in a string and an `httpVerb` that is a string; the last two are optional.";
        r#"{"accepts":[{"network":"eip155:8453","asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","extra":{"name":"USDC"}}]}"# => r#"{"accepts":[{"network":"eip155:8453","asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","extra":{"name":"USD Coin"}}]}"#;
    InvalidMember = "INVALID_MEMBER", Ours, Error, "accepts[0].description, error, extensions, resource.description";
        "a member has another type than the protocol gives it";
        "write a string, or leave it out";
        "Version 1: `description` or `mimeType` of an entry is not a string. Clients that read the entry as a whole pass it over. A warning for members of the document that decide no money, for which some clients refuse it: `error`, `resource.description` or `resource.mimeType` is not a string, or `extensions` not an object.";
        r#"{"x402Version":1,"accepts":[{"description":7}]}"# => r#"{"x402Version":1,"accepts":[{"description":"weather"}]}"#;
    MissingEip712Domain = "MISSING_EIP712_DOMAIN", Ours, Warning, "accepts[0].extra, accepts[0].extra.name";
        "the EIP-712 domain of the token is missing";
        "write the token's own, as its contract has it: \"extra\": {\"name\": …, \"version\": …}";
        "`exact` on an `eip155` network, by EIP-3009: the payer signs under the token's EIP-712 domain, and has its name and version from `extra`. One of them is absent, null or empty, or not a string for a token that is not known. Not reported for other transfer methods: `extra.assetTransferMethod`, or a token that is known to be paid by Permit2.";
        r#"{"accepts":[{"scheme":"exact","network":"eip155:8453","asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}]}"# => r#"{"accepts":[{"scheme":"exact","network":"eip155:8453","asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","extra":{"name":"USD Coin","version":"2"}}]}"#;
    UnknownMethod = "UNKNOWN_METHOD", Ours, Warning, "accepts[0].extra.assetTransferMethod, accepts[0].extra.paymentFlow";
        "the way of the money is none that a client knows";
        "leave the member out, or write one that clients know";
        "`extra.assetTransferMethod` is none of `eip3009` and `permit2`, or `extra.paymentFlow` none of `authorization`, `upfront` and `escrow`. A client builds no payment for a method or flow that it does not know.";
        r#"{"accepts":[{"extra":{"paymentFlow":"later"}}]}"# => r#"{"accepts":[{"extra":{"paymentFlow":"authorization"}}]}"#;
    UnknownScheme = "UNKNOWN_SCHEME", Ours, Warning, "accepts[0].scheme";
        "the scheme is none that a published client pays";
        "write \"exact\", unless your payers have a client for this scheme";
        "The scheme is none of `exact`, `upto`, `batch-settlement`, `auth-capture`, `nvm:erc4337`, `nvm:card-delegation`. Names are compared by the letter: `Exact` is paid by nobody, and the fix then names the right spelling.";
        r#"{"accepts":[{"scheme":"Exact"}]}"# => r#"{"accepts":[{"scheme":"exact"}]}"#;
    UnpayableRecipient = "UNPAYABLE_RECIPIENT", Ours, Warning, "accepts[0].payTo";
        "nobody can receive at `payTo`";
        "write the address of the seller as `payTo`";
        "On an `eip155` network `payTo` is the zero address, to which tokens refuse to transfer, or the same as `asset`: a token keeps what its own contract is paid.";
        r#"{"accepts":[{"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","payTo":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}]}"# => r#"{"accepts":[{"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    LongTimeout = "LONG_TIMEOUT", Ours, Warning, "accepts[0].maxTimeoutSeconds";
        "`maxTimeoutSeconds` is longer than payers sign for";
        "write the seconds that a payment may take, such as 60; 3600 at most";
        "`maxTimeoutSeconds` is more than one hour: the payer's authorization would be valid for so long, and this project's client signs for one hour at most unless it is told otherwise. The message says how long it is; a number that is more likely one of milliseconds, or a point in time, is named so.";
        r#"{"accepts":[{"maxTimeoutSeconds":300000}]}"# => r#"{"accepts":[{"maxTimeoutSeconds":300}]}"#;
    LargeAmount = "LARGE_AMOUNT", Ours, Warning, "accepts[0].amount";
        "the price is in the thousands of dollars";
        "write atomic units once: 0.01 USDC is \"10000\"";
        "The asset is a known dollar token, and the price is a whole number of dollars, 1000 or more: the sign of a price that was converted to atomic units twice. The message has the sum in figures and in words; the fix has the sum that may have been meant.";
        r#"{"accepts":[{"amount":"10000000000"}]}"# => r#"{"accepts":[{"amount":"10000"}]}"#;
    MisnamedMember = "MISNAMED_MEMBER", Ours, Warning, "accepts[0].pay_to, resourceInfo";
        "a member is named otherwise than in the protocol";
        "write the name of the protocol";
        "A member of the document or of an entry has a name that the protocol does not have, and the one that it means is absent: another spelling (`pay_to`, `PayTo`, `max_amount_required`, `x402_version`), or another word (`resourceInfo`, `token`, `recipient`, `price`, `chain`). Clients do not read it. `normalized` has other spellings and `resourceInfo` under their right names.";
        r#"{"accepts":[{"pay_to":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"# => r#"{"accepts":[{"payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}]}"#;
    MisplacedMember = "MISPLACED_MEMBER", Ours, Warning, "accepts[0].resource, accepts[0].extensions.bazaar";
        "a member is in another place than the protocol has it";
        "move it to where clients look for it";
        "Version 2: an entry has `resource`, `description`, `mimeType` or `outputSchema`, which version 1 has there. Every version: an entry has the bazaar extension, as `bazaar`, `extra.bazaar` or `extensions.bazaar`. `normalized` has `resource` and `bazaar` where they belong.";
        r#"{"x402Version":2,"accepts":[{"resource":"https://api.example.com/a"}]}"# => r#"{"x402Version":2,"resource":{"url":"https://api.example.com/a"},"accepts":[{"scheme":"exact"}]}"#;
    WrappedDocument = "WRAPPED_DOCUMENT", Ours, Warning, "data, error.data, $";
        "the payment requirements are inside something else";
        "send the payment requirements alone, as one JSON object";
        "The document is below members of another object, at most three levels deep, as error envelopes of frameworks put it; or the input is the list of entries alone. Reported beside `UNKNOWN_FORMAT` or `NOT_OBJECT`: no client looks for it there. The wrapped document is linted in its place, and `normalized` is it alone.";
        r#"{"data":{"x402Version":2,"accepts":[]}}"# => r#"{"x402Version":2,"accepts":[]}"#;
    HeaderTooLarge = "HEADER_TOO_LARGE", Ours, Warning, "$";
        "the document is too large for a header";
        "offer fewer ways to pay, or shorten descriptions and schemas";
        "Version 2 travels base64-encoded in the `PAYMENT-REQUIRED` header. nginx passes 4 KiB of response head unless `proxy_buffer_size` is set, and Node's fetch 16 KiB, so clients behind them get a 502 and cannot pay: a header over 3,500 bytes is reported (docs/proxies.md). The header is measured if there is one, else the compact document as it would be encoded.";
        r#"{"x402Version":2,"accepts":["… 40 entries …"]}"# => r#"{"x402Version":2,"accepts":["… 4 entries …"]}"#;
}

impl Code {
    /// Returns the description of the fault, in one line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// Returns the remedy, in one line.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        self.row().fix
    }

    /// Returns the severity, unless the code's page makes an exception.
    #[must_use]
    pub const fn severity(self) -> Severity {
        self.row().severity
    }

    /// Formats the code's page in Markdown, as `x402 explain` prints it and `docs/error-codes.md` contains it.
    #[must_use]
    pub fn page(self) -> String {
        let row = self.row();
        let origin = match row.origin {
            CodeOrigin::Document => "",
            CodeOrigin::X402lint => ", of x402lint",
            CodeOrigin::Ours => ", ours",
        };
        let places: Vec<String> = row.at.split(", ").map(|place| format!("`{place}`")).collect();
        format!(
            "### `{}`\n\n{}{origin}, at {}: {}.\n\n{}\n\n```json\n{}\n```\n\nFix: {}.\n\n```json\n{}\n```\n",
            row.name,
            row.severity.as_str(),
            places.join(", "),
            row.text,
            row.page,
            row.wrong,
            row.fix,
            row.right,
        )
    }

    /// Formats all pages: the linter's section of `docs/error-codes.md`.
    #[must_use]
    pub fn pages() -> String {
        let mut out = String::from("| Code | Severity | Text |\n| --- | --- | --- |\n");
        for row in Self::TABLE {
            let anchor = row.name.to_lowercase();
            out.push_str(&format!("| [`{}`](#{anchor}) | {} | {} |\n", row.name, row.severity.as_str(), row.text));
        }
        for row in Self::TABLE {
            out.push('\n');
            out.push_str(&row.code.page());
        }
        out
    }
}

/// The error for a name that is not a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such code; `x402 explain` lists them")]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    /// Parses a name in any case; `-` is read as `_`.
    fn from_str(s: &str) -> Result<Self, UnknownCode> {
        let name = s.to_ascii_uppercase().replace('-', "_");
        Self::TABLE.iter().find(|row| row.name == name).map(|row| row.code).ok_or(UnknownCode)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // specs/x402-config-rules.md, "Error Codes", verbatim.
    const ERRORS: &str = "INVALID_JSON NOT_OBJECT UNKNOWN_FORMAT MISSING_VERSION INVALID_VERSION MISSING_ACCEPTS EMPTY_ACCEPTS \
        INVALID_ACCEPTS MISSING_SCHEME MISSING_NETWORK INVALID_NETWORK_FORMAT MISSING_AMOUNT INVALID_AMOUNT ZERO_AMOUNT \
        MISSING_ASSET MISSING_PAY_TO MISSING_RESOURCE INVALID_URL INVALID_TIMEOUT INVALID_EVM_ADDRESS BAD_EVM_CHECKSUM \
        INVALID_SOLANA_ADDRESS ADDRESS_NETWORK_MISMATCH";
    const WARNINGS: &str = "NO_EVM_CHECKSUM UNKNOWN_NETWORK UNKNOWN_ASSET LEGACY_FORMAT MISSING_MAX_TIMEOUT INVALID_BAZAAR_INFO \
        INVALID_BAZAAR_SCHEMA INVALID_OUTPUT_SCHEMA MISSING_INPUT_SCHEMA";

    #[test]
    fn the_table_has_the_codes_of_the_document_with_their_severity() {
        for (names, severity, count) in [(ERRORS, Severity::Error, 23), (WARNINGS, Severity::Warning, 9)] {
            let names: Vec<&str> = names.split_whitespace().collect();
            assert_eq!(names.len(), count);
            let table: Vec<&str> = Code::TABLE
                .iter()
                .filter(|row| row.origin == CodeOrigin::Document && row.severity == severity)
                .map(|row| row.name)
                .collect();
            assert_eq!(table, names);
        }
        assert_eq!(Code::TABLE.len(), 23 + 9 + 2 + 16);
    }

    #[test]
    fn every_name_is_read_again() {
        for row in Code::TABLE {
            assert_eq!(row.name.parse(), Ok(row.code));
            assert_eq!(row.name.to_lowercase().replace('_', "-").parse(), Ok(row.code));
            assert_eq!(row.code.row(), row);
        }
        assert_eq!("NOPE".parse::<Code>(), Err(UnknownCode));
    }

    #[test]
    fn every_example_but_that_of_invalid_json_is_json() {
        for row in Code::TABLE {
            let wrong = serde_json::from_str::<serde_json::Value>(row.wrong);
            assert_eq!(wrong.is_ok(), row.code != Code::InvalidJson, "{}", row.name);
            assert!(serde_json::from_str::<serde_json::Value>(row.right).is_ok(), "{}", row.name);
        }
    }
}
