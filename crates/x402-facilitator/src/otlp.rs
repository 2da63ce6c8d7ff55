//! The spans of payments for a collector: [OTLP over HTTP](https://opentelemetry.io/docs/specs/otlp/#otlphttp), in Protobuf.
//!
//! A payment's span begins with its claim and ends with its answer; each step between is an event in it. A collector that hangs
//! or is away costs spans and nothing else: they wait in a queue of 2,048, and what has no place in it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{ConfigError, OtlpConfig};
use crate::process::http_client;

/// The most spans that wait for the collector.
const MOST_WAITING: usize = 2_048;
/// The most spans of one request.
const MOST_TOGETHER: usize = 512;
/// The time for which spans are gathered.
const GATHERED: Duration = Duration::from_secs(1);
/// The time for one request.
const ANSWERS: Duration = Duration::from_secs(5);
/// The time for the last spans when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// The module whose spans are exported: the observer of the settlement machine, which has one for each payment.
const TARGET: &str = "x402_facilitator::metrics::watch";

/// The export of payments' spans to a collector.
#[derive(Debug)]
pub struct SpanExport(SdkTracerProvider);

impl SpanExport {
    /// Starts the export to this collector, whose requests run in the present runtime.
    ///
    /// # Errors
    /// A header has no value, or the endpoint cannot be used.
    pub fn start(config: &OtlpConfig) -> Result<Self, ConfigError> {
        let range = ConfigError::Range { field: "otlp.endpoint", expected: "an http or https URL without user" };
        let url = config.target()?;
        let place = url.origin().ascii_serialization();
        let post = Post { client: http_client(ANSWERS)?, runtime: Handle::current(), place, failing: Arc::default() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(post)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url.as_str())
            .with_timeout(ANSWERS)
            .with_headers(config.values()?)
            .build()
            .map_err(|_| range)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MOST_WAITING)
            .with_max_export_batch_size(MOST_TOGETHER)
            .with_scheduled_delay(GATHERED)
            .build();
        let spans = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty().with_service_name("x402-facilitator").build();
        Ok(Self(SdkTracerProvider::builder().with_span_processor(spans).with_resource(resource).build()))
    }

    /// Returns the layer that takes the spans of payments out of a subscriber, whatever else that one logs.
    #[must_use]
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> {
        let payments = FilterFn::new(|metadata| metadata.target() == TARGET).with_max_level_hint(LevelFilter::DEBUG);
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("x402-facilitator"));
        layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(payments)
    }

    /// Sends what still waits, for two seconds at most.
    pub async fn finish(self) {
        // The request of the last spans needs this runtime, which is not to be blocked meanwhile.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::info!("the last spans of payments were not taken by the collector");
        }
    }
}

/// Posts from the exporter's own thread by a client of the runtime.
#[derive(Debug)]
struct Post {
    client: reqwest::Client,
    runtime: Handle,
    /// The collector's origin: a path may hold a token.
    place: String,
    failing: Arc<AtomicBool>,
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let post = self.client.post(head.uri.to_string()).headers(head.headers).body(body);
        // The timeout is the client's. The body of the answer is not read: a stranger may make it as long as it likes.
        let sent = self.runtime.spawn(async move { post.send().await.map(|answer| answer.status()) });
        let answer = match sent.await? {
            Ok(status) if status.is_success() => Ok(status),
            Ok(status) => Err(format!("status {status}").into()),
            Err(error) => Err(HttpError::from(error.without_url())),
        };
        let failed = self.failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !failed => {
                tracing::warn!(place = %self.place, %error, "the collector takes no spans, which are dropped; payments go on");
            }
            Ok(_) if failed => tracing::info!(place = %self.place, "the collector takes spans again"),
            _ => {}
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer?;
        Ok(response)
    }
}
