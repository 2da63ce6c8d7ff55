//! Section "Endpoints": cards, delegations, access tokens and the key set.
//!
//! A caller's name is the user's id: what it makes is its own, and another's answers as unknown.

use std::sync::Arc;

use alloy_primitives::{hex, keccak256};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use x402_card::stores::{Card, CardCharge, ChargeState};
use x402_card::{Cents, Currency, Delegation, DelegationId, DelegationStatus, NewDelegation, TokenClaims};
use x402_codec::{base64, json as strict};
use x402_types::challenge::IsoTime;
use x402_types::nvm::card::{CardPayload, CardPayment, CardRequirements, Processor};
use x402_types::v2::ResourceInfo;
use x402_types::{Fault, RawJson};

use super::desk::{CardDesk, NotEnrolled};
use crate::clock::now;
use crate::dialect::{AdmittedRequest, Context, NotAdmitted, Reply};

type Done<T> = Result<T, Box<Response>>;

/// Returns the routes. Without a [`CardDesk`] there are none.
pub(super) fn routes(context: &Arc<Context>) -> Router {
    if context.value::<CardDesk>().is_none() {
        return Router::new();
    }
    let both = |router: Router<Arc<Context>>, path: &str, method: axum::routing::MethodRouter<Arc<Context>>| {
        router.route(path, method.clone()).route(&format!("/api/v1{path}"), method)
    };
    let router = both(Router::new(), "/payments/card/setup", post(setup));
    let router = both(router, "/payments/card/enroll", post(enroll));
    let router = both(router, "/x402/permissions", post(permit));
    router
        .route("/api/v1/delegation/finalize-enrollment", post(enroll))
        .route("/api/v1/payment-methods", get(methods))
        .route("/api/v1/payment-methods/{id}", delete(remove))
        .route("/api/v1/delegation/create", post(create))
        .route("/api/v1/delegation", get(list))
        .route("/api/v1/delegation/{id}", get(one).delete(revoke))
        .route("/api/v1/delegation/{id}/transactions", get(transactions))
        .route("/.well-known/jwks.json", get(key_set))
        .with_state(Arc::clone(context))
}

/// An admitted request.
struct At<'c> {
    desk: &'c CardDesk,
    user: String,
    body: Bytes,
    limits: x402_codec::Limits,
}

async fn at<'c>(context: &'c Context, headers: &HeaderMap, body: Body) -> Done<At<'c>> {
    let said = |refused: NotAdmitted| {
        Box::new(refused.answer(|rejection| envelope("BCK.X402.0010", rejection.words(), false)))
    };
    let AdmittedRequest { caller, body } = context.admit(headers, body).await.map_err(said)?;
    let desk = context.value::<CardDesk>().ok_or_else(|| Box::new(StatusCode::NOT_FOUND.into_response()))?;
    Ok(At { desk, user: caller, body, limits: *context.limits() })
}

impl At<'_> {
    fn read<T: for<'de> Deserialize<'de>>(&self) -> Done<T> {
        strict::from_slice(&self.body, &self.limits)
            .map_err(|error| refuse(StatusCode::BAD_REQUEST, "BCK.X402.0010", &error.to_string()))
    }

    async fn own(&self, id: &str) -> Done<Delegation> {
        let unknown = || refuse(StatusCode::NOT_FOUND, "BCK.DELEGATION.0002", "no such delegation");
        let id: DelegationId = id.parse().map_err(|_| unknown())?;
        let found = self.desk.delegations.read(&id).await.map_err(|fault| failed(&fault))?;
        found.filter(|found| found.owner == self.user).ok_or_else(unknown)
    }
}

fn envelope(code: &str, message: &str, retryable: bool) -> Value {
    json!({ "code": code, "message": message, "retryable": retryable, "details": {} })
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Box<Response> {
    Box::new(Reply::json(status, &envelope(code, message, false)).into_response())
}

fn failed(fault: &Fault) -> Box<Response> {
    Box::new(Reply::unavailable(fault, &envelope("BCK.X402.0051", "a fault of this facilitator", true)).into_response())
}

fn ok(body: &Value) -> Done<Response> {
    Ok(Reply::json(StatusCode::OK, body).into_response())
}

fn ended(done: Done<Response>) -> Response {
    done.unwrap_or_else(|response| *response)
}

async fn key_set(State(context): State<Arc<Context>>) -> Response {
    let keys = context.value::<CardDesk>().map(|desk| desk.keys.to_jwks()).unwrap_or_default();
    Reply::json(StatusCode::OK, &keys).into_response()
}

async fn setup(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let at = at(&context, &headers, body).await?;
        has_no_card_number(&at.body)?;
        let (id, secret) = at.desk.begin(&at.user).await.map_err(|fault| failed(&fault))?;
        ok(&json!({ "setupIntentId": id, "clientSecret": secret }))
    };
    ended(done.await)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment {
    setup_intent_id: String,
}

async fn enroll(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let at = at(&context, &headers, body).await?;
        has_no_card_number(&at.body)?;
        let Enrolment { setup_intent_id: id } = at.read()?;
        let is_id =
            id.starts_with("seti_") && id.len() <= 255 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let not_yours = || refuse(StatusCode::FORBIDDEN, "BCK.X402.0037", "not a setup of this user");
        if !is_id {
            return Err(not_yours());
        }
        match at.desk.end(&at.user, &id).await.map_err(|fault| failed(&fault))? {
            Ok(card) => ok(&shown(&card)),
            Err(NotEnrolled::NotYours) => Err(not_yours()),
            Err(NotEnrolled::NotSucceeded) => {
                Err(refuse(StatusCode::CONFLICT, "BCK.X402.0038", "the setup has not succeeded"))
            }
            Err(NotEnrolled::NoMethod) => {
                Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "BCK.X402.0039", "the setup has no payment method"))
            }
        }
    };
    ended(done.await)
}

/// Refuses a body with a card number: the browser gives it to the processor alone. Nothing of the body is kept.
fn has_no_card_number(body: &[u8]) -> Done<()> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let runs = body.split(|byte| !is_digit(byte)).filter(|run| (13..=19).contains(&run.len()));
    let passes = |run: &[u8]| {
        let sum: u32 = run
            .iter()
            .rev()
            .enumerate()
            .map(|(at, digit)| {
                let digit = u32::from(digit.saturating_sub(b'0'));
                if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
            })
            .sum();
        sum.is_multiple_of(10)
    };
    if runs.into_iter().any(passes) {
        return Err(refuse(StatusCode::BAD_REQUEST, "BCK.X402.0010", "a card number belongs to the processor alone"));
    }
    Ok(())
}

async fn methods(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        let cards = at.desk.cards.cards(&at.user).await.map_err(|fault| failed(&fault))?;
        ok(&cards.iter().map(shown).collect())
    };
    ended(done.await)
}

async fn remove(State(context): State<Arc<Context>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        match at.desk.cards.remove(&at.user, &id, now()).await.map_err(|fault| failed(&fault))? {
            true => ok(&json!({ "success": true })),
            false => Err(refuse(StatusCode::NOT_FOUND, "BCK.DELEGATION.0001", "no such payment method")),
        }
    };
    ended(done.await)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Creation {
    #[serde(default)]
    provider: Option<String>,
    provider_payment_method_id: String,
    spending_limit_cents: u64,
    #[serde(default)]
    duration_secs: Option<u64>,
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    max_transactions: Option<u64>,
    #[serde(default)]
    plan_id: Option<x402_types::nvm::PlanId>,
    #[serde(default)]
    merchant_account_id: Option<String>,
    #[serde(default)]
    api_key_id: Option<String>,
}

async fn create(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let at = at(&context, &headers, body).await?;
        let asked: Creation = at.read()?;
        let bad = |code: &str, why: &str| refuse(StatusCode::BAD_REQUEST, code, why);
        let (Some(provider), Some(currency)) = (&asked.provider, &asked.currency) else {
            return Err(bad("BCK.DELEGATION.0004", "provider and currency have no default"));
        };
        if Processor::of_name(provider) != Some(Processor::Stripe) {
            return Err(bad("BCK.X402.0034", "provider: stripe alone is served"));
        }
        let currency: Currency = currency.parse().map_err(|_| bad("BCK.X402.0034", "currency: expected usd or eur"))?;
        let limit = Cents::try_from(asked.spending_limit_cents).ok().filter(|limit| *limit >= Cents::LEAST);
        let limit = limit.ok_or_else(|| bad("BCK.X402.0010", "spendingLimitCents: expected 50 to 2^53-1"))?;
        let seconds = asked.duration_secs.unwrap_or(at.desk.longest);
        if seconds == 0 || seconds > at.desk.longest {
            return Err(bad("BCK.X402.0010", "durationSecs: longer than this facilitator allows, or 0"));
        }
        if asked.max_transactions == Some(0) {
            return Err(bad("BCK.X402.0010", "maxTransactions: expected at least 1"));
        }
        let unknown = || refuse(StatusCode::NOT_FOUND, "BCK.DELEGATION.0001", "no such payment method");
        let card = at.desk.cards.card(&at.user, &asked.provider_payment_method_id).await;
        let card = card.map_err(|fault| failed(&fault))?.filter(|card| !card.removed).ok_or_else(unknown)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| failed(&Fault::unreachable("the random numbers", error)))?;
        let now = now();
        let mut delegation = Delegation::new(NewDelegation {
            id: DelegationId::of_random(random),
            owner: at.user.clone(),
            customer: card.customer,
            payment_method: card.method,
            currency,
            limit,
            created_at: now,
            expires_at: now.plus(seconds),
        });
        delegation.max_charges = asked.max_transactions;
        delegation.plan = asked.plan_id;
        delegation.merchant = asked.merchant_account_id;
        delegation.api_key = asked.api_key_id;
        let token = TokenClaims::of(&delegation, &at.desk.issuer, now).to_token(&at.desk.signer);
        let token = token.map_err(|error| failed(&Fault::broken(error)))?;
        let id = delegation.id.to_string();
        if !at.desk.delegations.create(delegation).await.map_err(|fault| failed(&fault))? {
            return Err(unknown());
        }
        Ok(Reply::json(StatusCode::CREATED, &json!({ "delegationId": id, "delegationToken": token })).into_response())
    };
    ended(done.await)
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    page: Option<usize>,
    #[serde(default)]
    offset: Option<usize>,
}

async fn list(
    State(context): State<Arc<Context>>,
    axum::extract::Query(Page { page, offset }): axum::extract::Query<Page>,
    headers: HeaderMap,
) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        let all = at.desk.delegations.list(&at.user).await.map_err(|fault| failed(&fault))?;
        let (page, offset) = (page.unwrap_or(1).max(1), offset.unwrap_or(10).clamp(1, 100));
        let from = (page - 1).saturating_mul(offset);
        let shown: Vec<Value> = all.iter().skip(from).take(offset).map(delegation).collect();
        ok(&json!({ "delegations": shown, "totalResults": all.len(), "page": page, "offset": offset }))
    };
    ended(done.await)
}

async fn one(State(context): State<Arc<Context>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        let found = at.own(&id).await?;
        let charges = at.desk.delegations.charges(&found.id).await.map_err(|fault| failed(&fault))?;
        let mut shown = delegation(&found);
        let last = charges.last().map(|charge| IsoTime::from(charge.at));
        let more = json!({
            "planId": found.plan.map(|plan| plan.to_string()), "merchantAccountId": found.merchant,
            "maxTransactions": found.max_charges, "lastUsedAt": last.as_ref().map(IsoTime::as_str),
        });
        if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
            shown.extend(more);
        }
        ok(&shown)
    };
    ended(done.await)
}

async fn revoke(State(context): State<Arc<Context>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        let found = at.own(&id).await?;
        at.desk.delegations.revoke(&found.id, &at.user, now()).await.map_err(|fault| failed(&fault))?;
        ok(&json!({ "success": true }))
    };
    ended(done.await)
}

async fn transactions(State(context): State<Arc<Context>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let at = at(&context, &headers, Body::empty()).await?;
        let found = at.own(&id).await?;
        let charges = at.desk.delegations.charges(&found.id).await.map_err(|fault| failed(&fault))?;
        let shown: Vec<Value> = charges.iter().filter_map(|charge| transaction(charge, found.currency)).collect();
        ok(&json!({ "transactions": shown, "totalResults": shown.len() }))
    };
    ended(done.await)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    #[serde(default)]
    resource: Option<ResourceInfo>,
    accepted: CardRequirements,
    #[serde(default)]
    token_version: Option<u64>,
    delegation_config: Value,
}

/// Issues an access token: it is bound to its plan, and with version 3 to one request.
async fn permit(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let at = at(&context, &headers, body).await?;
        let asked: Permission = at.read()?;
        let config = asked.delegation_config.as_object().filter(|config| config.len() == 1);
        let id = config.and_then(|config| config.get("delegationId")?.as_str());
        let id = id.ok_or_else(|| {
            refuse(StatusCode::BAD_REQUEST, "BCK.X402.0030", "delegationConfig: expected a delegationId alone")
        })?;
        let refused = |code: &str, why: &str| refuse(StatusCode::PAYMENT_REQUIRED, code, why);
        let id: Option<DelegationId> = id.parse().ok();
        let found = match &id {
            Some(id) => at.desk.delegations.read(id).await.map_err(|fault| failed(&fault))?,
            None => None,
        };
        let found = found.filter(|found| found.owner == at.user);
        let found = found.ok_or_else(|| refused("BCK.X402.0019", "no such delegation"))?;
        let now = now();
        let status = found.status(now);
        if status != DelegationStatus::Active {
            return Err(refused(status.nvm_code().unwrap_or_default(), "the delegation is not active"));
        }
        if found.api_key.as_ref().is_some_and(|key| *key != at.user) {
            return Err(refused("BCK.X402.0029", "the delegation is for another API key"));
        }
        let plan = asked.accepted.plan_id;
        let fits = found.plan.is_none_or(|only| only == plan) && at.desk.plans.find(plan).is_some();
        if !fits || asked.accepted.to_terms(1_u64.into()).is_err() {
            return Err(refused("BCK.X402.0014", "the delegation is for another plan, or it is not served"));
        }
        let mut claims = TokenClaims::of(&found, &at.desk.issuer, now);
        claims.plan = Some(plan);
        match asked.token_version {
            None | Some(2) => {}
            Some(3) => {
                let mut nonce = [0; 32];
                getrandom::fill(&mut nonce)
                    .map_err(|error| failed(&Fault::unreachable("the random numbers", error)))?;
                claims.binding.agent = asked.accepted.extra.agent_id;
                claims.binding.verb = asked.accepted.extra.http_verb.clone();
                claims.binding.resource = asked.resource.as_ref().map(|resource| resource.url.clone());
                claims.binding.nonce = Some(nonce);
            }
            Some(_) => return Err(refuse(StatusCode::BAD_REQUEST, "BCK.X402.0010", "tokenVersion: expected 2 or 3")),
        }
        let token = claims.to_token(&at.desk.signer).map_err(|error| failed(&Fault::broken(error)))?;
        let payload = RawJson::of(&CardPayload::new(token)).map_err(|error| failed(&Fault::broken(error)))?;
        let payment = CardPayment::new(asked.resource, asked.accepted, payload);
        let text = RawJson::of(&payment).map_err(|error| failed(&Fault::broken(error)))?;
        let access = base64::encode(text.as_str().as_bytes());
        let hash = hex::encode_prefixed(keccak256(access.as_bytes()));
        ok(&json!({ "accessToken": access, "permissionHash": hash }))
    };
    ended(done.await)
}

fn shown(card: &Card) -> Value {
    json!({
        "id": card.method, "type": "card", "brand": card.brand, "last4": card.last4, "expMonth": null, "expYear": null,
        "alias": null, "provider": "stripe", "status": if card.removed { "Removed" } else { "Active" },
        "allowedApiKeyIds": null,
    })
}

/// Writes a delegation. Cents are texts in answers.
fn delegation(it: &Delegation) -> Value {
    let time = |at| IsoTime::from(at).as_str().to_owned();
    json!({
        "delegationId": it.id.as_str(), "id": it.id.as_str(), "provider": it.processor.as_str(),
        "providerPaymentMethodId": it.payment_method, "status": it.status(now()).as_str(),
        "spendingLimitCents": it.limit.to_string(), "amountSpentCents": it.spent.to_string(),
        "remainingBudgetCents": it.remaining().to_string(), "currency": it.currency.as_str(),
        "transactionCount": it.charges, "expiresAt": time(it.expires_at), "createdAt": time(it.created_at),
        "apiKeyId": it.api_key,
    })
}

/// Writes a charge; one that was refused before the processor was called is none.
fn transaction(charge: &CardCharge, currency: Currency) -> Option<Value> {
    if matches!(charge.state, ChargeState::Refused(_)) {
        return None;
    }
    let id = hex::encode(charge.payment);
    let end = charge.end.as_ref();
    Some(json!({
        "id": id, "delegationId": charge.delegation.as_str(),
        "providerTransactionId": end.and_then(|end| end.intent.as_deref()),
        "amountCents": charge.cents.to_string(), "currency": currency.as_str(),
        "status": end.map_or("pending", |end| end.result.as_str()),
        "failureReason": end.and_then(|end| end.failure.as_deref()), "createdAt": IsoTime::from(charge.at).as_str(),
    }))
}
