//! A TCP proxy before the database, which can be cut in several ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// It passes everything on.
    Whole,
    /// It takes everything and passes nothing on, as a network does that loses every packet.
    Dead,
    /// It passes a `COMMIT` on and waits for the database's answer; then both sides are cut off.
    CutAfterCommit,
    /// It cuts both sides off instead of passing a `COMMIT` on.
    CutBeforeCommit,
    /// It spoils the beginning of each transaction, so that the database refuses it.
    NoBegin,
    /// It holds back everything that the client sends for this long.
    Slow(Duration),
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    line: watch::Sender<Line>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, watched) = watch::channel(Line::Whole);
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (watched, counted) = (watched.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let database = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    let ((from, back), (answers, to)) = (client.into_split(), database.into_split());
                    tokio::select! {
                        () = forward(from, to, watched.clone(), &counted) => {}
                        () = answer(answers, back, watched) => {}
                    }
                });
            }
        });
        Self { port, line, cuts }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// How many commits were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: watch::Receiver<Line>, cuts: &AtomicUsize) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let is_commit = bytes[..read].windows(7).any(|window| window == b"COMMIT\0");
        let line_now = *line.borrow();
        match line_now {
            Line::Dead => continue,
            Line::CutBeforeCommit if is_commit => {
                cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Line::NoBegin => spoil(&mut bytes[..read]),
            Line::Slow(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        if line_now == Line::CutAfterCommit && is_commit {
            cuts.fetch_add(1, Ordering::Relaxed);
            // The other half ends the connection when the database has answered.
            std::future::pending::<()>().await;
        }
    }
}

/// Turns `START TRANSACTION` into a syntax error of the same length.
fn spoil(bytes: &mut [u8]) {
    const BEGIN: &[u8] = b"START TRANSACTION";
    let found = bytes.windows(BEGIN.len()).position(|window| window == BEGIN);
    if let Some(at) = found {
        bytes[at] = b'X';
    }
}

async fn answer(mut answers: OwnedReadHalf, mut back: OwnedWriteHalf, line: watch::Receiver<Line>) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = answers.read(&mut bytes).await {
        match *line.borrow() {
            Line::Dead => continue,
            Line::CutAfterCommit if bytes[..read].windows(7).any(|window| window == b"COMMIT\0") => return,
            _ => {}
        }
        if back.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
