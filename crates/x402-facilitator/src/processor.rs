//! The calls of a card processor over HTTP: [Stripe API](https://docs.stripe.com/api).

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderValue};
use x402_card::processor::{CallMethod, CallProcessor, ProcessorAnswer, ProcessorCall};
use x402_http::service;
use x402_types::{Fault, UnixSeconds};
use zeroize::Zeroizing;

use crate::config::ConfigError;

const SERVICE: &str = "the card processor";
/// The version of the API, which npm `stripe` 23.1.0 sends.
const VERSION: &str = "2026-10-28.endive";
/// The longest time of a call, as the official clients have it.
const TIMEOUT: Duration = Duration::from_secs(80);
/// The longest answer: a page of a hundred intents.
const LONGEST: usize = 4 * 1024 * 1024;
/// The time for which a lane waits for a call. The call goes on; until its answer comes, its effect is looked up.
const PATIENCE: Duration = Duration::from_secs(8);

/// The processor over HTTP.
#[derive(Clone)]
pub struct HttpProcessor {
    http: reqwest::Client,
    base: Url,
    key: Arc<Zeroizing<String>>,
    livemode: bool,
}

impl HttpProcessor {
    /// Makes a client with a secret key. `address` is `https://api.stripe.com`, or a double's.
    ///
    /// # Errors
    /// The address is no http or https URL, or the key is none of Stripe's secret or restricted keys.
    pub fn new(address: &str, key: Zeroizing<String>) -> Result<Self, ConfigError> {
        let range = |field, expected| ConfigError::Range { field, expected };
        let base = service::base(address)
            .ok_or_else(|| range("card.processor", "an http or https URL without user, query and fragment"))?;
        let is_of = |mode: &str| ["sk", "rk"].iter().any(|kind| key.starts_with(&format!("{kind}_{mode}_")));
        let livemode = is_of("live");
        if !livemode && !is_of("test") {
            return Err(range("card.secret_key", "a secret key: sk_test_, rk_test_, sk_live_ or rk_live_"));
        }
        Ok(Self { http: crate::process::http_client(TIMEOUT)?, base, key: Arc::new(key), livemode })
    }

    /// Returns whether the key is a live one.
    #[must_use]
    pub const fn livemode(&self) -> bool {
        self.livemode
    }

    async fn made(self, call: ProcessorCall) -> Result<ProcessorAnswer, Fault> {
        let mut url = service::below(&self.base, call.path.trim_start_matches('/'));
        let request = match call.method {
            CallMethod::Get => {
                url.set_query((!call.form.is_empty()).then(|| call.encoded()).as_deref());
                self.http.get(url)
            }
            CallMethod::Post => {
                let request = self.http.post(url).body(call.encoded());
                let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                call.key.iter().fold(request, |request, key| request.header("idempotency-key", key))
            }
        };
        let mut secret = HeaderValue::from_str(&format!("Bearer {}", self.key.as_str()))
            .map_err(|_| Fault::broken("the secret key of the card processor is no header"))?;
        secret.set_sensitive(true);
        let request = request.header(reqwest::header::AUTHORIZATION, secret).header("stripe-version", VERSION);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(date_of);
        let body = service::first_bytes(&mut response, LONGEST + 1).await.map_err(unreachable)?;
        if body.len() > LONGEST {
            return Err(Fault::no_verdict(SERVICE, status, "an answer that is too long"));
        }
        Ok(ProcessorAnswer::new(status, body, date))
    }
}

#[async_trait]
impl CallProcessor for HttpProcessor {
    /// Makes the call in a task of its own: a lane that waits no longer does not end it.
    async fn call(&self, call: &ProcessorCall) -> Result<ProcessorAnswer, Fault> {
        let made = tokio::spawn(self.clone().made(call.clone()));
        match tokio::time::timeout(PATIENCE, made).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(Fault::broken(error)),
            Err(_) => Err(Fault::unreachable(SERVICE, "no answer yet")),
        }
    }
}

/// Describes the error without its URL.
fn unreachable(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let cause = core::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::unreachable(SERVICE, format_args!("{error}{cause}"))
}

/// Parses the date of a header, `Sun, 06 Nov 1994 08:49:37 GMT`, as [RFC 9110
/// §5.6.7](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7) has servers write it.
fn date_of(text: &str) -> Option<UnixSeconds> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, rest) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"]: [&str; 5] = rest.split(' ').collect::<Vec<_>>().try_into().ok()? else {
        return None;
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let month = u64::try_from(MONTHS.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? / 3).ok()?;
    let [hour, minute, second]: [&str; 3] = time.split(':').collect::<Vec<_>>().try_into().ok()?;
    // Days before the year 1970 + n, and before each month of a year that begins in March.
    let (year, month) = (number(year).filter(|year| (1970..=9999).contains(year))?, month + 1);
    let (years, march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (march * 153 + 2) / 5 + number(day)? - 1;
    let days = days.checked_sub(719_468)?;
    Some(UnixSeconds(days * 86_400 + number(hour)? * 3_600 + number(minute)? * 60 + number(second)?))
}

impl fmt::Debug for HttpProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProcessor").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_time_that_date_d_says() {
        // GNU date -d: the example of RFC 9110, a leap day, the ends of a year.
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Fri, 31 Dec 2027 00:00:00 GMT", 1_830_211_200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 01 Jan 2026 00:00:00 GMT", 1_767_225_600),
        ] {
            assert_eq!(date_of(text), Some(UnixSeconds(seconds)), "{text}");
        }
        for text in
            ["", "now", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 anF 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"]
        {
            assert_eq!(date_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_secret_and_says_its_mode() {
        let of = |key: &str| HttpProcessor::new("https://api.stripe.com", Zeroizing::new(key.to_owned()));
        assert!(!of("sk_test_1").unwrap().livemode() && of("sk_live_1").unwrap().livemode());
        assert!(of("pk_test_1").is_err() && of("1").is_err());
        assert!(!format!("{:?}", of("sk_test_1").unwrap()).contains("sk_test_1"));
    }
}
