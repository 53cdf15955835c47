//! Runs the Rego tests that come with a stored overlay, before it is stored, and looks for what is
//! probably not meant.
//!
//! They see what the overlay's unit may see: every bundle, and no other tenant.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Files, Overlay};
use crate::policy::testing::{self, Status, Test, Why};
use crate::policy::{Limits, Source, lint};
use crate::yaml::fault::{Fault, FaultKind};

/// Tests of one overlay.
const TESTS_MAX: usize = 100;
/// For all of them.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Shared files that are read once more to look for doubts; beyond them nobody looks.
const LINTED_FILES_MAX: usize = 200;

/// A fault for each test of `overlay` that does not pass among `files`.
pub(super) fn failures(files: &Files, overlay: &Overlay, limits: &Limits) -> Vec<Fault> {
    let folder = overlay.folder();
    let own: Vec<Source> = overlay.sources().collect();
    if !own.iter().any(|source| source.path.ends_with("_test.rego")) {
        return Vec::new();
    }
    let sources: Vec<Source> = shared(files).cloned().chain(own).collect();
    let (started, asked) = (Instant::now(), AtomicUsize::new(0));
    let left = AtomicUsize::new(0);
    let wanted = |_: &str, _: &str| {
        let room = asked.fetch_add(1, Ordering::Relaxed) < TESTS_MAX;
        let runs = room && started.elapsed() < TIME_MAX;
        left.fetch_add(usize::from(!runs), Ordering::Relaxed);
        runs
    };
    let report = match testing::run(&sources, &wanted, limits) {
        Ok(report) => report,
        Err(faults) => return faults,
    };
    let mut faults: Vec<Fault> =
        report.tests.iter().filter(|test| test.status.is_bad()).map(failed).collect();
    let left = left.into_inner();
    if left > 0 {
        let message = format!(
            "{left} tests were not run: at most {TESTS_MAX} tests may take {} s together",
            TIME_MAX.as_secs()
        );
        let hint = "keep the slow ones beside the files of your project".to_owned();
        faults.push(fault(folder.trim_end_matches('/'), (0, 0), "too_many_tests", message, hint));
    }
    faults
}

/// What loads but is probably not meant in `overlay`.
pub(super) fn doubts(
    files: &Files,
    overlay: &Overlay,
    detectors: &lint::Voters,
    limits: &Limits,
) -> Vec<Fault> {
    if shared(files).count() > LINTED_FILES_MAX {
        return Vec::new();
    }
    let sources: Vec<Source> = shared(files).cloned().chain(overlay.sources()).collect();
    let mut found = lint::lint(&sources, detectors, limits);
    found.retain(|fault| fault.file.starts_with(&overlay.folder()));
    found
}

/// What every overlay's unit may read.
fn shared(files: &Files) -> impl Iterator<Item = &Source> {
    let files = files.policies.iter();
    files.filter(|file| !file.path.starts_with("tenants/") && !file.path.ends_with("_test.rego"))
}

fn failed(test: &Test) -> Fault {
    let (code, what) = match test.status {
        Status::Error => ("test_error", "cannot be evaluated"),
        Status::Failed | Status::Passed | Status::Todo => ("test_failed", "does not hold"),
    };
    let first = test.why.first();
    let why = test.message.clone().or_else(|| first.map(shown));
    let message =
        [Some(format!("`{}` {what}", test.name)), why].into_iter().flatten().collect::<Vec<_>>();
    let at = first.map_or((test.line, test.column), |why| (why.line, why.column));
    let hint = "correct the rule that it tests, or the test".to_owned();
    fault(&test.file, at, code, message.join(": "), hint)
}

fn shown(why: &Why) -> String {
    let values = why.values.iter().map(|witness| {
        let value = witness.value.as_deref().unwrap_or("undefined");
        format!("{} is {value}", witness.expression)
    });
    std::iter::once(why.statement.clone()).chain(values).collect::<Vec<_>>().join("; ")
}

fn fault(file: &str, at: (u32, u32), code: &'static str, message: String, hint: String) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file: file.to_owned(),
        line: at.0,
        column: at.1,
        code,
        message,
        hint: Some(hint),
    }
}
