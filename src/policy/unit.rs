//! A unit: one distinct set of Rego modules, compiled, probed, and evaluated with limits.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::background::{self, Thread};
use super::entry::{self, Ask};
use super::inputs::{self, Reads};
use super::rego::{self, Parsed};
use super::{
    ANSWER_LEVELS_MAX, Failure, FailureKind, FloorPlan, Limits, Point, STACK_BYTES, VerdictAnswer,
    answer, bounded, fault, graph, sample, shape, teach,
};
use crate::domain::category::Category;
use crate::domain::digest::Digest;
use crate::domain::finding::Severity;
use crate::domain::judgement::JudgedFinding;
use crate::yaml::fault::Fault;

/// Work units between two looks at the clock.
const TIMER_INTERVAL: u32 = 64;

/// How much longer than an evaluation a probe may take before the policy counts as endless.
const PROBE_FACTOR: u32 = 20;

/// A compiled set of modules.
pub(super) struct Unit {
    pub(super) digest: Digest,
    /// Layers that were asked, earliest first; the floor is the last.
    pub(super) layers: Vec<String>,
    pub(super) asks: BTreeSet<Ask>,
    /// The opt-in facts that its rules name.
    pub(super) reads: Reads,
    /// The floor's demands on an empty request.
    pub(super) floor: FloorPlan,
    /// The floor's table.
    pub(super) floor_settings: serde_json::Value,
    engine: Engine,
    /// Who wrote each file, to name the layer of a failure.
    pub(super) files: Vec<Arc<Parsed>>,
}

/// What one rule of one layer answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    /// Index into the unit's layers.
    pub(super) layer: usize,
    pub(super) rule: String,
    pub(super) value: Value,
}

/// What a unit is made of.
pub(super) struct Parts {
    pub(super) digest: Digest,
    /// Layers that are asked, earliest first, with their files; the floor is the last.
    pub(super) layers: Vec<(Vec<String>, Vec<Arc<Parsed>>)>,
    /// Files of bundles that are only read.
    pub(super) read: Vec<Arc<Parsed>>,
    /// Whether a layer may compute keys of `input`.
    pub(super) reads_all: bool,
    /// The floor's table.
    pub(super) floor: serde_json::Value,
}

impl Unit {
    /// Checks, compiles and probes. Call it on a thread with a large stack.
    pub(super) fn build(
        parts: Parts,
        settings: &serde_json::Value,
        limits: &Limits,
    ) -> Result<Unit, Vec<Fault>> {
        let asked = parts.layers.iter().flat_map(|(_, files)| files);
        let files: Vec<Arc<Parsed>> = asked.chain(&parts.read).cloned().collect();
        let all: Vec<&Parsed> = files.iter().map(AsRef::as_ref).collect();
        let layers: Vec<(Vec<String>, Vec<&Parsed>)> = parts
            .layers
            .iter()
            .map(|(path, files)| (path.clone(), files.iter().map(AsRef::as_ref).collect()))
            .collect();
        let reads = static_checks(&all, parts.reads_all, limits)?;
        let kinds: Vec<Fault> =
            layers.iter().flat_map(|(_, files)| files).copied().flat_map(shape::check).collect();
        if !kinds.is_empty() {
            return Err(kinds);
        }
        let (entry, asks) = entry::generate(&layers);
        let engine = compile(&all, &entry, &parts.floor, limits)?;
        let layers = parts.layers.iter().map(|(path, _)| path.join(".")).collect();
        let floor = FloorPlan::default();
        let (digest, floor_settings) = (parts.digest, parts.floor);
        let mut unit = Unit { digest, layers, asks, reads, floor, floor_settings, engine, files };
        unit.probe(settings, limits)?;
        Ok(unit)
    }

    /// Evaluates one ask on one document. Never panics, never takes much over `limit`.
    pub(super) fn ask(
        &self,
        ask: Ask,
        document: Value,
        limit: Duration,
    ) -> Result<Vec<Held>, Failure> {
        let mut engine = self.engine.clone();
        evaluate(&mut engine, ask, document, limit)
    }

    /// Tries every rule that is asked on documents made for it.
    fn probe(&mut self, settings: &serde_json::Value, limits: &Limits) -> Result<(), Vec<Fault>> {
        let words: BTreeSet<String> =
            self.files.iter().flat_map(|file| file.words.iter().cloned()).collect();
        let mut trials = Vec::new();
        for ask in &self.asks {
            for sample in sample::samples(point_of(*ask), &words) {
                let mut document = sample.document;
                if let (false, Some(fields)) = (ask.of_floor(), document.as_object_mut()) {
                    fields.insert("settings".into(), settings.clone());
                }
                let findings = stand_ins(&document);
                let document = Value::from(document);
                trials.push(Trial { ask: *ask, findings, is_wild: sample.is_wild, document });
            }
        }
        let limit = limits.eval_timeout * PROBE_FACTOR;
        let (engine, results) =
            probe_apart(self.digest, std::mem::take(&mut self.engine), trials, limit)?;
        self.engine = engine;
        let mut faults = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (trial, held) in results {
            let empty = seen.insert(trial.ask);
            let checked = held.and_then(|held| {
                let checked = self.check(&trial, &held, empty);
                checked.map_err(|failure| self.located(&trial, &held, failure))
            });
            let Err(failure) = checked else { continue };
            if trial.is_wild && failure.kind == FailureKind::BadValue {
                continue;
            }
            faults.insert(self.probe_fault(trial, &failure, limits));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.into_iter().collect()) }
    }

    /// Whether the answer of a trial would be taken; keeps what the floor asks on the empty one.
    fn check(&mut self, trial: &Trial, held: &[Held], empty: bool) -> Result<(), Failure> {
        match trial.ask {
            Ask::Plan => answer::plan(held).map(drop),
            Ask::Settle => answer::settle(held).map(drop),
            Ask::Verdict => answer::verdict(self, held, &trial.findings).map(drop),
            Ask::FloorVerdict => {
                let mut answer = VerdictAnswer::default();
                answer::floor_verdict(self, held, &trial.findings, &mut answer)
            }
            Ask::FloorPlan => {
                let floor = answer::floor_plan(held)?;
                if empty {
                    self.floor = floor;
                }
                Ok(())
            }
        }
    }
}

impl Unit {
    /// The failure at the first rule whose answer would be refused by itself.
    fn located(&mut self, trial: &Trial, held: &[Held], failure: Failure) -> Failure {
        let wrong =
            held.iter().find(|one| self.check(trial, std::slice::from_ref(one), false).is_err());
        let place = wrong.and_then(|wrong| {
            let layer = self.layers.get(wrong.layer)?;
            let mut files = self.files.iter().filter(|file| file.package.join(".") == *layer);
            files.find_map(|file| Some((file, shape::place(file, &wrong.rule)?)))
        });
        match place {
            Some((file, (line, column))) if failure.file.is_empty() => {
                Failure { file: file.file.to_string(), line, column, ..failure }
            }
            _ => failure,
        }
    }

    /// A failed trial as its author reads it.
    fn probe_fault(&self, trial: Trial, failure: &Failure, limits: &Limits) -> Fault {
        let code = failure.kind.probe_code();
        if failure.kind == FailureKind::TimeOut
            && let Some(fault) = self.slow_rule(trial.ask, trial.document, limits)
        {
            return fault;
        }
        let file = if failure.file.is_empty() { "policies" } else { &failure.file };
        let hint = "make it hold for every document of policies/schemas";
        let at = (failure.line, failure.column);
        let found = fault(file, at, code, failure.message.clone(), hint);
        match self.files.iter().find(|known| *known.file == *found.file) {
            Some(file) => teach::explain(found, &file.text),
            None => found,
        }
    }

    /// The first asked rule that takes too long by itself.
    fn slow_rule(&self, ask: Ask, document: Value, limits: &Limits) -> Option<Fault> {
        let mut engine = self.engine.clone();
        engine.set_execution_timer_config(timer(limits.eval_timeout));
        engine.set_input(document);
        let asked = self.files.iter().flat_map(|file| ask.rules().iter().map(move |n| (file, *n)));
        let (file, name, at) = asked
            .filter(|(file, _)| (file.package == ["floor"]) == ask.of_floor())
            .filter_map(|(file, name)| Some((file, name, shape::place(file, name)?)))
            .find(|(file, name, _)| {
                engine
                    .eval_rule(shape::path(file, name))
                    .is_err_and(|error| error.downcast_ref::<regorus::LimitError>().is_some())
            })?;
        let limit = limits.eval_timeout.as_millis();
        let message = format!("`{name}` takes longer than {limit} ms");
        let hint = format!("bound the loops of `{name}`");
        Some(fault(&file.file, at, FailureKind::TimeOut.probe_code(), message, &hint))
    }
}

/// One evaluation before a unit goes live.
struct Trial {
    ask: Ask,
    findings: Vec<JudgedFinding>,
    is_wild: bool,
    document: Value,
}

/// What a document's findings are to those who check an answer: their number and categories.
fn stand_ins(document: &serde_json::Value) -> Vec<JudgedFinding> {
    let findings = document.get("findings").and_then(serde_json::Value::as_array);
    let categories = findings.into_iter().flatten().filter_map(|finding| {
        finding.get("category").and_then(|name| Category::parse(name.as_str()?).ok())
    });
    let finding = |category| JudgedFinding {
        id: 0,
        category,
        label: "".into(),
        score: 1.0,
        severity: Severity::default(),
        detectors: Vec::new(),
        place: None,
        pointer: None,
        view: None,
        attributes: BTreeMap::new(),
        standing: true,
    };
    categories.map(finding).collect()
}

type Probed = (Engine, Vec<(Trial, Result<Vec<Held>, Failure>)>);

/// Evaluates on a thread of its own, which is left behind if nothing can stop it.
fn probe_apart(
    unit: Digest,
    mut engine: Engine,
    trials: Vec<Trial>,
    limit: Duration,
) -> Result<Probed, Vec<Fault>> {
    let refused = |code, message| {
        vec![fault("policies", (0, 0), code, message, "bound loops and numbers in the last change")]
    };
    if !background::may_try(unit) {
        let message = "these rules, or too many others, could not be stopped when they were tried";
        return Err(refused("probe_timeout", message));
    }
    let (send, receive) = std::sync::mpsc::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let probe = move || {
        let _ = tell.send(Thread::current());
        let mut results = Vec::new();
        for trial in trials {
            let held = evaluate(&mut engine, trial.ask, trial.document.clone(), limit);
            // One endless loop says enough.
            let late = held.as_ref().is_err_and(|failure| failure.kind == FailureKind::TimeOut);
            results.push((trial, held));
            let _ = send.send(None);
            if late {
                break;
            }
        }
        // Nobody listens any more if it took too long.
        let _ = send.send(Some((engine, results)));
    };
    let builder = std::thread::Builder::new().name("policy-probe".into()).stack_size(STACK_BYTES);
    if builder.spawn(probe).is_err() {
        return Err(refused("probe_error", "no thread could be started to try these rules"));
    }
    loop {
        match receive.recv_timeout(limit * 2) {
            Ok(Some(probed)) => return Ok(probed),
            Ok(None) => {}
            Err(_) => {
                told.try_iter().for_each(Thread::lower);
                background::is_stuck(unit);
                let message = "an evaluation of these rules cannot be stopped";
                return Err(refused("probe_timeout", message));
            }
        }
    }
}

fn point_of(ask: Ask) -> Point {
    match ask {
        Ask::Plan | Ask::FloorPlan => Point::Plan,
        Ask::Settle => Point::Conflict,
        Ask::Verdict | Ask::FloorVerdict => Point::Verdict,
    }
}

fn static_checks(files: &[&Parsed], reads_all: bool, limits: &Limits) -> Result<Reads, Vec<Fault>> {
    let nesting: u64 = files.iter().map(|file| file.nesting).sum();
    if let (true, Some(last)) = (nesting > limits.nesting_sum_max, files.last()) {
        return Err(vec![super::scan::nesting(&last.file, limits)]);
    }
    let graph = graph::check(files, &[vec!["floor", "settings"]])?;
    let mut faults = BTreeSet::new();
    let mut reads = if reads_all { inputs::all_reads() } else { Reads::new() };
    for ask in [Ask::Plan, Ask::Settle, Ask::Verdict] {
        let rules = graph.reachable(ask.rules());
        let (wrong, named) = inputs::check(point_of(ask), &rules, files, reads_all);
        faults.extend(wrong);
        reads.extend(named);
    }
    for file in files.iter().filter(|file| file.package == ["floor"]) {
        for rule in file.rules.iter().filter(|rule| rule.reads_settings) {
            let message = format!("`{}` of the floor reads `input.settings`", rule.name.join("."));
            let hint = "read `data.floor.settings`";
            faults.insert(fault(&file.file, rule.position, "floor_reads_settings", message, hint));
        }
    }
    if faults.is_empty() { Ok(reads) } else { Err(faults.into_iter().collect()) }
}

fn compile(
    files: &[&Parsed],
    entry: &str,
    floor: &serde_json::Value,
    limits: &Limits,
) -> Result<Engine, Vec<Fault>> {
    let one = |message: String| {
        let found = rego::located("policies", &message, "compile");
        vec![match files.iter().find(|known| *known.file == *found.file) {
            Some(file) => teach::explain(found, &file.text),
            None => found,
        }]
    };
    catch_unwind(AssertUnwindSafe(|| {
        let mut engine = engine(limits.eval_timeout * PROBE_FACTOR).map_err(one)?;
        for file in files {
            engine
                .add_policy(file.file.to_string(), file.text.to_string())
                .map_err(|error| one(error.to_string()))?;
        }
        engine
            .add_policy("entry.rego".into(), entry.to_owned())
            .map_err(|error| one(error.to_string()))?;
        let data = serde_json::json!({ "floor": { "settings": floor } });
        engine.add_data(data.into()).map_err(|error| one(error.to_string()))?;
        Ok(engine)
    }))
    .unwrap_or_else(|_| Err(one("the compiler fails on these modules".into())))
}

/// An empty engine that is strict about builtin errors and guarded against unbounded work.
pub(super) fn engine(limit: Duration) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(timer(limit));
    bounded::install(&mut engine)?;
    Ok(engine)
}

fn timer(limit: Duration) -> ExecutionTimerConfig {
    let check_interval = NonZeroU32::new(TIMER_INTERVAL).unwrap_or(NonZeroU32::MIN);
    ExecutionTimerConfig { limit, check_interval }
}

fn evaluate(
    engine: &mut Engine,
    ask: Ask,
    document: Value,
    limit: Duration,
) -> Result<Vec<Held>, Failure> {
    let point = point_of(ask);
    let result = catch_unwind(AssertUnwindSafe(|| {
        engine.set_execution_timer_config(timer(limit));
        engine.set_input(document);
        engine.eval_rule(format!("data.entry.{}", ask.rule())).map_err(|error| {
            let late = error.downcast_ref::<regorus::LimitError>().is_some();
            (late, error.to_string())
        })
    }));
    match result {
        Ok(Ok(value)) if !bounded::is_flat(&value, ANSWER_LEVELS_MAX) => {
            // It must not leave this thread: dropping it needs a large stack.
            Err(Failure::new(point, FailureKind::BadValue, "a rule answers with too deep a value"))
        }
        Ok(Ok(value)) => triples(&value)
            .ok_or_else(|| Failure::new(point, FailureKind::Error, "the entry gives no answer")),
        Ok(Err((late, message))) => {
            let late = late || message.contains("exceeded time limit");
            let place = rego::located("", &message, "");
            let kind = if late { FailureKind::TimeOut } else { FailureKind::Error };
            Err(Failure {
                point,
                kind,
                message: place.message,
                file: place.file,
                line: place.line,
                column: place.column,
            })
        }
        Err(_) => Err(Failure::new(point, FailureKind::Panic, "the evaluation panicked")),
    }
}

/// Every triple, or `None`: a lost one could loosen the answer.
fn triples(value: &Value) -> Option<Vec<Held>> {
    let held = value.as_set().ok()?.iter().map(|entry| {
        let mut parts = entry.as_array().ok()?.iter();
        let layer = usize::try_from(parts.next()?.as_u64().ok()?).ok()?;
        let rule = parts.next()?.as_string().ok()?.as_ref().to_owned();
        Some(Held { layer, rule, value: parts.next()?.clone() })
    });
    held.collect()
}

/// Units by content address, for reuse over reloads.
pub(super) type Units = BTreeMap<Digest, Arc<Unit>>;
