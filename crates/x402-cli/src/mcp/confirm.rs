//! Confirmations: a payment above the owner's limit is made after a person has agreed to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};
use x402_http::client::{Budget, Closed, ReserveError, Spend};
use x402_types::Fault;

use super::books::{self, Books};

/// A payment that needs a person's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question(Spend);

impl Question {
    /// Returns whether the answer to this question covers a payment: to the same host, in the same asset, and no more.
    fn covers(&self, spend: &Spend) -> bool {
        let Self(asked) = self;
        asked.host == spend.host
            && asked.network == spend.network
            && asked.asset == spend.asset
            && spend.amount <= asked.amount
    }

    /// Writes the question.
    pub(super) fn text(&self, url: &str) -> String {
        let Self(asked) = self;
        let dollars = asked.dollar_decimals.and_then(|decimals| books::amount_in_dollars(asked.amount, decimals));
        let sum = dollars.unwrap_or_else(|| format!("{} of {}", asked.amount, asked.asset));
        format!("Pay {sum} to {} on {} for {}?", asked.host, asked.network, url.escape_debug())
    }
}

/// The budget of one call: the books, and what a person agreed to.
#[derive(Debug)]
pub(super) struct CallBudget {
    books: Arc<Books>,
    agreed: Option<Question>,
    asked: Mutex<Option<Question>>,
}

impl CallBudget {
    pub(super) fn new(books: Arc<Books>, agreed: Option<Question>) -> Self {
        Self { books, agreed, asked: Mutex::default() }
    }

    /// Returns the question that must be answered before the payment is made.
    pub(super) fn question(&self) -> Option<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Budget for CallBudget {
    async fn reserve(&self, spend: &Spend) -> Result<u64, ReserveError> {
        let limit = self.books.policy().confirm_above(&spend.host);
        let limit = spend.dollar_decimals.and_then(|decimals| limit.to_atomic(decimals)).unwrap_or_default();
        let agreed = self.agreed.as_ref().is_some_and(|question| question.covers(spend));
        let reservation = self.books.reserve(spend).await?;
        if spend.amount <= limit || agreed {
            return Ok(reservation);
        }
        // The budget comes first: a payment that it refuses needs no consent.
        self.books.close(reservation, Closed::NeverSent);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Question(spend.clone()));
        Err(Fault::unreachable("the owner", "a person must agree to this amount").into())
    }

    fn close(&self, reservation: u64, how: Closed) {
        self.books.close(reservation, how);
    }
}

/// The most questions that wait for an answer.
const MOST: usize = 64;

/// Questions that were sent to the client, which repeats the call with the answer. The client sees only their handles.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<VecDeque<Sent>>);

/// A question about a call, under its handle.
type Sent = (String, Map<String, Value>, Question);

impl Open {
    /// Keeps a question about a call, and returns its handle. The oldest gives way to the newest.
    pub(super) fn keep(&self, call: Map<String, Value>, question: Question) -> Option<String> {
        let mut handle = [0; 16];
        getrandom::fill(&mut handle).ok()?;
        let handle = alloy_primitives::hex::encode(handle);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == MOST {
            open.pop_front();
        }
        open.push_back((handle.clone(), call, question));
        Some(handle)
    }

    /// Takes the question about this call.
    pub(super) fn take(&self, handle: &str, call: &Map<String, Value>) -> Option<Question> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(known, about, _)| known == handle && about == call)?;
        open.remove(at).map(|(_, _, question)| question)
    }
}
