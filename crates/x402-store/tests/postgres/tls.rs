//! TLS: required or off, and the server's certificate and name are verified. The certificate of `tls/` is for `localhost`
//! alone; the authority that signed it exists no more.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use x402_store::postgres::{Postgres, PostgresOpenError, PostgresUrl};
use x402_testkit::postgres::{Fsync, PostgresServer};

/// Starts a server that uses TLS, and lets nobody in without it over this machine's network.
fn server() -> PostgresServer {
    let server = PostgresServer::start(Fsync::Off).unwrap();
    let (folder, data) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/tls"), server.data());
    let owner = fs::metadata(&data).unwrap();
    for (from, to) in [("server.pem", "server.crt"), ("server.key", "server.key")] {
        let to = data.join(to);
        fs::write(&to, fs::read(folder.join(from)).unwrap()).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let settings = data.join("postgresql.conf");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + "ssl = on\n").unwrap();
    fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n").unwrap();
    server.reload().unwrap();
    server
}

async fn opened(url: &str) -> Result<Postgres, PostgresOpenError> {
    Postgres::open(&url.parse::<PostgresUrl>().unwrap(), 1).await
}

#[tokio::test]
async fn the_servers_certificate_and_name_are_verified() {
    let server = server();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/tls/ca.pem");
    let url = |host: &str, mode: &str| format!("postgres://postgres@{host}:{}/postgres?sslmode={mode}", server.port());
    let trusting = |host: &str| format!("{}&sslrootcert={}", url(host, "require"), root.display());
    // The reload takes effect for the connections after it.
    let mut open = opened(&trusting("localhost")).await;
    for _ in 0..200 {
        if open.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        open = opened(&trusting("localhost")).await;
    }
    assert!(open.unwrap().check_writer().await.is_ok());
    let refused = async |url: String| opened(&url).await.unwrap_err().to_string();
    let said = refused(trusting("127.0.0.1")).await;
    assert!(said.contains("not valid for name"), "another name: {said}");
    let said = refused(url("localhost", "require")).await;
    assert!(
        said.contains("TLS") && said.contains("certificate"),
        "an authority that this machine does not know: {said}"
    );
    let said = refused(url("localhost", "disable")).await;
    assert!(said.contains("pg_hba.conf"), "{said}");
    let said = refused(format!("{}&sslrootcert={}", url("localhost", "require"), file!())).await;
    assert!(said.contains("root certificates"), "{said}");
}
