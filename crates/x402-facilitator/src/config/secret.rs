//! The places of secrets: the configuration file names them and holds none.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::ConfigError;

/// The place of a secret: `{ env = "NAME" }`, `{ file = "PATH" }`, or for a key of 32 bytes `{ keystore = "PATH", password
/// = … }`.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The name of an environment variable.
    Env(String),
    /// The path of a file; white space at its end is ignored.
    File(PathBuf),
    /// An encrypted key of 32 bytes, in the format of Web3 Secret Storage, version 3, as geth and foundry write it.
    #[cfg(feature = "keystore")]
    Keystore {
        /// The path of the keystore.
        path: PathBuf,
        /// The place of the password.
        password: Box<Self>,
    },
}

const FORMS_OF_A_SECRET: &str = if cfg!(feature = "keystore") {
    "the place of a secret, which is never in this file: { env = \"NAME\" }, { file = \"PATH\" }, or { keystore = \"PATH\", \
     password = { env = \"NAME\" } }"
} else {
    "the place of a secret, which is never in this file: { env = \"NAME\" } or { file = \"PATH\" }"
};

impl SecretSource {
    /// Reads the secret from its place.
    ///
    /// # Errors
    /// It is missing or empty, or an encrypted one cannot be opened.
    pub fn read(&self, field: &'static str) -> Result<Zeroizing<String>, ConfigError> {
        let (text, place) = match self {
            Self::Env(name) => (std::env::var(name).ok(), format!("environment variable {name}")),
            Self::File(path) => (std::fs::read_to_string(path).ok(), format!("file {}", path.display())),
            #[cfg(feature = "keystore")]
            Self::Keystore { path, password } => return super::keystore::open(field, path, &password.read(field)?),
        };
        let text = Zeroizing::new(text.unwrap_or_default());
        let trimmed = text.trim_end();
        if trimmed.is_empty() {
            return Err(ConfigError::NoSecret { field, place });
        }
        Ok(Zeroizing::new(trimmed.to_owned()))
    }
}

/// The parser's own messages quote what they found, and what is found here may be a secret.
impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place)
    }
}

struct Place;

impl<'de> Visitor<'de> for Place {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS_OF_A_SECRET)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(unexpected())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let (mut plain, mut keystore, mut password) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "env" | "file" if plain.is_none() => {
                    let value = map.next_value::<Quiet>()?.0;
                    plain =
                        Some(if key == "env" { SecretSource::Env(value) } else { SecretSource::File(value.into()) });
                }
                "keystore" if cfg!(feature = "keystore") && keystore.is_none() => {
                    keystore = Some(PathBuf::from(map.next_value::<Quiet>()?.0));
                }
                "password" if cfg!(feature = "keystore") && password.is_none() => {
                    password = Some(map.next_value::<SecretSource>()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(unexpected());
                }
            }
        }
        match (plain, keystore, password) {
            (Some(plain), None, None) => Ok(plain),
            #[cfg(feature = "keystore")]
            (None, Some(path), Some(password)) => Ok(SecretSource::Keystore { path, password: Box::new(password) }),
            _ => Err(unexpected()),
        }
    }
}

/// A text whose parser's messages do not quote it.
struct Quiet(String);

impl<'de> Deserialize<'de> for Quiet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|_| unexpected())
    }
}

fn unexpected<E: Error>() -> E {
    E::custom(format_args!("expected {FORMS_OF_A_SECRET}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_secret_says_where_it_should_be() {
        let error = SecretSource::Env("X402_NOT_SET_ANYWHERE".into()).read("network.rpc").unwrap_err();
        assert_eq!(error.to_string(), "network.rpc: environment variable X402_NOT_SET_ANYWHERE is not there or empty");
    }

    #[test]
    fn a_place_has_one_form() {
        #[derive(Debug, Deserialize)]
        struct Holder {
            #[allow(dead_code, reason = "it is read by Debug")]
            at: SecretSource,
        }
        let read = |text: &str| toml::from_str::<Holder>(&format!("at = {text}")).map(|holder| format!("{holder:?}"));
        assert_eq!(read("{ env = \"A\" }").unwrap(), "Holder { at: Env(\"A\") }");
        assert_eq!(read("{ file = \"a\" }").unwrap(), "Holder { at: File(\"a\") }");
        for wrong in [
            "{}",
            "{ env = \"A\", file = \"a\" }",
            "{ Env = \"A\" }",
            "7",
            "{ keystore = \"a\" }",
            "{ password = \"a\" }",
        ] {
            assert!(read(wrong).unwrap_err().message().contains("the place of a secret"), "{wrong}");
        }
    }
}
