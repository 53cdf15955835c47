//! `strategies.yaml` becomes strategies by event.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::load::{SourceFile, schema_version, tree};
use super::{Catalog, Strategy};
use crate::domain::id::DetectorName;
use crate::domain::plan::{Execution, StopOn};
use crate::yaml::fault::Fault;
use crate::yaml::{Fields, Node, Source};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    detectors: Vec<DetectorName>,
    #[serde(default)]
    execution: Execution,
    #[serde(default)]
    description: String,
    #[serde(default)]
    stop_on: StopOn,
    #[serde(default)]
    aliases: Vec<String>,
}

/// Reads the file; all its faults at once.
pub(super) fn read(
    tree: &Node,
    file: &SourceFile,
) -> Result<BTreeMap<String, Strategy>, Vec<Fault>> {
    let source = Source { kind: file.kind, file: &file.path };
    let mut fields = Fields::new(tree, source);
    schema_version(&mut fields);
    let (strategies, names) = entries(&mut fields, source);
    if !names.contains("default") {
        let message = "there is no strategy `default`".to_owned();
        fields.refuse("strategies", "missing_key", message, "add one for unknown events");
    }
    let faults = fields.finish();
    if faults.is_empty() { Ok(strategies) } else { Err(faults) }
}

/// Reads what the API stored; the file has the default one.
pub(super) fn stored(file: &SourceFile) -> Result<BTreeMap<String, Strategy>, Vec<Fault>> {
    let tree = tree(file)?;
    let source = Source { kind: file.kind, file: &file.path };
    let mut fields = Fields::new(&tree, source);
    schema_version(&mut fields);
    let (mut strategies, _) = entries(&mut fields, source);
    strategies.values_mut().for_each(|strategy| strategy.stored = true);
    let faults = fields.finish();
    if faults.is_empty() { Ok(strategies) } else { Err(faults) }
}

/// The strategies, and every name of them.
fn entries(
    fields: &mut Fields<'_>,
    source: Source<'_>,
) -> (BTreeMap<String, Strategy>, BTreeSet<String>) {
    let node = fields.node("strategies");
    let mut strategies = BTreeMap::new();
    let mut names = BTreeSet::new();
    for item in node.map(Node::entries).unwrap_or_default() {
        let entry: Entry = match item.value.decode(source) {
            Ok(entry) => entry,
            Err(fault) => {
                fields.faults.push(fault);
                continue;
            }
        };
        for name in entry.aliases.iter().chain([&item.key]) {
            if !names.insert(name.clone()) {
                let message = format!("event `{name}` has two strategies");
                let hint = Some("keep one name or alias".to_owned());
                fields.faults.push(source.fault(item.at, "duplicate_event", message, hint));
            }
        }
        let Entry { detectors, execution, description, stop_on, aliases } = entry;
        let stored = false;
        let strategy = Strategy { detectors, execution, description, stop_on, aliases, stored };
        strategies.insert(item.key.clone(), strategy);
    }
    (strategies, names)
}

/// Drops detectors that do not exist from the strategies; each is a warning.
pub(super) fn drop_unknown(catalog: &mut Catalog, tree: &Node, file: &SourceFile) -> Vec<Fault> {
    let source = Source { kind: file.kind, file: &file.path };
    let mut warnings = Vec::new();
    for (event, strategy) in &mut catalog.strategies {
        let node = tree.get("strategies").and_then(|all| all.get(event)).unwrap_or(tree);
        strategy.detectors.retain(|name| {
            let known = catalog.detectors.contains_key(name);
            if !known {
                let message = format!("strategy `{event}` names the unknown detector `{name}`");
                let hint = Some("add the detector or remove the name".to_owned());
                warnings.push(source.fault(node.at(), "unknown_detector", message, hint));
            }
            known
        });
    }
    warnings
}
