//! The access log: one JSON object per response, with what was paid for it.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use http::Response;
use serde_json::json;
use x402_codec::{Limits, header};
use x402_http::server::Paid;

/// The place of the log.
#[derive(Debug)]
pub(super) enum AccessLog {
    Output,
    File(Mutex<File>),
}

impl AccessLog {
    /// Appends to a file, or writes to standard output.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Output) };
        Ok(Self::File(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }

    pub(super) fn write(&self, peer: SocketAddr, line: &str, took: Duration, response: &Response<Body>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (method, path) = line.split_once(' ').unwrap_or((line, ""));
        let mut entry = json!({
            "time": time, "peer": peer.ip().to_string(), "method": method, "path": path,
            "status": response.status().as_u16(), "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        let receipt = header::settle_response(response.headers(), &Limits::DEFAULT).ok().flatten();
        if let Some((receipt, entry)) = receipt.zip(entry.as_object_mut()) {
            entry.insert("settled".into(), receipt.success.into());
            entry.insert("transaction".into(), receipt.transaction.into());
            if let Some(reason) = &receipt.error_reason {
                entry.insert("reason".into(), reason.as_str().into());
            }
        }
        let paid = response.extensions().get::<Paid>();
        if let Some((paid, entry)) = paid.zip(entry.as_object_mut()) {
            entry.insert("payer".into(), paid.payer.as_deref().into());
            entry.insert("amount".into(), paid.amount.to_string().into());
            entry.insert("asset".into(), (*paid.asset).into());
            entry.insert("network".into(), paid.network.as_str().into());
            entry.insert("key".into(), paid.key.to_string().into());
        }
        let text = format!("{entry}\n");
        // A log that cannot be written is no reason to withhold what was paid for.
        drop(match self {
            Self::Output => io::stdout().lock().write_all(text.as_bytes()),
            Self::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes()),
        });
    }
}
