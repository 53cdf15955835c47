//! Trial evaluations of a unit before it may go live.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Duration;

use regorus::{Engine, Value};

use super::background::{self, Thread};
use super::entry::Ask;
use super::rego::Parsed;
use super::unit::{Held, Kept, Unit, evaluate, looks_below, point_of, timer};
use super::workshop::Workshop;
use super::{
    Failure, FailureKind, FloorPlan, Limits, STACK_BYTES, VerdictAnswer, answer, fault, sample,
    shape, teach,
};
use crate::domain::category::Category;
use crate::domain::digest::Digest;
use crate::domain::finding::Severity;
use crate::domain::judgement::JudgedFinding;
use crate::yaml::fault::Fault;

/// How much longer than an evaluation a probe may take before the policy counts as endless.
pub(super) const PROBE_FACTOR: u32 = 20;

/// How much of an evaluation's limit a new overlay may work in a trial.
const MARGIN: u32 = 2;

/// How hard a unit is tried before it goes live.
pub(super) enum Probing {
    /// It may take many times an evaluation's limit: the machine may be busy.
    Files,
    /// The same, and it may work no more than half of that limit.
    Fresh,
    /// It was accepted before, so that taking long is no more than a doubt. The floor's demands, in
    /// case the trial does not get to them.
    Accepted(FloorPlan),
}
/// One evaluation before a unit goes live.
pub(super) struct Trial {
    pub(super) ask: Ask,
    pub(super) findings: Vec<JudgedFinding>,
    pub(super) is_wild: bool,
    pub(super) document: Value,
}

/// What a document's findings are to those who check an answer: their number and categories.
pub(super) fn stand_ins(document: &serde_json::Value) -> Vec<JudgedFinding> {
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

/// Each trial with its answer and how long the thread worked at it.
pub(super) type Results = Vec<(Trial, Result<Vec<Held>, Failure>, Duration)>;

/// Evaluates on a thread of its own, which is left behind if nothing can stop it.
pub(super) fn probe_apart(
    unit: Digest,
    mut engine: Engine,
    trials: Vec<Trial>,
    (limit, fresh): (Duration, bool),
) -> Result<(Engine, Results), Vec<Fault>> {
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
        let sound = engine.clone();
        if let (true, Some(first)) = (fresh, trials.first()) {
            // The first evaluation prepares the engine, which no rule is to blame for.
            let _ = evaluate(&mut engine, first.ask, first.document.clone(), limit);
        }
        for trial in trials {
            let before = background::worked();
            let held = evaluate(&mut engine, trial.ask, trial.document.clone(), limit);
            if held.as_ref().is_err_and(|failure| failure.kind == FailureKind::Panic) {
                // It still believes that it is inside a rule.
                engine = sound.clone();
            }
            // One endless loop says enough.
            let late = held.as_ref().is_err_and(|failure| failure.kind == FailureKind::TimeOut);
            results.push((trial, held, background::worked().saturating_sub(before)));
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

impl Unit {
    /// Tries every rule that is asked on documents made for it.
    pub(super) fn probe(
        &mut self,
        settings: &serde_json::Value,
        workshop: &Workshop<'_>,
        probing: Probing,
    ) -> Result<(), Vec<Fault>> {
        let (limits, floor) = (workshop.limits, self.lone_floor());
        let floors = || workshop.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = floor.and_then(|floor| floors().get(&floor).cloned());
        let trials = self.trials(settings, tried.is_some());
        let (fresh, accepted) = match probing {
            Probing::Files => (false, false),
            Probing::Fresh => (true, false),
            Probing::Accepted(floor) => {
                self.floor = floor;
                (false, true)
            }
        };
        let Kept::Always(engine) = &self.engine else { return Ok(()) };
        let limit = limits.eval_timeout * PROBE_FACTOR;
        match probe_apart(self.digest, engine.as_ref().clone(), trials, (limit, fresh)) {
            Ok((engine, results)) => {
                self.engine = Kept::Always(Box::new(engine));
                self.judge(results, limits, (fresh, accepted))?;
            }
            Err(faults) if accepted => self.doubts = faults,
            Err(faults) => return Err(faults),
        }
        match (tried, floor) {
            (Some(tried), _) => self.floor = tried,
            (None, Some(floor)) if self.doubts.is_empty() => {
                floors().insert(floor, self.floor.clone());
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// What the trials say against the unit.
    fn judge(
        &mut self,
        results: Results,
        limits: &Limits,
        (fresh, accepted): (bool, bool),
    ) -> Result<(), Vec<Fault>> {
        let most = limits.eval_timeout / MARGIN;
        let mut faults = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (trial, held, worked) in results {
            let empty = seen.insert(trial.ask);
            let checked = held.and_then(|held| {
                let checked = self.check(&trial, &held, empty);
                checked.map_err(|failure| self.located(&trial, &held, failure))
            });
            let failure = match checked {
                Ok(()) if fresh && worked > most => {
                    faults.insert(self.slow(trial, most));
                    continue;
                }
                Ok(()) => continue,
                Err(failure) => failure,
            };
            if trial.is_wild && failure.kind == FailureKind::BadValue {
                continue;
            }
            if accepted && failure.kind == FailureKind::TimeOut {
                self.doubts.push(self.late(limits.eval_timeout * PROBE_FACTOR));
                continue;
            }
            faults.insert(self.probe_fault(trial, &failure, limits));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.into_iter().collect()) }
    }

    /// Documents for every rule that is asked; not for the floor's where these were tried before.
    fn trials(&self, settings: &serde_json::Value, floor_is_tried: bool) -> Vec<Trial> {
        let words: BTreeSet<String> =
            self.files.iter().flat_map(|file| file.words.iter().cloned()).collect();
        let mut trials = Vec::new();
        for ask in self.asks.iter().filter(|ask| !(floor_is_tried && ask.of_floor())) {
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
        trials
    }

    /// What the floor's answers depend on beside their documents; `None` where it looks below.
    fn lone_floor(&self) -> Option<Digest> {
        if looks_below(&self.files) {
            return None;
        }
        let table = self.floor_settings.to_string();
        let files = self.files.iter().filter(|file| file.package == ["floor"]);
        let texts = files.flat_map(|file| [file.file.as_bytes(), file.text.as_bytes()]);
        Some(Digest::of_all(std::iter::once(table.as_bytes()).chain(texts)))
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
        let blamed = match failure.kind {
            FailureKind::TimeOut => self.slow_rule(trial.ask, trial.document, limits.eval_timeout),
            FailureKind::Panic => self.failing_rule(trial.ask, trial.document, limits.eval_timeout),
            FailureKind::Error
            | FailureKind::BadValue
            | FailureKind::Budget
            | FailureKind::Overlay => None,
        };
        if let Some(fault) = blamed {
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
    fn slow_rule(&self, ask: Ask, document: Value, limit: Duration) -> Option<Fault> {
        let (file, name, at) = self.blamed(ask, document, limit, FailureKind::TimeOut)?;
        let limit = limit.as_millis();
        let message = format!("`{name}` takes longer than {limit} ms");
        let hint = format!("bound the loops of `{name}`");
        Some(fault(&file.file, at, FailureKind::TimeOut.probe_code(), message, &hint))
    }

    /// The first asked rule at which the engine itself fails.
    fn failing_rule(&self, ask: Ask, document: Value, limit: Duration) -> Option<Fault> {
        let (file, name, at) = self.blamed(ask, document, limit, FailureKind::Panic)?;
        let message = format!("a builtin fails beyond repair in `{name}`");
        let hint = format!("write `{name}` so that it compares single values, not documents");
        Some(fault(&file.file, at, FailureKind::Panic.probe_code(), message, &hint))
    }

    /// The first asked rule whose evaluation by itself fails in this way.
    fn blamed(
        &self,
        ask: Ask,
        document: Value,
        limit: Duration,
        kind: FailureKind,
    ) -> Option<(&Parsed, &'static str, (u32, u32))> {
        let Kept::Always(engine) = &self.engine else { return None };
        let mut engine = engine.as_ref().clone();
        engine.set_execution_timer_config(timer(limit));
        engine.set_input(document);
        let asked = self.files.iter().flat_map(|file| ask.rules().iter().map(move |n| (file, *n)));
        asked
            .filter(|(file, _)| (file.package == ["floor"]) == ask.of_floor())
            .filter_map(|(file, name)| Some((file.as_ref(), name, shape::place(file, name)?)))
            .find(|(file, name, _)| {
                // A panic may leave an engine unfit for the next rule.
                let mut engine = engine.clone();
                let path = shape::path(file, name);
                let ended = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(path)));
                match ended {
                    Ok(Ok(_)) => false,
                    Ok(Err(error)) => {
                        kind == FailureKind::TimeOut
                            && error.downcast_ref::<regorus::LimitError>().is_some()
                    }
                    Err(_) => kind == FailureKind::Panic,
                }
            })
    }

    /// A trial that works longer than a new overlay may.
    fn slow(&self, trial: Trial, limit: Duration) -> Fault {
        let found = self.slow_rule(trial.ask, trial.document, limit);
        let mut found = found.unwrap_or_else(|| self.late(limit));
        found.message += ", half of what an evaluation may take";
        found
    }

    /// A trial that took longer than `limit`, placed in the overlay.
    fn late(&self, limit: Duration) -> Fault {
        let own =
            self.files.iter().find(|file| file.package.first().is_some_and(|p| p == "tenants"));
        let file = own.map_or("policies", |file| &file.file);
        let message = format!("a trial takes longer than {} ms", limit.as_millis());
        let code = FailureKind::TimeOut.probe_code();
        fault(file, (1, 1), code, message, "bound the loops of its rules")
    }
}
