//! What an answer depends on: the keys of the memo, and their hashes.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use super::load::View;
use super::{DetectorFacts, StrategyFacts, VerdictFacts};
use crate::domain::category::Category;
use crate::domain::coverage::Coverage;
use crate::domain::digest::Digest;
use crate::domain::head::Head;
use crate::domain::id::DetectorName;
use crate::domain::judgement::{JudgedFinding, ScopeState};
use crate::domain::plan::{Execution, StopOn};
use crate::domain::report::{Report, Status};

pub(super) struct PlanKey {
    view: Digest,
    head: Head,
    detectors: Arc<[DetectorFacts]>,
    strategy: Option<(String, Vec<DetectorName>, Execution, StopOn)>,
}

/// What a verdict's documents hold. What no rule reads is in neither.
pub(super) struct VerdictKey {
    view: Digest,
    head: Head,
    /// `None` asks the floor alone.
    findings: Option<Vec<JudgedFinding>>,
    raw: Vec<JudgedFinding>,
    scopes: Option<BTreeMap<Category, ScopeState>>,
    results: Option<Vec<ResultKey>>,
    coverage: Option<Coverage>,
}

/// The part of a report that documents hold.
#[derive(PartialEq)]
pub(super) struct ResultKey {
    detector: DetectorName,
    status: Status,
    label: Option<Arc<str>>,
    score: Option<f64>,
}

impl PlanKey {
    pub(super) fn of(
        view: &View,
        head: &Head,
        detectors: &Arc<[DetectorFacts]>,
        strategy: Option<&StrategyFacts<'_>>,
    ) -> Self {
        Self {
            view: view.digest(),
            head: head.clone(),
            detectors: Arc::clone(detectors),
            strategy: strategy
                .map(|s| (s.event.to_owned(), s.detectors.to_vec(), s.execution, s.stop_on)),
        }
    }

    pub(super) fn is_of(
        &self,
        view: &View,
        head: &Head,
        detectors: &Arc<[DetectorFacts]>,
        strategy: Option<&StrategyFacts<'_>>,
    ) -> bool {
        let own = self.strategy.as_ref();
        let own = own.map(|(event, names, execution, stop_on)| StrategyFacts {
            event,
            detectors: names,
            execution: *execution,
            stop_on: *stop_on,
        });
        self.view == view.digest()
            && (Arc::ptr_eq(&self.detectors, detectors) || self.detectors == *detectors)
            && own.as_ref() == strategy
            && self.head == *head
    }
}

/// Which facts a key of verdicts holds.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    judged: bool,
    scopes: bool,
    results: bool,
    coverage: bool,
}

impl Wanted {
    /// What layers and floor read together.
    pub(super) fn whole(view: &View) -> Self {
        let (layers, floor) = (view.unit.verdict_parts, view.unit.floor_parts);
        Self {
            judged: true,
            scopes: layers.scopes() || floor.scopes(),
            results: layers.results || floor.results,
            coverage: layers.coverage || floor.coverage,
        }
    }

    pub(super) fn floor(view: &View) -> Self {
        let parts = view.unit.floor_parts;
        Self {
            judged: false,
            scopes: parts.scopes(),
            results: parts.results,
            coverage: parts.coverage,
        }
    }
}

impl VerdictKey {
    pub(super) fn of(view: &View, head: &Head, facts: &VerdictFacts<'_>, wanted: Wanted) -> Self {
        let result = |report: &Report| ResultKey {
            detector: report.detector.clone(),
            status: report.status,
            label: report.label.clone(),
            score: report.score,
        };
        let judgement = facts.judgement;
        Self {
            view: view.digest(),
            head: head.clone(),
            findings: wanted.judged.then(|| judgement.findings.clone()),
            raw: facts.raw.to_vec(),
            scopes: wanted.scopes.then(|| judgement.scopes.clone()),
            results: wanted.results.then(|| facts.reports.iter().map(result).collect()),
            coverage: wanted.coverage.then(|| facts.coverage.clone()),
        }
    }

    pub(super) fn is_of(
        &self,
        view: &View,
        head: &Head,
        facts: &VerdictFacts<'_>,
        wanted: Wanted,
    ) -> bool {
        let judgement = facts.judgement;
        self.view == view.digest()
            && self.findings.as_ref() == wanted.judged.then_some(&judgement.findings)
            && self.raw == facts.raw
            && self.scopes.as_ref() == wanted.scopes.then_some(&judgement.scopes)
            && self.coverage.as_ref() == wanted.coverage.then_some(facts.coverage)
            && self.has_results_of(facts.reports, wanted)
            && self.head == *head
    }

    fn has_results_of(&self, reports: &[Report], wanted: Wanted) -> bool {
        let Some(results) = &self.results else { return !wanted.results };
        wanted.results
            && results.len() == reports.len()
            && results.iter().zip(reports).all(|(key, report)| {
                key.detector == report.detector
                    && key.status == report.status
                    && key.label == report.label
                    && key.score == report.score
            })
    }
}

pub(super) fn hash_text(hasher: &mut dyn Hasher, text: &str) {
    hasher.write(text.as_bytes());
    hasher.write_u8(0xff);
}

pub(super) fn hash_head(view: &View, head: &Head, hasher: &mut dyn Hasher) {
    let (digest, request) = (view.digest(), &head.request);
    hasher.write(digest.as_bytes());
    hash_text(hasher, head.tenant.id.as_str());
    for name in [request.content_type.name(), request.direction.name(), request.priority.name()] {
        hash_text(hasher, name);
    }
    hash_text(hasher, request.event.as_deref().unwrap_or_default());
    for list in [&request.only, &request.add, &request.exclude] {
        hasher.write_usize(list.len());
        list.iter().for_each(|name| hash_text(hasher, name.as_str()));
    }
    for list in [&request.contexts, &request.tool_names] {
        hasher.write_usize(list.len());
        list.iter().for_each(|name| hash_text(hasher, name));
    }
    request.roles.iter().for_each(|role| hash_text(hasher, role));
    let facts = &head.opt_in;
    facts.language.iter().for_each(|language| hash_text(hasher, language));
    facts.content_length.iter().for_each(|length| hasher.write_usize(*length));
    for (name, value) in facts.metadata.iter().flatten() {
        hash_text(hasher, name);
        hash_text(hasher, &value.to_string());
    }
}

pub(super) fn hash_facts(
    view: &View,
    head: &Head,
    facts: &VerdictFacts<'_>,
    wanted: Wanted,
    hasher: &mut dyn Hasher,
) {
    hash_head(view, head, hasher);
    let judged = wanted.judged.then_some(facts.judgement.findings.as_slice());
    for findings in judged.into_iter().chain([facts.raw]) {
        hasher.write_usize(findings.len());
        for finding in findings {
            hash_text(hasher, finding.category.as_str());
            hash_text(hasher, &finding.label);
            hasher.write_u64(finding.score.to_bits());
            let span = finding.place.and_then(|place| place.span);
            span.iter().for_each(|span| hasher.write_usize(span.start));
        }
    }
    for report in facts.reports.iter().filter(|_| wanted.results) {
        hash_text(hasher, report.detector.as_str());
        hash_text(hasher, report.status.name());
        hasher.write_u64(report.score.unwrap_or(-1.0).to_bits());
    }
    if wanted.coverage {
        hasher.write_u64(facts.coverage.achieved.to_bits());
        hasher.write_usize(facts.coverage.unjudged.len());
    }
}
