//! Records as they are read again, and the documents that they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::conflict::Resolved;
use crate::domain::coverage::Coverage;
use crate::domain::finding::{Place, Severity, TextView};
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::domain::judgement::{JudgedFinding, Judgement, ScopeState};
use crate::domain::plan::{CoverageMethod, Execution, StopOn};
use crate::domain::span::Span;
use crate::policy::Document;

/// A record.
#[derive(Debug, Clone, Deserialize)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: TenantId,
    /// The caller's id of the request.
    pub request_id: String,
    /// When, RFC 3339 UTC with milliseconds.
    pub at: String,
    /// The bundle that decided.
    pub policy: BundleName,
    /// The snapshot's.
    pub revision: String,
    /// The layers that were asked.
    pub layers: Vec<String>,
    /// Hexadecimal SHA-256 over salt and content.
    pub commitment: String,
    /// Whether its points can be asked again: the policy read no content.
    pub reproducible: bool,
    /// Whether attributes of findings were left out that rules may have read.
    #[serde(default)]
    pub withheld: bool,
    /// Who was asked.
    pub reports: Vec<KeptReport>,
    /// What was found, at or above its threshold.
    pub findings: Vec<KeptFinding>,
    /// What was found before thresholds, where that differs.
    pub raw: Option<Vec<KeptFinding>>,
    /// What the rules were joined with.
    pub joined: KeptJoined,
    coverage: KeptCoverage,
    resolution: KeptResolution,
    points: KeptPoints,
    /// All of it, as it was written.
    #[serde(skip)]
    whole: Document,
}

/// What any release's record says of detection.
#[derive(Debug, Clone, Deserialize)]
pub struct Detected {
    /// Who was asked.
    pub reports: Vec<KeptReport>,
    /// What was found, at or above its threshold.
    pub findings: Vec<DetectedFinding>,
}

/// One finding.
#[derive(Debug, Clone, Deserialize)]
pub struct DetectedFinding {
    /// The name of what it is about.
    pub category: String,
    /// 0..=1.
    pub score: f64,
    detector: Option<DetectorName>,
    #[serde(default)]
    detectors: Vec<DetectorName>,
}

impl Detected {
    /// Reads [`crate::store::Decision::record`]; `None` where it says nothing of detection.
    pub fn read(record: &str) -> Option<Detected> {
        serde_json::from_str(record).ok()
    }
}

impl DetectedFinding {
    /// Who found it.
    pub fn detectors(&self) -> &[DetectorName] {
        if self.detectors.is_empty() { self.detector.as_slice() } else { &self.detectors }
    }
}

/// One detector's part.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptReport {
    /// Who.
    pub detector: DetectorName,
    /// The name of how it ended.
    pub status: String,
}

/// One finding.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptFinding {
    /// What it is about.
    pub category: Category,
    /// 0..=1.
    pub score: f64,
    id: u32,
    label: Arc<str>,
    severity: Severity,
    standing: bool,
    detector: DetectorName,
    #[serde(default)]
    detectors: Vec<DetectorName>,
    span: Option<KeptSpan>,
    view: Option<TextView>,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptSpan {
    pointer: Arc<str>,
    start: usize,
    end: usize,
}

/// What the rules were joined with.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptJoined {
    /// The least action because the plan point failed or a time-out was brought.
    pub plan_failure: Option<Action>,
    /// Whether a time-out was brought.
    #[serde(default)]
    pub hurried: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptCoverage {
    achieved: f64,
    threshold: f64,
    complete: bool,
    floor_complete: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptResolution {
    categories: BTreeMap<String, KeptScope>,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptScope {
    resolved: Resolved,
    strategy: String,
    voters: Vec<DetectorName>,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptPoints {
    plan: KeptPlan,
    conflict: Option<KeptConflict>,
    verdict: KeptRead,
    floor: KeptRead,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptPlan {
    strategy: Option<KeptStrategy>,
    failed: Option<String>,
}

/// The strategy of the request's event.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptStrategy {
    /// The event.
    pub event: String,
    /// Its detectors.
    pub detectors: Vec<DetectorName>,
    /// Its order.
    pub execution: Execution,
    /// Its early end.
    pub stop_on: StopOn,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptConflict {
    failed: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct KeptRead {
    reads: Vec<String>,
    failed: Option<String>,
}

/// Which point a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The plan.
    Plan,
    /// What detectors disagree on.
    Conflict,
    /// The layers' verdict.
    Verdict,
    /// The floor's.
    Floor,
}

impl Kept {
    /// Reads [`crate::store::Decision::record`]; `None` where another release wrote it otherwise.
    pub fn read(record: &str) -> Option<Kept> {
        let whole: Document = serde_json::from_str(record).ok()?;
        if whole.get("v").and_then(Value::as_u64) != Some(1) {
            return None;
        }
        let kept: Kept = serde_json::from_value(whole.clone().into()).ok()?;
        Some(Kept { whole, ..kept })
    }

    /// A part of the record, as it was written; null where it has none.
    pub fn part(&self, pointer: &str) -> &Value {
        let (first, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        let found = self.whole.get(first).unwrap_or(&Value::Null);
        if rest.is_empty() {
            found
        } else {
            found.pointer(&format!("/{rest}")).unwrap_or(&Value::Null)
        }
    }

    /// The same record with `word` in the place of every value of findings that was left out.
    pub fn standing_in(&self, word: &str) -> Kept {
        let mut kept = self.clone();
        for name in ["findings", "raw"] {
            let findings = kept.whole.get_mut(name).and_then(Value::as_array_mut);
            let findings = findings.into_iter().flatten();
            let attributes = findings.filter_map(|it| it.get_mut("attributes")?.as_object_mut());
            for value in attributes.flat_map(Map::values_mut).filter(|value| *value == "") {
                *value = word.into();
            }
        }
        for finding in kept.findings.iter_mut().chain(kept.raw.iter_mut().flatten()) {
            let left_out = finding.attributes.values_mut().filter(|value| value.is_empty());
            left_out.for_each(|value| word.clone_into(value));
        }
        kept
    }

    /// Whether the conflict point was asked.
    pub fn has_conflict(&self) -> bool {
        self.points.conflict.is_some()
    }

    /// How a point failed; the name of the kind.
    pub fn failed(&self, point: Asked) -> Option<&str> {
        let points = &self.points;
        match point {
            Asked::Plan => points.plan.failed.as_deref(),
            Asked::Conflict => points.conflict.as_ref()?.failed.as_deref(),
            Asked::Verdict => points.verdict.failed.as_deref(),
            Asked::Floor => None,
        }
    }

    /// The strategy of the request's event.
    pub fn strategy(&self) -> Option<&KeptStrategy> {
        self.points.plan.strategy.as_ref()
    }

    /// The document of a point, without `settings`. `detectors` is what plan documents say of them
    /// where the record holds only the digest of that.
    pub fn document(&self, point: Asked, detectors: &Value) -> Document {
        let head = self.part("points/head").as_object().cloned();
        let mut document = head.unwrap_or_default();
        match point {
            Asked::Plan => {
                let own = self.part("points/plan/detectors");
                let shown = if own.is_array() { own } else { detectors };
                document.insert("detectors".into(), shown.clone());
                let strategy = self.part("points/plan/strategy");
                if !strategy.is_null() {
                    document.insert("strategy".into(), strategy.clone());
                }
            }
            Asked::Conflict => {
                let categories = self.part("points/conflict/categories").clone();
                document.insert("categories".into(), categories);
            }
            Asked::Verdict => self.outcome(&mut document, "findings", &self.points.verdict.reads),
            Asked::Floor => {
                let raw = if self.raw.is_some() { "raw" } else { "findings" };
                self.outcome(&mut document, raw, &self.points.floor.reads);
            }
        }
        document
    }

    fn outcome(&self, document: &mut Document, findings: &str, reads: &[String]) {
        for part in reads {
            let value = match part.as_str() {
                "findings" => without(self.part(findings), "detectors"),
                "results" => only(self.part("reports"), &["detector", "status", "label", "score"]),
                "categories" => self.part("resolution/categories").clone(),
                "conflicts" => {
                    let conflicts = self.part("resolution/conflicts");
                    conflicts.as_array().cloned().unwrap_or_default().into()
                }
                "coverage" => {
                    let keys = ["achieved", "threshold", "complete", "missing", "unjudged"];
                    let mut shown = project(self.part("coverage"), &keys);
                    if let Some(gaps) = shown.get_mut("unjudged") {
                        *gaps = only(gaps, &["reason", "pointer", "detector"]);
                    }
                    shown
                }
                _ => continue,
            };
            document.insert(part.clone(), value);
        }
    }

    /// What the verdict was joined from: the judgement as far as it matters for that, and coverage.
    pub fn judged(&self) -> (Judgement, Coverage) {
        let scopes = self.resolution.categories.iter();
        let scopes =
            scopes.filter_map(|(name, scope)| Some((self::scope(name)?, scope.state()))).collect();
        let findings = self.findings.iter().map(KeptFinding::judged).collect();
        let judgement = Judgement { findings, scopes, ..Judgement::default() };
        let KeptCoverage { achieved, threshold, complete, floor_complete } = self.coverage;
        let coverage = Coverage {
            method: CoverageMethod::default(),
            threshold,
            achieved,
            complete,
            floor_complete,
            code: None,
            required: Vec::new(),
            missing: Vec::new(),
            unjudged: Vec::new(),
        };
        (judgement, coverage)
    }

    /// The findings that the floor saw.
    pub fn raw(&self) -> Vec<JudgedFinding> {
        self.raw.as_ref().unwrap_or(&self.findings).iter().map(KeptFinding::judged).collect()
    }
}

impl KeptFinding {
    /// Who found it.
    pub fn detectors(&self) -> &[DetectorName] {
        if self.detectors.is_empty() {
            std::slice::from_ref(&self.detector)
        } else {
            &self.detectors
        }
    }

    fn judged(&self) -> JudgedFinding {
        let span = self.span.as_ref().map(|span| Span { start: span.start, end: span.end });
        JudgedFinding {
            id: self.id,
            category: self.category.clone(),
            label: Arc::clone(&self.label),
            score: self.score,
            severity: self.severity,
            detectors: self.detectors().to_vec(),
            place: span.map(|span| Place { piece: 0, span: Some(span) }),
            pointer: self.span.as_ref().map(|span| Arc::clone(&span.pointer)),
            view: self.view,
            attributes: self.attributes.clone(),
            standing: self.standing,
        }
    }
}

impl KeptScope {
    fn state(&self) -> ScopeState {
        // Who votes has cast a vote: what it said matters for documents alone.
        let vote = |detector: &DetectorName| crate::domain::conflict::Candidate {
            detector: detector.clone(),
            label: "".into(),
            score: None,
        };
        ScopeState {
            score: 0.0,
            severity: None,
            voters: self.voters.clone(),
            flagged_by: Vec::new(),
            cleared_by: Vec::new(),
            unjudged_by: Vec::new(),
            candidates: self.voters.iter().map(vote).collect(),
            resolved: self.resolved,
            settled: None,
            strategy: self.strategy.clone(),
        }
    }
}

/// The category of that name, or the root of what no table maps, which is no category by itself.
fn scope(name: &str) -> Option<Category> {
    let below = || Category::parse(&format!("{name}.x")).map(|category| category.root());
    Category::parse(name).or_else(|_| below()).ok()
}

fn project(value: &Value, keys: &[&str]) -> Value {
    let fields = value.as_object().into_iter().flatten();
    let kept = fields.filter(|(key, _)| keys.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into()
}

fn only(list: &Value, keys: &[&str]) -> Value {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| project(item, keys)).collect::<Vec<_>>().into()
}

fn without(list: &Value, key: &str) -> Value {
    let mut list = list.clone();
    for item in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        item.remove(key);
    }
    list
}
