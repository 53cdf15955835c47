//! Asks units, through the memo where the same document was asked before, else on the threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regorus::Value;

use super::answer;
use super::document;
use super::entry::Ask;
use super::explain;
use super::keys::{PlanKey, VerdictKey, Wanted, hash_facts, hash_head, hash_text};
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
use crate::domain::head::Head;
use crate::domain::id::TenantId;
use crate::domain::judgement::{Choice, ScopeState};
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

/// What a point is asked on a document of the caller's making.
pub(super) fn asks(
    view: &View,
    point: Point,
    head: &Head,
    input: serde_json::Map<String, serde_json::Value>,
) -> Vec<(Ask, Value)> {
    let mut document = document::with_head(head, &view.settings_value);
    for (key, value) in input {
        document.insert(key.as_str().into(), value.into());
    }
    let document = Value::from(document);
    let floor = document::floor(&document);
    match point {
        Point::Plan => vec![(Ask::Plan, document), (Ask::FloorPlan, floor)],
        Point::Conflict => vec![(Ask::Settle, document)],
        Point::Verdict => vec![(Ask::Verdict, document), (Ask::FloorVerdict, floor)],
    }
}

/// What an author is shown of it.
pub(super) fn evaluated(view: &View, point: Point, held: &[Vec<Held>], eval_us: u64) -> Evaluated {
    let explain = explain::explain(view, held);
    let result = answer::merged(held, point);
    Evaluated { result, layers: view.layers().to_vec(), eval_us, explain }
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
        view.intact(Point::Plan)?;
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
        let held = self.ask_near(view, &head.tenant.id, Point::Plan, asks).await?;
        let answer = answer::whole_plan(view, held)?;
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
        view.intact(Point::Conflict)?;
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
        view.intact(Point::Verdict)?;
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
        view.intact(point)?;
        let asks = asks(view, point, head, input);
        let (held, eval_us) = self.ask(view, &head.tenant.id, point, asks).await?;
        Ok(evaluated(view, point, &held, eval_us))
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
        view.intact(Point::Plan)?;
        let document = document::plan(view, head, detectors, strategy);
        let floor = document::floor(&document);
        let asks = vec![(Ask::Plan, document), (Ask::FloorPlan, floor)];
        let held = self.ask(view, &head.tenant.id, Point::Plan, asks).await?.0;
        Ok(explain::explain(view, &held))
    }

    /// Which rules of which layer hold for scopes whose voters disagree.
    ///
    /// # Errors
    /// When any layer fails.
    pub async fn explain_settle(
        &self,
        view: &Arc<View>,
        head: &Head,
        scopes: &BTreeMap<Category, ScopeState>,
    ) -> Result<Vec<Explained>, Failure> {
        view.intact(Point::Conflict)?;
        let asks = vec![(Ask::Settle, document::conflict(view, head, scopes))];
        let held = self.ask(view, &head.tenant.id, Point::Conflict, asks).await?.0;
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
        view.intact(Point::Verdict)?;
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
    pub(super) async fn ask(
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
