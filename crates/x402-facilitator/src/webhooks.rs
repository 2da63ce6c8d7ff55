//! Webhooks: a payment's caller is notified of its end, signed as
//! [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md) has it.
//!
//! The ends are rows beside the ledger, so that each is sent at least once, whatever process crashes. They are sent beside the
//! settlement: a target that answers late or never costs it nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use serde_json::json;
use tokio::sync::watch;
use x402_facilitator_core::Payment;
use x402_store::ended::{EndedPayment, EndedPayments};
use x402_types::Fault;

use crate::backoff;
use crate::clock::now;
use crate::config::{ConfigError, WebhookConfig};
use crate::metrics::{Metrics, names};
use crate::view::View;

/// The number of ends that are sent at once.
const AT_ONCE: usize = 16;
/// The time from the request to the head of the answer, whose body is not read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The seconds for which an end is this process's.
const HELD: u64 = 30;
/// The pause between two looks at the store.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause between two tries, in seconds.
const LONGEST: u64 = 3_600;

/// A target with its key.
struct Target {
    url: Url,
    key: hmac::Key,
    tries: u64,
    pause: u64,
}

/// The task that notifies targets of payments' ends.
pub(crate) struct Webhooks {
    store: Arc<dyn EndedPayments>,
    /// The targets by caller; `None` is that of all others.
    targets: BTreeMap<Option<String>, Target>,
    http: reqwest::Client,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Creates the task of these targets.
    ///
    /// # Errors
    /// A secret is missing, or is no key.
    pub(crate) fn new(store: Arc<dyn EndedPayments>, configs: &[WebhookConfig]) -> Result<Self, ConfigError> {
        let mut targets = BTreeMap::new();
        for config in configs {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &config.key()?);
            let target = Target { url: config.target()?, key, tries: config.tries, pause: config.pause_seconds };
            targets.insert(config.caller.clone(), target);
        }
        Ok(Self { store, targets, http: crate::process::http_client(TIMEOUT)? })
    }

    /// Returns the number of ends that are not delivered yet.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn waiting(&self) -> Result<u64, Fault> {
        self.store.waiting().await
    }

    /// Notifies targets until `stop` is set. The next start continues with the rest.
    pub(crate) async fn run(&self, metrics: Metrics, mut stop: watch::Receiver<bool>) {
        let mut told = FuturesUnordered::new();
        let mut failures = 0_u32;
        loop {
            let room = AT_ONCE.saturating_sub(told.len());
            let mut pause = LOOK;
            if room > 0 {
                let at = now();
                match self.store.take(at, at.plus(HELD), room).await {
                    Ok(taken) => {
                        failures = 0;
                        told.extend(taken.into_iter().map(|ended| self.tell(ended, &metrics)));
                    }
                    Err(fault) => {
                        failures = failures.saturating_add(1);
                        pause = backoff::rest(backoff::FIRST, failures);
                        tracing::warn!(%fault, "the ends of payments cannot be read for webhooks");
                    }
                }
            }
            tokio::select! {
                Some(()) = told.next(), if !told.is_empty() => {}
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Notifies one target once, and stores the result.
    async fn tell(&self, ended: EndedPayment, metrics: &Metrics) {
        let EndedPayment { number, tries, payment, .. } = ended;
        let caller = Some(payment.claim.identity.caller.clone());
        let target = self.targets.get(&caller).or_else(|| self.targets.get(&None));
        let Some(target) = target else { return Self::note_stored(&payment, self.store.remove(number).await) };
        let result = self.post(target, number, &payment).await;
        let stored = match result {
            Ok(()) => {
                metrics.add(&names::WEBHOOKS, &["delivered"], 1);
                self.store.remove(number).await
            }
            Err(why) if tries >= target.tries => {
                metrics.add(&names::WEBHOOKS, &["given_up"], 1);
                tracing::warn!(key = %payment.key, tries, %why, "a webhook is given up: its target does not take a payment's end");
                self.store.remove(number).await
            }
            Err(why) => {
                metrics.add(&names::WEBHOOKS, &["failed"], 1);
                let pause = rest(target.pause, tries);
                tracing::info!(key = %payment.key, tries, pause, %why, "a webhook will be sent again");
                self.store.postpone(number, now().plus(pause)).await
            }
        };
        Self::note_stored(&payment, stored);
    }

    fn note_stored(payment: &Payment, stored: Result<(), Fault>) {
        if let Err(fault) = stored {
            tracing::warn!(key = %payment.key, %fault, "the result of a webhook was not stored; it is sent again");
        }
    }

    async fn post(&self, target: &Target, number: u64, payment: &Payment) -> Result<(), String> {
        let id = format!("end_{number}");
        let kind = if matches!(payment.answer, Some(Ok(_))) { "payment.settled" } else { "payment.failed" };
        let body = json!({ "type": kind, "data": View::of(payment) }).to_string();
        let at = now().0.to_string();
        let request = self.http.post(target.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.header("webhook-signature", signature(&target.key, &id, &at, &body));
        let request = request.header("webhook-id", id).header("webhook-timestamp", at);
        // The error of the client would name the URL, which may hold a key.
        match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
            Err(_) => Err("no connection, or one that broke".to_owned()),
        }
    }
}

/// Returns the seconds until the next try: `first`, doubled with each failure, up to an hour.
fn rest(first: u64, tries: u64) -> u64 {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(LONGEST)
}

/// Signs a message: the id, the time and the body, with a point between each.
fn signature(key: &hmac::Key, id: &str, at: &str, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", x402_codec::base64::encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Python 3.11, `base64.b64encode(hmac.new(base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw=="),
    /// b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}', "sha256").digest())`.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = x402_codec::base64::decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==", 64).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,/Xy7FLfFISa1TZH7WLT+0x/orG5MlcutAFOpVan3/00=");
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let pauses: Vec<u64> = (1..12).map(|tries| rest(5, tries)).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600]);
        assert_eq!(rest(3_600, u64::MAX), 3_600);
    }
}
