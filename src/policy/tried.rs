//! One evaluation of what need not be live, for authors: away from the threads that serve, and with
//! the lines that it went through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use regorus::Value;
use serde::Serialize;

use super::entry::Ask;
use super::evaluator::{asks, evaluated};
use super::rego::Parsed;
use super::testing::coverage::{self, FileCoverage};
use super::unit::{self, Held};
use super::{Evaluated, Failure, FailureKind, Limits, Point, View, validate};
use crate::domain::head::Head;

/// For compiling once more, beside the evaluation itself.
const COMPILE_MAX: Duration = Duration::from_secs(5);

/// An answer, and how the tenant's own files came to it.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The answer.
    #[serde(flatten)]
    pub evaluated: Evaluated,
    /// Lines of the tenant's own Rego that were evaluated, and those that were not.
    pub coverage: Vec<FileCoverage>,
}

/// Evaluates a point on a document of the caller's making; absent head fields and `settings` come from
/// `head` and the view. Blocks.
///
/// # Errors
/// When any layer fails.
pub fn tried(
    view: &Arc<View>,
    point: Point,
    head: &Head,
    input: serde_json::Map<String, serde_json::Value>,
    limits: &Limits,
) -> Result<Tried, Failure> {
    view.intact(point)?;
    let asks = asks(view, point, head, input);
    let (view, limit) = (Arc::clone(view), limits.eval_timeout);
    let patience = COMPILE_MAX + limit * 4;
    let late = |(_, message)| Err(Failure::new(point, FailureKind::TimeOut, message));
    validate::apart(patience, move || ask(&view, point, asks, limit)).unwrap_or_else(late)
}

fn ask(
    view: &View,
    point: Point,
    asks: Vec<(Ask, Value)>,
    limit: Duration,
) -> Result<Tried, Failure> {
    let unit = &view.unit;
    let files: Vec<&Parsed> = unit.files.iter().map(AsRef::as_ref).collect();
    let mut engine = unit::compile(&files, &unit.entry, &unit.floor_settings, limit)
        .map_err(|_| Failure::new(point, FailureKind::Error, "the rules could not be compiled"))?;
    engine.set_enable_coverage(true);
    let begun = Instant::now();
    let wanted = asks.into_iter().map(|(ask, document)| match unit.answers(ask) {
        true => unit::evaluate(&mut engine, ask, document, limit),
        false => Ok(Vec::new()),
    });
    let held = wanted.collect::<Result<Vec<Vec<Held>>, Failure>>()?;
    let eval_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let own = files.into_iter().filter(|file| file.package.first().is_some_and(|p| p == "tenants"));
    let coverage = coverage::direct(&engine, own);
    Ok(Tried { evaluated: evaluated(view, point, &held, eval_us), coverage })
}
