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

mod table;

pub use table::Code;

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

    /// Returns whether the code is one of HTTP answers, which a document alone never has: [`lint_answer`] reports it.
    ///
    /// [`lint_answer`]: crate::lint_answer
    #[must_use]
    pub const fn is_of_answers(self) -> bool {
        matches!(
            self,
            Self::NoTerms
                | Self::HeaderAndBodyDisagree
                | Self::RepeatedHeader
                | Self::MisnamedHeader
                | Self::HeaderEncoding
                | Self::BodyOnly
                | Self::UnexpectedStatus
                | Self::MissingCacheControl
                | Self::InsecureUrl
                | Self::PrivateResource
                | Self::OtherProtocol
        )
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
        assert_eq!(Code::TABLE.len(), 23 + 9 + 2 + 29);
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
