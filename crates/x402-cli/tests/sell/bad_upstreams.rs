//! Upstreams that are slow, break off, or answer in unusual ways: what is paid is served, and what is not is not paid.

use std::io::{Read, Write};
use std::net::TcpStream;

use http_body_util::BodyExt;

use crate::stage::{Folder, Process, Stage, x402_sell};
use crate::upstream::Upstream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_upstream_does_not_serve_is_not_paid() {
    let upstream = Upstream::start();
    let file = Folder::new("unserved-file");
    let stage = Stage::new("unserved", &upstream.url, &[]).await;
    for (path, status) in [
        ("/dies", 502),
        ("/dies-chunked", 502),
        ("/dies-in-the-head", 502),
        ("/no-http", 502),
        ("/304", 304),
        ("/404", 404),
    ] {
        let payment = stage.payment(path).await;
        let response = stage.get(path, &[("payment-signature", &payment)]).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().get("payment-response").is_none(), "{path}");
        assert_eq!((stage.paid(), upstream.requests(path).len()), (0, 1), "{path}");
    }
    // One that does not answer at all is given up, and the payment is free again.
    let config = file.0.join("sell.toml");
    let text = format!(
        "upstream = \"{}\"\nupstream_seconds = 1\npay_to = \"{}\"\nlisten = \"127.0.0.1:0\"\nfacilitator = \"{}\"\ngrants = \"{}\"\n\
         [[route]]\npath = \"/*\"\nprice = \"$0.01\"\n",
        upstream.url,
        x402_devchain::ACCOUNTS[2].address,
        stage.facilitator.url(),
        file.0.join("grants.sqlite").display(),
    );
    std::fs::write(&config, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_x402"));
    let slow = Process::start(command.arg("sell").arg("--config").arg(&config));
    let url = format!("{}/slow", slow.url);
    let payment = crate::stage::payment(&url, None).await;
    let paid = [("payment-signature", payment.as_str())];
    assert_eq!(crate::stage::request(&url, &paid).await.unwrap().status(), 504);
    assert_eq!(stage.paid(), 0);
    upstream.open();
    // The upstream closes without an answer.
    assert_eq!(crate::stage::request(&url, &paid).await.unwrap().status(), 502);
    assert_eq!((stage.paid(), upstream.requests("/slow").len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_and_trailers_are_served_and_paid() {
    let upstream = Upstream::start();
    let stage = Stage::new("served", &upstream.url, &[]).await;
    let payment = stage.payment("/206").await;
    let response = stage.get("/206", &[("payment-signature", &payment), ("range", "bytes=0-3")]).await;
    assert_eq!((response.status().as_u16(), stage.paid()), (206, 1));
    assert_eq!(response.headers()["content-range"], "bytes 0-3/9");
    assert_eq!(response.headers()["cache-control"], "private");
    assert_eq!(response.text().await.unwrap(), "part");
    assert!(upstream.requests("/206")[0].contains("range: bytes=0-3"));

    let payment = stage.payment("/trailers").await;
    let response = stage.get("/trailers", &[("payment-signature", &payment)]).await;
    assert_eq!((response.status().as_u16(), stage.paid()), (200, 2));
    assert_eq!(response.text().await.unwrap(), "body");

    let payment = stage.payment("/hop").await;
    let response = stage.get("/hop", &[("payment-signature", &payment)]).await;
    assert_eq!(response.headers()["x-kept"], "1");
    for hop in ["x-hop", "keep-alive", "connection"] {
        assert!(response.headers().get(hop).is_none(), "{hop}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_before_the_upstream_ends_it_and_is_paid_first() {
    let upstream = Upstream::start();
    let stage = Stage::new("stream", &upstream.url, &["--upfront"]).await;
    let payment = stage.payment("/events").await;
    let response = stage.get("/events", &[("payment-signature", &payment)]).await;
    assert_eq!((response.status().as_u16(), stage.paid()), (200, 1));
    let mut body = http::Response::<reqwest::Body>::from(response).into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 1\n\n");
    upstream.open();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 2\n\n");
}

/// Sends bytes and reads what comes back until the connection ends.
fn raw(url: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn upgrades_and_two_lengths_do_not_pass() {
    let upstream = Upstream::start();
    let folder = Folder::new("raw");
    let grants = folder.0.join("grants.sqlite");
    let more = ["--route", "/paid", "--free", "/upgrade", "--grants", grants.to_str().unwrap()];
    let sell = Process::start(&mut x402_sell(&upstream.url, &more));
    let answer = raw(
        &sell.url,
        "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: x\r\nhttp2-settings: AA\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let sent = upstream.requests("/upgrade").concat().to_ascii_lowercase();
    assert!(!sent.contains("upgrade: x") && !sent.contains("connection: upgrade"), "{sent}");
    // Two readers of these would see two requests.
    for smuggled in [
        "POST /upgrade HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 44\r\nconnection: close\r\n\r\nGET ",
        "POST /upgrade HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
    ] {
        let before = upstream.count();
        let answer = raw(&sell.url, smuggled);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(upstream.count(), before);
    }
    let both = "POST /upgrade HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                0\r\n\r\nGET /paid HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(&sell.url, both);
    assert!(upstream.requests("/paid").is_empty(), "{answer}");
    for head in upstream.requests("/upgrade") {
        let head = head.to_ascii_lowercase();
        assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{head}");
    }
}
