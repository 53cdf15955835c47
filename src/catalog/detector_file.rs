//! A detector file becomes a `Detector`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

use super::detector::{
    Auth, BreakerMode, BreakerSpec, Builtin, Bulkhead, Detector, Endpoint, Health, Label, Mapping,
    Protocol, Retry,
};
use super::load::{LoadContext, SourceFile, named_as_file, not_built, schema_version, tree};
use super::{chunks, credential};
use crate::domain::category::{Category, TREE};
use crate::domain::content::ContentType;
use crate::domain::finding::{Polarity, Severity, TextView};
use crate::domain::id::DetectorName;
use crate::settings::Env;
use crate::yaml::fault::Fault;
use crate::yaml::{self, Data, Fields, Node, Source, Span};

/// Keys of the design whose behaviour comes later.
const NOT_BUILT: [&str; 8] =
    ["holdback", "throttle", "batch", "versions", "replicas", "shadow", "hedge", "calibration"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
    Builtin,
    Fms,
    Presidio,
    OpenaiModeration,
    LlmGuard,
    KserveV2,
    Lakera,
    AzureContentSafety,
    BedrockGuardrail,
    Native,
    Http,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Risk {
    Low,
    Medium,
    High,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Contexts {
    allowed: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelEntry {
    category: Option<String>,
    #[serde(default)]
    polarity: Polarity,
    #[serde(default)]
    severity: Severity,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetryEntry {
    attempts: u32,
    backoff: Span,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BreakerEntry {
    mode: BreakerMode,
    failures: u32,
    window: Span,
    failure_ratio: f64,
    open_for: Span,
    probes: u32,
    slow_call: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BulkheadEntry {
    max_in_flight: usize,
    queue: usize,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HealthEntry {
    path: String,
    interval: Span,
    timeout: Span,
    unhealthy_after: u32,
    healthy_after: u32,
}

/// The longest time a key may hold.
const DAY_MS: f64 = 86_400_000.0;

fn millis(span: Span) -> f64 {
    span.0.as_millis() as f64
}

const fn seconds(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

impl Default for RetryEntry {
    fn default() -> Self {
        Self { attempts: 2, backoff: Span(Duration::from_millis(50)) }
    }
}

impl Default for BreakerEntry {
    fn default() -> Self {
        Self {
            mode: BreakerMode::Window,
            failures: 5,
            window: seconds(60),
            failure_ratio: 0.5,
            open_for: seconds(60),
            probes: 3,
            slow_call: None,
        }
    }
}

impl Default for BulkheadEntry {
    fn default() -> Self {
        Self { max_in_flight: 32, queue: 64 }
    }
}

impl Default for HealthEntry {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: seconds(10),
            timeout: seconds(5),
            unhealthy_after: 3,
            healthy_after: 1,
        }
    }
}

/// Reads one file; all its faults at once.
pub(super) fn read(file: &SourceFile, context: &LoadContext<'_>) -> Result<Detector, Vec<Fault>> {
    let tree = tree(file)?;
    let source = Source { kind: file.kind, file: &file.path };
    let mut fields = Fields::new(&tree, source);
    schema_version(&mut fields);
    not_built(&mut fields, &NOT_BUILT);
    let name: Option<DetectorName> = fields.need("name");
    if let Some(name) = &name {
        named_as_file(&mut fields, "name", name.as_str(), file);
    }
    let limits = limits(&mut fields);
    let auth = auth(&mut fields, source, context);
    let protocol = protocol(&mut fields, name.as_ref());
    let endpoint = endpoint(&mut fields, protocol.as_ref());
    governance(&mut fields, context.env);
    let detector = rest(&mut fields, file).map(|detector| Detector {
        endpoint,
        auth,
        retry: limits.0,
        breaker: limits.1,
        bulkhead: limits.2,
        health: limits.3,
        ..detector
    });
    let mut faults = fields.finish();
    if let (true, Some(name), Some(protocol), Some(detector)) =
        (faults.is_empty(), name, protocol, detector)
    {
        let detector = Detector { name, protocol, ..detector };
        match (context.check_params)(&detector) {
            Ok(()) => return Ok(detector),
            Err(fault) => {
                let at = tree.nearest_to(&fault.pointer).at();
                faults.push(source.fault(at, "bad_params", fault.message, Some(fault.hint)));
            }
        }
    }
    Err(faults)
}

/// Everything that stands alone; name, protocol, endpoint, credential and limits are placeholders
/// that `read` replaces.
fn rest(fields: &mut Fields<'_>, file: &SourceFile) -> Option<Detector> {
    let categories = categories(fields);
    let labels = labels(fields);
    let timeout = fields.take::<Span>("timeout").unwrap_or(seconds(3)).0;
    in_range(fields, "timeout", timeout.as_millis() as f64, (1.0, 300_000.0));
    let weight = fields.take("weight").unwrap_or(1.0);
    in_range(fields, "weight", weight, (0.0, 1_000_000.0));
    let cost = fields.take("cost").unwrap_or(1.0);
    in_range(fields, "cost", cost, (0.0, 1_000_000.0));
    let views = fields.take("views").unwrap_or_else(|| vec![TextView::Raw]);
    if views.iter().all(|view| *view == TextView::Decoded) {
        let message = "`views` names no form in which the whole text stands".to_owned();
        fields.refuse("views", "bad_value", message, "add `raw` or `normalized`");
    }
    let max_chars = fields.take::<NonZeroUsize>("max_chars");
    let params = fields.node("params").map_or_else(|| serde_json::json!({}), Node::to_json);
    if !params.is_object() {
        fields.refuse(
            "params",
            "bad_value",
            "params is no mapping".to_owned(),
            "write keys below it",
        );
    }
    Some(Detector {
        name: DetectorName::parse("unnamed").ok()?,
        description: fields.take("description").unwrap_or_default(),
        owner: fields.take("owner").unwrap_or_default(),
        risk: fields.take("risk").map(|risk| match risk {
            Risk::Low => "low".to_owned(),
            Risk::Medium => "medium".to_owned(),
            Risk::High => "high".to_owned(),
        }),
        contexts: fields.take::<Contexts>("contexts").unwrap_or_default().allowed,
        safety: fields.node("safety").map_or(serde_json::Value::Null, Node::to_json),
        protocol: Protocol::Native,
        endpoint: None,
        types: fields.take("types").unwrap_or_else(|| BTreeSet::from([ContentType::Text])),
        languages: fields.take("languages").unwrap_or_default(),
        directions: fields.take("directions").unwrap_or_default(),
        max_chars,
        chunks: chunks::read(fields, max_chars),
        categories,
        labels,
        annotator: fields.take("annotator").unwrap_or_default(),
        timeout,
        retry: Retry { attempts: 1, backoff: Duration::ZERO },
        breaker: breaker(&BreakerEntry::default()),
        bulkhead: Bulkhead { max_in_flight: 1, queue: 0 },
        health: health(HealthEntry::default()),
        auth: Auth::None,
        weight,
        cost,
        params,
        views,
        tenants: fields.take("tenants").unwrap_or_else(|| BTreeSet::from(["*".to_owned()])),
        version: "1".into(),
        source: file.path.clone(),
    })
}

fn breaker(entry: &BreakerEntry) -> BreakerSpec {
    BreakerSpec {
        mode: entry.mode,
        failures: entry.failures,
        window: entry.window.0,
        failure_ratio: entry.failure_ratio,
        open_for: entry.open_for.0,
        probes: entry.probes,
        slow_call: entry.slow_call.map(|span| span.0),
    }
}

fn health(entry: HealthEntry) -> Health {
    Health {
        path: entry.path,
        interval: entry.interval.0,
        timeout: entry.timeout.0,
        unhealthy_after: entry.unhealthy_after,
        healthy_after: entry.healthy_after,
    }
}

fn limits(fields: &mut Fields<'_>) -> (Retry, BreakerSpec, Bulkhead, Health) {
    let retry: RetryEntry = fields.take("retry").unwrap_or_default();
    in_range(fields, "/retry/attempts", retry.attempts.into(), (1.0, 5.0));
    let breaker_entry: BreakerEntry = fields.take("breaker").unwrap_or_default();
    in_range(fields, "/breaker/failures", breaker_entry.failures.into(), (1.0, 10_000.0));
    in_range(fields, "/breaker/probes", breaker_entry.probes.into(), (1.0, 10_000.0));
    in_range(fields, "/breaker/failure_ratio", breaker_entry.failure_ratio, (0.0, 1.0));
    in_range(fields, "/breaker/window", millis(breaker_entry.window), (1.0, DAY_MS));
    in_range(fields, "/breaker/open_for", millis(breaker_entry.open_for), (1.0, DAY_MS));
    let bulkhead: BulkheadEntry = fields.take("bulkhead").unwrap_or_default();
    in_range(fields, "/bulkhead/max_in_flight", bulkhead.max_in_flight as f64, (1.0, 10_000.0));
    in_range(fields, "/bulkhead/queue", bulkhead.queue as f64, (0.0, 100_000.0));
    let probe: HealthEntry = fields.take("health").unwrap_or_default();
    in_range(fields, "/health/interval", millis(probe.interval), (100.0, DAY_MS));
    in_range(fields, "/health/timeout", millis(probe.timeout), (1.0, 300_000.0));
    in_range(fields, "/health/unhealthy_after", probe.unhealthy_after.into(), (1.0, 1_000.0));
    in_range(fields, "/health/healthy_after", probe.healthy_after.into(), (1.0, 1_000.0));
    if !probe.path.starts_with('/') {
        let message = "health.path is no path of the endpoint's origin".to_owned();
        fields.refuse("/health/path", "bad_value", message, "begin it with `/`");
    }
    (
        Retry { attempts: retry.attempts, backoff: retry.backoff.0 },
        breaker(&breaker_entry),
        Bulkhead { max_in_flight: bulkhead.max_in_flight, queue: bulkhead.queue },
        health(probe),
    )
}

/// Refuses a number outside its range.
pub(super) fn in_range(fields: &mut Fields<'_>, key: &str, value: f64, (least, most): (f64, f64)) {
    if !(least..=most).contains(&value) {
        let name = key.trim_start_matches('/').replace('/', ".");
        let message = format!("`{name}` holds {value}, outside {least}..={most}");
        fields.refuse(key, "out_of_range", message, "choose a value inside the range");
    }
}

fn auth(fields: &mut Fields<'_>, source: Source<'_>, context: &LoadContext<'_>) -> Auth {
    let Some(node) = fields.node("auth") else { return Auth::None };
    if matches!(&node.data, Data::Text(kind) if kind == "none") {
        return Auth::None;
    }
    credential::read(node, source, context).unwrap_or_else(|faults| {
        fields.faults.extend(faults);
        Auth::None
    })
}

fn protocol(fields: &mut Fields<'_>, name: Option<&DetectorName>) -> Option<Protocol> {
    let named: Option<Named> = fields.need("protocol");
    let builtin = fields.node("builtin");
    let request = fields.node("request").map(Node::to_json);
    let headers: Option<BTreeMap<String, String>> = fields.take("headers");
    let response = fields.take("response");
    let named = named?;
    if named != Named::Http {
        for (key, given) in [
            ("request", request.is_some()),
            ("headers", headers.is_some()),
            ("response", response.is_some()),
        ] {
            if given {
                let message = format!("`{key}` belongs to protocol `http` only");
                fields.refuse(key, "bad_value", message, "remove it or write `protocol: http`");
            }
        }
    }
    if named != Named::Builtin && builtin.is_some() {
        let message = "`builtin` belongs to protocol `builtin` only".to_owned();
        fields.refuse("builtin", "bad_value", message, "remove it");
    }
    match named {
        Named::Builtin => builtin_of(fields, name).map(Protocol::Builtin),
        Named::Fms => Some(Protocol::Fms),
        Named::Native => Some(Protocol::Native),
        Named::Http => {
            let Some(request) = request else {
                fields.missing("request");
                return None;
            };
            let headers = headers.unwrap_or_default();
            let response = response.unwrap_or_default();
            Some(Protocol::Http(Box::new(Mapping { request, headers, response })))
        }
        Named::Presidio
        | Named::OpenaiModeration
        | Named::LlmGuard
        | Named::KserveV2
        | Named::Lakera
        | Named::AzureContentSafety
        | Named::BedrockGuardrail => {
            let message = "this protocol is not supported by this release".to_owned();
            fields.refuse("protocol", "not_built", message, "use native, fms, http or builtin");
            None
        }
    }
}

/// The built-in detector of the `builtin` key, else of the file's name.
fn builtin_of(fields: &mut Fields<'_>, name: Option<&DetectorName>) -> Option<Builtin> {
    if fields.node("builtin").is_some() {
        return fields.take("builtin");
    }
    let builtin = serde_json::from_value(serde_json::json!(name?)).ok();
    if builtin.is_none() {
        let message = "no built-in detector has this name".to_owned();
        fields.refuse(
            "name",
            "unknown_builtin",
            message,
            "add `builtin: regex` or another of them",
        );
    }
    builtin
}

fn endpoint(fields: &mut Fields<'_>, protocol: Option<&Protocol>) -> Option<Endpoint> {
    let raw: Option<String> = fields.take("endpoint");
    match (raw, protocol) {
        (Some(_), Some(Protocol::Builtin(_))) => {
            let message = "a built-in detector has no endpoint".to_owned();
            fields.refuse("endpoint", "bad_endpoint", message, "remove the key");
            None
        }
        (Some(raw), _) => {
            let uri = raw.parse::<http::Uri>().ok().filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty())
                    && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
            });
            if uri.is_none() {
                let message = "the endpoint is no http or https address without credentials";
                let hint = "write http://host:port/path and put credentials into `auth`";
                fields.refuse("endpoint", "bad_endpoint", message.to_owned(), hint);
            }
            uri.map(|uri| Endpoint { uri })
        }
        (None, Some(Protocol::Fms | Protocol::Native | Protocol::Http(_))) => {
            fields.missing("endpoint");
            None
        }
        (None, Some(Protocol::Builtin(_)) | None) => None,
    }
}

fn categories(fields: &mut Fields<'_>) -> BTreeSet<Category> {
    let names: Option<Vec<String>> = fields.need("categories");
    let Some(names) = names else { return BTreeSet::new() };
    if names.is_empty() {
        let message = "`categories` is empty".to_owned();
        fields.refuse("categories", "bad_value", message, "name what the detector can find");
    }
    let at = |index| format!("/categories/{index}");
    names.iter().enumerate().filter_map(|(i, name)| category(fields, &at(i), name)).collect()
}

fn category(fields: &mut Fields<'_>, key: &str, name: &str) -> Option<Category> {
    Category::parse(name)
        .map_err(|error| {
            let hint = match yaml::nearest(name, TREE.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => "use a name of the category table".to_owned(),
            };
            fields.refuse(key, "unknown_category", error.to_string(), &hint);
        })
        .ok()
}

fn labels(fields: &mut Fields<'_>) -> BTreeMap<String, Label> {
    let entries: BTreeMap<String, LabelEntry> = fields.take("labels").unwrap_or_default();
    let mut labels = BTreeMap::new();
    for (label, entry) in entries {
        let at = format!("/labels/{}", label.replace('~', "~0").replace('/', "~1"));
        if entry.category.is_none() && entry.polarity == Polarity::Positive {
            let message =
                format!("label `{}` is positive and has no category", yaml::shown(&label));
            fields.refuse(&at, "missing_key", message, "add `category:` to it");
        }
        let category =
            entry.category.and_then(|name| category(fields, &format!("{at}/category"), &name));
        let (polarity, severity) = (entry.polarity, entry.severity);
        labels.insert(label, Label { category, polarity, severity });
    }
    labels
}

/// In production every file says what it is, whose it is and what it may do.
fn governance(fields: &mut Fields<'_>, env: Env) {
    if env != Env::Production {
        return;
    }
    for key in ["description", "owner", "risk", "contexts", "safety"] {
        if fields.node(key).is_none() {
            let message = format!("production needs the governance key `{key}`");
            fields.refuse(key, "governance_missing", message, &format!("add `{key}:`"));
        }
    }
}
