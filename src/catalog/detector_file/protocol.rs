//! Which protocol a detector speaks, with what it needs, and what its words mean.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::catalog::detector::{Activation, Builtin, Endpoint, Grain, Kserve, Label, Protocol};
use crate::catalog::mapping::{Mapping, RawExchange, ResponseMapping, percent};
use crate::catalog::preset::{OptionSpec, Preset};
use crate::catalog::template::{TemplateFault, fixed};
use crate::domain::category::{Category, TREE};
use crate::domain::finding::{Polarity, Severity};
use crate::domain::id::DetectorName;
use crate::outbound::Guard;
use crate::yaml::{self, Data, Entry, Fields, Node, Source};

use super::{headers, paths, replicas};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Named {
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

/// The options of `kserve-v2`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KserveEntry {
    model: String,
    version: Option<String>,
    input: Option<String>,
    #[serde(default)]
    column: bool,
    output: Option<String>,
    scores: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    axis: Option<usize>,
    #[serde(default)]
    activation: Activation,
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

/// How a detector is spoken to.
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) replicas: Vec<Endpoint>,
    /// The protocol's own labels.
    pub(super) labels: BTreeMap<String, Label>,
    /// The protocol's own health path, empty where it has none.
    pub(super) health: Option<String>,
}

impl Spoken {
    /// Whether one call may be about several texts, each with its own answer.
    pub(super) fn takes_lists(&self) -> bool {
        match &self.protocol {
            Protocol::Native | Protocol::Kserve(_) => true,
            Protocol::Builtin(_) => false,
            Protocol::Http(mapping) => {
                mapping.exchanges.iter().any(|exchange| exchange.grain() == Grain::List)
            }
        }
    }

    /// Whether calls may be signed.
    pub(super) fn is_signed(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(mapping) if mapping.signing.is_some())
    }
}

/// Reads every key about speaking.
pub(super) fn read(
    fields: &mut Fields<'_>,
    source: Source<'_>,
    name: Option<&DetectorName>,
    guard: &Guard,
) -> Option<Spoken> {
    let named: Option<Named> = fields.need("protocol");
    let mut endpoints = replicas::read(fields, named, guard).into_iter();
    let (endpoint, replicas) = (endpoints.next(), endpoints.collect());
    let options = fields.node("options");
    let headers: Option<BTreeMap<String, String>> = fields.take("headers");
    let builtin = fields.node("builtin");
    let (request, response) = (fields.node("request"), fields.node("response"));
    let preset = preset(fields, named?);
    let remote = named != Some(Named::Builtin);
    let has_options = preset.is_some() || named == Some(Named::KserveV2);
    for (key, given, owner, fits) in [
        ("request", request, "`http`", named == Some(Named::Http)),
        ("response", response, "`http`", named == Some(Named::Http)),
        ("headers", fields.node("headers"), "`http`", named == Some(Named::Http)),
        ("builtin", builtin, "`builtin`", named == Some(Named::Builtin)),
        ("options", options, "the protocols of vendors", has_options),
        ("hedge", fields.node("hedge"), "detectors with an endpoint", remote),
        ("throttle", fields.node("throttle"), "detectors with an endpoint", remote),
    ] {
        if given.is_some() && !fits {
            let message = format!("`{key}` does not belong to this protocol");
            fields.refuse(key, "bad_value", message, &format!("remove it; it fits {owner}"));
        }
    }
    let spoken = |protocol| {
        let labels = preset.map(|preset| preset.labels.clone()).unwrap_or_default();
        let ready = || (named == Some(Named::KserveV2)).then(|| "/v2/health/ready".to_owned());
        let health = preset.and_then(|preset| preset.health.clone()).or_else(ready);
        Spoken { protocol, endpoint, replicas, labels, health }
    };
    match (named?, preset) {
        (Named::Builtin, _) => builtin_of(fields, name).map(Protocol::Builtin).map(spoken),
        (Named::Native, _) => Some(spoken(Protocol::Native)),
        (Named::Http, _) => own_mapping(fields, source, headers.unwrap_or_default()).map(spoken),
        (Named::KserveV2, _) => kserve(fields).map(Box::new).map(Protocol::Kserve).map(spoken),
        (_, Some(preset)) => {
            let faults = fields.faults.len();
            let options = choose(fields, source, &preset.options, name);
            if fields.faults.len() > faults {
                return None;
            }
            let mapping =
                preset.mapping(&options).map_err(|fault| refuse(fields, "/options", fault));
            mapping.ok().map(|mapping| spoken(Protocol::Http(Box::new(mapping))))
        }
        (_, None) => None,
    }
}

fn kserve(fields: &mut Fields<'_>) -> Option<Kserve> {
    let entry: KserveEntry = fields.need("options")?;
    let version = entry.version.map(|version| format!("/versions/{}", percent(&version)));
    Some(Kserve {
        path: format!("/v2/models/{}{}/infer", percent(&entry.model), version.unwrap_or_default()),
        input: entry.input.unwrap_or_else(|| "text".to_owned()),
        column: entry.column,
        output: entry.output,
        scores: entry.scores,
        labels: entry.labels,
        axis: entry.axis,
        activation: entry.activation,
    })
}

/// The preset of a protocol that is one.
fn preset(fields: &mut Fields<'_>, named: Named) -> Option<&'static Preset> {
    let name = serde_json::to_value(named).ok()?;
    match Preset::named(name.as_str()?) {
        Ok(found) => found,
        Err(faults) => {
            fields.faults.extend(faults);
            None
        }
    }
}

/// The mapping of protocol `http`.
fn own_mapping(
    fields: &mut Fields<'_>,
    source: Source<'_>,
    headers: BTreeMap<String, String>,
) -> Option<Protocol> {
    let none = Map::new();
    for (name, value) in &headers {
        let fault = fixed(value, &none, str::to_owned).err();
        if let Some(fault) = fault.or_else(|| headers::fault(name, value)) {
            refuse(fields, &format!("/headers/{name}"), fault);
        }
    }
    let silent = fields.node("response").is_some_and(|node| node.get("error_when").is_none());
    let (request, mut response) = body(fields, source)?;
    if silent {
        response.error_when = ["error", "errors"].map(str::to_owned).into();
    }
    let directions = std::collections::BTreeSet::new();
    let (when, path, batch) = (BTreeMap::new(), String::new(), None);
    let raw = RawExchange { when, directions, path, batch, request, response };
    let exchange = raw.compile(&none).map_err(|fault| refuse(fields, "", fault)).ok()?;
    let exchanges = vec![exchange];
    let mapping =
        Mapping { protocol: "http", exchanges, headers, timeout_status: None, signing: None };
    Some(Protocol::Http(Box::new(mapping)))
}

fn refuse(fields: &mut Fields<'_>, under: &str, fault: TemplateFault) {
    let pointer = format!("{under}{}", fault.pointer);
    fields.refuse(&pointer, "bad_value", fault.message, &fault.hint);
}

/// The options a preset takes: what the file says, else the default.
fn choose(
    fields: &mut Fields<'_>,
    source: Source<'_>,
    specs: &'static [(String, OptionSpec)],
    name: Option<&DetectorName>,
) -> Map<String, Value> {
    let empty = Node { line: 1, column: 1, data: Data::Map(Vec::new()) };
    let node = fields.node("options").unwrap_or(&empty);
    let mut given = Fields::new(node, source);
    let mut options = Map::new();
    for (key, spec) in specs {
        let value: Option<String> = given.take(key);
        if let Some(value) = &value
            && !spec.one_of.is_empty()
            && !spec.one_of.contains(value)
        {
            let message = format!("option `{key}` cannot be `{}`", yaml::shown(value));
            let hint = format!("write one of {}", spec.one_of.join(", "));
            given.refuse(key, "bad_value", message, &hint);
        }
        if spec.required && node.get(key).is_none() {
            let message = format!("option `{key}` is missing");
            fields.refuse("options", "missing_key", message, &format!("add `{key}:` to `options`"));
        }
        let own = || name.map(|name| name.as_str().to_owned()).unwrap_or_default();
        let default = || spec.default.as_ref().map(|text| text.replace("{{name}}", &own()));
        if let Some(value) = value.or_else(default) {
            options.insert(key.clone(), value.into());
        }
    }
    fields.faults.extend(given.finish());
    options
}

/// One call of a preset.
pub(in crate::catalog) fn exchange(
    fields: &mut Fields<'_>,
    source: Source<'_>,
) -> Option<RawExchange> {
    let when = fields.take("when").unwrap_or_default();
    let directions = fields.take("directions").unwrap_or_default();
    let path = fields.take("path").unwrap_or_default();
    let batch = fields.take("batch");
    let (request, response) = body(fields, source)?;
    Some(RawExchange { when, directions, path, batch, request, response })
}

/// What is sent, and how the reply is read.
fn body(fields: &mut Fields<'_>, source: Source<'_>) -> Option<(Value, ResponseMapping)> {
    let response = match fields.node("response") {
        Some(node) => response(node, source).map_err(|faults| fields.faults.extend(faults)),
        None => {
            fields.missing("response");
            Err(())
        }
    };
    let Some(request) = fields.node("request").map(Node::to_json) else {
        fields.missing("request");
        return None;
    };
    Some((request, response.ok()?))
}

/// Keys beside those of the one reader that may stand directly under `response`.
const GENERAL: [&str; 6] =
    ["error_when", "require", "ok_when_empty", "lists", "coverage", "findings"];

fn response(
    node: &Node,
    source: Source<'_>,
) -> Result<ResponseMapping, Vec<crate::yaml::fault::Fault>> {
    let part = |general: bool| {
        let wanted = |entry: &&Entry| GENERAL.contains(&entry.key.as_str()) == general;
        let entries = node.entries().iter().filter(wanted).cloned().collect();
        Node { line: node.line, column: node.column, data: Data::Map(entries) }
    };
    if !matches!(node.data, Data::Map(_)) {
        return node.decode(source).map_err(|fault| vec![fault]);
    }
    let (general, reader) = (part(true), part(false));
    let mut response: ResponseMapping = general.decode(source).map_err(|fault| vec![fault])?;
    if node.get("findings").is_none() {
        response.findings = vec![reader.decode(source).map_err(|fault| vec![fault])?];
    } else if let Some(entry) = reader.entries().first() {
        let message = format!("`{}` stands beside `findings`", yaml::shown(&entry.key));
        let hint = Some("move it into an entry of `findings`".to_owned());
        return Err(vec![source.fault(entry.at, "bad_value", message, hint)]);
    }
    let named = node
        .get("findings")
        .map_or(!reader.entries().is_empty(), |_| !response.findings.is_empty());
    if !named {
        let message = "`response` does not say what a finding is".to_owned();
        let hint = "add `label:`, and `items:` where a list holds the findings".to_owned();
        return Err(vec![source.fault(node.at(), "missing_key", message, Some(hint))]);
    }
    let faults = paths::faults(&response, node, source);
    if faults.is_empty() { Ok(response) } else { Err(faults) }
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

pub(in crate::catalog) fn category(
    fields: &mut Fields<'_>,
    key: &str,
    name: &str,
) -> Option<Category> {
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

/// The labels of a detector file: a positive one needs a category.
pub(in crate::catalog) fn labels(fields: &mut Fields<'_>) -> BTreeMap<String, Label> {
    let labels = any_labels(fields);
    for (label, meaning) in &labels {
        if meaning.category.is_none() && meaning.polarity == Polarity::Positive {
            let at = label_pointer(label);
            let message = format!("label `{}` is positive and has no category", yaml::shown(label));
            fields.refuse(&at, "missing_key", message, "add `category:` to it");
        }
    }
    labels
}

fn label_pointer(label: &str) -> String {
    format!("/labels/{}", label.replace('~', "~0").replace('/', "~1"))
}

/// The same for a preset, where a label may stand for the file's first category.
pub(in crate::catalog) fn any_labels(fields: &mut Fields<'_>) -> BTreeMap<String, Label> {
    let entries: BTreeMap<String, LabelEntry> = fields.take("labels").unwrap_or_default();
    let mut labels = BTreeMap::new();
    for (label, entry) in entries {
        let at = label_pointer(&label);
        let category = match entry.category {
            None => None,
            Some(name) => match category(fields, &format!("{at}/category"), &name) {
                None => continue,
                known => known,
            },
        };
        let (polarity, severity) = (entry.polarity, entry.severity);
        labels.insert(label, Label { category, polarity, severity });
    }
    labels
}
