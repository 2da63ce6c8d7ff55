//! A paid path is paid in every spelling that an upstream may take for it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::stage::{Folder, Process, x402_sell};
use crate::upstream::Upstream;

fn status(url: &str, request: &str) -> u16 {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
}

#[test]
fn no_spelling_of_a_paid_path_is_free() {
    let upstream = Upstream::start();
    let folder = Folder::new("paths");
    let grants = folder.0.join("grants.sqlite");
    let more = ["--route", "/paid", "--route", "/deep/*", "--free", "/*", "--grants", grants.to_str().unwrap()];
    let sell = Process::start(&mut x402_sell(&upstream.url, &more));
    for (target, expected) in [
        ("/paid", 402),
        ("/PAID", 402),
        ("/paid/", 402),
        ("/paid;x=1", 402),
        ("/paid?x=1", 402),
        ("/deep", 402),
        ("/Deep/er/still", 402),
        ("http://elsewhere.example/paid", 402),
        ("//paid", 400),
        ("/./paid", 400),
        ("/free/../paid", 400),
        ("/free/..;/paid", 400),
        ("/free/%2e%2e/paid", 400),
        ("/free%2f..%2fpaid", 400),
        ("/p%61id", 400),
        ("/%2570aid", 400),
        ("/paid%00", 400),
        ("/free\\..\\paid", 400),
    ] {
        for method in ["GET", "POST", "HEAD"] {
            let request = format!("{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            assert_eq!(status(&sell.url, &request), expected, "{method} {target}");
        }
    }
    for method in ["TRACE", "CONNECT"] {
        let request = format!("{method} /paid HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(matches!(status(&sell.url, &request), 400 | 405), "{method}");
    }
    assert_eq!(upstream.count(), 0);
    // A preflight passes, and brings nothing of what is sold.
    let preflight = "OPTIONS /paid HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(sell.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(preflight.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("served"), "{answer}");
    let free = "GET /other HTTP/1.1\r\nhost: a\r\nx-original-url: /paid\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&sell.url, free), 200);
    assert!(!upstream.requests("/other")[0].to_ascii_lowercase().contains("x-original-url"));
}
