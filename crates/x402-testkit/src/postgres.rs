//! A PostgreSQL for tests, started from this machine's packages on a free loopback port. It ends with the process that
//! started it, even if that process is killed.

mod binaries;

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

/// Whether a commit reaches the disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Commits are as durable as in production.
    On,
    /// Commits are faster, for tests that do not judge durability.
    Off,
}

/// A running PostgreSQL with the superuser `postgres`, who needs no password from this machine.
#[derive(Debug)]
pub struct PostgresServer {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    /// The user that runs the server if this process is root, which PostgreSQL refuses.
    user: Option<(u32, u32)>,
    /// The process that stops the server when its standard input ends: at the latest with this process.
    watchdog: Child,
}

/// The number of attempts to start on a free port: another process may take it in between.
const STARTS: usize = 5;
/// The next folder's number within this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl PostgresServer {
    /// Starts a server with an empty database `postgres`.
    /// # Errors
    /// There is no PostgreSQL on this machine and none can be installed, or it does not start; the error has its log.
    pub fn start(fsync: Fsync) -> io::Result<Self> {
        let binaries = binaries::find()?;
        let user = user()?;
        let folder = folder(user)?;
        let data = folder.join("data");
        let created = run_as(user, &binaries.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(&data)
            .current_dir(&folder)
            .output()?;
        succeeded("initdb", &created)?;
        let watchdog = watchdog(&binaries, &folder, user)?;
        let mut server = Self { binaries, folder, port: 0, user, watchdog };
        let settings = format!(
            "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\nfsync = {}\n",
            if fsync == Fsync::On { "on" } else { "off" }
        );
        let file = data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file)? + &settings)?;
        server.start_on_a_free_port()?;
        Ok(server)
    }

    /// Starts a standby of this server, which follows it by streaming replication. This server is started again for it,
    /// since the standby begins with a copy of its data.
    /// # Errors
    /// The data cannot be copied, or one of the two does not start.
    pub fn standby(&self) -> io::Result<Self> {
        let folder = folder(self.user)?;
        let data = folder.join("data");
        self.control(&["stop", "-m", "fast"])?;
        let copied = run_as(self.user, Path::new("cp")).arg("-a").arg(self.data()).arg(&data).output();
        self.start_again()?;
        succeeded("cp", &copied?)?;
        let watchdog = watchdog(&self.binaries, &folder, self.user)?;
        let mut standby = Self { binaries: self.binaries.clone(), folder, port: 0, user: self.user, watchdog };
        let file = data.join("postgresql.conf");
        let primary =
            format!("\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres sslmode=disable'\n", self.port);
        fs::write(&file, fs::read_to_string(&file)? + &primary)?;
        fs::write(data.join("standby.signal"), "")?;
        standby.start_on_a_free_port()?;
        Ok(standby)
    }

    /// Makes a standby a server of its own, which takes writes.
    /// # Errors
    /// It is no standby, or not running.
    pub fn promote(&self) -> io::Result<()> {
        self.control(&["promote"])
    }

    fn start_on_a_free_port(&mut self) -> io::Result<()> {
        let mut last = io::Error::other("PostgreSQL was not started");
        for _ in 0..STARTS {
            self.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match self.start_again() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of a database, as its superuser and without TLS.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Returns the folder with the server's configuration.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Stops the server as a crash does: connections break, and nothing is written.
    /// # Errors
    /// It cannot be stopped.
    pub fn stop(&self) -> io::Result<()> {
        self.control(&["stop", "-m", "immediate"])
    }

    /// Starts the stopped server again, on the same port with the same data.
    /// # Errors
    /// It does not start; the error has its log.
    pub fn start_again(&self) -> io::Result<()> {
        let log = self.folder.join("log");
        let options = format!("-p {}", self.port);
        self.control(&["start", "-t", "60", "-l", &log.to_string_lossy(), "-o", &options]).map_err(|error| {
            let mut text = String::new();
            let read = fs::File::open(&log).and_then(|mut log| log.read_to_string(&mut text));
            io::Error::other(format!("{error}: {}", read.map_or_else(|error| error.to_string(), |_| text)))
        })
    }

    /// Reads the changed configuration files.
    /// # Errors
    /// The server is not running.
    pub fn reload(&self) -> io::Result<()> {
        self.control(&["reload"])
    }

    fn control(&self, arguments: &[&str]) -> io::Result<()> {
        let data = self.data();
        let mut command = run_as(self.user, &self.binaries.join("pg_ctl"));
        command.arg("-D").arg(data).arg("-w").args(arguments).current_dir(&self.folder);
        // The server keeps what it inherits: a pipe here would stay open as long as it runs.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("pg_ctl {arguments:?}: {status}"))) }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}

/// Starts the process that stops the server and removes its folder once this process has ended.
fn watchdog(binaries: &Path, folder: &Path, user: Option<(u32, u32)>) -> io::Result<Child> {
    const SCRIPT: &str =
        r#"trap '' INT TERM HUP; cat >/dev/null; cd /; "$1" -D "$2/data" -w -m immediate stop; rm -rf "$2""#;
    run_as(user, Path::new("sh"))
        .args([
            OsStr::new("-c"),
            OsStr::new(SCRIPT),
            OsStr::new("sh"),
            binaries.join("pg_ctl").as_ref(),
            folder.as_ref(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal to the process group of the tests must not end it before them.
        .process_group(0)
        .spawn()
}

/// Returns an unprivileged user if this process is root: `postgres` if there is one, else `nobody`.
fn user() -> io::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let found = of("postgres").or_else(|| of("nobody"));
    found
        .map(Some)
        .ok_or_else(|| io::Error::other("PostgreSQL refuses root, and there is no user `postgres` or `nobody`"))
}

fn run_as(user: Option<(u32, u32)>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

/// Creates a folder for the server that its user can reach.
fn folder(user: Option<(u32, u32)>) -> io::Result<PathBuf> {
    let name = format!("x402-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    // A root's own temporary folder may be closed to others.
    let base = if user.is_some() { PathBuf::from("/tmp") } else { env::temp_dir() };
    let folder = base.join(name);
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    if let Some((user, group)) = user {
        std::os::unix::fs::chown(&folder, Some(user), Some(group))?;
    }
    Ok(folder)
}

fn succeeded(what: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    Err(io::Error::other(format!("{what}: {}: {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use super::*;

    fn listens(port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    /// Waits until the port is closed, at most half a minute.
    fn is_closed(port: u16) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while listens(port) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        !listens(port)
    }

    #[test]
    fn it_stops_and_starts_and_leaves_nothing_behind() {
        let server = PostgresServer::start(Fsync::Off).unwrap();
        let (port, folder) = (server.port(), server.folder.clone());
        assert!(listens(port));
        server.stop().unwrap();
        assert!(!listens(port));
        server.start_again().unwrap();
        assert!(listens(port));
        drop(server);
        assert!(is_closed(port) && !folder.exists());
    }

    /// The test that is killed is this one, in a process of its own.
    const CHILD: &str = "X402_POSTGRES_CHILD";

    #[test]
    fn it_ends_with_a_process_that_is_killed() {
        if let Ok(file) = env::var(CHILD) {
            let server = PostgresServer::start(Fsync::Off).unwrap();
            let text = format!("{} {}", server.port(), server.folder.display());
            fs::write(format!("{file}.new"), text).unwrap();
            fs::rename(format!("{file}.new"), file).unwrap();
            loop {
                std::thread::park();
            }
        }
        let file = env::temp_dir().join(format!("x402-postgres-child-{}", std::process::id()));
        let name = "postgres::tests::it_ends_with_a_process_that_is_killed";
        let mut child = Command::new(env::current_exe().unwrap());
        let mut child = child.args(["--exact", name]).env(CHILD, &file).stdout(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while !file.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = fs::read_to_string(&file).unwrap();
        let (port, folder) = text.split_once(' ').unwrap();
        let port = port.parse().unwrap();
        assert!(listens(port));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(is_closed(port));
        let end = Instant::now() + Duration::from_secs(30);
        while Path::new(folder).exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!Path::new(folder).exists());
    }
}
