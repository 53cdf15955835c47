//! Checks modules that are not live: `POST /policies/validate`, mode B.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use regorus::Value;
use serde::{Deserialize, Serialize};

use super::background::Thread;
use super::rego::{self, Parsed};
use super::{Limits, STACK_BYTES, bounded, fault, graph, lint, teach};
use crate::yaml::fault::Fault;

/// A rule with an input and the value it must give.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Path of the rule, such as `data.demo.block`.
    pub rule: String,
    /// The document.
    #[serde(default)]
    pub input: serde_json::Value,
    /// The value wanted; `null` also stands for undefined. Sets are compared as sorted lists.
    pub expect: serde_json::Value,
}

/// How one case ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResult {
    /// The rule.
    pub rule: String,
    /// Whether it gave what was wanted.
    pub passed: bool,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<serde_json::Value>,
    /// Why it gave nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Validation {
    /// No errors, and every case passed.
    pub is_valid: bool,
    /// Every fault.
    pub errors: Vec<Fault>,
    /// What would load but is probably not meant.
    pub warnings: Vec<Fault>,
    /// Every rule that the modules define, without `data`.
    pub rules: Vec<String>,
    /// In the order of the cases.
    pub case_results: Vec<CaseResult>,
}

/// How long a validation may take beside its cases.
const VALIDATION_MAX: Duration = Duration::from_secs(5);
/// Validations under way, with those that never end.
static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);
const LEFT_BEHIND_MAX: usize = 16;

/// Packages that modules of a caller may not name.
const RESERVED: [&str; 3] = ["base", "floor", "entry"];

/// Checks modules given as (path for messages, text).
pub fn validate_modules(
    modules: &[(String, String)],
    data: Option<&serde_json::Value>,
    cases: &[Case],
    limits: &Limits,
) -> Validation {
    let (modules, data, cases) = (modules.to_vec(), data.cloned(), cases.to_vec());
    let limits = limits.clone();
    let patience = VALIDATION_MAX + limits.eval_timeout * u32::try_from(cases.len()).unwrap_or(0);
    apart(patience, move || check(&modules, data.as_ref(), &cases, &limits)).unwrap_or_else(
        |(code, message)| Validation {
            errors: vec![fault("modules", (0, 0), code, message, "bound loops and numbers")],
            ..Validation::default()
        },
    )
}

/// Runs on a thread of its own, which is left behind at the lowest priority if nothing can stop it.
pub(super) fn apart<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, (&'static str, &'static str)> {
    if LEFT_BEHIND.load(Ordering::Relaxed) >= LEFT_BEHIND_MAX {
        return Err(("busy", "too many modules could not be stopped when they were tried"));
    }
    let (send, receive) = std::sync::mpsc::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let work = move || {
        let _ = tell.send(Thread::current());
        if send.send(work()).is_err() {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
        }
    };
    let builder = std::thread::Builder::new().name("policy-validate".into());
    if builder.stack_size(STACK_BYTES).spawn(work).is_err() {
        return Err(("engine", "no thread could be started to check these modules"));
    }
    // Counted first: a thread that ends late takes itself off.
    LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
    let answer = receive.recv_timeout(patience);
    if matches!(answer, Ok(_) | Err(RecvTimeoutError::Disconnected)) {
        LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
    }
    answer.map_err(|error| match error {
        RecvTimeoutError::Disconnected => ("engine", "the engine fails on these modules"),
        RecvTimeoutError::Timeout => {
            told.try_iter().for_each(Thread::lower);
            ("timeout", "an evaluation of these modules cannot be stopped")
        }
    })
}

fn check(
    modules: &[(String, String)],
    data: Option<&serde_json::Value>,
    cases: &[Case],
    limits: &Limits,
) -> Validation {
    let mut validation = Validation::default();
    let mut files: Vec<Parsed> = Vec::new();
    for (path, text) in modules {
        match rego::parse(path, &Arc::from(text.as_str()), limits) {
            Ok(file) => files.push(file),
            Err(faults) => validation.errors.extend(faults),
        }
    }
    let all: Vec<&Parsed> = files.iter().collect();
    for file in &files {
        let reserved = file.package.first().is_some_and(|top| RESERVED.contains(&top.as_str()));
        if reserved {
            let at = rego::position(&file.module.package.span);
            let message = "the package is reserved for the operator";
            let hint = "name a package of your own";
            validation.errors.push(fault(&file.file, at, "reserved_package", message, hint));
        }
        for rule in &file.rules {
            validation.rules.push([file.package.join("."), rule.name.join(".")].join("."));
        }
    }
    validation.rules.sort();
    validation.rules.dedup();
    if let (true, Err(faults)) =
        (validation.errors.is_empty(), graph::check(&all, &table_paths(data)))
    {
        validation.errors.extend(faults);
    }
    if validation.errors.is_empty() {
        validation.warnings = lint::of_modules(&all);
        match engine(&all, data, limits) {
            Ok(engine) => {
                validation.case_results = cases.iter().map(|case| run(&engine, case)).collect();
            }
            Err(fault) => validation.errors.push(fault),
        }
    }
    validation.is_valid =
        validation.errors.is_empty() && validation.case_results.iter().all(|case| case.passed);
    validation
}

/// Top-level keys of the data, which references may name.
fn table_paths(data: Option<&serde_json::Value>) -> Vec<Vec<&str>> {
    let keys = data.and_then(|data| data.as_object()).into_iter().flat_map(|data| data.keys());
    keys.map(|key| vec![key.as_str()]).collect()
}

fn engine(
    files: &[&Parsed],
    data: Option<&serde_json::Value>,
    limits: &Limits,
) -> Result<regorus::Engine, Fault> {
    let wrong = |message: String| {
        let found = rego::located("modules", &message, "compile");
        match files.iter().find(|known| *known.file == *found.file) {
            Some(file) => teach::explain(found, &file.text),
            None => found,
        }
    };
    let mut engine = super::unit::engine(limits.eval_timeout).map_err(wrong)?;
    for file in files {
        engine
            .add_policy(file.file.to_string(), file.text.to_string())
            .map_err(|error| wrong(error.to_string()))?;
    }
    if let Some(data) = data {
        engine.add_data(data.clone().into()).map_err(|error| wrong(error.to_string()))?;
    }
    // One evaluation makes the engine check what parsing does not.
    engine.eval_query("true".into(), false).map_err(|error| wrong(error.to_string()))?;
    Ok(engine)
}

fn run(engine: &regorus::Engine, case: &Case) -> CaseResult {
    let mut engine = engine.clone();
    engine.set_input(Value::from(case.input.clone()));
    let (actual, error) = match engine
        .eval_rule(format!("data.{}", case.rule.strip_prefix("data.").unwrap_or(&case.rule)))
    {
        Ok(Value::Undefined) => (None, None),
        Ok(value) if bounded::is_small(&value) => (serde_json::to_value(&value).ok(), None),
        Ok(_) => (None, Some("the value is too large to show".to_owned())),
        Err(error) => (None, Some(rego::located("", &error.to_string(), "").message)),
    };
    let wanted = &case.expect;
    let passed = error.is_none() && actual.as_ref().unwrap_or(&serde_json::Value::Null) == wanted;
    CaseResult { rule: case.rule.clone(), passed, actual, error }
}
