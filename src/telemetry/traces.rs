//! Spans on their way to a collector: OTLP over HTTP, as protobuf. Off unless a collector is named.
//!
//! Spans hold names, ids, counts and times; content, keys and tokens have no attribute. They are
//! gathered in a bounded queue and sent by a thread of their own: where the collector is slow or
//! dead, spans are dropped and no request waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue, trace};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use super::TelemetryError;
use crate::domain::trace::TraceContext;

/// The target of the spans that leave the process. They are of level `trace`, so that where they do
/// not leave, one comparison is all that they cost.
pub const SPANS: &str = "orchestrator::span";

/// Spans that wait; what comes when they do is dropped.
const WAITING_MAX: usize = 4_096;
const BATCH_MAX: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_secs(1);
/// How long the end waits for the collector.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// Sends one export and says with which status it was answered. Called by one thread that does
/// nothing else, so that it may block; it bounds how long.
pub type Carrier = Arc<dyn Fn(Request<Bytes>) -> Result<StatusCode, HttpError> + Send + Sync>;

/// Where spans go.
pub struct Export {
    /// The collector's address, to which `/v1/traces` is appended.
    pub endpoint: String,
    /// Share of the traces that begin here that are kept, 0..=1; who sent a `traceparent` decides
    /// for those.
    pub ratio: f64,
    /// What carries them.
    pub carrier: Carrier,
}

/// Spans are made and leave.
static ON: AtomicBool = AtomicBool::new(false);

/// Whether spans leave the process.
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The current span; nothing where spans do not leave the process.
pub fn current() -> Option<TraceContext> {
    if !on() {
        return None;
    }
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        let (trace, id) = (span.trace_id().to_bytes(), span.span_id().to_bytes());
        TraceContext::of(trace, id, span.is_sampled(), span.trace_state().header())
    })
}

/// Makes `span`, which nobody has entered, a child of what a caller told.
pub fn follow(span: &Span, caller: &TraceContext) {
    let parent = |raw: &TraceContext| {
        Some(trace::SpanContext::new(
            trace::TraceId::from_hex(raw.trace_id()).ok()?,
            trace::SpanId::from_hex(raw.span_id()).ok()?,
            trace::TraceFlags::new(u8::from(raw.sampled())),
            true,
            raw.state().and_then(|state| state.parse().ok()).unwrap_or_default(),
        ))
    };
    if let Some(parent) = parent(caller) {
        // Without the layer there is nothing to follow.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The running export; ends it when told to.
#[derive(Clone)]
pub(super) struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Starts the thread that exports.
    pub(super) fn start(export: Export) -> Result<Exporting, TelemetryError> {
        let endpoint = format!("{}/v1/traces", export.endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Carried(export.carrier))
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| TelemetryError::Export(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(GATHER)
            .build();
        let own = [
            KeyValue::new("service.name", "detector-orchestrator"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()),
        ];
        let begun_here = Sampler::TraceIdRatioBased(export.ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
            )
            .with_sampler(Sampler::ParentBased(Box::new(begun_here)))
            .with_resource(Resource::builder_empty().with_attributes(own).build())
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Exporting(provider))
    }

    /// What makes spans of tracing's.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target() == SPANS;
        let layer: OpenTelemetryLayer<S, SdkTracer> =
            tracing_opentelemetry::layer().with_tracer(self.0.tracer("detector-orchestrator"));
        layer
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::TRACE))
    }

    /// Sends what waits, for at most three seconds. Blocks.
    pub(super) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_EXPORT) {
            tracing::warn!(%error, "The last spans could not be sent");
        }
    }
}

struct Carried(Carrier);

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried")
    }
}

impl HttpClient for Carried {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = (self.0)(request)?;
            Ok(response)
        })
    }
}
