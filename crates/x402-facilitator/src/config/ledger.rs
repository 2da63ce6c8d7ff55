//! The key `ledger`: where the ledger is.

use std::path::PathBuf;

use serde::Deserialize;
#[cfg(feature = "postgres")]
use x402_store::postgres::PostgresUrl;

use super::{ConfigError, SecretSource};

const FIELD: &str = "ledger";

/// The place of the ledger in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "ledger: expected a path, postgres://USER@HOST/DATABASE, or the place of such a URL")]
pub enum LedgerConfig {
    /// The path of a SQLite file, or the URL of a PostgreSQL database without a password.
    Plain(String),
    /// The place of a path or a URL, which may contain a password.
    Secret(SecretSource),
}

/// The place of the ledger.
#[derive(Debug, Clone)]
pub enum LedgerPlace {
    /// A SQLite file, for one process.
    File(PathBuf),
    /// A PostgreSQL database, for one or more processes.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresUrl>),
}

impl LedgerConfig {
    /// Reads the place.
    /// # Errors
    /// The secret is missing, or the URL is malformed or names another database.
    pub fn place(&self) -> Result<LedgerPlace, ConfigError> {
        match self {
            Self::Plain(text) => place(text),
            Self::Secret(source) => place(&source.read(FIELD)?),
        }
    }

    /// Checks what can be checked without the secret.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self::Plain(text) = self else { return Ok(()) };
        match place(text)? {
            LedgerPlace::File(_) => Ok(()),
            #[cfg(feature = "postgres")]
            LedgerPlace::Postgres(url) if url.has_password() => {
                let expected = "a URL without a password, or { env = \"NAME\" } or { file = \"PATH\" } that holds it";
                Err(ConfigError::Range { field: FIELD, expected })
            }
            #[cfg(feature = "postgres")]
            LedgerPlace::Postgres(_) => Ok(()),
        }
    }
}

/// Reads a path or a URL: only a URL contains `://`.
fn place(text: &str) -> Result<LedgerPlace, ConfigError> {
    if !text.contains("://") {
        if text.is_empty() {
            return Err(ConfigError::Range { field: FIELD, expected: "a path or a URL" });
        }
        return Ok(LedgerPlace::File(PathBuf::from(text)));
    }
    #[cfg(feature = "postgres")]
    return match text.parse::<PostgresUrl>() {
        Ok(url) => Ok(LedgerPlace::Postgres(Box::new(url))),
        // The error repeats no part of the URL.
        Err(error) => Err(ConfigError::Malformed(format!("{FIELD}: {error}"))),
    };
    #[cfg(not(feature = "postgres"))]
    Err(ConfigError::Range { field: FIELD, expected: "a path: this build has no PostgreSQL (feature `postgres`)" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place_of(value: &str) -> Result<LedgerPlace, ConfigError> {
        let text = format!(
            "ledger = {value}\n[[network]]\nid = \"eip155:84532\"\nrpc = {{ env = \"RPC\" }}\nfinality = 2\n\
             max_fee_per_gas = 1\nsigners = [{{ file = \"key\" }}]"
        );
        crate::config::Config::parse(&text)?.ledger.place()
    }

    #[test]
    fn a_path_is_a_file_and_a_url_a_database() {
        for path in ["x402.sqlite", "/var/lib/x402/ledger.sqlite", "postgres"] {
            let found = place_of(&format!("\"{path}\""));
            assert!(matches!(&found, Ok(LedgerPlace::File(file)) if file.as_path() == Path::new(path)), "{found:?}");
        }
        let found = place_of("\"postgres://x402@db.example/x402?sslmode=require\"").unwrap();
        assert_eq!(format!("{found:?}"), "Postgres(PostgresUrl(db.example:5432/x402))");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "postgres://x402:hunter2@127.0.0.1/x402\n").unwrap();
        let found = place_of(&format!("{{ file = {:?} }}", file.path())).unwrap();
        assert_eq!(format!("{found:?}"), "Postgres(PostgresUrl(127.0.0.1:5432/x402))");
    }

    #[test]
    fn what_is_wrong_is_named_without_its_password() {
        for (value, named) in [
            ("\"\"", "a path or a URL"),
            ("\"mysql://x402:hunter2@localhost/x402\"", "postgres://"),
            ("\"postgres://x402:hunter2@localhost/x402\"", "without a password"),
            ("\"postgres://x402:hunter2@db.example/x402\"", "sslmode"),
            ("{ env = \"X402_NOT_SET_ANYWHERE\" }", "X402_NOT_SET_ANYWHERE"),
            ("{ url = \"postgres://x402:hunter2@localhost/x402\" }", "ledger"),
        ] {
            let error = place_of(value).unwrap_err().to_string();
            assert!(error.contains("ledger") && error.contains(named), "{value}: {error}");
            assert!(!error.contains("hunter2") || value.starts_with("{ url"), "{value}: {error}");
        }
    }
}
