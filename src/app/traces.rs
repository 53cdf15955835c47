//! Carries spans to the collector over the client of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::outbound::{Call, Client, Env, Guard};
use crate::settings;
use crate::telemetry::traces::Export;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Of one export.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the collector's answer, which nobody reads.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What takes spans away; `None` where no collector is set.
pub(super) fn export(settings: &settings::Telemetry) -> std::io::Result<Option<Export>> {
    let Some(endpoint) = settings.otlp_endpoint.clone() else { return Ok(None) };
    // One thread exports and waits; this drives its connections while it does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Whoever starts the service named the collector, be its address private or not.
    let client = Client::new(Arc::new(Guard::new(Env::Development, Vec::new())));
    let reached = AtomicBool::new(true);
    let carrier = move |request: http::Request<bytes::Bytes>| -> Result<StatusCode, Trouble> {
        let (head, body) = request.into_parts();
        let call = Call {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            body_max: REPLY_BYTES_MAX,
        };
        let sent = runtime.block_on(async {
            let again = call.clone();
            // A connection that rested may be gone.
            let sending = async {
                match client.send(call).await {
                    Ok(reply) => Ok(reply),
                    Err(_) => client.send(again).await,
                }
            };
            tokio::time::timeout(PATIENCE, sending).await
        });
        let answer: Result<_, Trouble> = match sent {
            Ok(Ok(reply)) => Ok(reply.status),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err("the collector does not answer in time".into()),
        };
        note(&reached, answer.as_ref().is_ok_and(|status| status.is_success()));
        answer
    };
    let carrier = Arc::new(carrier);
    Ok(Some(Export { endpoint, ratio: settings.trace_ratio, carrier }))
}

/// Says when spans begin to be lost, and when they arrive again.
fn note(reached: &AtomicBool, now: bool) {
    match (reached.swap(now, Ordering::Relaxed), now) {
        (true, false) => tracing::warn!("Spans are lost: the collector does not take them"),
        (false, true) => tracing::info!("Spans are sent again"),
        (true, true) | (false, false) => {}
    }
}
