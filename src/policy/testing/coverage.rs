//! Which lines of the layers the tests evaluated.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;
use regorus::unstable::{Rule, RuleHead};
use serde::Serialize;

use super::super::rego::Parsed;
use super::join::Module;

/// The lines of one file that hold expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileCoverage {
    /// Below `policies/`.
    pub file: String,
    /// Lines that some test evaluated.
    pub covered: BTreeSet<u32>,
    /// Lines that no test evaluated.
    pub missed: BTreeSet<u32>,
}

impl FileCoverage {
    /// Covered lines of all lines, 0..=1; 1 where there is nothing to cover.
    pub fn share(&self) -> f64 {
        share([self])
    }
}

/// Covered lines of all lines of these files, 0..=1.
pub fn share<'a>(files: impl IntoIterator<Item = &'a FileCoverage>) -> f64 {
    let (mut covered, mut all) = (0, 0);
    for file in files {
        covered += file.covered.len();
        all += file.covered.len() + file.missed.len();
    }
    if all == 0 { 1.0 } else { covered as f64 / all as f64 }
}

pub(super) fn measure<'a>(
    engine: &Engine,
    modules: &BTreeMap<Vec<String>, Module>,
    files: impl Iterator<Item = &'a Parsed>,
) -> Vec<FileCoverage> {
    let seen = engine.get_coverage_report().map(|report| report.files).unwrap_or_default();
    let mut found: BTreeMap<String, FileCoverage> = BTreeMap::new();
    for part in seen {
        let Some(module) = modules.values().find(|module| module.name == part.path) else {
            continue;
        };
        for (lines, hit) in [(&part.covered, true), (&part.not_covered, false)] {
            for (file, line) in lines.iter().filter_map(|line| module.origin(*line)) {
                let file = found.entry(file.to_owned()).or_insert_with(|| empty(file));
                if hit { &mut file.covered } else { &mut file.missed }.insert(line);
            }
        }
    }
    let mut all: Vec<FileCoverage> = files
        .map(|file| {
            // The engine says nothing of a module that it never entered.
            found
                .remove(&*file.file)
                .unwrap_or_else(|| FileCoverage { missed: lines(file), ..empty(&file.file) })
        })
        .collect();
    for file in &mut all {
        file.missed.retain(|line| !file.covered.contains(line));
    }
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}

/// The same where each file is a module of its own.
pub(in crate::policy) fn direct<'a>(
    engine: &Engine,
    files: impl Iterator<Item = &'a Parsed>,
) -> Vec<FileCoverage> {
    let seen = engine.get_coverage_report().map(|report| report.files).unwrap_or_default();
    let of = |file: &Parsed| match seen.iter().find(|part| *part.path == *file.file) {
        Some(part) => FileCoverage {
            covered: part.covered.clone(),
            missed: part.not_covered.clone(),
            ..empty(&file.file)
        },
        None => FileCoverage { missed: lines(file), ..empty(&file.file) },
    };
    files.map(of).collect()
}

fn empty(file: &str) -> FileCoverage {
    FileCoverage { file: file.to_owned(), covered: BTreeSet::new(), missed: BTreeSet::new() }
}

/// Lines with a statement or a value.
fn lines(file: &Parsed) -> BTreeSet<u32> {
    let mut lines = BTreeSet::new();
    for rule in &file.module.policy {
        match rule.as_ref() {
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                        lines.extend(assign.as_ref().map(|assign| assign.value.span().line));
                    }
                    RuleHead::Set { key, .. } => {
                        lines.extend(key.as_ref().map(|key| key.span().line));
                    }
                }
                let statements = bodies.iter().flat_map(|body| &body.query.stmts);
                lines.extend(statements.map(|statement| statement.span.line));
            }
            Rule::Default { value, .. } => {
                lines.insert(value.span().line);
            }
        }
    }
    lines
}
