//! Facts that only those policies see that name them.

use super::*;
use crate::domain::head::{CallerFacts, Health};

fn demo(rules: &str, manifest: Option<&str>) -> Result<Arc<View>, Vec<Fault>> {
    let mut sources = shipped();
    sources.push(source("demo/policy.rego", &format!("package demo\n{rules}\n")));
    sources.extend(manifest.map(|text| source("demo/.manifest", text)));
    let tenants = [scope("default", &["demo"])];
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None)?;
    Ok(view(&loaded.policies, "default", "demo"))
}

const FACTS: [&str; 6] = ["metadata", "caller", "content", "content_length", "language", "health"];

fn reads(rules: &str) -> Vec<&'static str> {
    let view = demo(rules, None).unwrap();
    FACTS.into_iter().filter(|fact| view.reads(fact)).collect()
}

#[test]
fn what_a_policy_reads_is_found_in_however_it_is_written() {
    for (rules, expected) in [
        ("flag contains \"x\" if input.env == \"x\"", &[][..]),
        ("flag contains \"x\" if input.metadata.team.name == \"x\"", &["metadata"]),
        ("flag contains \"x\" if input[\"language\"] == \"x\"", &["language"]),
        ("flag contains \"x\" if {\n\td := input\n\td.content_length > 1\n}", &["content_length"]),
        ("import input.content as c\nflag contains \"x\" if contains(c, \"x\")", &["content"]),
        ("f(d) := d.caller\nflag contains \"x\" if \"a\" in f(input).roles", &["caller"]),
        ("flag contains \"x\" if object.get(input, \"content\", \"\") == \"x\"", &["content"]),
        ("skip contains d.name if {\n\tsome d in input.detectors\n\tnot d.healthy\n}", &["health"]),
        (
            "skip contains d.name if {\n\tsome d in input.detectors\n\td.p95_ms > 500\n}",
            &["health"],
        ),
    ] {
        assert_eq!(reads(rules), expected, "{rules}");
    }
}

#[test]
fn a_computed_key_of_the_document_needs_the_manifest_and_then_reads_all() {
    let rules =
        "flag contains \"x\" if {\n\tsome k in [\"env\", \"content\"]\n\tinput[k] == \"x\"\n}";
    assert_eq!(demo(rules, None).unwrap_err()[0].code, "dynamic_input");
    assert_eq!(demo(rules, Some("{\"roots\": []}")).unwrap_err()[0].code, "dynamic_input");
    let wrong = demo(rules, Some("{\"metadata\": {\"orchestrator\": {\"reads\": \"some\"}}}"));
    assert_eq!(wrong.unwrap_err()[0].code, "manifest");
    let all = "{\"metadata\": {\"orchestrator\": {\"reads\": \"all\"}}}";
    let view = demo(rules, Some(all)).unwrap();
    assert!(FACTS.into_iter().all(|fact| view.reads(fact)));
}

#[tokio::test]
async fn facts_reach_the_rules_and_content_stays_out_of_the_memo() {
    let rules = "
flag contains \"caller\" if \"auditor\" in input.caller.roles
flag contains \"team\" if input.metadata.team == \"red\"
flag contains \"content\" if contains(input.content, \"needle\")
flag contains \"length\" if input.content_length > 5
flag contains \"language\" if input.language == \"de\"
skip contains d.name if {
	some d in input.detectors
	d.breaker == \"open\"
	not d.healthy
	d.p95_ms == 200
}";
    let view = demo(rules, None).unwrap();
    let evaluator = Evaluator::new(Limits::default());
    let mut head = head("default");
    let sick = Health { healthy: false, breaker: "open", p95_ms: Some(200) };
    head.opt_in = OptIn {
        metadata: serde_json::json!({"team": "red"}).as_object().cloned(),
        caller: Some(CallerFacts { roles: vec!["auditor".into()], scopes: vec![] }),
        content: Some("a needle".into()),
        content_length: Some(8),
        language: Some("de".into()),
        health: BTreeMap::from([(DetectorName::parse("tox").unwrap(), sick)]),
    };
    assert!(!format!("{head:?}").contains("needle"), "content must not reach a log");
    let (judgement, coverage) = (Judgement::default(), coverage(true));
    let seen = VerdictFacts { judgement: &judgement, raw: &[], reports: &[], coverage: &coverage };
    for _ in 0..2 {
        let answer = evaluator.verdict(&view, &head, &seen).await.unwrap();
        assert_eq!(answer.rules.entries.len(), 5);
        let plan = evaluator.plan(&view, &head, &facts(), None).await.unwrap();
        assert_eq!(plan.skip.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["tox"]);
    }
    for point in [Point::Plan, Point::Verdict] {
        let counts = evaluator.memo_counts(point);
        assert_eq!((counts.hits, counts.entries), (0, 0), "{point:?}");
    }
    head.opt_in.content = None;
    for _ in 0..2 {
        let answer = evaluator.verdict(&view, &head, &seen).await.unwrap();
        assert_eq!(answer.rules.entries.len(), 4);
    }
    head.opt_in.language = Some("fr".into());
    let answer = evaluator.verdict(&view, &head, &seen).await.unwrap();
    assert_eq!(answer.rules.entries.len(), 3, "another fact is another document");
    assert_eq!(evaluator.memo_counts(Point::Verdict).hits, 1);
}

#[tokio::test]
async fn an_explanation_names_layer_rule_and_place_but_never_content() {
    let evaluator = Evaluator::new(Limits::default());
    let (judgement, coverage) = (Judgement::default(), coverage(true));
    let seen = VerdictFacts { judgement: &judgement, raw: &[], reports: &[], coverage: &coverage };
    let mut head = head("default");
    let plain = demo("flag contains concat(\" \", [\"on\", input.env])", None).unwrap();
    let said = evaluator.explain_verdict(&plain, &head, &seen).await.unwrap();
    let flag = Explained {
        layer: "demo".into(),
        rule: "flag".into(),
        value: serde_json::json!(["on development"]),
        positions: vec!["demo/policy.rego:2:1".into()],
    };
    assert_eq!(said, [flag]);
    head.opt_in.content = Some("a needle".into());
    let rules = "flag contains input.content\nobligations := {input.content: input.content}";
    let nosy = demo(rules, None).unwrap();
    let said = evaluator.explain_verdict(&nosy, &head, &seen).await.unwrap();
    assert_eq!(said.len(), 2);
    assert!(!format!("{said:?}").contains("needle"), "{said:?}");
    let plan = evaluator.explain_plan(&nosy, &head, &facts(), None).await.unwrap();
    assert!(plan.iter().any(|held| held.layer == "floor" && held.rule == "min_coverage"));
}
