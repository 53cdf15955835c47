//! From entries to the action.

use super::*;
use crate::domain::category::Category;
use crate::domain::conflict::Resolved;
use crate::domain::coverage;
use crate::domain::finding::{Place, Severity};
use crate::domain::judgement::{QUORUM, ScopeState};
use crate::domain::plan::Plan;
use crate::domain::span::Span;

fn entry(action: Action, code: &str, finding: Option<u32>) -> Entry {
    let layer = "standard".to_owned();
    Entry { action, code: code.to_owned(), reason: format!("about {code}"), finding, layer }
}

fn finding(id: u32, standing: bool, span: Option<Span>) -> JudgedFinding {
    JudgedFinding {
        id,
        category: Category::parse("pii.email").unwrap(),
        label: "EMAIL".into(),
        score: 0.9,
        severity: Severity::Medium,
        detectors: vec![],
        place: Some(Place { piece: 0, span }),
        pointer: None,
        view: None,
        attributes: BTreeMap::new(),
        standing,
    }
}

const SPAN: Option<Span> = Some(Span { start: 0, end: 1 });

/// Finding 0 stands, 1 does not, 2 has no span.
fn judgement() -> Judgement {
    let findings = vec![finding(0, true, SPAN), finding(1, false, SPAN), finding(2, true, None)];
    Judgement { findings, ..Judgement::default() }
}

fn rules(entries: &[Entry]) -> VerdictRules {
    VerdictRules { entries: entries.iter().cloned().collect(), ..VerdictRules::default() }
}

const PLAIN: Joined = Joined {
    on_incomplete: Action::Review,
    floor_on_incomplete: None,
    plan_failure: None,
    mode: Mode::Enforce,
};

fn run(rules: &VerdictRules, joined: Joined) -> Verdict {
    let judgement = judgement();
    join(rules, &judgement, &judgement.findings, &coverage_that_is(true), joined)
}

fn coverage_that_is(complete: bool) -> Coverage {
    let measured = coverage::measure(&Plan::default(), &[], &[], &BTreeMap::new());
    Coverage { complete, ..measured }
}

fn codes(verdict: &Verdict) -> Vec<&str> {
    verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn the_highest_action_wins_and_reasons_come_strictest_first() {
    let said = [
        entry(Action::Flag, "a", Some(0)),
        entry(Action::Redact, "b", Some(0)),
        entry(Action::Block, "c", None),
        entry(Action::Flag, "c", None),
    ];
    let verdict = run(&rules(&said), PLAIN);
    assert_eq!(verdict.action, Action::Block);
    assert_eq!(codes(&verdict), ["c", "b", "a"]);
    assert_eq!(verdict.redact, [0].into());
    assert_eq!(run(&rules(&[]), PLAIN).action, Action::Allow);
}

#[test]
fn a_finding_that_does_not_stand_is_redacted_but_never_blocks() {
    for action in [Action::Block, Action::Review, Action::Flag] {
        assert_eq!(run(&rules(&[entry(action, "x", Some(1))]), PLAIN).action, Action::Allow);
    }
    let redacting = run(&rules(&[entry(Action::Redact, "x", Some(1))]), PLAIN);
    assert_eq!((redacting.action, redacting.redact), (Action::Redact, [1].into()));
}

#[test]
fn nobody_is_told_to_redact_what_has_no_span() {
    for finding in [Some(2), None] {
        let verdict = run(&rules(&[entry(Action::Redact, "x", finding)]), PLAIN);
        assert_eq!((verdict.action, verdict.redact), (Action::Review, BTreeSet::new()));
    }
}

#[test]
fn ignore_silences_every_layer_but_the_floor() {
    let mut given = rules(&[entry(Action::Block, "x", Some(0)), entry(Action::Flag, "y", None)]);
    given.ignore = [0].into();
    assert_eq!(run(&given, PLAIN).action, Action::Flag);
    given.floor = [entry(Action::Block, "floor", Some(0))].into();
    assert_eq!(run(&given, PLAIN).action, Action::Block);
    given.floor = [entry(Action::Block, "floor", Some(1))].into();
    assert_eq!(run(&given, PLAIN).action, Action::Block, "the floor heeds no standing");
}

#[test]
fn incomplete_coverage_and_a_failed_plan_raise_the_action() {
    let judgement = judgement();
    let incomplete = coverage_that_is(false);
    let verdict = join(&rules(&[]), &judgement, &[], &incomplete, PLAIN);
    assert_eq!((verdict.action, codes(&verdict)), (Action::Review, vec!["coverage.incomplete"]));
    let lax = Joined { on_incomplete: Action::Allow, ..PLAIN };
    assert_eq!(join(&rules(&[]), &judgement, &[], &incomplete, lax).action, Action::Allow);
    let failed = run(&rules(&[]), Joined { plan_failure: Some(Action::Review), ..PLAIN });
    assert_eq!((failed.action, codes(&failed)), (Action::Review, vec!["policy.plan_failed"]));
}

#[test]
fn an_unresolved_category_asks_for_review_unless_nobody_voted() {
    let state = |strategy: &str| ScopeState {
        score: 0.0,
        severity: None,
        voters: vec![],
        flagged_by: vec![],
        cleared_by: vec![],
        unjudged_by: vec![],
        candidates: vec![],
        resolved: Resolved::Unresolved,
        settled: None,
        strategy: strategy.to_owned(),
    };
    let run = |strategy| {
        let scopes = [(Category::parse("toxicity").unwrap(), state(strategy))].into();
        let judgement = Judgement { scopes, ..judgement() };
        join(&rules(&[]), &judgement, &[], &coverage_that_is(true), PLAIN)
    };
    let verdict = run(QUORUM);
    assert_eq!((verdict.action, codes(&verdict)), (Action::Review, vec!["unresolved.toxicity"]));
    assert_eq!(run("weighted_average").action, Action::Allow);
}

#[test]
fn monitor_mode_enforces_the_floor_alone_and_says_what_would_be() {
    let monitor = Joined { mode: Mode::Monitor, ..PLAIN };
    let mut given = rules(&[entry(Action::Block, "x", None), entry(Action::Redact, "y", Some(0))]);
    let silent = run(&given, monitor);
    assert_eq!((silent.action, silent.would), (Action::Allow, Some(Action::Block)));
    assert_eq!(codes(&silent), ["x", "y"]);
    given.floor = [entry(Action::Redact, "floor", Some(1))].into();
    let floored = run(&given, monitor);
    assert_eq!((floored.action, floored.would), (Action::Redact, Some(Action::Block)));
    assert_eq!((floored.redact, floored.floor_redact), (BTreeSet::new(), [1].into()));
}

#[test]
fn monitor_mode_never_allows_what_the_floor_wanted_judged() {
    let judgement = judgement();
    let unmet = Coverage { floor_complete: false, ..coverage_that_is(false) };
    for (floor, tenant, expected) in [
        (Some(Action::Block), Action::Block, Action::Block),
        (Some(Action::Flag), Action::Block, Action::Flag),
        (None, Action::Block, Action::Review),
        (None, Action::Allow, Action::Allow),
    ] {
        let joined = Joined {
            on_incomplete: tenant,
            floor_on_incomplete: floor,
            mode: Mode::Monitor,
            ..PLAIN
        };
        let verdict = join(&rules(&[]), &judgement, &[], &unmet, joined);
        assert_eq!(verdict.action, expected, "{floor:?} {tenant:?}");
        let met = join(&rules(&[]), &judgement, &[], &coverage_that_is(false), joined);
        assert_eq!((met.action, met.would), (Action::Allow, Some(tenant)));
    }
}
