//! The linter of `x402-validate` behind three functions of WebAssembly: `input` makes room for a request, `run` answers
//! it, `output` is where the answer begins. Both are JSON; `index.mjs` and `index.d.ts` give them names and types.
//!
//! The buffers are two vectors that this module owns, and JavaScript reads and writes the memory in which they are.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x402_validate::{Code, HttpAnswer, Options, Registry, Report, Summary, lint, lint_answer, summary};

/// The longest request, in bytes: a document of 1 MiB as base64 in JSON, and its headers.
const LONGEST: usize = 4 * 1024 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[link(wasm_import_module = "embedder")]
unsafe extern "C" {
    /// Returns 32 random bits, for the seeds of hash maps.
    safe fn random() -> u32;
}

/// Fills `length` bytes at `to` with random ones: the source of `getrandom`, by `.cargo/config.toml`.
///
/// # Safety
/// `getrandom` passes memory that it may write.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(to: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    for at in 0..length {
        let [byte, ..] = random().to_le_bytes();
        // SAFETY: `at` is below the length of the memory that the caller passes.
        unsafe { to.add(at).write(byte) };
    }
    Ok(())
}

/// A request of `index.mjs`. Bytes are base64, since they may be no text.
#[derive(Deserialize)]
#[serde(tag = "call", rename_all = "camelCase")]
enum Request {
    Lint {
        document: String,
        options: Switches,
    },
    LintAnswer {
        status: Option<u16>,
        url: Option<String>,
        headers: Vec<(String, String)>,
        body: String,
        options: Switches,
    },
    Explain {
        code: String,
    },
    Codes,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Switches {
    strict: bool,
    all_networks: bool,
    header: Option<usize>,
}

/// The report, and the offers of the document with their prices in whole units.
#[derive(Serialize)]
struct Linted<'r> {
    #[serde(flatten)]
    report: &'r Report,
    summary: Vec<Summary>,
}

#[derive(Serialize)]
struct Row {
    code: &'static str,
    severity: &'static str,
    text: &'static str,
}

/// Makes room for a request of `length` bytes and returns its address; 0 if it is too long.
#[unsafe(no_mangle)]
pub extern "C" fn input(length: usize) -> *mut u8 {
    if length > LONGEST {
        return std::ptr::null_mut();
    }
    INPUT.with_borrow_mut(|input| {
        input.clear();
        input.resize(length, 0);
        input.as_mut_ptr()
    })
}

/// Answers the request and returns the length of the answer. An answer of `{"fault": …}` is a request that `index.mjs`
/// never makes.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> usize {
    let answer = INPUT
        .with_borrow(|input| answer(input))
        .unwrap_or_else(|fault| serde_json::to_vec(&serde_json::json!({ "fault": fault })).unwrap_or_default());
    let length = answer.len();
    OUTPUT.set(answer);
    length
}

/// Returns the address of the answer, which holds until the next call of `run`.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    OUTPUT.with_borrow(Vec::as_ptr)
}

impl Switches {
    fn options(&self) -> Options {
        let registry = if self.all_networks { Registry::all() } else { Registry::document() };
        Options { strict: self.strict, header: self.header, ..Options::default() }.registry(registry)
    }
}

fn answer(request: &[u8]) -> Result<Vec<u8>, String> {
    let bytes = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
    let written = match serde_json::from_slice(request).map_err(|error| error.to_string())? {
        Request::Lint { document, options } => {
            let options = options.options();
            let report = lint(&bytes(&document)?, &options);
            let summary = summary(&report, &options.registry);
            serde_json::to_vec(&Linted { report: &report, summary })
        }
        Request::LintAnswer { status, url, headers, body, options } => {
            let headers: Vec<(String, Vec<u8>)> = headers
                .into_iter()
                .map(|(name, value)| Ok::<_, String>((name, bytes(&value)?)))
                .collect::<Result<_, _>>()?;
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
            let body = bytes(&body)?;
            let mut found = HttpAnswer::new(&headers, &body);
            found.status = status;
            found.url = url.as_deref();
            serde_json::to_vec(&lint_answer(&found, &options.options()))
        }
        Request::Explain { code } => match code.parse::<Code>() {
            Ok(code) => serde_json::to_vec(&code.page()),
            Err(_) => serde_json::to_vec(&None::<String>),
        },
        Request::Codes => {
            let row =
                |row: &x402_validate::Row| Row { code: row.name, severity: row.severity.as_str(), text: row.text };
            serde_json::to_vec(&Code::TABLE.iter().map(row).collect::<Vec<_>>())
        }
    };
    written.map_err(|error| error.to_string())
}
