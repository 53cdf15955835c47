//! Trial evaluations of a unit before it may go live.

use std::collections::BTreeMap;
use std::time::Duration;

use regorus::{Engine, Value};

use super::background::{self, Thread};
use super::entry::Ask;
use super::unit::{Held, evaluate};
use super::{Failure, FailureKind, STACK_BYTES, fault};
use crate::domain::category::Category;
use crate::domain::digest::Digest;
use crate::domain::finding::Severity;
use crate::domain::judgement::JudgedFinding;
use crate::yaml::fault::Fault;

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

pub(super) type Probed = (Engine, Vec<(Trial, Result<Vec<Held>, Failure>)>);

/// Evaluates on a thread of its own, which is left behind if nothing can stop it.
pub(super) fn probe_apart(
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
