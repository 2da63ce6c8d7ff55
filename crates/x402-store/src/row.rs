//! The ledger's rows as they are stored: `{"format":1,"row":{…}}`.
//!
//! Rows of format 0, which commit 17f55ea wrote, consist of the members alone. A member that is added to a row later
//! needs a default, or a new format that is parsed here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x402_facilitator_core::{Payment, Slot};

use crate::rows::{StoredPayment, StoredSlot};

/// The format of written rows.
const FORMAT: u16 = 1;

/// The reason why a row cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// The row has no known format.
    #[error("a stored row cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A later release wrote the row.
    #[error("a stored row has format {0}, and this release knows formats up to {FORMAT}: use a newer release")]
    Newer(u16),
}

/// A row of the core, as it is stored.
pub(crate) trait Row: Sized {
    type Stored: Serialize + DeserializeOwned + for<'a> From<&'a Self> + Into<Self>;
}

impl Row for Payment {
    type Stored = StoredPayment;
}

impl Row for Slot {
    type Stored = StoredSlot;
}

/// A row of format 1 or newer.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format: u16,
    row: T,
}

/// The member that distinguishes the formats.
#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    format: u16,
}

/// Parses a row of any format that this release knows.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, RowError> {
    match serde_json::from_str::<Number>(text)?.format {
        0 => Ok(serde_json::from_str(text)?),
        FORMAT => {
            let stored: Stored<&RawValue> = serde_json::from_str(text)?;
            Ok(serde_json::from_str(stored.row.get())?)
        }
        newer => Err(RowError::Newer(newer)),
    }
}

/// Formats the row in the newest format.
fn write<T: Serialize>(row: &T) -> Result<String, RowError> {
    Ok(serde_json::to_string(&Stored { format: FORMAT, row })?)
}

/// Formats a row of the core.
pub(crate) fn to_text<T: Row>(value: &T) -> Result<String, RowError> {
    write(&T::Stored::from(value))
}

/// Parses a row of the core.
pub(crate) fn from_text<T: Row>(text: &str) -> Result<T, RowError> {
    read::<T::Stored>(text).map(Into::into)
}

/// Returns the first byte string after all that have this prefix; `None` if there is none.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut after = prefix.get(..=last)?.to_vec();
    *after.last_mut()? = after.last()?.checked_add(1)?;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        lane: String,
        nonce: u64,
    }

    fn sample() -> Sample {
        Sample { lane: "eip155:1/a".to_owned(), nonce: 7 }
    }

    #[test]
    fn a_row_without_a_number_is_of_format_0() {
        assert_eq!(read::<Sample>(r#"{"lane":"eip155:1/a","nonce":7}"#).unwrap(), sample());
    }

    #[test]
    fn the_newest_format_is_read_back() {
        let text = write(&sample()).unwrap();
        assert_eq!(text, r#"{"format":1,"row":{"lane":"eip155:1/a","nonce":7}}"#);
        assert_eq!(read::<Sample>(&text).unwrap(), sample());
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let refused = read::<Sample>(r#"{"format":2,"row":"whatever"}"#).unwrap_err();
        assert!(matches!(refused, RowError::Newer(2)), "{refused}");
        assert!(matches!(read::<Sample>("{}").unwrap_err(), RowError::Malformed(_)));
    }
}
