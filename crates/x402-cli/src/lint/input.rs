//! Input files: a document, or a recorded response.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A response: the status if it is recorded, header names and values, and the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// Reads a file, or standard input for `-`. One byte beyond the linter's maximum is read, so that longer input is
/// recognised.
pub(super) fn read(path: &Path, limit: usize) -> Result<(String, Vec<u8>), String> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let stdin = path == Path::new("-");
    let done = if stdin {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
    match done {
        Ok(_) => Ok((name, bytes)),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Headers as tools record them: an object of texts or of lists, or pairs.
#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Object(BTreeMap<String, Values>),
    Pairs(Vec<(String, String)>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

/// Parses `{status, headers, body}`; the body is text, or the JSON that it was. Returns `None` if the file is not JSON.
pub(super) fn response(bytes: &[u8]) -> Result<Option<Response>, String> {
    const EXPECTED: &str = "the response file: expected an object with `headers` and `body`";
    let members: BTreeMap<String, Box<RawValue>> = match serde_json::from_slice(bytes) {
        Ok(members) => members,
        Err(error) if error.is_data() => return Err(EXPECTED.to_owned()),
        Err(_) => return Ok(None),
    };
    // A document that is passed instead of a response must not look like an empty response.
    if !["status", "headers", "body"].iter().any(|name| members.contains_key(*name)) {
        return Err(EXPECTED.to_owned());
    }
    let headers: Option<Headers> = match members.get("headers") {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| EXPECTED.to_owned())?,
        None => None,
    };
    let headers = match headers {
        None => Vec::new(),
        Some(Headers::Pairs(pairs)) => pairs,
        Some(Headers::Object(members)) => members
            .into_iter()
            .flat_map(|(name, values)| {
                let values = match values {
                    Values::One(value) => vec![value],
                    Values::Many(values) => values,
                };
                values.into_iter().map(move |value| (name.clone(), value))
            })
            .collect(),
    };
    let body = match members.get("body").map(|raw| (raw.get(), serde_json::from_str(raw.get()))) {
        None | Some((_, Ok(Value::Null))) => Vec::new(),
        Some((_, Ok(Value::String(text)))) => text.into_bytes(),
        Some((raw, _)) => raw.as_bytes().to_vec(),
    };
    let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let status = members.get("status").and_then(|raw| serde_json::from_str(raw.get()).ok());
    Ok(Some(Response { status, headers, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, Vec<u8>) {
        (name.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn responses_are_read_as_tools_write_them() {
        let read = |text: &str| response(text.as_bytes()).unwrap().unwrap();
        let found = read(r#"{"status":402,"headers":{"A":"1","B":["2","3"]},"body":{"z":1,"a":2}}"#);
        assert_eq!(found.headers, [pair("A", "1"), pair("B", "2"), pair("B", "3")]);
        assert_eq!(found.body, br#"{"z":1,"a":2}"#, "the order of the members stays");
        let found = read(r#"{"headers":[["A","1"]],"body":"{\"a\":1}"}"#);
        assert_eq!((found.headers, found.body), (vec![pair("A", "1")], br#"{"a":1}"#.to_vec()));
        let empty = Response { status: Some(402), headers: Vec::new(), body: Vec::new() };
        assert_eq!(read(r#"{"status":402}"#), empty);
        assert_eq!(read(r#"{"status":"402 Payment Required","headers":{}}"#), Response { status: None, ..empty });
        assert_eq!(read(r#"{"body":null}"#).body, b"");
    }

    #[test]
    fn other_files_are_told_apart_from_text_that_is_no_json() {
        assert_eq!(response(b"HTTP/1.1 402"), Ok(None));
        assert!(response(br#"{"headers":5}"#).is_err());
        assert!(response(b"[]").is_err());
        assert!(response(br#"{"x402Version":2,"accepts":[]}"#).is_err());
    }
}
