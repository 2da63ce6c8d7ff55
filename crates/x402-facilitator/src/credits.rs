//! §4.2 steps 9 and 23, for plans whose credits are counted off chain: Nevermined keeps them in its own books and mirrors
//! on chain only the plans that ask for it.
//!
//! `GET /api/v1/protocol/plans/{planId}/balance/{holderAddress}`, without credentials, as `getPlanBalance` of Nevermined's
//! SDK calls it (github.com/nevermined-io/payments, `src/api/plans-api.ts`). Its doc comment has the answer:
//! `{"planId":"105…578","planType":"credits","holderAddress":"0x5053…","creditsContract":"0xdd02…","balance":"100",
//! "isSubscriber":true}`. The Python SDK (`PlanBalance`) reads `balance` as an integer, so both forms are taken.

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
/// A balance is a flat object of a few members.
const LIMITS: Limits = Limits { body: 16 * 1024, depth: 8, ..Limits::DEFAULT };
/// From the request to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Credits as a service counts them that answers like Nevermined's API.
#[derive(Clone)]
pub struct HttpCredits {
    http: reqwest::Client,
    base: Url,
}

/// What is read of an answer. The rest is for people.
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
    /// The service at an address, for example `https://api.sandbox.nevermined.app`. Its answers take 5 s at most.
    ///
    /// # Errors
    /// The address is not an http or https URL, or carries a user, a query or a fragment.
    pub fn new(address: &str) -> Result<Self, ConfigError> {
        Self::with_timeout(address, TIMEOUT)
    }

    /// The same, whose answers are waited for so long.
    ///
    /// # Errors
    /// As [`new`](Self::new).
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
        // No plan, no account, no permission: whatever it is, it is no balance.
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

/// The balance of an answer. An answer about another plan or account is none about this one.
fn balance(answer: &[u8], plan: PlanId, holder: Address) -> Result<U256, Fault> {
    let read: PlanBalance = json::from_slice(answer, &LIMITS).map_err(fault)?;
    if read.plan_id.is_some_and(|id| id != plan) {
        return Err(fault("an answer about another plan"));
    }
    if read.holder_address.is_some_and(|text| text.parse() != Ok(holder)) {
        return Err(fault("an answer about another account"));
    }
    // A number beyond 2^53 is exact here, since its digits are read and no float is made of them.
    let text = read.balance.as_str();
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let credits: AtomicAmount = digits.parse().map_err(|_| fault("a balance that is no integer of 256 bits"))?;
    Ok(credits.value())
}

fn fault(why: impl fmt::Display) -> Fault {
    Fault::unreachable(SERVICE, why)
}

/// The error without the URL: it names the account.
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
