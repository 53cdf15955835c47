//! Domain data as input documents. What a document does not hold, no policy can read.

use std::collections::BTreeMap;

use regorus::Value;

use super::rego::Fields;
use super::{DetectorFacts, StrategyFacts, VerdictFacts, View};
use crate::domain::category::Category;
use crate::domain::coverage::Coverage;
use crate::domain::finding::Severity;
use crate::domain::head::{Head, Health, OptIn};
use crate::domain::id::DetectorName;
use crate::domain::judgement::{JudgedFinding, ScopeState};
use crate::domain::report::Report;

/// A value made once per process and thread-safely shared: keys of documents.
macro_rules! key {
    ($name:expr) => {{
        static KEY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::from($name));
        KEY.clone()
    }};
}

macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut fields = regorus::value::Object::default();
        $(fields.insert(key!($name), $value);)*
        fields
    }};
}

/// Which parts of a verdict's document somebody reads; the others are left out, so that they
/// cannot spoil the memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) findings: bool,
    pub(super) results: bool,
    pub(super) categories: bool,
    pub(super) conflicts: bool,
    pub(super) coverage: bool,
}

impl Parts {
    pub(super) fn of(fields: &Fields) -> Self {
        Self {
            findings: fields.holds("findings"),
            results: fields.holds("results"),
            categories: fields.holds("categories"),
            conflicts: fields.holds("conflicts"),
            coverage: fields.holds("coverage"),
        }
    }

    /// Of those that are read.
    pub(super) fn names(self) -> Vec<&'static str> {
        let parts = [
            ("findings", self.findings),
            ("results", self.results),
            ("categories", self.categories),
            ("conflicts", self.conflicts),
            ("coverage", self.coverage),
        ];
        parts.into_iter().filter(|(_, read)| *read).map(|(name, _)| name).collect()
    }

    /// Whether the votes are read.
    pub(super) fn scopes(self) -> bool {
        self.categories || self.conflicts
    }
}

pub(super) fn plan(
    view: &View,
    head: &Head,
    detectors: &[DetectorFacts],
    strategy: Option<&StrategyFacts<'_>>,
) -> Value {
    let mut document = with_head(head, &view.settings_value);
    document.insert(key!("detectors"), self::detectors(detectors, &head.opt_in.health));
    if let Some(strategy) = strategy {
        let facts = object! {
            "event": text(strategy.event),
            "detectors": names(strategy.detectors),
            "execution": json(&strategy.execution),
            "stop_on": json(&strategy.stop_on),
        };
        document.insert(key!("strategy"), facts.into());
    }
    document.into()
}

/// What a plan's document says of detectors.
pub(super) fn detectors(
    detectors: &[DetectorFacts],
    health: &BTreeMap<DetectorName, Health>,
) -> Value {
    list(detectors, |facts| {
        let mut fields = object! {
            "name": text(facts.name.as_str()),
            "version": text(&facts.version),
            "protocol": text(facts.protocol),
            "types": list(&facts.types, |kind| text(kind.name())),
            "categories": list(&facts.categories, |category| text(category.as_str())),
            "cost": facts.cost.into(),
            "weight": facts.weight.into(),
        };
        if let Some(health) = health.get(&facts.name) {
            fields.insert(key!("healthy"), health.healthy.into());
            fields.insert(key!("breaker"), text(health.breaker));
            insert_some(&mut fields, key!("p95_ms"), health.p95_ms.map(Value::from));
        }
        fields.into()
    })
}

pub(super) fn conflict(view: &View, head: &Head, scopes: &BTreeMap<Category, ScopeState>) -> Value {
    let mut document = with_head(head, &view.settings_value);
    let scopes = scopes.iter().map(|(category, scope)| {
        let candidates = list(&scope.candidates, |vote| {
            let flagged = scope.flagged_by.contains(&vote.detector);
            let mut fields = object! {
                "detector": text(vote.detector.as_str()),
                "label": text(&vote.label),
                "flagged": flagged.into(),
            };
            insert_some(&mut fields, key!("score"), vote.score.map(Value::from));
            let severity = scope.severity.filter(|_| flagged);
            insert_some(&mut fields, key!("severity"), severity.map(|s| text(s.name())));
            fields.into()
        });
        let settled = scope.settled.iter().flat_map(|settled| &settled.normalized);
        let normalized: regorus::value::Object =
            settled.map(|(label, score)| (text(label), Value::from(*score))).collect();
        let fields = object! { "candidates": candidates, "normalized": normalized.into() };
        (text(category.as_str()), fields.into())
    });
    document.insert(key!("categories"), scopes.collect::<regorus::value::Object>().into());
    document.into()
}

pub(super) fn verdict(view: &View, head: &Head, facts: &VerdictFacts<'_>) -> Value {
    let mut document = with_head(head, &view.settings_value);
    let parts = view.unit.verdict_parts;
    outcome(&mut document, facts, &facts.judgement.findings, parts);
    document.into()
}

/// The floor's document: the same shape without `settings`, over raw findings.
pub(super) fn floor_verdict(view: &View, head: &Head, facts: &VerdictFacts<'_>) -> Value {
    let mut document = head_object(head);
    outcome(&mut document, facts, facts.raw, view.unit.floor_parts);
    document.into()
}

/// Findings and detectors that rules go through.
pub(super) fn entries(document: &Value) -> usize {
    let entries = |name: &Value| {
        let list = document.as_object().ok().and_then(|fields| fields.get(name));
        list.and_then(|list| list.as_array().ok()).map_or(0, |list| list.len())
    };
    entries(&key!("findings")) + entries(&key!("detectors"))
}

/// Values in a table.
pub(super) fn size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        serde_json::Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => 1,
    }
}

/// The same document for the floor, which sees no table.
pub(super) fn floor(document: &Value) -> Value {
    let mut document = document.clone();
    if let Ok(fields) = document.as_object_mut() {
        fields.remove(&key!("settings"));
    }
    document
}

pub(super) fn with_head(head: &Head, settings: &Value) -> regorus::value::Object {
    let mut document = head_object(head);
    document.insert(key!("settings"), settings.clone());
    document
}

fn head_object(head: &Head) -> regorus::value::Object {
    let (tenant, request) = (&head.tenant, &head.request);
    let labels: regorus::value::Object =
        tenant.labels.iter().map(|(name, value)| (text(name), text(value))).collect();
    let thresholds: regorus::value::Object =
        request.thresholds.iter().map(|(name, value)| (text(name), (*value).into())).collect();
    let wishes = object! {
        "only": names(&request.only),
        "add": names(&request.add),
        "exclude": names(&request.exclude),
    };
    let mut facts = object! {
        "type": text(request.content_type.name()),
        "direction": text(request.direction.name()),
        "roles": list(&request.roles, |role| text(role)),
        "tool_names": list(&request.tool_names, |name| text(name)),
        "has_context": request.has_context.into(),
        "priority": text(request.priority.name()),
        "contexts": list(&request.contexts, |name| text(name)),
        "detectors": wishes.into(),
        "thresholds": thresholds.into(),
    };
    insert_some(&mut facts, key!("event"), request.event.as_deref().map(text));
    let tenant = object! {
        "id": text(tenant.id.as_str()),
        "tier": text(&tenant.tier),
        "labels": labels.into(),
    };
    let mut document = object! {
        "tenant": tenant.into(),
        "bundle": text(head.bundle.as_str()),
        "env": text(head.env),
        "request": facts.into(),
    };
    opt_in(&mut document, &head.opt_in);
    document
}

fn opt_in(document: &mut regorus::value::Object, facts: &OptIn) {
    let OptIn { metadata, caller, content, content_length, language, health: _ } = facts;
    insert_some(document, key!("metadata"), metadata.as_ref().map(json));
    let caller = caller.as_ref().map(|caller| {
        let list_of = |names: &[String]| list(names, |name| text(name));
        object! { "roles": list_of(&caller.roles), "scopes": list_of(&caller.scopes) }.into()
    });
    insert_some(document, key!("caller"), caller);
    insert_some(document, key!("content"), content.as_deref().map(text));
    insert_some(document, key!("content_length"), content_length.map(Value::from));
    insert_some(document, key!("language"), language.as_deref().map(text));
}

pub(super) fn outcome(
    document: &mut regorus::value::Object,
    facts: &VerdictFacts<'_>,
    findings: &[JudgedFinding],
    parts: Parts,
) {
    if parts.findings {
        document.insert(key!("findings"), list_at(findings, finding));
    }
    if parts.results {
        document.insert(key!("results"), list(facts.reports, result));
    }
    let scopes = &facts.judgement.scopes;
    if parts.categories {
        let categories: regorus::value::Object =
            scopes.iter().map(|(name, scope)| (text(name.as_str()), category(scope))).collect();
        document.insert(key!("categories"), categories.into());
    }
    if parts.conflicts {
        let conflicts: Vec<Value> =
            scopes.iter().filter_map(|(name, scope)| disagreement(name, scope)).collect();
        document.insert(key!("conflicts"), conflicts.into());
    }
    if parts.coverage {
        document.insert(key!("coverage"), measured(facts.coverage));
    }
}

fn measured(coverage: &Coverage) -> Value {
    let unjudged = list(&coverage.unjudged, |gap| {
        let mut fields = object! { "reason": text(gap.reason) };
        insert_some(&mut fields, key!("pointer"), gap.pointer.as_deref().map(text));
        let detector = gap.detector.as_ref().map(|name| text(name.as_str()));
        insert_some(&mut fields, key!("detector"), detector);
        fields.into()
    });
    let fields = object! {
        "achieved": coverage.achieved.into(),
        "threshold": coverage.threshold.into(),
        "complete": coverage.complete.into(),
        "missing": names(&coverage.missing),
        "unjudged": unjudged,
    };
    fields.into()
}

fn finding(at: usize, finding: &JudgedFinding) -> Value {
    let attributes: regorus::value::Object =
        finding.attributes.iter().map(|(name, value)| (text(name), text(value))).collect();
    let mut fields = object! {
        "id": at.into(),
        "detector": finding.detectors.first().map_or_else(|| text(""), |name| text(name.as_str())),
        "category": text(finding.category.as_str()),
        "path": finding.category.path().map(text).collect::<Vec<_>>().into(),
        "label": text(&finding.label),
        "score": finding.score.into(),
        "severity": severity(finding.severity),
        "standing": finding.standing.into(),
        "attributes": attributes.into(),
    };
    insert_some(&mut fields, key!("view"), finding.view.map(|view| json(&view)));
    let span = finding.place.and_then(|place| place.span).map(|span| {
        let fields = object! {
            "pointer": text(finding.pointer.as_deref().unwrap_or_default()),
            "start": span.start.into(),
            "end": span.end.into(),
        };
        fields.into()
    });
    insert_some(&mut fields, key!("span"), span);
    fields.into()
}

fn severity(severity: Severity) -> Value {
    match severity {
        Severity::Low => key!("low"),
        Severity::Medium => key!("medium"),
        Severity::High => key!("high"),
        Severity::Critical => key!("critical"),
    }
}

fn result(report: &Report) -> Value {
    let mut fields = object! {
        "detector": text(report.detector.as_str()),
        "status": text(report.status.name()),
    };
    insert_some(&mut fields, key!("label"), report.label.as_deref().map(text));
    insert_some(&mut fields, key!("score"), report.score.map(Value::from));
    fields.into()
}

fn category(scope: &ScopeState) -> Value {
    let mut fields = object! {
        "score": scope.score.into(),
        "voters": names(&scope.voters),
        "flagged_by": names(&scope.flagged_by),
        "cleared_by": names(&scope.cleared_by),
        "unjudged_by": names(&scope.unjudged_by),
        "resolved": text(scope.resolved.name()),
        "strategy": text(&scope.strategy),
    };
    insert_some(&mut fields, key!("severity"), scope.severity.map(severity));
    fields.into()
}

/// The arithmetic of a scope whose voters said different things.
fn disagreement(name: &Category, scope: &ScopeState) -> Option<Value> {
    let settled = scope.settled.as_ref()?;
    let first = scope.candidates.first()?;
    scope.candidates.iter().any(|vote| vote.label != first.label).then(|| {
        let mut fields = object! {
            "scope": text(&format!("category:{name}")),
            "strategy": text(settled.strategy),
            "delta": settled.delta.into(),
        };
        insert_some(&mut fields, key!("winner"), settled.winner.as_deref().map(text));
        let detector = settled.detector.as_ref().map(|name| text(name.as_str()));
        insert_some(&mut fields, key!("detector"), detector);
        insert_some(&mut fields, key!("tie_breaker"), settled.tie_breaker.map(text));
        fields.into()
    })
}

fn insert_some(fields: &mut regorus::value::Object, key: Value, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(key, value);
    }
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default().into()
}

fn names(names: &[DetectorName]) -> Value {
    list(names, |name| text(name.as_str()))
}

fn list<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, make: impl Fn(&T) -> Value) -> Value {
    items.into_iter().map(make).collect::<Vec<_>>().into()
}

fn list_at<T>(items: &[T], make: impl Fn(usize, &T) -> Value) -> Value {
    items.iter().enumerate().map(|(at, item)| make(at, item)).collect::<Vec<_>>().into()
}
