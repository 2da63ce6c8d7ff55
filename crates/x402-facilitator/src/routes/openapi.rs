//! The description of the callers' port: [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0), from the same list that the routes
//! are made from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One method of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) summary: &'static str,
    /// Whether callers present their token, where there are callers.
    pub(crate) token: bool,
    /// The statuses of the route's own answers. Those of [`Operation::statuses`] come beside them.
    pub(crate) own: &'static [u16],
}

impl Operation {
    pub(crate) const fn new(
        method: &'static str,
        path: &'static str,
        summary: &'static str,
        own: &'static [u16],
    ) -> Self {
        Self { path, method, summary, token: true, own }
    }

    /// Needs no token.
    pub(crate) const fn open(mut self) -> Self {
        self.token = false;
        self
    }

    /// Returns every status of an answer: the route's own, and those of admission, limits and bodies.
    fn statuses(&self) -> Vec<u16> {
        let mut all = self.own.to_vec();
        // The rate of an address is no route's own.
        all.push(429);
        if self.token {
            all.extend([401, 503]);
        }
        if self.method == "post" {
            all.extend([400, 408, 413, 415]);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The routes that supervisors and this document have, without a rate.
pub(crate) const PROBES: &[Operation] = &[
    Operation::new("get", "/health", "Whether the ledger can be read and written", &[200, 503]).open(),
    Operation::new("get", "/ready", "Whether every kind has a signer that can pay", &[200, 503]).open(),
    Operation::new("get", "/openapi.json", "This document", &[200]).open(),
];

/// The routes that dialects and further parts bring along. Where they are not configured, they answer with 400 or 404.
pub(crate) const FURTHER: &[Operation] = &[
    Operation::new("post", "/initiate", "Issues a ticket", &[200]).open(),
    Operation::new("post", "/session-keys", "Registers a session key", &[200]),
    Operation::new("delete", "/session-keys", "Removes a session key", &[204, 400, 408, 413, 415]),
    #[cfg(feature = "discovery")]
    Operation::new("get", "/discovery/resources", "Lists what was settled", &[200, 400, 404, 503]).open(),
    #[cfg(feature = "discovery")]
    Operation::new("get", "/discovery/search", "Searches what was settled", &[200, 400, 404, 503]).open(),
];

/// The statuses of routes of cards.
#[cfg(feature = "cards")]
const OF_CARDS: &[u16] = &[200, 201, 402, 403, 404, 409, 422];

/// The routes of cards and delegations, where they are configured.
#[cfg(feature = "cards")]
pub(crate) const CARDS: &[Operation] = &[
    Operation::new("post", "/payments/card/setup", "Begins to enrol a card", OF_CARDS),
    Operation::new("post", "/api/v1/payments/card/setup", "Begins to enrol a card", OF_CARDS),
    Operation::new("post", "/payments/card/enroll", "Enrols a card", OF_CARDS),
    Operation::new("post", "/api/v1/payments/card/enroll", "Enrols a card", OF_CARDS),
    Operation::new("post", "/api/v1/delegation/finalize-enrollment", "Enrols a card", OF_CARDS),
    Operation::new("get", "/api/v1/payment-methods", "Lists the caller's cards", OF_CARDS),
    Operation::new("delete", "/api/v1/payment-methods/{id}", "Removes a card", &[200, 204, 400, 403, 404, 409]),
    Operation::new("post", "/api/v1/delegation/create", "Makes a delegation", OF_CARDS),
    Operation::new("get", "/api/v1/delegation", "Lists the caller's delegations", OF_CARDS),
    Operation::new("get", "/api/v1/delegation/{id}", "Reads a delegation", OF_CARDS),
    Operation::new("delete", "/api/v1/delegation/{id}", "Revokes a delegation", &[200, 204, 400, 403, 404, 409]),
    Operation::new("get", "/api/v1/delegation/{id}/transactions", "Lists the charges of a delegation", OF_CARDS),
    Operation::new("post", "/x402/permissions", "Makes a token of a delegation", OF_CARDS),
    Operation::new("post", "/api/v1/x402/permissions", "Makes a token of a delegation", OF_CARDS),
    Operation::new("get", "/.well-known/jwks.json", "The keys of tokens", &[200, 404]).open(),
];

/// Writes the document of these operations.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let mut paths: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let responses = operation.statuses().into_iter().map(|status| (status.to_string(), response(status)));
        let mut described = json!({
            "summary": operation.summary,
            "responses": responses.collect::<serde_json::Map<_, _>>(),
            "security": if operation.token { json!([{}, { "caller": [] }]) } else { json!([]) },
        });
        if let Some(described) = described.as_object_mut() {
            if operation.method == "post" {
                let content = json!({ "application/json": { "schema": { "type": "object" } } });
                described.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
            }
            let parameters = parameters(operation.path);
            if !parameters.is_empty() {
                described.insert("parameters".to_owned(), parameters.into());
            }
        }
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "x402 facilitator",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "securitySchemes": { "caller": { "type": "http", "scheme": "bearer" } } },
    })
}

fn parameters(path: &str) -> Vec<Value> {
    let named = |name: &str, place: &str, schema: Value| json!({ "name": name, "in": place, "required": place == "path", "schema": schema });
    let mut all: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| named(name, "path", json!({ "type": "string" })))
        .collect();
    if path == PAYMENT {
        all.push(named("wait", "query", json!({ "type": "integer", "minimum": 0, "maximum": 60, "default": 0 })));
    }
    all
}

/// The route of one payment, which alone has a parameter behind it.
pub(crate) const PAYMENT: &str = "/payments/{id}";

fn response(status: u16) -> Value {
    let description = match status {
        200 => "The answer; of /verify and /settle also a refusal",
        201 | 204 => "It is done",
        400 => "The request cannot be decoded or routed",
        401 => "The token is unknown",
        403 => "It belongs to another caller",
        404 => "There is no such thing, or this facilitator does not serve it",
        408 => "The body was too slow",
        409 => "Another request has it",
        413 => "The body is longer than 64 KiB",
        415 => "The body is compressed",
        429 => "Too many requests; Retry-After says when to come again",
        _ => "A fault of this facilitator, or it is paused; Retry-After says when to come again",
    };
    json!({ "description": description })
}
