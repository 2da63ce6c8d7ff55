//! The URL of a database: [connection URIs](https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING) of
//! libpq, with two differences: TLS always verifies the server's certificate and name, and it is never optional.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// The longest URL, in bytes.
const LONGEST: usize = 4_096;
/// The time within which a connection must be established.
const CONNECT: Duration = Duration::from_secs(5);
/// The time after which unacknowledged bytes end a connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// The URL of a PostgreSQL database. Its `Debug` and `Display` show the hosts and the database, and no credentials.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) root: Option<PathBuf>,
    place: Box<str>,
}

/// The reason why a URL cannot be used. It repeats no part of the URL except the names of options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresUrlError {
    /// The text does not begin with `postgres://` or `postgresql://`, or is too long.
    #[error("expected a URL postgres://USER@HOST:PORT/DATABASE of at most 4096 bytes")]
    Scheme,
    /// A part is missing.
    #[error("the URL of the database has no {0}")]
    Missing(&'static str),
    /// An `@`, `/` or `?` in a user name or password must be percent-encoded.
    #[error("the URL of the database has an @ outside its place: encode it as %40, a / in a password as %2F")]
    Unencoded,
    /// An option is unknown or has a bad value.
    #[error("the URL of the database: {0}")]
    Option(Box<str>),
    /// The host is not this machine, and the URL does not decide whether to use TLS.
    #[error("the URL of the database needs sslmode=require, or sslmode=disable for a connection without TLS")]
    NoTlsMode,
    /// The value of `sslmode` would permit a connection without TLS, or is unknown.
    #[error("the URL of the database: sslmode is require, verify-full or disable")]
    TlsMode,
}

impl PostgresUrl {
    /// Returns whether a text is meant to be such a URL: it begins with `postgres://` or `postgresql://`.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        after_scheme(text).is_some()
    }

    /// Returns whether the URL contains a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.place)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.place)
    }
}

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = after_scheme(text).filter(|_| text.len() <= LONGEST).ok_or(PostgresUrlError::Scheme)?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The parser of tokio-postgres would take what is before the first one for the credentials.
        let authority = base.split('/').next().unwrap_or_default();
        if base.matches('@').count() > 1 || query.contains('@') || authority.contains('@') != base.contains('@') {
            return Err(PostgresUrlError::Unencoded);
        }
        let (mut mode, mut root, mut others) = (None, None, Vec::new());
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => root = Some(PathBuf::from(decoded(value)?)),
                _ => others.push(option),
            }
        }
        let mut config: Config = format!("postgres://{base}?{}", others.join("&")).parse().map_err(option)?;
        let is_here = is_this_machine(&config).ok_or(PostgresUrlError::Missing("host"))?;
        if config.get_dbname().is_none() {
            return Err(PostgresUrlError::Missing("database"));
        }
        if config.get_user().is_none() {
            return Err(PostgresUrlError::Missing("user"));
        }
        config.ssl_mode(match mode {
            Some("require" | "verify-full") => SslMode::Require,
            Some("disable") => SslMode::Disable,
            Some(_) => return Err(PostgresUrlError::TlsMode),
            None if is_here => SslMode::Disable,
            None => return Err(PostgresUrlError::NoTlsMode),
        });
        // A standby accepts connections, and no writes: the next host is tried.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if config.get_application_name().is_none() {
            config.application_name("x402");
        }
        let place = place(&config).into();
        Ok(Self { config, root, place })
    }
}

fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))
}

/// Returns whether all hosts are addresses or sockets of this machine; `None` if there is no host.
fn is_this_machine(config: &Config) -> Option<bool> {
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let hosts = config.get_hosts();
    let addresses = config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    (!hosts.is_empty()).then(|| addresses && hosts.iter().all(is_here))
}

/// Names the hosts and the database, as errors and logs do.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5_432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    format!("{}/{}", hosts.collect::<Vec<_>>().join(","), config.get_dbname().unwrap_or_default())
}

/// Describes an option that the parser refuses. Its messages contain names of options, and no values.
fn option(error: tokio_postgres::Error) -> PostgresUrlError {
    let source = core::error::Error::source(&error).map(ToString::to_string);
    PostgresUrlError::Option(source.unwrap_or_else(|| error.to_string()).into())
}

/// Decodes percent-encoded UTF-8.
fn decoded(text: &str) -> Result<String, PostgresUrlError> {
    let bad = || PostgresUrlError::Option("sslrootcert is not percent-encoded UTF-8".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
            let (high, low) = digit(rest.next()).zip(digit(rest.next())).ok_or_else(bad)?;
            bytes.push(u8::try_from(high << 4 | low).map_err(|_| bad())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PostgresUrl, PostgresUrlError> {
        text.parse()
    }

    #[test]
    fn it_shows_the_place_and_no_credentials() {
        let url = parsed("postgres://shop:s3cret%40@db.example:5433,db2.example/x402?sslmode=require").unwrap();
        assert_eq!(url.to_string(), "db.example:5433,db2.example:5432/x402");
        assert_eq!(format!("{url:?}"), "PostgresUrl(db.example:5433,db2.example:5432/x402)");
        assert_eq!(url.config.get_password(), Some(&b"s3cret@"[..]));
        assert!(url.has_password() && url.uses_tls());
        let local = parsed("postgresql://shop@%2Frun%2Fpostgresql/x402").unwrap();
        assert_eq!(local.to_string(), "/run/postgresql:5432/x402");
        assert!(!local.has_password() && !local.uses_tls());
    }

    #[test]
    fn tls_is_never_optional() {
        for (host, options, expected) in [
            ("db.example", "", Err(PostgresUrlError::NoTlsMode)),
            ("db.example", "?sslmode=prefer", Err(PostgresUrlError::TlsMode)),
            ("127.0.0.1", "?sslmode=allow", Err(PostgresUrlError::TlsMode)),
            ("db.example", "?sslmode=disable", Ok(false)),
            ("db.example", "?sslmode=verify-full", Ok(true)),
            ("127.0.0.1", "?sslmode=require", Ok(true)),
            ("127.0.0.1", "", Ok(false)),
            ("[::1]", "", Ok(false)),
            ("localhost", "", Ok(false)),
            ("localhost,db.example", "", Err(PostgresUrlError::NoTlsMode)),
            ("localhost", "?hostaddr=192.0.2.1", Err(PostgresUrlError::NoTlsMode)),
        ] {
            let found = parsed(&format!("postgres://shop@{host}/x402{options}")).map(|url| url.uses_tls());
            assert_eq!(found, expected, "{host}{options}");
        }
        let url = parsed("postgres://shop@db.example/x402?sslrootcert=%2Fetc%2Fca.pem&sslmode=require").unwrap();
        assert_eq!(url.root, Some(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        let long = format!("postgres://shop@localhost/{}", "x".repeat(LONGEST));
        for (text, expected) in [
            ("mysql://shop:hunter2@localhost/x402", "postgres://"),
            ("ledger.sqlite", "postgres://"),
            (&long, "4096"),
            ("postgres://shop:hunter2@localhost", "no database"),
            ("postgres://shop:hunter2@/x402", "no host"),
            ("postgres://localhost/x402", "no user"),
            ("postgres://shop:hunter2@hunter2@localhost/x402", "%40"),
            ("postgres://shop:hunter2/hunter2@localhost/x402", "%2F"),
            ("postgres://shop:hunter2@localhost/x402?application_name=hunter2@b", "%40"),
            ("postgres://shop:hunter2@localhost:hunter2/x402", "port"),
            ("postgres://shop:hunter2@localhost/x402?colour=hunter2", "colour"),
            ("postgres://shop:hunter2@localhost/x402?sslrootcert=%zz", "sslrootcert"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
