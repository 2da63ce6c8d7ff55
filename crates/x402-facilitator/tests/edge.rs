//! The edge of the process against slow, greedy and broken peers: payments go on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use x402_devchain::{DevChain, DevNode, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, post, tls};

/// A facilitator with further sections in its configuration.
async fn start(folder: &Path, sections: &str) -> (Facilitator, DevNode) {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(folder, &folder.join("ledger.sqlite"));
    let text = fs::read_to_string(&config).unwrap();
    // A key of the file's top must be above its tables.
    let (top, sections) = sections.split_once("---\n").unwrap_or(("", sections));
    fs::write(&config, format!("{top}{text}\n{sections}")).unwrap();
    (Facilitator::start(&config, &node.url), node)
}

fn address(facilitator: &Facilitator) -> SocketAddr {
    facilitator.url.split_once("://").unwrap().1.parse().unwrap()
}

async fn connect(facilitator: &Facilitator) -> TcpStream {
    TcpStream::connect(address(facilitator)).await.unwrap()
}

/// Sends bytes and reads until the server closes.
async fn until_closed(mut stream: TcpStream, bytes: Vec<u8>) -> String {
    // A server that has closed already may reset the connection while the rest is sent.
    drop(stream.write_all(&bytes).await);
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text).await);
    String::from_utf8_lossy(&text).into_owned()
}

async fn pays(facilitator: &Facilitator, node: &DevNode) {
    let before = node.chain.transfers().len();
    let (_, request) = payment(1, node.chain.time()).await;
    let (status, answer) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    assert_eq!(node.chain.transfers().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sender_is_cut_off_and_payments_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (facilitator, node) = start(folder.path(), "[limits]\nhead_seconds = 1\nbody_seconds = 1\n").await;
    let sent = [
        "POST /settle HTTP/1.1\r\nhost: x\r\n",
        "",
        "POST /settle HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    ];
    let mut peers = Vec::new();
    for bytes in sent {
        peers.push(tokio::spawn(until_closed(connect(&facilitator).await, bytes.into())));
    }
    pays(&facilitator, &node).await;
    let mut answers = Vec::new();
    for peer in peers {
        answers.push(peer.await.unwrap());
    }
    let [half_a_head, nothing, half_a_body] = &answers[..] else { panic!("{answers:?}") };
    assert!(half_a_head.is_empty() || half_a_head.starts_with("HTTP/1.1 408"), "{half_a_head}");
    assert_eq!(nothing.as_str(), "");
    assert!(half_a_body.starts_with("HTTP/1.1 408"), "{half_a_body}");
    pays(&facilitator, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_heads_long_bodies_and_packed_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (facilitator, node) = start(folder.path(), "").await;
    let head = format!("POST /settle HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(64 * 1024));
    let answer = until_closed(connect(&facilitator).await, head.into_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let url = format!("{}/settle", facilitator.url);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let http = reqwest::Client::new();
    assert_eq!(status(http.post(&url).body("a".repeat(65 * 1024))).await, 413);
    // 1 MB of zeros, by `head -c 1000000 /dev/zero | gzip -9`, is a thousandth of that.
    assert_eq!(status(http.post(&url).header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0])).await, 415);
    pays(&facilitator, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_closes_its_half_costs_no_payment() {
    let folder = tempfile::tempdir().unwrap();
    let (facilitator, node) = start(folder.path(), "").await;
    let (_, request) = payment(1, node.chain.time()).await;
    let body = serde_json::to_string(&request).unwrap();
    let head = format!("POST /settle HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = connect(&facilitator).await;
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    // Whether it was answered or not, another connection gets the payment's state.
    let (status, answer) = post(&format!("{}/verify", facilitator.url), &request).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    pays(&facilitator, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let (facilitator, node) = start(folder.path(), "[limits]\naddress_connections = 50\n").await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        // All of 127.0.0.0/8 is this machine's.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        idle.push(socket.connect(address(&facilitator)).await.unwrap());
    }
    pays(&facilitator, &node).await;
    // Those beyond the limit are closed, and the others are kept.
    let mut closed = 0;
    for stream in &mut idle {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(closed, 150);
    drop(idle);
    pays(&facilitator, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_beyond_its_rate_is_told_when_to_come_again_and_another_is_not_delayed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "other"] {
        fs::write(folder.path().join(name), format!("{name}-token")).unwrap();
    }
    let caller =
        |name: &str| format!("[[caller]]\nname = \"{name}\"\ntoken = {{ file = {:?} }}\n", folder.path().join(name));
    let limits = "[limits]\ncaller_requests_per_second = 1\ncaller_burst = 3\n";
    let (facilitator, _node) = start(folder.path(), &format!("{limits}{}{}", caller("shop"), caller("other"))).await;
    let http = reqwest::Client::new();
    let verify = async |token: &str| {
        http.post(format!("{}/verify", facilitator.url)).bearer_auth(token).body("{}").send().await.unwrap()
    };
    let refused = loop {
        let answer = verify("shop-token").await;
        match answer.status().as_u16() {
            400 => {}
            429 => break answer,
            other => panic!("{other}"),
        }
    };
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&after), "{after}");
    assert_eq!(verify("other-token").await.status().as_u16(), 400);
    assert_eq!(verify("wrong").await.status().as_u16(), 401);
    assert_eq!(reqwest::get(format!("{}/health", facilitator.url)).await.unwrap().status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_beyond_its_rate_is_refused_before_its_body_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "[limits]\naddress_requests_per_second = 1\naddress_burst = 2\n";
    let (facilitator, _node) = start(folder.path(), limits).await;
    let statuses = async |path: &str| {
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(reqwest::get(format!("{}{path}", facilitator.url)).await.unwrap().status().as_u16());
        }
        statuses
    };
    let supported = statuses("/supported").await;
    assert!(supported.starts_with(&[200, 200]) && supported.contains(&429), "{supported:?}");
    assert_eq!(statuses("/health").await, [200; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_listed_origins_may_call_from_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let (facilitator, _node) = start(folder.path(), "cors = [\"https://shop.example\"]\n---\n").await;
    let http = reqwest::Client::new();
    let preflight = async |origin: &str| {
        let request = http.request(reqwest::Method::OPTIONS, format!("{}/settle", facilitator.url));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let answer = request.send().await.unwrap();
        let allowed = answer.headers().get("access-control-allow-origin");
        allowed.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight("https://shop.example").await.as_deref(), Some("https://shop.example"));
    for other in ["https://shop.example.evil", "http://shop.example", "null"] {
        assert_eq!(preflight(other).await, None, "{other}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_the_configured_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let section =
        format!("[tls]\ncertificate = {:?}\nkey = {{ file = {:?} }}\n", files.join("leaf.pem"), files.join("leaf.key"));
    let (facilitator, node) = start(folder.path(), &section).await;
    assert!(facilitator.url.starts_with("https://127.0.0.1:"), "{}", facilitator.url);
    let root = reqwest::Certificate::from_pem(&fs::read(files.join("root.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).resolve("localhost", address(&facilitator));
    let url = format!("https://localhost:{}/settle", address(&facilitator).port());
    let (_, request) = payment(1, node.chain.time()).await;
    let request = client.build().unwrap().post(url).body(serde_json::to_string(&request).unwrap());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(node.chain.transfers().len(), 1);
    // Plain HTTP is no way around it, and a peer that sends no handshake costs nothing.
    assert!(
        !until_closed(connect(&facilitator).await, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n".to_vec())
            .await
            .starts_with("HTTP")
    );
}
