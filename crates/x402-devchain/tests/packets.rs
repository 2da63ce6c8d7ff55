//! What is no well-formed JSON-RPC, as a server has to answer it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::io::{Read, Write};

use serde_json::{Value, json};

async fn post(address: std::net::SocketAddr, body: &'static str) -> Value {
    let exchange = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(stream, "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn every_packet_has_an_answer() {
    let node = common::chain().serve("127.0.0.1:0").await.unwrap();
    let error = |code: i64, message: &str, id: Value| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    assert_eq!(post(node.address, "").await, error(-32700, "parse error", Value::Null));
    assert_eq!(post(node.address, "{").await, error(-32700, "parse error", Value::Null));
    assert_eq!(post(node.address, "[]").await, error(-32600, "empty batch", Value::Null));
    assert_eq!(post(node.address, "7").await, error(-32600, "invalid request", Value::Null));
    assert_eq!(post(node.address, r#"{"id":3}"#).await, error(-32600, "invalid request", json!(3)));
    assert_eq!(post(node.address, r#"{"id":3,"method":4}"#).await, error(-32600, "invalid request", json!(3)));
    assert_eq!(
        post(node.address, r#"{"id":"a","method":"eth_chainId"}"#).await,
        json!({ "jsonrpc": "2.0", "id": "a", "result": "0x14a34" })
    );
    assert_eq!(
        post(node.address, r#"[{"id":1,"method":"eth_chainId","params":null},{"id":2}]"#).await,
        json!([{ "jsonrpc": "2.0", "id": 1, "result": "0x14a34" }, error(-32600, "invalid request", json!(2))])
    );
}
