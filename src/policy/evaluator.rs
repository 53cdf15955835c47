//! Asks units, through the memo where the same document was asked before, else on the threads.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regorus::Value;

use super::answer;
use super::document;
use super::entry::Ask;
use super::explain;
use super::load::View;
use super::memo::{Memo, MemoCounts};
use super::threads::{Spent, Threads};
use super::unit::Held;
use super::watch::{Late, Watch};
use super::{
    DetectorFacts, Evaluated, Explained, Failure, FailureKind, FloorPlan, Limits, PlanAnswer,
    Point, StrategyFacts, VerdictAnswer, VerdictFacts,
};
use crate::domain::category::Category;
use crate::domain::coverage::Coverage;
use crate::domain::digest::Digest;
use crate::domain::head::Head;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::judgement::{Choice, JudgedFinding, ScopeState};
use crate::domain::plan::{Execution, StopOn};
use crate::domain::report::{Report, Status};
use crate::metrics::Metrics;

/// Threads and memo; survives reloads.
pub struct Evaluator {
    limits: Limits,
    threads: Threads,
    watch: Watch,
    plans: Memo<PlanKey, PlanAnswer>,
    verdicts: Memo<VerdictKey, VerdictAnswer>,
    /// Of the floor alone, whose document differs less.
    floors: Memo<VerdictKey, VerdictAnswer>,
    metrics: Option<Arc<Metrics>>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("limits", &self.limits).finish_non_exhaustive()
    }
}

struct PlanKey {
    view: Digest,
    head: Head,
    detectors: Arc<[DetectorFacts]>,
    strategy: Option<(String, Vec<DetectorName>, Execution, StopOn)>,
}

/// What a verdict's documents hold. What no rule reads is in neither.
struct VerdictKey {
    view: Digest,
    head: Head,
    /// `None` asks the floor alone.
    findings: Option<Vec<JudgedFinding>>,
    raw: Vec<JudgedFinding>,
    scopes: Option<BTreeMap<Category, ScopeState>>,
    results: Option<Vec<ResultKey>>,
    coverage: Option<Coverage>,
}

/// How many times the evaluation's limit a caller waits for thread and answer together.
const PATIENCE_FACTOR: u32 = 10;
/// How many times that limit a job of two evaluations runs before its thread is replaced.
const STUCK_FACTOR: u32 = 4;

/// How long the caller's own thread may be held up.
const INLINE_LIMIT: Duration = Duration::from_millis(2);

type Answered = Result<(Vec<Vec<Held>>, u64), Failure>;

/// The one answer to a waiting caller.
struct Reply {
    point: Point,
    send: Mutex<Option<tokio::sync::oneshot::Sender<Answered>>>,
}

impl Reply {
    fn give(&self, answer: Answered) {
        let send = self.send.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The caller may have gone.
        let _ = send.map(|send| send.send(answer));
    }
}

impl Late for Reply {
    fn is_late(&self) {
        let message = "the evaluation is stuck, or waits behind one that is";
        self.give(Err(Failure::new(self.point, FailureKind::TimeOut, message)));
    }
}

/// The part of a report that documents hold.
#[derive(PartialEq)]
struct ResultKey {
    detector: DetectorName,
    status: Status,
    label: Option<Arc<str>>,
    score: Option<f64>,
}

impl Evaluator {
    /// Starts the threads.
    pub fn new(limits: Limits) -> Self {
        Self {
            threads: Threads::new(limits.threads, limits.queue, limits.eval_timeout * STUCK_FACTOR),
            watch: Watch::new(limits.eval_timeout * PATIENCE_FACTOR),
            plans: Memo::new(limits.memo_entries / 4),
            verdicts: Memo::new(limits.memo_entries / 2),
            floors: Memo::new(limits.memo_entries / 4),
            metrics: None,
            limits,
        }
    }

    /// Records looks into the memo and the time of evaluations.
    #[must_use]
    pub fn recording(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn looked<T>(&self, point: Point, found: Option<T>) -> Option<T> {
        let metrics = self.metrics.iter();
        metrics.for_each(|metrics| metrics.policy_memo(point.name(), found.is_some()));
        found
    }

    /// Which detectors to ask. Share `detectors` between requests: the same `Arc` compares at once.
    ///
    /// # Errors
    /// When any layer fails; never an allow.
    pub async fn plan(
        &self,
        view: &Arc<View>,
        head: &Head,
        detectors: &Arc<[DetectorFacts]>,
        strategy: Option<&StrategyFacts<'_>>,
    ) -> Result<Arc<PlanAnswer>, Failure> {
        let hash = self.plans.hash(|hasher| {
            hash_head(view, head, hasher);
            detectors.iter().for_each(|facts| hash_text(hasher, facts.name.as_str()));
            strategy.iter().for_each(|strategy| hash_text(hasher, strategy.event));
        });
        let known = self.plans.get(hash, |key| key.is_of(view, head, detectors, strategy));
        if let Some(answer) = self.looked(Point::Plan, known) {
            return Ok(answer);
        }
        let document = document::plan(view, head, detectors, strategy);
        let floor = document::floor(&document);
        let asks = vec![(Ask::Plan, document), (Ask::FloorPlan, floor)];
        let mut held = self.ask_near(view, &head.tenant.id, Point::Plan, asks).await?.into_iter();
        let mut answer = answer::plan(&held.next().unwrap_or_default())?;
        answer.floor = answer::floor_plan(&held.next().unwrap_or_default())?;
        answer.mode =
            view.settings().get("mode").and_then(|mode| serde_json::from_value(mode.clone()).ok());
        let answer = Arc::new(answer);
        if head.opt_in.content.is_none() {
            let key = PlanKey::of(view, head, detectors, strategy);
            self.plans.put(&head.tenant.id, hash, key, answer.clone());
        }
        Ok(answer)
    }

    /// What the floor alone demands, for when the layers above it failed. Never memoised.
    ///
    /// # Errors
    /// When the floor fails too.
    pub async fn floor_plan(
        &self,
        view: &Arc<View>,
        head: &Head,
        detectors: &[DetectorFacts],
    ) -> Result<FloorPlan, Failure> {
        let document = document::plan(view, head, detectors, None);
        let asks = vec![(Ask::FloorPlan, document::floor(&document))];
        let held = self.ask(view, &head.tenant.id, Point::Plan, asks).await?.0;
        answer::floor_plan(&held.into_iter().next().unwrap_or_default())
    }

    /// How to settle the scopes whose voters disagree; empty at once where no layer cares.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn settle(
        &self,
        view: &Arc<View>,
        head: &Head,
        scopes: &BTreeMap<Category, ScopeState>,
    ) -> Result<BTreeMap<Category, Choice>, Failure> {
        if scopes.is_empty() || !view.unit.answers(Ask::Settle) {
            return Ok(BTreeMap::new());
        }
        let asks = vec![(Ask::Settle, document::conflict(view, head, scopes))];
        let held = self.ask(view, &head.tenant.id, Point::Conflict, asks).await?.0;
        answer::settle(&held.into_iter().flatten().collect::<Vec<_>>())
    }

    /// What to do.
    ///
    /// # Errors
    /// When any layer fails; never an allow.
    pub async fn verdict(
        &self,
        view: &Arc<View>,
        head: &Head,
        facts: &VerdictFacts<'_>,
    ) -> Result<Arc<VerdictAnswer>, Failure> {
        let whole = Wanted::whole(view);
        let hash = self.verdicts.hash(|hasher| hash_facts(view, head, facts, whole, hasher));
        let known = self.verdicts.get(hash, |key| key.is_of(view, head, facts, whole));
        if let Some(answer) = self.looked(Point::Verdict, known) {
            return Ok(answer);
        }
        let wanted = Wanted::floor(view);
        let floor_hash = self.floors.hash(|hasher| hash_facts(view, head, facts, wanted, hasher));
        let floor = self.floors.get(floor_hash, |key| key.is_of(view, head, facts, wanted));
        let mut asks = vec![(Ask::Verdict, document::verdict(view, head, facts))];
        if floor.is_none() {
            asks.push((Ask::FloorVerdict, document::floor_verdict(view, head, facts)));
        }
        let mut held =
            self.ask_near(view, &head.tenant.id, Point::Verdict, asks).await?.into_iter();
        let findings = &facts.judgement.findings;
        let mut answer = answer::verdict(&view.unit, &held.next().unwrap_or_default(), findings)?;
        let keeps = head.opt_in.content.is_none();
        let floor = match floor {
            Some(floor) => floor,
            None => {
                let mut floor = VerdictAnswer::default();
                let held = held.next().unwrap_or_default();
                answer::floor_verdict(&view.unit, &held, facts.raw, &mut floor)?;
                let floor = Arc::new(floor);
                if keeps {
                    let key = VerdictKey::of(view, head, facts, wanted);
                    self.floors.put(&head.tenant.id, floor_hash, key, floor.clone());
                }
                floor
            }
        };
        answer.rules.floor = floor.rules.floor.clone();
        answer.degraded.extend(floor.degraded.iter().cloned());
        answer.degraded.sort();
        answer.degraded.dedup();
        let answer = Arc::new(answer);
        if keeps {
            let key = VerdictKey::of(view, head, facts, whole);
            self.verdicts.put(&head.tenant.id, hash, key, answer.clone());
        }
        Ok(answer)
    }

    /// Evaluates a point on a document of the caller's making, for authors; absent head fields
    /// and `settings` come from `head` and the view. Never memoised.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn evaluate(
        &self,
        view: &Arc<View>,
        point: Point,
        head: &Head,
        input: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Evaluated, Failure> {
        let mut document = document::with_head(head, &view.settings_value);
        for (key, value) in input {
            document.insert(key.as_str().into(), value.into());
        }
        let document = Value::from(document);
        let floor = document::floor(&document);
        let asks = match point {
            Point::Plan => vec![(Ask::Plan, document), (Ask::FloorPlan, floor)],
            Point::Conflict => vec![(Ask::Settle, document)],
            Point::Verdict => vec![(Ask::Verdict, document), (Ask::FloorVerdict, floor)],
        };
        let (held, eval_us) = self.ask(view, &head.tenant.id, point, asks).await?;
        let explain = explain::explain(view, &held);
        let result = answer::merged(&held, point);
        Ok(Evaluated { result, layers: view.layers().to_vec(), eval_us, explain })
    }

    /// Which rules of which layer hold for a plan. Asks again, whatever the memo holds.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn explain_plan(
        &self,
        view: &Arc<View>,
        head: &Head,
        detectors: &[DetectorFacts],
        strategy: Option<&StrategyFacts<'_>>,
    ) -> Result<Vec<Explained>, Failure> {
        let document = document::plan(view, head, detectors, strategy);
        let floor = document::floor(&document);
        let asks = vec![(Ask::Plan, document), (Ask::FloorPlan, floor)];
        let held = self.ask(view, &head.tenant.id, Point::Plan, asks).await?.0;
        Ok(explain::explain(view, &held))
    }

    /// Which rules of which layer hold for a verdict. Asks again, whatever the memo holds.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn explain_verdict(
        &self,
        view: &Arc<View>,
        head: &Head,
        facts: &VerdictFacts<'_>,
    ) -> Result<Vec<Explained>, Failure> {
        let asks = vec![
            (Ask::Verdict, document::verdict(view, head, facts)),
            (Ask::FloorVerdict, document::floor_verdict(view, head, facts)),
        ];
        let held = self.ask(view, &head.tenant.id, Point::Verdict, asks).await?.0;
        Ok(explain::explain(view, &held))
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How often plans and verdicts were in the memo.
    pub fn memo_counts(&self, point: Point) -> MemoCounts {
        match point {
            Point::Plan => self.plans.counts(),
            Point::Verdict => self.verdicts.counts(),
            Point::Conflict => MemoCounts::default(),
        }
    }

    /// The same without changing threads, where the product's own rules meet a small document and
    /// a small table; if that takes longer than it should, on a thread after all.
    async fn ask_near(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        point: Point,
        asks: Vec<(Ask, Value)>,
    ) -> Result<Vec<Vec<Held>>, Failure> {
        if view.is_small_for(&asks) {
            let start = Instant::now();
            let held = view.unit.ask_all(asks.clone(), self.limits.eval_timeout.min(INLINE_LIMIT));
            if held.as_ref().map_or_else(|failure| failure.kind != FailureKind::TimeOut, |_| true) {
                let metrics = self.metrics.iter();
                metrics.for_each(|metrics| metrics.policy_eval(point.name(), start.elapsed()));
                return held;
            }
        }
        Ok(self.ask(view, tenant, point, asks).await?.0)
    }

    /// Evaluates every ask that a layer has rules for, in order, on one thread; the others answer
    /// with nothing. Also the time in the engine in microseconds.
    async fn ask(
        &self,
        view: &Arc<View>,
        tenant: &TenantId,
        point: Point,
        asks: Vec<(Ask, Value)>,
    ) -> Result<(Vec<Vec<Held>>, u64), Failure> {
        if asks.iter().all(|(ask, _)| !view.unit.answers(*ask)) {
            return Ok((asks.iter().map(|_| Vec::new()).collect(), 0));
        }
        let (limit, view) = (self.limits.eval_timeout, view.clone());
        let (send, receive) = tokio::sync::oneshot::channel();
        let reply = Arc::new(Reply { point, send: Mutex::new(Some(send)) });
        let late: Arc<dyn Late> = reply.clone();
        self.watch.add(&late);
        let unit = view.unit.digest;
        let job = move || {
            let start = Instant::now();
            let held = view.unit.ask_all(asks, limit);
            let late = held.as_ref().is_err_and(|failure| failure.kind == FailureKind::TimeOut);
            let spent = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            reply.give(held.map(|held| (held, spent)));
            if late { Spent::TimedOut } else { Spent::InTime }
        };
        if !self.threads.submit(tenant, unit, Box::new(job)) {
            let message = "no policy thread is free for this tenant";
            return Err(Failure::new(point, FailureKind::Budget, message));
        }
        let gone = |_| Failure::new(point, FailureKind::Panic, "the policy thread ended");
        let answer = receive.await.map_err(gone)?;
        drop(late);
        if let (Some(metrics), Ok((_, spent))) = (&self.metrics, &answer) {
            metrics.policy_eval(point.name(), Duration::from_micros(*spent));
        }
        answer
    }
}

impl PlanKey {
    fn of(
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

    fn is_of(
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
struct Wanted {
    judged: bool,
    scopes: bool,
    results: bool,
    coverage: bool,
}

impl Wanted {
    /// What layers and floor read together.
    fn whole(view: &View) -> Self {
        let (layers, floor) = (view.unit.verdict_parts, view.unit.floor_parts);
        Self {
            judged: true,
            scopes: layers.scopes() || floor.scopes(),
            results: layers.results || floor.results,
            coverage: layers.coverage || floor.coverage,
        }
    }

    fn floor(view: &View) -> Self {
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
    fn of(view: &View, head: &Head, facts: &VerdictFacts<'_>, wanted: Wanted) -> Self {
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

    fn is_of(&self, view: &View, head: &Head, facts: &VerdictFacts<'_>, wanted: Wanted) -> bool {
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

fn hash_text(hasher: &mut dyn Hasher, text: &str) {
    hasher.write(text.as_bytes());
    hasher.write_u8(0xff);
}

fn hash_head(view: &View, head: &Head, hasher: &mut dyn Hasher) {
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

fn hash_facts(
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
