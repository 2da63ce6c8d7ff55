//! `--serve DIR`: the linter's page on a loopback port. `npm/x402-validate/page/build` makes the folder.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;
use tokio::net::TcpListener;

/// The files of the page: path, name, media type. Nothing else of the folder is served.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/page.css", "page.css", "text/css; charset=utf-8"),
    ("/page.mjs", "page.mjs", "text/javascript; charset=utf-8"),
    ("/linter.mjs", "linter.mjs", "text/javascript; charset=utf-8"),
    ("/x402_validate.wasm", "x402_validate.wasm", "application/wasm"),
];

/// Scripts, styles and the module come from this server alone, and nothing is sent anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the page until the process is ended. Its first line on standard output is `{"listening":"http://127.0.0.1:PORT"}`.
pub(super) async fn run(folder: &Path) -> Result<(), String> {
    let app = page(folder)?;
    let failed = |error: std::io::Error| format!("the page's server: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    println!("{}", serde_json::json!({ "listening": format!("http://{address}") }));
    axum::serve(listener, app).await.map_err(failed)
}

fn page(folder: &Path) -> Result<Router, String> {
    let mut app = Router::new();
    for (path, name, kind) in FILES {
        let file = folder.join(name);
        let bytes = std::fs::read(&file)
            .map_err(|error| format!("{}: {error}; npm/x402-validate/page/build makes it", file.display()))?;
        let bytes = Bytes::from(bytes);
        let headers = [
            (CONTENT_TYPE, kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-store"),
        ];
        app = app.route(path, get(move || std::future::ready((headers, bytes))));
    }
    Ok(app)
}
