//! Points asked again on documents that were recorded, and what a record says of a document without
//! repeating it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use regorus::Value;

use super::entry::Ask;
use super::evaluator::Evaluator;
use super::load::View;
use super::{
    DetectorFacts, Failure, FloorPlan, PlanAnswer, Point, StrategyFacts, VerdictAnswer,
    VerdictFacts, answer, document,
};
use crate::domain::category::Category;
use crate::domain::digest::Digest;
use crate::domain::head::Head;
use crate::domain::id::TenantId;
use crate::domain::judgement::{Choice, JudgedFinding, ScopeState};
use crate::seal::canonical;

/// A document without `settings`, which are the view's.
pub type Document = serde_json::Map<String, serde_json::Value>;

impl View {
    /// SHA-256 of the merged table in canonical form.
    pub fn settings_digest(&self) -> Digest {
        *self.settings_digest.get_or_init(|| digest(&self.settings))
    }

    /// Whether `word` stands somewhere in the merged table as a whole text.
    pub fn names(&self, word: &str) -> bool {
        let all = || {
            let mut words = HashSet::new();
            gather(&self.settings, &mut words);
            words
        };
        self.settings_words.get_or_init(all).contains(word)
    }

    /// The short texts in the rules that the table does not name: what rules may compare with.
    pub fn literals(&self) -> BTreeSet<&str> {
        let all = self.unit.files.iter().flat_map(|file| &file.words).map(String::as_str);
        all.filter(|word| !self.names(word)).collect()
    }

    /// Whether a layer settles what detectors disagree on, so that the conflict point is asked.
    pub fn settles(&self) -> bool {
        self.unit.answers(Ask::Settle)
    }

    /// Which parts of a verdict's document the layers see.
    pub fn verdict_reads(&self) -> Vec<&'static str> {
        self.unit.verdict_parts.names()
    }

    /// Which parts of a verdict's document the floor sees.
    pub fn floor_reads(&self) -> Vec<&'static str> {
        self.unit.floor_parts.names()
    }
}

fn gather(value: &serde_json::Value, into: &mut HashSet<String>) {
    use serde_json::Value;
    match value {
        Value::String(text) => _ = into.insert(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// SHA-256 of what plan documents say of detectors, in canonical form.
pub fn facts_digest(detectors: &[DetectorFacts]) -> Digest {
    digest(&document::detectors(detectors, &Default::default()))
}

/// What plan documents say of detectors.
pub fn facts_plain(detectors: &[DetectorFacts]) -> serde_json::Value {
    let shown = document::detectors(detectors, &Default::default());
    serde_json::to_value(shown).unwrap_or_default()
}

/// What plan documents say of detectors, with how they fare where the policy reads that.
pub fn facts_shown(detectors: &[DetectorFacts], head: &Head) -> serde_json::Value {
    let shown = document::detectors(detectors, &head.opt_in.health);
    serde_json::to_value(shown).unwrap_or_default()
}

/// The documents of a plan, a conflict, a verdict and the floor's verdict, as the rules see them.
pub fn documents(
    (view, head): (&View, &Head),
    (detectors, strategy): (&[DetectorFacts], Option<&StrategyFacts<'_>>),
    scopes: &std::collections::BTreeMap<Category, ScopeState>,
    facts: &VerdictFacts<'_>,
) -> [serde_json::Value; 4] {
    [
        document::plan(view, head, detectors, strategy),
        document::conflict(view, head, scopes),
        document::verdict(view, head, facts),
        document::floor_verdict(view, head, facts),
    ]
    .map(|document| serde_json::to_value(document).unwrap_or_default())
}

fn digest(value: &impl serde::Serialize) -> Digest {
    // Tables and facts are plain data with finite numbers.
    Digest::of(&canonical(value).unwrap_or_default())
}

impl Evaluator {
    /// As [`Evaluator::plan`], on a recorded document. Never memoised.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn plan_again(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        document: Document,
    ) -> Result<PlanAnswer, Failure> {
        view.intact(Point::Plan)?;
        let floor = Value::from(serde_json::Value::from(document.clone()));
        let asks = vec![(Ask::Plan, with_settings(view, document)), (Ask::FloorPlan, floor)];
        answer::whole_plan(view, self.ask(view, tenant, Point::Plan, asks).await?.0)
    }

    /// As [`Evaluator::floor_plan`], on a recorded document.
    ///
    /// # Errors
    /// When the floor fails.
    pub async fn floor_plan_again(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        document: Document,
    ) -> Result<FloorPlan, Failure> {
        let asks = vec![(Ask::FloorPlan, Value::from(serde_json::Value::from(document)))];
        let held = self.ask(view, tenant, Point::Plan, asks).await?.0;
        answer::floor_plan(&held.into_iter().next().unwrap_or_default())
    }

    /// As [`Evaluator::settle`], on a recorded document.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn settle_again(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        document: Document,
    ) -> Result<std::collections::BTreeMap<Category, Choice>, Failure> {
        view.intact(Point::Conflict)?;
        let asks = vec![(Ask::Settle, with_settings(view, document))];
        let held = self.ask(view, tenant, Point::Conflict, asks).await?.0;
        answer::settle(&held.into_iter().flatten().collect::<Vec<_>>())
    }

    /// As [`Evaluator::verdict`], on recorded documents of the layers and of the floor.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn verdict_again(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        (document, floor): (Document, Document),
        (findings, raw): (&[JudgedFinding], &[JudgedFinding]),
    ) -> Result<VerdictAnswer, Failure> {
        view.intact(Point::Verdict)?;
        let asks = vec![(Ask::Verdict, with_settings(view, document))];
        let held = self.ask(view, tenant, Point::Verdict, asks).await?.0;
        let held = held.into_iter().next().unwrap_or_default();
        let mut answer = answer::verdict(&view.unit, &held, findings)?;
        let floor = self.floor_verdict_again(view, tenant, floor, raw).await?;
        answer.rules.floor = floor.rules.floor;
        Ok(answer)
    }

    /// As [`Evaluator::floor_verdict`], on a recorded document.
    ///
    /// # Errors
    /// When the floor fails.
    pub async fn floor_verdict_again(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        document: Document,
        raw: &[JudgedFinding],
    ) -> Result<VerdictAnswer, Failure> {
        let asks = vec![(Ask::FloorVerdict, Value::from(serde_json::Value::from(document)))];
        let held = self.ask(view, tenant, Point::Verdict, asks).await?.0;
        let mut answer = VerdictAnswer::default();
        let held = held.into_iter().next().unwrap_or_default();
        answer::floor_verdict(&view.unit, &held, raw, &mut answer)?;
        Ok(answer)
    }
}

fn with_settings(view: &View, document: Document) -> Value {
    let mut value = Value::from(serde_json::Value::from(document));
    if let Ok(fields) = value.as_object_mut() {
        fields.insert("settings".into(), view.settings_value.clone());
    }
    value
}
