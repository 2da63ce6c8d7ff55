//! The peers' facilitators, each in a process of its own: this binary again, as `peer NAME`.

mod r402;
mod x402_rs;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncReadExt;

use crate::fault::Fallible;

/// What a peer is told, by the environment.
pub struct Told {
    /// The URL of the node.
    rpc: String,
    /// The keys of its signers.
    signers: Vec<String>,
    /// The interval at which its node client polls, if not the default.
    poll: Option<Duration>,
}

pub const RPC: &str = "BENCH_RPC";
pub const SIGNERS: &str = "BENCH_SIGNERS";
pub const POLL: &str = "BENCH_POLL_MILLISECONDS";

impl Told {
    fn read() -> Fallible<Self> {
        let signers = std::env::var(SIGNERS)?.split(',').map(str::to_owned).collect();
        let poll = match std::env::var(POLL) {
            Ok(milliseconds) => Some(Duration::from_millis(milliseconds.parse()?)),
            Err(_) => None,
        };
        Ok(Self { rpc: std::env::var(RPC)?, signers, poll })
    }
}

/// Serves a peer until standard input closes.
pub async fn serve(name: &str) -> Fallible<()> {
    let told = Told::read()?;
    let router = match name {
        "x402-rs" => x402_rs::router(&told).await?,
        "r402" => r402::router(&told)?,
        _ => return Err(format!("no peer is called {name}").into()),
    };
    listen(router).await
}

async fn listen(router: Router) -> Fallible<()> {
    // A backlog for all that connect at once, as large as ours.
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(1_024)?;
    println!("{}", serde_json::json!({ "listening": format!("http://{}", listener.local_addr()?) }));
    let ended = async { drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await) };
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served?,
        () = ended => {}
    }
    Ok(())
}
