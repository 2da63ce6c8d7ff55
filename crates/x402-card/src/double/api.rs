//! The calls of the API.

use serde_json::{Map, Value, json};
use x402_types::UnixSeconds;

use super::book::Debit;
use super::form::Form;
use super::objects::{Member as _, Objects, Outcome};
use super::{Executed, Mishap, error};

/// Executes a request whose key is new.
pub(super) fn execute(
    objects: &mut Objects,
    method: &str,
    path: &str,
    form: &Form,
    mishap: Option<Mishap>,
    now: UnixSeconds,
) -> Executed {
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let done = match (method, parts.as_slice()) {
        ("POST", ["customers"]) => customer(objects, form, now),
        ("POST", ["setup_intents"]) => setup(objects, form, now),
        ("POST", ["setup_intents", id, "confirm"]) => confirm_setup(objects, id, form),
        ("GET", ["setup_intents", id]) => found(&objects.setups, id),
        ("GET", ["payment_methods", id]) => match objects.methods.get(*id) {
            Some((method, _)) => Ok(method.clone()),
            None => Err(missing("id")),
        },
        ("POST", ["payment_intents"]) => open(objects, form, now),
        ("GET", ["payment_intents"]) => Ok(list_intents(objects, form, mishap)),
        ("GET", ["payment_intents", id]) => {
            process(objects, id);
            found(&objects.intents, id)
        }
        ("POST", ["payment_intents", id, "confirm"]) => confirm(objects, id, form, mishap),
        ("POST", ["payment_intents", id, "cancel"]) => cancel(objects, id, form, now),
        ("POST", ["refunds"]) => refund(objects, form, now),
        ("GET", ["refunds"]) => Ok(list_refunds(objects, form)),
        _ => Err(Refused::unexecuted(404, error("invalid_request_error", None, None))),
    };
    match done {
        Ok(value) => Executed { status: 200, body: value.to_string(), keeps: true },
        Err(Refused { status, body, keeps }) => Executed { status, body: body.to_string(), keeps },
    }
}

struct Refused {
    status: u16,
    body: Value,
    keeps: bool,
}

impl Refused {
    /// Refuses parameters: nothing was executed, so no key keeps it.
    const fn unexecuted(status: u16, body: Value) -> Self {
        Self { status, body, keeps: false }
    }

    const fn executed(status: u16, body: Value) -> Self {
        Self { status, body, keeps: true }
    }
}

fn missing(param: &str) -> Refused {
    let status = if param == "id" { 404 } else { 400 };
    Refused::unexecuted(status, error("invalid_request_error", Some("resource_missing"), Some(param)))
}

fn invalid(code: &str, param: &str) -> Refused {
    Refused::unexecuted(400, error("invalid_request_error", Some(code), Some(param)))
}

fn unexpected() -> Refused {
    Refused::executed(400, error("invalid_request_error", Some("payment_intent_unexpected_state"), None))
}

fn known(form: &Form, names: &[&str]) -> Result<(), Refused> {
    form.unknown(names).map_or(Ok(()), |param| Err(invalid("parameter_unknown", param)))
}

fn found(all: &[Value], id: &str) -> Result<Value, Refused> {
    all.iter().find(|value| value.at("id") == id).cloned().ok_or_else(|| missing("id"))
}

fn metadata(form: &Form) -> Value {
    let members: Map<String, Value> = form.metadata().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    members.into()
}

fn customer(objects: &mut Objects, form: &Form, now: UnixSeconds) -> Result<Value, Refused> {
    known(form, &["email", "name", "description"])?;
    let id = objects.id("cus");
    let customer =
        json!({ "id": id, "object": "customer", "created": now.0, "livemode": false, "metadata": metadata(form) });
    objects.customers.push(customer.clone());
    Ok(customer)
}

fn setup(objects: &mut Objects, form: &Form, now: UnixSeconds) -> Result<Value, Refused> {
    known(form, &["customer", "usage", "payment_method_types[0]"])?;
    let customer = form.get("customer").unwrap_or_default();
    found(&objects.customers, customer).map_err(|_| missing("customer"))?;
    let id = objects.id("seti");
    let setup = json!({
        "id": id, "object": "setup_intent", "client_secret": format!("{id}_secret_double"), "created": now.0,
        "customer": customer, "livemode": false, "payment_method": null, "status": "requires_payment_method",
        "usage": form.get("usage").unwrap_or("off_session"), "metadata": metadata(form),
    });
    objects.setups.push(setup.clone());
    Ok(setup)
}

fn confirm_setup(objects: &mut Objects, id: &str, form: &Form) -> Result<Value, Refused> {
    known(form, &["payment_method", "client_secret"])?;
    let setup = found(&objects.setups, id)?;
    let customer = setup.at("customer").as_str().unwrap_or_default().to_owned();
    let method = objects.method(form.get("payment_method").unwrap_or_default(), &customer);
    let method = method.ok_or_else(|| missing("payment_method"))?;
    let setup = objects.setups.iter_mut().find(|setup| setup.at("id") == id).ok_or_else(|| missing("id"))?;
    set(setup, &[("payment_method", json!(method)), ("status", json!("succeeded"))]);
    Ok(setup.clone())
}

fn set(value: &mut Value, members: &[(&str, Value)]) {
    if let Some(object) = value.as_object_mut() {
        for (name, value) in members {
            object.insert((*name).to_owned(), value.clone());
        }
    }
}

fn open(objects: &mut Objects, form: &Form, now: UnixSeconds) -> Result<Value, Refused> {
    known(
        form,
        &[
            "amount",
            "currency",
            "customer",
            "payment_method",
            "payment_method_types[0]",
            "transfer_data[destination]",
            "application_fee_amount",
        ],
    )?;
    let number = |name: &str| form.get(name).and_then(|text| text.parse::<u64>().ok());
    let amount = number("amount").ok_or_else(|| invalid("parameter_invalid_integer", "amount"))?;
    let currency = form.get("currency").filter(|code| ["usd", "eur"].contains(code));
    let currency = currency.ok_or_else(|| invalid("parameter_invalid_string", "currency"))?;
    if amount < 50 {
        return Err(invalid("amount_too_small", "amount"));
    }
    if amount > 99_999_999 {
        return Err(invalid("amount_too_large", "amount"));
    }
    let customer = form.get("customer").unwrap_or_default();
    found(&objects.customers, customer).map_err(|_| missing("customer"))?;
    let seller = form.get("transfer_data[destination]");
    if seller.is_some_and(|seller| !objects.accounts.contains(seller)) {
        return Err(missing("transfer_data[destination]"));
    }
    let fee = number("application_fee_amount");
    if fee.is_some_and(|fee| fee > amount || seller.is_none()) {
        return Err(invalid("parameter_invalid_integer", "application_fee_amount"));
    }
    let method = objects.method(form.get("payment_method").unwrap_or_default(), customer);
    let method = method.ok_or_else(|| missing("payment_method"))?;
    let id = objects.id("pi");
    let intent = json!({
        "id": id, "object": "payment_intent", "amount": amount, "amount_received": 0, "currency": currency,
        "customer": customer, "payment_method": method, "payment_method_types": ["card"],
        "status": "requires_confirmation", "livemode": false, "created": now.0, "metadata": metadata(form),
        "last_payment_error": null, "cancellation_reason": null, "client_secret": format!("{id}_secret_double"),
        "transfer_data": seller.map(|seller| json!({ "destination": seller })), "application_fee_amount": fee,
    });
    objects.intents.push(intent.clone());
    Ok(intent)
}

fn state(intent: &Value) -> &str {
    intent.at("status").as_str().unwrap_or_default()
}

fn confirm(objects: &mut Objects, id: &str, form: &Form, mishap: Option<Mishap>) -> Result<Value, Refused> {
    known(form, &["off_session", "payment_method"])?;
    let intent = found(&objects.intents, id)?;
    let customer = intent.at("customer").as_str().unwrap_or_default().to_owned();
    let named = form.get("payment_method").map(|named| objects.method(named, &customer));
    let method = match (state(&intent), named) {
        ("requires_confirmation" | "requires_payment_method", Some(named)) => named,
        ("requires_confirmation", None) => intent.at("payment_method").as_str().map(str::to_owned),
        _ => None,
    };
    let method = method.ok_or_else(unexpected)?;
    match objects.outcome(&method) {
        Outcome::Succeeds => {
            if let Some(Mishap::Processing(looks)) = mishap {
                objects.processing.insert(id.to_owned(), looks);
                update(objects, id, &[("status", json!("processing")), ("payment_method", json!(method))])
            } else {
                succeed(objects, id)
            }
        }
        Outcome::Refused(code, decline) => {
            let why = json!({ "type": "card_error", "code": code, "decline_code": decline,
                              "message": "Your card was declined." });
            let changed = [
                ("status", json!("requires_payment_method")),
                ("payment_method", Value::Null),
                ("last_payment_error", why.clone()),
            ];
            let intent = update(objects, id, &changed)?;
            let mut refusal = why;
            set(&mut refusal, &[("payment_intent", intent)]);
            Err(Refused::executed(402, json!({ "error": refusal })))
        }
    }
}

fn update(objects: &mut Objects, id: &str, members: &[(&str, Value)]) -> Result<Value, Refused> {
    let intent = objects.intents.iter_mut().find(|intent| intent.at("id") == id).ok_or_else(|| missing("id"))?;
    set(intent, members);
    Ok(intent.clone())
}

fn succeed(objects: &mut Objects, id: &str) -> Result<Value, Refused> {
    let received = found(&objects.intents, id)?.at("amount").clone();
    let intent = update(objects, id, &[("status", json!("succeeded")), ("amount_received", received)])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seller = intent.at("transfer_data").at("destination").as_str();
    objects.book.debits.push(Debit {
        intent: id.to_owned(),
        customer: text(intent.at("customer")),
        amount: intent.at("amount").as_u64().unwrap_or_default(),
        currency: text(intent.at("currency")),
        seller: seller
            .map(|seller| (seller.to_owned(), intent.at("application_fee_amount").as_u64().unwrap_or_default())),
        refunded: 0,
    });
    Ok(intent)
}

/// Brings an intent that is being processed forward by one look-up.
fn process(objects: &mut Objects, id: &str) {
    let left = objects.processing.get(id).copied();
    match left {
        None => {}
        Some(0) => {
            objects.processing.remove(id);
            let _ = succeed(objects, id);
        }
        Some(left) => drop(objects.processing.insert(id.to_owned(), left.saturating_sub(1))),
    }
}

fn cancel(objects: &mut Objects, id: &str, form: &Form, now: UnixSeconds) -> Result<Value, Refused> {
    known(form, &["cancellation_reason"])?;
    let intent = found(&objects.intents, id)?;
    let open = ["requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"];
    if !open.contains(&state(&intent)) {
        return Err(unexpected());
    }
    let why = form.get("cancellation_reason");
    update(
        objects,
        id,
        &[("status", json!("canceled")), ("canceled_at", json!(now.0)), ("cancellation_reason", json!(why))],
    )
}

fn refund(objects: &mut Objects, form: &Form, now: UnixSeconds) -> Result<Value, Refused> {
    known(form, &["payment_intent", "reverse_transfer", "refund_application_fee"])?;
    let id = form.get("payment_intent").unwrap_or_default();
    found(&objects.intents, id).map_err(|_| missing("payment_intent"))?;
    let refund = objects.id("re");
    let debit = objects.book.debits.iter_mut().find(|debit| debit.intent == id);
    let debit = debit.ok_or_else(|| invalid("charge_not_captured", "payment_intent"))?;
    if debit.refunded > 0 {
        return Err(Refused::executed(400, error("invalid_request_error", Some("charge_already_refunded"), None)));
    }
    if debit.seller.is_some() && form.get("reverse_transfer") != Some("true") {
        // The platform would pay what the seller keeps.
        return Err(Refused::executed(400, error("invalid_request_error", Some("balance_insufficient"), None)));
    }
    debit.refunded = debit.amount;
    let refund = json!({
        "id": refund, "object": "refund", "amount": debit.amount, "currency": debit.currency, "payment_intent": id,
        "status": "succeeded", "created": now.0, "metadata": metadata(form),
    });
    objects.refunds.push(refund.clone());
    Ok(refund)
}

fn page<'a>(all: impl DoubleEndedIterator<Item = &'a Value>, form: &Form, url: &str) -> Value {
    let limit = form.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10_usize).min(100);
    let mut newest = all.rev().peekable();
    if let Some(after) = form.get("starting_after") {
        while newest.next_if(|value| value.at("id") != after).is_some() {}
        newest.next();
    }
    let data: Vec<Value> = newest.by_ref().take(limit).cloned().collect();
    json!({ "object": "list", "url": url, "has_more": newest.peek().is_some(), "data": data })
}

fn list_intents(objects: &mut Objects, form: &Form, mishap: Option<Mishap>) -> Value {
    let seen = if mishap == Some(Mishap::Stale) { objects.listed } else { objects.intents.len() };
    objects.listed = objects.intents.len();
    let customer = form.get("customer");
    let since = form.get("created[gte]").and_then(|since| since.parse::<u64>().ok()).unwrap_or_default();
    let of = |intent: &&Value| {
        customer.is_none_or(|customer| intent.at("customer") == customer)
            && intent.at("created").as_u64() >= Some(since)
    };
    let all: Vec<&Value> = objects.intents.iter().take(seen).filter(of).collect();
    page(all.into_iter(), form, "/v1/payment_intents")
}

fn list_refunds(objects: &Objects, form: &Form) -> Value {
    let intent = form.get("payment_intent");
    let of = |refund: &&Value| intent.is_none_or(|intent| refund.at("payment_intent") == intent);
    let all: Vec<&Value> = objects.refunds.iter().filter(of).collect();
    page(all.into_iter(), form, "/v1/refunds")
}
