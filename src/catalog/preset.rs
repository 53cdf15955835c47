//! The protocols that are data: one file each in `presets/`, embedded and read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::detector::Label;
use super::detector_file::protocol::{any_labels, exchange};
use super::mapping::{Mapping, RawExchange, Signing};
use super::template::{TemplateFault, fixed};
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Data, Fields, Source};

const TEXTS: [(&str, &str); 7] = [
    ("azure-content-safety", include_str!("presets/azure-content-safety.yaml")),
    ("bedrock-guardrail", include_str!("presets/bedrock-guardrail.yaml")),
    ("fms", include_str!("presets/fms.yaml")),
    ("lakera", include_str!("presets/lakera.yaml")),
    ("llm-guard", include_str!("presets/llm-guard.yaml")),
    ("openai-moderation", include_str!("presets/openai-moderation.yaml")),
    ("presidio", include_str!("presets/presidio.yaml")),
];

/// A protocol as data.
#[derive(Debug)]
pub(super) struct Preset {
    name: &'static str,
    /// What a detector file may say under `options`.
    pub(super) options: Vec<(String, OptionSpec)>,
    /// Health path; empty where the service has none.
    pub(super) health: Option<String>,
    timeout_status: Option<u16>,
    signed_as: Option<String>,
    headers: BTreeMap<String, String>,
    exchanges: Vec<RawExchange>,
    /// Every label that the vendor documents.
    pub(super) labels: BTreeMap<String, Label>,
}

/// One option.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OptionSpec {
    /// Taken where the file is silent; `{{name}}` is the detector's name.
    pub(super) default: Option<String>,
    /// The only values, where it has any.
    pub(super) one_of: Vec<String>,
    /// The file must say it.
    pub(super) required: bool,
}

static PRESETS: LazyLock<Result<Vec<Preset>, Vec<Fault>>> =
    LazyLock::new(|| TEXTS.iter().map(|(name, text)| read(name, text)).collect());

impl Preset {
    /// The preset of that protocol; `None` for protocols that are no preset.
    pub(super) fn named(name: &str) -> Result<Option<&'static Preset>, Vec<Fault>> {
        let presets = PRESETS.as_ref().map_err(Clone::clone)?;
        Ok(presets.iter().find(|preset| preset.name == name))
    }

    /// With a file's options put in.
    pub(super) fn mapping(&self, options: &Map<String, Value>) -> Result<Mapping, TemplateFault> {
        let fitting = self.exchanges.iter().filter(|exchange| exchange.fits(options));
        let header = |(name, value): (&String, &String)| {
            Ok((name.clone(), fixed(value, options, str::to_owned)?))
        };
        Ok(Mapping {
            protocol: self.name,
            exchanges: fitting.map(|raw| raw.compile(options)).collect::<Result<_, _>>()?,
            headers: self.headers.iter().map(header).collect::<Result<_, _>>()?,
            timeout_status: self.timeout_status,
            signing: self.signed_as.as_ref().map(|service| Signing {
                service: service.clone(),
                region: options.get("region").and_then(Value::as_str).map(str::to_owned),
            }),
        })
    }
}

fn read(name: &'static str, text: &str) -> Result<Preset, Vec<Fault>> {
    let file = format!("presets/{name}.yaml");
    let source = Source { kind: FaultKind::Detector, file: &file };
    let tree = yaml::tree(source.kind, source.file, text)?;
    let mut fields = Fields::new(&tree, source);
    let options = fields.node("options").map_or_else(Vec::new, |node| {
        let specs = node.entries().iter();
        specs.map(|entry| (entry.key.clone(), entry.value.decode(source))).collect()
    });
    let health = fields.take("health");
    let timeout_status = fields.take("timeout_status");
    let signed_as = fields.take("signed_as");
    let headers = fields.take("headers").unwrap_or_default();
    let labels = any_labels(&mut fields);
    let mut exchanges = Vec::new();
    match fields.node("exchanges").map(|node| &node.data) {
        Some(Data::List(nodes)) => {
            for node in nodes {
                let mut inner = Fields::new(node, source);
                exchanges.extend(exchange(&mut inner, source));
                fields.faults.extend(inner.finish());
            }
        }
        Some(Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) | Data::Map(_))
        | None => {
            exchanges.extend(exchange(&mut fields, source));
        }
    }
    let options = options
        .into_iter()
        .filter_map(|(name, spec)| {
            spec.map(|spec| (name, spec)).map_err(|fault| fields.faults.push(fault)).ok()
        })
        .collect();
    let faults = fields.finish();
    let preset =
        Preset { name, options, health, timeout_status, signed_as, headers, exchanges, labels };
    if faults.is_empty() { Ok(preset) } else { Err(faults) }
}
