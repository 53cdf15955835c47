//! A unit: one distinct set of Rego modules, compiled, probed, and evaluated with limits.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::document::Parts;
use super::entry::{self, Ask};
use super::inputs::{self, Reads};
use super::prepared::Prepared;
use super::probe::{PROBE_FACTOR, Probing};
use super::rego::{self, Fields, Parsed};
use super::workshop::Workshop;
use super::{
    ANSWER_LEVELS_MAX, Failure, FailureKind, FloorPlan, Limits, Point, bounded, fault, graph,
    shape, teach,
};
use crate::assets;
use crate::domain::digest::Digest;
use crate::yaml::fault::Fault;

/// Work units between two looks at the clock.
const TIMER_INTERVAL: u32 = 64;

/// A compiled set of modules.
pub(super) struct Unit {
    pub(super) digest: Digest,
    /// Layers that were asked, earliest first; the floor is the last.
    pub(super) layers: Vec<String>,
    pub(super) asks: BTreeSet<Ask>,
    /// The opt-in facts that its rules name.
    pub(super) reads: Reads,
    /// What the verdict's documents must hold, for the layers and for the floor.
    pub(super) verdict_parts: Parts,
    pub(super) floor_parts: Parts,
    /// Whether small documents may be evaluated on the caller's own thread.
    pub(super) is_inline: bool,
    /// The floor's demands on an empty request.
    pub(super) floor: FloorPlan,
    /// The floor's table.
    pub(super) floor_settings: serde_json::Value,
    /// The module that asks, to compile the unit again.
    pub(super) entry: String,
    pub(super) engine: Kept,
    /// Who wrote each file, to name the layer of a failure.
    pub(super) files: Vec<Arc<Parsed>>,
    /// What its trial left open.
    pub(super) doubts: Vec<Fault>,
}

/// Where a unit's engine is.
pub(super) enum Kept {
    Always(Box<Engine>),
    /// Here while it is among those used last.
    While(Arc<Prepared>),
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
pub(super) struct Recipe {
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
        parts: Recipe,
        settings: &serde_json::Value,
        workshop: &Workshop<'_>,
        probing: Probing,
    ) -> Result<Unit, Vec<Fault>> {
        let limits = workshop.limits;
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
        let engine = compile(&all, &entry, &parts.floor, limits.eval_timeout)?;
        let layers = parts.layers.iter().map(|(path, _)| path.join(".")).collect();
        let (digest, floor_settings) = (parts.digest, parts.floor);
        let (floor, doubts) = (FloorPlan::default(), Vec::new());
        let (verdict_parts, floor_parts) = verdict_parts(&files);
        let own = files.iter().any(|file| file.package.first().is_some_and(|at| at == "tenants"));
        let mut unit = Unit {
            digest,
            layers,
            asks,
            reads,
            verdict_parts,
            floor_parts,
            is_inline: files.iter().all(|file| is_shipped(file)),
            floor,
            floor_settings,
            entry,
            engine: Kept::Always(Box::new(engine)),
            files,
            doubts,
        };
        unit.probe(settings, workshop, probing)?;
        if own {
            let shelf = Kept::While(Arc::clone(&workshop.prepared));
            if let Kept::Always(engine) = std::mem::replace(&mut unit.engine, shelf) {
                workshop.prepared.put(digest, *engine);
            }
        }
        Ok(unit)
    }

    /// Evaluates every ask that a layer has rules for; the others answer with nothing.
    pub(super) fn ask_all(
        &self,
        asks: Vec<(Ask, Value)>,
        limit: Duration,
    ) -> Result<Vec<Vec<Held>>, Failure> {
        let asks = asks.into_iter();
        asks.map(|(ask, document)| match self.answers(ask) {
            true => self.ask(ask, document, limit),
            false => Ok(Vec::new()),
        })
        .collect()
    }

    /// Evaluates one ask on one document. Never panics, never takes much over `limit`.
    pub(super) fn ask(
        &self,
        ask: Ask,
        document: Value,
        limit: Duration,
    ) -> Result<Vec<Held>, Failure> {
        let shelf = match &self.engine {
            Kept::Always(engine) => return evaluate(&mut engine.clone(), ask, document, limit),
            Kept::While(shelf) => shelf,
        };
        if let Some(mut engine) = shelf.get(self.digest) {
            return evaluate(&mut engine, ask, document, limit);
        }
        let all: Vec<&Parsed> = self.files.iter().map(AsRef::as_ref).collect();
        let mut engine = compile(&all, &self.entry, &self.floor_settings, limit).map_err(|_| {
            let message = "the rules could not be compiled again";
            Failure::new(point_of(ask), FailureKind::Error, message)
        })?;
        let held = evaluate(&mut engine, ask, document, limit);
        // An engine that panicked still believes that it is inside a rule.
        if !held.as_ref().is_err_and(|failure| failure.kind == FailureKind::Panic) {
            shelf.put(self.digest, engine);
        }
        held
    }
}

/// Whether this very file is of a bundle that the product ships: its rules are known to be small.
fn is_shipped(file: &Parsed) -> bool {
    if file.package.first().is_some_and(|root| root == "tenants") {
        return false;
    }
    let shipped = assets::read(&format!("policies/{}", file.file));
    shipped.is_some_and(|bytes| *bytes == *file.text.as_bytes())
}

/// The parts that layers and floor read, from the fields of `input` that any rule of theirs names.
fn verdict_parts(files: &[Arc<Parsed>]) -> (Parts, Parts) {
    let fields = |of_floor: bool| {
        let mut fields = Fields::none();
        let files = files.iter().filter(|file| !of_floor || file.package == ["floor"]);
        files.flat_map(|file| &file.rules).for_each(|rule| fields.add(&rule.fields));
        fields
    };
    (Parts::of(&fields(false)), Parts::of(&fields(!looks_below(files))))
}

/// Whether the floor's rules refer to other layers.
pub(super) fn looks_below(files: &[Arc<Parsed>]) -> bool {
    let floor = files.iter().filter(|file| file.package == ["floor"]);
    let mut refs = floor.flat_map(|file| &file.rules).flat_map(|rule| &rule.refs);
    refs.any(|found| found.absolute && found.path.first().is_none_or(|name| name != "floor"))
}

pub(super) fn point_of(ask: Ask) -> Point {
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
        for rule in file.rules.iter().filter(|rule| rule.fields.holds("settings")) {
            let message = format!("`{}` of the floor reads `input.settings`", rule.name.join("."));
            let hint = "read `data.floor.settings`";
            faults.insert(fault(&file.file, rule.position, "floor_reads_settings", message, hint));
        }
    }
    if faults.is_empty() { Ok(reads) } else { Err(faults.into_iter().collect()) }
}

pub(super) fn compile(
    files: &[&Parsed],
    entry: &str,
    floor: &serde_json::Value,
    eval_timeout: Duration,
) -> Result<Engine, Vec<Fault>> {
    let one = |message: String| {
        let found = rego::located("policies", &message, "compile");
        vec![match files.iter().find(|known| *known.file == *found.file) {
            Some(file) => teach::explain(found, &file.text),
            None => found,
        }]
    };
    catch_unwind(AssertUnwindSafe(|| {
        let mut engine = engine(eval_timeout * PROBE_FACTOR).map_err(one)?;
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

pub(super) fn timer(limit: Duration) -> ExecutionTimerConfig {
    let check_interval = NonZeroU32::new(TIMER_INTERVAL).unwrap_or(NonZeroU32::MIN);
    ExecutionTimerConfig { limit, check_interval }
}

pub(super) fn evaluate(
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
