//! From reports to what the verdict is asked about: thresholds, merged findings, votes by scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calibration::Calibration;
use super::category::Category;
use super::conflict::{self, CLEAN, Candidate, Hints, Resolved, Settled};
use super::content::{ContentType, Piece};
use super::finding::{Finding, Place, Severity, TextView};
use super::id::DetectorName;
use super::plan::{Plan, ResolveSpec};
use super::report::Report;

#[cfg(test)]
mod tests;

/// A finding as decided on: at or above its threshold, merged over detectors.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedFinding {
    /// Position in the list, from 0.
    pub id: u32,
    /// What it is about.
    pub category: Category,
    /// The label of the surest detector.
    pub label: Arc<str>,
    /// The highest score.
    pub score: f64,
    /// The highest severity.
    pub severity: Severity,
    /// Who found it, in name order.
    pub detectors: Vec<DetectorName>,
    /// Where; `None` speaks of the whole request.
    pub place: Option<Place>,
    /// JSON pointer of the place's piece.
    pub pointer: Option<Arc<str>>,
    /// The view it was made on.
    pub view: Option<TextView>,
    /// The non-identifying part.
    pub attributes: BTreeMap<String, String>,
    /// False when its scope resolved `clear`.
    pub standing: bool,
}

/// How one scope stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeState {
    /// The resolved score.
    pub score: f64,
    /// The highest severity among its findings.
    pub severity: Option<Severity>,
    /// Everyone who may vote and answered.
    pub voters: Vec<DetectorName>,
    /// Who flagged.
    pub flagged_by: Vec<DetectorName>,
    /// Who cleared.
    pub cleared_by: Vec<DetectorName>,
    /// Planned voters that did not answer.
    pub unjudged_by: Vec<DetectorName>,
    /// The votes.
    pub candidates: Vec<Candidate>,
    /// The result.
    pub resolved: Resolved,
    /// The arithmetic over the candidates, also where a quorum or any flag decides; `None` without
    /// candidates.
    pub settled: Option<Settled>,
    /// Strategy name, or `quorum`.
    pub strategy: String,
}

impl ScopeState {
    /// Whether the detectors say different things, so that a policy may settle it.
    pub fn disagrees(&self) -> bool {
        let mut labels = self.candidates.iter().map(|vote| vote.label.trim());
        let first = labels.next();
        labels.any(|label| Some(label) != first)
    }

    /// Whether votes were cast, or a quorum was asked for, and they do not suffice. Silence alone
    /// is a matter of coverage.
    pub fn needs_review(&self) -> bool {
        let asked = !self.candidates.is_empty() || self.strategy == QUORUM;
        self.resolved == Resolved::Unresolved && asked
    }
}

/// What the verdict is asked about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judgement {
    /// Sorted by span, category, detector; ids are positions.
    pub findings: Vec<JudgedFinding>,
    /// Per scope: first-level categories, and deeper ones that the plan names.
    pub scopes: BTreeMap<Category, ScopeState>,
    /// Summary label over all detectors, distinct labels joined by `|` in plan order, or `none`.
    pub label: String,
    /// What was worked around, such as an unknown strategy name.
    pub degraded: BTreeSet<String>,
}

/// What judging needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Answers, in plan order.
    pub reports: &'a [Report],
    /// What was judged.
    pub pieces: &'a [Piece],
    /// The tenant's thresholds, under the plan's.
    pub thresholds: &'a BTreeMap<String, f64>,
    /// Facts of every known detector of the plan.
    pub detectors: &'a BTreeMap<DetectorName, DetectorFacts>,
    /// Decides the default strategy.
    pub content_type: ContentType,
}

/// What a detector's file says that matters for its votes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectorFacts {
    /// What it can find.
    pub categories: BTreeSet<Category>,
    /// In conflicts.
    pub weight: f64,
    /// True for findings without a vote.
    pub annotator: bool,
    /// What its scores are worth.
    pub calibration: Calibration,
    /// The same of its versions.
    pub versions: BTreeMap<Arc<str>, Calibration>,
}

/// A policy's answer for a scope whose voters disagree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// Strategy name.
    pub strategy: String,
    /// The winning label; one of the candidates', else it is not heeded.
    pub winner: Option<String>,
    /// For people.
    pub reason: Option<String>,
}

/// The strategy name of scopes that a quorum decides.
pub const QUORUM: &str = "quorum";

/// Judges the reports. Scopes that disagree may then be settled anew by [`Judgement::settle`].
pub fn make(evidence: &Evidence) -> Judgement {
    let planned = evidence.planned();
    let scopes = scopes(evidence, &planned);
    let states = scopes.into_iter().map(|scope| {
        let state = votes(&scope, evidence, &planned);
        (scope, state)
    });
    let mut judgement = Judgement {
        findings: merged(evidence.reports, evidence.pieces, &|finding| evidence.reaches(finding)),
        scopes: states.collect(),
        label: summary(evidence),
        degraded: BTreeSet::new(),
    };
    judgement.scopes.retain(|_, state| {
        !state.voters.is_empty() || !state.unjudged_by.is_empty() || state.strategy == QUORUM
    });
    judgement.resolve(evidence, &BTreeMap::new());
    judgement
}

/// Every finding before thresholds, merged and sorted as in a [`Judgement`], all standing.
pub fn raw(reports: &[Report], pieces: &[Piece]) -> Vec<JudgedFinding> {
    merged(reports, pieces, &|_| true)
}

/// Turns the scores of detectors that are calibrated into what they are worth, the report's own
/// score with the finding it speaks of. The floor judges what came before.
pub fn calibrate(reports: &mut [Report], detectors: &BTreeMap<DetectorName, DetectorFacts>) {
    for report in reports {
        let calibration = detectors
            .get(&report.detector)
            .map(|facts| facts.versions.get(&report.version).unwrap_or(&facts.calibration));
        let Some(calibration) = calibration.filter(|known| !known.is_empty()) else { continue };
        let mut own = None;
        for finding in &mut report.findings {
            let worth = calibration.apply(&finding.category, finding.score);
            if report.label.as_ref() == Some(&finding.label) && report.score == Some(finding.score)
            {
                own = Some(worth.max(own.unwrap_or(0.0)));
            }
            finding.score = worth;
        }
        report.score = own.or(report.score);
    }
}

/// What a report says as a whole: its own label, else that of its surest finding that reaches its
/// threshold, else `clean` without a score.
pub fn said(report: &Report, evidence: &Evidence) -> (Arc<str>, Option<f64>) {
    if let Some(label) = &report.label {
        return (Arc::clone(label), report.score);
    }
    let reaching = report.findings.iter().filter(|finding| evidence.reaches(finding));
    surest(reaching).map_or_else(clean, |finding| (Arc::clone(&finding.label), Some(finding.score)))
}

impl Judgement {
    /// Scopes whose voters disagree, where a policy's conflict point may be asked.
    pub fn disagreements(&self) -> impl Iterator<Item = (&Category, &ScopeState)> {
        self.scopes.iter().filter(|(_, state)| state.disagrees())
    }

    /// Whether a voter flagged the scope of every finding, so that no later vote clears one where
    /// neither a strategy, a quorum nor a policy settles scopes.
    pub fn is_firm(&self) -> bool {
        let flagged = |finding: &JudgedFinding| {
            let decisive = finding.category.path().find_map(|name| self.scopes.get(name));
            decisive.is_some_and(|state| state.resolved == Resolved::Flagged)
        };
        self.findings.iter().all(flagged)
    }

    /// Settles disagreeing scopes as the policy chose; other choices are not heeded.
    pub fn settle(&mut self, evidence: &Evidence, choices: &BTreeMap<Category, Choice>) {
        self.degraded.clear();
        self.resolve(evidence, choices);
    }

    fn resolve(&mut self, evidence: &Evidence, choices: &BTreeMap<Category, Choice>) {
        // Shared by all scopes; each sets its own `spec`.
        let mut hints = Hints {
            spec: ResolveSpec::default(),
            content_type: evidence.content_type,
            file_weights: evidence.weights().collect(),
            required: evidence.plan.required.clone(),
        };
        for (scope, state) in &mut self.scopes {
            let choice = choices.get(scope).filter(|_| state.disagrees());
            let severities = self.findings.iter().filter(|finding| scope.covers(&finding.category));
            state.severity = severities.map(|finding| finding.severity).max();
            self.degraded.extend(resolve((scope, state), evidence, &mut hints, choice));
        }
        for finding in &mut self.findings {
            let decisive = finding.category.path().find_map(|name| self.scopes.get(name));
            finding.standing = decisive.is_none_or(|state| state.resolved != Resolved::Clear);
        }
    }
}

impl Evidence<'_> {
    fn reaches(&self, finding: &Finding) -> bool {
        finding.score >= self.plan.threshold(&finding.category, self.thresholds)
    }

    /// What the files of those who answered say of their weight.
    fn weights(&self) -> impl Iterator<Item = (DetectorName, f64)> {
        let asked = self.reports.iter().map(|report| &report.detector);
        asked.filter_map(|name| Some((name.clone(), self.detectors.get(name)?.weight)))
    }

    fn votes(&self, detector: &DetectorName) -> bool {
        self.detectors.get(detector).is_none_or(|facts| !facts.annotator)
    }

    /// Whether its file gives the detector a vote in `scope`.
    fn may_vote(&self, detector: &DetectorName, scope: &Category) -> bool {
        let facts = self.detectors.get(detector).filter(|facts| !facts.annotator);
        facts.is_some_and(|facts| facts.categories.iter().any(|c| c.touches(scope)))
    }

    /// Everyone planned or asked, in name order.
    fn planned(&self) -> BTreeSet<&DetectorName> {
        self.plan.primary().chain(self.reports.iter().map(|report| &report.detector)).collect()
    }

    /// Findings with a vote that reach their threshold.
    fn flags<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = &'a Finding> {
        let counts = report.answered() && self.votes(&report.detector);
        report.findings.iter().filter(move |finding| counts && self.reaches(finding))
    }

    /// The most specific entry of `resolve` for the scope, then `*`.
    fn spec(&self, scope: &Category) -> Option<&ResolveSpec> {
        let mut names = scope.path().chain(std::iter::once("*"));
        names.find_map(|name| self.plan.resolve.get(name))
    }
}

fn clean() -> (Arc<str>, Option<f64>) {
    (CLEAN.into(), None)
}

/// The highest score; of equals the first label.
fn surest<'a>(findings: impl Iterator<Item = &'a Finding>) -> Option<&'a Finding> {
    findings.min_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.label.cmp(&b.label)))
}

/// First-level categories that somebody votes in, and every name that the plan resolves.
fn scopes(evidence: &Evidence, planned: &BTreeSet<&DetectorName>) -> BTreeSet<Category> {
    let voters = planned.iter().filter_map(|detector| evidence.detectors.get(*detector));
    let able = voters.filter(|facts| !facts.annotator).flat_map(|facts| &facts.categories);
    let found = evidence.reports.iter().flat_map(|report| evidence.flags(report));
    let named = evidence.plan.resolve.keys().filter_map(|name| Category::parse(name).ok());
    able.map(Category::root)
        .chain(found.map(|finding| finding.category.root()))
        .chain(named)
        .collect()
}

/// Who votes what in the scope; resolved later.
fn votes(scope: &Category, evidence: &Evidence, planned: &BTreeSet<&DetectorName>) -> ScopeState {
    let quorum = evidence.spec(scope).is_some_and(|spec| spec.quorum.is_some());
    let mut state = ScopeState {
        score: 0.0,
        severity: None,
        voters: Vec::new(),
        flagged_by: Vec::new(),
        cleared_by: Vec::new(),
        unjudged_by: Vec::new(),
        candidates: Vec::new(),
        resolved: Resolved::Unresolved,
        settled: None,
        strategy: if quorum { QUORUM.to_owned() } else { String::new() },
    };
    for &detector in planned {
        let report = evidence.reports.iter().find(|r| r.answered() && r.detector == *detector);
        let Some(report) = report else {
            if evidence.may_vote(detector, scope) {
                state.unjudged_by.push(detector.clone());
            }
            continue;
        };
        let flag = surest(evidence.flags(report).filter(|f| scope.covers(&f.category)));
        if flag.is_none() && !evidence.may_vote(detector, scope) {
            continue;
        }
        let side = if flag.is_some() { &mut state.flagged_by } else { &mut state.cleared_by };
        side.push(detector.clone());
        state.voters.push(detector.clone());
        let (label, score) = flag.map_or_else(
            || (CLEAN.into(), own_score(report)),
            |finding| (flag_label(finding), Some(finding.score)),
        );
        state.candidates.push(Candidate { detector: detector.clone(), label, score });
    }
    state
}

/// The finding's label. Labels are the detector's own words: one that calls its finding `clean`
/// must not vote for clearing it.
fn flag_label(finding: &Finding) -> Arc<str> {
    let misleading = finding.label.trim() == CLEAN;
    if misleading { finding.category.as_str().into() } else { Arc::clone(&finding.label) }
}

/// How sure a reply is that nothing is wrong; `None` where it did not say so itself.
fn own_score(report: &Report) -> Option<f64> {
    let label = report.label.as_ref()?;
    report.score.filter(|_| report.findings.iter().all(|finding| finding.label != *label))
}

/// Resolves one scope and returns what was worked around.
fn resolve(
    (scope, state): (&Category, &mut ScopeState),
    evidence: &Evidence,
    hints: &mut Hints,
    choice: Option<&Choice>,
) -> Vec<String> {
    let mut worked_around = Vec::new();
    let spec = evidence.spec(scope);
    hints.spec = spec.cloned().unwrap_or_default();
    if let Some(choice) = choice {
        hints.spec.strategy = Some(choice.strategy.clone());
    }
    let mut settled = conflict::settle(&state.candidates, hints);
    if settled.unknown_strategy {
        let used = settled.strategy;
        worked_around.push(format!("{scope}: its strategy is unknown, {used} was used"));
    }
    if let Some(wanted) = choice.and_then(|choice| choice.winner.as_deref()) {
        match chosen(&state.candidates, wanted) {
            Some(vote) => {
                settled.winner = Some(vote.label.trim().into());
                settled.detector = Some(vote.detector.clone());
                settled.score = vote.score;
                settled.tie_breaker = None;
                settled.delta = 0.0;
            }
            None => worked_around.push(format!("{scope}: the winner chosen is no candidate")),
        }
    }
    let by_strategy = match settled.winner.as_deref() {
        None => Resolved::Unresolved,
        Some(CLEAN) => Resolved::Clear,
        Some(_) => Resolved::Flagged,
    };
    let n = state.voters.len() + state.unjudged_by.len();
    let any_flag = spec.is_none() && choice.is_none() && !state.flagged_by.is_empty();
    state.resolved = match spec.and_then(|spec| spec.quorum) {
        Some(k) => conflict::quorum(k, n, state.flagged_by.len(), state.cleared_by.len()),
        None if any_flag => Resolved::Flagged,
        None => by_strategy,
    };
    if state.strategy != QUORUM {
        state.strategy = settled.strategy.to_owned();
    }
    state.score = score(state, &settled, by_strategy);
    state.settled = (!state.candidates.is_empty()).then_some(settled);
    worked_around
}

/// The winner's score; where a quorum or any flag decided otherwise, the highest on that side.
fn score(state: &ScopeState, settled: &Settled, by_strategy: Resolved) -> f64 {
    let side = match state.resolved {
        Resolved::Flagged if by_strategy != Resolved::Flagged => &state.flagged_by,
        Resolved::Clear if by_strategy != Resolved::Clear => &state.cleared_by,
        Resolved::Flagged | Resolved::Clear | Resolved::Unresolved => {
            return settled.score.unwrap_or(0.0);
        }
    };
    let votes = state.candidates.iter().filter(|vote| side.contains(&vote.detector));
    votes.filter_map(|vote| vote.score).fold(0.0, f64::max)
}

/// The surest candidate of that label, of equals the first by name.
fn chosen<'a>(candidates: &'a [Candidate], label: &str) -> Option<&'a Candidate> {
    let score = |vote: &Candidate| vote.score.unwrap_or(0.0);
    let votes = candidates.iter().filter(|vote| vote.label.trim() == label.trim());
    votes.reduce(|a, b| if score(b) > score(a) { b } else { a })
}

/// Distinct labels over all reports in plan order; a derived `clean` says nothing.
fn summary(evidence: &Evidence) -> String {
    let mut labels: Vec<Arc<str>> = Vec::new();
    for report in evidence.reports.iter().filter(|report| report.answered()) {
        let (label, score) = said(report, evidence);
        let label: Arc<str> = label.trim().into();
        let derived_clean = report.label.is_none() && score.is_none();
        if !derived_clean && !label.is_empty() && !labels.contains(&label) {
            labels.push(label);
        }
    }
    if labels.is_empty() { "none".to_owned() } else { labels.join("|") }
}

/// Findings of equal place and category become one: the surest one's label, everyone's names.
fn merged(
    reports: &[Report],
    pieces: &[Piece],
    counts: &dyn Fn(&Finding) -> bool,
) -> Vec<JudgedFinding> {
    let mut all: Vec<(&DetectorName, &Finding)> = reports
        .iter()
        .filter(|report| report.answered())
        .flat_map(|report| report.findings.iter().map(move |finding| (&report.detector, finding)))
        .filter(|(_, finding)| counts(finding))
        .collect();
    all.sort_by(|(da, a), (db, b)| {
        let key = (a.place, &a.category).cmp(&(b.place, &b.category));
        key.then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| (da, &a.label).cmp(&(db, &b.label)))
    });
    let mut merged: Vec<JudgedFinding> = Vec::new();
    for (detector, finding) in all {
        match merged.last_mut() {
            Some(same) if same.place == finding.place && same.category == finding.category => {
                same.severity = same.severity.max(finding.severity);
                if let Err(at) = same.detectors.binary_search(detector) {
                    same.detectors.insert(at, detector.clone());
                }
                for (key, value) in &finding.attributes {
                    same.attributes.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            Some(_) | None => merged.push(JudgedFinding {
                id: u32::try_from(merged.len()).unwrap_or(u32::MAX),
                category: finding.category.clone(),
                label: Arc::clone(&finding.label),
                score: finding.score,
                severity: finding.severity,
                detectors: vec![detector.clone()],
                place: finding.place,
                pointer: finding
                    .place
                    .and_then(|place| pieces.get(place.piece))
                    .map(|piece| Arc::clone(&piece.pointer)),
                view: finding.view,
                attributes: finding.attributes.clone(),
                standing: true,
            }),
        }
    }
    merged
}
