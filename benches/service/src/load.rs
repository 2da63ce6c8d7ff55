//! Requests over connections that are opened before the clock starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::fault::Fallible;

/// The longest that a request may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Connections are opened in portions, so that no backlog overflows.
const PORTION: usize = 200;

type Connection = SendRequest<Full<Bytes>>;

/// One answer, or none.
pub struct Answer {
    pub asked: Instant,
    pub answered: Instant,
    /// The status and body, or what broke.
    pub got: Result<(u16, Bytes), String>,
}

/// Opens this many connections.
pub async fn open(to: SocketAddr, count: usize) -> Fallible<Vec<Connection>> {
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        let portion: Vec<_> = (0..PORTION.min(count - opened.len())).map(|_| tokio::spawn(connect(to))).collect();
        for connection in portion {
            opened.push(connection.await??);
        }
    }
    Ok(opened)
}

async fn connect(to: SocketAddr) -> Fallible<Connection> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.ready().await?;
    Ok(sender)
}

async fn ask(connection: &mut Connection, to: SocketAddr, path: &'static str, body: Bytes) -> Answer {
    let asked = Instant::now();
    let exchange = async {
        connection.ready().await?;
        let request = Request::post(path)
            .header("host", to.to_string())
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let (parts, body) = connection.send_request(request).await?.into_parts();
        Fallible::Ok((parts.status.as_u16(), body.collect().await?.to_bytes()))
    };
    let got = match tokio::time::timeout(LONGEST, exchange).await {
        Ok(got) => got.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LONGEST.as_secs())),
    };
    Answer { asked, answered: Instant::now(), got }
}

/// Asks for each body over its own connection, all at once, as soon as `start` is over. The answers are in the order of
/// the bodies.
pub async fn at_once(
    to: SocketAddr,
    path: &'static str,
    bodies: Vec<Bytes>,
    start: impl Future<Output = Fallible<()>>,
) -> Fallible<Vec<Answer>> {
    let connections = open(to, bodies.len()).await?;
    let (go, started) = watch::channel(false);
    let ask_one = |(mut connection, body): (Connection, Bytes)| {
        let mut started = started.clone();
        tokio::spawn(async move {
            drop(started.wait_for(|&started| started).await);
            ask(&mut connection, to, path, body).await
        })
    };
    let asking: Vec<_> = connections.into_iter().zip(bodies).map(ask_one).collect();
    // Every task waits before the first one is released.
    tokio::time::sleep(Duration::from_millis(200)).await;
    start.await?;
    go.send(true)?;
    let mut answers = Vec::with_capacity(asking.len());
    for answer in asking {
        answers.push(answer.await?);
    }
    Ok(answers)
}

/// Asks for one body after the other, each when `pause` with its index is over.
pub async fn one_by_one<F: Future<Output = Fallible<()>>>(
    to: SocketAddr,
    path: &'static str,
    bodies: &[Bytes],
    pause: impl Fn(usize) -> F,
) -> Fallible<Vec<Answer>> {
    let mut connection = connect(to).await?;
    let mut answers = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.iter().enumerate() {
        pause(index).await?;
        answers.push(ask(&mut connection, to, path, body.clone()).await);
    }
    Ok(answers)
}

/// Asks for each body at its own time, so many a second, over connections of a pool that is as large.
pub async fn paced(to: SocketAddr, path: &'static str, bodies: Vec<Bytes>, a_second: u32) -> Fallible<Vec<Answer>> {
    let connections = open(to, bodies.len()).await?;
    let start = tokio::time::Instant::now() + Duration::from_millis(200);
    let mut asking = Vec::new();
    for (index, (mut connection, body)) in connections.into_iter().zip(bodies).enumerate() {
        let at = start + Duration::from_secs_f64(index as f64 / f64::from(a_second));
        asking.push(tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            ask(&mut connection, to, path, body).await
        }));
    }
    let mut answers = Vec::with_capacity(asking.len());
    for answer in asking {
        answers.push(answer.await?);
    }
    Ok(answers)
}

/// Asks for the bodies, again and again, over so many connections, until `count` are answered.
pub async fn steadily(
    to: SocketAddr,
    path: &'static str,
    bodies: &[Bytes],
    connections: usize,
    count: usize,
) -> Fallible<Vec<Answer>> {
    let bodies: Arc<[Bytes]> = bodies.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut asking = Vec::new();
    for mut connection in open(to, connections).await? {
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        asking.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return answers;
                }
                answers.push(ask(&mut connection, to, path, bodies[index % bodies.len()].clone()).await);
            }
        }));
    }
    let mut answers = Vec::with_capacity(count);
    for answered in asking {
        answers.extend(answered.await?);
    }
    Ok(answers)
}
