//! `bench-quality ordinary`: what the bundle `standard` does to ordinary texts, asked as `scan` asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use detector_orchestrator::api::wire::request::{Bounds, OrchestrateRequest};
use detector_orchestrator::auth::Caller;
use detector_orchestrator::cli::Session;
use detector_orchestrator::domain::action::Action;
use detector_orchestrator::domain::id::{RequestId, TenantId};
use detector_orchestrator::domain::outcome::Outcome;
use detector_orchestrator::orchestrator;
use serde_json::{Value, json};

use crate::page::{self, say, share, text};

/// Tweets are no ordinary prose.
const APART: &str = "tweets";
/// Tables: title, detectors that the caller adds.
const ASKED: [(&str, &[&str]); 2] = [
    ("As shipped", &[]),
    ("With every built-in voter added", &["prompt-injection", "toxicity", "urls"]),
];

#[derive(Default)]
struct Counts {
    block: usize,
    review: usize,
    redact: usize,
    unjudged: usize,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        self.unjudged += usize::from(!outcome.coverage.complete);
        match outcome.verdict.action {
            Action::Block => self.block += 1,
            Action::Review => self.review += 1,
            Action::Redact => self.redact += 1,
            Action::Flag | Action::Allow => {}
        }
    }
}

pub(crate) fn run() {
    let session = Session::open(None).ok().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = page::rows("ordinary");
    let mut out = String::new();
    for (title, added) in ASKED {
        let judge = |row: &Value| runtime.block_on(outcome(&session, text(row), added));
        table(&mut out, title, &rows, judge);
    }
    page::write_body("ordinary", &out);
}

async fn outcome(session: &Session, text: &str, added: &[&str]) -> Outcome {
    // As long as it takes: a slow machine must not pass for a careful policy.
    let asked = json!({"content": text, "timeout_ms": 60_000, "detectors": {"add": added}});
    let wire = OrchestrateRequest::parse(asked.to_string().as_bytes()).unwrap();
    let id = RequestId::parse("ordinary").unwrap();
    let tenant = TenantId::parse("default").unwrap();
    let bounds = Bounds { content_chars_max: session.content_max_chars() };
    let request = wire.into_domain(id, tenant, bounds).unwrap();
    let caller = Caller::development();
    orchestrator::run(&session.deps, &session.snapshot, &caller, &request).await.unwrap()
}

fn table(out: &mut String, title: &str, rows: &[Value], judge: impl Fn(&Value) -> Outcome) {
    let (mut head, mut why) = (String::new(), BTreeMap::<String, usize>::new());
    let (mut all, mut stopped_all) = (0, 0);
    for (set, rows) in page::sets(rows) {
        let mut counts = Counts::default();
        for row in &rows {
            let outcome = judge(row);
            if head.is_empty() {
                let names: Vec<&str> =
                    outcome.reports.iter().map(|report| report.detector.as_str()).collect();
                head = names.join(", ");
                say!(out, "### {title}: {head}\n");
                say!(
                    out,
                    "| texts | N | block | review | redact | not all judged | blocked or reviewed |"
                );
                say!(out, "|---|---|---|---|---|---|---|");
            }
            counts.add(&outcome);
            if set != APART && outcome.verdict.action >= Action::Review {
                for reason in &outcome.verdict.reasons {
                    *why.entry(reason.code.clone()).or_default() += 1;
                }
            }
        }
        let Counts { block, review, redact, unjudged } = counts;
        let (n, stopped) = (rows.len(), block + review);
        if set != APART {
            (all, stopped_all) = (all + n, stopped_all + stopped);
        }
        let share = share(stopped, n);
        say!(out, "| {set} | {n} | {block} | {review} | {redact} | {unjudged} | {share} |");
    }
    let share = share(stopped_all, all);
    say!(out, "| **all but tweets** | {all} | | | | | **{share}** ({stopped_all}) |\n");
    let mut reasons = String::new();
    for (code, count) in why {
        write!(reasons, "{code} {count}, ").unwrap();
    }
    say!(
        out,
        "Reasons of those that were blocked or reviewed: {}.\n",
        reasons.trim_end_matches(", ")
    );
}
