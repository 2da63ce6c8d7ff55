//! `x402 find`: searches the catalog of a facilitator.

use std::io::Write;
use std::process::ExitCode;

use x402_http::discovery::{Discovery, DiscoveryFilter};
use x402_types::v2::{DiscoveredResource, DiscoverySearch};
use x402_types::{ChainId, Entry};

/// Searches the catalog of a facilitator for resources that can be paid.
///
/// The output consists of texts of strangers: the price of a resource is in the 402 document that answers it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The words. A resource must have all of them.
    #[arg(required = true)]
    words: Vec<String>,
    /// The facilitator whose catalog is searched.
    #[arg(long, value_name = "URL", default_value = "https://x402.org/facilitator")]
    facilitator: String,
    /// Finds resources of this kind alone.
    #[arg(long, value_name = "KIND", value_parser = ["http", "mcp"])]
    r#type: Option<String>,
    /// Finds resources that are paid on this network alone: `eip155:8453`.
    #[arg(long, value_name = "CAIP-2")]
    network: Option<ChainId>,
    /// Finds resources that are paid by this scheme alone.
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<String>,
    /// Finds resources of this recipient alone.
    #[arg(long, value_name = "ACCOUNT")]
    pay_to: Option<String>,
    /// The most resources that are printed.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Continues after an earlier answer, which printed this text.
    #[arg(long, value_name = "TEXT")]
    cursor: Option<String>,
    /// Prints the answer as one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match found(&args).await {
        Ok(found) => {
            let text = if args.json { json(&found) } else { text(&found) };
            // A closed pager is no error.
            drop(std::io::stdout().lock().write_all(text.as_bytes()));
            if found.resources.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

async fn found(args: &Args) -> Result<DiscoverySearch, String> {
    let catalog = Discovery::new(&args.facilitator).map_err(|why| format!("--facilitator: {why}"))?;
    let mut filter = DiscoveryFilter::default();
    filter.r#type.clone_from(&args.r#type);
    filter.network = args.network;
    filter.scheme.clone_from(&args.scheme);
    filter.pay_to.clone_from(&args.pay_to);
    filter.limit = Some(args.limit);
    let found = catalog.search(&args.words.join(" "), &filter, args.cursor.as_deref()).await;
    found.map_err(|fault| fault.to_string())
}

/// Writes the answer as one line of JSON, in which no character can move the cursor of a terminal.
fn json(found: &DiscoverySearch) -> String {
    let mut line = String::new();
    for letter in serde_json::to_string(found).unwrap_or_default().chars() {
        if letter.is_ascii() {
            line.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line + "\n"
}

fn text(found: &DiscoverySearch) -> String {
    let mut lines = Vec::new();
    for resource in found.resources.iter().filter_map(Entry::known) {
        lines.extend(lines_of(resource));
    }
    if let Some(cursor) = found.pagination.as_ref().and_then(|page| page.cursor.as_deref()) {
        lines.push(format!("more: --cursor {}", plain(cursor)));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Returns the lines of one resource: its call, and beneath it its description and the entries by which it was paid.
fn lines_of(resource: &DiscoveredResource) -> Vec<String> {
    let call = |path: &str| {
        let raw = resource.extensions.get("bazaar")?.read::<serde_json::Value>().ok()?;
        Some(raw.pointer(path)?.as_str()?.to_owned())
    };
    let name = call("/info/input/method").or_else(|| call("/info/input/toolName")).unwrap_or_default();
    let mut lines = vec![format!("{} {}", plain(&name), plain(&resource.resource)).trim_start().to_owned()];
    let said = [&resource.service_name, &resource.description].into_iter().flatten();
    let said: Vec<_> = said.map(|text| plain(text)).collect();
    if !said.is_empty() {
        lines.push(format!("    {}", said.join(": ")));
    }
    for entry in resource.accepts.iter().filter_map(Entry::known) {
        let (scheme, asset) = (plain(entry.scheme.as_str()), plain(&entry.asset));
        lines.push(format!("    {scheme} {} {} of {asset}", entry.network, entry.amount));
    }
    lines
}

/// Returns a stranger's text as one line in which controls, and characters that turn or hide others, are escaped.
fn plain(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    cut.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}
