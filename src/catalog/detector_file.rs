//! A detector file becomes a `Detector`.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::detector::{Auth, Detector, Protocol, Version};
use super::load::{LoadContext, SourceFile, named_as_file, not_built, schema_version, tree};
use super::{calibration, chunks, credential};
use crate::domain::category::Category;
use crate::domain::content::ContentType;
use crate::domain::finding::TextView;
use crate::domain::id::{DetectorName, TenantId};
use crate::settings::Env;
use crate::yaml::fault::Fault;
use crate::yaml::{Data, Fields, Node, Source, Span};

pub(super) mod headers;
mod limits;
mod paths;
pub(super) mod protocol;
mod replicas;
mod versions;

use limits::Limits;
pub(super) use limits::in_range;
use protocol::Spoken;

/// Keys of the design whose behaviour comes later.
const NOT_BUILT: [&str; 1] = ["holdback"];

/// Keys that only an operator may write, and what to do without them: how much a detector counts
/// beside others, who else sees it, what the service's own environment and signature hold.
const OPERATORS: [(&str, &str); 4] = [
    ("tenants", "remove it: the detector is your tenant's alone"),
    ("weight", "remove it: a registered detector weighs 1"),
    ("auth", "remove it, and send the credential to PUT /detectors/{name}/credentials"),
    ("delegation", "remove it: a delegation token is sent to an operator's detectors only"),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Risk {
    Low,
    Medium,
    High,
}

impl Risk {
    fn name(self) -> String {
        match self {
            Risk::Low => "low".to_owned(),
            Risk::Medium => "medium".to_owned(),
            Risk::High => "high".to_owned(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Contexts {
    allowed: BTreeSet<String>,
}

/// Reads one file; all its faults at once. Where versions take the requests, the detector is as the
/// first of them.
pub(super) fn read(file: &SourceFile, context: &LoadContext<'_>) -> Result<Detector, Vec<Fault>> {
    let source = Source { kind: file.kind, file: &file.path };
    let (own, planned) = versions::split(tree(file)?, source)?;
    let (mut versions, mut faults) = (Vec::with_capacity(planned.len()), BTreeSet::new());
    for versions::Planned { name, share, tree } in planned {
        match one(&tree, file, context) {
            Ok(detector) => {
                let detector = Arc::new(Detector { version: name, ..detector });
                versions.push(Version { detector, share });
            }
            Err(found) => faults.extend(found),
        }
    }
    let first = versions.iter().find(|version| !version.detector.shadow);
    let detector = match first {
        Some(first) => Ok(Detector::clone(&first.detector)),
        None if faults.is_empty() => one(&own, file, context),
        None => Err(Vec::new()),
    };
    let detector = detector.map_err(|found| faults.extend(found)).ok();
    match detector.filter(|_| faults.is_empty()) {
        Some(detector) => Ok(Detector { versions, ..detector }),
        None => Err(faults.into_iter().collect()),
    }
}

fn one(tree: &Node, file: &SourceFile, context: &LoadContext<'_>) -> Result<Detector, Vec<Fault>> {
    let source = Source { kind: file.kind, file: &file.path };
    let mut fields = Fields::new(tree, source);
    schema_version(&mut fields);
    not_built(&mut fields, &NOT_BUILT);
    // Taken apart before; named for those who misspell it.
    fields.node("versions");
    let name: Option<DetectorName> = fields.need("name");
    if let Some(name) = &name {
        named_as_file(&mut fields, "name", name.as_str(), file);
    }
    let auth = auth(&mut fields, source, context);
    let delegation = delegation(&mut fields, &auth);
    let spoken = protocol::read(&mut fields, source, name.as_ref(), context.guard);
    let health_path = spoken.as_ref().and_then(|spoken| spoken.health.as_deref());
    let limits = limits::read(&mut fields, health_path);
    if matches!(auth, Auth::Aws(_)) && !spoken.as_ref().is_none_or(Spoken::is_signed) {
        let message = "auth type `aws_sigv4` does not belong to this protocol".to_owned();
        fields.refuse("auth", "bad_value", message, "use it with `protocol: bedrock-guardrail`");
    }
    if limits.batch.is_some() && spoken.as_ref().is_some_and(|spoken| !spoken.takes_lists()) {
        let message = "each call of this protocol takes one text".to_owned();
        let hint = "remove it; for `http`, send {{contents}} and name `response.lists`";
        fields.refuse("batch", "bad_value", message, hint);
    }
    let native = |spoken: &Spoken| matches!(spoken.protocol, Protocol::Native);
    if !limits.batch_delay.is_zero() && !spoken.as_ref().is_none_or(native) {
        let message = "requests share calls over our own protocol only".to_owned();
        fields.refuse("/batch/max_delay", "bad_value", message, "remove it");
    }
    governance(&mut fields, context.env);
    let detector = rest(&mut fields, file);
    let mut faults = fields.finish();
    if let (true, Some(name), Some(spoken), Some(detector)) =
        (faults.is_empty(), name, spoken, detector)
    {
        let detector = join(Detector { name, auth, delegation, ..detector }, spoken, limits);
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

/// Reads what `tenant` registered as a file is read; what only an operator may say is refused.
pub(super) fn registered(
    file: &SourceFile,
    tenant: &TenantId,
    context: &LoadContext<'_>,
) -> Result<Detector, Vec<Fault>> {
    let tree = tree(file)?;
    let source = Source { kind: file.kind, file: &file.path };
    let mut refused = operators(&tree, source);
    let versions = tree.get("versions").map(|node| &node.data);
    if let Some(Data::List(versions)) = versions {
        let mut found: Vec<Fault> =
            versions.iter().flat_map(|version| operators(version, source)).collect();
        // Of a version it is its share of the requests.
        found.retain(|fault| !fault.message.starts_with("`weight`"));
        refused.extend(found);
    }
    // What is refused anyway is not prepared either, nor does it open a file that it names.
    let unchecked = LoadContext { check_params: &|_| Ok(()), ..*context };
    match read(file, if refused.is_empty() { context } else { &unchecked }) {
        Ok(detector) if refused.is_empty() => Ok(detector.private(tenant)),
        Ok(_) => Err(refused),
        Err(faults) => Err(refused.into_iter().chain(faults).collect()),
    }
}

/// What of these keys only an operator may write.
fn operators(node: &Node, source: Source<'_>) -> Vec<Fault> {
    let said = |(key, hint): &(&str, &str)| {
        let entry = node.entries().iter().find(|entry| entry.key == *key)?;
        let message = format!("`{key}` is for the operator's files");
        Some(source.fault(entry.at, "operator_only", message, Some((*hint).to_owned())))
    };
    let builtin = || {
        let is = |node: &&Node| node.data == Data::Text("builtin".to_owned());
        let node = node.get("protocol").filter(is)?;
        // What they prepare for their parameters is kept for all tenants together.
        let message = "built-in detectors are for the operator's files".to_owned();
        let hint = Some("have the operator add a file with your `tenants`".to_owned());
        Some(source.fault(node.at(), "operator_only", message, hint))
    };
    OPERATORS.iter().filter_map(said).chain(builtin()).collect()
}

fn join(mut detector: Detector, spoken: Spoken, limits: Limits) -> Detector {
    let own = std::mem::replace(&mut detector.labels, spoken.labels);
    detector.labels.extend(own);
    Detector {
        protocol: spoken.protocol,
        endpoint: spoken.endpoint,
        replicas: spoken.replicas,
        retry: limits.retry,
        breaker: limits.breaker,
        bulkhead: limits.bulkhead,
        hedge: limits.hedge,
        throttle: limits.throttle,
        health: limits.health,
        batch: limits.batch,
        batch_delay: limits.batch_delay,
        ..detector
    }
}

/// Everything that stands alone; name, protocol, endpoint, credential and limits are placeholders
/// that `read` replaces.
fn rest(fields: &mut Fields<'_>, file: &SourceFile) -> Option<Detector> {
    let categories = categories(fields);
    let first_category = categories.first().cloned();
    let labels = protocol::labels(fields);
    let timeout = fields.take::<Span>("timeout").unwrap_or(Span(Duration::from_secs(3))).0;
    in_range(fields, "timeout", timeout.as_millis() as f64, (1.0, 300_000.0));
    let weight = fields.take("weight").unwrap_or(1.0);
    in_range(fields, "weight", weight, (0.0, 1_000_000.0));
    let cost = fields.take("cost").unwrap_or(1.0);
    in_range(fields, "cost", cost, (0.0, 1_000_000.0));
    let views = views(fields);
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
    let limits = Limits::default();
    Some(Detector {
        name: DetectorName::parse("unnamed").ok()?,
        description: fields.take("description").unwrap_or_default(),
        owner: fields.take("owner").unwrap_or_default(),
        risk: fields.take("risk").map(Risk::name),
        contexts: fields.take::<Contexts>("contexts").unwrap_or_default().allowed,
        safety: fields.node("safety").map_or(serde_json::Value::Null, Node::to_json),
        protocol: Protocol::Native,
        endpoint: None,
        replicas: Vec::new(),
        types: fields.take("types").unwrap_or_else(|| BTreeSet::from([ContentType::Text])),
        languages: fields.take("languages").unwrap_or_default(),
        directions: fields.take("directions").unwrap_or_default(),
        max_chars,
        chunks: chunks::read(fields, max_chars),
        categories: categories.into_iter().collect(),
        labels,
        annotator: fields.take("annotator").unwrap_or_default(),
        timeout,
        retry: limits.retry,
        breaker: limits.breaker,
        bulkhead: limits.bulkhead,
        hedge: None,
        throttle: None,
        health: limits.health,
        batch: limits.batch,
        batch_delay: limits.batch_delay,
        auth: Auth::None,
        delegation: None,
        weight,
        cost,
        calibration: calibration::read(fields),
        params,
        views,
        tenants: fields.take("tenants").unwrap_or_else(|| BTreeSet::from(["*".to_owned()])),
        private_to: None,
        version: versions::OWN.into(),
        versions: Vec::new(),
        shadow: fields.take("shadow").unwrap_or_default(),
        source: file.path.clone(),
        // Last, so that every key was taken before.
        first_category: first_category?,
    })
}

fn views(fields: &mut Fields<'_>) -> Vec<TextView> {
    let views = fields.take("views").unwrap_or_else(|| vec![TextView::Raw]);
    if views.iter().all(|view| *view == TextView::Decoded) {
        let message = "`views` names no form in which the whole text stands".to_owned();
        fields.refuse("views", "bad_value", message, "add `raw` or `normalized`");
    }
    views
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

/// The header of the delegation token, which no credential fills.
fn delegation(fields: &mut Fields<'_>, auth: &Auth) -> Option<String> {
    let name = fields.take::<String>("delegation")?.to_ascii_lowercase();
    if http::HeaderName::try_from(&name).is_err() || headers::is_reserved(&name) {
        let message = "`delegation` is no header that may be set".to_owned();
        fields.refuse("delegation", "bad_value", message, "write `delegation: authorization`");
        return None;
    }
    if auth.header() == Some(name.as_str()) {
        let message = format!("`auth` fills the header `{name}` too");
        fields.refuse("delegation", "bad_value", message, "name another header");
        return None;
    }
    Some(name)
}

fn categories(fields: &mut Fields<'_>) -> Vec<Category> {
    let names: Option<Vec<String>> = fields.need("categories");
    let Some(names) = names else { return Vec::new() };
    if names.is_empty() {
        let message = "`categories` is empty".to_owned();
        fields.refuse("categories", "bad_value", message, "name what the detector can find");
    }
    let at = |index| format!("/categories/{index}");
    names
        .iter()
        .enumerate()
        .filter_map(|(i, name)| protocol::category(fields, &at(i), name))
        .collect()
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
