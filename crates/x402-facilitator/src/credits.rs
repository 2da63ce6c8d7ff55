//! The reader of credits that are counted off chain, §4.2 steps 9 and 23: Nevermined keeps them in its own database and
//! mirrors only the plans that request it on chain.
//!
//! The request is `GET /api/v1/protocol/plans/{planId}/balance/{holderAddress}`, without credentials, as
//! `getPlanBalance` of Nevermined's SDK makes it (github.com/nevermined-io/payments, `src/api/plans-api.ts`). Its doc
//! comment shows the answer:
//! `{"planId":"105…578","planType":"credits","holderAddress":"0x5053…","creditsContract":"0xdd02…","balance":"100",
//! "isSubscriber":true}`. The Python SDK (`PlanBalance`) reads `balance` as an integer, so both forms are accepted.

use core::fmt;
use core::time::Duration;

use alloy_primitives::{Address, U256};
use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use x402_codec::{Limits, json};
use x402_erc4337::nvm::ReadCredits;
use x402_http::service;
use x402_types::nvm::PlanId;
use x402_types::{AtomicAmount, Fault, RawJson};

use crate::config::ConfigError;

const SERVICE: &str = "the books of credits";
/// The limits of an answer: a balance is a flat object of a few members.
const LIMITS: Limits = Limits { body: 16 * 1024, depth: 8, ..Limits::DEFAULT };
/// The time from the request to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client of a service that counts credits and has an API like Nevermined's.
#[derive(Clone)]
pub struct HttpCredits {
    http: reqwest::Client,
    base: Url,
}

/// The members of an answer that are read. The others are for display.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlanBalance {
    balance: RawJson,
    #[serde(default)]
    plan_id: Option<PlanId>,
    #[serde(default)]
    holder_address: Option<String>,
}

impl HttpCredits {
    /// Makes a client of the service at an address, for example `https://api.sandbox.nevermined.app`. It waits 5 s for
    /// an answer.
    ///
    /// # Errors
    /// The address is not an http or https URL, or has a user, a query or a fragment.
    pub fn new(address: &str) -> Result<Self, ConfigError> {
        Self::with_timeout(address, TIMEOUT)
    }

    /// Makes a client like [`new`](Self::new), with another time limit for answers.
    ///
    /// # Errors
    /// The same as for [`new`](Self::new).
    pub fn with_timeout(address: &str, timeout: Duration) -> Result<Self, ConfigError> {
        let expected = "an http or https URL without user, query and fragment";
        let base = service::base(address).ok_or(ConfigError::Range { field: "network.nvm.credits", expected })?;
        Ok(Self { http: crate::process::http_client(timeout)?, base })
    }

    fn url(&self, plan: PlanId, holder: Address) -> Url {
        service::below(&self.base, &format!("api/v1/protocol/plans/{plan}/balance/{holder}"))
    }
}

#[async_trait]
impl ReadCredits for HttpCredits {
    async fn credits(&self, plan: PlanId, holder: Address) -> Result<U256, Fault> {
        let request = self.http.get(self.url(plan, holder)).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        // The plan or account may be unknown, or access denied: no such answer has a balance.
        if !status.is_success() {
            return Err(fault(format_args!("HTTP {status}")));
        }
        let answer = service::first_bytes(&mut response, LIMITS.body + 1).await.map_err(unreachable)?;
        if answer.len() > LIMITS.body {
            return Err(fault(format_args!("an answer over {} bytes", LIMITS.body)));
        }
        balance(&answer, plan, holder)
    }
}

/// Reads the balance from an answer. An answer about another plan or account is a fault.
fn balance(answer: &[u8], plan: PlanId, holder: Address) -> Result<U256, Fault> {
    let read: PlanBalance = json::from_slice(answer, &LIMITS).map_err(fault)?;
    if read.plan_id.is_some_and(|id| id != plan) {
        return Err(fault("an answer about another plan"));
    }
    if read.holder_address.is_some_and(|text| text.parse() != Ok(holder)) {
        return Err(fault("an answer about another account"));
    }
    // A number beyond 2^53 is exact here: its digits are read as text, never as a float.
    let text = read.balance.as_str();
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let credits: AtomicAmount = digits.parse().map_err(|_| fault("a balance that is no integer of 256 bits"))?;
    Ok(credits.value())
}

fn fault(why: impl fmt::Display) -> Fault {
    Fault::unreachable(SERVICE, why)
}

/// Describes the error without its URL, which contains the account.
fn unreachable(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let cause = core::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    fault(format_args!("{error}{cause}"))
}

impl fmt::Debug for HttpCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCredits").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
