//! A server without manners: it answers by the path, over plain TCP, and notes what it is sent.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// The heads of the requests that arrived, and a door behind which streams wait.
#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<String>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

pub(crate) struct Upstream {
    pub(crate) url: String,
    seen: Arc<Seen>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&kept);
                std::thread::spawn(move || drop(answer(stream.unwrap(), &seen)));
            }
        });
        Self { url, seen }
    }

    /// The requests whose first line has this path.
    pub(crate) fn requests(&self, path: &str) -> Vec<String> {
        let heads = self.seen.heads.lock().unwrap();
        let has = |head: &&String| head.split(' ').nth(1) == Some(path);
        heads.iter().filter(has).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.heads.lock().unwrap().len()
    }

    /// Lets the streams go on.
    pub(crate) fn open(&self) {
        *self.seen.is_open.lock().unwrap() = true;
        self.seen.opened.notify_all();
    }
}

impl Seen {
    fn wait(&self) {
        let door = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(door, |is_open| !*is_open).unwrap());
    }
}

fn answer(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let upgrades = head.to_ascii_lowercase().contains("upgrade:");
    let number = {
        let mut heads = seen.heads.lock().unwrap();
        heads.push(head);
        heads.len()
    };
    let mut say = |text: &str| stream.write_all(text.as_bytes());
    match path.as_str() {
        // No two requests get the same.
        "/ticket" => {
            let body = format!("ticket {number}");
            say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()))?;
        }
        "/slow" => seen.wait(),
        "/dies" => say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\npart")?,
        "/dies-chunked" => {
            say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n4\r\npart\r\n")?
        }
        "/dies-in-the-head" => say("HTTP/1.1 200 OK\r\ncontent-le")?,
        "/no-http" => say("SSH-2.0-OpenSSH_9.2\r\n")?,
        "/304" => say("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\nconnection: close\r\n\r\n")?,
        "/206" => say(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-3/9\r\ncontent-length: 4\r\nconnection: close\r\n\r\npart",
        )?,
        "/404" => say("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnone")?,
        "/trailers" => {
            say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n\
             4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n")?
        }
        "/upgrade" if upgrades => say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")?,
        "/hop" => say(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: 1\r\nx-kept: 1\r\n\r\nhop",
        )?,
        "/events" => {
            say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n")?;
            seen.wait();
            stream.write_all(b"data: 2\n\n")?;
        }
        _ => {
            say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\nconnection: close\r\n\r\nserved")?
        }
    }
    Ok(())
}
