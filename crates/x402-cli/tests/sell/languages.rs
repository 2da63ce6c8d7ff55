//! Upstreams in Python and in Node, which answer with the headers that they see.

use std::process::Command;

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, TOKEN, key};
use x402_evm::exact;
use x402_http::client::{PayClient, Payer, Receipt};

use crate::stage::{PAYER, Process, Stage};

const PYTHON: &str = r#"
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.do_GET()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
print(json.dumps({"listening": "http://127.0.0.1:%d" % server.server_port}), flush=True)
server.serve_forever()
"#;

const NODE: &str = r#"
const server = require("node:http").createServer((request, response) => {
  const headers = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) headers.push([request.rawHeaders[at].toLowerCase(), request.rawHeaders[at + 1]]);
  request.resume().on("end", () => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ path: request.url, headers }));
  });
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ listening: `http://127.0.0.1:${server.address().port}` })));
"#;

fn header<'v>(echo: &'v Value, name: &str) -> Vec<&'v str> {
    let list = echo["headers"].as_array().unwrap().iter();
    // A gateway of Python takes `_` for `-`.
    list.filter(|pair| pair[0].as_str().unwrap().replace('_', "-") == name)
        .map(|pair| pair[1].as_str().unwrap())
        .collect()
}

async fn is_paid_before(mut server: Command, name: &str) {
    let server = Process::start(&mut server);
    let stage = Stage::new(name, &server.url, &["--route", "/paid/*", "--free", "/free"]).await;
    let forged = [("x402-payer", "0xforged"), ("X402_Payer", "0xforged"), ("X-Forwarded-For", "9.9.9.9")];

    let free: Value = stage.get("/free", &forged).await.json().await.unwrap();
    assert!(header(&free, "x402-payer").is_empty(), "{free}");
    assert_eq!(header(&free, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(stage.get("/paid/x", &forged).await.status(), 402);

    let client = PayClient::new(Payer::new(exact::Payer::new(key(PAYER).unwrap()))).unwrap();
    let mut request = client.http().post(stage.url("/paid/x%20y?q=1")).body("to the server").build().unwrap();
    for (name, value) in forged {
        request.headers_mut().insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let response = client.execute(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let receipt = response.extensions().get::<Receipt>().unwrap().0.clone();
    let echo: Value = response.json().await.unwrap();
    assert_eq!(echo["path"], "/paid/x%20y?q=1");
    assert!(receipt.success);
    let payer = header(&echo, "x402-payer");
    assert!(payer.len() == 1 && payer[0].eq_ignore_ascii_case(&ACCOUNTS[PAYER].address.to_string()), "{echo}");
    assert_eq!(header(&echo, "x402-amount"), ["10000"]);
    assert!(header(&echo, "x402-asset")[0].eq_ignore_ascii_case(&TOKEN.to_string()), "{echo}");
    assert_eq!(header(&echo, "x402-network"), ["eip155:84532"]);
    assert_eq!(header(&echo, "x402-payment-key").len(), 1);
    assert_eq!(header(&echo, "content-length"), ["13"]);
    assert!(header(&echo, "payment-signature").is_empty(), "{echo}");
    assert_eq!(stage.paid(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_python_is_paid() {
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]);
    is_paid_before(python, "python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_node_is_paid() {
    let mut node = Command::new("node");
    node.args(["-e", NODE]);
    is_paid_before(node, "node").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_says_what_is_sold_and_the_log_what_was_paid() {
    let mut node = Command::new("node");
    node.args(["-e", NODE]);
    let server = Process::start(&mut node);
    let stage = Stage::new("file", &server.url, &[]).await;
    let file = stage.folder.0.join("sell.toml");
    let log = stage.folder.0.join("access.log");
    let text = format!(
        "upstream = \"{}\"\npay_to = \"{}\"\nlisten = \"127.0.0.1:0\"\nfacilitator = \"{}\"\ngrants = \"{}\"\nfree = [\"/free\"]\n\n\
         [[route]]\npath = \"/dear\"\nprice = \"$0.05\"\ndescription = \"A dear one\"\nmime_type = \"application/json\"\n\n\
         [[route]]\npath = \"/*\"\nmethod = \"GET\"\nprice = \"$0.01\"\n",
        server.url,
        ACCOUNTS[2].address,
        stage.facilitator.url(),
        stage.folder.0.join("more.sqlite").display(),
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
    let sell = Process::start(command.arg("sell").arg("--config").arg(&file).arg("--log").arg(&log));
    let client = PayClient::new(Payer::new(exact::Payer::new(key(PAYER).unwrap()))).unwrap();
    for (path, amount) in [("/dear", "50000"), ("/cheap", "10000")] {
        let echo: Value = client.get(&format!("{}{path}", sell.url)).await.unwrap().json().await.unwrap();
        assert_eq!(header(&echo, "x402-amount"), [amount]);
    }
    let post = client.http().post(format!("{}/cheap", sell.url)).build().unwrap();
    assert_eq!(client.execute(post).await.unwrap().status(), 404, "only GET is sold");
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| json!([line["path"], line["status"], line["amount"], line["settled"]])).collect();
    assert_eq!(
        told,
        [
            json!(["/dear", 402, null, null]),
            json!(["/dear", 200, "50000", true]),
            json!(["/cheap", 402, null, null]),
            json!(["/cheap", 200, "10000", true]),
            json!(["/cheap", 404, null, null]),
        ]
    );
    assert_eq!(lines[1]["transaction"].as_str().map(str::len), Some(66));
}
