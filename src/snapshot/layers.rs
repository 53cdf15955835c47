//! Layers that a policy tree cannot do without: what is deleted must not read as "allow".

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::Source;
use crate::yaml::fault::{Fault, FaultKind};

/// Folders of the tree that are no bundles.
const OTHERS: [&str; 4] = ["base", "floor", "schemas", "tenants"];
/// Rules of the verdict point that tighten.
const VERDICTS: [&str; 4] = ["block", "review", "redact", "flag"];

/// A fault for each missing layer: base, floor, and a verdict in every bundle. A floor whose table
/// nothing reads, or whose rules read a table that is gone, is missing too.
pub(super) fn gaps(files: &[Source]) -> Vec<Fault> {
    let mut bundles: BTreeMap<&str, bool> = BTreeMap::new();
    let mut layers = BTreeSet::new();
    for file in files {
        let Some((layer, name)) = file.path.split_once('/') else { continue };
        layers.insert(layer);
        if !OTHERS.contains(&layer) {
            let decides = bundles.entry(layer).or_default();
            *decides |= is_verdict(name, &file.bytes);
        }
    }
    let floor = |wanted: &dyn Fn(&str, &[u8]) -> bool| {
        let mut names = files.iter().filter_map(|file| {
            let name = file.path.strip_prefix("floor/")?;
            Some((name, &*file.bytes))
        });
        names.any(|(name, bytes)| wanted(name, bytes))
    };
    let live = |name: &str| name.ends_with(".rego") && !name.ends_with("_test.rego");
    let reads = |name: &str, bytes: &[u8]| {
        live(name) && String::from_utf8_lossy(bytes).contains("data.floor.settings")
    };
    let (table, rules) = (floor(&|name, _| name == "data.yaml"), floor(&|name, _| live(name)));
    let half = match (table, rules) {
        (true, false) => Some("the layer `floor` has a table and no rules that read it"),
        (false, true) if floor(&reads) => Some("the layer `floor` reads a table that is missing"),
        _ => None,
    };
    let hint = "put the floor's other file back; `orchestrator init` writes the shipped one";
    let half = half.map(|message| fault("floor", "missing_layer", message.to_owned(), hint));
    let missing = ["base", "floor"].into_iter().filter(|layer| !layers.contains(layer));
    let lost = missing.map(|layer| {
        let message = format!("the layer `{layer}` is missing");
        let hint = "put its folder back; `orchestrator init` writes the shipped one";
        fault(layer, "missing_layer", message, hint)
    });
    let silent = bundles.into_iter().filter(|(_, decides)| !decides).map(|(bundle, _)| {
        let message = format!("the bundle `{bundle}` has no verdict rule");
        let hint = "write block, review, redact or flag rules, or remove the folder";
        fault(bundle, "no_verdict", message, hint)
    });
    lost.chain(half).chain(silent).collect()
}

/// Gaps and other faults; what a fault in a layer's file explains is no gap.
pub(super) fn beside(mut gaps: Vec<Fault>, faults: Vec<Fault>) -> Vec<Fault> {
    let explained = |gap: &Fault| {
        let layer = gap.file.trim_start_matches("policies/");
        faults.iter().any(|fault| fault.file.split('/').next() == Some(layer))
    };
    gaps.retain(|gap| !explained(gap));
    gaps.extend(faults);
    gaps
}

fn is_verdict(name: &str, bytes: &[u8]) -> bool {
    let live = name.ends_with(".rego") && !name.ends_with("_test.rego");
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let starts = |line: &str| {
        VERDICTS.iter().any(|rule| {
            let rest = line.strip_prefix(rule);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    live && text.lines().any(starts)
}

fn fault(layer: &str, code: &'static str, message: String, hint: &str) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file: format!("policies/{layer}"),
        line: 0,
        column: 0,
        code,
        message,
        hint: Some(hint.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(files: &[(&str, &str)]) -> Vec<&'static str> {
        let files: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source { path: (*path).into(), bytes: text.as_bytes().into() })
            .collect();
        gaps(&files).into_iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn a_tree_without_base_floor_or_verdict_is_refused() {
        let base = ("base/data.yaml", "settings: {}");
        let floor = ("floor/f.rego", "package floor\n");
        let verdict = ("mine/v.rego", "package mine\nblock contains 1 if false\n");
        assert!(codes(&[base, floor, verdict]).is_empty());
        assert_eq!(codes(&[floor, verdict]), ["missing_layer"]);
        assert_eq!(codes(&[base, verdict]), ["missing_layer"]);
        assert_eq!(
            codes(&[base, floor, ("mine/p.rego", "package mine\nblocked := 1\n")]),
            ["no_verdict"]
        );
        let test = ("mine/v_test.rego", "block contains 1");
        assert_eq!(codes(&[base, floor, test]), ["no_verdict"]);
    }

    #[test]
    fn what_the_fault_of_a_file_explains_is_no_gap() {
        let bad = Fault { file: "mine/v.rego".into(), ..fault("x", "syntax", String::new(), "") };
        let gap = |layer| fault(layer, "no_verdict", String::new(), "");
        let found = beside(vec![gap("mine"), gap("other")], vec![bad]);
        let files: Vec<&str> = found.iter().map(|fault| fault.file.as_str()).collect();
        assert_eq!(files, ["policies/other", "mine/v.rego"]);
    }
}
