//! Which documents count as equal, and where they are evaluated.

use super::*;
use crate::domain::report::{ReportError, Status};

fn report(score: f64) -> Report {
    let name = DetectorName::parse("pii").unwrap();
    let unsent = Report::unsent(name, "1".into(), ReportError::Decided);
    Report { status: Status::Success, error: None, score: Some(score), ..unsent }
}

async fn decide(evaluator: &Evaluator, view: &Arc<View>, score: f64) -> Arc<VerdictAnswer> {
    let mut coverage = coverage(true);
    coverage.achieved = score;
    let judgement = Judgement::default();
    let (reports, key) = ([report(score)], [finding(0, "secrets.private_key")]);
    let facts =
        VerdictFacts { judgement: &judgement, raw: &key, reports: &reports, coverage: &coverage };
    evaluator.verdict(view, &head("default"), &facts).await.unwrap()
}

fn with_rules(rules: &str) -> Arc<View> {
    let mut sources = shipped();
    sources.push(source("demo/policy.rego", &format!("package demo\n{rules}\n")));
    let tenants = [scope("default", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None).unwrap();
    view(&loaded.policies, "default", "demo")
}

#[tokio::test]
async fn what_no_rule_reads_does_not_spoil_the_memo() {
    let evaluator = Evaluator::new(Limits::default());
    let view = view(&load(&shipped()), "default", "standard");
    let first = decide(&evaluator, &view, 0.1).await;
    assert!(Arc::ptr_eq(&first, &decide(&evaluator, &view, 0.2).await));
    assert_eq!(said(&first), ["redact secrets.private_key: private key redacted [floor]"]);
}

#[tokio::test]
async fn a_rule_sees_the_scores_however_it_reads_them() {
    for rules in [
        "flag contains \"x\" if input.results[0].score > 0.5",
        "flag contains \"x\" if input[\"results\"][_].score > 0.5",
        "import input.results as r\nflag contains \"x\" if r[0].score > 0.5",
        "flag contains \"x\" if {\n\td := input\n\td.results[0].score > 0.5\n}",
        "f(d) := d.results\nflag contains \"x\" if f(input)[0].score > 0.5",
        "flag contains \"x\" if object.get(input, \"results\", [])[0].score > 0.5",
        "flag contains \"x\" if {\n\tsome part in input\n\tis_number(part[0].score)\n\tpart[0].score > 0.5\n}",
        "flag contains \"x\" if {\n\twalk(input, [p, v])\n\tp[0] == \"results\"\n\tis_number(v)\n\tv > 0.5\n}",
        "low if input.results[0].score < 0.5\nflag contains \"x\" if not low",
        "flag contains \"x\" if every r in input.results { r.score > 0.5 }",
        "flag contains \"x\" if count([r | some r in input.results; r.score > 0.5]) > 0",
        "flag contains \"x\" if input.coverage.achieved > 0.5",
        "flag contains \"x\" if {\n\tc := input.coverage\n\tc.achieved > 0.5\n}",
    ] {
        let (evaluator, view) = (Evaluator::new(Limits::default()), with_rules(rules));
        for (score, flags) in [(0.1, 0), (0.9, 1), (0.1, 0)] {
            let answer = decide(&evaluator, &view, score).await;
            assert_eq!(answer.rules.entries.len(), flags, "{score}: {rules}");
            assert_eq!(answer.rules.floor.len(), 1, "the floor's answer stays: {rules}");
        }
        assert_eq!(evaluator.memo_counts(Point::Verdict).entries, 2, "{rules}");
    }
}

#[tokio::test]
async fn the_shipped_rules_answer_the_same_on_any_thread() {
    let own = load(&shipped());
    let mut sources = shipped();
    for source in sources.iter_mut().filter(|source| source.path.ends_with(".rego")) {
        source.bytes = [&source.bytes, &b"\n# changed\n"[..]].concat().into();
    }
    let changed = load(&sources);
    // Not even a loaded machine takes that long.
    let patient = Limits { eval_timeout: std::time::Duration::from_secs(20), ..Limits::default() };
    for bundle in ["standard", "strict"] {
        let (here, there) = (view(&own, "default", bundle), view(&changed, "default", bundle));
        assert!(here.unit.is_inline && !there.unit.is_inline);
        for count in [0, 1, 5, 40] {
            let names = ["pii.email", "toxicity", "secrets.private_key", "injection", "code"];
            let names: Vec<&str> = names.into_iter().cycle().take(count).collect();
            let evaluator = Evaluator::new(patient.clone());
            let answer = verdict(&evaluator, &here, "default", &names).await.unwrap();
            let other = verdict(&evaluator, &there, "default", &names).await.unwrap();
            assert_eq!(answer, other, "{bundle} {count}");
        }
    }
}

#[test]
fn an_overlay_or_a_large_table_is_not_evaluated_inline() {
    let policies = load(&shipped());
    assert!(!view(&policies, "acme", "standard").unit.is_inline, "acme has rules of its own");
    let asks = |view: &View| {
        let (judgement, coverage) = (Judgement::default(), coverage(true));
        let found = [finding(0, "pii")];
        let facts =
            VerdictFacts { judgement: &judgement, raw: &found, reports: &[], coverage: &coverage };
        [(entry::Ask::FloorVerdict, document::floor_verdict(view, &head("default"), &facts))]
    };
    let globex = view(&policies, "globex", "standard");
    assert!(globex.is_small_for(&asks(&globex)), "globex has a table only");
    let mut sources = shipped();
    let values = vec!["a"; 3_000].join(", ");
    let table = format!(
        "settings:\n  ignore: [{{category: pii, attribute: domain, values: [{values}]}}]\n"
    );
    sources.push(source("tenants/default/standard/data.yaml", &table));
    let large = view(&load(&sources), "default", "standard");
    assert!(large.unit.is_inline && !large.is_small_for(&asks(&large)));
}

#[tokio::test]
async fn an_overlay_that_is_no_longer_kept_ready_answers_the_same() {
    let (mut sources, mut tenants) = (shipped(), scopes());
    let names: Vec<String> = (0..6).map(|at| format!("t{at}")).collect();
    for name in &names {
        let rules = format!(
            "package tenants.{name}.standard\nblock contains \"{name}\" if input.env != \"\"\n"
        );
        sources.push(source(&format!("tenants/{name}/standard/v.rego"), &rules));
        tenants.push(scope(name, &["standard"]));
    }
    let eval_timeout = std::time::Duration::from_secs(20);
    let limits = Limits { prepared_max: 2, memo_entries: 0, eval_timeout, ..Limits::default() };
    let first = Policies::load(&sources, &tenants, &limits, None).unwrap().policies;
    let again = Policies::load(&sources, &tenants, &limits, Some(&first)).unwrap().policies;
    assert_eq!(first.units(), again.units());
    let evaluator = Evaluator::new(limits);
    for policies in [&first, &again, &first] {
        assert_eq!(policies.prepared(), 2);
        for name in &names {
            let view = view(policies, name, "standard");
            let said = said(&verdict(&evaluator, &view, name, &["pii"]).await.unwrap());
            let own = format!("block block: {name} [tenants.{name}.standard]");
            assert_eq!(said, ["redact pii: personal data redacted [standard]".to_owned(), own]);
        }
    }
}

#[test]
fn a_fault_of_the_floor_is_found_whatever_was_tried_before() {
    let mut sources = shipped();
    let before = load(&sources);
    let broken = "package floor\nblock contains {\"finding\": 99, \"reason\": \"x\"}\n";
    sources.push(source("floor/more.rego", broken));
    for previous in [None, Some(&before)] {
        let faults = Policies::load(&sources, &scopes(), &Limits::default(), previous);
        assert_eq!(faults.unwrap_err()[0].code, "probe_bad_value");
    }
}
