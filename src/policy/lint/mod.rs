//! What loads but is probably not meant: names that nobody uses, rules that nobody asks,
//! conditions that never hold, complete rules that conflict, detectors that do not exist, quorums
//! that cannot be reached.

mod dead;
mod detectors;
mod locals;
mod planned;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::builder::misnamed;
use super::load::on_large_stack;
use super::rego::Parsed;
use super::{Limits, Source, fault, graph, layers, testing};
use crate::domain::category::Category;
use crate::domain::id::DetectorName;
use crate::yaml::fault::Fault;

/// What is known of detectors.
#[derive(Debug, Clone, Default)]
pub struct Voters {
    /// All of them, and the categories in which each has a vote.
    pub votes: BTreeMap<DetectorName, BTreeSet<Category>>,
    /// Those that a strategy asks.
    pub of_strategies: BTreeSet<DetectorName>,
}

/// Every doubt about the policies, and every fault that keeps files from being read; sorted.
pub fn lint(sources: &[Source], detectors: &Voters, limits: &Limits) -> Vec<Fault> {
    let found = on_large_stack(|| {
        let layers = layers::read(sources, limits, &BTreeMap::new());
        let tests = testing::files(sources, limits);
        let (layers, tests) = match (layers, tests) {
            (Ok(layers), Ok(tests)) => (layers, tests),
            (layers, tests) => {
                return layers.err().into_iter().chain(tests.err()).flatten().collect();
            }
        };
        let live: Vec<&Parsed> =
            layers.values().flat_map(|layer| &layer.files).map(AsRef::as_ref).collect();
        let mut found = BTreeSet::new();
        for file in live.iter().copied().chain(&tests) {
            locals::check(file, &mut found);
            detectors::check(file, detectors, &mut found);
        }
        for file in &live {
            dead::conditions(file, &mut found);
        }
        dead::conflicts(&live, &mut found);
        match graph::check(&live, &[vec!["floor", "settings"]]) {
            Ok(graph) => dead::unreachable(&live, &graph, &mut found),
            Err(faults) => found.extend(faults),
        }
        detectors::tables(sources, (&layers, detectors), &mut found);
        found
    });
    let failed = || vec![fault("policies", (0, 0), "lint", "the lint panicked", "")];
    found.map_or_else(failed, |found: BTreeSet<Fault>| found.into_iter().collect())
}

/// The same of modules by themselves, where nobody knows which layers they will join.
pub(super) fn of_modules(files: &[&Parsed]) -> Vec<Fault> {
    let mut found: BTreeSet<Fault> = misnamed(files).into_iter().collect();
    for file in files {
        locals::check(file, &mut found);
        dead::conditions(file, &mut found);
    }
    dead::conflicts(files, &mut found);
    found.into_iter().collect()
}
