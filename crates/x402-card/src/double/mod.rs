//! A processor in memory with Stripe's API, as far as it is called here: [Stripe API
//! reference](https://docs.stripe.com/api). It has no clock, socket or thread: a request and the time go in, an answer
//! comes out.
//!
//! Idempotency is that of [Stripe's documentation](https://docs.stripe.com/api/idempotent_requests), and mishaps are chosen
//! by the test. The money book is the judge of what was charged.

mod api;
mod book;
mod form;
mod objects;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use x402_types::{Fault, UnixSeconds};

pub use self::book::{Debit, MoneyBook};
use self::form::Form;
use self::objects::{Member as _, Objects};
use crate::Now;
use crate::processor::{CallMethod, CallProcessor, ProcessorAnswer, ProcessorCall};

/// The seconds for which the answer to an idempotency key is kept: 24 hours.
const KEPT: u64 = 86_400;

/// A request to the double.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DoubleRequest {
    /// The method, `GET` or `POST`.
    pub method: String,
    /// The path with the query.
    pub target: String,
    /// The form-encoded body.
    pub body: String,
    /// The header `Authorization`.
    pub authorization: String,
    /// The header `Idempotency-Key`.
    pub key: Option<String>,
}

/// An answer of the double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleResponse {
    /// The HTTP status.
    pub status: u16,
    /// The identifier of the request, `Request-Id`.
    pub request_id: String,
    /// Whether the answer is that of an earlier request: `Idempotent-Replayed`.
    pub replayed: bool,
    /// The body's text.
    pub body: String,
}

/// Something that goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The request is lost before it is executed.
    LostBefore,
    /// The request is executed, and its answer is lost.
    LostAfter,
    /// The answer is 500, nothing is executed, and the key keeps the 500.
    Status500Before,
    /// The request is executed, the answer is 500, and the key keeps the 500.
    Status500After,
    /// The answer is 409: a request with this key is being executed.
    Conflict,
    /// The answer is 429.
    TooMany,
    /// The request is executed, and the body of the answer is cut.
    Cut,
    /// The request is executed, and the body of the answer is a proxy's page.
    Garbled,
    /// The answer is a final refusal: `invalid_request_error`.
    Refused,
    /// A confirmed intent is `processing` for so many look-ups before it succeeds.
    Processing(u32),
    /// A list does not have what was made after the previous list.
    Stale,
}

#[derive(Debug, Clone)]
struct Plan {
    method: String,
    path: String,
    nth: u32,
    seen: u32,
    mishap: Mishap,
}

#[derive(Debug, Clone)]
struct Kept {
    asked: (String, String),
    status: u16,
    body: String,
    at: UnixSeconds,
}

/// The processor in memory.
#[derive(Debug, Default)]
pub struct Double(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: Objects,
    keys: BTreeMap<String, Kept>,
    plans: Vec<Plan>,
    requests: Vec<DoubleRequest>,
}

impl Double {
    /// Adds a seller's account, to which charges may be routed.
    pub fn add_account(&self, account: &str) {
        self.state().objects.accounts.insert(account.to_owned());
    }

    /// Makes the `nth` call (from 1, counted from now) of a method whose path contains this text go wrong.
    pub fn fail(&self, method: &str, path: &str, nth: u32, mishap: Mishap) {
        let (method, path) = (method.to_owned(), path.to_owned());
        self.state().plans.push(Plan { method, path, nth, seen: 0, mishap });
    }

    /// Ends every mishap that was planned.
    pub fn recover(&self) {
        self.state().plans.clear();
    }

    /// Returns every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<DoubleRequest> {
        self.state().requests.clone()
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn made(&self) -> usize {
        self.state().requests.len()
    }

    /// Returns the number of requests of a method whose path contains this text.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        let state = self.state();
        state.requests.iter().filter(|request| request.method == method && request.target.contains(path)).count()
    }

    /// Returns what was charged and paid back.
    #[must_use]
    pub fn book(&self) -> MoneyBook {
        self.state().objects.book.clone()
    }

    /// Returns an intent as the API writes it.
    #[must_use]
    pub fn intent(&self, id: &str) -> Option<Value> {
        self.state().objects.intents.iter().find(|intent| intent.at("id") == id).cloned()
    }

    /// Answers a request; `None` means that the connection broke.
    pub fn handle(&self, request: &DoubleRequest, now: UnixSeconds) -> Option<DoubleResponse> {
        let mut state = self.state();
        state.requests.push(request.clone());
        let request_id = format!("req_{}", state.requests.len());
        let answer = |(status, body): (u16, String), replayed| {
            Some(DoubleResponse { status, request_id: request_id.clone(), replayed, body })
        };
        if !request.authorization.starts_with("Bearer sk_test_") {
            return answer((401, error("invalid_request_error", None, None).to_string()), false);
        }
        let mishap = state.mishap(request);
        match mishap {
            Some(Mishap::LostBefore) => return None,
            Some(Mishap::Conflict) => {
                let code = Some("idempotency_key_in_use");
                return answer((409, error("idempotency_error", code, None).to_string()), false);
            }
            Some(Mishap::TooMany) => {
                return answer((429, error("invalid_request_error", Some("rate_limit"), None).to_string()), false);
            }
            Some(Mishap::Refused) => {
                return answer((400, error("invalid_request_error", Some("account_invalid"), None).to_string()), false);
            }
            _ => {}
        }
        state.keys.retain(|_, kept| now.0 < kept.at.0.saturating_add(KEPT));
        let asked = (request.target.clone(), request.body.clone());
        let key = request.key.as_ref().filter(|_| request.method == "POST");
        if let Some(kept) = key.and_then(|key| state.keys.get(key)) {
            if kept.asked != asked {
                return answer((400, error("idempotency_error", None, None).to_string()), false);
            }
            let again = (kept.status, kept.body.clone());
            return if mishap == Some(Mishap::LostAfter) { None } else { answer(again, true) };
        }
        let failed = || (500, error("api_error", None, None).to_string());
        let executed = if mishap == Some(Mishap::Status500Before) {
            Executed { status: 500, body: failed().1, keeps: true }
        } else {
            let form = Form::read(if request.method == "GET" { query(&request.target) } else { &request.body });
            let path = request.target.split('?').next().unwrap_or_default().to_owned();
            let executed = api::execute(&mut state.objects, &request.method, &path, &form, mishap, now);
            match mishap {
                Some(Mishap::Status500After) => Executed { status: 500, body: failed().1, keeps: true },
                _ => executed,
            }
        };
        let Executed { status, body, keeps } = executed;
        if let Some(key) = key.filter(|_| keeps) {
            state.keys.insert(key.clone(), Kept { asked, status, body: body.clone(), at: now });
        }
        match mishap {
            Some(Mishap::LostAfter) => None,
            Some(Mishap::Cut) => answer((status, body.chars().take(body.len() / 2).collect()), false),
            Some(Mishap::Garbled) => answer((status, "<html>bad gateway</html>".to_owned()), false),
            _ => answer((status, body), false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mishap(&mut self, request: &DoubleRequest) -> Option<Mishap> {
        let path = request.target.split('?').next().unwrap_or_default();
        let mut found = None;
        for plan in self.plans.iter_mut().filter(|plan| plan.method == request.method && path.contains(&plan.path)) {
            plan.seen = plan.seen.saturating_add(1);
            if plan.seen == plan.nth {
                found = Some(plan.mishap);
            }
        }
        found
    }
}

/// An executed request.
struct Executed {
    status: u16,
    body: String,
    /// Whether its idempotency key keeps the answer: not where nothing was executed.
    keeps: bool,
}

fn query(target: &str) -> &str {
    target.split_once('?').map(|(_, query)| query).unwrap_or_default()
}

/// Writes an error of the API.
fn error(kind: &str, code: Option<&str>, param: Option<&str>) -> Value {
    json!({ "error": { "type": kind, "code": code, "param": param, "message": "a message for people" } })
}

/// The double as a transport, without HTTP.
pub struct DoubleCalls {
    double: std::sync::Arc<Double>,
    now: Now,
}

impl DoubleCalls {
    /// Creates the transport; `now` is the processor's clock.
    #[must_use]
    pub fn new(double: std::sync::Arc<Double>, now: Now) -> Self {
        Self { double, now }
    }
}

impl core::fmt::Debug for DoubleCalls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DoubleCalls").finish_non_exhaustive()
    }
}

#[async_trait]
impl CallProcessor for DoubleCalls {
    async fn call(&self, call: &ProcessorCall) -> Result<ProcessorAnswer, Fault> {
        let (method, target, body) = match call.method {
            CallMethod::Get if call.form.is_empty() => ("GET", call.path.clone(), String::new()),
            CallMethod::Get => ("GET", format!("{}?{}", call.path, call.encoded()), String::new()),
            CallMethod::Post => ("POST", call.path.clone(), call.encoded()),
        };
        let authorization = "Bearer sk_test_double".to_owned();
        let request = DoubleRequest { method: method.to_owned(), target, body, authorization, key: call.key.clone() };
        let now = (self.now)();
        let answer = self.double.handle(&request, now);
        let answer = answer.ok_or_else(|| Fault::unreachable("the card processor", "the connection broke"))?;
        Ok(ProcessorAnswer::new(answer.status, answer.body.into_bytes(), Some(now)))
    }
}
