//! The chain behind a WebSocket: requests as over HTTP, and `eth_subscribe` to new heads.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::{Value, json};

use crate::chain::DevChain;
use crate::rpc::Reply;

/// The interval at which a connection looks for a new head.
const LOOKS: Duration = Duration::from_millis(2);

pub(crate) async fn upgrade(State(chain): State<DevChain>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| serve(chain, socket))
}

/// The subscription of a connection: its name, and the newest head of its notices.
struct Subscription {
    id: String,
    told: u64,
}

async fn serve(chain: DevChain, mut socket: WebSocket) {
    let mut subscription: Option<Subscription> = None;
    let closed = chain.sockets_closed();
    loop {
        tokio::select! {
            received = socket.recv() => {
                let Some(Ok(message)) = received else { return };
                let Message::Text(text) = message else { continue };
                let request: Value = serde_json::from_str(&text).unwrap_or_default();
                let answer = if request.get("method").and_then(Value::as_str) == Some("eth_subscribe") {
                    chain.count_call("eth_subscribe");
                    let id = format!("0x{:x}", chain.block_number().saturating_add(1));
                    subscription = Some(Subscription { id: id.clone(), told: chain.block_number() });
                    json!({ "jsonrpc": "2.0", "id": request.get("id"), "result": id }).to_string()
                } else {
                    match chain.round_trip(text.as_bytes()).await {
                        Reply::Body(body) => body,
                        // The connection goes on with other requests.
                        Reply::Never => continue,
                        Reply::Lost | Reply::Status(_) => return,
                    }
                };
                if socket.send(Message::text(answer)).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOKS) => {
                if chain.sockets_closed() != closed {
                    return;
                }
                let (Some(subscription), false) = (&mut subscription, chain.is_silent()) else { continue };
                let newest = chain.block_number();
                while subscription.told < newest {
                    subscription.told = subscription.told.saturating_add(1);
                    let result = json!({ "number": format!("{:#x}", subscription.told) });
                    let params = json!({ "subscription": subscription.id, "result": result });
                    let notice = json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params });
                    if socket.send(Message::text(notice.to_string())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
