//! The extension `bazaar` against values recorded from the published TypeScript SDK: `x402-testkit/vectors/extensions.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use x402_extensions::bazaar::{
    BodyType, DeclarationError, DiscoverableRoute, Listing, McpTransport, NotListed, is_valid_icon_url,
    is_valid_route_template, is_valid_service_name, sanitized_tags,
};
use x402_types::{Claim, PaymentPayload, Terms};

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn cases(section: &str) -> Vec<Value> {
    vectors()[section].as_array().unwrap().clone()
}

#[test]
fn sanitizing_is_the_sdk_s() {
    for case in cases("bazaar.isValidRouteTemplate") {
        let template = case["input"].as_str().unwrap();
        assert_eq!(is_valid_route_template(template), case["result"], "{template}");
    }
    for case in cases("bazaar.isValidServiceName") {
        assert_eq!(is_valid_service_name(case["input"].as_str().unwrap()), case["result"], "{case}");
    }
    for case in cases("bazaar.isValidIconUrl") {
        assert_eq!(is_valid_icon_url(case["input"].as_str().unwrap()), case["result"], "{case}");
    }
    for case in cases("bazaar.sanitizeTags") {
        let tags = sanitized_tags(case["input"].as_array().unwrap().iter().filter_map(Value::as_str));
        assert_eq!(json!(tags), case["result"], "{case}");
    }
}

#[test]
fn every_spelling_of_an_address_is_no_icon_host() {
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "127.1",
        "10.0.0.1.",
        "[::1]",
        "[::ffff:7f00:1]",
        "１２７.0.0.1",
        "127%2e0.0.1",
        "localhost",
        "LOCALHOST",
        "ip6-loopback",
        "u:p@a.example",
        "a b",
    ] {
        assert!(!is_valid_icon_url(&format!("https://{host}/i.png")), "{host}");
    }
    assert!(is_valid_icon_url("https://bücher.example/i.png") && is_valid_icon_url("http://a.example:8080/i"));
    let long = format!("https://a.example/{}", "x".repeat(2_048));
    assert!(!is_valid_icon_url(&long) && is_valid_icon_url(long.get(..2_048).unwrap()));
    for layers in 1..=6 {
        let dots = (0..layers).fold("%2e%2e".to_owned(), |text, _| text.replace('%', "%25"));
        assert!(!is_valid_route_template(&format!("/a/{dots}")), "{layers}");
    }
    for bad in ["/a b", "/é", "/%ff", "/%", "", "/a?b", &format!("/{}", "a".repeat(2_000))] {
        assert!(!is_valid_route_template(bad), "{bad}");
    }
}

fn listed(payment: &Value) -> Result<Listing, NotListed> {
    let payment: PaymentPayload = serde_json::from_value(payment.clone()).unwrap();
    let PaymentPayload::V2(of) = &payment else { panic!() };
    Listing::of_claim(&Claim::new(Terms::from(&of.accepted), payment.clone()))
}

#[test]
fn what_a_payment_declares_is_listed_as_the_sdk_lists_it() {
    let mut seen = (0, 0);
    for case in cases("bazaar.facilitatorExtracts") {
        let expected = &case["extractDiscoveryInfo"];
        let listing = listed(&case["paymentPayload"]);
        if expected.is_null() {
            seen.0 += 1;
            assert!(listing.is_err(), "{}", case["id"]);
            continue;
        }
        seen.1 += 1;
        let listing = serde_json::to_value(listing.unwrap()).unwrap();
        for (ours, theirs) in [
            ("resource", "resourceUrl"),
            ("description", "description"),
            ("mimeType", "mimeType"),
            ("serviceName", "serviceName"),
            ("tags", "tags"),
            ("iconUrl", "iconUrl"),
            ("x402Version", "x402Version"),
            ("method", "method"),
        ] {
            assert_eq!(listing[ours], expected[theirs], "{}: {ours}", case["id"]);
        }
        assert_eq!(listing["extensions"]["bazaar"]["info"], expected["discoveryInfo"], "{}", case["id"]);
    }
    assert_eq!(seen, (2, 3));
}

#[test]
fn declarations_are_the_sdk_s() {
    let emitted = |id: &str| {
        let case = cases("bazaar.serverEmits").into_iter().find(|case| case["id"] == id).unwrap();
        let required = &case["paymentRequired"];
        (required["resource"]["url"].as_str().unwrap().to_owned(), required["extensions"]["bazaar"].clone())
    };
    let cities = json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]});
    let query = DiscoverableRoute::query("GET", &json!({"city": "Paris", "days": 2}), &cities)
        .with_output(&json!({"temp": 21}), &json!({"properties": {"temp": {"type": "number"}}}));
    let (url, expected) = emitted("http_query");
    assert_eq!(query.declaration(&url), expected);

    let none = json!({"properties": {}});
    let ids = json!({"properties": {"id": {"type": "string"}}, "required": ["id"]});
    let dynamic = DiscoverableRoute::query("GET", &json!({}), &none).with_template("/users/:id", &ids).unwrap();
    let (url, expected) = emitted("dynamic_colon");
    assert_eq!(dynamic.declaration(&url), expected);

    let wildcard =
        DiscoverableRoute::query("GET", &json!({}), &none).with_template("/files/:var1", &json!({})).unwrap();
    let (url, expected) = emitted("wildcard");
    assert_eq!(wildcard.declaration(&url), expected, "a path of another length has no parameters");
    let bad = DiscoverableRoute::query("GET", &json!({}), &none).with_template("/a/../b", &json!({}));
    assert_eq!(bad, Err(DeclarationError::Template));

    let mcp = cases("bazaar.declarations").into_iter().find(|case| case["id"] == "mcp_full").unwrap();
    // The order of these calls does not matter.
    let tool = DiscoverableRoute::mcp("get_weather", &mcp["input"]["inputSchema"])
        .with_output(&json!({"temp": 21}), &json!({}))
        .with_tool_example(&json!({"city": "Paris"}))
        .with_transport(McpTransport::StreamableHttp)
        .with_tool_description("Weather for a city");
    let (ours, theirs) = (tool.declaration("mcp://tool/get_weather"), &mcp["declares"]["bazaar"]);
    assert_eq!(ours.to_string(), theirs.to_string(), "in the order of the SDK, too");
    let sse = DiscoverableRoute::mcp("t", &json!({})).with_transport(McpTransport::Sse).declaration("mcp://t");
    assert_eq!(sse["info"]["input"]["transport"], "sse");
    // They are of tools alone.
    let plain = DiscoverableRoute::query("GET", &json!({}), &none);
    assert_eq!(
        plain.clone().with_tool_description("x").with_transport(McpTransport::Sse).with_tool_example(&none),
        plain
    );
}

#[derive(Serialize, JsonSchema)]
struct City {
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Asked {
    /// The city.
    city: City,
    days: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct Tree {
    children: Vec<Self>,
}

#[test]
fn the_types_of_a_handler_are_their_own_description() {
    let asked = Asked { city: City { name: "Paris".into() }, days: None };
    let url = "https://api.example.com/weather";
    let query = DiscoverableRoute::query_of("GET", &asked).unwrap().with_output_of(&City { name: "x".into() }).unwrap();
    let declared = query.declaration(url);
    assert_eq!(declared["info"]["input"]["queryParams"], json!({"city": {"name": "Paris"}, "days": null}));
    let schema = &declared["schema"]["properties"]["input"]["properties"]["queryParams"];
    assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["city"])));
    assert_eq!(schema["properties"]["city"]["properties"]["name"]["type"], "string", "written out: {schema}");
    assert_eq!(schema["properties"]["city"]["description"], "The city.");
    assert_eq!(declared["info"]["output"]["example"], json!({"name": "x"}));
    assert!(!declared.to_string().contains("$ref") && !declared.to_string().contains("$defs"));
    // A catalog lists what the types say.
    assert_eq!(listed(&declaring(&declared, url)).unwrap().method.as_deref(), Some("GET"));
    let body = DiscoverableRoute::body_of("POST", &asked).unwrap().declaration(url);
    assert_eq!(
        (&body["info"]["input"]["bodyType"], &body["info"]["input"]["body"]["city"]["name"]),
        (&json!("json"), &json!("Paris"))
    );
    assert_eq!(listed(&declaring(&body, url)).unwrap().method.as_deref(), Some("POST"));
    let tool = DiscoverableRoute::mcp_of("ask", &asked).unwrap().declaration("mcp://tool/ask");
    assert_eq!(tool["info"]["input"]["inputSchema"]["properties"]["city"]["type"], "object");
    assert_eq!(tool["info"]["input"]["example"]["city"]["name"], "Paris");
    assert_eq!(listed(&declaring(&tool, "mcp://tool/ask")).unwrap().tool_name.as_deref(), Some("ask"));
    let dynamic = query.with_template_of::<City>("/weather/:name").unwrap();
    let declared = dynamic.declaration("https://api.example.com/weather/paris");
    assert_eq!(declared["info"]["input"]["pathParams"], json!({"name": "paris"}));
    // A type that contains itself has no schema without references.
    assert_eq!(DiscoverableRoute::body_of("POST", &Tree { children: Vec::new() }), Err(DeclarationError::Type));
    assert_eq!(DiscoverableRoute::mcp_of("t", &Tree { children: Vec::new() }), Err(DeclarationError::Type));
}

/// A payment whose declaration is this one.
fn declaring(bazaar: &Value, url: &str) -> Value {
    let mut payment = cases("bazaar.facilitatorExtracts")[0]["paymentPayload"].clone();
    payment["resource"]["url"] = json!(url);
    payment["extensions"]["bazaar"] = bazaar.clone();
    payment
}

#[test]
fn what_is_declared_is_listed_whatever_the_kind_of_route() {
    let none = json!({"properties": {}});
    let body = DiscoverableRoute::body("POST", BodyType::Json, &json!({"q": "x"}), &json!({"type": "object"}));
    let url = "https://api.example.com/ask?key=secret#f";
    let listing = listed(&declaring(&body.declaration(url), url)).unwrap();
    assert_eq!((listing.resource.as_str(), listing.method.as_deref()), ("https://api.example.com/ask", Some("POST")));

    let users = DiscoverableRoute::query("GET", &json!({}), &none).with_template("/users/:id", &none).unwrap();
    let url = "https://api.example.com/users/42";
    let listing = listed(&declaring(&users.declaration(url), url)).unwrap();
    assert_eq!(listing.resource, "https://api.example.com/users/:id");
    let tool = DiscoverableRoute::mcp("get_weather", &json!({"type": "object"}));
    let url = "mcp://weather/get_weather";
    let listing = listed(&declaring(&tool.declaration(url), url)).unwrap();
    assert_eq!((listing.resource.as_str(), listing.tool_name.as_deref()), (url, Some("get_weather")));
    assert_eq!(listing.identity(), "mcp get_weather mcp://weather/get_weather");
    assert!(listed(&declaring(&users.declaration(url), url)).is_err(), "an HTTP route at an mcp URL");
}

#[test]
fn what_describes_nothing_is_not_listed() {
    let good = cases("bazaar.facilitatorExtracts")[0]["paymentPayload"]["extensions"]["bazaar"].clone();
    let url = "https://api.example.com/weather";
    assert!(listed(&declaring(&good, url)).is_ok());
    let edit = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        listed(&declaring(&changed, url))
    };
    for value in [json!(null), json!(1), json!([]), json!("x"), json!({})] {
        for pointer in ["/info", "/info/input", "/info/input/type", "/info/input/method"] {
            assert!(edit(pointer, value.clone()).is_err(), "{pointer}: {value}");
        }
    }
    for value in [json!(null), json!(1), json!([]), json!("x")] {
        assert!(edit("/schema", value.clone()).is_err(), "{value}");
    }
    assert!(matches!(edit("/info/input/queryParams", json!({"days": "two"})), Err(NotListed::Schema(_))));
    let outside = json!({"$ref": "https://evil.example/schema.json"});
    assert_eq!(edit("/schema", outside.clone()), Err(NotListed::Reference));
    assert_eq!(edit("/schema/properties/input", outside), Err(NotListed::Reference));
    assert_eq!(edit("/schema", json!({"$id": "https://evil.example/"})), Err(NotListed::Reference));
    // A cycle within the document, and a pattern that takes for ever, cost nothing.
    let cycle = json!({"$ref": "#"});
    assert!(edit("/schema", cycle).is_ok());
    let slow = json!({"properties": {"input": {"properties": {"type": {"pattern": "^(a+)+$"}}}}});
    assert!(edit("/schema", slow).is_ok());
    let many: Vec<u8> = vec![0; 10_000];
    assert_eq!(edit("/schema/properties", json!({ "many": many })), Err(NotListed::TooLarge));
    let long = json!({"x": "y".repeat(20_000)});
    assert_eq!(edit("/info/output", long), Err(NotListed::TooLarge));
    for bad in ["", "/weather", "ftp://a.example/", "javascript:alert(1)", "mcp://weather", "https://"] {
        assert!(listed(&declaring(&good, bad)).is_err(), "{bad}");
    }
    let mut silent = declaring(&good, url);
    silent.as_object_mut().unwrap().remove("extensions");
    assert_eq!(listed(&silent), Err(NotListed::None));
}

/// Every member of a declaration and of its resource absent, null, of another type, and too long: nothing of it stops a listing
/// from being made or refused, and what is listed has the shape of a listing.
#[test]
fn every_member_may_be_anything() {
    let cases = cases("bazaar.facilitatorExtracts");
    let mcp = declaring(
        &DiscoverableRoute::mcp("get_weather", &json!({"type": "object"}))
            .with_transport(McpTransport::Sse)
            .declaration("mcp://tool/get_weather"),
        "mcp://tool/get_weather",
    );
    let mut tried = 0;
    for payment in cases.iter().map(|case| &case["paymentPayload"]).chain([&mcp]) {
        let mut pointers = Vec::new();
        walk("/extensions/bazaar", &payment["extensions"]["bazaar"], &mut pointers);
        walk("/resource", &payment["resource"], &mut pointers);
        for pointer in pointers {
            for value in
                [json!(null), json!(0), json!(true), json!("x".repeat(20_000)), json!([[]]), json!({"$ref": 1})]
            {
                let mut changed = payment.clone();
                let Some(place) = changed.pointer_mut(&pointer) else { continue };
                *place = value;
                check(&changed);
                tried += 1;
            }
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut changed = payment.clone();
            if let Some(members) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
                members.remove(&name.replace("~1", "/").replace("~0", "~"));
            }
            check(&changed);
        }
    }
    assert!(tried > 500, "{tried}");
}

fn walk(at: &str, value: &Value, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            walk(&format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), value, found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| walk(&format!("{at}/{index}"), value, found))
        }
        _ => {}
    }
}

fn check(payment: &Value) {
    // A resource of another type is no payment.
    let Ok(read) = serde_json::from_value::<PaymentPayload>(payment.clone()) else { return };
    let PaymentPayload::V2(of) = &read else { panic!() };
    let Ok(listing) = Listing::of_claim(&Claim::new(Terms::from(&of.accepted), read.clone())) else { return };
    assert!(listing.resource.len() < 4_096 && listing.tags.len() <= 5, "{payment}");
    assert!(listing.description.as_ref().is_none_or(|text| text.len() <= 2_048), "{payment}");
    assert!(
        matches!(
            (listing.r#type.as_str(), &listing.method, &listing.tool_name),
            ("http", Some(_), None) | ("mcp", None, Some(_))
        ),
        "{payment}"
    );
    assert!(serde_json::to_string(&listing).unwrap().len() < 40_000);
}
