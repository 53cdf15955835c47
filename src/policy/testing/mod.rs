//! Runs the `test_*` rules of `*_test.rego`: every layer is there, `with` replaces the input, and
//! a failure names the statement that did not hold, with its values.

pub mod coverage;
mod join;
mod why;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use regorus::{Engine, Value};
use serde::Serialize;

use self::coverage::FileCoverage;
use self::join::Module;
use super::layers::{self, Layers};
use super::load::on_large_stack;
use super::rego::{self, Parsed};
use super::{Limits, Source, fault, graph, teach, unit};
use crate::yaml::fault::Fault;

pub use why::{Why, Witness};

/// How much longer than an evaluation a test may take.
const TEST_FACTOR: u32 = 20;

/// Which tests to run: asked with the file below `policies/` and the rule's name.
pub type Wanted<'a> = &'a (dyn Fn(&str, &str) -> bool + Sync);

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The rule held.
    Passed,
    /// It did not.
    Failed,
    /// A `todo_test_*` rule: not run.
    Todo,
    /// It could not be evaluated.
    Error,
}

impl Status {
    /// Whether the run fails by it.
    pub fn is_bad(self) -> bool {
        matches!(self, Status::Failed | Status::Error)
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Todo => "todo",
            Status::Error => "error",
        }
    }
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// Below `policies/`.
    pub file: String,
    /// 1-based line of the rule.
    pub line: u32,
    /// 1-based column of the rule.
    pub column: u32,
    /// The rule, or the name of the case.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// In microseconds.
    pub duration_us: u64,
    /// Why it could not be evaluated, or what differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The statements that did not hold, one for each definition of the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<Why>,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Report {
    /// Sorted by file and position.
    pub tests: Vec<Test>,
    /// Of every file that is not a test, by the tests that ran.
    pub coverage: Vec<FileCoverage>,
}

/// Runs the tests among `sources`.
///
/// # Errors
/// Every fault of the files that keeps them from being run.
pub fn run(sources: &[Source], wanted: Wanted<'_>, limits: &Limits) -> Result<Report, Vec<Fault>> {
    on_large_stack(|| {
        let suite = Suite::read(sources, limits)?;
        suite.run(wanted, limits)
    })
    .unwrap_or_else(|| Err(vec![fault("policies", (0, 0), "tests", "the tests panicked", "")]))
}

/// Every test file parsed, or its faults. Live layers are not looked at.
pub(super) fn files(sources: &[Source], limits: &Limits) -> Result<Vec<Parsed>, Vec<Fault>> {
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| is_test(&source.path)) {
        match read(source, limits) {
            Ok(file) => files.push(file),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

fn is_test(path: &str) -> bool {
    path.ends_with("_test.rego") && !path.split('/').any(|part| part.starts_with('.'))
}

fn read(source: &Source, limits: &Limits) -> Result<Parsed, Vec<Fault>> {
    let text: Arc<str> = layers::text(&source.path, &source.bytes, limits)?.into();
    let file = rego::parse_test(&source.path, &text, limits)?;
    let mut package: Vec<String> = source.path.split('/').map(str::to_owned).collect();
    package.pop();
    if let Some(last) = package.last_mut() {
        last.push_str("_test");
    }
    if file.package == package {
        return Ok(file);
    }
    let at = rego::position(&file.module.package.span);
    let message = format!("the package `{}` is not the folder's tests", file.package.join("."));
    let hint = format!("write `package {}`", layers::package(&package));
    Err(vec![fault(&source.path, at, "wrong_package", message, &hint)])
}

struct Suite {
    layers: Layers,
    tests: Vec<Parsed>,
}

impl Suite {
    fn read(sources: &[Source], limits: &Limits) -> Result<Suite, Vec<Fault>> {
        let layers = layers::read(sources, limits, &BTreeMap::new());
        let tests = files(sources, limits);
        match (layers, tests) {
            (Ok(layers), Ok(tests)) => Ok(Suite { layers, tests }),
            (layers, tests) => Err(layers.err().into_iter().chain(tests.err()).flatten().collect()),
        }
    }

    fn files(&self) -> Vec<&Parsed> {
        let live = self.layers.values().flat_map(|layer| &layer.files).map(AsRef::as_ref);
        live.chain(&self.tests).collect()
    }

    fn run(&self, wanted: Wanted<'_>, limits: &Limits) -> Result<Report, Vec<Fault>> {
        let files = self.files();
        let tables: Vec<Vec<&str>> = self
            .layers
            .keys()
            .map(|path| path.iter().map(String::as_str).chain(["settings"]).collect())
            .collect();
        graph::check(&files, &tables)?;
        let duplicates: Vec<Fault> = duplicates(&self.tests).collect();
        if !duplicates.is_empty() {
            return Err(duplicates);
        }
        let modules = join::packages(&files)?;
        let mut engine = self.engine(&modules, limits)?;
        engine.set_enable_coverage(true);
        let mut report = Report::default();
        for file in &self.tests {
            for (name, at) in named(file).filter(|(name, _)| wanted(&file.file, name)) {
                report.tests.push(one(&mut engine, (file, name, at), &modules));
            }
        }
        let live = files.iter().filter(|file| !file.file.ends_with("_test.rego"));
        report.coverage = coverage::measure(&engine, &modules, live.copied());
        self.explain(&mut report, &modules, limits);
        Ok(report)
    }

    fn engine(
        &self,
        modules: &BTreeMap<Vec<String>, Module>,
        limits: &Limits,
    ) -> Result<Engine, Vec<Fault>> {
        let wrong = |message: String| vec![placed(&message, "compile", modules)];
        catch_unwind(AssertUnwindSafe(|| {
            let mut engine = unit::engine(limits.eval_timeout * TEST_FACTOR).map_err(wrong)?;
            for module in modules.values() {
                let added = engine.add_policy(module.name.clone(), module.text.clone());
                added.map_err(|error| wrong(error.to_string()))?;
            }
            engine.add_data(self.data()).map_err(|error| wrong(error.to_string()))?;
            // One evaluation makes the engine check what parsing does not.
            engine.eval_query("true".into(), false).map_err(|error| wrong(error.to_string()))?;
            Ok(engine)
        }))
        .unwrap_or_else(|_| Err(wrong("the compiler fails on these modules".into())))
    }

    /// Each layer's table at `data.<layer>.settings`, as plain OPA would load it.
    fn data(&self) -> Value {
        let mut data = serde_json::json!({});
        for (path, layer) in &self.layers {
            let mut node = &mut data;
            for part in path.iter().map(String::as_str).chain(["settings"]) {
                let serde_json::Value::Object(fields) = node else { break };
                node = fields.entry(part).or_insert_with(|| serde_json::json!({}));
            }
            *node = serde_json::Value::Object(layer.settings.clone());
        }
        data.into()
    }

    /// Adds to each failed test what did not hold.
    fn explain(
        &self,
        report: &mut Report,
        modules: &BTreeMap<Vec<String>, Module>,
        limits: &Limits,
    ) {
        for file in &self.tests {
            let own = |test: &&mut Test| test.file == *file.file && test.status == Status::Failed;
            for test in report.tests.iter_mut().filter(own) {
                test.why = why::explain(file, &test.name, |probes| {
                    let mut with_probes = BTreeMap::new();
                    for (path, module) in modules {
                        let mut text = module.text.clone();
                        if *path == file.package {
                            text.push_str(probes);
                        }
                        with_probes.insert(path.clone(), module.with_text(text));
                    }
                    self.engine(&with_probes, limits).ok()
                });
            }
        }
    }
}

/// The test rules of a file, once for each name.
fn named(file: &Parsed) -> impl Iterator<Item = (&str, (u32, u32))> {
    let mut seen = BTreeSet::new();
    file.rules.iter().filter_map(move |rule| {
        let [name] = rule.name.as_slice() else { return None };
        let is_test = name.starts_with("test_") || name.starts_with("todo_test_");
        let first = is_test && rule.arity.is_none() && seen.insert(name);
        first.then_some((name.as_str(), rule.position))
    })
}

/// A second definition is an alternative: the test would pass when either holds.
fn duplicates(files: &[Parsed]) -> impl Iterator<Item = Fault> {
    let mut seen = BTreeSet::new();
    files.iter().flat_map(|file| file.rules.iter().map(move |rule| (file, rule))).filter_map(
        move |(file, rule)| {
            let name = rule.name.first().filter(|name| name.starts_with("test_"))?;
            if seen.insert((&file.package, name)) {
                return None;
            }
            let message = format!("`{name}` is written twice; it passes when either holds");
            let hint = "give the second test a name of its own";
            Some(fault(&file.file, rule.position, "duplicate_test", message, hint))
        },
    )
}

fn one(
    engine: &mut Engine,
    (file, name, at): (&Parsed, &str, (u32, u32)),
    modules: &BTreeMap<Vec<String>, Module>,
) -> Test {
    let start = Instant::now();
    let (status, message) = match name.starts_with("todo_") {
        true => (Status::Todo, None),
        false => {
            let path = format!("data.{}.{name}", layers::package(&file.package));
            match catch_unwind(AssertUnwindSafe(|| engine.eval_rule(path))) {
                Ok(Ok(Value::Undefined | Value::Bool(false))) => (Status::Failed, None),
                Ok(Ok(_)) => (Status::Passed, None),
                Ok(Err(error)) => {
                    let fault = placed(&error.to_string(), "evaluation", modules);
                    let place = format!("{}:{}:{}", fault.file, fault.line, fault.column);
                    (Status::Error, Some(format!("{place}: {}", fault.message)))
                }
                Err(_) => (Status::Error, Some("the evaluation panicked".to_owned())),
            }
        }
    };
    Test {
        file: file.file.to_string(),
        line: at.0,
        column: at.1,
        name: name.to_owned(),
        status,
        duration_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        message,
        why: Vec::new(),
    }
}

/// The engine's message, placed in the author's file.
fn placed(message: &str, code: &'static str, modules: &BTreeMap<Vec<String>, Module>) -> Fault {
    let fault = rego::located("policies", message, code);
    let Some(module) = modules.values().find(|module| module.name == fault.file) else {
        return fault;
    };
    let mut fault = teach::explain(fault, &module.text);
    if let Some((file, line)) = module.origin(fault.line) {
        (fault.file, fault.line) = (file.to_owned(), line);
    }
    fault
}
