//! Headers and bodies.

use http::HeaderValue;
use ours_codec::header::{self, PaymentHeader};
use ours_codec::{Limits, body};
use ours_evm::eip3009::{Payload, UncheckedPayload};
use ours_types::{Claim, PaymentPayload, RawJson, Terms};
use serde_json::Value;

use crate::sample;
use crate::table::Row;
use crate::timing::plain;

/// What the middlewares of x402-rs and r402 decode a header to: the echoed requirements typed, the scheme's payload as
/// a tree. Ours keeps the scheme's payload as checked text.
type RsPayment = rs_types::proto::v2::PaymentPayload<rs_types::proto::v2::PaymentRequirements, Value>;
type R402Payment = r402_server::WirePaymentPayload;
type RsBase64<'a> = rs_types::util::Base64Bytes<'a>;
type R402Base64 = r402_protocol::payment::Base64Bytes;

fn ours_decode(header: &HeaderValue) -> PaymentPayload {
    let payment = header::decode_payment(PaymentHeader::PaymentSignature, header.as_bytes(), &Limits::DEFAULT);
    payment.unwrap().into_payload()
}

/// As in `x402_axum::paygate::extract_payment_payload`.
fn rs_decode(header: &HeaderValue) -> RsPayment {
    let json = RsBase64::from(header.as_bytes()).decode().unwrap();
    serde_json::from_slice(json.as_ref()).unwrap()
}

/// As in `r402_http::server::verify::decode_payment_payload`.
fn r402_decode(header: &HeaderValue) -> R402Payment {
    let json = R402Base64::from(header.as_bytes()).decode().unwrap();
    serde_json::from_slice(json.as_ref()).unwrap()
}

pub fn rows() -> Vec<Row> {
    let value = header::encode_text(sample::payment().as_bytes()).unwrap();
    assert_eq!(value.len(), 1108);
    let (ours, rs, r402) = (ours_decode(&value), rs_decode(&value), r402_decode(&value));
    let encoded = [
        header::encode_payment(&ours).unwrap().1,
        HeaderValue::from_bytes(RsBase64::encode(serde_json::to_vec(&rs).unwrap()).as_ref()).unwrap(),
        HeaderValue::from_bytes(R402Base64::encode(serde_json::to_vec(&r402).unwrap()).as_ref()).unwrap(),
    ];
    let tree = |value: &HeaderValue| -> Value { serde_json::from_str(&sample_text(value)).unwrap() };
    for other in &encoded {
        assert_eq!(tree(other), tree(&value), "what is encoded is what was decoded");
    }

    let [a, b, c] = [value.clone(), value.clone(), value];
    let decode = Row::new("decode a payment header", Some(0.5))
        .ours(plain(move || ours_decode(&a)))
        .rs(plain(move || rs_decode(&b)))
        .r402(plain(move || r402_decode(&c)));
    let encode = Row::new("encode a payment header", Some(0.6))
        .ours(plain(move || header::encode_payment(&ours).unwrap()))
        .rs(plain(move || {
            HeaderValue::from_bytes(RsBase64::encode(serde_json::to_vec(&rs).unwrap()).as_ref()).unwrap()
        }))
        .r402(plain(move || {
            HeaderValue::from_bytes(R402Base64::encode(serde_json::to_vec(&r402).unwrap()).as_ref()).unwrap()
        }));

    let body = sample::verify_body();
    let [a, b, c, d] = [body.clone(), body.clone(), body.clone(), body];
    ours_verify(a.as_bytes());
    let verify = Row::new("`/verify` body to typed request", Some(0.35))
        .ours(plain(move || ours_verify(a.as_bytes())))
        .rs(plain(move || rs_verify(b.as_bytes())))
        .r402(plain(move || r402_verify(c.as_bytes())));
    let respelt = sample::respelt_verify_body();
    let differs = Row::new("the whole, the entry spelt otherwise than its echo", None)
        .ours(plain(move || ours_verify(respelt.as_bytes())));
    let envelope = Row::new("of that, all but the scheme's payload", None)
        .ours(plain(move || body::verify_request(d.as_bytes(), &Limits::DEFAULT).unwrap()));
    let payload = RawJson::parse(sample::PAYLOAD.to_owned()).unwrap();
    let again = payload.clone();
    let written =
        Row::new("of that, the scheme's payload", None).ours(plain(move || UncheckedPayload::read(&payload).unwrap()));
    let checked = Row::new("the scheme's payload, EIP-55 of two addresses checked", None)
        .ours(plain(move || Payload::read(&again).unwrap()));
    vec![decode, encode, verify, envelope, written, differs, checked]
}

fn sample_text(value: &HeaderValue) -> String {
    String::from_utf8(RsBase64::from(value.as_bytes()).decode().unwrap()).unwrap()
}

/// As the facilitator's route does, and on to the scheme's own type. It holds addresses as written: their EIP-55
/// checksums are looked at where they are used, which is in `Policy::check` here and nowhere in the peers.
fn ours_verify(body: &[u8]) -> (Claim, UncheckedPayload) {
    let request = body::verify_request(body, &Limits::DEFAULT).unwrap();
    let terms = Terms::try_from(request.payment_requirements).unwrap();
    let claim = Claim::new(terms, request.payment_payload);
    let payload = UncheckedPayload::read(&claim.payload).unwrap();
    (claim, payload)
}

/// The body as axum's `Json` reads it, the handler's slug, and the typed request as `V2Eip155ExactFacilitator` reads it.
fn rs_verify(body: &[u8]) -> rs_evm::v2_eip155_exact::FacilitatorVerifyRequest {
    let request: rs_types::proto::VerifyRequest = serde_json::from_slice(body).unwrap();
    let slug = request.scheme_handler_slug();
    assert!(slug.is_some());
    request.clone().try_into().unwrap()
}

/// The same of r402: its request is a tree, which `Eip155ExactFacilitator` turns into the typed one.
fn r402_verify(body: &[u8]) -> r402_evm::exact::v2::VerifyRequest {
    let request: r402_protocol::payment::VerifyRequest = serde_json::from_slice(body).unwrap();
    let slug = request.scheme_slug();
    assert!(slug.is_some());
    r402_evm::exact::v2::VerifyRequest::from_verify(request).unwrap()
}
