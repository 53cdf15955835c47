//! Shows the WAF everything of a request but its content, and does what the settings say.

use actix_web::dev::ServiceRequest;

use super::Api;
use super::wire::request::OrchestrateRequest;
use crate::auth::waf::{self, Place, Violation};
use crate::domain::error::{Code, Error};
use crate::operations::Operation;
use crate::settings::WafMode;

/// Headers whose grammar is checked elsewhere or knows the signs of SQL, and credentials.
const HEADERS_APART: [&str; 14] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "content-length",
    "content-type",
    "if-match",
    "if-none-match",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "x-api-key",
];
/// How deep `metadata` is read; JSON is no deeper.
const DEPTH_MAX: usize = 128;

/// A finding: what, in which kind of place, in which field (a JSON pointer, never a value).
struct Seen {
    violation: Violation,
    place: Place,
    field: String,
}

impl Seen {
    fn of(place: Place, field: impl FnOnce() -> String, value: &str) -> Result<(), Seen> {
        match waf::inspect(place, value) {
            None => Ok(()),
            Some(violation) => Err(Seen { violation, place, field: field() }),
        }
    }
}

/// Path, query and headers.
pub(super) fn check_head(api: &Api, request: &ServiceRequest) -> Result<(), Error> {
    judge(api, || {
        Seen::of(Place::Path, || "/path".into(), request.path())?;
        read_query(request.query_string())?;
        for (name, value) in request.headers() {
            if !HEADERS_APART.contains(&name.as_str()) {
                let value = String::from_utf8_lossy(value.as_bytes());
                Seen::of(Place::Header, || format!("/headers/{name}"), &value)?;
            }
        }
        Ok(())
    })
}

/// Names and metadata of an orchestration.
pub(super) fn check_body(api: &Api, request: &OrchestrateRequest) -> Result<(), Error> {
    judge(api, || {
        let words = [
            ("/tenant_id", &request.tenant_id),
            ("/policy", &request.policy),
            ("/event", &request.event),
            ("/language", &request.language),
        ];
        for (field, word) in words {
            Seen::of(Place::Id, || field.into(), word.as_deref().unwrap_or_default())?;
        }
        let wishes = &request.detectors.0;
        for (field, list) in [
            ("/contexts", &request.contexts),
            ("/detectors/only", &wishes.only),
            ("/detectors/add", &wishes.add),
            ("/detectors/exclude", &wishes.exclude),
        ] {
            for (index, word) in list.iter().enumerate() {
                Seen::of(Place::Id, || format!("{field}/{index}"), word)?;
            }
        }
        for category in wishes.thresholds.0.keys() {
            Seen::of(Place::Id, || "/detectors/thresholds".into(), category)?;
        }
        for (key, value) in &request.metadata.0 {
            read_entry("/metadata", key, &value.0, DEPTH_MAX)?;
        }
        Ok(())
    })
}

fn read_query(query: &str) -> Result<(), Seen> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Seen::of(Place::Query, || "/query".into(), name)?;
        Seen::of(Place::Query, || format!("/query/{name}"), value)?;
    }
    Ok(())
}

/// A key is read before it becomes part of a field's name.
fn read_entry(above: &str, key: &str, value: &serde_json::Value, depth: usize) -> Result<(), Seen> {
    Seen::of(Place::Metadata, || above.to_owned(), key)?;
    read_value(&format!("{above}/{}", key.replace('~', "~0").replace('/', "~1")), value, depth)
}

fn read_value(field: &str, value: &serde_json::Value, depth: usize) -> Result<(), Seen> {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    let Some(below) = depth.checked_sub(1) else { return Ok(()) };
    match value {
        Null | Bool(_) | Number(_) => Ok(()),
        String(text) => Seen::of(Place::Metadata, || field.to_owned(), text),
        Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| read_value(&format!("{field}/{index}"), item, below)),
        Object(entries) => {
            entries.iter().try_for_each(|(key, value)| read_entry(field, key, value, below))
        }
    }
}

/// Looks unless the WAF is off; counts what is seen; refuses only in mode `block`.
fn judge(api: &Api, look: impl FnOnce() -> Result<(), Seen>) -> Result<(), Error> {
    let mode = api.deps.settings.waf();
    if mode == WafMode::Off {
        return Ok(());
    }
    let running = api.deps.operations.begin(Operation::CheckThreat)?;
    let looked = look();
    running.done();
    let Err(seen) = looked else { return Ok(()) };
    let (violation, place) = (seen.violation.name(), seen.place.name());
    api.deps.metrics.security_violation(violation);
    let blocked = mode == WafMode::Block;
    tracing::warn!(violation, place, blocked, "the envelope of a request looks like an attack");
    if !blocked {
        return Ok(());
    }
    let detail = format!(
        "this {place} looks like {}; change it, or send it as content if it is to be judged",
        seen.violation.title()
    );
    Err(Error::field(Code::WafBlocked, &seen.field, violation, detail))
}
